//! Transactions on their way to the log, and what nodes will be once they are applied.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use zk_proto::{Acl, OpCode, SessionId, Zxid};

use super::ConnId;
use crate::time::Time;
use crate::tree::path_hash::PathHashing;

/// A transaction that is prepared and not applied.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) zxid: Zxid,
    pub(super) payload: Bytes,
    pub(super) reply: Reply,
    pub(super) received: Time,
    /// Paths with a record of this transaction.
    pub(super) touched: Vec<Arc<str>>,
}

/// Who waits for a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    /// Nobody: the server itself wanted it.
    None,
    /// A connection that asked for a session.
    Connect(ConnId),
    /// A request.
    Request { conn: ConnId, op: OpCode },
}

/// What a node will be.
#[derive(Debug, Clone)]
pub(super) struct NodeView {
    pub(super) version: i32,
    pub(super) aversion: i32,
    /// Stored count of child creations.
    pub(super) cversion: i32,
    pub(super) children: u32,
    pub(super) acl: Arc<[Acl]>,
    /// The session of an ephemeral node, else 0.
    pub(super) ephemeral_owner: i64,
    pub(super) data_length: i64,
}

/// Records of nodes that outstanding transactions touch: the newest of each path.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// Looked up by path; iterated only to collect into order. The path is shared with those who will take its record out.
    records: HashMap<Arc<str>, (Zxid, Option<NodeView>), PathHashing>,
}

/// Records as they were before a multi, to go back to when it fails.
pub(super) type Saved = Vec<(Arc<str>, Option<(Zxid, Option<NodeView>)>)>;

impl Outstanding {
    /// `Some(None)` is a node that will be gone, `None` one that nothing outstanding touches.
    pub(super) fn get(&self, path: &str) -> Option<&Option<NodeView>> {
        if self.records.is_empty() {
            return None;
        }
        self.records.get(one_name(path)).map(|(_, view)| view)
    }

    /// Sets what a node will be; the former record is appended to `saved`.
    pub(super) fn set(
        &mut self,
        path: &str,
        zxid: Zxid,
        view: Option<NodeView>,
        saved: &mut Saved,
    ) {
        let path = one_name(path);
        // A parent of many creates has a record already: its path is not copied again.
        let path = match self.records.get_key_value(path) {
            Some((path, _)) => Arc::clone(path),
            None => path.into(),
        };
        let former = self.records.insert(Arc::clone(&path), (zxid, view));
        saved.push((path, former));
    }

    /// Goes back to what was saved.
    pub(super) fn roll_back(&mut self, saved: Saved) {
        for (path, former) in saved.into_iter().rev() {
            match former {
                Some(record) => self.records.insert(path, record),
                None => self.records.remove(&path),
            };
        }
    }

    /// Forgets what the tree holds now.
    pub(super) fn applied(&mut self, zxid: Zxid, touched: &[Arc<str>]) {
        for path in touched {
            if self.records.get(path).is_some_and(|(of, _)| *of == zxid) {
                self.records.remove(path);
            }
        }
    }

    /// Adjusts a session's set of ephemeral nodes by what is on its way.
    pub(super) fn adjust_ephemerals(&self, session: SessionId, paths: &mut BTreeSet<String>) {
        // tidy: any order, as each path is there once and goes into or out of an ordered set.
        for (path, (_, view)) in &self.records {
            match view {
                Some(view) if view.ephemeral_owner == session.0 => {
                    paths.insert(path.to_string());
                }
                _ => {
                    paths.remove(&**path);
                }
            }
        }
    }
}

/// The root is found as the parent of `/a`, which is the empty text, and by its own path: both are one record.
fn one_name(path: &str) -> &str {
    if path == "/" { "" } else { path }
}
