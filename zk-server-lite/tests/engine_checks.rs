//! Which check fails first: each row is one request that breaks two rules or more, and the code of the rule that comes
//! first (client-protocol, 6.2).

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{Client, Raw, World, config};
use zk_proto::session::*;
use zk_proto::txn::NodeEntry;
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, StatPersisted, Zxid};
use zk_server_lite::pipeline::{CloseReason, Database, EngineConfig};

fn open() -> Option<Vec<Acl>> {
    Some(vec![Acl::open_unsafe()])
}

fn acl(perms: i32, scheme: &'static str, id: &'static str) -> Acl {
    Acl {
        perms: Perms(perms),
        id: Id::new(scheme, id),
    }
}

fn create<'a>(path: Option<&'a str>, acl: Option<Vec<Acl>>, flags: i32) -> Request<'a> {
    Request::Create(CreateRequest {
        path: path.map_or_else(zk_proto::jute::Ustring::null, Into::into),
        data: Some(Bytes::from_static(b"x")),
        acl,
        flags,
    })
}

fn create_ttl(path: &str, flags: i32, ttl: i64) -> Request<'_> {
    Request::CreateTtl(CreateTtlRequest {
        path: path.into(),
        data: None,
        acl: open(),
        flags,
        ttl,
    })
}

fn delete(path: &str, version: i32) -> Request<'_> {
    Request::Delete(DeleteRequest {
        path: path.into(),
        version,
    })
}

fn set_data(path: &str, version: i32) -> Request<'_> {
    Request::SetData(SetDataRequest {
        path: path.into(),
        data: Some("yy".into()),
        version,
    })
}

fn set_acl(path: &str, acl: Option<Vec<Acl>>, version: i32) -> Request<'_> {
    Request::SetAcl(SetAclRequest {
        path: path.into(),
        acl,
        version,
    })
}

/// Nodes that most rows need: `/p` with a child, `/locked` that nobody may touch with a child, `/e` ephemeral.
fn scene(config: EngineConfig) -> (World, Client) {
    let mut world = World::new(config);
    let mut client = world.connect();
    let nobody = || Some(vec![acl(31, "digest", "no:body")]);
    for (path, list, flags) in [
        ("/p", open(), 0),
        ("/p/c", open(), 0),
        ("/locked", open(), 0),
        ("/locked/c", nobody(), 0),
        ("/e", open(), 1),
    ] {
        let request = create(Some(path), list, flags);
        assert_eq!(
            world.code(&mut client, OpCode::CREATE, &request),
            ErrorCode::OK,
            "{path}"
        );
    }
    let request = set_acl("/locked", nobody(), -1);
    assert_eq!(
        world.code(&mut client, OpCode::SET_ACL, &request),
        ErrorCode::OK
    );
    (world, client)
}

/// Each row must answer its code, take one zxid, and change nothing else.
fn check(rows: &[(OpCode, Request<'_>, ErrorCode)], config: EngineConfig) {
    let (mut world, mut client) = scene(config);
    for (op, request, code) in rows {
        let before = (
            world.engine.tree().digest(),
            world.engine.tree().last_zxid(),
        );
        let (_, header, body) = world.call(&mut client, *op, request);
        assert_eq!(header.err, *code, "{op:?} {request:?}");
        assert!(body.is_empty(), "{op:?} {request:?}");
        let after = world.engine.tree();
        assert_eq!(after.digest(), before.0, "{op:?} {request:?}");
        assert_eq!(
            after.last_zxid(),
            Zxid(before.1.0 + 1),
            "{op:?} {request:?}"
        );
        assert_eq!(header.zxid, after.last_zxid());
    }
}

use ErrorCode as E;

#[test]
fn create_checks_in_zookeepers_order() {
    let op = OpCode::CREATE;
    check(
        &[
            (op, create(None, open(), 0), E::MARSHALLING_ERROR),
            (op, create(Some("no-slash"), open(), 9), E::BAD_ARGUMENTS),
            (op, create(None, open(), 9), E::BAD_ARGUMENTS),
            (op, create(Some("/x"), open(), -1), E::BAD_ARGUMENTS),
            (op, create(Some("/x"), open(), 5), E::BAD_ARGUMENTS),
            (
                OpCode::CREATE2,
                create(Some("/x"), open(), 6),
                E::BAD_ARGUMENTS,
            ),
            (
                OpCode::CREATE_CONTAINER,
                create(Some("/x"), open(), 5),
                E::BAD_ARGUMENTS,
            ),
            (op, create(Some("no-slash"), None, 0), E::BAD_ARGUMENTS),
            (op, create(Some("/n\0ul"), None, 0), E::BAD_ARGUMENTS),
            (op, create(Some(""), open(), 0), E::BAD_ARGUMENTS),
            (op, create(Some("/nope/x"), None, 0), E::INVALID_ACL),
            (op, create(Some("/x/"), Some(vec![]), 0), E::INVALID_ACL),
            (
                op,
                create(Some("/x"), Some(vec![acl(31, "auth", "")]), 0),
                E::INVALID_ACL,
            ),
            (
                op,
                create(Some("/x"), Some(vec![acl(31, "no", "x")]), 0),
                E::INVALID_ACL,
            ),
            (op, create(Some("/nope/"), open(), 0), E::NO_NODE),
            (op, create(Some("/./x"), open(), 0), E::NO_NODE),
            (op, create(Some("//x"), open(), 0), E::BAD_ARGUMENTS),
            (op, create(Some("/locked/c"), open(), 0), E::NO_AUTH),
            (op, create(Some("/locked/.."), open(), 0), E::NO_AUTH),
            (op, create(Some("/p/"), open(), 0), E::BAD_ARGUMENTS),
            (op, create(Some("/p/.."), open(), 0), E::BAD_ARGUMENTS),
            (op, create(Some("/p/\u{7f}"), open(), 0), E::BAD_ARGUMENTS),
            (op, create(Some("/p/\u{e000}"), open(), 0), E::BAD_ARGUMENTS),
            (op, create(Some("/p/\u{fffb}"), open(), 0), E::BAD_ARGUMENTS),
            (
                op,
                create(Some("/p/\u{1f600}"), open(), 0),
                E::BAD_ARGUMENTS,
            ),
            (op, create(Some("/p/c"), open(), 0), E::NODE_EXISTS),
            (op, create(Some("/"), open(), 0), E::NODE_EXISTS),
            (
                op,
                create(Some("/e/x"), open(), 0),
                E::NO_CHILDREN_FOR_EPHEMERALS,
            ),
            // A container is one whatever the flags say, and 7 says nothing.
            (
                OpCode::CREATE_CONTAINER,
                create(Some("/x"), open(), 7),
                E::BAD_ARGUMENTS,
            ),
        ],
        config(),
    );
}

#[test]
fn ttl_is_checked_before_the_path() {
    let op = OpCode::CREATE_TTL;
    let off = EngineConfig {
        extended_types: false,
        ..config()
    };
    check(
        &[
            (op, create_ttl("bad", 5, 0), E::UNIMPLEMENTED),
            (
                OpCode::CREATE,
                create(Some("bad"), open(), 6),
                E::UNIMPLEMENTED,
            ),
            // What kills a Java server: a time to live without a mode that has one.
            (op, create_ttl("/x", 0, -1), E::BAD_ARGUMENTS),
        ],
        off,
    );
    check(
        &[
            (op, create_ttl("/x", 5, 0), E::BAD_ARGUMENTS),
            (op, create_ttl("/x", 5, -1), E::BAD_ARGUMENTS),
            (op, create_ttl("/x", 6, 1 << 40), E::BAD_ARGUMENTS),
            (op, create_ttl("/x", 0, 5), E::BAD_ARGUMENTS),
            (op, create_ttl("/x", 0, -1), E::BAD_ARGUMENTS),
            (op, create_ttl("/x", 4, -1), E::BAD_ARGUMENTS),
            (op, create_ttl("/x", 7, 5), E::BAD_ARGUMENTS),
            (op, create_ttl("/nope/x", 5, 5), E::NO_NODE),
        ],
        config(),
    );
}

#[test]
fn delete_set_data_and_set_acl_check_in_zookeepers_order() {
    check(
        &[
            (OpCode::DELETE, delete("x", 5), E::BAD_ARGUMENTS),
            (OpCode::DELETE, delete("/n\0", 5), E::BAD_ARGUMENTS),
            (OpCode::DELETE, delete("/", 5), E::BAD_ARGUMENTS),
            (OpCode::DELETE, delete("/zookeeper", 5), E::BAD_ARGUMENTS),
            (
                OpCode::DELETE,
                delete("/zookeeper/quota", 5),
                E::BAD_ARGUMENTS,
            ),
            (
                OpCode::DELETE,
                delete("/zookeeper/config", 5),
                E::BAD_ARGUMENTS,
            ),
            (OpCode::DELETE, delete("/nope/x", 5), E::NO_NODE),
            (OpCode::DELETE, delete("/locked/missing", 5), E::NO_AUTH),
            (OpCode::DELETE, delete("/p/missing", 5), E::NO_NODE),
            (OpCode::DELETE, delete("/p/", 5), E::NO_NODE),
            (OpCode::DELETE, delete("/p", 5), E::BAD_VERSION),
            (OpCode::DELETE, delete("/p", -2), E::BAD_VERSION),
            (OpCode::DELETE, delete("/p", 0), E::NOT_EMPTY),
            (OpCode::SET_DATA, set_data("/p/", 5), E::BAD_ARGUMENTS),
            (OpCode::SET_DATA, set_data("", 5), E::BAD_ARGUMENTS),
            (OpCode::SET_DATA, set_data("/nope", 5), E::NO_NODE),
            (OpCode::SET_DATA, set_data("/locked", 5), E::NO_AUTH),
            (
                OpCode::SET_DATA,
                set_data("/zookeeper/config", -1),
                E::NO_AUTH,
            ),
            (OpCode::SET_DATA, set_data("/p", 5), E::BAD_VERSION),
            (OpCode::SET_ACL, set_acl("/p/", None, 5), E::BAD_ARGUMENTS),
            (OpCode::SET_ACL, set_acl("/nope", None, 5), E::INVALID_ACL),
            (OpCode::SET_ACL, set_acl("/locked", None, 5), E::INVALID_ACL),
            (OpCode::SET_ACL, set_acl("/nope", open(), 5), E::NO_NODE),
            (OpCode::SET_ACL, set_acl("/locked", open(), 5), E::NO_AUTH),
            (OpCode::SET_ACL, set_acl("/p", open(), 5), E::BAD_VERSION),
            (
                OpCode::RECONFIG,
                Request::Reconfig(ReconfigRequest::default()),
                E::RECONFIG_DISABLED,
            ),
            // Java 3.9 would delete for anyone.
            (
                OpCode::DELETE_CONTAINER,
                Request::Path(PathRequest {
                    path: "/p/c".into(),
                }),
                E::BAD_ARGUMENTS,
            ),
        ],
        config(),
    );
}

#[test]
fn quota_comes_last_for_create_and_before_the_version_for_set_data() {
    let mut world = World::new(EngineConfig {
        enforce_quota: true,
        ..config()
    });
    let mut client = world.connect();
    let node = |path, data: &'static str| {
        Request::Create(CreateRequest {
            path: zk_proto::jute::Ustring::from(path),
            data: Some(data.into()),
            acl: open(),
            flags: 0,
        })
    };
    let limits = "count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3";
    for request in [
        node("/q", "12345"),
        node("/zookeeper/quota/q", ""),
        node("/zookeeper/quota/q/zookeeper_limits", limits),
        node("/zookeeper/quota/q/zookeeper_stats", "count=0,bytes=0"),
        node("/q/a", "123"),
    ] {
        assert_eq!(world.code(&mut client, OpCode::CREATE, &request), E::OK);
    }
    let usage = |world: &World| {
        let tree = world.engine.tree();
        let id = tree.find("/zookeeper/quota/q/zookeeper_stats").unwrap();
        let node = tree.node(id);
        assert_eq!((node.stat.version, node.stat.mzxid), (0, node.stat.czxid));
        String::from_utf8(node.data().unwrap().to_vec()).unwrap()
    };
    assert_eq!(usage(&world), "count=2,bytes=8");
    let mut code = |op, request| world.code(&mut client, op, &request);
    assert_eq!(code(OpCode::CREATE, node("/q/b", "123")), E::QUOTA_EXCEEDED);
    assert_eq!(code(OpCode::CREATE, node("/q/a", "123")), E::NODE_EXISTS);
    assert_eq!(code(OpCode::CREATE, node("/q/b", "12")), E::OK);
    assert_eq!(code(OpCode::CREATE, node("/q/c", "")), E::QUOTA_EXCEEDED);
    let set = |data: &'static str, version| {
        Request::SetData(SetDataRequest {
            path: "/q/a".into(),
            data: Some(data.into()),
            version,
        })
    };
    assert_eq!(code(OpCode::SET_DATA, set("1234", 9)), E::QUOTA_EXCEEDED);
    assert_eq!(code(OpCode::SET_DATA, set("123", 9)), E::BAD_VERSION);
    assert_eq!(code(OpCode::SET_DATA, set("", 0)), E::OK);
    assert_eq!(code(OpCode::DELETE, delete("/q/b", -1)), E::OK);
    assert_eq!(usage(&world), "count=2,bytes=5");
    // Without its limits a path has no quota.
    let disarm = delete("/zookeeper/quota/q/zookeeper_limits", -1);
    assert_eq!(world.code(&mut client, OpCode::DELETE, &disarm), E::OK);
    assert_eq!(
        world.code(&mut client, OpCode::CREATE, &node("/q/d", "1234567890")),
        E::OK
    );
    assert_eq!(usage(&world), "count=2,bytes=5");
}

#[test]
fn reads_check_in_zookeepers_order() {
    let (mut world, mut client) = scene(config());
    let watch = |path: Option<&'static str>| {
        Request::PathWatch(PathWatchRequest {
            path: path.map_or_else(zk_proto::jute::Ustring::null, Into::into),
            watch: false,
        })
    };
    let path = |path: Option<&'static str>| {
        Request::Path(PathRequest {
            path: path.map_or_else(zk_proto::jute::Ustring::null, Into::into),
        })
    };
    let node_reads = [
        OpCode::GET_DATA,
        OpCode::GET_CHILDREN,
        OpCode::GET_CHILDREN2,
    ];
    let mut rows = vec![
        (OpCode::EXISTS, watch(None), E::MARSHALLING_ERROR),
        (OpCode::EXISTS, watch(Some("/n\0")), E::BAD_ARGUMENTS),
        (OpCode::EXISTS, watch(Some("/locked")), E::NO_AUTH),
        (OpCode::EXISTS, watch(Some("zzz")), E::NO_NODE),
        (OpCode::EXISTS, watch(Some("")), E::OK),
        (OpCode::GET_ACL, path(None), E::MARSHALLING_ERROR),
        (OpCode::GET_ACL, path(Some("/nope")), E::NO_NODE),
        (OpCode::GET_ACL, path(Some("/locked")), E::NO_AUTH),
        (OpCode::GET_ACL, path(Some("")), E::OK),
        (
            OpCode::GET_ALL_CHILDREN_NUMBER,
            path(Some("/nope")),
            E::NO_NODE,
        ),
        (
            OpCode::GET_ALL_CHILDREN_NUMBER,
            path(Some("/locked")),
            E::NO_AUTH,
        ),
        (OpCode::SYNC, path(None), E::OK),
        (OpCode::SYNC, path(Some("not a path")), E::OK),
        (OpCode::GET_EPHEMERALS, path(None), E::OK),
    ];
    for op in node_reads {
        rows.extend([
            (op, watch(None), E::MARSHALLING_ERROR),
            (op, watch(Some("/n\0")), E::NO_NODE),
            (op, watch(Some("/p/")), E::NO_NODE),
            (op, watch(Some("zzz")), E::NO_NODE),
            (op, watch(Some("/locked")), E::NO_AUTH),
            (op, watch(Some("")), E::OK),
        ]);
    }
    let zxid = world.engine.tree().last_zxid();
    for (op, request, code) in &rows {
        let (_, header, _) = world.call(&mut client, *op, request);
        assert_eq!(
            (header.err, header.zxid),
            (*code, zxid),
            "{op:?} {request:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_answered_and_the_connection_goes_on() {
    let (mut world, mut client) = scene(config());
    let zxid = world.engine.tree().last_zxid();
    for op in [
        OpCode::CREATE,
        OpCode::CREATE_TTL,
        OpCode::DELETE,
        OpCode::SET_DATA,
        OpCode::SET_ACL,
        OpCode::GET_DATA,
        OpCode::EXISTS,
        OpCode::GET_ACL,
        OpCode::SET_WATCHES2,
        OpCode::ADD_WATCH,
        OpCode::REMOVE_WATCHES,
        OpCode::MULTI_READ,
        OpCode::AUTH,
    ] {
        let (_, header, _) = world.call(&mut client, op, &Raw(vec![0x7f, 0xff, 0xff, 0xff]));
        assert_eq!(header.err, E::MARSHALLING_ERROR, "{op:?}");
        let expected = if op == OpCode::AUTH { Zxid(0) } else { zxid };
        assert_eq!(header.zxid, expected, "{op:?}: only a multi spends a zxid");
    }
    let (_, header, _) = world.call(&mut client, OpCode::MULTI, &Raw(vec![1, 2]));
    assert_eq!(
        (header.err, header.zxid),
        (E::MARSHALLING_ERROR, Zxid(zxid.0 + 1))
    );
    assert_eq!(world.closed(&client), None);
}

#[test]
fn operations_that_no_client_may_ask_for_end_the_connection() {
    for op in [
        OpCode::CREATE_SESSION,
        OpCode::CHECK,
        OpCode::ERROR,
        OpCode::NOTIFICATION,
        OpCode(10),
        OpCode(999),
    ] {
        let mut world = World::new(config());
        let mut client = world.connect();
        let (_, header, body) = world.call(&mut client, op, &Raw(vec![0; 64]));
        assert_eq!(
            (header.err, header.zxid),
            (E::UNIMPLEMENTED, Zxid(-1)),
            "{op:?}"
        );
        assert!(body.is_empty());
        assert_eq!(world.closed(&client), Some(CloseReason::UnknownOperation));
    }
}

#[test]
fn sequence_numbers_follow_the_parents_counter() {
    let (mut world, mut client) = scene(config());
    let mut name = |path: &'static str, op, flags| {
        let (_, header, body) = world.call(&mut client, op, &create(Some(path), open(), flags));
        assert_eq!(header.err, E::OK, "{path}");
        support::response(op, &body, |reply| match reply {
            Response::Path(reply) => reply.path.or_empty().to_owned(),
            Response::Create(reply) => reply.path.or_empty().to_owned(),
            other => panic!("{other:?}"),
        })
    };
    // One child was created below /p before.
    assert_eq!(name("/p/a", OpCode::CREATE, 2), "/p/a0000000001");
    assert_eq!(name("/p/", OpCode::CREATE2, 2), "/p/0000000002");
    assert_eq!(name("/p/.", OpCode::CREATE, 3), "/p/.0000000003");
    assert_eq!(name("/p/k", OpCode::CREATE_CONTAINER, 2), "/p/k0000000004");
    assert_eq!(name("/p/plain", OpCode::CREATE, 4), "/p/plain");
    assert_eq!(name("/p/b-", OpCode::CREATE, 2), "/p/b-0000000006");
    let stat = {
        let tree = world.engine.tree();
        tree.stat(tree.find("/p").unwrap())
    };
    assert_eq!((stat.cversion + stat.num_children) / 2, 7);
    // A failed create and a delete move nothing.
    assert_eq!(
        world.code(
            &mut client,
            OpCode::CREATE,
            &create(Some("/p/c"), open(), 0)
        ),
        E::NODE_EXISTS
    );
    assert_eq!(
        world.code(&mut client, OpCode::DELETE, &delete("/p/plain", -1)),
        E::OK
    );
    let (_, _, body) = world.call(
        &mut client,
        OpCode::CREATE,
        &create(Some("/p/z"), open(), 2),
    );
    support::response(OpCode::CREATE, &body, |reply| {
        assert_eq!(
            reply,
            Response::Path(PathResponse {
                path: "/p/z0000000007".into()
            })
        );
    });
}

#[test]
fn containers_and_ttl_nodes_go_when_nothing_keeps_them() {
    let mut world = World::new(EngineConfig {
        container_check_interval: Duration::from_secs(3),
        ..config()
    });
    let mut client = world.connect_for(10_000);
    for (op, request) in [
        (OpCode::CREATE_CONTAINER, create(Some("/used"), open(), 4)),
        (OpCode::CREATE_CONTAINER, create(Some("/new"), open(), 0)),
        (OpCode::CREATE, create(Some("/plain"), open(), 4)),
        (OpCode::CREATE_TTL, create_ttl("/ttl", 5, 4000)),
        (OpCode::CREATE_TTL, create_ttl("/kept", 5, 4000)),
        (OpCode::CREATE, create(Some("/kept/child"), open(), 0)),
        (OpCode::CREATE, create(Some("/used/child"), open(), 0)),
        (OpCode::CREATE, create(Some("/plain/child"), open(), 0)),
        (OpCode::DELETE, delete("/plain/child", -1)),
    ] {
        assert_eq!(world.code(&mut client, op, &request), E::OK, "{request:?}");
    }
    let present = |world: &World| {
        ["/used", "/new", "/plain", "/ttl", "/kept"]
            .map(|path| world.engine.tree().find(path).is_some())
    };
    // Its owner is not shown.
    let stat = world
        .engine
        .tree()
        .stat(world.engine.tree().find("/ttl").unwrap());
    assert_eq!(stat.ephemeral_owner, 0);
    world.advance(3100);
    assert_eq!(present(&world), [true; 5]);
    assert_eq!(
        world.code(&mut client, OpCode::DELETE, &delete("/used/child", -1)),
        E::OK
    );
    // Setting the data counts as life; having children keeps.
    assert_eq!(
        world.code(&mut client, OpCode::SET_DATA, &set_data("/ttl", -1)),
        E::OK
    );
    world.advance(3100);
    assert_eq!(present(&world), [false, true, true, true, true]);
    world.advance(3100);
    assert_eq!(present(&world), [false, true, true, false, true]);
}

/// Section 7.2: the stored count only grows, so it stays at the end of its range, and the last number is given again.
/// Creates that are still on their way see a count beyond it.
#[test]
fn sequence_numbers_end_where_javas_do() {
    let parent = |cversion| {
        let mut database = Database::for_restore(true);
        for (path, cversion) in [("", 0), ("/p", cversion)] {
            let stat = StatPersisted {
                cversion,
                ..StatPersisted::default()
            };
            let entry = NodeEntry {
                path: path.into(),
                acl_id: -1,
                stat,
                ..NodeEntry::default()
            };
            database.node(&entry).unwrap();
        }
        database.snapshot_loaded(Zxid(1), None);
        World::with(config(), database)
    };
    let sequential = create(Some("/p/a-"), open(), 2);
    let mut world = parent(i32::MAX - 1);
    let mut client = world.connect();
    for expected in ["/p/a-2147483646", "/p/a-2147483647"] {
        let (_, header, body) = world.call(&mut client, OpCode::CREATE, &sequential);
        assert_eq!(header.err, ErrorCode::OK);
        support::response(OpCode::CREATE, &body, |reply| {
            assert_eq!(
                reply,
                Response::Path(PathResponse {
                    path: expected.into()
                })
            );
        });
    }
    let code = world.code(&mut client, OpCode::CREATE, &sequential);
    assert_eq!(code, ErrorCode::NODE_EXISTS);

    let mut world = parent(i32::MAX);
    let mut client = world.connect();
    world.send(&mut client, OpCode::CREATE, &sequential);
    world.send(&mut client, OpCode::CREATE, &sequential);
    world.commit();
    let tree = world.engine.tree();
    let names: Vec<_> = tree.children(tree.find("/p").unwrap()).collect();
    assert_eq!(names, ["a-2147483647", "a--2147483648"]);
}
