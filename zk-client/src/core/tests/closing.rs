//! A client that is closed or let go.

use super::*;
use crate::core::end::LET_GO_MS;

#[test]
fn fs_c16_close_goes_behind_what_was_submitted() {
    let mut script = Script::live(config(1));
    let before = script.submit(OpCode::EXISTS, "/a", None);
    script.input(Input::Close);
    let after = script.submit(OpCode::EXISTS, "/b", None);
    assert_eq!(script.ops(), [OpCode::EXISTS, OpCode::CLOSE_SESSION]);
    assert!(matches!(
        script.failure(after),
        (ErrorKind::Closed, Outcome::NotDone)
    ));
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert!(script.answer(before).unwrap().is_ok());
    script.receive(&reply(2, 10, ErrorCode::OK));
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: true })
    ));
    assert_eq!(script.states(), [SessionState::Closed]);
}

#[test]
fn fs_c16_close_does_not_sit_out_the_wait_between_attempts() {
    for input in [Input::Close, Input::LetGo] {
        let mut script = Script::live(Config {
            jitter_ms: 0,
            ..config(1)
        });
        script.lose();
        for _ in 0..3 {
            script.until_connect();
            script.lose();
        }
        let left = script.core.next_deadline().unwrap().0 - script.now;
        assert!(left >= 400, "{left}");
        script.input(input);
        let closed_at = script.now;
        script.attach(SESSION);
        assert_eq!(script.now, closed_at);
        assert_eq!(script.ops(), [OpCode::CLOSE_SESSION]);
    }
}

#[test]
fn fs_c16_close_does_not_wait_for_ever() {
    // Nobody answers.
    let mut script = Script::live(config(1));
    script.input(Input::Close);
    script.pass(T / 3);
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: false })
    ));
    // The connection ends without an answer: the next handshake tells whether the close arrived.
    let mut script = Script::live(config(1));
    script.input(Input::Close);
    script.lose();
    script.greet();
    script.receive(&welcome(SessionId(0), 0, false));
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: true })
    ));
    let mut script = Script::live(config(1));
    script.input(Input::Close);
    script.lose();
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::CLOSE_SESSION]);
    // In the middle of a reconnect: on the next connection.
    let mut script = Script::live(config(1));
    script.lose();
    script.input(Input::Close);
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::CLOSE_SESSION]);
    // Before there was any session: at once.
    let mut script = Script::new(config(1));
    script.input(Input::Close);
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: true })
    ));
}

#[test]
fn fs_c16_a_client_let_go_without_a_connection_tries_to_close_for_a_moment() {
    let mut script = Script::live(config(1));
    script.lose();
    script.input(Input::LetGo);
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::CLOSE_SESSION]);
    let mut script = Script::live(config(1));
    script.lose();
    script.input(Input::LetGo);
    script.pass(LET_GO_MS);
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: false })
    ));
    // Before there was any session: at once.
    let mut script = Script::new(config(1));
    script.input(Input::LetGo);
    assert!(matches!(script.log.last(), Some(Output::Over { .. })));
}
