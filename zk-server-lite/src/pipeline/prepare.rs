//! Preparing writes: each check in ZooKeeper's order (client-protocol, 6.2), against the tree and what is on its way.
//!
//! What passes becomes a transaction in absolute terms; what fails becomes an error transaction. Both take a zxid.

use std::collections::BTreeSet;
use std::sync::Arc;

use zk_proto::create_mode::MAX_TTL_MS;
use zk_proto::jute::Reader;
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
use super::outstanding::{NodeView, Pending, Reply, Saved};
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
        let request = match Request::decode(op, reader) {
            Err(_) if op != OpCode::MULTI => return Err(ErrorCode::MARSHALLING_ERROR),
            request => request.map_err(|_| ErrorCode::MARSHALLING_ERROR),
        };
        let ids = match self.conns.get(&conn) {
            Some(state) => Arc::clone(&state.ids),
            None => Arc::new([]),
        };
        let asking = Asking {
            session,
            alive: self.tracker.is_alive(session),
            ids: &ids,
            zxid: Zxid(self.last_prepared.0 + 1),
        };
        let mut saved = Saved::new();
        let txn = request.and_then(|request| self.prepare(&asking, op, request, &mut saved));
        let txn = txn.unwrap_or_else(|code| {
            self.changes.roll_back(std::mem::take(&mut saved));
            Txn::Error(code)
        });
        Ok(self.propose(session, header.xid, &txn, reply, saved, now, wall_ms))
    }

    fn prepare<'a>(
        &mut self,
        asking: &Asking<'_>,
        op: OpCode,
        request: Request<'a>,
        saved: &mut Saved,
    ) -> Result<Txn<'a>, ErrorCode> {
        match request {
            Request::Create(create) => self.prepare_create(asking, op, create, -1, saved),
            Request::CreateTtl(create) => {
                let (create, ttl) = split_ttl(create);
                self.prepare_create(asking, op, create, ttl, saved)
            }
            Request::Delete(delete) => self.prepare_delete(asking, &delete, saved),
            Request::SetData(set) => self.prepare_set_data(asking, set, saved),
            Request::SetAcl(set) => self.prepare_set_acl(asking, set, saved),
            Request::Multi(multi) => Ok(self.prepare_multi(asking, multi, saved)),
            Request::Reconfig(_) => Err(ErrorCode::RECONFIG_DISABLED),
            // deleteContainer is made by servers only. Java 3.9 deletes for anyone who asks; 3.8 refuses with this code.
            Request::Path(_) => Err(ErrorCode::BAD_ARGUMENTS),
            // A second closeSession: the first one is on its way.
            _ => Err(ErrorCode::SESSION_EXPIRED),
        }
    }

    /// What a node is or will be.
    pub(super) fn view(&self, path: &str) -> Option<NodeView> {
        if let Some(view) = self.changes.get(path) {
            return view.clone();
        }
        let id = self.tree.find(path)?;
        let node = self.tree.node(id);
        Some(NodeView {
            version: node.stat.version,
            aversion: node.stat.aversion,
            cversion: node.stat.cversion,
            children: node.child_count(),
            acl: self.tree.acl(id),
            ephemeral_owner: self.tree.owner(id).visible(),
            data_length: i64::from(node.data_length()),
        })
    }

    fn allows(&self, view: &NodeView, needed: Perms, ids: &[Id]) -> Result<(), ErrorCode> {
        if self.config.skip_acl || acl::allows(&view.acl, needed, ids) {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    fn fixed_acl(&self, list: Option<Vec<Acl>>, ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
        match list {
            // What almost every create brings is as it should be.
            Some(list) if acl::is_open(&list) => Ok(list),
            list => acl::fix_up(list.as_deref(), ids, self.config.digest_auth)
                .ok_or(ErrorCode::INVALID_ACL),
        }
    }

    pub(super) fn prepare_create<'a>(
        &mut self,
        asking: &Asking<'_>,
        op: OpCode,
        request: CreateRequest<'a>,
        ttl: i64,
        saved: &mut Saved,
    ) -> Result<Txn<'a>, ErrorCode> {
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
        let parent_path = parent_of(wanted)?;
        let acl = self.fixed_acl(acl, asking.ids)?;
        let mut parent = self.view(parent_path).ok_or(ErrorCode::NO_NODE)?;
        self.allows(&parent, Perms::CREATE, asking.ids)?;
        // The operation, not the mode, makes a container; only a plain create makes an ephemeral node.
        let ephemeral = mode.is_ephemeral() && op != OpCode::CREATE_CONTAINER;
        let numbered = mode
            .is_sequential()
            .then(|| format!("{wanted}{:010}", parent.cversion));
        // The parent's path survives the name: it is a part of either.
        let parent_path = parent_path.to_owned();
        let path = numbered.map_or(path, Into::into);
        let full = path.or_empty();
        check_path(full).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        if full == "/" || self.view(full).is_some() {
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
        self.changes
            .set(&parent_path, asking.zxid, Some(parent), saved);
        let view = NodeView {
            version: 0,
            aversion: 0,
            cversion: 0,
            children: 0,
            acl: self.tree.acls().shared(&acl),
            ephemeral_owner: if ephemeral { asking.session.0 } else { 0 },
            data_length: length,
        };
        self.changes.set(full, asking.zxid, Some(view), saved);
        let acl = Some(acl);
        Ok(match op {
            OpCode::CREATE_CONTAINER => Txn::CreateContainer(PlainCreateTxn {
                path,
                data,
                acl,
                parent_cversion,
            }),
            OpCode::CREATE_TTL => Txn::CreateTtl(CreateTtlTxn {
                path,
                data,
                acl,
                parent_cversion,
                ttl,
            }),
            _ => {
                let txn = CreateTxn {
                    path,
                    data,
                    acl,
                    ephemeral,
                    parent_cversion: Some(parent_cversion),
                };
                if op == OpCode::CREATE2 {
                    Txn::Create2(txn)
                } else {
                    Txn::Create(txn)
                }
            }
        })
    }

    pub(super) fn prepare_delete<'a>(
        &mut self,
        asking: &Asking<'_>,
        request: &DeleteRequest<'a>,
        saved: &mut Saved,
    ) -> Result<Txn<'a>, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        let parent_path = parent_of(path)?;
        if FIXED.contains(&path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let parent = self.view(parent_path).ok_or(ErrorCode::NO_NODE)?;
        self.allows(&parent, Perms::DELETE, asking.ids)?;
        let node = self.view(path).ok_or(ErrorCode::NO_NODE)?;
        expect_version(node.version, request.version)?;
        if node.children > 0 {
            return Err(ErrorCode::NOT_EMPTY);
        }
        self.record_delete(path, parent_path, parent, asking.zxid, saved);
        Ok(Txn::Delete(DeleteTxn {
            path: request.path.clone(),
        }))
    }

    fn record_delete(
        &mut self,
        path: &str,
        parent_path: &str,
        mut parent: NodeView,
        zxid: Zxid,
        saved: &mut Saved,
    ) {
        parent.children = parent.children.saturating_sub(1);
        self.changes.set(parent_path, zxid, Some(parent), saved);
        self.changes.set(path, zxid, None, saved);
    }

    pub(super) fn prepare_set_data<'a>(
        &mut self,
        asking: &Asking<'_>,
        request: SetDataRequest<'a>,
        saved: &mut Saved,
    ) -> Result<Txn<'a>, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let mut node = self.view(path).ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::WRITE, asking.ids)?;
        let length = request.data.as_ref().map_or(0, |data| data.len() as i64);
        self.check_quota(path, 0, length - node.data_length)?;
        expect_version(node.version, request.version)?;
        node.version = node.version.wrapping_add(1);
        node.data_length = length;
        let version = node.version;
        self.changes.set(path, asking.zxid, Some(node), saved);
        Ok(Txn::SetData(SetDataTxn {
            path: request.path,
            data: request.data,
            version,
        }))
    }

    fn prepare_set_acl<'a>(
        &mut self,
        asking: &Asking<'_>,
        request: SetAclRequest<'a>,
        saved: &mut Saved,
    ) -> Result<Txn<'a>, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let acl = self.fixed_acl(request.acl, asking.ids)?;
        let mut node = self.view(path).ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::ADMIN, asking.ids)?;
        expect_version(node.aversion, request.version)?;
        node.aversion = node.aversion.wrapping_add(1);
        node.acl = acl::shared(&acl);
        let version = node.aversion;
        self.changes.set(path, asking.zxid, Some(node), saved);
        Ok(Txn::SetAcl(SetAclTxn {
            path: request.path,
            acl: Some(acl),
            version,
        }))
    }

    pub(super) fn prepare_check<'a>(
        &self,
        asking: &Asking<'_>,
        request: CheckVersionRequest<'a>,
    ) -> Result<Txn<'a>, ErrorCode> {
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        asking.check_session()?;
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let node = self.view(path).ok_or(ErrorCode::NO_NODE)?;
        self.allows(&node, Perms::READ, asking.ids)?;
        expect_version(node.version, request.version)?;
        // Java logs the version a write would have made.
        Ok(Txn::Check(CheckTxn {
            path: request.path,
            version: node.version.wrapping_add(1),
        }))
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
        // Something about it is on its way: it is not to go before the next round has looked again.
        if self.changes.get(path).is_some() {
            return;
        }
        let (Some(parent), Some(node)) = (self.view(parent_path), self.view(path)) else {
            return;
        };
        if node.children > 0 || node.ephemeral_owner != 0 {
            return;
        }
        let mut saved = Saved::new();
        self.record_delete(path, parent_path, parent, zxid, &mut saved);
        let txn = Txn::DeleteContainer(DeleteTxn { path: path.into() });
        self.propose(SessionId(0), Xid(0), &txn, Reply::None, saved, now, wall_ms);
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
        let mut saved = Saved::new();
        for path in &paths {
            if let Ok(parent_path) = parent_of(path)
                && let Some(parent) = self.view(parent_path)
            {
                self.record_delete(path, parent_path, parent, zxid, &mut saved);
            }
        }
        // Too long a list would not fit into a log record. Without one the transaction means all that the session owns, as
        // in releases before 3.6.
        let fits = paths.iter().map(|path| path.len() + 4).sum::<usize>() <= MAX_CLOSE_LIST;
        let paths = fits.then(|| paths.into_iter().map(Into::into).collect());
        self.propose(
            session,
            xid,
            &Txn::CloseSession { paths },
            reply,
            saved,
            now,
            wall_ms,
        )
    }

    /// Gives a transaction its place in history and hands it to the log.
    #[expect(
        clippy::too_many_arguments,
        reason = "a transaction is its header, body, records, times and who waits"
    )]
    pub(super) fn propose(
        &mut self,
        session: SessionId,
        xid: Xid,
        txn: &Txn<'_>,
        reply: Reply,
        saved: Saved,
        now: Time,
        wall_ms: i64,
    ) -> Zxid {
        self.last_prepared.0 += 1;
        let zxid = self.last_prepared;
        let header = TxnHeader {
            client_id: session,
            cxid: xid,
            zxid,
            time: wall_ms,
            op: txn.op(),
        };
        encode_txn(&header, txn, None, &mut self.scratch);
        let payload = self.scratch.split().freeze();
        self.appends.push(Append {
            zxid,
            payload: payload.clone(),
        });
        self.outstanding_bytes += payload.len();
        let touched = saved.into_iter().map(|(path, _)| path).collect();
        self.outstanding.push_back(Pending {
            zxid,
            payload,
            reply,
            received: now,
            touched,
        });
        zxid
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
