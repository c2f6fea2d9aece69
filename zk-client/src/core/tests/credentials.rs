//! Credentials: on every connection, refused once and for all.

use super::*;

#[test]
fn fs_c15_refused_credentials_end_everything() {
    let secret = || Secret::from(Bytes::from_static(b"bob:hunter2"));
    let mut script = Script::new(Config {
        credentials: vec![("digest".to_owned(), secret())],
        ..config(1)
    });
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
    script.lose();
    script.log.clear();
    let auth = secret();
    script.input(Input::AddAuth {
        scheme: "sasl".to_owned(),
        auth,
        slot: Caller(50, false),
    });
    script.attach(SESSION);
    // Both, in order, before anything else.
    assert_eq!(script.ops(), [OpCode::AUTH, OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
    let waiting = script.submit(OpCode::EXISTS, "/a", None);
    script.receive(&reply(-4, 0, ErrorCode::AUTH_FAILED));
    assert!(matches!(
        script.failure(50),
        (ErrorKind::AuthFailed, Outcome::NotDone)
    ));
    assert!(matches!(
        script.failure(waiting),
        (ErrorKind::AuthFailed, Outcome::Unknown)
    ));
    assert_eq!(script.states().last(), Some(&SessionState::AuthFailed));
    assert!(script.core.is_over() && script.core.next_deadline().is_none());
    let shown = format!("{:?}", script.core);
    assert!(!shown.contains("hunter2") && !shown.contains("0123456789abcdef"));
}

#[test]
fn credentials_survive_a_lost_connection() {
    let mut script = Script::live(config(1));
    script.input(Input::AddAuth {
        scheme: "digest".to_owned(),
        auth: Bytes::from_static(b"a:b").into(),
        slot: Caller(50, false),
    });
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.lose();
    assert!(script.answer(50).is_none());
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
    assert!(script.answer(50).unwrap().is_ok());
}
