//! What a server starts from: tree and sessions, filled by recovery record by record.
//!
//! Recovery reads a snapshot and replays the log above it; the rules are disk-formats, 5 and 6.1. Transactions may come that
//! the snapshot holds already: applying them again does no harm. Knows no file.

use std::collections::BTreeMap;

use zk_proto::txn::{NodeEntry, Txn, TxnDigest, TxnHeader};
use zk_proto::{Acl, SessionId, Zxid};

use crate::tree::{DataTree, RestoreError};

/// The state a server starts from: what recovery loaded, or nothing.
#[derive(Debug)]
pub struct Database {
    /// The tree.
    pub tree: DataTree,
    /// Sessions and their timeouts in milliseconds.
    pub sessions: BTreeMap<SessionId, i32>,
    extended_types: bool,
    /// The zxid from which on digests can be compared: before it, the tree may be ahead of the replay.
    exact_from: Option<Zxid>,
    mismatch: Option<Zxid>,
}

impl Database {
    /// An empty server's: only ZooKeeper's own nodes.
    #[must_use]
    pub fn empty(extended_types: bool) -> Self {
        Self {
            tree: DataTree::new(extended_types),
            ..Self::for_restore(extended_types)
        }
    }

    /// Nothing at all, to be filled: sessions, access lists, nodes, [`snapshot_loaded`](Self::snapshot_loaded), then
    /// transactions.
    #[must_use]
    pub fn for_restore(extended_types: bool) -> Self {
        Self {
            tree: DataTree::for_restore(extended_types),
            sessions: BTreeMap::new(),
            extended_types,
            exact_from: None,
            mismatch: None,
        }
    }

    /// Forgets everything: a snapshot turned out to be damaged, and another one is tried.
    pub fn reset(&mut self) {
        *self = Self::for_restore(self.extended_types);
    }

    /// Takes a session of a snapshot.
    pub fn session(&mut self, id: SessionId, timeout_ms: i32) {
        self.sessions.insert(id, timeout_ms);
    }

    /// Takes an access list of a snapshot.
    pub fn acl(&mut self, id: i64, list: &[Acl]) {
        self.tree.restore_acl(id, list);
    }

    /// Takes a node of a snapshot; parents come first, and the root's path is empty.
    ///
    /// # Errors
    /// When the node's parent is not there, or the node is there already.
    pub fn node(&mut self, entry: &NodeEntry<'_>) -> Result<(), RestoreError> {
        self.tree.restore_node(entry)
    }

    /// Says that the snapshot is complete and stands at `zxid`; `digest` is the tree's after the transaction it names.
    /// Without any node before it this is the start of an empty server.
    pub fn snapshot_loaded(&mut self, zxid: Zxid, digest: Option<(Zxid, u64)>) {
        if self.tree.node_count() == 1 {
            self.tree = DataTree::new(self.extended_types);
            self.exact_from = Some(zxid);
        }
        self.tree.snapshot_loaded(zxid);
        // A digest older than the snapshot's name is left over from somewhere else.
        if let Some((of, digest)) = digest.filter(|(of, _)| *of >= zxid) {
            self.exact_from = Some(of);
            if of == zxid {
                self.compare(zxid, digest);
            }
        }
    }

    /// Replays a transaction of the log.
    pub fn replay(&mut self, header: &TxnHeader, txn: &Txn<'_>, digest: Option<TxnDigest>) {
        self.tree.apply(header, txn, None, &mut Vec::new());
        match txn {
            Txn::CreateSession { timeout } => {
                self.sessions.insert(header.client_id, *timeout);
            }
            Txn::CloseSession { .. } => {
                self.sessions.remove(&header.client_id);
            }
            _ => {}
        }
        if let Some(digest) = digest.filter(|digest| digest.version == 2)
            && self.exact_from.is_some_and(|from| header.zxid >= from)
        {
            self.compare(header.zxid, digest.tree_digest as u64);
        }
    }

    /// The first transaction after which the tree was not what whoever logged it had.
    #[must_use]
    pub fn digest_mismatch(&self) -> Option<Zxid> {
        self.mismatch
    }

    fn compare(&mut self, zxid: Zxid, digest: u64) {
        if digest != self.tree.digest() {
            self.mismatch.get_or_insert(zxid);
        }
    }
}
