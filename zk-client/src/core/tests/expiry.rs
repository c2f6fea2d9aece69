//! The end of a session that nobody closed: told by a server, or by the clock.

use super::*;

#[test]
fn fs_c6_expiry_learnt_from_the_handshake() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    script.watch(
        OpCode::ADD_WATCH,
        "/b",
        WatchKind::Persistent,
        ErrorCode::OK,
    );
    script.lose();
    let unsent = script.submit(OpCode::EXISTS, "/a", None);
    script.greet();
    script.receive(&welcome(SessionId(0), 0, false));
    assert!(matches!(
        script.failure(unsent),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
    let ended = |path: &str| (EventType::NONE, KeeperState::EXPIRED, path.to_owned(), true);
    assert_eq!(script.events(), [ended("/a"), ended("/b")]);
    script.log.clear();
    // The next session starts from nothing, by itself.
    let request = script.attach(SessionId(8));
    assert_eq!(
        (request.session_id, request.last_zxid_seen),
        (SessionId(0), Zxid(0))
    );
    assert_eq!(script.ops(), []);
    assert_eq!(script.states(), [connected(SessionId(8))]);
    assert_eq!(script.events(), []);
}

#[test]
fn fs_c6_without_renewal_the_client_is_over() {
    let mut script = Script::live(Config {
        renew: false,
        ..config(1)
    });
    script.lose();
    script.greet();
    script.receive(&welcome(SessionId(0), 0, false));
    assert!(script.core.is_over());
    assert_eq!(
        script.states().last(),
        Some(&SessionState::Lost { session: SESSION })
    );
    let late = script.submit(OpCode::EXISTS, "/a", None);
    assert!(matches!(
        script.failure(late),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
    assert_eq!(script.core.next_deadline(), None);
}

#[test]
fn the_clock_alone_ends_a_session() {
    let mut script = Script::live(config(2));
    script.lose();
    script.log.clear();
    let unsent = script.submit(OpCode::EXISTS, "/a", None);
    // No server is there; each attempt fails at once.
    while script.now < T * 4 / 3 - 1 {
        script.pass(1);
        script.lose();
        assert!(script.answer(unsent).is_none());
    }
    assert_eq!(script.states(), []);
    script.pass(1);
    assert_eq!(script.states(), [SessionState::Lost { session: SESSION }]);
    assert!(matches!(
        script.failure(unsent),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
}

#[test]
fn fs_k3_after_a_long_pause_the_loss_comes_before_anything_else() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.sent();
    // The process was stopped; its answer has been waiting in the socket.
    script.now += T * 4 / 3;
    let mut bytes = event(EventType::NODE_DATA_CHANGED, "/a");
    bytes.extend_from_slice(&reply(2, 9, ErrorCode::OK));
    script.receive(&bytes);
    assert!(
        matches!(
            script.log[0],
            Output::State(SessionState::Lost { session: SESSION })
        ),
        "{:?}",
        script.log
    );
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::SessionExpired, Outcome::Unknown)
    ));
    let end = (EventType::NONE, KeeperState::EXPIRED, "/a".to_owned(), true);
    assert_eq!(script.events(), [end]);
}

/// When the session is in doubt, and when it is given up.
fn moments(script: &Script) -> (u64, u64) {
    let moments = (script.core.session_doubt(), script.core.session_expiry());
    (moments.0.unwrap().0, moments.1.unwrap().0)
}

#[test]
fn fs_k3_an_answer_that_was_long_on_its_way_is_trusted_from_its_request_on() {
    let mut script = Script::live(config(1));
    let sent_at = script.now + 100;
    script.now = sent_at;
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    // Something is heard meanwhile, or the connection would be given up: it shows nothing of the session's clock.
    script.now = sent_at + T / 2;
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/a"));
    assert_eq!(moments(&script).0, T, "the session's start");
    script.now = sent_at + T * 9 / 10;
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert!(script.answer(caller).unwrap().is_ok());
    // A server may end the session then, and it is not given up by the client's own clock: it may live on.
    assert_eq!(
        moments(&script),
        (sent_at + T, script.now + T * 4 / 3),
        "{:?}",
        script.log
    );
    assert_eq!(script.states(), []);
}

#[test]
fn fs_k3_each_answer_counts_from_its_own_request() {
    let mut script = Script::live(config(1));
    script.now = 1_000;
    script.submit(OpCode::EXISTS, "/a", None);
    script.now = 2_000;
    script.submit(OpCode::EXISTS, "/b", None);
    // The ping was sent at its own time, too.
    script.pass(3_000);
    assert_eq!(script.ops().last(), Some(&OpCode::PING));
    script.now = 5_500;
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert_eq!(moments(&script).0, 1_000 + T);
    script.receive(&reply(2, 9, ErrorCode::NO_NODE));
    assert_eq!(moments(&script).0, 2_000 + T);
    script.now = 8_000;
    script.receive(&reply(-2, 9, ErrorCode::OK));
    assert_eq!(
        moments(&script).0,
        4_000 + T,
        "two seconds after the last request"
    );
    // At the latest when the connection counts as dead.
    script.now = 8_500;
    script.submit(OpCode::EXISTS, "/c", None);
    script.receive(&reply(3, 9, ErrorCode::OK));
    assert_eq!(moments(&script).0, 8_500 + T * 2 / 3);
}

#[test]
fn fs_k3_a_handshake_counts_from_its_request() {
    let mut script = Script::new(config(1));
    script.until_connect();
    script.now = 500;
    script.input(Input::Opened);
    script.core.outgoing().clear();
    script.now = 500 + T * 9 / 10;
    script.receive(&welcome(SESSION, T, false));
    assert_eq!(moments(&script).0, 500 + T);
    // An attempt that came to nothing proves nothing.
    script.lose();
    script.greet();
    let asked_at = script.now;
    script.lose();
    assert_eq!(moments(&script).0, 500 + T);
    script.until_connect();
    script.now += 10;
    script.greet();
    script.now += 700;
    script.receive(&welcome(SESSION, T, false));
    assert!(script.now > asked_at + 700);
    assert_eq!(
        moments(&script).0,
        (script.now - 700 + T).min(script.now + T * 2 / 3)
    );
}

#[test]
fn fs_k3_a_refusal_for_the_sessions_sake_and_credentials_prove_nothing() {
    for code in [ErrorCode::SESSION_EXPIRED, ErrorCode::SESSION_MOVED] {
        let mut script = Script::live(config(1));
        // No ping is due yet.
        script.now = 1_500;
        script.submit(OpCode::EXISTS, "/a", None);
        script.now = 3_100;
        script.receive(&reply(1, 9, code));
        assert_eq!(script.ops(), [OpCode::EXISTS]);
        assert_eq!(moments(&script).0, T, "{code:?}");
        script.input(Input::AddAuth {
            scheme: "digest".to_owned(),
            auth: Bytes::from_static(b"a:b").into(),
            slot: Caller(50, false),
        });
        script.receive(&reply(-4, 0, ErrorCode::OK));
        // A ping that was not sent is not answered either.
        script.receive(&reply(-2, 0, ErrorCode::OK));
        assert_eq!(moments(&script).0, T);
        assert_eq!(script.states(), []);
    }
}

#[test]
fn fs_k3_a_server_that_speaks_and_answers_no_ping_is_left() {
    let mut script = Script::live(config(1));
    let mut pings = 0;
    while script.states().is_empty() {
        assert!(pings <= 16, "pings that nobody answers pile up");
        script.pass(T / 4);
        pings += script.ops().len();
        script.receive(&event(EventType::NODE_DATA_CHANGED, "/a"));
    }
    assert_eq!(pings, 16);
    assert_eq!(
        script.states(),
        [SessionState::Suspended { session: SESSION }]
    );
}

#[test]
fn fs_k3_a_shorter_pause_lets_a_server_decide_before_any_success() {
    let mut script = Script::live(config(1));
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.sent();
    script.now += T;
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert!(matches!(script.log[0], Output::Disconnect { .. }));
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::ConnectionLost, Outcome::Unknown)
    ));
    assert_eq!(script.attach(SESSION).session_id, SESSION);
}
