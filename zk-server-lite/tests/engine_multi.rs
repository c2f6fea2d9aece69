//! Multi and multiRead: their results to the byte, what they leave behind, and what they refuse (client-protocol, 5).

mod support;

use bytes::{Bytes, BytesMut};
use support::{Raw, World, config, response};
use zk_proto::jute::{Encode, Ustring};
use zk_proto::session::*;
use zk_proto::{Acl, EphemeralOwner, ErrorCode, OpCode, Zxid};

fn create(path: &'static str, flags: i32) -> CreateRequest<'static> {
    CreateRequest {
        path: path.into(),
        data: None,
        acl: Some(vec![Acl::open_unsafe()]),
        flags,
    }
}

fn set(path: &'static str, version: i32) -> MultiOp<'static> {
    MultiOp::SetData(SetDataRequest {
        path: path.into(),
        data: Some("x".into()),
        version,
    })
}

fn delete(path: &'static str) -> MultiOp<'static> {
    MultiOp::Delete(DeleteRequest {
        path: path.into(),
        version: -1,
    })
}

fn check(path: &'static str, version: i32) -> MultiOp<'static> {
    MultiOp::Check(CheckVersionRequest {
        path: path.into(),
        version,
    })
}

fn read(path: &'static str) -> PathWatchRequest<'static> {
    PathWatchRequest {
        path: path.into(),
        watch: true,
    }
}

fn multi(ops: Vec<MultiOp<'static>>) -> Request<'static> {
    Request::Multi(MultiRequest { ops })
}

/// The codes of a multi's results; success is `None`.
fn codes(world: &mut World, ops: Vec<MultiOp<'static>>) -> Vec<Option<ErrorCode>> {
    let mut client = world.connect();
    let (_, header, body) = world.call(&mut client, OpCode::MULTI, &multi(ops));
    assert_eq!(header.err, ErrorCode::OK, "failures are in the results");
    response(OpCode::MULTI, &body, |reply| match reply {
        Response::Multi(reply) => reply
            .results
            .iter()
            .map(|result| match result {
                MultiResult::Error(code) => Some(*code),
                _ => None,
            })
            .collect(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn each_operation_has_its_result() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let ops = vec![
        MultiOp::Create(create("/m", 0)),
        MultiOp::Create2(create("/m/s-", 2)),
        MultiOp::CreateContainer(create("/m/s-", 2)),
        MultiOp::CreateTtl(CreateTtlRequest {
            path: "/m/ttl".into(),
            data: None,
            acl: Some(vec![Acl::open_unsafe()]),
            flags: 5,
            ttl: 1,
        }),
        set("/m", 0),
        set("/m", 1),
        check("/m", 2),
        delete("/m/s-0000000000"),
    ];
    let (_, header, body) = world.call(&mut client, OpCode::MULTI, &multi(ops));
    assert_eq!(
        (header.err, header.zxid),
        (ErrorCode::OK, Zxid(2)),
        "one zxid for all"
    );
    response(OpCode::MULTI, &body, |reply| {
        let Response::Multi(reply) = reply else {
            panic!("{reply:?}")
        };
        let [
            MultiResult::Create(m),
            MultiResult::Create2(first, stat),
            MultiResult::Create2(second, _),
            MultiResult::Create2(ttl, _),
            MultiResult::SetData(one),
            MultiResult::SetData(two),
            MultiResult::Check,
            MultiResult::Delete,
        ] = &reply.results[..]
        else {
            panic!("{reply:?}")
        };
        let paths = [m, first, second, ttl].map(Ustring::or_empty);
        assert_eq!(
            paths,
            ["/m", "/m/s-0000000000", "/m/s-0000000001", "/m/ttl"]
        );
        assert_eq!((stat.czxid, stat.version), (Zxid(2), 0));
        assert_eq!((one.version, one.num_children, two.version), (1, 3, 2));
    });
    let tree = world.engine.tree();
    let stat = tree.stat(tree.find("/m").unwrap());
    assert_eq!(
        (stat.num_children, stat.cversion, stat.pzxid),
        (2, 4, Zxid(2))
    );
}

/// Found by the differential test: in a multi Java goes by the flags, alone by the operation.
#[test]
fn a_create_with_the_flags_of_a_container_makes_one() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let ops = vec![
        MultiOp::Create(create("/a", 4)),
        MultiOp::Create2(create("/b", 4)),
    ];
    let (_, _, body) = world.call(&mut client, OpCode::MULTI, &multi(ops));
    response(OpCode::MULTI, &body, |reply| {
        let Response::Multi(reply) = reply else {
            panic!("{reply:?}")
        };
        let results = &reply.results[..];
        assert!(
            matches!(
                results,
                [MultiResult::Create2(..), MultiResult::Create2(..)]
            ),
            "{results:?}"
        );
    });
    world.call(
        &mut client,
        OpCode::CREATE,
        &Request::Create(create("/c", 4)),
    );
    let tree = world.engine.tree();
    let is_container = |path| {
        let owner = tree.owner(tree.find(path).unwrap());
        owner == EphemeralOwner::Container
    };
    assert_eq!(["/a", "/b", "/c"].map(is_container), [true, true, false]);
}

#[test]
fn a_failure_is_told_where_it_is_and_leaves_nothing() {
    let mut world = World::new(config());
    let some = Some;
    use ErrorCode as E;
    let rows = vec![
        (vec![delete("/nope")], vec![some(E::NO_NODE)]),
        (
            vec![
                MultiOp::Create(create("/a", 0)),
                delete("/nope"),
                set("/a", 0),
                set("/b", 0),
            ],
            vec![
                some(E::OK),
                some(E::NO_NODE),
                some(E::RUNTIME_INCONSISTENCY),
                some(E::RUNTIME_INCONSISTENCY),
            ],
        ),
        (
            vec![
                MultiOp::Create(create("/a", 0)),
                MultiOp::Create(create("/a", 0)),
            ],
            vec![some(E::OK), some(E::NODE_EXISTS)],
        ),
        (
            vec![check("/zookeeper", 7), set("/zookeeper", 0)],
            vec![some(E::BAD_VERSION), some(E::RUNTIME_INCONSISTENCY)],
        ),
        (
            vec![MultiOp::Create(create("/a", 9))],
            vec![some(E::BAD_ARGUMENTS)],
        ),
        (
            vec![MultiOp::Create(create("/s-", 2)), delete("/zookeeper")],
            vec![some(E::OK), some(E::BAD_ARGUMENTS)],
        ),
        // Gone and back within one transaction.
        (
            vec![
                MultiOp::Create(create("/a", 0)),
                MultiOp::Create(create("/a/b", 1)),
                delete("/a/b"),
                delete("/a"),
            ],
            vec![None; 4],
        ),
        (vec![], vec![]),
    ];
    for (ops, expected) in rows {
        let before = world.engine.tree().node_count();
        let text = format!("{ops:?}");
        assert_eq!(codes(&mut world, ops), expected, "{text}");
        assert_eq!(world.engine.tree().node_count(), before);
    }
    // No failed create moved the root's counter: two creates passed, and a number is the next.
    let mut client = world.connect();
    let (_, _, body) = world.call(
        &mut client,
        OpCode::CREATE,
        &Request::Create(create("/n", 2)),
    );
    response(OpCode::CREATE, &body, |reply| {
        let path = PathResponse {
            path: "/n0000000001".into(),
        };
        assert_eq!(reply, Response::Path(path));
    });
}

#[test]
fn what_follows_a_failed_multi_in_the_same_batch_does_not_see_it() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let failing = multi(vec![MultiOp::Create(create("/a", 0)), delete("/nope")]);
    world.send(&mut client, OpCode::MULTI, &failing);
    world.send(
        &mut client,
        OpCode::CREATE,
        &Request::Create(create("/a/b", 0)),
    );
    world.send(
        &mut client,
        OpCode::CREATE,
        &Request::Create(create("/a", 0)),
    );
    world.commit();
    let errors: Vec<_> = world
        .received(&mut client)
        .into_iter()
        .map(|received| match received {
            support::Received::Reply(header, _) => header.err,
            event @ support::Received::Event(..) => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(errors, [ErrorCode::OK, ErrorCode::NO_NODE, ErrorCode::OK]);
}

#[test]
fn reads_and_writes_do_not_mix() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let mixed = || {
        multi(vec![
            MultiOp::GetData(read("/")),
            MultiOp::Create(create("/a", 0)),
        ])
    };
    let (_, header, body) = world.call(&mut client, OpCode::MULTI, &mixed());
    assert_eq!((header.err, body.len()), (ErrorCode::MARSHALLING_ERROR, 0));
    let (_, header, body) = world.call(&mut client, OpCode::MULTI_READ, &mixed());
    assert_eq!((header.err, body.len()), (ErrorCode::MARSHALLING_ERROR, 0));
    let writes = multi(vec![MultiOp::Create(create("/a", 0)), delete("/a")]);
    let (_, header, body) = world.call(&mut client, OpCode::MULTI_READ, &writes);
    // The end of an empty list comes with it, as from Java.
    assert_eq!(header.err, ErrorCode::MARSHALLING_ERROR);
    assert_eq!(&body[..], [255, 255, 255, 255, 1, 255, 255, 255, 255]);
    // Operations that no multi has.
    for op in [
        OpCode::EXISTS,
        OpCode::DELETE_CONTAINER,
        OpCode::MULTI,
        OpCode(77),
    ] {
        let mut bytes = BytesMut::new();
        MultiHeader {
            op,
            done: false,
            err: ErrorCode(-1),
        }
        .encode(&mut bytes);
        PathRequest { path: "/".into() }.encode(&mut bytes);
        for code in [OpCode::MULTI, OpCode::MULTI_READ] {
            let (_, header, body) = world.call(&mut client, code, &Raw(bytes.to_vec()));
            assert_eq!(
                (header.err, body.len()),
                (ErrorCode::MARSHALLING_ERROR, 0),
                "{op:?} in {code:?}"
            );
        }
    }
    assert!(world.engine.tree().find("/a").is_none());
}

#[test]
fn reads_are_answered_one_by_one() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let ops = vec![
        MultiOp::GetData(read("/nope")),
        MultiOp::GetChildren(read("/zookeeper")),
        MultiOp::GetData(read("/zookeeper")),
    ];
    let (_, header, body) = world.call(&mut client, OpCode::MULTI_READ, &multi(ops));
    assert_eq!(header.err, ErrorCode::OK);
    response(OpCode::MULTI_READ, &body, |reply| {
        let Response::Multi(reply) = reply else {
            panic!("{reply:?}")
        };
        let stat = {
            let tree = world.engine.tree();
            tree.stat(tree.find("/zookeeper").unwrap())
        };
        assert_eq!(
            reply.results,
            [
                MultiResult::Error(ErrorCode::NO_NODE),
                MultiResult::GetChildren(Some(vec!["quota".into(), "config".into()])),
                MultiResult::GetData(Some(Bytes::new()), stat),
            ]
        );
    });
    assert_eq!(
        world.engine.watch_count(),
        0,
        "watches in a multiRead count for nothing"
    );
}

#[test]
fn fs_m5_a_multi_of_twenty_thousand_operations_is_one_transaction() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let ops = (0..20_000)
        .map(|_| MultiOp::Create(create("/n", 2)))
        .collect();
    assert_eq!(
        world.code(&mut client, OpCode::MULTI, &multi(ops)),
        ErrorCode::OK
    );
    assert_eq!(world.engine.tree().node_count(), 20_004);
    assert_eq!(world.engine.tree().last_zxid(), Zxid(2));
}
