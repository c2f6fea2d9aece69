//! Preparing writes: each check in ZooKeeper's order (client-protocol, 6.2), against the tree and what is on its way.
//!
//! What passes becomes a transaction in absolute terms; what fails becomes an error transaction. Both take a zxid.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use zk_proto::create_mode::MAX_TTL_MS;
use zk_proto::jute::{Encode, Reader};
use zk_proto::path::check_path;
use zk_proto::session::{
    CheckVersionRequest, CreateRequest, CreateTtlRequest, DeleteRequest, Request, RequestHeader,
    SetAclRequest, SetDataRequest,
};
use zk_proto::txn::{
    CheckTxn, CreateTtlTxn, CreateTxn, DeleteTxn, PlainCreateTxn, SetAclTxn, SetDataTxn, Txn,
    TxnHeader, encode_txn,
};
use zk_proto::{
    Acl, CreateMode, EphemeralOwner, ErrorCode, Id, OpCode, Perms, SessionId, Xid, Zxid,
};

use super::conn::CloseReason;
use super::outstanding::{List, NodeView, Operation, Pending, Place, Reply, Saved, Slot, one_name};
use super::{Append, ConnId, Engine};
use crate::time::Time;
use crate::tree::acl;
use crate::tree::quota::{self, Track};

/// Nodes that cannot be deleted.
const FIXED: [&str; 4] = ["/", "/zookeeper", quota::QUOTA_ROOT, "/zookeeper/config"];

/// Bytes of the list of paths in a closeSession.
const MAX_CLOSE_LIST: usize = 512 << 10;

/// Who asks, and as which transaction.
pub(super) struct Asking<'a> {
    pub(super) session: SessionId,
    /// Whether the session is not ending: one that is takes no more writes.
    pub(super) alive: bool,
    pub(super) ids: &'a [Id],
    pub(super) zxid: Zxid,
}

impl Asking<'_> {
    fn check_session(&self) -> Result<(), ErrorCode> {
        if self.alive {
            Ok(())
        } else {
            Err(ErrorCode::SESSION_EXPIRED)
        }
    }
}

/// A createTTL's request is a create's and a time to live, in milliseconds.
pub(super) fn split_ttl(request: CreateTtlRequest<'_>) -> (CreateRequest<'_>, i64) {
    let CreateTtlRequest {
        path,
        data,
        acl,
        flags,
        ttl,
    } = request;
    let create = CreateRequest {
        path,
        data,
        acl,
        flags,
    };
    (create, ttl)
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
    fn look_parent(&self, path: &str) -> (Place, Option<NodeView>) {
        match self.changes.recent(one_name(path)) {
            Some(slot) => (Place::Record(slot), self.changes.view(slot).cloned()),
            None => self.look(path),
        }
    }

    fn allows(&self, view: &NodeView, needed: Perms, ids: &[Id]) -> Result<(), ErrorCode> {
        let allowed = |list: &Arc<[Acl]>| acl::allows(list, needed, ids);
        if self.config.skip_acl || view.acl.as_ref().is_none_or(allowed) {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    /// The list a write stores: as it is logged, and as nodes have it.
    fn fixed_acl(&self, list: Option<Vec<Acl>>, ids: &[Id]) -> Result<(Vec<Acl>, List), ErrorCode> {
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
    fn record(&mut self, txn: &Txn<'_>) -> Option<Range<usize>> {
        let start = self.scratch.len();
        txn.encode(&mut self.scratch);
        txn.data_place()
            .map(|place| start + place.start..start + place.end)
    }

    pub(super) fn prepare_create(
        &mut self,
        asking: &Asking<'_>,
        op: OpCode,
        request: CreateRequest<'_>,
        ttl: i64,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let CreateRequest {
            path,
            data,
            acl,
            flags,
        } = request;
        let mode = CreateMode::from_flags(flags).ok_or(ErrorCode::BAD_ARGUMENTS)?;
        if mode.is_ttl() && !self.config.extended_types {
            return Err(ErrorCode::UNIMPLEMENTED);
        }
        // A createTTL with another mode passes Java's checks and kills the server when it is applied.
        let ttl_fits = if mode.is_ttl() {
            (1..=MAX_TTL_MS).contains(&ttl)
        } else {
            ttl < 0
        };
        if !ttl_fits || mode.is_ttl() != (op == OpCode::CREATE_TTL) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        asking.check_session()?;
        let wanted = path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        // What is valid stays so with a number behind it.
        let valid = check_path(wanted).is_ok();
        let parent_path = parent_of(wanted)?;
        let (acl, list) = self.fixed_acl(acl, asking.ids)?;
        let (parent_place, parent) = self.look_parent(parent_path);
        let mut parent = parent.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&parent, Perms::CREATE, asking.ids)?;
        // The operation, not the mode, makes a container; only a plain create makes an ephemeral node.
        let ephemeral = mode.is_ephemeral() && op != OpCode::CREATE_CONTAINER;
        let numbered = mode
            .is_sequential()
            .then(|| format!("{wanted}{:010}", parent.cversion));
        let full = numbered.as_deref().unwrap_or(wanted);
        if !valid {
            check_path(full).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        }
        if full == "/" {
            return Err(ErrorCode::NODE_EXISTS);
        }
        let (place, there) = self.look(full);
        if there.is_some() {
            return Err(ErrorCode::NODE_EXISTS);
        }
        if parent.ephemeral_owner != 0 {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS);
        }
        let length = data.as_ref().map_or(0, |data| data.len() as i64);
        self.check_quota(full, 1, length)?;
        let parent_cversion = parent.cversion.wrapping_add(1);
        // The tree only takes a count that grows: at the end of the range it stays there.
        parent.cversion = parent_cversion;
        parent.children += 1;
        let zxid = asking.zxid;
        let parent_slot = self
            .changes
            .set(parent_place, parent_path, zxid, Some(parent), saved);
        self.changes.remember(parent_slot);
        let view = NodeView {
            version: 0,
            aversion: 0,
            cversion: 0,
            children: 0,
            acl: list.clone(),
            ephemeral_owner: if ephemeral { asking.session.0 } else { 0 },
            data_length: length,
        };
        let slot = self.changes.set(place, full, zxid, Some(view), saved);
        let path = full.into();
        let acl = Some(acl);
        let (txn, owner) = match op {
            OpCode::CREATE_CONTAINER => {
                let txn = PlainCreateTxn {
                    path,
                    data,
                    acl,
                    parent_cversion,
                };
                (Txn::CreateContainer(txn), EphemeralOwner::Container)
            }
            OpCode::CREATE_TTL => {
                let txn = CreateTtlTxn {
                    path,
                    data,
                    acl,
                    parent_cversion,
                    ttl,
                };
                (Txn::CreateTtl(txn), EphemeralOwner::Ttl(ttl))
            }
            _ => {
                let txn = CreateTxn {
                    path,
                    data,
                    acl,
                    ephemeral,
                    parent_cversion: Some(parent_cversion),
                };
                let owner = if ephemeral {
                    EphemeralOwner::Session(asking.session)
                } else {
                    EphemeralOwner::None
                };
                if op == OpCode::CREATE2 {
                    (Txn::Create2(txn), owner)
                } else {
                    (Txn::Create(txn), owner)
                }
            }
        };
        Ok(Operation::Create {
            op,
            slot,
            data: self.record(&txn),
            acl: list,
            owner: owner.to_stored(),
            parent_cversion,
        })
    }

    pub(super) fn prepare_delete(
        &mut self,
        asking: &Asking<'_>,
        request: DeleteRequest<'_>,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        let parent_path = parent_of(path)?;
        if FIXED.contains(&path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let (parent_place, parent) = self.look_parent(parent_path);
        let parent = parent.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&parent, Perms::DELETE, asking.ids)?;
        let (place, node) = self.look(path);
        let node = node.ok_or(ErrorCode::NO_NODE)?;
        expect_version(node.version, request.version)?;
        if node.children > 0 {
            return Err(ErrorCode::NOT_EMPTY);
        }
        let parent = (parent_path, parent_place, parent);
        let slot = self.record_delete(path, place, parent, asking.zxid, saved);
        self.record(&Txn::Delete(DeleteTxn { path: request.path }));
        Ok(Operation::Delete { slot })
    }

    /// Notes that a node will be gone, and its parent have one child less.
    fn record_delete(
        &mut self,
        path: &str,
        place: Place,
        (parent_path, parent_place, mut parent): (&str, Place, NodeView),
        zxid: Zxid,
        saved: &mut Saved,
    ) -> Slot {
        parent.children = parent.children.saturating_sub(1);
        let parent_slot = self
            .changes
            .set(parent_place, parent_path, zxid, Some(parent), saved);
        self.changes.remember(parent_slot);
        self.changes.set(place, path, zxid, None, saved)
    }

    pub(super) fn prepare_set_data(
        &mut self,
        asking: &Asking<'_>,
        request: SetDataRequest<'_>,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let (place, node) = self.look(path);
        let mut node = node.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::WRITE, asking.ids)?;
        let length = request.data.as_ref().map_or(0, |data| data.len() as i64);
        self.check_quota(path, 0, length - node.data_length)?;
        expect_version(node.version, request.version)?;
        node.version = node.version.wrapping_add(1);
        node.data_length = length;
        let version = node.version;
        let slot = self
            .changes
            .set(place, path, asking.zxid, Some(node), saved);
        let data = self.record(&Txn::SetData(SetDataTxn {
            path: request.path,
            data: request.data,
            version,
        }));
        Ok(Operation::SetData {
            slot,
            data,
            version,
        })
    }

    fn prepare_set_acl(
        &mut self,
        asking: &Asking<'_>,
        request: SetAclRequest<'_>,
        saved: &mut Saved,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let (acl, list) = self.fixed_acl(request.acl, asking.ids)?;
        let (place, node) = self.look(path);
        let mut node = node.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::ADMIN, asking.ids)?;
        expect_version(node.aversion, request.version)?;
        node.aversion = node.aversion.wrapping_add(1);
        node.acl = list.clone();
        let version = node.aversion;
        let slot = self
            .changes
            .set(place, path, asking.zxid, Some(node), saved);
        self.record(&Txn::SetAcl(SetAclTxn {
            path: request.path,
            acl: Some(acl),
            version,
        }));
        Ok(Operation::SetAcl {
            slot,
            acl: list,
            version,
        })
    }

    pub(super) fn prepare_check(
        &mut self,
        asking: &Asking<'_>,
        request: CheckVersionRequest<'_>,
    ) -> Result<Operation, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let (_, node) = self.look(path);
        let node = node.ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::READ, asking.ids)?;
        expect_version(node.version, request.version)?;
        // Java logs the version a write would have made.
        self.record(&Txn::Check(CheckTxn {
            path: request.path,
            version: node.version.wrapping_add(1),
        }));
        Ok(Operation::Check)
    }

    /// Hard limits of the quota that covers `path`, against the usage that is applied: a multi may overshoot, as in Java.
    fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
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

    /// A container or TTL node is to go, if it is still empty when its turn comes.
    pub(super) fn prepare_delete_container(&mut self, path: &str, now: Time, wall_ms: i64) {
        let zxid = Zxid(self.last_prepared.0 + 1);
        let Ok(parent_path) = parent_of(path) else {
            return;
        };
        let (place, node) = self.look(path);
        // Something about it is on its way: it is not to go before the next round has looked again.
        if matches!(place, Place::Record(_)) {
            return;
        }
        let (parent_place, parent) = self.look_parent(parent_path);
        let (Some(parent), Some(node)) = (parent, node) else {
            return;
        };
        if node.children > 0 || node.ephemeral_owner != 0 {
            return;
        }
        let mut saved = std::mem::take(&mut self.saved);
        let parent = (parent_path, parent_place, parent);
        self.record_delete(path, place, parent, zxid, &mut saved);
        self.saved = saved;
        let txn = Txn::DeleteContainer(DeleteTxn { path: path.into() });
        self.propose(SessionId(0), Xid(0), &txn, Reply::None, now, wall_ms);
    }

    /// The server itself ends a session.
    pub(super) fn prepare_close(&mut self, session: SessionId, wall_ms: i64, now: Time) {
        // A client that is silent past its timeout just sees its connection closed.
        if let Some(conn) = self.owners.get(&session).copied() {
            self.close(conn, CloseReason::SessionClosed);
        }
        self.propose_close(session, Xid(0), Reply::None, now, wall_ms);
    }

    fn propose_close(
        &mut self,
        session: SessionId,
        xid: Xid,
        reply: Reply,
        now: Time,
        wall_ms: i64,
    ) -> Zxid {
        let mut paths: BTreeSet<String> =
            self.tree.ephemerals(session).map(str::to_owned).collect();
        self.changes.adjust_ephemerals(session, &mut paths);
        let zxid = Zxid(self.last_prepared.0 + 1);
        let mut saved = std::mem::take(&mut self.saved);
        for path in &paths {
            if let Ok(parent_path) = parent_of(path)
                && let (parent_place, Some(parent)) = self.look_parent(parent_path)
            {
                let (place, _) = self.look(path);
                let parent = (parent_path, parent_place, parent);
                self.record_delete(path, place, parent, zxid, &mut saved);
            }
        }
        self.saved = saved;
        // Too long a list would not fit into a log record. Without one the transaction means all that the session owns, as
        // in releases before 3.6.
        let fits = paths.iter().map(|path| path.len() + 4).sum::<usize>() <= MAX_CLOSE_LIST;
        let paths = fits.then(|| paths.into_iter().map(Into::into).collect());
        self.propose(
            session,
            xid,
            &Txn::CloseSession { paths },
            reply,
            now,
            wall_ms,
        )
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
        self.outstanding_bytes += payload.len();
        self.outstanding.push_back(Pending {
            header,
            payload,
            reply,
            received,
            operations: self.operations.len() - first,
            touched: saved.len(),
        });
        self.touched.extend(saved.drain(..).map(|(slot, _)| slot));
        self.saved = saved;
    }
}

/// The path above, by text alone: a malformed path has one too.
fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    match path.rsplit_once('/') {
        Some((parent, _)) if !path.contains('\0') => Ok(parent),
        _ => Err(ErrorCode::BAD_ARGUMENTS),
    }
}

/// −1 is any version; any other must be the current one.
fn expect_version(current: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == current {
        Ok(())
    } else {
        Err(ErrorCode::BAD_VERSION)
    }
}

/// What a stored owner makes of a node, for the sweep.
pub(super) fn is_sweepable(owner: EphemeralOwner) -> bool {
    matches!(owner, EphemeralOwner::Container | EphemeralOwner::Ttl(_))
}
