//! Preparing writes: each check in ZooKeeper's order (client-protocol, 6.2), against the tree and what is on its way.
//!
//! What passes becomes a transaction in absolute terms; what fails becomes an error transaction. Both take a zxid. Here is
//! what all kinds of writes share; each family has a file of its own beside this one.

use std::ops::Range;
use std::sync::Arc;

use zk_proto::jute::{Encode, Reader};
use zk_proto::session::{Request, RequestHeader};
use zk_proto::txn::{Txn, TxnHeader, encode_txn};
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms, SessionId, Xid, Zxid};

use super::outstanding::{List, NodeView, Operation, Pending, Place, Reply, Saved, one_name};
use super::prepare_create::split_ttl;
use super::{Append, ConnId, Engine};
use crate::time::Time;
use crate::tree::acl;
use crate::tree::quota::{self, Track};
use crate::tree::split_path;

/// Who asks, and as which transaction.
pub(super) struct Asking<'a> {
    pub(super) session: SessionId,
    /// Whether the session is not ending: one that is takes no more writes.
    pub(super) alive: bool,
    pub(super) ids: &'a [Id],
    pub(super) zxid: Zxid,
}

impl Asking<'_> {
    pub(super) fn check_session(&self) -> Result<(), ErrorCode> {
        if self.alive {
            Ok(())
        } else {
            Err(ErrorCode::SESSION_EXPIRED)
        }
    }
}

impl Engine {
    /// Prepares a request's transaction; returns its zxid. What cannot be read takes none, unless it is a multi, as in 3.9.
    pub(super) fn prepare_request(
        &mut self,
        conn: ConnId,
        session: SessionId,
        header: RequestHeader,
        reader: &mut Reader<'_>,
        now: Time,
        wall_ms: i64,
    ) -> Result<Zxid, ErrorCode> {
        let op = header.op;
        let reply = Reply::Request { conn, op };
        if op == OpCode::CLOSE_SESSION && self.tracker.mark_closing(session) {
            return Ok(self.propose_close(session, header.xid, reply, now, wall_ms));
        }
        let request = match op {
            OpCode::MULTI => None,
            _ => Some(Request::decode(op, reader).map_err(|_| ErrorCode::MARSHALLING_ERROR)?),
        };
        let ids = match self.conns.get(&conn) {
            Some(state) => Arc::clone(&state.ids),
            None => Arc::new([]),
        };
        let zxid = Zxid(self.last_prepared.0 + 1);
        let asking = Asking {
            session,
            alive: self.tracker.is_alive(session),
            ids: &ids,
            zxid,
        };
        let mut header = TxnHeader {
            client_id: session,
            cxid: header.xid,
            zxid,
            time: wall_ms,
            op,
        };
        let first = self.operations.len();
        let mut saved = std::mem::take(&mut self.saved);
        header.encode(&mut self.scratch);
        let prepared = match request {
            Some(request) => self
                .prepare(&asking, op, request, &mut saved)
                .map(|operation| self.operations.push_back(operation)),
            None => self.prepare_multi(&asking, reader, &mut saved),
        };
        if let Err(code) = prepared {
            self.changes.roll_back(&mut saved);
            self.operations.truncate(first);
            self.operations.push_back(Operation::Error(code));
            self.scratch.clear();
            header.op = OpCode::ERROR;
            header.encode(&mut self.scratch);
            Txn::Error(code).encode(&mut self.scratch);
        }
        self.enqueue(header, reply, first, saved, now);
        Ok(zxid)
    }

    fn prepare(
        &mut self,
        asking: &Asking<'_>,
        op: OpCode,
        request: Request<'_>,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        match request {
            Request::Create(create) => self.prepare_create(asking, op, create, -1, saved),
            Request::CreateTtl(create) => {
                let (create, ttl) = split_ttl(create);
                self.prepare_create(asking, op, create, ttl, saved)
            }
            Request::Delete(delete) => self.prepare_delete(asking, delete, saved),
            Request::SetData(set) => self.prepare_set_data(asking, set, saved),
            Request::SetAcl(set) => self.prepare_set_acl(asking, set, saved),
            Request::Reconfig(_) => Err(ErrorCode::RECONFIG_DISABLED),
            // deleteContainer is made by servers only. Java 3.9 deletes for anyone who asks; 3.8 refuses with this code.
            Request::Path(_) => Err(ErrorCode::BAD_ARGUMENTS),
            // A second closeSession: the first one is on its way.
            _ => Err(ErrorCode::SESSION_EXPIRED),
        }
    }

    /// What a node is or will be, and where that is kept.
    pub(super) fn look(&self, path: &str) -> (Place, Option<NodeView>) {
        let path = one_name(path);
        let hash = self.tree.hash(path);
        if let Some(slot) = self.changes.find(path, hash) {
            return (Place::Record(slot), self.changes.view(slot).cloned());
        }
        let id = match path {
            "" => self.tree.find(path),
            _ => self.tree.find_hashed(path, hash),
        };
        let view = id.map(|id| {
            let node = self.tree.node(id);
            NodeView {
                version: node.stat.version,
                aversion: node.stat.aversion,
                cversion: node.stat.cversion,
                children: node.child_count(),
                acl: self.tree.listed_acl(id),
                ephemeral_owner: self.tree.owner(id).visible(),
                data_length: i64::from(node.data_length()),
            }
        });
        (Place::Free(hash), view)
    }

    /// As [`look`](Self::look), for a parent: requests one after another tend to have the same.
    pub(super) fn look_parent(&self, path: &str) -> (Place, Option<NodeView>) {
        match self.changes.recent(one_name(path)) {
            Some(slot) => (Place::Record(slot), self.changes.view(slot).cloned()),
            None => self.look(path),
        }
    }

    pub(super) fn allows(
        &self,
        view: &NodeView,
        needed: Perms,
        ids: &[Id],
    ) -> Result<(), ErrorCode> {
        let allowed = |list: &Arc<[Acl]>| acl::allows(list, needed, ids);
        if self.config.skip_acl || view.acl.as_ref().is_none_or(allowed) {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    /// The list a write stores: as it is logged, and as nodes have it.
    pub(super) fn fixed_acl(
        &self,
        list: Option<Vec<Acl>>,
        ids: &[Id],
    ) -> Result<(Vec<Acl>, List), ErrorCode> {
        match list {
            // What almost every create brings is as it should be.
            Some(list) if acl::is_open(&list) => Ok((list, None)),
            list => {
                let list = acl::fix_up(list.as_deref(), ids, self.config.digest_auth)
                    .ok_or(ErrorCode::INVALID_ACL)?;
                let shared = (!acl::is_open(&list)).then(|| self.tree.acls().shared(&list));
                Ok((list, shared))
            }
        }
    }

    /// Writes an operation's record into the payload; returns where in it the node's data stands.
    pub(super) fn record(&mut self, txn: &Txn<'_>) -> Option<Range<usize>> {
        let start = self.scratch.len();
        txn.encode(&mut self.scratch);
        txn.data_place()
            .map(|place| start + place.start..start + place.end)
    }

    /// Hard limits of the quota that covers `path`, against the usage that is applied: a multi may overshoot, as in Java.
    pub(super) fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.config.enforce_quota {
            return Ok(());
        }
        let Some(subject) = self.tree.quotas().covering(path) else {
            return Ok(());
        };
        let track = |name| {
            let id = self
                .tree
                .find(&format!("{}{subject}/{name}", quota::QUOTA_ROOT))?;
            Some(Track::parse(self.tree.node(id).data().unwrap_or_default()))
        };
        let (Some(limits), Some(used)) = (track(quota::LIMITS), track(quota::STATS)) else {
            return Ok(());
        };
        let exceeded =
            |limit: i64, used: i64, more: i64| limit > -1 && more != 0 && used + more > limit;
        if exceeded(limits.count_hard, used.count, count)
            || exceeded(limits.bytes_hard, used.bytes, bytes)
        {
            return Err(ErrorCode::QUOTA_EXCEEDED);
        }
        Ok(())
    }

    /// Proposes a transaction that is not worth preparing to be applied; `self.saved` has what it touches.
    pub(super) fn propose(
        &mut self,
        session: SessionId,
        xid: Xid,
        txn: &Txn<'_>,
        reply: Reply,
        now: Time,
        wall_ms: i64,
    ) -> Zxid {
        let header = TxnHeader {
            client_id: session,
            cxid: xid,
            zxid: Zxid(self.last_prepared.0 + 1),
            time: wall_ms,
            op: txn.op(),
        };
        encode_txn(&header, txn, None, &mut self.scratch);
        let first = self.operations.len();
        self.operations.push_back(Operation::Logged);
        let saved = std::mem::take(&mut self.saved);
        self.enqueue(header, reply, first, saved, now);
        header.zxid
    }

    /// Gives a transaction its place in history and hands it to the log: its payload is in `scratch`, its operations are
    /// those from `first` on.
    fn enqueue(
        &mut self,
        header: TxnHeader,
        reply: Reply,
        first: usize,
        mut saved: Saved,
        received: Time,
    ) {
        let zxid = header.zxid;
        self.last_prepared = zxid;
        let payload = self.scratch.split().freeze();
        self.appends.push(Append {
            zxid,
            payload: payload.clone(),
        });
        let pending = Pending {
            header,
            payload,
            reply,
            received,
            operations: self.operations.len() - first,
            touched: saved.len(),
        };
        self.outstanding_bytes += pending.bytes();
        self.outstanding.push_back(pending);
        self.touched.extend(saved.drain(..).map(|(slot, _)| slot));
        self.saved = saved;
    }
}

/// The path above, by text alone: a malformed path has one too.
pub(super) fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    match split_path(path) {
        Some((parent, _)) if !path.contains('\0') => Ok(parent),
        _ => Err(ErrorCode::BAD_ARGUMENTS),
    }
}

/// −1 is any version; any other must be the current one.
pub(super) fn expect_version(current: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == current {
        Ok(())
    } else {
        Err(ErrorCode::BAD_VERSION)
    }
}
