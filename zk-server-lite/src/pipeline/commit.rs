//! Transactions that are safe are applied: the tree changes, events go out, whoever asked is answered, and reads that
//! waited are served.

use bytes::BytesMut;
use zk_proto::jute::Encode;
use zk_proto::session::{CreateResponse, PathResponse, ReplyHeader, StatResponse};
use zk_proto::txn::{Txn, TxnHeader, decode_txn};
use zk_proto::{ErrorCode, OpCode, Stat, Zxid};

use super::conn::{CloseReason, Item};
use super::multi::MultiReply;
use super::outstanding::{Pending, Reply};
use super::request::Nothing;
use super::{ConnId, Engine};
use crate::time::Time;

impl Engine {
    /// Everything up to and including `up_to` is safe in the log.
    pub fn committed(&mut self, up_to: Zxid, now: Time) {
        while self
            .outstanding
            .front()
            .is_some_and(|pending| pending.zxid <= up_to)
            && let Some(pending) = self.outstanding.pop_front()
        {
            self.outstanding_bytes -= pending.payload.len();
            self.apply(&pending, now);
        }
        if !self.is_loaded() {
            for conn in std::mem::take(&mut self.stalled) {
                self.mark_dirty(conn);
            }
        }
    }

    fn apply(&mut self, pending: &Pending, now: Time) {
        // The engine itself encoded it.
        let (header, txn, _) = decode_txn(&pending.payload).expect("an own transaction decodes");
        let mut changes = std::mem::take(&mut self.changed);
        let mut stats = std::mem::take(&mut self.stats);
        let watched = (!self.watches.is_empty()).then_some(&mut changes);
        self.tree.apply(&header, &txn, watched, &mut stats);
        self.changes.applied(pending.zxid, &pending.touched);
        self.fire(&changes, pending.zxid);
        if let Txn::CloseSession { .. } = txn {
            self.tracker.remove(header.client_id);
        }
        match pending.reply {
            Reply::None => {}
            Reply::Connect(conn) => {
                self.counters.sessions_created += 1;
                self.answered(conn, OpCode::CREATE_SESSION, pending.received, now);
                self.connect_response(conn, Some(header.client_id));
                self.release(conn, pending.zxid, now);
                // Most sessions are idle: what the handshake took is given back.
                if let Some(state) = self.conns.get_mut(&conn)
                    && state.queue.is_empty()
                {
                    state.queue.clear();
                }
            }
            Reply::Request { conn, op } => {
                self.answer(conn, pending, &header, op, &txn, &stats);
                self.answered(conn, op, pending.received, now);
                if op == OpCode::CLOSE_SESSION && matches!(txn, Txn::CloseSession { .. }) {
                    self.close(conn, CloseReason::SessionClosed);
                }
                self.release(conn, pending.zxid, now);
            }
        }
        changes.clear();
        stats.clear();
        self.changed = changes;
        self.stats = stats;
    }

    fn answer(
        &mut self,
        conn: ConnId,
        pending: &Pending,
        header: &TxnHeader,
        op: OpCode,
        txn: &Txn<'_>,
        stats: &[Option<Stat>],
    ) {
        let err = match txn {
            Txn::Error(code) => *code,
            _ => ErrorCode::OK,
        };
        let reply = ReplyHeader {
            xid: header.cxid,
            zxid: pending.zxid,
            err,
        };
        let stat = stats.first().copied().flatten().unwrap_or_default();
        let path = match txn {
            Txn::Create(create) | Txn::Create2(create) => create.path.clone(),
            Txn::CreateContainer(create) => create.path.clone(),
            Txn::CreateTtl(create) => create.path.clone(),
            _ => zk_proto::jute::Ustring::null(),
        };
        let body = match (txn, op) {
            (Txn::Error(_), _) => Body::Nothing(Nothing),
            (Txn::Multi(txns), _) => Body::Multi(MultiReply { txns, stats }),
            (_, OpCode::CREATE) => Body::Path(PathResponse { path }),
            (_, OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL) => {
                Body::Create(CreateResponse { path, stat })
            }
            (_, OpCode::SET_DATA | OpCode::SET_ACL) => Body::Stat(StatResponse { stat }),
            _ => Body::Nothing(Nothing),
        };
        self.reply(conn, reply, &body);
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

/// The shapes a write is answered in.
enum Body<'a> {
    Nothing(Nothing),
    Path(PathResponse<'a>),
    Create(CreateResponse<'a>),
    Stat(StatResponse),
    Multi(MultiReply<'a>),
}

impl Encode for Body<'_> {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Nothing(body) => body.encode(out),
            Self::Path(body) => body.encode(out),
            Self::Create(body) => body.encode(out),
            Self::Stat(body) => body.encode(out),
            Self::Multi(body) => body.encode(out),
        }
    }
}
