//! `autopurge` of a whole server: what it keeps is enough, whatever happens to the newest snapshots and whenever the power
//! fails.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod failing_disk;
mod raw;

use std::path::Path;
use std::sync::Arc;

use failing_disk::{Call, FailingDisk, Role};
use raw::{Raw, eventually};
use zk_proto::ErrorCode;
use zk_server_lite::ZkServer;
use zk_server_lite::storage::Disk;
use zk_server_lite::storage::memory::Crash;

/// Starts on a directory of two folders, with a purge at the start and many snapshots.
fn start(dir: &Path, disk: &FailingDisk, interval_hours: u64, retain: usize) -> ZkServer {
    let builder = ZkServer::builder()
        .data_dir(dir.join("data"))
        .data_log_dir(dir.join("logs"))
        .configure(|config| {
            config.pre_alloc_kb = 0;
            config.snap_count = 10;
            config.purge_interval_hours = interval_hours;
            config.purge_retain = retain;
        })
        .on_disk(Arc::new(disk.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(builder.start()).unwrap()
}

/// The zxids in the names of a kind, in order.
fn zxids(dir: &Path, disk: &FailingDisk, start: &str) -> Vec<i64> {
    let folder = if start == "log." { "logs" } else { "data" };
    let names = disk.list(&dir.join(folder).join("version-2")).unwrap();
    let zxids = names
        .iter()
        .filter_map(|name| name.strip_prefix(start))
        .map(|hex| i64::from_str_radix(hex, 16).unwrap());
    let mut zxids: Vec<_> = zxids.collect();
    zxids.sort_unstable();
    zxids
}

/// Makes nodes until there are so many snapshots; says how many nodes there are.
fn fill(dir: &Path, disk: &FailingDisk, server: &ZkServer, from: usize, snapshots: usize) -> usize {
    let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
    let mut made = from;
    eventually("enough snapshots", || {
        assert_eq!(client.create(&format!("/n{made}"), b"x", 0), ErrorCode::OK);
        made += 1;
        zxids(dir, disk, "snapshot.").len() >= snapshots
    });
    made
}

fn has_all(server: &ZkServer, count: usize) {
    let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
    for number in 0..count {
        assert!(client.get(&format!("/n{number}")).is_some(), "/n{number}");
    }
}

fn new_place() -> (tempfile::TempDir, FailingDisk) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["data", "logs"] {
        // For the locks, which are real.
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    (dir, FailingDisk::default())
}

#[test]
fn a_start_purges_to_the_retained_snapshots_and_the_logs_that_the_oldest_of_them_needs() {
    let (place, disk) = new_place();
    let dir = place.path();
    let mut made = 0;
    // Too few are asked for, and more than three.
    for (retain, kept) in [(1, 3), (4, 4)] {
        let server = start(dir, &disk, 0, retain);
        made = fill(dir, &disk, &server, made, 12);
        drop(server);
        let logs = zxids(dir, &disk, "log.");
        let snapshots = zxids(dir, &disk, "snapshot.");

        let server = start(dir, &disk, 1, retain);
        eventually("the purge", || zxids(dir, &disk, "snapshot.").len() == kept);
        let left = zxids(dir, &disk, "snapshot.");
        assert_eq!(left, snapshots[snapshots.len() - kept..]);
        let needed = logs.iter().rposition(|first| *first <= left[0]).unwrap();
        assert!(needed > 0, "there was something to remove");
        eventually("the logs follow", || {
            zxids(dir, &disk, "log.").starts_with(&logs[needed..])
        });
        has_all(&server, made);
        drop(server);
        // Each of those kept is enough by itself.
        let worn = disk.crash(Crash::KeepAll);
        for lost in left.iter().rev().take(kept - 1) {
            let path = dir.join(format!("data/version-2/snapshot.{lost:x}"));
            worn.remove(&path).unwrap();
            has_all(&start(dir, &worn, 0, 3), made);
        }
    }
}

#[test]
fn fs_d11_a_power_cut_anywhere_in_a_purge_loses_nothing() {
    let (place, disk) = new_place();
    let dir = place.path();
    let server = start(dir, &disk, 0, 3);
    let made = fill(dir, &disk, &server, 0, 8);
    drop(server);
    let count = |disk: &FailingDisk, name| zxids(dir, disk, name).len();
    let whole = disk.crash(Crash::KeepAll);
    let server = start(dir, &whole, 1, 3);
    eventually("a whole purge", || count(&whole, "snapshot.") == 3);
    // It does not end in the middle of one.
    drop(server);
    for (role, name) in [(Role::Snapshot, "snapshot."), (Role::Log, "log.")] {
        let removed = count(&disk, name) - count(&whole, name);
        assert!(removed >= 4, "{removed} of {name}");
        for passing in 0..removed {
            let disk = disk.crash(Crash::KeepAll);
            disk.hold_after(passing, role, Call::Remove);
            let server = start(dir, &disk, 1, 3);
            disk.wait_until_held();
            let tear = Crash::Tear(passing as u64);
            let crashes = [Crash::LoseAll, Crash::KeepAll, tear].map(|crash| disk.crash(crash));
            disk.release();
            drop(server);
            for crash in crashes {
                has_all(&start(dir, &crash, 0, 3), made);
            }
        }
    }
}

#[test]
fn a_purge_goes_on_beside_writes_and_snapshots() {
    let (place, disk) = new_place();
    let dir = place.path();
    let server = start(dir, &disk, 0, 3);
    let made = fill(dir, &disk, &server, 0, 8);
    drop(server);
    let old = zxids(dir, &disk, "snapshot.");
    let kept = old[old.len() - 3];
    disk.hold(Role::Snapshot, Call::Remove);
    let server = start(dir, &disk, 1, 3);
    disk.wait_until_held();
    // New snapshots and logs appear while it stands in the middle.
    let made = fill(dir, &disk, &server, made, 13);
    disk.release();
    eventually("it removes what was old when it began", || {
        zxids(dir, &disk, "snapshot.")[0] == kept
    });
    has_all(&server, made);
    drop(server);
    has_all(&start(dir, &disk.crash(Crash::LoseAll), 0, 3), made);
}

#[test]
fn without_an_interval_nothing_is_ever_purged() {
    let (place, disk) = new_place();
    let dir = place.path();
    let server = start(dir, &disk, 0, 3);
    let made = fill(dir, &disk, &server, 0, 8);
    drop(server);
    let server = start(dir, &disk, 0, 3);
    has_all(&server, made);
    drop(server);
    let snapshots = zxids(dir, &disk, "snapshot.");
    assert!(snapshots.len() >= 8 && snapshots[0] == 0, "{snapshots:?}");
    assert_eq!(zxids(dir, &disk, "log.")[0], 1);
}
