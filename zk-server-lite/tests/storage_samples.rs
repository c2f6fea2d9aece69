//! Every directory that Apache ZooKeeper 3.8.0 wrote (or that was broken by hand after it) is opened, or refused, as the
//! samples' list says, with every tree digest recomputed.

#![allow(
    clippy::unwrap_used,
    reason = "where a helper of a test fails, the test fails"
)]

mod storage_support;

use std::path::Path;

use storage_support::{load_sample, recover_model, recover_with};
use zk_proto::Zxid;
use zk_server_lite::storage::{
    Damage, Epochs, History, LogReader, RecoverOptions, StorageError, Warning, truncate,
};

fn version_2(sample: &str) -> String {
    format!("{sample}/version-2")
}

fn open(sample: &str) -> (zk_server_lite::storage::Recovered, storage_support::Model) {
    let disk = load_sample(&version_2(sample), &version_2(sample));
    let (recovered, model) =
        recover_model(&disk).unwrap_or_else(|error| panic!("{sample}: {error}"));
    assert_eq!(model.digests_wrong, [], "{sample}");
    assert_eq!(recovered.history, History::Restored);
    (recovered, model)
}

#[test]
fn plain_gzip_and_snappy_snapshots_hold_the_same_workload() {
    for sample in ["standalone-plain", "standalone-gz", "standalone-snappy"] {
        let (recovered, model) = open(sample);
        assert_eq!(recovered.snapshot, Some(Zxid(0x13)), "{sample}");
        assert_eq!(recovered.last_zxid, Zxid(0x13), "{sample}");
        assert_eq!(recovered.replayed, 0);
        assert_eq!(model.nodes.len(), 16, "{sample}");
        assert_eq!(model.sessions.len(), 1, "{sample}");
        assert_eq!(
            model.nodes["/null"].data, None,
            "null stays apart from empty"
        );
        assert_eq!(
            model.digests_checked, 1,
            "{sample}: the snapshot's digest is that of its nodes"
        );
    }
}

#[test]
fn replaying_the_whole_log_leads_to_the_same_tree_as_the_snapshot() {
    let (_, from_snapshot) = open("standalone-plain");
    let disk = load_sample(
        &version_2("standalone-plain"),
        &version_2("standalone-plain"),
    );
    zk_server_lite::storage::Disk::remove(&disk, Path::new("/snap/snapshot.13")).unwrap();
    let (recovered, replayed) = recover_model(&disk).unwrap();
    assert_eq!(recovered.snapshot, Some(Zxid(0)));
    assert_eq!(recovered.replayed, 0x13);
    assert_eq!(replayed.digests_wrong, []);
    assert!(
        replayed.digests_checked >= 15,
        "each transaction but the failed ones carries a digest"
    );
    assert_eq!(replayed.digest(), from_snapshot.digest());
    assert_eq!(replayed.sessions, from_snapshot.sessions);
}

#[test]
fn fs_d3_torn_ends_are_dropped_as_java_drops_them() {
    for sample in ["torn-cut", "torn-zeroed", "no-eor"] {
        let (recovered, _) = open(sample);
        assert_eq!(recovered.last_zxid, Zxid(0x18), "{sample}");
        assert_eq!(recovered.replayed, 5, "{sample}");
        assert!(
            matches!(recovered.warnings[..], [Warning::TornTail { .. }]),
            "{sample}"
        );
    }
}

#[test]
fn a_torn_end_is_cut_so_that_the_next_start_finds_nothing() {
    let disk = load_sample(&version_2("no-eor"), &version_2("no-eor"));
    assert_eq!(recover_model(&disk).unwrap().0.warnings.len(), 1);
    let (again, _) = recover_model(&disk).unwrap();
    assert_eq!(again.last_zxid, Zxid(0x18));
    assert!(again.warnings.is_empty());
    let untouched = load_sample(&version_2("no-eor"), &version_2("no-eor"));
    let before = untouched.content(Path::new("/log/log.14"));
    let options = RecoverOptions {
        repair: false,
        ..RecoverOptions::default()
    };
    recover_with(&untouched, &options).unwrap();
    assert_eq!(untouched.content(Path::new("/log/log.14")), before);
}

#[test]
fn a_flipped_bit_before_whole_entries_is_refused_with_file_and_offset() {
    let disk = load_sample(&version_2("crc-flip"), &version_2("crc-flip"));
    let error = recover_model(&disk).unwrap_err();
    let StorageError::Damaged {
        file,
        offset,
        damage: Damage::Torn { next },
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(file, Path::new("/log/log.14"));
    assert!(offset > 16 && next > offset, "{offset} {next}");
}

#[test]
fn an_empty_last_log_is_removed() {
    let disk = load_sample(&version_2("empty-last-log"), &version_2("empty-last-log"));
    let (recovered, model) = recover_model(&disk).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(0x19));
    assert_eq!(model.digests_wrong, []);
    assert!(
        matches!(&recovered.warnings[..], [Warning::Headless { file }] if file.ends_with("log.1a"))
    );
    assert_eq!(disk.content(Path::new("/log/log.1a")), None);
}

#[test]
fn a_cut_snapshot_gives_way_to_the_one_before_it_and_the_log() {
    let (recovered, model) = open("bad-snapshot");
    assert_eq!(recovered.snapshot, Some(Zxid(0)));
    assert_eq!(recovered.last_zxid, Zxid(0x19));
    assert_eq!(recovered.replayed, 0x19);
    assert_eq!(model.resets, 2);
    assert!(matches!(
        recovered.warnings[..],
        [Warning::DamagedSnapshot { .. }]
    ));
}

#[test]
fn a_snapshot_is_not_replaced_by_an_older_one_across_a_hole() {
    let disk = load_sample(&version_2("bad-snapshot"), &version_2("bad-snapshot"));
    zk_server_lite::storage::Disk::remove(&disk, Path::new("/log/log.14")).unwrap();
    let whole = disk.content(Path::new("/log/log.1")).unwrap();
    // Without its last transactions the log does not reach the damaged snapshot.
    let mut reader = LogReader::open(&disk, Path::new("/log/log.1")).unwrap();
    let mut cut = 0;
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.zxid == Zxid(0x12) {
            cut = usize::try_from(entry.offset).unwrap();
        }
    }
    disk.put(Path::new("/log/log.1"), &whole[..cut]);
    let error = recover_model(&disk).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::CannotFallBack {
                damaged: Zxid(0x13),
                used: Zxid(0),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn all_snapshots_damaged_is_refused() {
    let disk = load_sample(&version_2("bad-snapshot"), &version_2("bad-snapshot"));
    let cut = disk.content(Path::new("/snap/snapshot.0")).unwrap();
    disk.put(Path::new("/snap/snapshot.0"), &cut[..100]);
    let error = recover_model(&disk).unwrap_err();
    assert!(
        matches!(error, StorageError::NoValidSnapshot { count: 2, .. }),
        "{error}"
    );
}

#[test]
fn fs_d6_a_log_without_a_snapshot_needs_the_operators_word() {
    let disk = load_sample(
        &version_2("standalone-plain"),
        &version_2("standalone-plain"),
    );
    for name in ["snapshot.0", "snapshot.13"] {
        zk_server_lite::storage::Disk::remove(&disk, &Path::new("/snap").join(name)).unwrap();
    }
    assert!(matches!(
        recover_model(&disk).unwrap_err(),
        StorageError::NoSnapshot { .. }
    ));
    let options = RecoverOptions {
        trust_empty: true,
        ..RecoverOptions::default()
    };
    let (recovered, model) = recover_with(&disk, &options).unwrap();
    assert_eq!(
        (recovered.snapshot, recovered.last_zxid),
        (None, Zxid(0x13))
    );
    assert_eq!(
        model.digests_wrong,
        [],
        "the initial nodes are those of Java"
    );
}

#[test]
fn the_smallest_foreign_directory_opens() {
    let (recovered, model) = open("foreign-minimal");
    assert_eq!(recovered.last_zxid, Zxid(4));
    assert_eq!(model.nodes["/x"].data, None);
    assert_eq!(
        model.nodes["/t"].stat.ephemeral_owner.cast_unsigned() >> 56,
        0xff
    );
}

#[test]
fn every_member_of_an_ensemble_opens_with_its_epochs() {
    let expected = [
        ("node1", 0x4_0000_0002, 0x5_0000_0001, 5),
        ("node2", 0x3_0000_0005, 0, 0),
        ("node3", 0x2_0000_024a, 0, 0),
        ("node4", 0x3_0000_0000, 0, 0),
    ];
    for (node, snapshot, last, epoch) in expected {
        let disk = load_sample(
            &format!("ensemble/{node}/data/version-2"),
            &format!("ensemble/{node}/log/version-2"),
        );
        let (recovered, model) =
            recover_model(&disk).unwrap_or_else(|error| panic!("{node}: {error}"));
        assert_eq!(recovered.snapshot, Some(Zxid(snapshot)), "{node}");
        assert_eq!(model.digests_wrong, [], "{node}");
        assert!(model.digests_checked > 0, "{node}");
        assert!(
            recovered.warnings.is_empty(),
            "{node}: {:?}",
            recovered.warnings
        );
        let epochs = Epochs::open(
            std::sync::Arc::new(disk),
            Path::new("/snap"),
            recovered.last_zxid,
        )
        .unwrap_or_else(|error| panic!("{node}: {error}"));
        assert!(epochs.current() <= epochs.accepted());
        assert!(recovered.last_zxid.epoch() <= epochs.current(), "{node}");
        if last != 0 {
            assert_eq!(recovered.last_zxid, Zxid(last), "{node}");
            assert_eq!(epochs.current(), epoch, "{node}");
        }
    }
}

#[test]
fn truncation_leaves_the_bytes_that_java_leaves() {
    let disk = load_sample(
        "ensemble/node2/data/version-2",
        "ensemble/node2-before-trunc/version-2",
    );
    let last = truncate(&disk, Path::new("/log"), Zxid(0x2_0000_024a)).unwrap();
    assert_eq!(last, Zxid(0x2_0000_024a));
    let java = load_sample(
        "ensemble/node2/data/version-2",
        "ensemble/node2/log/version-2",
    );
    let path = Path::new("/log/log.200000001");
    let ours = disk.content(path).unwrap();
    assert_eq!(ours.len(), 44950);
    assert!(
        ours == java.content(path).unwrap(),
        "the cut file differs from Java's"
    );
    assert!(matches!(
        truncate(&disk, Path::new("/log"), Zxid(5)).unwrap_err(),
        StorageError::NothingToKeep { .. }
    ));
}
