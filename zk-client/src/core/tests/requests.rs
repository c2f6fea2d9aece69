//! Requests: sent once, answered once, in order, and bounded.

use super::*;

#[test]
fn replies_are_matched_in_order() {
    let mut script = Script::live(config(1));
    let first = script.submit(OpCode::EXISTS, "/a", None);
    let second = script.submit(OpCode::EXISTS, "/b", None);
    let xids: Vec<_> = script.sent().iter().map(|request| request.xid).collect();
    assert_eq!(xids, [1, 2]);
    let mut both = reply(1, 9, ErrorCode::OK);
    both.extend_from_slice(&reply(2, 10, ErrorCode::NO_NODE));
    // Byte by byte, as a slow network brings them; the driver keeps what is not a whole frame.
    let mut pending = BytesMut::new();
    for byte in &both {
        pending.extend_from_slice(&[*byte]);
        script.input(Input::Received(&mut pending));
    }
    assert!(pending.is_empty());
    assert_eq!(
        script.answer(first).unwrap().as_ref().unwrap().zxid,
        Zxid(9)
    );
    assert!(matches!(
        script.failure(second),
        (ErrorKind::Server(ErrorCode::NO_NODE), Outcome::NotDone)
    ));
}

#[test]
fn fs_c1_what_was_sent_is_lost_once_and_never_sent_again() {
    let mut script = Script::live(config(1));
    let caller = script.submit(OpCode::CREATE2, "/a", None);
    assert_eq!(script.ops(), [OpCode::CREATE2]);
    script.lose();
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::ConnectionLost, Outcome::Unknown)
    ));
    let again = script.attach(SESSION);
    assert_eq!(again.session_id, SESSION);
    assert_eq!(script.ops(), []);
    assert_eq!(
        script.states(),
        [
            SessionState::Suspended { session: SESSION },
            connected(SESSION)
        ]
    );
}

/// A request whose future was dropped.
fn abandoned() -> Input<'static, Caller> {
    let submission = Submission {
        op: OpCode::CREATE2,
        path: None,
        body: [][..].into(),
        watch: None,
    };
    Input::Submit(submission, Caller(99, true))
}

#[test]
fn what_was_not_sent_waits_for_the_next_connection() {
    let mut script = Script::live(config(1));
    script.lose();
    script.submit(OpCode::EXISTS, "/a", None);
    script.input(abandoned());
    script.attach(SESSION);
    // The one that nobody waits for is not sent (fs C11).
    assert_eq!(script.ops(), [OpCode::EXISTS]);
}

#[test]
fn fs_c11_a_request_that_nobody_waits_for_is_not_sent() {
    let mut script = Script::live(config(1));
    script.input(abandoned());
    script.submit(OpCode::EXISTS, "/a", None);
    assert_eq!(script.ops(), [OpCode::EXISTS]);
}

#[test]
fn fs_c18_nothing_overtakes_a_lost_request() {
    let mut script = Script::live(Config {
        max_in_flight: 1,
        ..config(1)
    });
    script.submit(OpCode::CREATE2, "/first", None);
    let second = script.submit(OpCode::CREATE2, "/second", None);
    script.lose();
    assert!(matches!(
        script.failure(second),
        (ErrorKind::ConnectionLost, Outcome::NotDone)
    ));
    // Whatever is still on its way to the core came before the loss as well.
    let marks = script.log.iter();
    let lost = |output: &&Output<Caller>| matches!(output, Output::Disconnect { lost: true });
    assert_eq!(marks.filter(lost).count(), 1);
    script.attach(SESSION);
    assert_eq!(script.ops(), []);
}

#[test]
fn there_is_a_bound_to_credentials_that_nobody_answers() {
    let mut script = Script::live(Config {
        max_in_flight: 2,
        ..config(1)
    });
    let add = |script: &mut Script, number: u32| {
        script.input(Input::AddAuth {
            scheme: "digest".to_owned(),
            auth: Bytes::from(number.to_string()).into(),
            slot: Caller(number, false),
        });
    };
    add(&mut script, 51);
    assert!(script.core.has_room());
    add(&mut script, 52);
    assert!(!script.core.has_room());
    script.receive(&reply(-4, 0, ErrorCode::OK));
    assert!(script.core.has_room());
    add(&mut script, 53);
    script.lose();
    assert!(
        script.core.has_room(),
        "they wait for nothing on the wire now"
    );
}

#[test]
fn there_is_a_bound_to_what_is_on_the_wire() {
    let mut script = Script::live(Config {
        max_in_flight: 2,
        ..config(1)
    });
    script.submit(OpCode::EXISTS, "/a", None);
    assert!(script.core.has_room());
    script.submit(OpCode::EXISTS, "/b", None);
    assert!(!script.core.has_room());
    script.submit(OpCode::EXISTS, "/c", None);
    assert_eq!(script.sent().len(), 2);
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert_eq!(script.sent().len(), 1);
}
