//! Preparing what takes nodes away: deletes, the end of sessions with their ephemeral nodes, and containers and TTL nodes
//! that nothing keeps.

use std::collections::BTreeSet;

use zk_proto::session::DeleteRequest;
use zk_proto::txn::{DeleteTxn, Txn};
use zk_proto::{ErrorCode, Perms, SessionId, Xid, Zxid};

use super::Engine;
use super::conn::CloseReason;
use super::outstanding::{NodeView, Operation, Place, Reply, Saved, Slot};
use super::prepare::{Asking, expect_version, parent_of};
use crate::time::Time;
use crate::tree::quota;

/// Nodes that cannot be deleted.
const FIXED: [&str; 4] = ["/", "/zookeeper", quota::QUOTA_ROOT, "/zookeeper/config"];

/// Bytes of the list of paths in a closeSession.
const MAX_CLOSE_LIST: usize = 512 << 10;

impl Engine {
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

    pub(super) fn propose_close(
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
}
