//! Where recovery meets the database: what `storage` reads from files goes into what `pipeline` starts from.
//!
//! The only place that knows both. No rule of either lives here.

use zk_proto::txn::{NodeEntry, Txn, TxnDigest, TxnHeader};
use zk_proto::{Acl, SessionId, Zxid};

use crate::pipeline::Database;
use crate::storage::{Restore, RestoreError};
use crate::tree;

impl Restore for Database {
    fn reset(&mut self) {
        Self::reset(self);
    }

    fn session(&mut self, id: SessionId, timeout_ms: i32) {
        Self::session(self, id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        Self::acl(self, id, &acl);
    }

    fn node(&mut self, entry: NodeEntry<'_>) -> Result<(), RestoreError> {
        Self::node(self, &entry).map_err(|error| match error {
            tree::RestoreError::NoParent { path } => RestoreError::NoParent { path },
            tree::RestoreError::Twice { path } => RestoreError::Duplicate { path },
        })
    }

    fn snapshot_loaded(&mut self, zxid: Zxid, digest: Option<(Zxid, u64)>) {
        Self::snapshot_loaded(self, zxid, digest);
    }

    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
    ) -> Result<(), RestoreError> {
        self.replay(header, txn, digest);
        Ok(())
    }
}
