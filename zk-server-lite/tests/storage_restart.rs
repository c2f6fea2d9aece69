//! What a start makes of bytes that can be read and were never forced: a process was killed, or a force failed, and the
//! machine went on. The power cut comes later.

#![allow(
    clippy::unwrap_used,
    reason = "where a helper of a test fails, the test fails"
)]

mod storage_support;

use std::path::Path;
use std::sync::Arc;

use storage_support::{create, initial, recover_model, write_snapshot};
use zk_proto::Zxid;
use zk_server_lite::storage::memory::{Crash, MemoryDisk};
use zk_server_lite::storage::{Compression, Disk, LogOptions, StorageError, TxnLog};

const SNAP: &str = "/snap";
const LOG: &str = "/log";

fn new_directory() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new(SNAP)).unwrap();
    disk.create_dir(Path::new(LOG)).unwrap();
    write_snapshot(
        &disk,
        Path::new(SNAP),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    disk
}

fn log_of(disk: &MemoryDisk, force_sync: bool) -> TxnLog {
    let options = LogOptions {
        preallocate: 0,
        force_sync,
        ..LogOptions::default()
    };
    TxnLog::open(Arc::new(disk.clone()), LOG.into(), options).unwrap()
}

fn append(log: &mut TxnLog, zxid: i64, data: &[u8]) {
    let payload = create(zxid, &format!("/n{zxid}"), data);
    log.append([(Zxid(zxid), &payload[..])]).unwrap();
}

fn acknowledge(log: &mut TxnLog, zxid: i64) -> Result<(), StorageError> {
    append(log, zxid, b"data");
    log.force()
}

/// Every power cut that the disk can have now leaves a history without a hole, up to `last` at least.
fn survives(disk: &MemoryDisk, last: i64) {
    let cuts = [Crash::LoseAll, Crash::KeepAll].into_iter();
    for cut in cuts.chain((0..50).map(Crash::Tear)) {
        let (recovered, model) =
            recover_model(&disk.crash(cut)).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        assert!(recovered.last_zxid >= Zxid(last), "{cut:?}: {recovered:?}");
        for zxid in 1..=last {
            assert!(model.nodes.contains_key(&format!("/n{zxid}")), "{cut:?}");
        }
    }
}

#[test]
fn fs_d1_entries_that_a_killed_process_left_unforced_are_forced_before_a_log_goes_on_after_them() {
    let disk = new_directory();
    let mut log = log_of(&disk, true);
    acknowledge(&mut log, 1).unwrap();
    append(&mut log, 2, b"data");
    append(&mut log, 3, &vec![7; 3 << 20]);
    drop(log);
    // The machine runs on, so the next start reads what was never forced.
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(3));
    survives(&disk, 3);
    let mut log = log_of(&disk, true);
    acknowledge(&mut log, 4).unwrap();
    survives(&disk, 4);
}

#[test]
fn fs_d7_what_a_failed_force_covered_is_written_again_before_a_log_goes_on_after_it() {
    let disk = new_directory();
    let mut log = log_of(&disk, true);
    acknowledge(&mut log, 1).unwrap();
    disk.fail_sync_after(0);
    acknowledge(&mut log, 2).unwrap_err();
    drop(log);
    // Its pages count as clean now: a force alone would say that all is well and write nothing.
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(2));
    let mut log = log_of(&disk, true);
    acknowledge(&mut log, 3).unwrap();
    survives(&disk, 3);
}

#[test]
fn fs_d7_a_start_whose_own_force_fails_is_refused() {
    let disk = new_directory();
    let mut log = log_of(&disk, true);
    acknowledge(&mut log, 1).unwrap();
    append(&mut log, 2, b"data");
    drop(log);
    disk.fail_sync_after(0);
    let error = recover_model(&disk).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Io {
                action: "force",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(2));
    survives(&disk, 2);
}

#[test]
fn logs_of_forcesync_no_are_forced_by_a_start() {
    let disk = new_directory();
    let mut log = log_of(&disk, false);
    for zxid in 1..=20 {
        acknowledge(&mut log, zxid).unwrap();
        if zxid % 5 == 0 {
            log.roll().unwrap();
        }
    }
    drop(log);
    recover_model(&disk).unwrap();
    let mut log = log_of(&disk, true);
    acknowledge(&mut log, 21).unwrap();
    survives(&disk, 21);
}
