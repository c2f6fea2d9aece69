//! Transactions that are safe are applied: the tree changes, events go out, whoever asked is answered, and reads that
//! waited are served.

use std::ops::Range;

use zk_proto::jute::Encode;
use zk_proto::session::{CreateResponse, PathResponse, ReplyHeader, StatResponse};
use zk_proto::txn::{TxnHeader, decode_txn};
use zk_proto::{ErrorCode, OpCode, Stat, Zxid};

use super::conn::{CloseReason, Item};
use super::multi::put_multi_reply;
use super::outstanding::{KEPT_SLOTS, Operation, Outstanding, Pending, Reply};
use super::request::append_reply;
use super::{ConnId, Engine};
use crate::time::Time;
use crate::tree::{Change, DataTree, NewNode};

impl Engine {
    /// Everything up to and including `up_to` is safe in the log.
    pub fn committed(&mut self, up_to: Zxid, now: Time) {
        while self
            .outstanding
            .front()
            .is_some_and(|pending| pending.header.zxid <= up_to)
            && let Some(pending) = self.outstanding.pop_front()
        {
            self.outstanding_bytes -= pending.bytes();
            self.apply(&pending, now);
        }
        // A burst of long transactions leaves nothing behind.
        if self.outstanding.is_empty() {
            self.operations.shrink_to(KEPT_SLOTS);
            self.touched.shrink_to(KEPT_SLOTS);
        }
        if !self.is_loaded() {
            for conn in std::mem::take(&mut self.stalled) {
                self.mark_dirty(conn);
            }
        }
    }

    fn apply(&mut self, pending: &Pending, now: Time) {
        let header = &pending.header;
        let zxid = header.zxid;
        let mut changes = std::mem::take(&mut self.changed);
        let mut stats = std::mem::take(&mut self.stats);
        let mut watched = (!self.watches.is_empty()).then_some(&mut changes);
        for operation in self.operations.range(..pending.operations) {
            if matches!(operation, Operation::Logged) {
                // The engine itself encoded it.
                let (_, txn, _) = decode_txn(&pending.payload).expect("an own transaction decodes");
                let watched = watched.as_deref_mut();
                self.tree.apply(header, &txn, watched, &mut stats);
            } else {
                let watched = watched.as_deref_mut();
                stats.push(apply_operation(
                    &mut self.tree,
                    &self.changes,
                    pending,
                    operation,
                    watched,
                ));
            }
        }
        // Moved only after the whole of it: a snapshot must not name a transaction that is half applied.
        self.tree.applied(zxid);
        self.fire(&changes, zxid);
        if header.op == OpCode::CLOSE_SESSION {
            self.tracker.remove(header.client_id);
        }
        if let Reply::Request { conn, op } = pending.reply {
            self.answer(conn, pending, op, &stats);
        }
        self.operations.drain(..pending.operations);
        self.changes
            .applied(zxid, &mut self.touched, pending.touched);
        match pending.reply {
            Reply::None => {}
            Reply::Connect(conn) => {
                self.counters.sessions_created += 1;
                self.answered(conn, OpCode::CREATE_SESSION, pending.received, now);
                self.connect_response(conn, Some(header.client_id));
                self.release(conn, zxid, now);
                // Most sessions are idle: what the handshake took is given back.
                if let Some(state) = self.conns.get_mut(&conn)
                    && state.queue.is_empty()
                {
                    state.queue.clear();
                }
            }
            Reply::Request { conn, op } => {
                self.answered(conn, op, pending.received, now);
                if header.op == OpCode::CLOSE_SESSION {
                    self.close(conn, CloseReason::SessionClosed);
                }
                self.release(conn, zxid, now);
            }
        }
        if let Some(conn) = self.resumed.remove(&zxid) {
            self.release(conn, zxid, now);
        }
        changes.clear();
        stats.clear();
        self.changed = changes;
        self.stats = stats;
    }

    fn answer(&mut self, conn: ConnId, pending: &Pending, op: OpCode, stats: &[Option<Stat>]) {
        let Some(state) = self
            .conns
            .get_mut(&conn)
            .filter(|state| state.close.is_none())
        else {
            return;
        };
        let is_multi = pending.header.op == OpCode::MULTI;
        let mut operations = self.operations.range(..pending.operations);
        let err = match operations.clone().next() {
            Some(Operation::Error(code)) if !is_multi => *code,
            _ => ErrorCode::OK,
        };
        let header = ReplyHeader {
            xid: pending.header.cxid,
            zxid: pending.header.zxid,
            err,
        };
        append_reply(state, &mut self.counters, header, |out| {
            if is_multi {
                return put_multi_reply(operations, &self.changes, stats, out);
            }
            let stat = stats.first().copied().flatten().unwrap_or_default();
            match operations.next() {
                Some(Operation::Create { slot, .. }) => {
                    let path = self.changes.path(*slot).0.into();
                    if op == OpCode::CREATE {
                        PathResponse { path }.encode(out);
                    } else {
                        CreateResponse { path, stat }.encode(out);
                    }
                }
                Some(Operation::SetData { .. } | Operation::SetAcl { .. }) => {
                    StatResponse { stat }.encode(out);
                }
                // A delete, the end of a session, or an error: the header says it all.
                _ => {}
            }
        });
        self.sent(conn);
    }

    /// The write at the head of a connection's queue is answered: serve what waited for it.
    fn release(&mut self, conn: ConnId, zxid: Zxid, now: Time) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        // A connection that was closed meanwhile has an empty queue.
        if !matches!(state.queue.front(), Some(Item::Write(of)) if *of == zxid) {
            return;
        }
        state.queue.pop_front();
        while let Some(state) = self.conns.get_mut(&conn)
            && let Some(item) = state
                .queue
                .front()
                .is_some_and(|item| !matches!(item, Item::Write(_)))
                .then(|| state.queue.pop_front())
                .flatten()
        {
            match item {
                Item::Read(frame, received) => {
                    self.read(conn, &frame, received, now);
                }
                Item::Answer(answer) => self.give(conn, answer),
                Item::Write(_) => {}
            }
        }
    }
}

/// Applies an operation of a transaction as it was prepared; returns the Stat it is answered with.
fn apply_operation(
    tree: &mut DataTree,
    records: &Outstanding,
    pending: &Pending,
    operation: &Operation,
    watched: Option<&mut Vec<Change>>,
) -> Option<Stat> {
    let TxnHeader { zxid, time, .. } = pending.header;
    let bytes = |place: &Option<Range<usize>>| {
        let place = place.as_ref()?;
        Some(&pending.payload[place.start..place.end])
    };
    match operation {
        Operation::Create {
            op,
            slot,
            data,
            acl,
            owner,
            parent_cversion,
        } => {
            let (path, hash) = records.path(*slot);
            let new = NewNode {
                path,
                hash,
                data: bytes(data),
                acl: acl.as_deref(),
                owner: *owner,
                parent_cversion: Some(*parent_cversion),
            };
            let id = tree.create(zxid, time, &new, watched)?;
            // A plain create is answered with its path alone.
            (*op != OpCode::CREATE).then(|| tree.stat(id))
        }
        Operation::Delete { slot } => {
            tree.delete(records.path(*slot).0, zxid, watched);
            None
        }
        Operation::SetData {
            slot,
            data,
            version,
        } => {
            let path = records.path(*slot).0;
            tree.set_data(zxid, time, path, bytes(data), *version, watched)
                .map(|id| tree.stat(id))
        }
        Operation::SetAcl { slot, acl, version } => tree
            .set_acl(zxid, records.path(*slot).0, acl.as_deref(), *version)
            .map(|id| tree.stat(id)),
        Operation::Check | Operation::Error(_) | Operation::Logged => None,
    }
}
