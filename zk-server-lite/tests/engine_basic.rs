//! The engine end to end: sessions, nodes, watches and order, with the log as a step of its own.

mod support;

use bytes::BytesMut;
use support::{Received, World, config, create, response};
use zk_proto::jute::Encode as _;
use zk_proto::session::*;
use zk_proto::{ErrorCode, OpCode, SessionId, Zxid};
use zk_server_lite::pipeline::CloseReason;

#[test]
fn a_node_lives_from_create_to_delete() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let (_, header, body) = world.call(&mut client, OpCode::CREATE, &create("/a", "one", 0));
    assert_eq!((header.err, header.zxid), (ErrorCode::OK, Zxid(2)));
    response(OpCode::CREATE, &body, |reply| {
        assert_eq!(reply, Response::Path(PathResponse { path: "/a".into() }));
    });
    let get = PathWatchRequest {
        path: "/a".into(),
        watch: false,
    };
    let (_, _, body) = world.call(&mut client, OpCode::GET_DATA, &get);
    response(OpCode::GET_DATA, &body, |reply| {
        let Response::Data(reply) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(reply.data.as_deref(), Some(&b"one"[..]));
        assert_eq!(
            (reply.stat.czxid, reply.stat.ctime),
            (Zxid(2), support::WALL)
        );
    });
    let set = SetDataRequest {
        path: "/a".into(),
        data: None,
        version: 0,
    };
    assert_eq!(
        world.code(&mut client, OpCode::SET_DATA, &set),
        ErrorCode::OK
    );
    assert_eq!(
        world.code(&mut client, OpCode::SET_DATA, &set),
        ErrorCode::BAD_VERSION
    );
    let delete = DeleteRequest {
        path: "/a".into(),
        version: 1,
    };
    assert_eq!(
        world.code(&mut client, OpCode::DELETE, &delete),
        ErrorCode::OK
    );
    assert_eq!(
        world.code(&mut client, OpCode::EXISTS, &get),
        ErrorCode::NO_NODE
    );
    // The failed write took a zxid too.
    assert_eq!(world.engine.tree().last_zxid(), Zxid(5));
}

#[test]
fn replies_wait_for_the_log_and_keep_their_order() {
    let mut world = World::new(config());
    let (mut writer, mut reader) = (world.connect(), world.connect());
    let get = PathWatchRequest {
        path: "/a".into(),
        watch: false,
    };
    let first = world.send(&mut writer, OpCode::CREATE, &create("/a", "", 0));
    let second = world.send(&mut writer, OpCode::GET_DATA, &get);
    let third = world.send(
        &mut writer,
        OpCode::SET_DATA,
        &SetDataRequest {
            path: "/a".into(),
            data: Some("x".into()),
            version: -1,
        },
    );
    let fourth = world.send(&mut writer, OpCode::GET_DATA, &get);
    assert_eq!(world.received(&mut writer), []);
    // Another connection does not wait, and sees the state before.
    world.send(&mut reader, OpCode::GET_DATA, &get);
    assert!(
        matches!(&world.received(&mut reader)[..], [Received::Reply(header, _)] if header.err == ErrorCode::NO_NODE)
    );
    world.commit();
    let lengths: Vec<_> = world
        .received(&mut writer)
        .into_iter()
        .map(|received| match received {
            Received::Reply(header, body) => (header.xid, header.err, body.len()),
            event @ Received::Event(..) => panic!("{event:?}"),
        })
        .collect();
    let ok = ErrorCode::OK;
    // The read between the writes sees the first and not the second.
    assert_eq!(
        lengths,
        [
            (first, ok, 6),
            (second, ok, 72),
            (third, ok, 68),
            (fourth, ok, 73)
        ]
    );
}

#[test]
fn an_event_comes_before_the_reply_that_shows_its_change() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let watch = PathWatchRequest {
        path: "/a".into(),
        watch: true,
    };
    assert_eq!(
        world.code(&mut client, OpCode::EXISTS, &watch),
        ErrorCode::NO_NODE
    );
    let (events, _, _) = world.call(&mut client, OpCode::CREATE, &create("/a", "", 0));
    assert_eq!(events, [(1, "/a".to_owned())]);
    let (events, _, _) = world.call(
        &mut client,
        OpCode::DELETE,
        &DeleteRequest {
            path: "/a".into(),
            version: -1,
        },
    );
    assert_eq!(events, []);
}

#[test]
fn a_session_ends_with_its_ephemeral_nodes() {
    let mut world = World::new(config());
    let (mut owner, mut other) = (world.connect_for(1000), world.connect_for(10_000));
    for name in ["/e1", "/e2"] {
        assert_eq!(
            world.code(&mut owner, OpCode::CREATE, &create(name, "", 1)),
            ErrorCode::OK
        );
    }
    let watch = PathWatchRequest {
        path: "/e1".into(),
        watch: true,
    };
    assert_eq!(
        world.code(&mut other, OpCode::EXISTS, &watch),
        ErrorCode::OK
    );
    world.advance(900);
    assert_eq!(world.engine.tree().ephemeral_count(), 2);
    world.advance(300);
    assert_eq!(world.engine.tree().ephemeral_count(), 0);
    assert_eq!(world.closed(&owner), Some(CloseReason::SessionClosed));
    assert!(
        matches!(&world.received(&mut other)[..], [Received::Event(2, path, Zxid(5))] if path == "/e1")
    );
    let mut again = world.attach();
    (again.session, again.passwd) = (owner.session, owner.passwd.clone());
    let refused = world.handshake(&mut again, 1000, Zxid(0)).unwrap();
    assert_eq!((refused.timeout, refused.session_id), (0, SessionId(0)));
    assert_eq!(world.closed(&again), Some(CloseReason::SessionRefused));
}

#[test]
fn only_the_password_moves_a_session() {
    let mut world = World::new(config());
    let client = world.connect();
    let mut thief = world.attach();
    (thief.session, thief.passwd) = (client.session, vec![1; 16].into());
    assert_eq!(
        world.handshake(&mut thief, 1000, Zxid(0)).unwrap().timeout,
        0
    );
    assert_eq!(
        world.closed(&client),
        None,
        "a wrong password must not cut the rightful client"
    );
    let mut again = world.attach();
    (again.session, again.passwd) = (client.session, client.passwd.clone());
    assert_eq!(
        world.handshake(&mut again, 7000, Zxid(0)).unwrap().timeout,
        7000
    );
    assert_eq!(world.closed(&client), Some(CloseReason::SessionMoved));
    assert_eq!(world.closed(&again), None);
    let mut ahead = world.attach();
    assert_eq!(world.handshake(&mut ahead, 1000, Zxid(99)), None);
    assert_eq!(world.closed(&ahead), Some(CloseReason::ClientAhead));
}

#[test]
fn fs_i9_a_session_reads_what_it_wrote_on_an_earlier_connection() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let get = PathWatchRequest {
        path: "/a".into(),
        watch: false,
    };
    world.send(&mut client, OpCode::CREATE, &create("/a", "", 0));
    // The log is slow, the client gives the connection up and comes again, twice.
    let mut again = Vec::new();
    for _ in 0..2 {
        let mut next = world.attach();
        let mut hello = BytesMut::new();
        ConnectRequest {
            timeout: 5000,
            session_id: client.session,
            passwd: client.passwd.clone().into(),
            ..ConnectRequest::default()
        }
        .encode(&mut hello);
        world.frame(&next, hello.freeze());
        assert!(world.next_frame(&mut next).is_some(), "attached at once");
        again.push(next);
    }
    let mut last = again.pop().expect("two were made");
    let read = world.send(&mut last, OpCode::GET_DATA, &get);
    let second = world.send(&mut last, OpCode::CREATE, &create("/b", "", 0));
    let after = world.send(&mut last, OpCode::GET_DATA, &get);
    assert_eq!(world.received(&mut last), [], "the write comes first");
    world.commit();
    let answers: Vec<_> = world
        .received(&mut last)
        .into_iter()
        .map(|received| match received {
            Received::Reply(header, _) => (header.xid, header.err),
            event @ Received::Event(..) => panic!("{event:?}"),
        })
        .collect();
    let ok = ErrorCode::OK;
    assert_eq!(answers, [(read, ok), (second, ok), (after, ok)]);
    assert_eq!(world.received(&mut again[0]), [], "it lost the session");
}

#[test]
fn a_multi_is_all_or_nothing() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let op = |path: &'static str| {
        MultiOp::Create(CreateRequest {
            path: path.into(),
            data: None,
            acl: Some(vec![zk_proto::Acl::open_unsafe()]),
            flags: 0,
        })
    };
    let failing = MultiRequest {
        ops: vec![op("/m"), op("/no/parent"), op("/n")],
    };
    let (_, header, body) = world.call(&mut client, OpCode::MULTI, &failing);
    assert_eq!(header.err, ErrorCode::OK);
    response(OpCode::MULTI, &body, |reply| {
        let Response::Multi(reply) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(
            reply.results,
            [
                MultiResult::Error(ErrorCode::OK),
                MultiResult::Error(ErrorCode::NO_NODE),
                MultiResult::Error(ErrorCode::RUNTIME_INCONSISTENCY),
            ]
        );
    });
    let passing = MultiRequest {
        ops: vec![
            op("/m"),
            op("/m/a"),
            MultiOp::Check(CheckVersionRequest {
                path: "/m/a".into(),
                version: 0,
            }),
        ],
    };
    let (_, _, body) = world.call(&mut client, OpCode::MULTI, &passing);
    response(OpCode::MULTI, &body, |reply| {
        let Response::Multi(reply) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(
            reply.results,
            [
                MultiResult::Create("/m".into()),
                MultiResult::Create("/m/a".into()),
                MultiResult::Check,
            ]
        );
    });
    assert_eq!(world.engine.tree().node_count(), 6);
}
