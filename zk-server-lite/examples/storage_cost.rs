//! What storage costs: recovering a million nodes from a snapshot and from a log, and forcing groups of transactions.
//!
//! `cargo run --release -p zk-server-lite --example storage_cost [nodes]`. Recovery fills a database that only counts and
//! touches what it is given, so the figures are storage's own share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use zk_proto::jute::{Encode, put_ustring};
use zk_proto::txn::{CreateTxn, NodeEntry, Txn, TxnDigest, TxnHeader, encode_txn};
use zk_proto::{Acl, OpCode, SessionId, StatPersisted, Xid, Zxid};
use zk_server_lite::storage::{
    Compression, DataDir, Disk, LogOptions, RealDisk, RecoverOptions, Restore, RestoreError,
    SnapshotWriter, TxnLog, recover,
};

/// Takes everything and keeps sums, so that nothing is optimised away.
#[derive(Debug, Default)]
struct Counter {
    nodes: u64,
    txns: u64,
    bytes: u64,
}

impl Restore for Counter {
    fn reset(&mut self) {
        *self = Self::default();
    }
    fn session(&mut self, _id: SessionId, _timeout_ms: i32) {}
    fn acl(&mut self, _id: i64, _acl: Vec<Acl>) {}
    fn node(&mut self, entry: NodeEntry<'_>) -> Result<(), RestoreError> {
        self.nodes += 1;
        self.bytes +=
            (entry.path.or_empty().len() + entry.data.map_or(0, |data| data.len())) as u64;
        Ok(())
    }
    fn snapshot_loaded(&mut self, _zxid: Zxid, _digest: Option<(Zxid, u64)>) {}
    fn txn(
        &mut self,
        _header: &TxnHeader,
        txn: &Txn<'_>,
        _digest: Option<TxnDigest>,
    ) -> Result<(), RestoreError> {
        self.txns += 1;
        if let Txn::Create(create) = txn {
            self.bytes += create.path.or_empty().len() as u64;
        }
        Ok(())
    }
}

fn create(zxid: i64, data: &Bytes) -> Bytes {
    let txn = CreateTxn {
        path: format!("/bench/node-{zxid:010}").into(),
        data: Some(data.clone()),
        acl: Some(vec![Acl::open_unsafe()]),
        ephemeral: false,
        parent_cversion: Some(1),
    };
    let header = TxnHeader {
        client_id: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: 0,
        op: OpCode::CREATE,
    };
    let mut out = BytesMut::new();
    encode_txn(&header, &Txn::Create(txn), None, &mut out);
    out.freeze()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let nodes: i64 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 1_000_000,
    };
    let root = tempfile::tempdir_in(".")?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let data = Bytes::from(vec![7; 100]);

    for compression in [Compression::None, Compression::Snappy, Compression::Gzip] {
        let dir = DataDir::open(&*disk, &root.path().join(format!("{compression:?}")), None)?;
        let start = Instant::now();
        let mut writer =
            SnapshotWriter::create(Arc::clone(&disk), dir.snap_dir(), Zxid(0), compression)?;
        writer.write_maps(&[], &[])?;
        let mut out = BytesMut::new();
        for at in 0..nodes {
            let path = format!("/bench/node-{at:010}");
            NodeEntry {
                path: path.as_str().into(),
                data: Some(data.clone()),
                acl_id: -1,
                stat: StatPersisted::default(),
            }
            .encode(&mut out);
            if out.len() > 256 << 10 {
                writer.write(&out)?;
                out.clear();
            }
        }
        put_ustring(&mut out, Some("/"));
        writer.write(&out)?;
        let bytes = writer.bytes_written();
        writer.finish(None)?;
        println!(
            "snapshot {compression:?}: wrote {nodes} nodes, {bytes} bytes, in {:?}",
            start.elapsed()
        );
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let mut counter = Counter::default();
            let start = Instant::now();
            recover(
                &*disk,
                dir.snap_dir(),
                dir.log_dir(),
                &RecoverOptions::default(),
                &mut counter,
            )?;
            best = best.min(start.elapsed());
            assert_eq!(counter.nodes, nodes.unsigned_abs());
        }
        println!("snapshot {compression:?}: read, best of 5: {best:?}");
    }

    let dir = DataDir::open(&*disk, &root.path().join("log"), None)?;
    let mut writer = SnapshotWriter::create(
        Arc::clone(&disk),
        dir.snap_dir(),
        Zxid(0),
        Compression::None,
    )?;
    writer.write_maps(&[], &[])?;
    writer.write(b"\0\0\0\x01/")?;
    writer.finish(None)?;
    let mut log = TxnLog::open(
        Arc::clone(&disk),
        dir.log_dir().to_owned(),
        LogOptions::default(),
    )?;
    let mut zxid = 0;
    for group in [1, 64, 256] {
        let rounds = if group == 1 { 2000 } else { nodes / group / 2 };
        let mut times = Vec::new();
        let start = Instant::now();
        for _ in 0..rounds {
            let payloads: Vec<_> = (1..=group)
                .map(|at| (Zxid(zxid + at), create(zxid + at, &data)))
                .collect();
            zxid += group;
            let begun = Instant::now();
            log.append(payloads.iter().map(|(zxid, payload)| (*zxid, &payload[..])))?;
            log.force()?;
            times.push(begun.elapsed());
        }
        let total = start.elapsed();
        times.sort_unstable();
        println!(
            "log: groups of {group}: p50 {:?}, p99 {:?}, max {:?}; {:.0} transactions/s",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times[times.len() - 1],
            (rounds * group) as f64 / total.as_secs_f64()
        );
    }
    log.close()?;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let mut counter = Counter::default();
        let start = Instant::now();
        let recovered = recover(
            &*disk,
            dir.snap_dir(),
            dir.log_dir(),
            &RecoverOptions::default(),
            &mut counter,
        )?;
        best = best.min(start.elapsed());
        assert_eq!(recovered.last_zxid, Zxid(zxid));
    }
    println!("log: read {zxid} transactions, best of 5: {best:?}");
    Ok(())
}
