//! What disks do to files: every cut, every flipped bit, every torn group. The outcome is an exact prefix of the history
//! with a warning, or a refusal; never other data, never a silent hole.

#![allow(
    clippy::unwrap_used,
    reason = "where a helper of a test fails, the test fails"
)]

mod storage_support;

use std::path::Path;
use std::sync::Arc;

use storage_support::{Model, create, initial, recover_model, write_snapshot};
use zk_proto::Zxid;
use zk_server_lite::storage::memory::{Crash, MemoryDisk};
use zk_server_lite::storage::{
    Compression, Disk, LogOptions, LogReader, StorageError, TxnLog, Warning,
};

/// A disk with an initial snapshot and a log of `count` creates, each forced.
fn written(count: i64, options: LogOptions) -> MemoryDisk {
    let disk = MemoryDisk::new();
    for dir in ["/snap", "/log"] {
        disk.create_dir(Path::new(dir)).unwrap();
    }
    write_snapshot(
        &disk,
        Path::new("/snap"),
        Zxid(0),
        Compression::None,
        &initial(),
        true,
    )
    .unwrap();
    let mut log = TxnLog::open(Arc::new(disk.clone()), "/log".into(), options).unwrap();
    for zxid in 1..=count {
        let payload = create(
            zxid,
            &format!("/n{zxid}"),
            format!("data {zxid}").as_bytes(),
        );
        log.append([(Zxid(zxid), &payload[..])]).unwrap();
        log.force().unwrap();
    }
    log.close().unwrap();
    disk
}

fn growing() -> LogOptions {
    LogOptions {
        preallocate: 0,
        ..LogOptions::default()
    }
}

/// The nodes that a history of `count` creates leaves.
fn nodes_after(count: i64) -> Model {
    recover_model(&written(count, growing())).unwrap().1
}

fn offsets(disk: &MemoryDisk, path: &Path) -> Vec<u64> {
    let mut reader = LogReader::open(disk, path).unwrap();
    let mut offsets = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        offsets.push(entry.offset);
    }
    offsets
}

#[test]
fn fs_d2_a_log_cut_at_any_byte_of_its_last_records_keeps_all_before_it() {
    let path = Path::new("/log/log.1");
    let whole = written(6, growing());
    let bytes = whole.content(path).unwrap();
    let starts = offsets(&whole, path);
    let expected: Vec<_> = (0..=6).map(nodes_after).collect();
    for padding in [0, 600] {
        for cut in usize::try_from(starts[3]).unwrap()..bytes.len() {
            let disk = written(0, growing());
            let mut torn = bytes[..cut].to_vec();
            // Torn in a file that grew, and in one that was zero-filled.
            torn.resize(cut + padding, 0);
            disk.put(path, &torn);
            let (recovered, model) =
                recover_model(&disk).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
            // An entry is whole where the next one begins.
            let kept = starts
                .iter()
                .skip(1)
                .filter(|start| **start <= cut as u64)
                .count();
            assert_eq!(recovered.last_zxid, Zxid(kept as i64), "cut {cut}");
            assert_eq!(model.nodes, expected[kept].nodes, "cut {cut}");
            // The next append leaves no rubbish behind it.
            let mut log = TxnLog::open(Arc::new(disk.clone()), "/log".into(), growing()).unwrap();
            let next = kept as i64 + 1;
            let payload = create(next, "/after", b"x");
            log.append([(Zxid(next), &payload[..])]).unwrap();
            log.force().unwrap();
            let (again, model) = recover_model(&disk).unwrap();
            assert_eq!(again.last_zxid, Zxid(next));
            assert!(again.warnings.is_empty(), "cut {cut}: {:?}", again.warnings);
            assert!(model.nodes.contains_key("/after"));
        }
    }
}

#[test]
fn fs_d4_a_flipped_bit_of_a_log_is_refused_or_ends_it_at_the_last_entry() {
    let path = Path::new("/log/log.1");
    let whole = written(4, growing());
    let bytes = whole.content(path).unwrap();
    let starts = offsets(&whole, path);
    let (_, intact) = recover_model(&whole).unwrap();
    let without_last = nodes_after(3);
    let mut refused = 0;
    for bit in 0..bytes.len() * 8 {
        let disk = written(0, growing());
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.put(path, &flipped);
        let at = (bit / 8) as u64;
        match recover_model(&disk) {
            Err(StorageError::Damaged { file, offset, .. }) => {
                assert_eq!(file, path);
                assert!(
                    offset <= at && at < starts[3],
                    "bit {bit}: refused at {offset}"
                );
                refused += 1;
            }
            Err(error) => panic!("bit {bit}: {error}"),
            // Version and dbid are written, never read.
            Ok((_, model)) if (4..16).contains(&at) => assert_eq!(model, intact),
            Ok((recovered, model)) => {
                assert!(
                    at >= starts[3],
                    "bit {bit}: damage in the middle went unseen"
                );
                assert!(matches!(recovered.warnings[..], [Warning::TornTail { .. }]));
                assert_eq!(model.nodes, without_last.nodes, "bit {bit}");
            }
        }
    }
    assert_eq!(refused, (starts[3] as usize - 12) * 8);
}

#[test]
fn fs_d5_a_flipped_bit_or_a_cut_of_the_newest_snapshot_never_yields_other_data() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = written(4, growing());
        let (_, intact) = recover_model(&disk).unwrap();
        let path = write_snapshot(
            &disk,
            Path::new("/snap"),
            Zxid(4),
            compression,
            &intact,
            true,
        )
        .unwrap();
        let bytes = disk.content(&path).unwrap();
        let mut fell_back = 0;
        let cuts = (0..bytes.len()).map(|cut| bytes[..cut].to_vec());
        let flips = (0..bytes.len() * 8).map(|bit| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        for (case, damaged) in cuts.chain(flips).enumerate() {
            disk.put(&path, &damaged);
            let (recovered, model) = recover_model(&disk)
                .unwrap_or_else(|error| panic!("{compression:?} {case}: {error}"));
            assert_eq!(model.nodes, intact.nodes, "{compression:?} case {case}");
            assert_eq!(recovered.last_zxid, Zxid(4));
            fell_back += usize::from(recovered.snapshot == Some(Zxid(0)));
        }
        // A gzip header has bits that mean nothing; every cut but that of an unread trailer, and every other flip, is seen.
        assert!(
            fell_back >= bytes.len() * 8,
            "{compression:?}: {fell_back} of {}",
            bytes.len() * 9
        );
        // Without an older one there is nothing to fall back to, and the server does not start empty.
        disk.put(&path, &bytes[..bytes.len() - 1]);
        disk.remove(Path::new("/snap/snapshot.0")).unwrap();
        let error = recover_model(&disk);
        if compression != Compression::Gzip || error.is_err() {
            assert!(matches!(
                error.unwrap_err(),
                StorageError::NoValidSnapshot { .. }
            ));
        }
    }
}

#[test]
fn fs_d6_a_missing_log_file_is_a_hole() {
    let disk = written(3, growing());
    let mut log = TxnLog::open(Arc::new(disk.clone()), "/log".into(), growing()).unwrap();
    for zxid in 4..=9 {
        let payload = create(zxid, &format!("/n{zxid}"), b"x");
        log.append([(Zxid(zxid), &payload[..])]).unwrap();
        if zxid == 6 {
            log.roll().unwrap();
        }
    }
    log.force().unwrap();
    assert_eq!(recover_model(&disk).unwrap().0.last_zxid, Zxid(9));
    for (missing, previous, found) in [("log.1", 0, 4), ("log.4", 3, 7)] {
        let disk = disk.crash(Crash::KeepAll);
        disk.remove(&Path::new("/log").join(missing)).unwrap();
        let error = recover_model(&disk).unwrap_err();
        assert!(
            matches!(error, StorageError::Hole { previous: p, found: f, .. } if p == Zxid(previous) && f == Zxid(found)),
            "{missing}: {error}"
        );
    }
}

#[test]
fn fs_d1_whatever_a_power_cut_tears_every_forced_transaction_is_back() {
    for preallocate in [0, 1 << 16] {
        for seed in 0..80 {
            let mut random = fastrand::Rng::with_seed(seed);
            let longest = if seed % 2 == 0 { 900 } else { 60 };
            let disk = written(0, growing());
            let options = LogOptions {
                preallocate,
                ..LogOptions::default()
            };
            let mut log = TxnLog::open(Arc::new(disk.clone()), "/log".into(), options).unwrap();
            let (mut next, mut forced) = (1, 0);
            for _ in 0..random.i64(1..12) {
                let group: Vec<_> = (0..random.i64(1..20))
                    .map(|at| {
                        let data = vec![random.u8(1..); random.usize(0..longest)];
                        (
                            Zxid(next + at),
                            create(next + at, &format!("/n{}", next + at), &data),
                        )
                    })
                    .collect();
                next += group.len() as i64;
                log.append(group.iter().map(|(zxid, payload)| (*zxid, &payload[..])))
                    .unwrap();
                if random.u8(0..4) > 0 {
                    log.force().unwrap();
                    forced = next - 1;
                }
                if random.u8(0..6) == 0 {
                    log.roll().unwrap();
                    forced = next - 1;
                }
            }
            for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Tear(seed)] {
                let left = disk.crash(crash);
                let (recovered, model) = recover_model(&left)
                    .unwrap_or_else(|error| panic!("seed {seed} {crash:?} {preallocate}: {error}"));
                let last = recovered.last_zxid.0;
                assert!(
                    (forced..next).contains(&last),
                    "seed {seed} {crash:?}: {last} of {forced}..{next}"
                );
                assert_eq!(model.zxids.len() as i64, last, "seed {seed}: no hole");
                // And once more: what the first start repaired stays so.
                let again = recover_model(&left.crash(Crash::Tear(seed + 1))).unwrap();
                assert_eq!(again.0.last_zxid, recovered.last_zxid);
            }
        }
    }
}
