//! Directories written by Apache ZooKeeper, loaded into the engine's database: the digests in snapshots and logs prove,
//! transaction by transaction, that the tree is Java's.

use std::path::{Path, PathBuf};

use zk_proto::Zxid;
use zk_server_lite::pipeline::{Database, Engine, EngineConfig};
use zk_server_lite::storage::{RealDisk, RecoverOptions, Recovered, recover};
use zk_server_lite::time::Time;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
        .join("version-2")
}

fn load(directory: &Path) -> (Recovered, Database) {
    load_from(directory, directory)
}

fn load_from(directory: &Path, logs: &Path) -> (Recovered, Database) {
    let options = RecoverOptions {
        repair: false,
        ..RecoverOptions::default()
    };
    let mut database = Database::for_restore(true);
    let recovered = recover(&RealDisk, directory, logs, &options, &mut database)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    assert_eq!(database.digest_mismatch(), None, "{}", directory.display());
    assert_eq!(database.tree.last_zxid(), recovered.last_zxid);
    (recovered, database)
}

#[test]
fn snapshots_and_logs_of_java_load_with_javas_digests() {
    for name in [
        "standalone-plain",
        "standalone-gz",
        "standalone-snappy",
        "torn-cut",
        "torn-zeroed",
        "no-eor",
        "foreign-minimal",
        "ensemble/node1",
        "ensemble/node2",
        "ensemble/node3",
        "ensemble/node4",
    ] {
        let (recovered, database) = if name.starts_with("ensemble") {
            load_from(
                &sample(&format!("{name}/data")),
                &sample(&format!("{name}/log")),
            )
        } else {
            load(&sample(name))
        };
        assert!(recovered.last_zxid > Zxid(0), "{name}");
        // Serving begins from it without a change that is not a transaction, but for ephemeral nodes without a session.
        let nodes = database.tree.node_count();
        let orphans: usize = database
            .tree
            .all_ephemerals()
            .filter(|(session, _)| !database.sessions.contains_key(session))
            .map(|(_, paths)| paths.len())
            .sum();
        let engine = Engine::new(EngineConfig::default(), database, Time::default());
        assert_eq!(engine.tree().node_count(), nodes - orphans, "{name}");
    }
}

#[test]
fn a_whole_log_replays_to_the_tree_of_the_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let from = sample("standalone-plain");
    let mut newest = (Zxid(0), PathBuf::new());
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let to = directory.path().join(&name);
        std::fs::copy(entry.path(), &to).unwrap();
        if let Some(zxid) = name.strip_prefix("snapshot.") {
            newest = newest.max((Zxid(i64::from_str_radix(zxid, 16).unwrap()), to));
        }
    }
    let (_, whole) = load(directory.path());
    std::fs::remove_file(&newest.1).unwrap();
    let (recovered, replayed) = load(directory.path());
    assert!(recovered.replayed > 10);
    assert_eq!(replayed.tree.digest(), whole.tree.digest());
    assert_eq!(replayed.sessions, whole.sessions);
}
