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
