//! A small database for storage tests: keeps what recovery brings, applies transactions, and recomputes Java's digests.

#![allow(dead_code, reason = "each test file uses a part of the support module")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use zk_proto::jute::Encode;
use zk_proto::txn::{
    NodeEntry, SessionEntry, SnapshotDigest, Txn, TxnDigest, TxnHeader, encode_txn,
};
use zk_proto::{Acl, OpCode, SessionId, StatPersisted, Xid, Zxid};
use zk_server_lite::storage::memory::MemoryDisk;
use zk_server_lite::storage::{
    Compression, Disk, RecoverOptions, Recovered, Restore, RestoreError, SnapshotWriter,
    StorageError, recover,
};

/// A node as the tests see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    pub(crate) data: Option<Bytes>,
    pub(crate) acl: i64,
    pub(crate) stat: StatPersisted,
}

/// What was recovered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) sessions: BTreeMap<SessionId, i32>,
    pub(crate) acls: BTreeMap<i64, Vec<Acl>>,
    pub(crate) last: Zxid,
    pub(crate) expected: Option<(Zxid, u64)>,
    /// Transactions seen, in order.
    pub(crate) zxids: Vec<Zxid>,
    /// Digests of transactions and snapshots that were recomputed and found equal.
    pub(crate) digests_checked: usize,
    pub(crate) digests_wrong: Vec<Zxid>,
    pub(crate) resets: usize,
}

impl Model {
    /// Section 4: the sum over all nodes outside `/zookeeper/`.
    pub(crate) fn digest(&self) -> u64 {
        self.nodes
            .iter()
            .filter(|(path, _)| !path.starts_with("/zookeeper/"))
            .fold(0, |sum, (path, node)| {
                let mut crc = crc32fast::Hasher::new();
                crc.update(path.as_bytes());
                crc.update(node.data.as_deref().unwrap_or_default());
                let stat = &node.stat;
                for long in [
                    stat.czxid.0,
                    stat.mzxid.0,
                    stat.pzxid.0,
                    stat.ctime,
                    stat.mtime,
                ] {
                    crc.update(&long.to_be_bytes());
                }
                for int in [stat.version, stat.cversion, stat.aversion] {
                    crc.update(&int.to_be_bytes());
                }
                crc.update(&stat.ephemeral_owner.to_be_bytes());
                sum + u64::from(crc.finalize())
            })
    }

    fn compare(&mut self, zxid: Zxid, digest: u64) {
        if self.digest() == digest {
            self.digests_checked += 1;
        } else {
            self.digests_wrong.push(zxid);
        }
    }

    fn create(
        &mut self,
        header: &TxnHeader,
        path: &str,
        data: Option<Bytes>,
        owner: i64,
        cversion: Option<i32>,
    ) {
        let Some(parent) = parent(path).filter(|parent| self.nodes.contains_key(*parent)) else {
            return;
        };
        let parent = self.nodes.get_mut(parent).unwrap();
        let count = cversion.unwrap_or(parent.stat.cversion + 1);
        if count > parent.stat.cversion {
            parent.stat.cversion = count;
            parent.stat.pzxid = header.zxid;
        }
        self.nodes.entry(path.to_owned()).or_insert_with(|| Node {
            data,
            acl: 0,
            stat: StatPersisted {
                czxid: header.zxid,
                mzxid: header.zxid,
                pzxid: header.zxid,
                ctime: header.time,
                mtime: header.time,
                ephemeral_owner: owner,
                ..StatPersisted::default()
            },
        });
    }

    fn delete(&mut self, header: &TxnHeader, path: &str) {
        self.nodes.remove(path);
        if let Some(parent) = parent(path).and_then(|parent| self.nodes.get_mut(parent)) {
            parent.stat.pzxid = parent.stat.pzxid.max(header.zxid);
        }
    }

    fn apply(&mut self, header: &TxnHeader, txn: &Txn<'_>) {
        let session = header.client_id;
        match txn {
            Txn::CreateSession { timeout } => {
                self.sessions.insert(session, *timeout);
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(&session);
                let owned: Vec<_> = self
                    .nodes
                    .iter()
                    .filter(|(_, node)| node.stat.ephemeral_owner == session.0)
                    .map(|(path, _)| path.clone())
                    .collect();
                for path in owned {
                    self.delete(header, &path);
                }
            }
            Txn::Create(create) | Txn::Create2(create) => {
                let owner = if create.ephemeral { session.0 } else { 0 };
                self.create(
                    header,
                    create.path.or_empty(),
                    create.data.clone(),
                    owner,
                    create.parent_cversion,
                );
            }
            Txn::CreateContainer(create) => self.create(
                header,
                create.path.or_empty(),
                create.data.clone(),
                i64::MIN,
                Some(create.parent_cversion),
            ),
            Txn::CreateTtl(create) => self.create(
                header,
                create.path.or_empty(),
                create.data.clone(),
                (0xff_i64 << 56) | create.ttl,
                Some(create.parent_cversion),
            ),
            Txn::Delete(delete) | Txn::DeleteContainer(delete) => {
                self.delete(header, delete.path.or_empty());
            }
            Txn::SetData(set) | Txn::Reconfig(set) => {
                if let Some(node) = self.nodes.get_mut(set.path.or_empty()) {
                    node.data = set.data.clone();
                    node.stat.version = set.version;
                    node.stat.mzxid = header.zxid;
                    node.stat.mtime = header.time;
                }
            }
            Txn::SetAcl(set) => {
                if let Some(node) = self.nodes.get_mut(set.path.or_empty()) {
                    node.stat.aversion = set.version;
                }
            }
            Txn::Multi(txns) => {
                if !txns.iter().any(|txn| matches!(txn, Txn::Error(_))) {
                    for txn in txns {
                        self.apply(header, txn);
                    }
                }
            }
            Txn::Check(_) | Txn::Error(_) => {}
            other => panic!("unknown transaction {other:?}"),
        }
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rfind('/').map(|at| &path[..at])
}

impl Restore for Model {
    fn reset(&mut self) {
        *self = Self {
            resets: self.resets + 1,
            ..Self::default()
        };
    }

    fn session(&mut self, id: SessionId, timeout_ms: i32) {
        self.sessions.insert(id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        self.acls.insert(id, acl);
    }

    fn node(&mut self, entry: NodeEntry<'_>) -> Result<(), RestoreError> {
        let path = entry.path.or_empty().to_owned();
        if parent(&path).is_some_and(|parent| !self.nodes.contains_key(parent)) {
            return Err(RestoreError::NoParent { path });
        }
        let node = Node {
            data: entry.data,
            acl: entry.acl_id,
            stat: entry.stat,
        };
        self.nodes.insert(path, node);
        Ok(())
    }

    fn snapshot_loaded(&mut self, zxid: Zxid, digest: Option<(Zxid, u64)>) {
        self.last = zxid;
        match digest {
            Some((at, digest)) if at == zxid => self.compare(zxid, digest),
            later => self.expected = later,
        }
        if self.nodes.is_empty() {
            self.nodes = initial().nodes;
        }
    }

    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
    ) -> Result<(), RestoreError> {
        self.apply(header, txn);
        self.last = header.zxid;
        self.zxids.push(header.zxid);
        if let Some(digest) = digest {
            self.compare(header.zxid, digest.tree_digest.cast_unsigned());
        }
        if let Some((at, digest)) = self.expected
            && at == header.zxid
        {
            self.compare(at, digest);
        }
        Ok(())
    }
}

/// ZooKeeper's initial nodes.
pub(crate) fn initial() -> Model {
    let mut model = Model::default();
    for (path, acl, aversion) in [
        ("", -1, 0),
        ("/zookeeper", -1, 0),
        ("/zookeeper/config", 1, -1),
        ("/zookeeper/quota", -1, 0),
    ] {
        let stat = StatPersisted {
            aversion,
            ..StatPersisted::default()
        };
        let node = Node {
            data: Some(Bytes::new()),
            acl,
            stat,
        };
        model.nodes.insert(path.to_owned(), node);
    }
    model.acls.insert(1, vec![Acl::read_unsafe()]);
    model
}

/// Writes the model as a snapshot.
pub(crate) fn write_snapshot(
    disk: &MemoryDisk,
    dir: &Path,
    zxid: Zxid,
    compression: Compression,
    model: &Model,
    digest: bool,
) -> Result<PathBuf, StorageError> {
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
    write_snapshot_to(disk, dir, zxid, compression, model, digest)
}

/// The same on any disk.
pub(crate) fn write_snapshot_to(
    disk: std::sync::Arc<dyn Disk>,
    dir: &Path,
    zxid: Zxid,
    compression: Compression,
    model: &Model,
    digest: bool,
) -> Result<PathBuf, StorageError> {
    let mut writer = SnapshotWriter::create(disk, dir, zxid, compression)?;
    let sessions: Vec<_> = model
        .sessions
        .iter()
        .map(|(id, timeout)| SessionEntry {
            id: *id,
            timeout: *timeout,
        })
        .collect();
    let acls: Vec<_> = model
        .acls
        .iter()
        .map(|(id, acl)| zk_proto::txn::AclEntry {
            id: *id,
            acl: Some(acl.clone()),
        })
        .collect();
    writer.write_maps(&sessions, &acls)?;
    let mut out = BytesMut::new();
    for (path, node) in &model.nodes {
        NodeEntry {
            path: path.as_str().into(),
            data: node.data.clone(),
            acl_id: node.acl,
            stat: node.stat,
        }
        .encode(&mut out);
    }
    zk_proto::jute::put_ustring(&mut out, Some("/"));
    writer.write(&out)?;
    writer.finish(digest.then(|| SnapshotDigest {
        zxid,
        version: 2,
        digest: model.digest().cast_signed(),
    }))
}

/// A transaction that creates a node below the root, as a log holds it.
pub(crate) fn create(zxid: i64, path: &str, data: &[u8]) -> Bytes {
    let txn = zk_proto::txn::CreateTxn {
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        acl: Some(vec![Acl::open_unsafe()]),
        ephemeral: false,
        parent_cversion: Some(i32::try_from(zxid & 0xffff).unwrap()),
    };
    let header = TxnHeader {
        client_id: SessionId(7),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: 1_700_000_000_000 + zxid,
        op: OpCode::CREATE,
    };
    let mut out = BytesMut::new();
    encode_txn(&header, &Txn::Create(txn), None, &mut out);
    out.freeze()
}

/// Copies a sample directory of `tests/data` (or of a folder in it) onto a memory disk, as `/snap` and `/log`.
pub(crate) fn load_sample(snap: &str, log: &str) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new("/snap")).unwrap();
    disk.create_dir(Path::new("/log")).unwrap();
    for (folder, to, prefix) in [(snap, "/snap", "log."), (log, "/log", "snapshot.")] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(folder);
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if !name.starts_with(prefix) {
                disk.put(
                    &Path::new(to).join(name),
                    &std::fs::read(entry.path()).unwrap(),
                );
            }
        }
    }
    disk
}

/// Recovers `/snap` and `/log` into a fresh model.
pub(crate) fn recover_model(disk: &MemoryDisk) -> Result<(Recovered, Model), StorageError> {
    recover_with(disk, &RecoverOptions::default())
}

/// The same with options.
pub(crate) fn recover_with(
    disk: &MemoryDisk,
    options: &RecoverOptions,
) -> Result<(Recovered, Model), StorageError> {
    let mut model = Model::default();
    let recovered = recover(
        disk,
        Path::new("/snap"),
        Path::new("/log"),
        options,
        &mut model,
    )?;
    assert_eq!(recovered.last_zxid, model.last);
    Ok((recovered, model))
}
