//! The data tree: nodes, access lists, quotas and the running digest, changed only by transactions.
//!
//! Pure state: no clock, no I/O, no order that depends on a hasher. [`DataTree::apply`] is the only way to change it while
//! serving, the `restore_*` methods while loading. What a change means for watches comes out as [`Change`]s.
//!
//! Memory is laid out for millions of small nodes: nodes live in a slab and refer to each other by index; children form a
//! doubly linked list through the slab, so a parent costs nothing for them; names, not paths, are stored; lookup is by the
//! hash of the whole path, checked against the names from the node upward, so that depth costs one hash and not many.

pub mod acl;
mod apply;
pub mod digest;
mod node;
pub(crate) mod path_hash;
pub mod quota;
mod restore;
mod snapshot;
pub mod watches;

pub(crate) use apply::NewNode;
pub use apply::{Change, ChangeKind};
pub use node::{Node, NodeId};
pub use restore::RestoreError;
pub use snapshot::SnapshotCursor;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use zk_proto::{Acl, EphemeralOwner, SessionId, Stat, Zxid};

use acl::{AclId, AclTable};
use node::Slab;
use path_hash::PathHashing;

/// The tree of one server.
#[derive(Debug)]
pub struct DataTree {
    slab: Slab,
    /// Path to node. Only ever looked up, never iterated.
    index: HashTable<Entry>,
    hasher: PathHashing,
    acls: AclTable,
    /// Ephemeral nodes of each session, by path, in order.
    ephemerals: BTreeMap<SessionId, BTreeSet<Box<str>>>,
    /// Containers and TTL nodes, by path: what the sweep looks at.
    sweepable: BTreeSet<Box<str>>,
    quotas: quota::Quotas,
    extended_types: bool,
    /// Sum of the digests of all nodes, one of which may be stale; see [`digest`].
    digest: u64,
    /// The node whose digest is stale, and its path: a parent of many creations in a row is digested once.
    stale: Option<NodeId>,
    stale_path: String,
    /// The parent last looked up: the next one is likely the same.
    recent: NodeId,
    /// Sum of the lengths of all paths and data.
    data_size: u64,
    /// The last transaction applied.
    last_zxid: Zxid,
}

/// A node in the index, with the hash of its path: the table can grow without looking at any node.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    id: NodeId,
}

/// The table takes its place from the low bits and its tag from the high ones: both must depend on all that is kept.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The node that stands above all others.
pub(crate) const ROOT: NodeId = NodeId::ROOT;

impl DataTree {
    /// An empty tree with ZooKeeper's own nodes.
    #[must_use]
    pub fn new(extended_types: bool) -> Self {
        let mut tree = Self::bare(extended_types);
        for path in ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            tree.insert(path, Some(&[]), AclId::OPEN, node::StatFields::default());
        }
        // ZooKeeper's own children do not count as creations: a fresh root shows cversion −1.
        tree.protect_config();
        tree
    }

    /// A tree with only a root.
    fn bare(extended_types: bool) -> Self {
        let mut tree = Self {
            slab: Slab::new(),
            index: HashTable::new(),
            hasher: PathHashing::default(),
            acls: AclTable::default(),
            ephemerals: BTreeMap::new(),
            sweepable: BTreeSet::new(),
            quotas: quota::Quotas::default(),
            extended_types,
            digest: 0,
            stale: None,
            stale_path: String::new(),
            recent: ROOT,
            data_size: 0,
            last_zxid: Zxid(0),
        };
        tree.refresh_digest(ROOT, "");
        tree
    }

    /// `/zookeeper/config` is for reading only, and its ACL version is −1, as in every ZooKeeper.
    fn protect_config(&mut self) {
        if let Some(id) = self.find("/zookeeper/config") {
            let acl = self.acls.intern(&[Acl::read_unsafe()]);
            let node = self.slab.get_mut(id);
            node.acl = acl;
            node.stat.aversion = -1;
            self.refresh_digest(id, "/zookeeper/config");
        }
    }

    /// The node at `path`. The empty path is the root, as for Java.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<NodeId> {
        if path.is_empty() || path == "/" {
            return Some(ROOT);
        }
        self.find_hashed(path, self.hash(path))
    }

    /// The node at a path that is not the root's and whose hash is known.
    pub(crate) fn find_hashed(&self, path: &str, hash: u64) -> Option<NodeId> {
        // A malformed path is simply absent: no node is called so.
        let hash = hash as u32;
        self.index
            .find(spread(hash), |entry| {
                entry.hash == hash && self.slab.is_at(entry.id, path)
            })
            .map(|entry| entry.id)
    }

    /// As [`find`](Self::find), for a path that is likely the same as the last time.
    pub(crate) fn find_parent(&mut self, path: &str) -> Option<NodeId> {
        if !self.slab.is_at(self.recent, path) {
            self.recent = self.find(path)?;
        }
        Some(self.recent)
    }

    /// The hash of a path, which may be taken once for several look-ups.
    pub(crate) fn hash(&self, path: &str) -> u64 {
        self.hasher.hash_one(path)
    }

    /// The node of an id from [`find`](Self::find), which is valid until the tree changes.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.slab.get(id)
    }

    /// A node's metadata as clients see it.
    #[must_use]
    pub fn stat(&self, id: NodeId) -> Stat {
        let node = self.slab.get(id);
        let stat = &node.stat;
        Stat {
            czxid: Zxid(stat.czxid),
            mzxid: Zxid(stat.mzxid),
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            // Creations plus deletions, of a stored count of creations.
            cversion: stat
                .cversion
                .wrapping_mul(2)
                .wrapping_sub(node.children as i32),
            aversion: stat.aversion,
            ephemeral_owner: EphemeralOwner::from_stored(stat.owner, self.extended_types).visible(),
            data_length: node.data_length(),
            num_children: node.children as i32,
            pzxid: Zxid(stat.pzxid),
        }
    }

    /// The names of a node's children, in order of creation.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = &str> {
        self.slab
            .children(id)
            .map(|child| &*self.slab.get(child).name)
    }

    /// How many nodes there are, the root included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.slab.len()
    }

    /// How many nodes lie below this one.
    #[must_use]
    pub fn descendants(&self, id: NodeId) -> u32 {
        self.slab.get(id).descendants
    }

    /// The table of access lists.
    #[must_use]
    pub fn acls(&self) -> &AclTable {
        &self.acls
    }

    /// A node's access list.
    #[must_use]
    pub fn acl(&self, id: NodeId) -> Arc<[Acl]> {
        self.acls.get(self.slab.get(id).acl)
    }

    /// A node's access list; `None` is the open one.
    pub(crate) fn listed_acl(&self, id: NodeId) -> Option<Arc<[Acl]>> {
        let acl = self.slab.get(id).acl;
        (acl != AclId::OPEN).then(|| self.acls.get(acl))
    }

    /// The ephemeral nodes of a session, in order of path.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = &str> {
        self.ephemerals
            .get(&session)
            .into_iter()
            .flatten()
            .map(|path| &**path)
    }

    /// All sessions with ephemeral nodes, and these.
    pub fn all_ephemerals(&self) -> impl Iterator<Item = (SessionId, &BTreeSet<Box<str>>)> {
        self.ephemerals
            .iter()
            .map(|(session, paths)| (*session, paths))
    }

    /// How many ephemeral nodes there are.
    #[must_use]
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }

    /// Paths of containers and TTL nodes, in order.
    pub fn sweepable(&self) -> impl Iterator<Item = &str> {
        self.sweepable.iter().map(|path| &**path)
    }

    /// What a node is, by its stored owner.
    #[must_use]
    pub fn owner(&self, id: NodeId) -> EphemeralOwner {
        EphemeralOwner::from_stored(self.slab.get(id).stat.owner, self.extended_types)
    }

    /// The quotas in force.
    #[must_use]
    pub fn quotas(&self) -> &quota::Quotas {
        &self.quotas
    }

    /// The digest of the whole tree (version 2).
    #[must_use]
    pub fn digest(&self) -> u64 {
        match self.stale {
            None => self.digest,
            Some(id) => {
                let node = self.slab.get(id);
                let fresh = digest::node_digest(&self.stale_path, node);
                exchange(self.digest, node.digest, fresh)
            }
        }
    }

    /// Sum of the lengths of all paths and data, in bytes.
    #[must_use]
    pub fn data_size(&self) -> u64 {
        self.data_size
    }

    /// The last transaction applied.
    #[must_use]
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// A node's full path; empty for the root.
    #[must_use]
    pub fn path(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let node = self.slab.get(at);
            names.push(&*node.name);
            at = node.parent;
        }
        let mut path = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Adds a node below a parent that must exist; the caller has seen that the path is free.
    fn insert(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: AclId,
        stat: node::StatFields,
    ) -> Option<NodeId> {
        let (parent_path, name) = split_path(path)?;
        let parent = self.find(parent_path)?;
        Some(self.insert_below(parent, name, path, self.hash(path), data, acl, stat))
    }

    /// Adds a node below a parent that is known; the caller has seen that the path is free.
    #[expect(
        clippy::too_many_arguments,
        reason = "a node's fields, with what its caller found out about its path"
    )]
    fn insert_below(
        &mut self,
        parent: NodeId,
        name: &str,
        path: &str,
        hash: u64,
        data: Option<&[u8]>,
        acl: AclId,
        stat: node::StatFields,
    ) -> NodeId {
        let owner = stat.owner;
        let id = self.slab.insert(parent, name, data, acl, stat);
        let hash = hash as u32;
        self.index
            .insert_unique(spread(hash), Entry { hash, id }, |entry| spread(entry.hash));
        self.data_size += (path.len() + data.map_or(0, <[u8]>::len)) as u64;
        match EphemeralOwner::from_stored(owner, self.extended_types) {
            EphemeralOwner::None => {}
            EphemeralOwner::Session(session) => {
                self.ephemerals
                    .entry(session)
                    .or_default()
                    .insert(path.into());
            }
            EphemeralOwner::Container | EphemeralOwner::Ttl(_) => {
                self.sweepable.insert(path.into());
            }
        }
        self.refresh_digest(id, path);
        id
    }

    /// Takes a childless node out.
    fn remove(&mut self, id: NodeId, path: &str) {
        let node = self.slab.get(id);
        debug_assert_eq!(node.children, 0, "only leaves are removed");
        // What is stale is in the sum as it was.
        self.digest = exchange(self.digest, node.digest, 0);
        self.data_size -= (path.len() + node.data().map_or(0, <[u8]>::len)) as u64;
        let (acl, owner) = (node.acl, node.stat.owner);
        let hash = self.hash(path) as u32;
        if let Ok(entry) = self.index.find_entry(spread(hash), |entry| entry.id == id) {
            entry.remove();
        }
        self.acls.release(acl);
        match EphemeralOwner::from_stored(owner, self.extended_types) {
            EphemeralOwner::None => {}
            EphemeralOwner::Session(session) => {
                if let Some(paths) = self.ephemerals.get_mut(&session) {
                    paths.remove(path);
                    if paths.is_empty() {
                        self.ephemerals.remove(&session);
                    }
                }
            }
            EphemeralOwner::Container | EphemeralOwner::Ttl(_) => {
                self.sweepable.remove(path);
            }
        }
        self.slab.remove(id);
        // The place may be another node's soon.
        if self.stale == Some(id) {
            self.stale = None;
        }
        if self.recent == id {
            self.recent = ROOT;
        }
    }

    /// Recomputes a node's digest after it changed.
    fn refresh_digest(&mut self, id: NodeId, path: &str) {
        let fresh = digest::node_digest(path, self.slab.get(id));
        let node = self.slab.get_mut(id);
        let former = std::mem::replace(&mut node.digest, fresh);
        self.digest = exchange(self.digest, former, fresh);
        if self.stale == Some(id) {
            self.stale = None;
        }
    }

    /// Leaves a node's digest to be recomputed when another one's is, or somebody asks.
    fn refresh_digest_later(&mut self, id: NodeId, path: &str) {
        if self.stale == Some(id) {
            return;
        }
        if let Some(other) = self.stale {
            let path = std::mem::take(&mut self.stale_path);
            self.refresh_digest(other, &path);
            self.stale_path = path;
        }
        self.stale = Some(id);
        self.stale_path.clear();
        self.stale_path.push_str(path);
    }
}

/// A path's parent, which is empty for the root, and its last component. Components are short: a plain walk from the end
/// is done before a search by words has begun.
pub(crate) fn split_path(path: &str) -> Option<(&str, &str)> {
    let slash = path.bytes().rposition(|byte| byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// A sum of digests with one of them replaced.
fn exchange(sum: u64, former: u32, fresh: u32) -> u64 {
    sum.wrapping_sub(u64::from(former))
        .wrapping_add(u64::from(fresh))
}
