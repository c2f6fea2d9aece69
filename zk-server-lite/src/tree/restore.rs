//! Filling a tree from a snapshot, before it serves.

use zk_proto::txn::NodeEntry;
use zk_proto::{Acl, Id, Perms, SessionId, Zxid};

use super::acl::AclId;
use super::node::StatFields;
use super::{DataTree, ROOT};

/// No permission for anyone: what a node has whose access list is not known.
const SEALED: Acl = Acl {
    perms: Perms(0),
    id: Id::anyone(),
};

/// A snapshot record that does not fit what came before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A node came before its parent.
    #[error("node {path} comes before its parent")]
    NoParent {
        /// The node.
        path: String,
    },
    /// A node came twice.
    #[error("node {path} occurs twice")]
    Twice {
        /// The node.
        path: String,
    },
}

impl DataTree {
    /// A tree to be filled from a snapshot, which brings even ZooKeeper's own nodes.
    #[must_use]
    pub fn for_restore(extended_types: bool) -> Self {
        Self::bare(extended_types)
    }

    /// Takes an access list of a snapshot.
    pub fn restore_acl(&mut self, id: i64, list: &[Acl]) {
        // Numbers are Java's own counter, small and positive; −1 is never listed.
        if let Ok(id) = u32::try_from(id) {
            self.acls.restore(id, list);
        }
    }

    /// Takes a node of a snapshot; parents come first, and the root's path is empty.
    ///
    /// # Errors
    /// When the node's parent is not there, or the node is there already.
    pub fn restore_node(&mut self, entry: &NodeEntry<'_>) -> Result<(), RestoreError> {
        let path = entry.path.or_empty();
        let persisted = &entry.stat;
        let stat = StatFields {
            czxid: persisted.czxid.0,
            mzxid: persisted.mzxid.0,
            pzxid: persisted.pzxid.0,
            ctime: persisted.ctime,
            mtime: persisted.mtime,
            owner: persisted.ephemeral_owner,
            version: persisted.version,
            cversion: persisted.cversion,
            aversion: persisted.aversion,
        };
        let acl = match u32::try_from(entry.acl_id).map(AclId) {
            _ if entry.acl_id == -1 => AclId::OPEN,
            Ok(acl) if self.acls.retain(acl) => acl,
            // A list that the table lacks was added after the table was written; replay brings it (ZOOKEEPER-3306). Until
            // then, and for good if the log does not, nobody but `super` is let in: a lost list must not open a node.
            _ => {
                tracing::debug!(
                    path,
                    acl = entry.acl_id,
                    "an access list that the snapshot lacks"
                );
                self.acls.intern(&[SEALED])
            }
        };
        if path.is_empty() {
            let root = self.slab.get_mut(ROOT);
            root.stat = stat;
            root.acl = acl;
            let before = i64::from(root.data_length());
            root.set_data(entry.data.as_deref());
            let after = i64::from(root.data_length());
            self.data_size = self.data_size.wrapping_add_signed(after - before);
            self.refresh_digest(ROOT, "");
            return Ok(());
        }
        if self.find(path).is_some() {
            return Err(RestoreError::Twice {
                path: path.to_owned(),
            });
        }
        match self.insert(path, entry.data.as_deref(), acl, stat) {
            Some(_) => Ok(()),
            None => Err(RestoreError::NoParent {
                path: path.to_owned(),
            }),
        }
    }

    /// Says that the snapshot is complete and stands at `zxid`.
    pub fn snapshot_loaded(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
    }

    /// Ends loading: drops unused access lists and ephemeral nodes of sessions that are not `alive`, arms quotas.
    pub fn loaded(&mut self, alive: impl Fn(SessionId) -> bool) {
        let orphans: Vec<String> = self
            .all_ephemerals()
            .filter(|(session, _)| !alive(*session))
            .flat_map(|(_, paths)| paths.iter().map(|path| path.to_string()))
            .collect();
        for path in orphans {
            if let Some(id) = self
                .find(&path)
                .filter(|id| self.slab.get(*id).children == 0)
            {
                self.remove(id, &path);
            }
        }
        self.acls.drop_unused();
        self.arm_quotas();
        // Files of releases before 3.5 have no configuration node.
        for path in ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            if self.find(path).is_none() {
                self.insert(path, Some(&[]), AclId::OPEN, StatFields::default());
                if path == "/zookeeper/config" {
                    self.protect_config();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::acl;

    #[test]
    fn a_node_whose_access_list_is_lost_is_closed_until_replay_brings_it() {
        let mut tree = DataTree::for_restore(true);
        tree.restore_acl(3, &[Acl::read_unsafe()]);
        let node = |path: &'static str, acl_id| NodeEntry {
            path: path.into(),
            acl_id,
            ..NodeEntry::default()
        };
        for (path, acl_id) in [
            ("/open", -1),
            ("/listed", 3),
            ("/lost", 4),
            ("/far", 1 << 40),
        ] {
            tree.restore_node(&node(path, acl_id)).unwrap();
        }
        let may = |path, needed, ids: &[Id]| {
            acl::allows(&tree.acl(tree.find(path).unwrap()), needed, ids)
        };
        assert!(may("/open", Perms::WRITE, &[]));
        assert!(may("/listed", Perms::READ, &[]) && !may("/listed", Perms::WRITE, &[]));
        for path in ["/lost", "/far"] {
            assert!(!may(path, Perms::READ, &[]) && !may(path, Perms::ADMIN, &[]));
            assert!(may(path, Perms::ADMIN, &[Id::new("super", "")]));
        }
    }
}
