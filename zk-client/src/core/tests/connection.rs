//! Connections: the handshake, silence, hosts that are passed over, read-only servers.

use super::*;

#[test]
fn a_new_session_says_nothing_of_an_old_one() {
    let mut script = Script::new(config(1));
    let request = script.attach(SESSION);
    assert_eq!(
        (request.session_id, request.last_zxid_seen, request.timeout),
        (SessionId(0), Zxid(0), 9_000)
    );
    assert_eq!(
        (request.read_only, request.passwd),
        (Some(false), Password::zero())
    );
    assert_eq!(script.states(), [connected(SESSION)]);
}

#[test]
fn fs_c4_a_server_that_lags_costs_the_session_nothing() {
    let mut script = Script::live(config(3));
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.sent();
    script.receive(&reply(1, 77, ErrorCode::OK));
    assert!(script.answer(caller).is_some());
    script.lose();
    let mut tried = Vec::new();
    for _ in 0..2 {
        tried.push(script.until_connect());
        let request = script.greet();
        assert_eq!(
            (request.last_zxid_seen, request.session_id),
            (Zxid(77), SESSION)
        );
        script.log.clear();
        script.lose();
    }
    tried.push(script.until_connect());
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2]);
    assert_eq!(script.attach(SESSION).session_id, SESSION);
}

#[test]
fn fs_c5_silence_is_noticed_after_two_thirds_of_the_timeout() {
    let mut script = Script::live(config(1));
    script.pass(T * 2 / 3 - 1);
    assert_eq!(script.states(), []);
    assert!(script.ops().contains(&OpCode::PING));
    script.pass(1);
    assert_eq!(
        script.states(),
        [SessionState::Suspended { session: SESSION }]
    );
    assert!(
        script
            .log
            .iter()
            .any(|output| matches!(output, Output::Disconnect { .. }))
    );
}

#[test]
fn pings_keep_a_silent_session() {
    let mut script = Script::live(config(1));
    for _ in 0..50 {
        script.pass(T / 3);
        let pings = script.ops();
        assert!(!pings.is_empty() && pings.iter().all(|op| *op == OpCode::PING));
        for _ in pings {
            script.receive(&reply(-2, 0, ErrorCode::OK));
        }
    }
    assert_eq!(script.states(), []);
}

#[test]
fn fs_c7_the_negotiated_timeout_counts() {
    let mut script = Script::new(config(1));
    script.greet();
    script.receive(&welcome(SESSION, 3_000, false));
    script.log.clear();
    script.pass(1_999);
    assert_eq!(script.states(), []);
    script.pass(1);
    assert_eq!(
        script.states(),
        [SessionState::Suspended { session: SESSION }]
    );
    script.log.clear();
    assert_eq!(
        script.greet().timeout,
        9_000,
        "what was asked for is asked for again"
    );
}

#[test]
fn fs_c17_from_a_read_only_server_to_a_full_one() {
    let mut script = Script::new(Config {
        allow_read_only: true,
        ..config(2)
    });
    let first = script.until_connect();
    assert_eq!(script.greet().read_only, Some(true));
    let fake = SessionId(0x7f);
    script.receive(&welcome(fake, T, true));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    script.pass(100);
    let [Output::Probe { host }] = script.log[..] else {
        panic!("{:?}", script.log);
    };
    assert_ne!(host, first);
    script.input(Input::Probed {
        host,
        writable: false,
    });
    script.log.clear();
    script.pass(199);
    assert!(script.log.is_empty(), "{:?}", script.log);
    script.pass(1);
    let Some(Output::Probe { host }) = script.log.first() else {
        panic!("{:?}", script.log);
    };
    let host = *host;
    script.sent();
    script.input(Input::Probed {
        host,
        writable: true,
    });
    assert_eq!(script.until_connect(), host);
    // A session of a read-only server is unknown elsewhere.
    assert_eq!(script.attach(SESSION).session_id, SessionId(0));
    assert_eq!(script.states().last(), Some(&connected(SESSION)));
    assert_eq!(script.ops(), [OpCode::SET_WATCHES]);
}

/// How long after each of some losses the next attempt comes; `lose` makes a loss of each attached connection.
fn waits(script: &mut Script, mut lose: impl FnMut(&mut Script)) -> Vec<u64> {
    let mut waits = Vec::new();
    for _ in 0..12 {
        script.attach(SESSION);
        lose(script);
        let lost_at = script.now;
        script.until_connect();
        waits.push(script.now - lost_at);
    }
    waits
}

#[test]
fn fs_c13_a_server_that_shakes_hands_and_hangs_up_is_asked_ever_less_often() {
    let mut script = Script::new(config(1));
    let grown = waits(&mut script, Script::lose);
    assert!(grown[0] <= 300 && grown[11] >= 2_500, "{grown:?}");
    // Nor does it help that it forgets the session each time.
    let grown = waits(&mut script, |script| {
        script.lose();
        script.greet();
        script.receive(&welcome(SessionId(0), 0, false));
    });
    assert!(
        grown.iter().all(|wait| *wait <= 100),
        "a new session waits for nothing: {grown:?}"
    );
    assert!(
        script.now > 12 * 2_500,
        "but the old one was asked for late"
    );
    // One that answers a request is there again.
    script.attach(SESSION);
    script.submit(OpCode::EXISTS, "/a", None);
    let xid = script.sent().last().unwrap().xid;
    script.receive(&reply(xid, 9, ErrorCode::OK));
    let lost_at = script.now;
    script.lose();
    script.until_connect();
    assert!(script.now - lost_at <= 100);
}

#[test]
fn fs_c8_a_server_that_always_refuses_the_watches_is_asked_ever_less_often() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/data", WatchKind::Data, ErrorCode::OK);
    script.lose();
    let grown = waits(&mut script, |script| {
        // What was asked meanwhile comes behind the watches, and is not answered.
        script.submit(OpCode::EXISTS, "/a", None);
        let xid = script.sent()[0].xid;
        script.receive(&reply(xid, 6, ErrorCode::THROTTLED_OP));
    });
    assert!(grown[0] <= 300 && grown[11] >= 2_500, "{grown:?}");
}

#[test]
fn a_server_that_does_not_shake_hands_is_left() {
    let mut script = Script::new(config(3));
    let first = script.until_connect();
    script.greet();
    script.log.clear();
    script.pass(T / 3 - 1);
    assert!(script.log.is_empty(), "{:?}", script.log);
    script.pass(1);
    assert_ne!(script.until_connect(), first);
}
