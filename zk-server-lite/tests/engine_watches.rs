//! What fires, for whom, in which order, and with which zxid (client-protocol, 8).

mod support;

use bytes::Bytes;
use support::{Client, Raw, Received, World, config, create};
use zk_proto::jute::Ustring;
use zk_proto::session::*;
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, Zxid};

const CREATED: i32 = 1;
const DELETED: i32 = 2;
const DATA: i32 = 3;
const CHILDREN: i32 = 4;

fn delete(path: &'static str) -> Request<'static> {
    Request::Delete(DeleteRequest {
        path: path.into(),
        version: -1,
    })
}

fn set_data(path: &'static str) -> Request<'static> {
    Request::SetData(SetDataRequest {
        path: path.into(),
        data: None,
        version: -1,
    })
}

fn read(path: &'static str) -> Request<'static> {
    Request::PathWatch(PathWatchRequest {
        path: path.into(),
        watch: true,
    })
}

fn add(path: &'static str, mode: AddWatchMode) -> Request<'static> {
    Request::AddWatch(AddWatchRequest {
        path: path.into(),
        mode,
    })
}

fn kind(path: &'static str, watcher_type: WatcherType) -> Request<'static> {
    Request::WatcherType(WatcherTypeRequest {
        path: path.into(),
        watcher_type,
    })
}

fn ok(world: &mut World, client: &mut Client, op: OpCode, request: &Request<'_>) {
    assert_eq!(
        world.code(client, op, request),
        ErrorCode::OK,
        "{op:?} {request:?}"
    );
}

/// The events a connection has received, and no reply.
fn events(world: &mut World, client: &mut Client) -> Vec<(i32, String)> {
    world
        .received(client)
        .into_iter()
        .map(|received| match received {
            Received::Event(kind, path, _) => (kind, path),
            reply @ Received::Reply(..) => panic!("{reply:?}"),
        })
        .collect()
}

/// A change, as the request that makes it.
type Change = (OpCode, Request<'static>);

/// A registration, whether its node is there before, a change, and the events it fires.
type Row = (
    OpCode,
    Request<'static>,
    bool,
    Change,
    Vec<(i32, &'static str)>,
);

fn created() -> Change {
    (OpCode::CREATE, create("/p/t", "", 0))
}

fn changed() -> Change {
    (OpCode::SET_DATA, set_data("/p/t"))
}

fn deleted() -> Change {
    (OpCode::DELETE, delete("/p/t"))
}

fn acl_changed() -> Change {
    let request = Request::SetAcl(SetAclRequest {
        path: "/p/t".into(),
        acl: Some(vec![Acl::open_unsafe()]),
        version: -1,
    });
    (OpCode::SET_ACL, request)
}

#[test]
fn each_change_fires_what_the_table_says() {
    let t = |kind| vec![(kind, "/p/t")];
    let p = |kind| vec![(kind, "/p")];
    // Registration, whether the node is there before, change, events.
    let rows: Vec<Row> = vec![
        (OpCode::EXISTS, read("/p/t"), false, created(), t(CREATED)),
        (OpCode::EXISTS, read("/p/t"), true, changed(), t(DATA)),
        (OpCode::EXISTS, read("/p/t"), true, deleted(), t(DELETED)),
        (OpCode::EXISTS, read("/p/t"), true, acl_changed(), vec![]),
        (OpCode::GET_DATA, read("/p/t"), true, changed(), t(DATA)),
        (OpCode::GET_DATA, read("/p/t"), true, deleted(), t(DELETED)),
        (OpCode::GET_DATA, read("/p"), false, created(), vec![]),
        (OpCode::GET_CHILDREN, read("/p/t"), true, changed(), vec![]),
        (
            OpCode::GET_CHILDREN,
            read("/p/t"),
            true,
            deleted(),
            t(DELETED),
        ),
        (
            OpCode::GET_CHILDREN2,
            read("/p"),
            false,
            created(),
            p(CHILDREN),
        ),
        (
            OpCode::GET_CHILDREN2,
            read("/p"),
            true,
            deleted(),
            p(CHILDREN),
        ),
        (OpCode::GET_CHILDREN, read("/p"), true, changed(), vec![]),
        (OpCode::GET_CHILDREN, read("/"), true, deleted(), vec![]),
        (
            OpCode::ADD_WATCH,
            add("/p/t", AddWatchMode::PERSISTENT),
            false,
            created(),
            t(CREATED),
        ),
        (
            OpCode::ADD_WATCH,
            add("/p/t", AddWatchMode::PERSISTENT),
            true,
            deleted(),
            t(DELETED),
        ),
        (
            OpCode::ADD_WATCH,
            add("/p", AddWatchMode::PERSISTENT),
            false,
            created(),
            p(CHILDREN),
        ),
        (
            OpCode::ADD_WATCH,
            add("/p", AddWatchMode::PERSISTENT),
            true,
            changed(),
            vec![],
        ),
        (
            OpCode::ADD_WATCH,
            add("/", AddWatchMode::PERSISTENT),
            true,
            deleted(),
            vec![],
        ),
        (
            OpCode::ADD_WATCH,
            add("/p", AddWatchMode::PERSISTENT_RECURSIVE),
            false,
            created(),
            t(CREATED),
        ),
        (
            OpCode::ADD_WATCH,
            add("/", AddWatchMode::PERSISTENT_RECURSIVE),
            true,
            changed(),
            t(DATA),
        ),
        (
            OpCode::ADD_WATCH,
            add("/p/t", AddWatchMode::PERSISTENT_RECURSIVE),
            true,
            deleted(),
            t(DELETED),
        ),
        (
            OpCode::ADD_WATCH,
            add("/p/tt", AddWatchMode::PERSISTENT_RECURSIVE),
            true,
            deleted(),
            vec![],
        ),
    ];
    for (op, registration, there, (change, request), expected) in rows {
        let mut world = World::new(config());
        let (mut watcher, mut writer) = (world.connect(), world.connect());
        ok(
            &mut world,
            &mut writer,
            OpCode::CREATE,
            &create("/p", "", 0),
        );
        if there {
            ok(
                &mut world,
                &mut writer,
                OpCode::CREATE,
                &create("/p/t", "", 0),
            );
        }
        let code = world.code(&mut watcher, op, &registration);
        assert!(matches!(code, ErrorCode::OK | ErrorCode::NO_NODE));
        ok(&mut world, &mut writer, change, &request);
        let zxid = world.engine.tree().last_zxid();
        let got = world.received(&mut watcher);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(kind, path)| Received::Event(kind, path.to_owned(), zxid))
            .collect();
        assert_eq!(got, expected, "{op:?} {registration:?}, then {request:?}");
    }
}

#[test]
fn a_registration_repeated_fires_once_and_a_read_that_fails_leaves_none() {
    let mut world = World::new(config());
    let (mut watcher, mut writer) = (world.connect(), world.connect());
    for op in [OpCode::GET_DATA, OpCode::GET_CHILDREN] {
        assert_eq!(
            world.code(&mut watcher, op, &read("/a")),
            ErrorCode::NO_NODE
        );
    }
    ok(
        &mut world,
        &mut writer,
        OpCode::CREATE,
        &create("/a", "", 0),
    );
    assert_eq!(events(&mut world, &mut watcher), []);
    for op in [OpCode::EXISTS, OpCode::GET_DATA, OpCode::EXISTS] {
        ok(&mut world, &mut watcher, op, &read("/a"));
    }
    for _ in 0..2 {
        ok(&mut world, &mut writer, OpCode::SET_DATA, &set_data("/a"));
    }
    assert_eq!(events(&mut world, &mut watcher), [(DATA, "/a".to_owned())]);
    // A read with its watch, before a multiRead, whose watches count for nothing.
    let multi = Request::Multi(MultiRequest {
        ops: vec![MultiOp::GetData(PathWatchRequest {
            path: "/a".into(),
            watch: true,
        })],
    });
    ok(&mut world, &mut watcher, OpCode::MULTI_READ, &multi);
    ok(&mut world, &mut writer, OpCode::SET_DATA, &set_data("/a"));
    assert_eq!(events(&mut world, &mut watcher), []);
}

#[test]
fn all_modes_stand_side_by_side_and_a_multi_tells_its_steps_in_order() {
    let mut world = World::new(config());
    let (mut watcher, mut writer) = (world.connect(), world.connect());
    ok(
        &mut world,
        &mut writer,
        OpCode::CREATE,
        &create("/p", "", 0),
    );
    for mode in [AddWatchMode::PERSISTENT, AddWatchMode::PERSISTENT_RECURSIVE] {
        ok(
            &mut world,
            &mut watcher,
            OpCode::ADD_WATCH,
            &add("/p", mode),
        );
    }
    for op in [OpCode::GET_DATA, OpCode::GET_CHILDREN] {
        ok(&mut world, &mut watcher, op, &read("/p"));
    }
    let multi = Request::Multi(MultiRequest {
        ops: vec![
            MultiOp::Create(CreateRequest {
                path: "/p/c".into(),
                data: None,
                acl: Some(vec![Acl::open_unsafe()]),
                flags: 0,
            }),
            MultiOp::SetData(SetDataRequest {
                path: "/p/c".into(),
                data: None,
                version: 0,
            }),
            MultiOp::Delete(DeleteRequest {
                path: "/p/c".into(),
                version: 1,
            }),
        ],
    });
    ok(&mut world, &mut writer, OpCode::MULTI, &multi);
    let event = |kind, path: &str| (kind, path.to_owned());
    assert_eq!(
        events(&mut world, &mut watcher),
        [
            event(CREATED, "/p/c"),
            event(CHILDREN, "/p"),
            event(DATA, "/p/c"),
            event(DELETED, "/p/c"),
            event(CHILDREN, "/p"),
        ]
    );
    // The standard watch on the data is still there, beside the others; one event answers all.
    for _ in 0..2 {
        ok(&mut world, &mut writer, OpCode::SET_DATA, &set_data("/p"));
    }
    assert_eq!(
        events(&mut world, &mut watcher),
        [event(DATA, "/p"), event(DATA, "/p")]
    );
    ok(&mut world, &mut writer, OpCode::DELETE, &delete("/p"));
    // Data and child table both know of the end, and the connection is told once.
    assert_eq!(events(&mut world, &mut watcher), [event(DELETED, "/p")]);
    ok(
        &mut world,
        &mut writer,
        OpCode::CREATE,
        &create("/p", "", 0),
    );
    assert_eq!(events(&mut world, &mut watcher), [event(CREATED, "/p")]);
}

#[test]
fn fs_m8_who_may_not_read_is_not_told() {
    let mut world = World::new(config());
    let (mut watcher, mut writer) = (world.connect(), world.connect());
    let auth = Request::Auth(AuthPacket {
        auth_type: 0,
        scheme: "digest".into(),
        auth: Bytes::from_static(b"bob:pw").into(),
    });
    ok(&mut world, &mut writer, OpCode::AUTH, &auth);
    let locked = Request::Create(CreateRequest {
        path: "/secret".into(),
        data: None,
        acl: Some(vec![Acl {
            perms: Perms::ALL,
            id: Id::new("auth", ""),
        }]),
        flags: 0,
    });
    for mode in [AddWatchMode::PERSISTENT, AddWatchMode::PERSISTENT_RECURSIVE] {
        for path in ["/", "/secret"] {
            ok(
                &mut world,
                &mut watcher,
                OpCode::ADD_WATCH,
                &add(path, mode),
            );
        }
    }
    ok(&mut world, &mut writer, OpCode::CREATE, &locked);
    // The root may be read by everyone.
    assert_eq!(
        events(&mut world, &mut watcher),
        [(CHILDREN, "/".to_owned())]
    );
    ok(
        &mut world,
        &mut writer,
        OpCode::SET_DATA,
        &set_data("/secret"),
    );
    assert_eq!(events(&mut world, &mut watcher), []);
    ok(
        &mut world,
        &mut writer,
        OpCode::CREATE,
        &create("/secret/open", "", 0),
    );
    assert_eq!(
        events(&mut world, &mut watcher),
        [(CREATED, "/secret/open".to_owned())],
        "the child says of itself who may know"
    );
    ok(
        &mut world,
        &mut writer,
        OpCode::DELETE,
        &delete("/secret/open"),
    );
    ok(&mut world, &mut writer, OpCode::DELETE, &delete("/secret"));
    assert_eq!(
        events(&mut world, &mut watcher),
        [
            (DELETED, "/secret/open".to_owned()),
            (CHILDREN, "/".to_owned())
        ]
    );
}

#[test]
fn set_watches_tells_what_was_missed() {
    // Node state against the zxid seen: gone, unchanged since, changed since.
    let mut world = World::new(config());
    let mut writer = world.connect();
    for path in ["/old", "/new", "/gone"] {
        ok(
            &mut world,
            &mut writer,
            OpCode::CREATE,
            &create(path, "", 0),
        );
    }
    let seen = world.engine.tree().last_zxid();
    ok(&mut world, &mut writer, OpCode::SET_DATA, &set_data("/new"));
    ok(
        &mut world,
        &mut writer,
        OpCode::CREATE,
        &create("/new/c", "", 0),
    );
    ok(&mut world, &mut writer, OpCode::DELETE, &delete("/gone"));
    let all = || Some(vec!["/gone".into(), "/old".into(), "/new".into()]);
    let event = |kind, path: &str| (kind, path.to_owned());
    type List = Option<Vec<Ustring<'static>>>;
    let lists = |at: usize| -> Request<'static> {
        let pick = |n: usize| -> List { if n == at { all() } else { None } };
        Request::SetWatches2(SetWatches2 {
            relative_zxid: seen,
            data_watches: pick(0),
            exist_watches: pick(1),
            child_watches: pick(2),
            persistent_watches: pick(3),
            persistent_recursive_watches: pick(4),
        })
    };
    let now = [
        vec![event(DELETED, "/gone"), event(DATA, "/new")],
        vec![event(CREATED, "/old"), event(CREATED, "/new")],
        vec![event(DELETED, "/gone"), event(CHILDREN, "/new")],
        vec![],
        vec![],
    ];
    // Which of the three is registered afterwards, by what a second round of changes fires.
    let later = [
        vec![event(DATA, "/old"), event(DELETED, "/old")],
        vec![event(CREATED, "/gone")],
        vec![event(DELETED, "/old")],
        vec![
            event(CREATED, "/gone"),
            event(DATA, "/old"),
            event(DELETED, "/old"),
            event(DATA, "/new"),
        ],
        vec![
            event(CREATED, "/gone"),
            event(DATA, "/old"),
            event(DELETED, "/old"),
            event(DATA, "/new"),
        ],
    ];
    let mut watchers: Vec<Client> = (0..5).map(|_| world.connect()).collect();
    for (at, watcher) in watchers.iter_mut().enumerate() {
        let (events, header, _) = world.call(watcher, OpCode::SET_WATCHES2, &lists(at));
        assert_eq!(header.err, ErrorCode::OK);
        assert_eq!(events, now[at], "list {at}");
    }
    for (op, request) in [
        (OpCode::CREATE, create("/gone", "", 0)),
        (OpCode::SET_DATA, set_data("/old")),
        (OpCode::DELETE, delete("/old")),
        (OpCode::SET_DATA, set_data("/new")),
    ] {
        ok(&mut world, &mut writer, op, &request);
    }
    for (at, watcher) in watchers.iter_mut().enumerate() {
        let mut expected = later[at].clone();
        if at == 0 {
            // One shot.
            expected.truncate(1);
        }
        assert_eq!(events(&mut world, watcher), expected, "list {at}");
    }
}

#[test]
fn events_made_by_set_watches_carry_no_zxid() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let request = Request::SetWatches(SetWatches {
        relative_zxid: Zxid(0),
        data_watches: Some(vec!["/zookeeper".into(), "/nope".into()]),
        exist_watches: None,
        child_watches: Some(vec!["/nope".into()]),
    });
    world.send(&mut client, OpCode::SET_WATCHES, &request);
    let received = world.received(&mut client);
    let event = |kind, path: &str| Received::Event(kind, path.to_owned(), Zxid(-1));
    assert_eq!(
        received[..2],
        [event(DELETED, "/nope"), event(DELETED, "/nope")]
    );
    assert!(matches!(received[2..], [Received::Reply(..)]));
}

#[test]
fn watches_are_checked_and_removed_by_type() {
    let registrations = [
        (OpCode::GET_CHILDREN, read("/a"), WatcherType::CHILDREN),
        (OpCode::EXISTS, read("/a"), WatcherType::DATA),
        (
            OpCode::ADD_WATCH,
            add("/a", AddWatchMode::PERSISTENT),
            WatcherType::PERSISTENT,
        ),
        (
            OpCode::ADD_WATCH,
            add("/a", AddWatchMode::PERSISTENT_RECURSIVE),
            WatcherType::PERSISTENT_RECURSIVE,
        ),
    ];
    for (op, registration, own) in registrations {
        for asked in (0..=6).map(WatcherType) {
            let mut world = World::new(config());
            let mut client = world.connect();
            ok(
                &mut world,
                &mut client,
                OpCode::CREATE,
                &create("/a", "", 0),
            );
            ok(&mut world, &mut client, op, &registration);
            let expected = match asked.0 {
                1..=5 if asked == own || asked == WatcherType::ANY => ErrorCode::OK,
                1..=5 => ErrorCode::NO_WATCHER,
                _ => ErrorCode::MARSHALLING_ERROR,
            };
            for path in ["/a/b", "/"] {
                let code = world.code(&mut client, OpCode::CHECK_WATCHES, &kind(path, asked));
                assert_ne!(code, ErrorCode::OK);
            }
            for op in [OpCode::CHECK_WATCHES, OpCode::REMOVE_WATCHES] {
                let code = world.code(&mut client, op, &kind("/a", asked));
                assert_eq!(code, expected, "{own:?} asked for as {asked:?}");
            }
            let left = world.code(
                &mut client,
                OpCode::CHECK_WATCHES,
                &kind("/a", WatcherType::ANY),
            );
            assert_eq!(left == ErrorCode::OK, expected != ErrorCode::OK);
            let (events, _, _) = world.call(&mut client, OpCode::DELETE, &delete("/a"));
            assert_eq!(events.is_empty(), expected == ErrorCode::OK);
        }
    }
}

#[test]
fn watches_die_with_their_connection() {
    let mut world = World::new(config());
    let (mut watcher, mut writer) = (world.connect(), world.connect());
    ok(
        &mut world,
        &mut watcher,
        OpCode::ADD_WATCH,
        &add("/", AddWatchMode::PERSISTENT_RECURSIVE),
    );
    assert_eq!(world.engine.watch_count(), 1);
    world.engine.detach(watcher.conn);
    assert_eq!(world.engine.watch_count(), 0);
    let mut again = world.attach();
    (again.session, again.passwd) = (watcher.session, watcher.passwd.clone());
    assert!(world.handshake(&mut again, 5000, Zxid(0)).unwrap().timeout > 0);
    ok(
        &mut world,
        &mut writer,
        OpCode::CREATE,
        &create("/a", "", 0),
    );
    assert_eq!(events(&mut world, &mut again), []);
}

#[test]
fn add_watch_answers_with_a_code_of_its_own_and_refuses_unknown_modes() {
    let mut world = World::new(config());
    let mut client = world.connect();
    let (_, header, body) = world.call(
        &mut client,
        OpCode::ADD_WATCH,
        &add("not a path", AddWatchMode::PERSISTENT),
    );
    assert_eq!((header.err, &body[..]), (ErrorCode::OK, &[0; 4][..]));
    for mode in [-1, 2] {
        assert_eq!(
            world.code(
                &mut client,
                OpCode::ADD_WATCH,
                &add("/a", AddWatchMode(mode))
            ),
            ErrorCode::MARSHALLING_ERROR
        );
    }
    let null = Raw(vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(
        world.code(&mut client, OpCode::ADD_WATCH, &null),
        ErrorCode::MARSHALLING_ERROR
    );
}

/// The root has two names inside, and one outside.
#[test]
fn a_change_of_the_root_is_told_under_its_name() {
    let mut world = World::new(config());
    let mut client = world.connect();
    ok(&mut world, &mut client, OpCode::GET_DATA, &read("/"));
    // A child on its way gives the root a record as a parent.
    world.send(&mut client, OpCode::CREATE, &create("/a", "", 0));
    world.send(&mut client, OpCode::SET_DATA, &set_data("/"));
    world.commit();
    let told: Vec<_> = world
        .received(&mut client)
        .into_iter()
        .filter_map(|received| match received {
            Received::Event(kind, path, _) => Some((kind, path)),
            Received::Reply(header, _) => {
                assert_eq!(header.err, ErrorCode::OK);
                None
            }
        })
        .collect();
    assert_eq!(told, [(DATA, "/".to_owned())]);
}
