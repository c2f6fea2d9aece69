//! Transactions on their way to the log, and what nodes will be once they are applied.
//!
//! A write costs a handful of these records, so they are made without allocating: records live in slots that are used
//! again with the room their paths took, and transactions refer to them by slot. A slot belongs to its path until the last
//! transaction that touched it is applied.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use zk_proto::txn::TxnHeader;
use zk_proto::{Acl, ErrorCode, OpCode, SessionId, Zxid};

use super::ConnId;
use crate::time::Time;

/// Room of a path that a free slot keeps.
const KEPT_PATH: usize = 256;
/// Free slots, and room for as many operations, that are kept when nothing is on its way.
pub(super) const KEPT_SLOTS: usize = 4096;

/// A transaction that is prepared and not applied.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) header: TxnHeader,
    pub(super) payload: Bytes,
    pub(super) reply: Reply,
    pub(super) received: Time,
    /// How many operations it has in the engine's queue of these.
    pub(super) operations: usize,
    /// How many slots with a record of it are in the engine's queue of these.
    pub(super) touched: usize,
}

impl Pending {
    /// What it takes in memory: a multi of many small operations takes more than its payload.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
            + self.operations * size_of::<Operation>()
            + self.touched * size_of::<Record>()
    }
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

/// An access list; `None` is the open one, which most nodes have.
pub(super) type List = Option<Arc<[Acl]>>;

/// An operation as preparation found it: enough to apply and answer it without reading its record again.
#[derive(Debug)]
pub(super) enum Operation {
    /// One that is rare: its record is read again.
    Logged,
    /// A new node.
    Create {
        /// The kind of create, which decides the shape of its answer.
        op: OpCode,
        slot: Slot,
        /// Where its data stands in the payload.
        data: Option<Range<usize>>,
        acl: List,
        /// As it is stored.
        owner: i64,
        parent_cversion: i32,
    },
    /// A deleted node.
    Delete { slot: Slot },
    /// New data, with its place in the payload.
    SetData {
        slot: Slot,
        data: Option<Range<usize>>,
        version: i32,
    },
    /// A new access list.
    SetAcl { slot: Slot, acl: List, version: i32 },
    /// An asserted version.
    Check,
    /// One that failed, or is part of a multi that did.
    Error(ErrorCode),
}

/// What a node will be.
#[derive(Debug, Clone)]
pub(super) struct NodeView {
    pub(super) version: i32,
    pub(super) aversion: i32,
    /// Stored count of child creations.
    pub(super) cversion: i32,
    pub(super) children: u32,
    pub(super) acl: List,
    /// The session of an ephemeral node, else 0.
    pub(super) ephemeral_owner: i64,
    pub(super) data_length: i64,
}

/// The number of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Where a path was found, for setting its record without another look-up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// It has a record.
    Record(Slot),
    /// It has none; its hash.
    Free(u64),
}

#[derive(Debug)]
struct Record {
    path: String,
    hash: u64,
    /// The last transaction that touched it; `None` when the slot is free.
    zxid: Option<Zxid>,
    /// `None` is a node that will be gone.
    view: Option<NodeView>,
}

/// Records of nodes that outstanding transactions touch: the newest of each path.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    records: Vec<Record>,
    free: Vec<Slot>,
    /// By the hash of the path. Only ever looked up, never iterated.
    index: HashTable<Slot>,
    /// The parent last looked up: the next one is likely the same.
    recent: Option<Slot>,
}

/// What a transaction touched and what was there before, to go back to when it fails.
pub(super) type Saved = Vec<(Slot, Option<(Zxid, Option<NodeView>)>)>;

impl Outstanding {
    /// The record of a path that went through [`one_name`].
    pub(super) fn find(&self, path: &str, hash: u64) -> Option<Slot> {
        self.index
            .find(hash, |slot| {
                let record = &self.records[slot.0 as usize];
                record.hash == hash && record.path == path
            })
            .copied()
    }

    /// The record of the path that [`remember`](Self::remember) was told of last, if it is this one.
    pub(super) fn recent(&self, path: &str) -> Option<Slot> {
        self.recent
            .filter(|slot| self.records[slot.0 as usize].path == path)
    }

    /// Makes a record the first one that is looked at for a parent.
    pub(super) fn remember(&mut self, slot: Slot) {
        self.recent = Some(slot);
    }

    /// What a node will be; `None` is one that will be gone.
    pub(super) fn view(&self, slot: Slot) -> Option<&NodeView> {
        self.records[slot.0 as usize].view.as_ref()
    }

    /// A record's path as clients write it, and the hash of its one name.
    pub(super) fn path(&self, slot: Slot) -> (&str, u64) {
        let record = &self.records[slot.0 as usize];
        match &*record.path {
            "" => ("/", record.hash),
            path => (path, record.hash),
        }
    }

    /// Sets what a node will be. The former record is appended to `saved`, the first time in a transaction.
    pub(super) fn set(
        &mut self,
        place: Place,
        path: &str,
        zxid: Zxid,
        view: Option<NodeView>,
        saved: &mut Saved,
    ) -> Slot {
        match place {
            Place::Record(slot) => {
                let record = &mut self.records[slot.0 as usize];
                let former = std::mem::replace(&mut record.view, view);
                if let Some(of) = record.zxid.replace(zxid)
                    && of != zxid
                {
                    saved.push((slot, Some((of, former))));
                }
                slot
            }
            Place::Free(hash) => {
                let slot = self.take(one_name(path), hash, zxid, view);
                saved.push((slot, None));
                slot
            }
        }
    }

    fn take(&mut self, path: &str, hash: u64, zxid: Zxid, view: Option<NodeView>) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => {
                let record = &mut self.records[slot.0 as usize];
                record.path.push_str(path);
                record.hash = hash;
                record.zxid = Some(zxid);
                record.view = view;
                slot
            }
            None => {
                let slot = Slot(
                    u32::try_from(self.records.len())
                        .expect("what is on its way is bounded far below four billion records"),
                );
                self.records.push(Record {
                    path: path.to_owned(),
                    hash,
                    zxid: Some(zxid),
                    view,
                });
                slot
            }
        };
        let records = &self.records;
        self.index
            .insert_unique(hash, slot, |slot| records[slot.0 as usize].hash);
        slot
    }

    fn free(&mut self, slot: Slot) {
        let record = &mut self.records[slot.0 as usize];
        if let Ok(entry) = self.index.find_entry(record.hash, |at| *at == slot) {
            entry.remove();
        }
        record.zxid = None;
        record.view = None;
        record.path.clear();
        record.path.shrink_to(KEPT_PATH);
        self.free.push(slot);
        if self.recent == Some(slot) {
            self.recent = None;
        }
    }

    /// Goes back to what was saved, which is empty then.
    pub(super) fn roll_back(&mut self, saved: &mut Saved) {
        for (slot, former) in saved.drain(..).rev() {
            match former {
                Some((zxid, view)) => {
                    let record = &mut self.records[slot.0 as usize];
                    record.zxid = Some(zxid);
                    record.view = view;
                }
                None => self.free(slot),
            }
        }
    }

    /// Forgets what the tree holds now: the first `count` of `touched`, which are those of `zxid`.
    pub(super) fn applied(&mut self, zxid: Zxid, touched: &mut VecDeque<Slot>, count: usize) {
        for slot in touched.drain(..count) {
            if self.records[slot.0 as usize].zxid == Some(zxid) {
                self.free(slot);
            }
        }
        // A burst of long transactions leaves nothing behind.
        if self.index.is_empty() && self.records.len() > KEPT_SLOTS {
            *self = Self::default();
        }
    }

    /// Adjusts a session's set of ephemeral nodes by what is on its way.
    pub(super) fn adjust_ephemerals(&self, session: SessionId, paths: &mut BTreeSet<String>) {
        for record in self.records.iter().filter(|record| record.zxid.is_some()) {
            match &record.view {
                Some(view) if view.ephemeral_owner == session.0 => {
                    paths.insert(record.path.clone());
                }
                _ => {
                    paths.remove(&record.path);
                }
            }
        }
    }
}

/// The root is found as the parent of `/a`, which is the empty text, and by its own path: both are one record.
pub(super) fn one_name(path: &str) -> &str {
    if path == "/" { "" } else { path }
}
