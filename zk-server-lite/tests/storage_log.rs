//! The writing side: bytes as Java writes them, fail-stop, full disks, segments, snapshots, purge, lock, epochs, secret.

#![allow(
    clippy::unwrap_used,
    reason = "where a helper of a test fails, the test fails"
)]

mod storage_support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage_support::{
    create, initial, load_sample, recover_model, recover_with, write_snapshot, write_snapshot_to,
};
use zk_proto::Zxid;
use zk_server_lite::storage::memory::{Crash, MemoryDisk};
use zk_server_lite::storage::{
    Compression, DataDir, Disk, Epochs, History, LogOptions, LogReader, RealDisk, RecoverOptions,
    SessionSecret, StorageError, TxnLog, purge,
};

const SNAP: &str = "/snap";
const LOG: &str = "/log";

fn empty() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new(SNAP)).unwrap();
    disk.create_dir(Path::new(LOG)).unwrap();
    disk
}

fn log_of(disk: &MemoryDisk, preallocate: u64) -> TxnLog {
    let options = LogOptions {
        preallocate,
        ..LogOptions::default()
    };
    TxnLog::open(Arc::new(disk.clone()), LOG.into(), options).unwrap()
}

fn append(log: &mut TxnLog, zxid: i64) -> Result<(), StorageError> {
    let payload = create(zxid, &format!("/n{zxid}"), b"data");
    log.append([(Zxid(zxid), &payload[..])])?;
    log.force()
}

#[test]
fn our_log_of_javas_transactions_is_javas_log_byte_for_byte() {
    let sample = load_sample("standalone-plain/version-2", "standalone-plain/version-2");
    let path = Path::new("/log/log.1");
    let mut reader = LogReader::open(&sample, path).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        entries.push(entry);
    }
    let disk = empty();
    let mut log = log_of(&disk, 0);
    log.append(entries.iter().map(|entry| (entry.zxid, &entry.payload[..])))
        .unwrap();
    log.force().unwrap();
    let (ours, java) = (disk.content(path).unwrap(), sample.content(path).unwrap());
    assert!(ours == java[..ours.len()], "the bytes differ");
    assert!(java[ours.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn our_snapshot_of_javas_tree_has_javas_seals() {
    let sample = load_sample("standalone-plain/version-2", "standalone-plain/version-2");
    let (_, model) = recover_model(&sample).unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        for digest in [true, false] {
            let disk = empty();
            write_snapshot(
                &disk,
                Path::new(SNAP),
                Zxid(0x13),
                compression,
                &model,
                digest,
            )
            .unwrap();
            let (recovered, again) = recover_model(&disk).unwrap();
            assert_eq!(recovered.snapshot, Some(Zxid(0x13)));
            assert_eq!(again.nodes, model.nodes);
            assert_eq!(again.acls, model.acls);
            assert_eq!(again.digests_checked, usize::from(digest));
        }
    }
    // Same sessions, lists and nodes in another order: same length as Java's file.
    let disk = empty();
    let path = write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0x13),
        Compression::None,
        &model,
        true,
    )
    .unwrap();
    let java = sample.content(Path::new("/snap/snapshot.13")).unwrap();
    assert_eq!(disk.content(&path).unwrap().len(), java.len());
}

#[test]
fn fs_d7_after_a_failed_force_nothing_is_acknowledged_any_more() {
    let disk = empty();
    let mut log = log_of(&disk, 0);
    append(&mut log, 1).unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(
        append(&mut log, 2).unwrap_err(),
        StorageError::Io {
            action: "force",
            ..
        }
    ));
    // The device works again; that proves nothing about what the failed force covered.
    assert!(matches!(
        append(&mut log, 3).unwrap_err(),
        StorageError::Stopped { .. }
    ));
    assert!(matches!(
        log.force().unwrap_err(),
        StorageError::Stopped { .. }
    ));
    assert!(matches!(
        log.roll().unwrap_err(),
        StorageError::Stopped { .. }
    ));
    assert!(log.is_stopped());
    write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    let (recovered, _) = recover_model(&disk.crash(Crash::LoseAll)).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(1));
}

#[test]
fn fs_d8_a_full_disk_stops_the_log_but_not_what_was_acknowledged() {
    let disk = empty();
    write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    let mut log = log_of(&disk, 0);
    append(&mut log, 1).unwrap();
    let used: usize = ["/log/log.1", "/snap/snapshot.0"]
        .iter()
        .map(|path| disk.content(Path::new(path)).unwrap().len())
        .sum();
    disk.set_capacity(Some(used as u64 + 20));
    assert!(matches!(
        append(&mut log, 2).unwrap_err(),
        StorageError::Io { .. }
    ));
    assert!(matches!(
        append(&mut log, 3).unwrap_err(),
        StorageError::Stopped { .. }
    ));
    // A snapshot that does not fit leaves nothing behind, and the one before it counts.
    let (_, model) = recover_with(
        &disk,
        &RecoverOptions {
            repair: false,
            ..RecoverOptions::default()
        },
    )
    .unwrap();
    let failed = write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(1),
        Compression::None,
        &model,
        true,
    );
    assert!(matches!(failed.unwrap_err(), StorageError::Io { .. }));
    assert_eq!(disk.list(Path::new(SNAP)).unwrap(), ["snapshot.0"]);
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(1));
    // Nor does an epoch that does not fit replace the old one.
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.set_capacity(None);
    let mut epochs = Epochs::open(Arc::clone(&shared), Path::new(SNAP), Zxid::new(3, 1)).unwrap();
    disk.set_capacity(Some(0));
    assert!(epochs.set_accepted(4).is_err());
    assert_eq!(epochs.accepted(), 3);
    disk.set_capacity(None);
    assert_eq!(
        Epochs::open(shared, Path::new(SNAP), Zxid::new(3, 1))
            .unwrap()
            .accepted(),
        3
    );
}

#[test]
fn a_full_zero_filled_segment_is_followed_by_the_next_without_growing() {
    let disk = empty();
    write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    let mut log = log_of(&disk, 4096);
    let mut zxid = 0;
    while disk
        .list(Path::new(LOG))
        .unwrap()
        .iter()
        .filter(|name| name.starts_with("log."))
        .count()
        < 4
    {
        wait_until(|| log.has_spare());
        zxid += 1;
        append(&mut log, zxid).unwrap();
    }
    for name in disk.list(Path::new(LOG)).unwrap() {
        let size = disk.content(&Path::new(LOG).join(&name)).unwrap().len();
        assert!(size <= 4096, "{name} grew to {size}");
    }
    drop(log);
    let left = disk.list(Path::new(LOG)).unwrap();
    assert!(left.iter().all(|name| name.starts_with("log.")), "{left:?}");
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(zxid));
}

#[test]
fn a_group_costs_one_write_and_one_force() {
    let disk = empty();
    let mut log = log_of(&disk, 0);
    append(&mut log, 1).unwrap();
    let (writes, syncs) = (disk.writes(), disk.syncs());
    let group: Vec<_> = (2..66)
        .map(|zxid| (Zxid(zxid), create(zxid, "/x", &[1; 1024])))
        .collect();
    log.append(group.iter().map(|(zxid, payload)| (*zxid, &payload[..])))
        .unwrap();
    log.force().unwrap();
    log.force().unwrap();
    assert_eq!((disk.writes() - writes, disk.syncs() - syncs), (1, 1));
    assert!(log.size() > 64 * 1024);
}

#[test]
fn without_force_sync_nothing_is_forced() {
    let disk = empty();
    let options = LogOptions {
        force_sync: false,
        size_limit: 1000,
        ..LogOptions::default()
    };
    let mut log = TxnLog::open(Arc::new(disk.clone()), LOG.into(), options).unwrap();
    for zxid in 1..40 {
        append(&mut log, zxid).unwrap();
    }
    assert_eq!(disk.syncs(), 0);
    // txnLogSizeLimitInKb: several files.
    assert!(disk.list(Path::new(LOG)).unwrap().len() > 2);
}

#[test]
fn fs_d10_a_crash_before_the_first_entry_leaves_no_log() {
    let disk = empty();
    write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    for leftover in ["next-log.spare", "next-log.new"] {
        disk.put(&Path::new(LOG).join(leftover), &[0; 4096]);
    }
    disk.put(&Path::new(SNAP).join("next-snapshot.new"), b"ZKSN");
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(0));
    assert!(disk.list(Path::new(LOG)).unwrap().is_empty());
    assert_eq!(disk.list(Path::new(SNAP)).unwrap(), ["snapshot.0"]);
}

#[test]
fn an_empty_directory_is_new_only_if_that_is_intended() {
    let disk = empty();
    assert_eq!(recover_model(&disk).unwrap().0.history, History::New);
    let options = RecoverOptions {
        autocreate: false,
        ..RecoverOptions::default()
    };
    assert_eq!(
        recover_with(&disk, &options).unwrap().0.history,
        History::Unproven
    );
    disk.put(Path::new("/initialize"), b"");
    assert_eq!(
        recover_with(&disk, &options).unwrap().0.history,
        History::New
    );
    assert_eq!(
        disk.content(Path::new("/initialize")),
        None,
        "the word counts once"
    );
}

#[test]
fn fs_d11_purge_keeps_what_the_oldest_kept_snapshot_needs() {
    let disk = empty();
    write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    let mut log = log_of(&disk, 0);
    for zxid in 1..=60 {
        append(&mut log, zxid).unwrap();
        if zxid % 10 == 0 {
            let (_, model) = recover_model(&disk).unwrap();
            // The log rolls a little later than the snapshot: the older file holds what the snapshot needs.
            write_snapshot(
                &disk,
                Path::new(SNAP),
                Zxid(zxid - 2),
                Compression::None,
                &model,
                false,
            )
            .unwrap();
            log.roll().unwrap();
        }
    }
    let removed = purge(&disk, Path::new(SNAP), Path::new(LOG), 1).unwrap();
    assert_eq!(
        disk.list(Path::new(SNAP)).unwrap(),
        ["snapshot.26", "snapshot.30", "snapshot.3a"],
        "three at least"
    );
    assert_eq!(
        disk.list(Path::new(LOG)).unwrap(),
        ["log.1f", "log.29", "log.33"]
    );
    assert_eq!(removed.len(), 4 + 3);
    assert!(
        purge(&disk, Path::new(SNAP), Path::new(LOG), 3)
            .unwrap()
            .is_empty()
    );
    for name in ["snapshot.3a", "snapshot.30"] {
        disk.remove(&Path::new(SNAP).join(name)).unwrap();
        assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(60));
    }
}

#[test]
fn purge_makes_durable_what_it_keeps_before_it_removes_anything() {
    let disk = empty();
    for zxid in 0..4 {
        write_snapshot(
            &disk,
            Path::new(SNAP),
            Zxid(zxid),
            Compression::None,
            &initial(),
            true,
        )
        .unwrap();
    }
    // As if its writer were just about to force the directory.
    let newest = Path::new("/snap/snapshot.3");
    let unforced = Path::new("/snap/snapshot.4");
    disk.rename(newest, unforced).unwrap();
    let removed = purge(&disk, Path::new(SNAP), Path::new(LOG), 3).unwrap();
    assert_eq!(removed, [Path::new("/snap/snapshot.0")]);
    let left = disk.crash(Crash::LoseAll).list(Path::new(SNAP)).unwrap();
    assert!(left.contains(&"snapshot.4".to_owned()), "{left:?}");
}

#[test]
fn epochs_survive_and_are_checked() {
    let disk = empty();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let open = |last| Epochs::open(Arc::clone(&shared), Path::new(SNAP), last);
    let mut epochs = open(Zxid::new(2, 7)).unwrap();
    assert_eq!((epochs.accepted(), epochs.current()), (2, 2));
    epochs.set_accepted(5).unwrap();
    epochs.set_current(4).unwrap();
    assert_eq!(
        disk.crash(Crash::LoseAll)
            .content(&Path::new(SNAP).join("acceptedEpoch"))
            .unwrap(),
        b"5"
    );
    assert!(matches!(
        open(Zxid::new(5, 1)).unwrap_err(),
        StorageError::EpochOrder {
            smaller: 4,
            larger: 5,
            ..
        }
    ));
    disk.put(&Path::new(SNAP).join("currentEpoch.tmp"), b"5");
    assert_eq!(open(Zxid::new(5, 1)).unwrap().current(), 5);
    disk.put(&Path::new(SNAP).join("acceptedEpoch"), b"3");
    assert!(matches!(
        open(Zxid::new(5, 1)).unwrap_err(),
        StorageError::EpochOrder {
            smaller: 3,
            larger: 5,
            ..
        }
    ));
    disk.put(&Path::new(SNAP).join("acceptedEpoch"), b"five");
    assert!(matches!(
        open(Zxid::new(5, 1)).unwrap_err(),
        StorageError::Malformed { .. }
    ));
}

#[test]
fn fs_d13_a_real_directory_is_locked_keeps_its_secret_and_refuses_strays() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let (data, logs) = (root.path().join("data"), root.path().join("logs"));
    let dir = DataDir::open(&RealDisk, &data, Some(&logs)).unwrap();
    assert!(matches!(
        DataDir::open(&RealDisk, &data, None).unwrap_err(),
        StorageError::Locked { .. }
    ));
    let secret = SessionSecret::open(&RealDisk, dir.snap_dir()).unwrap();
    assert_eq!(format!("{secret:?}"), "SessionSecret(..)");
    assert!(SessionSecret::open(&RealDisk, dir.snap_dir()).unwrap() == secret);
    let mode = std::fs::metadata(dir.snap_dir().join("session-secret"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(data.join("myid"), "3\n").unwrap();
    dir.check_server_id(&RealDisk, 3).unwrap();
    assert!(matches!(
        dir.check_server_id(&RealDisk, 4).unwrap_err(),
        StorageError::ForeignServer { .. }
    ));
    let (snap_dir, log_dir) = (dir.snap_dir().to_owned(), dir.log_dir().to_owned());
    drop(dir);
    let stray = |path: PathBuf| {
        std::fs::write(&path, b"").unwrap();
        let error = DataDir::open(&RealDisk, &data, Some(&logs)).unwrap_err();
        assert!(
            matches!(&error, StorageError::Misplaced { file } if *file == path),
            "{error}"
        );
        std::fs::remove_file(path).unwrap();
    };
    stray(snap_dir.join("log.5"));
    stray(log_dir.join("snapshot.5"));
    stray(data.join("snapshot.0"));
    DataDir::open(&RealDisk, &data, Some(&logs)).unwrap();
}

#[test]
fn a_real_directory_is_written_and_recovered() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(&RealDisk, root.path(), None).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    write_snapshot_to(
        Arc::clone(&disk),
        dir.snap_dir(),
        Zxid(0),
        Compression::Snappy,
        &initial(),
        true,
    )
    .unwrap();
    let mut log = TxnLog::open(disk, dir.log_dir().to_owned(), LogOptions::default()).unwrap();
    for zxid in 1..=50 {
        append(&mut log, zxid).unwrap();
    }
    // As after SIGKILL: the log is not closed.
    let mut model = storage_support::Model::default();
    let options = RecoverOptions {
        repair: false,
        ..RecoverOptions::default()
    };
    let recovered = zk_server_lite::storage::recover(
        &RealDisk,
        dir.snap_dir(),
        dir.log_dir(),
        &options,
        &mut model,
    )
    .unwrap();
    assert_eq!(recovered.last_zxid, Zxid(50));
    assert_eq!(model.nodes.len(), 54);
    log.close().unwrap();
}

/// Waits for a condition that another thread brings about.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "the condition did not come about"
        );
        std::thread::yield_now();
    }
}
