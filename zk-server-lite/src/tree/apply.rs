//! Applying a transaction: the only way the tree changes while it serves.
//!
//! Transactions are absolute, so applying one again does no harm: recovery replays some that a snapshot already holds
//! (disk-formats, 6.1). While serving, every transaction was prepared against the tree and cannot fail.

use std::sync::Arc;

use zk_proto::txn::{Txn, TxnHeader};
use zk_proto::{Acl, EphemeralOwner, SessionId, Stat, Zxid};

use super::acl::AclId;
use super::node::{NodeId, StatFields};
use super::quota::{self, Track};
use super::{DataTree, split_path};

/// What a transaction did to one node, for watches.
#[derive(Debug, Clone)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// To which node.
    pub path: Box<str>,
    /// Who may see it: the node's access list, or the one it had.
    pub acl: Arc<[Acl]>,
    /// Who may see that the parent's list of children changed. `None` when it did not.
    pub parent_acl: Option<Arc<[Acl]>>,
}

/// A node to be created, as the records of the log and prepared requests both have it.
#[derive(Debug)]
pub(crate) struct NewNode<'a> {
    pub(crate) path: &'a str,
    /// The path's, by [`DataTree::hash`].
    pub(crate) hash: u64,
    pub(crate) data: Option<&'a [u8]>,
    /// `None` is the open list.
    pub(crate) acl: Option<&'a [Acl]>,
    /// As it is stored.
    pub(crate) owner: i64,
    pub(crate) parent_cversion: Option<i32>,
}

/// What happened to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
}

impl DataTree {
    /// Applies a transaction. Changes are appended in order, where anybody wants them; the Stat of each created or changed
    /// node is appended to `stats`, one entry for each operation that answers with one.
    pub fn apply(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        mut changes: Option<&mut Vec<Change>>,
        stats: &mut Vec<Option<Stat>>,
    ) {
        match txn {
            // A multi that failed is logged with an error in the place of the operation that failed; it changes nothing.
            Txn::Multi(txns) if txns.iter().any(|txn| matches!(txn, Txn::Error(_))) => {}
            Txn::Multi(txns) => {
                for txn in txns {
                    let stat = self.apply_one(header, txn, changes.as_deref_mut());
                    stats.push(stat);
                }
            }
            _ => {
                let stat = self.apply_one(header, txn, changes);
                stats.push(stat);
            }
        }
        // Moved only after the whole of it: a snapshot must not name a transaction that is half applied.
        self.last_zxid = header.zxid;
    }

    fn apply_one(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        changes: Option<&mut Vec<Change>>,
    ) -> Option<Stat> {
        let (zxid, time) = (header.zxid, header.time);
        match txn {
            Txn::Create(create) | Txn::Create2(create) => {
                let path = create.path.or_empty();
                let new = NewNode {
                    path,
                    hash: self.hash(path),
                    data: create.data.as_deref(),
                    acl: Some(create.acl.as_deref().unwrap_or_default()),
                    owner: if create.ephemeral {
                        header.client_id.0
                    } else {
                        0
                    },
                    parent_cversion: create.parent_cversion,
                };
                self.create(zxid, time, &new, changes)
                    .map(|id| self.stat(id))
            }
            Txn::CreateContainer(create) => {
                let path = create.path.or_empty();
                let new = NewNode {
                    path,
                    hash: self.hash(path),
                    data: create.data.as_deref(),
                    acl: Some(create.acl.as_deref().unwrap_or_default()),
                    owner: EphemeralOwner::Container.to_stored(),
                    parent_cversion: Some(create.parent_cversion),
                };
                self.create(zxid, time, &new, changes)
                    .map(|id| self.stat(id))
            }
            Txn::CreateTtl(create) => {
                let path = create.path.or_empty();
                let new = NewNode {
                    path,
                    hash: self.hash(path),
                    data: create.data.as_deref(),
                    acl: Some(create.acl.as_deref().unwrap_or_default()),
                    owner: EphemeralOwner::Ttl(create.ttl).to_stored(),
                    parent_cversion: Some(create.parent_cversion),
                };
                self.create(zxid, time, &new, changes)
                    .map(|id| self.stat(id))
            }
            Txn::Delete(delete) | Txn::DeleteContainer(delete) => {
                self.delete(delete.path.or_empty(), header.zxid, changes);
                None
            }
            Txn::SetData(set) | Txn::Reconfig(set) => {
                let (path, data) = (set.path.or_empty(), set.data.as_deref());
                self.set_data(zxid, time, path, data, set.version, changes)
                    .map(|id| self.stat(id))
            }
            Txn::SetAcl(set) => {
                let acl = set.acl.as_deref().unwrap_or_default();
                self.set_acl(zxid, set.path.or_empty(), Some(acl), set.version)
                    .map(|id| self.stat(id))
            }
            Txn::CloseSession { paths } => {
                self.close_session(
                    header.client_id,
                    paths.as_deref().map(|paths| {
                        paths
                            .iter()
                            .map(|path| path.or_empty().to_owned())
                            .collect()
                    }),
                    header.zxid,
                    changes,
                );
                None
            }
            Txn::CreateSession { .. } | Txn::Check(_) | Txn::Error(_) => None,
            // A multi does not nest, and a type added later must be given a meaning here.
            _ => None,
        }
    }

    /// Says that a transaction was applied, piece by piece.
    pub(crate) fn applied(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
    }

    /// Creates a node. Returns it, or, in replay over a fuzzy snapshot, the one that is there already.
    pub(crate) fn create(
        &mut self,
        zxid: Zxid,
        time: i64,
        new: &NewNode<'_>,
        changes: Option<&mut Vec<Change>>,
    ) -> Option<NodeId> {
        let path = new.path;
        let (parent_path, name) = split_path(path)?;
        // The parent was deleted later, or it would be there: replay goes on.
        let parent = self.find_parent(parent_path)?;
        // The same for a parent that was deleted and created again: this child was another one's.
        if self.is_later(parent, zxid) {
            return None;
        }
        let cversion = new.parent_cversion;
        let there = match path {
            "/" => Some(parent),
            _ => self.find_hashed(path, new.hash),
        };
        if let Some(id) = there {
            if self.is_later(id, zxid) {
                self.raise_children(parent, parent_path, cversion, zxid);
                return None;
            }
            let acl = self.intern(new.acl);
            // A fuzzy snapshot held it already. Its access list may be a later one's number: set it to this one's.
            let old = std::mem::replace(&mut self.slab.get_mut(id).acl, acl);
            self.acls.release(old);
            self.raise_children(parent, parent_path, cversion, zxid);
            return Some(id);
        }
        let acl = self.intern(new.acl);
        let stat = StatFields {
            czxid: zxid.0,
            mzxid: zxid.0,
            pzxid: zxid.0,
            ctime: time,
            mtime: time,
            owner: new.owner,
            ..StatFields::default()
        };
        self.raise_children(parent, parent_path, cversion, zxid);
        let id = self.insert_below(parent, name, path, new.hash, new.data, acl, stat);
        if let Some((subject, name)) = quota::quota_node(path) {
            let subject = subject.to_owned();
            match name {
                quota::LIMITS => self.quotas.arm(&subject),
                _ => self.recount(&subject),
            }
        }
        self.charge(path, 1, new.data.map_or(0, <[u8]>::len) as i64);
        if let Some(changes) = changes {
            changes.push(Change {
                kind: ChangeKind::Created,
                path: path.into(),
                acl: self.acls.get(acl),
                parent_acl: Some(self.acl(parent)),
            });
        }
        Some(id)
    }

    fn intern(&mut self, list: Option<&[Acl]>) -> AclId {
        list.map_or(AclId::OPEN, |list| self.acls.intern(list))
    }

    /// Whether a node was created after a transaction. Only in replay over a fuzzy snapshot, where the node that the
    /// transaction speaks of had the same path and was deleted: it must not touch its successor.
    fn is_later(&self, id: NodeId, zxid: Zxid) -> bool {
        self.slab.get(id).stat.czxid > zxid.0
    }

    /// A parent's count of creations and last child change only ever grow.
    fn raise_children(&mut self, parent: NodeId, path: &str, cversion: Option<i32>, zxid: Zxid) {
        let stat = &mut self.slab.get_mut(parent).stat;
        let cversion = cversion.unwrap_or_else(|| stat.cversion.wrapping_add(1));
        if cversion > stat.cversion {
            stat.cversion = cversion;
            stat.pzxid = zxid.0;
        }
        self.refresh_digest_later(parent, path);
    }

    /// Deletes a node, if it is there and has no children.
    pub(crate) fn delete(&mut self, path: &str, zxid: Zxid, changes: Option<&mut Vec<Change>>) {
        let Some((parent_path, _)) = split_path(path) else {
            return;
        };
        let Some(parent) = self
            .find_parent(parent_path)
            .filter(|id| !self.is_later(*id, zxid))
        else {
            return;
        };
        let node = self
            .find(path)
            .filter(|id| self.slab.get(*id).children == 0 && !self.is_later(*id, zxid));
        let stat = &mut self.slab.get_mut(parent).stat;
        // Also when the node is gone already, or a fuzzy snapshot would keep a parent that is too old.
        stat.pzxid = stat.pzxid.max(zxid.0);
        self.refresh_digest_later(parent, parent_path);
        let Some(id) = node else { return };
        let acl = self.acl(id);
        let bytes = i64::from(self.slab.get(id).data_length());
        self.remove(id, path);
        if let Some((subject, quota::LIMITS)) = quota::quota_node(path) {
            let subject = subject.to_owned();
            self.quotas.disarm(&subject);
        }
        self.charge(path, -1, -bytes);
        if let Some(changes) = changes {
            changes.push(Change {
                kind: ChangeKind::Deleted,
                path: path.into(),
                acl,
                parent_acl: Some(self.acl(parent)),
            });
        }
    }

    /// Sets a node's data. Returns the node.
    pub(crate) fn set_data(
        &mut self,
        zxid: Zxid,
        time: i64,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        changes: Option<&mut Vec<Change>>,
    ) -> Option<NodeId> {
        let id = self.find(path).filter(|id| !self.is_later(*id, zxid))?;
        let node = self.slab.get_mut(id);
        let before = i64::from(node.data_length());
        node.set_data(data);
        let after = i64::from(node.data_length());
        node.stat.version = version;
        node.stat.mzxid = zxid.0;
        node.stat.mtime = time;
        self.data_size = self.data_size.wrapping_add_signed(after - before);
        self.refresh_digest(id, path);
        self.charge(path, 0, after - before);
        if let Some(changes) = changes {
            changes.push(Change {
                kind: ChangeKind::DataChanged,
                path: path.into(),
                acl: self.acl(id),
                parent_acl: None,
            });
        }
        Some(id)
    }

    /// Sets a node's access list, `None` being the open one. Returns the node.
    pub(crate) fn set_acl(
        &mut self,
        zxid: Zxid,
        path: &str,
        acl: Option<&[Acl]>,
        version: i32,
    ) -> Option<NodeId> {
        let id = self.find(path).filter(|id| !self.is_later(*id, zxid))?;
        let acl = self.intern(acl);
        let node = self.slab.get_mut(id);
        let old = std::mem::replace(&mut node.acl, acl);
        node.stat.aversion = version;
        self.acls.release(old);
        self.refresh_digest(id, path);
        Some(id)
    }

    /// Deletes what a session owns: the listed paths while they are still its own, or all of them for old logs.
    fn close_session(
        &mut self,
        session: SessionId,
        paths: Option<Vec<String>>,
        zxid: Zxid,
        mut changes: Option<&mut Vec<Change>>,
    ) {
        let owned = |tree: &Self| {
            tree.ephemerals(session)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for path in paths.unwrap_or_else(|| owned(self)) {
            // One that is gone already still moves its parent's pzxid, which a fuzzy snapshot may hold from before.
            let still_its_own = self.find(&path).is_none_or(|id| {
                self.slab.get(id).stat.owner == session.0 || self.is_later(id, zxid)
            });
            if still_its_own {
                self.delete(&path, zxid, changes.as_deref_mut());
            }
        }
        // Java also deletes what is left over, for ephemerals that a log without paths never listed.
        for path in owned(self) {
            self.delete(&path, zxid, changes.as_deref_mut());
        }
    }

    /// Adds to the usage of the quota that covers `path`. No version moves, as in ZooKeeper.
    fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(subject) = self.quotas.covering(path) else {
            return;
        };
        let stats = format!("{}{subject}/{}", quota::QUOTA_ROOT, quota::STATS);
        let Some(id) = self.find(&stats) else { return };
        let used = Track::parse(self.slab.get(id).data().unwrap_or_default());
        self.write_usage(id, used.count + count, used.bytes + bytes);
    }

    /// Counts a subtree afresh, when its usage node is made.
    fn recount(&mut self, subject: &str) {
        let Some(root) = self.find(subject) else {
            return;
        };
        let stats = format!("{}{subject}/{}", quota::QUOTA_ROOT, quota::STATS);
        let Some(id) = self.find(&stats) else { return };
        let (mut count, mut bytes) = (0, 0);
        let mut todo = vec![root];
        while let Some(at) = todo.pop() {
            count += 1;
            bytes += i64::from(self.slab.get(at).data_length());
            todo.extend(self.slab.children(at));
        }
        self.write_usage(id, count, bytes);
    }

    fn write_usage(&mut self, id: NodeId, count: i64, bytes: i64) {
        let text = Track::usage(count, bytes);
        let node = self.slab.get_mut(id);
        let before = i64::from(node.data_length());
        node.set_data(Some(text.as_bytes()));
        // Below /zookeeper/, so its digest stays 0.
        self.data_size = self
            .data_size
            .wrapping_add_signed(text.len() as i64 - before);
    }

    /// Arms the quotas a loaded tree holds.
    pub(super) fn arm_quotas(&mut self) {
        let Some(root) = self.find(quota::QUOTA_ROOT) else {
            return;
        };
        let mut todo = vec![root];
        while let Some(at) = todo.pop() {
            todo.extend(self.slab.children(at));
            let path = self.path(at);
            if let Some((subject, quota::LIMITS)) = quota::quota_node(&path) {
                let subject = subject.to_owned();
                self.quotas.arm(&subject);
                self.recount(&subject);
            }
        }
    }
}
