//! Watches: set again, told once, removed, and told before the answers that show their changes.

use super::*;

#[test]
fn fs_c8_watches_are_set_again_with_the_last_zxid() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/data", WatchKind::Data, ErrorCode::OK);
    script.watch(OpCode::EXISTS, "/there", WatchKind::Exists, ErrorCode::OK);
    script.watch(
        OpCode::EXISTS,
        "/absent",
        WatchKind::Exists,
        ErrorCode::NO_NODE,
    );
    script.watch(
        OpCode::GET_CHILDREN2,
        "/child",
        WatchKind::Child,
        ErrorCode::OK,
    );
    script.lose();
    script.attach(SESSION);
    let sent = script.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].op, OpCode::SET_WATCHES, "known to all servers");
    let mut reader = Reader::new(&sent[0].body, "SetWatches");
    let again = zk_proto::session::SetWatches::decode(&mut reader).unwrap();
    let paths = |list: Option<Vec<zk_proto::jute::Ustring<'_>>>| -> Vec<String> {
        let paths = list.unwrap().into_iter();
        paths.map(|path| path.or_empty().to_owned()).collect()
    };
    assert_eq!(again.relative_zxid, Zxid(5));
    assert_eq!(paths(again.data_watches), ["/data", "/there"]);
    assert_eq!(paths(again.exist_watches), ["/absent"]);
    assert_eq!(paths(again.child_watches), ["/child"]);
    // Fires once, and is not set again after that.
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/data"));
    assert_eq!(script.events().len(), 1);
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/data"));
    assert_eq!(script.events().len(), 1);
}

#[test]
fn fs_c8_a_server_that_refuses_the_watches_is_left() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/data", WatchKind::Data, ErrorCode::OK);
    script.lose();
    script.attach(SESSION);
    let xid = script.sent()[0].xid;
    script.receive(&reply(xid, 6, ErrorCode::THROTTLED_OP));
    assert_eq!(
        script.core.state,
        SessionState::Suspended { session: SESSION },
        "{:?}",
        script.log
    );
    // The next one is given them again.
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::SET_WATCHES]);
}

#[test]
fn fs_c8_many_watches_go_in_several_requests() {
    let mut script = Script::live(config(1));
    for number in 0..5_000 {
        let path = format!("/{number:0>99}");
        let kind = if number % 2 == 0 {
            WatchKind::Data
        } else {
            WatchKind::Recursive
        };
        script.watch(OpCode::GET_DATA, &path, kind, ErrorCode::OK);
    }
    let waiting = script.submit(OpCode::EXISTS, "/x", None);
    script.sent();
    script.lose();
    assert!(script.answer(waiting).is_some());
    script.submit(OpCode::EXISTS, "/after", None);
    script.attach(SESSION);
    let sent = script.sent();
    let (batches, last) = sent.split_at(sent.len() - 1);
    assert_eq!(last[0].op, OpCode::EXISTS, "requests go after the watches");
    assert_eq!(batches.len(), 500_000usize.div_ceil(128 * 1024));
    let mut paths = 0;
    for batch in batches {
        assert!(batch.op == OpCode::SET_WATCHES2 && batch.body.len() < 0xf_ffff / 2);
        let again = SetWatches2::decode(&mut Reader::new(&batch.body, "SetWatches2")).unwrap();
        assert_eq!(again.relative_zxid, Zxid(5));
        paths += again.data_watches.unwrap().len();
        paths += again.persistent_recursive_watches.unwrap().len();
    }
    assert_eq!(paths, 5_000);
    // Their replies are matched; the request behind them is not shifted.
    for request in &sent {
        script.receive(&reply(request.xid, 9, ErrorCode::OK));
    }
    assert!(script.answer(script.callers).unwrap().is_ok());
}

#[test]
fn fs_c9_a_watch_whose_request_died_is_not_set() {
    let mut script = Script::live(config(1));
    let caller = script.submit(OpCode::GET_DATA, "/a", Some(WatchKind::Data));
    script.sent();
    script.lose();
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::ConnectionLost, Outcome::Unknown)
    ));
    script.attach(SESSION);
    assert_eq!(script.ops(), []);
    // The server cannot know it either: watches die with their connection.
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/a"));
    assert_eq!(script.events(), []);
}

#[test]
fn fs_c10_an_event_comes_out_before_the_reply_behind_it() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    script.submit(OpCode::SET_DATA, "/a", None);
    script.sent();
    let mut bytes = event(EventType::NODE_DATA_CHANGED, "/a");
    bytes.extend_from_slice(&reply(2, 9, ErrorCode::OK));
    script.receive(&bytes);
    assert!(
        matches!(
            script.log[..],
            [Output::Event { last: true, .. }, Output::Reply(_, Ok(_))]
        ),
        "{:?}",
        script.log
    );
}

#[test]
fn persistent_watches_are_told_of_a_gap_after_they_are_set_again() {
    let mut script = Script::live(config(1));
    script.watch(
        OpCode::ADD_WATCH,
        "/p",
        WatchKind::Persistent,
        ErrorCode::OK,
    );
    script.watch(OpCode::ADD_WATCH, "/", WatchKind::Recursive, ErrorCode::OK);
    script.receive(&event(EventType::NODE_CREATED, "/p/q"));
    script.receive(&event(EventType::NODE_CHILDREN_CHANGED, "/p"));
    let paths: Vec<_> = script.events().into_iter().map(|event| event.2).collect();
    assert_eq!(paths, ["/p/q", "/p"]);
    script.log.clear();
    script.lose();
    assert_eq!(script.events(), []);
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::SET_WATCHES2]);
    let gap = |path: &str| {
        let path = path.to_owned();
        (EventType::NONE, KeeperState::SYNC_CONNECTED, path, false)
    };
    assert_eq!(script.events(), [gap("/"), gap("/p")]);
}

#[test]
fn the_last_watcher_removes_the_servers_watch() {
    let mut script = Script::live(config(1));
    let first = script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    let second = script.watch(OpCode::EXISTS, "/a", WatchKind::Exists, ErrorCode::OK);
    script.input(Input::Unwatch(first));
    assert_eq!(script.ops(), []);
    // A request on the wire may set it anew: the removal would come behind it.
    script.submit(OpCode::GET_DATA, "/a", Some(WatchKind::Data));
    assert_eq!(script.ops(), [OpCode::GET_DATA]);
    script.input(Input::Unwatch(second));
    assert_eq!(script.ops(), []);
    script.receive(&reply(3, 9, ErrorCode::NO_NODE));
    assert_eq!(script.ops(), [OpCode::REMOVE_WATCHES]);
    script.receive(&reply(4, 9, ErrorCode::NO_WATCHER));
    assert_eq!(script.states(), []);
}
