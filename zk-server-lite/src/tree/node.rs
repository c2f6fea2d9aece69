//! One node, and the slab all nodes live in. Knows links and bytes, no paths and no rules.

use super::acl::AclId;

/// A node's place in the slab. Valid until the node is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    pub(super) const ROOT: Self = Self(0);
    /// No node: the end of a list of siblings.
    const NONE: Self = Self(u32::MAX);
}

/// The metadata that is stored, in the words of a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatFields {
    /// The transaction that created the node.
    pub czxid: i64,
    /// The transaction that last set its data.
    pub mzxid: i64,
    /// The transaction that last created or deleted a child.
    pub pzxid: i64,
    /// Creation time.
    pub ctime: i64,
    /// Time of the last data change.
    pub mtime: i64,
    /// The stored owner.
    pub owner: i64,
    /// Data version.
    pub version: i32,
    /// Number of child creations.
    pub cversion: i32,
    /// ACL version.
    pub aversion: i32,
}

/// A node of the tree.
#[derive(Debug)]
pub struct Node {
    pub(super) parent: NodeId,
    first_child: NodeId,
    last_child: NodeId,
    next: NodeId,
    previous: NodeId,
    /// How many children it has.
    pub(super) children: u32,
    /// How many nodes lie below it.
    pub(super) descendants: u32,
    /// Its share of the tree's digest.
    pub(super) digest: u32,
    pub(super) acl: AclId,
    /// Told apart from another node that had this place before.
    pub(super) generation: u32,
    pub(super) name: Box<str>,
    data: Option<Box<[u8]>>,
    /// Its stored metadata.
    pub stat: StatFields,
}

impl Node {
    /// Its data; null is kept apart from empty.
    #[must_use]
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// The length of its data in bytes, null counting as 0.
    #[must_use]
    pub fn data_length(&self) -> i32 {
        // Data came in a frame, and no frame is longer than i32::MAX.
        self.data
            .as_deref()
            .map_or(0, |data| i32::try_from(data.len()).unwrap_or(i32::MAX))
    }

    /// The number of its access list.
    #[must_use]
    pub fn acl(&self) -> AclId {
        self.acl
    }

    /// How many children it has.
    #[must_use]
    pub fn child_count(&self) -> u32 {
        self.children
    }

    pub(super) fn set_data(&mut self, data: Option<&[u8]>) {
        match (&mut self.data, data) {
            // The same length again is the common case of a counter or a status: keep the allocation.
            (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
            (old, new) => *old = new.map(Into::into),
        }
    }
}

/// All nodes, by number; freed places are used again.
#[derive(Debug)]
pub(super) struct Slab {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
}

impl Slab {
    /// A slab with a root.
    pub(super) fn new() -> Self {
        let root = Node {
            parent: NodeId::ROOT,
            first_child: NodeId::NONE,
            last_child: NodeId::NONE,
            next: NodeId::NONE,
            previous: NodeId::NONE,
            children: 0,
            descendants: 0,
            digest: 0,
            acl: AclId::OPEN,
            generation: 0,
            name: Box::default(),
            // Java's root holds empty data, not null.
            data: Some(Box::default()),
            stat: StatFields::default(),
        };
        Self {
            nodes: vec![root],
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    pub(super) fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The node, if its place was not freed since `generation`.
    pub(super) fn get_if(&self, id: NodeId, generation: u32) -> Option<&Node> {
        self.nodes
            .get(id.0 as usize)
            .filter(|node| node.generation == generation)
    }

    /// Whether a node's path is this one.
    pub(super) fn is_at(&self, id: NodeId, path: &str) -> bool {
        let mut rest = path;
        let mut at = id;
        while at != NodeId::ROOT {
            let node = self.get(at);
            let above = rest
                .strip_suffix(&*node.name)
                .and_then(|rest| rest.strip_suffix('/'));
            let Some(above) = above else { return false };
            rest = above;
            at = node.parent;
        }
        rest.is_empty()
    }

    pub(super) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let mut at = self.get(id).first_child;
        std::iter::from_fn(move || {
            let child = at;
            (child != NodeId::NONE).then(|| {
                at = self.get(child).next;
                child
            })
        })
    }

    pub(super) fn insert(
        &mut self,
        parent: NodeId,
        name: &str,
        data: Option<&[u8]>,
        acl: AclId,
        stat: StatFields,
    ) -> NodeId {
        let last = self.get(parent).last_child;
        let mut node = Node {
            parent,
            first_child: NodeId::NONE,
            last_child: NodeId::NONE,
            next: NodeId::NONE,
            previous: last,
            children: 0,
            descendants: 0,
            digest: 0,
            acl,
            generation: 0,
            name: name.into(),
            data: data.map(Into::into),
            stat,
        };
        let id = match self.free.pop() {
            Some(id) => {
                node.generation = self.get(id).generation;
                *self.get_mut(id) = node;
                id
            }
            None => {
                let id = NodeId(
                    u32::try_from(self.nodes.len())
                        .expect("four billion nodes do not fit in memory"),
                );
                self.nodes.push(node);
                id
            }
        };
        if last == NodeId::NONE {
            self.get_mut(parent).first_child = id;
        } else {
            self.get_mut(last).next = id;
        }
        let above = self.get_mut(parent);
        above.last_child = id;
        above.children += 1;
        self.count(parent, |descendants| descendants + 1);
        id
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        let node = self.get_mut(id);
        let (parent, previous, next) = (node.parent, node.previous, node.next);
        node.generation = node.generation.wrapping_add(1);
        node.name = Box::default();
        node.data = None;
        if previous == NodeId::NONE {
            self.get_mut(parent).first_child = next;
        } else {
            self.get_mut(previous).next = next;
        }
        if next == NodeId::NONE {
            self.get_mut(parent).last_child = previous;
        } else {
            self.get_mut(next).previous = previous;
        }
        self.get_mut(parent).children -= 1;
        self.count(parent, |descendants| descendants - 1);
        self.free.push(id);
    }

    /// Changes the number of descendants of `from` and of all above it.
    fn count(&mut self, from: NodeId, change: impl Fn(u32) -> u32) {
        let mut at = from;
        loop {
            let node = self.get_mut(at);
            node.descendants = change(node.descendants);
            if at == NodeId::ROOT {
                return;
            }
            at = node.parent;
        }
    }
}
