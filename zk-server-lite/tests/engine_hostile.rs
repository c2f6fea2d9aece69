//! What a client may send to do harm: every frame becomes an answer, a wait or the end of its own connection, and nobody
//! else notices (fault scenarios, M).

mod support;

use bytes::{Bytes, BytesMut};
use support::{Raw, Received, World, config, create};
use zk_proto::jute::Encode;
use zk_proto::session::*;
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, Xid, Zxid};
use zk_server_lite::pipeline::{CloseReason, EngineConfig};

/// One request of each shape, with lists and texts in it.
fn bodies() -> Vec<Request<'static>> {
    let acl = || Some(vec![Acl::open_unsafe()]);
    let paths = || Some(vec!["/a".into(), "/b".into()]);
    vec![
        create("/a", "data", 0),
        Request::CreateTtl(CreateTtlRequest {
            path: "/t".into(),
            data: Some("x".into()),
            acl: acl(),
            flags: 5,
            ttl: 5,
        }),
        Request::Delete(DeleteRequest {
            path: "/a".into(),
            version: -1,
        }),
        Request::PathWatch(PathWatchRequest {
            path: "/a".into(),
            watch: true,
        }),
        Request::SetData(SetDataRequest {
            path: "/a".into(),
            data: Some("x".into()),
            version: -1,
        }),
        Request::SetAcl(SetAclRequest {
            path: "/a".into(),
            acl: acl(),
            version: -1,
        }),
        Request::Multi(MultiRequest {
            ops: vec![
                MultiOp::Delete(DeleteRequest {
                    path: "/a".into(),
                    version: -1,
                }),
                MultiOp::GetData(PathWatchRequest {
                    path: "/a".into(),
                    watch: false,
                }),
            ],
        }),
        Request::SetWatches2(SetWatches2 {
            relative_zxid: Zxid(0),
            data_watches: paths(),
            exist_watches: paths(),
            child_watches: paths(),
            persistent_watches: paths(),
            persistent_recursive_watches: paths(),
        }),
        Request::Auth(AuthPacket {
            auth_type: 0,
            scheme: "digest".into(),
            auth: Bytes::from_static(b"a:b").into(),
        }),
    ]
}

#[test]
fn fs_m3_every_opcode_with_every_body_cut_at_every_byte_harms_nobody() {
    let mut world = World::new(config());
    let mut bystander = world.connect_for(10_000);
    let get = PathWatchRequest {
        path: "/zookeeper".into(),
        watch: false,
    };
    for body in bodies() {
        let mut bytes = BytesMut::new();
        body.encode(&mut bytes);
        for op in (-128..=127).map(OpCode) {
            let mut client = world.connect();
            for cut in 0..=bytes.len() {
                world.send(&mut client, op, &Raw(bytes[..cut].to_vec()));
                world.commit();
                let answered = !world.received(&mut client).is_empty();
                let closed = world.closed(&client).is_some();
                assert!(answered || closed, "{op:?} cut at {cut}: silence");
                if closed {
                    world.engine.detach(client.conn);
                    client = world.connect();
                }
            }
            world.engine.detach(client.conn);
        }
        assert_eq!(
            world.code(&mut bystander, OpCode::GET_DATA, &get),
            ErrorCode::OK
        );
    }
}

#[test]
fn short_frames_and_foreign_handshakes_end_their_connection() {
    for length in 0..8 {
        let mut world = World::new(config());
        let client = world.connect();
        world.frame(&client, Bytes::from(vec![0; length]));
        assert_eq!(world.closed(&client), Some(CloseReason::BadFrame));
        let fresh = world.attach();
        world.frame(&fresh, Bytes::from(vec![0; length]));
        assert_eq!(world.closed(&fresh), Some(CloseReason::BadHandshake));
    }
}

#[test]
fn fs_m4_paths_that_no_node_can_have_are_refused_everywhere() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let long = format!("/{}", "x".repeat(1 << 20));
    let deep = "/x".repeat(5000);
    for (path, code) in [
        ("", ErrorCode::BAD_ARGUMENTS),
        ("relative", ErrorCode::BAD_ARGUMENTS),
        ("//", ErrorCode::BAD_ARGUMENTS),
        ("/a/", ErrorCode::NO_NODE),
        ("/.", ErrorCode::BAD_ARGUMENTS),
        ("/..", ErrorCode::BAD_ARGUMENTS),
        ("/\u{0}", ErrorCode::BAD_ARGUMENTS),
        ("/\u{1f}", ErrorCode::BAD_ARGUMENTS),
        ("/\u{d7ff}\u{fff0}", ErrorCode::BAD_ARGUMENTS),
        (&deep, ErrorCode::NO_NODE),
        (&long, ErrorCode::OK),
    ] {
        let shown = &path[..path.len().min(20)];
        assert_eq!(
            world.code(&mut client, OpCode::CREATE, &create(path, "", 0)),
            code,
            "{shown}"
        );
    }
    // As deep as one likes, step by step; and down again.
    for depth in 1..=600 {
        let path = "/d".repeat(depth);
        assert_eq!(
            world.code(&mut client, OpCode::CREATE, &create(&path, "", 0)),
            ErrorCode::OK
        );
    }
    let tree = world.engine.tree();
    assert_eq!(tree.descendants(tree.find("/d").unwrap()), 599);
}

#[test]
fn fs_m7_lists_of_thousands_of_entries_take_no_square_of_time_and_do_not_multiply() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let entry = |perms, scheme: &'static str, id: String| Acl {
        perms: Perms(perms),
        id: Id::new(scheme, id),
    };
    let many: Vec<Acl> = (0..20_000)
        .map(|at| entry(31, "digest", format!("u{at}:h")))
        .collect();
    let request = |path: &'static str, acl: &[Acl]| {
        Request::Create(CreateRequest {
            path: path.into(),
            data: None,
            acl: Some(acl.to_vec()),
            flags: 0,
        })
    };
    assert_eq!(
        world.code(&mut client, OpCode::CREATE, &request("/many", &many)),
        ErrorCode::OK
    );
    // Identities are bounded.
    let mut refused = None;
    for at in 0..1000 {
        let packet = AuthPacket {
            auth_type: 0,
            scheme: "digest".into(),
            auth: Bytes::from(format!("user{at}:pw")).into(),
        };
        if world.code(&mut client, OpCode::AUTH, &packet) != ErrorCode::OK {
            refused = Some(at);
            break;
        }
    }
    assert!(refused.is_some_and(|at| at > 100), "{refused:?}");
    assert_eq!(world.closed(&client), Some(CloseReason::AuthFailed));
    // And what they expand to.
    let mut client = world.connect();
    for at in 0..100 {
        let packet = AuthPacket {
            auth_type: 0,
            scheme: "digest".into(),
            auth: Bytes::from(format!("user{at}:pw")).into(),
        };
        assert_eq!(
            world.code(&mut client, OpCode::AUTH, &packet),
            ErrorCode::OK
        );
    }
    let auths: Vec<Acl> = (0..20_000)
        .map(|perms| entry(perms, "auth", String::new()))
        .collect();
    assert_eq!(
        world.code(&mut client, OpCode::CREATE, &request("/auths", &auths)),
        ErrorCode::INVALID_ACL
    );
    assert_eq!(
        world.code(
            &mut client,
            OpCode::CREATE,
            &request("/auths", &auths[..10])
        ),
        ErrorCode::OK
    );
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let mut world = World::new(EngineConfig {
        max_unsent: 100_000,
        ..config()
    });
    let mut client = world.connect();
    let get = PathWatchRequest {
        path: "/a".into(),
        watch: false,
    };
    assert_eq!(
        world.code(
            &mut client,
            OpCode::CREATE,
            &create("/a", &"x".repeat(30_000), 0)
        ),
        ErrorCode::OK
    );
    for _ in 0..5 {
        world.send(&mut client, OpCode::GET_DATA, &get);
    }
    assert_eq!(world.closed(&client), Some(CloseReason::NotReading));
    assert!(world.engine.output(client.conn).unwrap().len() < 100_000);
}

#[test]
fn a_client_with_too_much_in_process_is_not_read() {
    let mut world = World::new(EngineConfig {
        global_outstanding_limit: 10,
        ..config()
    });
    let (mut busy, mut other) = (world.connect(), world.connect());
    let get = PathWatchRequest {
        path: "/".into(),
        watch: false,
    };
    for at in 0..12 {
        assert_eq!(world.engine.may_read(busy.conn), at < 11, "{at}");
        world.send(&mut busy, OpCode::CREATE, &create(&format!("/{at}"), "", 0));
    }
    assert!(!world.engine.may_read(busy.conn));
    // Who has nothing in process is read and served.
    assert!(world.engine.may_read(other.conn));
    assert_eq!(world.engine.outstanding(), 12);
    world.send(&mut other, OpCode::GET_DATA, &get);
    assert_eq!(world.received(&mut other).len(), 1);
    let mut dirty = Vec::new();
    world.engine.take_dirty(&mut dirty);
    dirty.clear();
    world.commit();
    world.engine.take_dirty(&mut dirty);
    assert!(dirty.contains(&busy.conn) && world.engine.may_read(busy.conn));
    assert_eq!(world.received(&mut busy).len(), 12);
}

#[test]
fn answers_keep_their_turn_behind_a_handshake_that_is_not_answered() {
    let mut world = World::new(config());
    let mut client = world.attach();
    let connect = ConnectRequest {
        timeout: 1000,
        ..ConnectRequest::default()
    };
    let mut bytes = BytesMut::new();
    connect.encode(&mut bytes);
    world.frame(&client, bytes.freeze());
    let auth = |scheme: &'static str| AuthPacket {
        auth_type: 0,
        scheme: scheme.into(),
        auth: Bytes::from_static(b"bob:pw").into(),
    };
    let own = Request::Create(CreateRequest {
        path: "/own".into(),
        data: None,
        acl: Some(vec![Acl {
            perms: Perms::ALL,
            id: Id::new("auth", ""),
        }]),
        flags: 0,
    });
    world.send(&mut client, OpCode::AUTH, &auth("digest"));
    world.send(&mut client, OpCode::CREATE, &own);
    world.send(&mut client, OpCode::SASL, &SaslRequest::default());
    world.send(&mut client, OpCode::AUTH, &auth("nonsense"));
    // Behind what ends the connection.
    world.send(&mut client, OpCode::CREATE, &create("/never", "", 0));
    assert!(world.engine.output(client.conn).unwrap().is_empty());
    world.commit();
    let response = world.next_frame(&mut client).unwrap();
    assert_eq!(response.len(), 36, "the handshake is answered first");
    let answers: Vec<_> = world
        .received(&mut client)
        .into_iter()
        .map(|received| match received {
            Received::Reply(header, body) => (header.xid, header.zxid, header.err, body.len()),
            event @ Received::Event(..) => panic!("{event:?}"),
        })
        .collect();
    let ok = ErrorCode::OK;
    assert_eq!(
        answers,
        [
            (Xid(1), Zxid(0), ok, 0),
            (Xid(2), Zxid(2), ok, 8),
            (Xid(3), Zxid(0), ok, 4),
            (Xid(4), Zxid(0), ErrorCode::AUTH_FAILED, 0),
        ]
    );
    assert_eq!(world.closed(&client), Some(CloseReason::AuthFailed));
    assert!(world.engine.tree().find("/never").is_none());
    assert_eq!(
        world
            .engine
            .tree()
            .acl(world.engine.tree().find("/own").unwrap())[0]
            .id
            .scheme,
        "digest"
    );
}

#[test]
fn the_root_is_one_node_under_both_its_names() {
    // The parent of /a is the root; what is on its way for the one holds for the other.
    let mut world = World::new(config());
    let mut client = world.connect();
    let lock = SetAclRequest {
        path: "/".into(),
        acl: Some(vec![Acl {
            perms: Perms::READ,
            id: Id::new("world", "anyone"),
        }]),
        version: -1,
    };
    world.send(&mut client, OpCode::SET_ACL, &lock);
    world.send(&mut client, OpCode::CREATE, &create("/a", "", 0));
    world.commit();
    let errors: Vec<_> = world
        .received(&mut client)
        .into_iter()
        .map(|received| match received {
            Received::Reply(header, _) => header.err,
            event @ Received::Event(..) => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(errors, [ErrorCode::OK, ErrorCode::NO_AUTH]);
}
