//! What no server says: refused without a panic, at the price of the connection.

use super::*;

#[test]
fn fs_c14_what_no_server_says_drops_the_connection() {
    let hostile: [&[u8]; 9] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        &reply(1, 9, ErrorCode::OK),
        &reply(-4, 0, ErrorCode::OK),
        &event(EventType(99), "/a"),
        &event(EventType::NONE, "/a"),
        // An event without its record.
        &reply(-1, 0, ErrorCode::OK),
    ];
    for bytes in hostile {
        let mut script = Script::live(config(1));
        script.receive(bytes);
        assert_eq!(
            script.states(),
            [SessionState::Suspended { session: SESSION }],
            "{bytes:?}"
        );
        script.attach(SESSION);
    }
    // Text that is none names no watched path.
    let mut script = Script::live(config(1));
    let mut bytes = event(EventType::NODE_CREATED, "/a");
    let last = bytes.len() - 1;
    bytes[last] = 0xff;
    script.receive(&bytes);
    assert_eq!(script.states(), []);
}

#[test]
fn fs_c14_a_broken_welcome_is_no_session() {
    let without_a_number = welcome(SessionId(0), T, false);
    let refused = welcome(SessionId(0), 0, false);
    for bytes in [&b"\0\0\0\x02hi"[..], &refused, &without_a_number] {
        let mut script = Script::new(config(1));
        script.greet();
        script.log.clear();
        script.receive(bytes);
        assert_eq!(script.states(), []);
        script.attach(SESSION);
    }
    // Another session than the one asked for.
    let mut script = Script::live(config(1));
    script.lose();
    script.log.clear();
    script.greet();
    script.receive(&welcome(SessionId(99), T, false));
    assert_eq!(script.states(), []);
}

proptest::proptest! {
    /// Whatever a server says: no panic, one answer to each caller at the end, and a bound to what is kept.
    #[test]
    fn fs_c14_no_bytes_break_the_core(frames in proptest::collection::vec(
        (proptest::option::of(-8i32..6), proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)), 0..12,
    )) {
        let mut script = Script::live(config(2));
        for path in ["/a", "/b", "/c"] {
            script.submit(OpCode::GET_DATA, path, Some(WatchKind::Data));
        }
        for (xid, bytes) in frames {
            let bytes = match xid {
                // A likely header, then anything.
                Some(xid) => frame(|out| {
                    out.extend_from_slice(&xid.to_be_bytes());
                    out.extend_from_slice(&bytes);
                }),
                None => BytesMut::from(&bytes[..]),
            };
            script.receive(&bytes);
            if !matches!(script.core.phase, crate::core::Phase::Live { .. }) {
                script.attach(SESSION);
            }
        }
        script.input(Input::Close);
        script.pass(T);
        for caller in 1..=3 {
            assert!(script.answer(caller).is_some());
        }
        assert!(script.core.is_over());
    }
}
