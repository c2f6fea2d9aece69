//! A snapshot may be taken while transactions go on, and replay then repeats some of what it holds. Random histories with a
//! snapshot at every step, and one whose walk is spread over several steps, must all end in the tree that served.
//!
//! While serving, a transaction is applied as it was prepared; recovery applies what the log has of it. Each snapshot here,
//! the empty one at the start too, is brought up by the log alone, so all of this compares the two ways.

#![expect(
    clippy::unwrap_used,
    reason = "a snapshot that does not read back is a failure here"
)]

mod support;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use support::{Client, World, config};
use zk_proto::jute::{Decode, Reader};
use zk_proto::session::*;
use zk_proto::txn::{AclEntry, NodeEntry, decode_txn};
use zk_proto::{Acl, Id, OpCode, Perms, SessionId, Zxid};
use zk_server_lite::pipeline::{Append, Database};
use zk_server_lite::tree::{DataTree, SnapshotCursor};

/// What a client does, by small numbers, so that paths meet.
#[derive(Debug, Clone)]
enum Step {
    Create(usize, u8, i32),
    Delete(u8),
    SetData(u8, u8),
    SetAcl(u8, u8),
    /// Kinds of operations and where.
    Multi(usize, Vec<(u8, u8)>),
    Close(usize),
}

fn path(number: u8) -> String {
    // Two levels of few names: parents are deleted and made again.
    match number % 13 {
        12 => "/".to_owned(),
        n @ 0..4 => format!("/{n}"),
        n => format!("/{}/{}", n % 4, n / 4),
    }
}

fn list(number: u8) -> Vec<Acl> {
    let digest = |user: &'static str| Acl {
        perms: Perms::ALL,
        id: Id::new("digest", user),
    };
    match number % 3 {
        0 => vec![Acl::open_unsafe()],
        1 => vec![Acl::open_unsafe(), digest("a:b")],
        _ => vec![digest("c:d"), Acl::open_unsafe()],
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..2usize, any::<u8>(), 0..5i32).prop_map(|(who, at, flags)| Step::Create(who, at, flags)),
        4 => any::<u8>().prop_map(Step::Delete),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(at, data)| Step::SetData(at, data)),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(at, acl)| Step::SetAcl(at, acl)),
        3 => (0..2usize, prop::collection::vec((any::<u8>(), any::<u8>()), 1..6))
            .prop_map(|(who, ops)| Step::Multi(who, ops)),
        1 => (0..2usize).prop_map(Step::Close),
    ]
}

fn request(step: &Step) -> Option<(usize, OpCode, Request<'static>)> {
    let create = |at: u8, flags| CreateRequest {
        path: path(at).into(),
        data: Some(Bytes::from(vec![at; usize::from(at % 5)])),
        acl: Some(list(at)),
        flags,
    };
    Some(match step {
        Step::Create(who, at, 4) => (
            *who,
            OpCode::CREATE_CONTAINER,
            Request::Create(create(*at, 4)),
        ),
        Step::Create(who, at, flags) => {
            (*who, OpCode::CREATE, Request::Create(create(*at, *flags)))
        }
        Step::Delete(at) => (
            0,
            OpCode::DELETE,
            Request::Delete(DeleteRequest {
                path: path(*at).into(),
                version: -1,
            }),
        ),
        Step::SetData(at, data) => (
            0,
            OpCode::SET_DATA,
            Request::SetData(SetDataRequest {
                path: path(*at).into(),
                data: (data % 7 > 0).then(|| vec![*data; usize::from(data % 7)].into()),
                version: -1,
            }),
        ),
        Step::SetAcl(at, acl) => (
            0,
            OpCode::SET_ACL,
            Request::SetAcl(SetAclRequest {
                path: path(*at).into(),
                acl: Some(list(*acl)),
                version: -1,
            }),
        ),
        Step::Multi(who, ops) => {
            let delete = |at: u8| DeleteRequest {
                path: path(at).into(),
                version: -1,
            };
            let ops = ops.iter().map(|(kind, at)| match kind % 11 {
                0 | 1 => MultiOp::Create(create(*at, 0)),
                2 => MultiOp::Create(create(*at, 2)),
                3 => MultiOp::Create2(create(*at, 1)),
                4 => MultiOp::Create(create(*at, 4)),
                5 => MultiOp::CreateContainer(create(*at, 4)),
                6 => {
                    let CreateRequest {
                        path, data, acl, ..
                    } = create(*at, 0);
                    MultiOp::CreateTtl(CreateTtlRequest {
                        path,
                        data,
                        acl,
                        flags: 5,
                        ttl: 1000,
                    })
                }
                7 | 8 => MultiOp::Delete(delete(*at)),
                9 => MultiOp::Check(CheckVersionRequest {
                    path: path(*at).into(),
                    version: i32::from(kind % 2) - 1,
                }),
                _ => MultiOp::SetData(SetDataRequest {
                    path: path(*at).into(),
                    data: (at % 3 > 0).then(|| vec![*at; usize::from(at % 3)].into()),
                    version: -1,
                }),
            });
            (
                *who,
                OpCode::MULTI,
                Request::Multi(MultiRequest { ops: ops.collect() }),
            )
        }
        Step::Close(_) => return None,
    })
}

/// A snapshot under way.
struct Walk {
    sessions: Vec<(SessionId, i32)>,
    bytes: BytesMut,
    cursor: SnapshotCursor,
    done: bool,
}

impl Walk {
    fn begin(world: &World) -> Self {
        let mut bytes = BytesMut::new();
        Self {
            sessions: world.engine.sessions().collect(),
            cursor: world.engine.tree().begin_snapshot(&mut bytes),
            bytes,
            done: false,
        }
    }

    fn go(&mut self, world: &World, nodes: usize) {
        if !self.done {
            self.done =
                world
                    .engine
                    .tree()
                    .snapshot_chunk(&mut self.cursor, nodes, &mut self.bytes);
        }
    }

    /// Loads it, and replays what the log has above it.
    fn restore(&self, log: &[Append]) -> Database {
        assert!(self.done);
        let mut database = Database::for_restore(true);
        for (session, timeout) in &self.sessions {
            database.session(*session, *timeout);
        }
        let bytes = self.bytes.clone().freeze();
        let mut reader = Reader::new(&bytes, "snapshot");
        let count = reader.int("aclCount").unwrap();
        for _ in 0..count {
            let entry = AclEntry::decode(&mut reader).unwrap();
            database.acl(entry.id, &entry.acl.unwrap());
        }
        // The mark that ends the tree takes five bytes.
        while reader.remaining() > 5 {
            let entry = NodeEntry::decode(&mut reader).unwrap();
            database.node(&entry).unwrap();
        }
        database.snapshot_loaded(self.cursor.zxid, None);
        for append in log.iter().filter(|append| append.zxid > self.cursor.zxid) {
            let (header, txn, digest) = decode_txn(&append.payload).unwrap();
            database.replay(&header, &txn, digest);
        }
        database
    }
}

/// All there is to know of a tree: what the digest leaves out, too.
fn image(tree: &DataTree) -> BTreeMap<String, String> {
    let mut image = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let id = tree.find(&path).unwrap();
        let node = tree.node(id);
        image.insert(
            path.clone(),
            format!("{:?} {:?} {:?}", node.data(), node.stat, tree.acl(id)),
        );
        todo.extend(tree.children(id).map(|name| format!("{path}/{name}")));
    }
    image
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(config());
    let mut clients: Vec<Client> = (0..2).map(|_| world.connect()).collect();
    let mut walks = vec![Walk::begin(&world)];
    for step in steps {
        match (request(step), step) {
            (Some((who, op, request)), _) => {
                world.call(&mut clients[who], op, &request);
            }
            (None, Step::Close(who)) => {
                world.call(
                    &mut clients[*who],
                    OpCode::CLOSE_SESSION,
                    &support::Raw(vec![]),
                );
                clients[*who] = world.connect();
            }
            (None, _) => {}
        }
        // Every other walk goes on by one node, so it sees the tree at many times; the rest see only its end.
        for walk in walks.iter_mut().step_by(2) {
            walk.go(&world, 1);
        }
        walks.push(Walk::begin(&world));
    }
    let served = world.engine.tree();
    for walk in &mut walks {
        walk.go(&world, 1 << 20);
        let restored = walk.restore(&world.log);
        prop_assert_eq!(
            image(&restored.tree),
            image(served),
            "from {:?}",
            walk.cursor.zxid
        );
        prop_assert_eq!(restored.tree.digest(), served.digest());
        prop_assert_eq!(restored.tree.data_size(), served.data_size());
        prop_assert_eq!(restored.tree.last_zxid(), served.last_zxid());
        let sessions: BTreeMap<_, _> = world.engine.sessions().collect();
        prop_assert_eq!(&restored.sessions, &sessions);
        let ephemerals = |tree: &DataTree| -> Vec<(SessionId, Vec<String>)> {
            tree.all_ephemerals()
                .map(|(id, paths)| (id, paths.iter().map(|path| path.to_string()).collect()))
                .collect()
        };
        prop_assert_eq!(ephemerals(&restored.tree), ephemerals(served));
    }
    prop_assert_eq!(served.last_zxid(), Zxid(world.log.len() as i64));
    Ok(())
}

/// What the log does after a step.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Waits,
    ForcesHalf,
    ForcesAll,
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![3 => Just(Pace::Waits), 1 => Just(Pace::ForcesHalf), 1 => Just(Pace::ForcesAll)]
}

/// Lets the log catch up with a part of what it was not told to be safe yet.
fn force(world: &mut World, pace: Pace) {
    world.engine.take_appends(&mut world.log);
    let safe = world.engine.tree().last_zxid().0;
    let last = world.log.last().map_or(0, |append| append.zxid.0);
    let up_to = match pace {
        Pace::Waits => return,
        Pace::ForcesHalf => safe + (last - safe) / 2,
        Pace::ForcesAll => last,
    };
    let now = world.now();
    world.engine.committed(Zxid(up_to), now);
}

/// Runs steps while the log keeps its pace; returns all there was to see: the log, and what each client received.
fn paced(steps: &[(Step, Pace)]) -> (World, Vec<support::Received>) {
    let mut world = World::new(config());
    let mut clients: Vec<Client> = (0..2).map(|_| world.connect()).collect();
    let mut seen = [Vec::new(), Vec::new()];
    for (step, pace) in steps {
        match (request(step), step) {
            (Some((who, op, request)), _) => {
                world.send(&mut clients[who], op, &request);
            }
            (None, Step::Close(who)) => {
                world.send(
                    &mut clients[*who],
                    OpCode::CLOSE_SESSION,
                    &support::Raw(vec![]),
                );
                force(&mut world, Pace::ForcesAll);
                seen[*who].extend(world.received(&mut clients[*who]));
                clients[*who] = world.connect();
            }
            (None, _) => {}
        }
        force(&mut world, *pace);
    }
    force(&mut world, Pace::ForcesAll);
    for (seen, client) in seen.iter_mut().zip(&mut clients) {
        seen.extend(world.received(client));
    }
    (world, seen.concat())
}

fn how_late_the_log_is_does_not_matter(steps: &[(Step, Pace)]) -> Result<(), TestCaseError> {
    let at_once: Vec<_> = steps
        .iter()
        .map(|(step, _)| (step.clone(), Pace::ForcesAll))
        .collect();
    let (late, told_late) = paced(steps);
    let (prompt, told_promptly) = paced(&at_once);
    prop_assert_eq!(&late.log, &prompt.log);
    prop_assert_eq!(told_late, told_promptly);
    prop_assert_eq!(image(late.engine.tree()), image(prompt.engine.tree()));
    let mut replayed = Database::empty(true);
    for append in &late.log {
        let (header, txn, digest) = decode_txn(&append.payload).unwrap();
        replayed.replay(&header, &txn, digest);
    }
    prop_assert_eq!(image(&replayed.tree), image(late.engine.tree()));
    prop_assert_eq!(replayed.tree.digest(), late.engine.tree().digest());
    prop_assert_eq!(replayed.tree.data_size(), late.engine.tree().data_size());
    prop_assert_eq!(replayed.tree.last_zxid(), late.engine.tree().last_zxid());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fuzzy_snapshot_and_the_log_lead_to_the_tree_that_served(steps in prop::collection::vec(step(), 1..50)) {
        run(&steps)?;
    }

    #[test]
    fn answers_and_log_do_not_depend_on_when_the_log_is_forced(steps in prop::collection::vec((step(), pace()), 1..80)) {
        how_late_the_log_is_does_not_matter(&steps)?;
    }
}

/// A node that was deleted and made again, with a child by the time the walk meets it: the log's word on the first one must
/// not reach the second.
#[test]
fn a_transaction_does_not_touch_a_later_node_of_its_path() {
    let steps = [
        Step::Create(0, 0, 0),
        Step::SetData(0, 1),
        Step::Delete(0),
        Step::Create(0, 0, 0),
        Step::Create(0, 4, 0),
    ];
    run(&steps).unwrap();
}
