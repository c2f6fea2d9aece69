//! Waiting for a connection that does not come: bounded, told with what was tried, and no later write without an earlier.

use super::*;

fn unreachable(script: &Script, caller: u32) -> String {
    match script.failure(caller) {
        (ErrorKind::Unreachable(tried), Outcome::NotDone) => tried.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Nobody is there: every attempt fails at once, until then.
fn fail_attempts(script: &mut Script, until: u64) {
    while script.now < until {
        if matches!(
            script.core.phase,
            crate::core::Phase::Opening { .. } | crate::core::Phase::Greeting { .. }
        ) {
            script.lose();
        }
        let next = script.core.next_deadline().map_or(until, |at| at.0);
        script.now = next.clamp(script.now, until);
        script.tick();
    }
}

#[test]
fn fs_c13_requests_before_the_first_connection_do_not_wait_for_ever() {
    let mut script = Script::new(config(2));
    script.now = 1_000;
    let first = script.submit(OpCode::CREATE2, "/a", None);
    fail_attempts(&mut script, 1_000 + PATIENCE - 1);
    let behind = script.submit(OpCode::CREATE2, "/b", None);
    assert!(script.answer(first).is_none());
    script.now += 1;
    script.tick();
    let tried = unreachable(&script, first);
    assert_eq!(
        tried.replace("no answer yet", "unplugged"),
        "no server within 20s: host-1: unplugged; host-2: unplugged"
    );
    // What was asked for later does not happen either, nor what is on its way to the core.
    unreachable(&script, behind);
    let marks = script.log.iter();
    assert_eq!(
        marks
            .filter(|output| matches!(output, Output::Overdue))
            .count(),
        1
    );
    assert!(matches!(script.core.loss(), ErrorKind::Unreachable(_)));
    script.log.clear();
    // The next one waits anew, as long.
    script.now += 5_000;
    let later = script.submit(OpCode::EXISTS, "/a", None);
    let end = script.now + PATIENCE;
    // The longest wait between two rounds is shorter than what is left.
    fail_attempts(&mut script, end - 6_000);
    assert!(script.answer(later).is_none());
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::EXISTS]);
    assert!(matches!(script.core.loss(), ErrorKind::ConnectionLost));
    // On a connection it is the server's turn.
    for _ in 0..20 {
        script.pass(T / 3);
        script.receive(&event(EventType::NODE_CREATED, "/x"));
        for _ in script.sent() {
            script.receive(&reply(-2, 0, ErrorCode::OK));
        }
    }
    assert!(script.answer(later).is_none() && script.states() == [connected(SESSION)]);
}

#[test]
fn fs_c6_requests_after_a_lost_session_do_not_wait_for_ever() {
    let mut script = Script::live(config(1));
    script.lose();
    let of_the_old = script.submit(OpCode::EXISTS, "/a", None);
    fail_attempts(&mut script, T * 4 / 3);
    assert!(matches!(
        script.failure(of_the_old),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
    let of_the_new = script.submit(OpCode::EXISTS, "/a", None);
    let end = script.now + PATIENCE;
    fail_attempts(&mut script, end);
    unreachable(&script, of_the_new);
    assert_eq!(
        script.states(),
        [
            SessionState::Suspended { session: SESSION },
            SessionState::Lost { session: SESSION }
        ],
        "giving up a request changes nothing of the session"
    );
    script.attach(SessionId(8));
}

#[test]
fn fs_c5_what_a_silent_host_did_is_told() {
    let mut script = Script::new(Config {
        patience_ms: T + 50,
        ..config(2)
    });
    // The first is never there, the second takes the connection and says nothing.
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.pass(T / 2);
    script.greet();
    script.pass(T / 2 + 50);
    let tried = unreachable(&script, caller);
    assert!(
        tried.contains(": no connection in time")
            && tried.contains("connected, but no handshake in time"),
        "{tried}"
    );
}

#[test]
fn credentials_that_wait_for_a_connection_are_told_and_stay() {
    let mut script = Script::live(config(1));
    let auth = || Bytes::from_static(b"a:b").into();
    // On the wire when the connection is lost: from then on it waits.
    script.input(Input::AddAuth {
        scheme: "digest".to_owned(),
        auth: auth(),
        slot: Caller(50, false),
    });
    script.now += 1_000;
    script.lose();
    let end = script.now + PATIENCE;
    fail_attempts(&mut script, end - 1);
    assert!(script.answer(50).is_none());
    fail_attempts(&mut script, end);
    // Though the session was lost meanwhile.
    unreachable(&script, 50);
    script.attach(SessionId(8));
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
}

#[test]
fn patience_without_end() {
    let mut script = Script::new(Config {
        patience_ms: u64::MAX,
        ..config(1)
    });
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    fail_attempts(&mut script, 10 * PATIENCE);
    assert!(script.answer(caller).is_none());
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::EXISTS]);
}
