//! Walking the tree for a snapshot while transactions go on: a bounded number of nodes at a time, each parent before its
//! children.
//!
//! The walk is fuzzy, as Java's is: it may show effects of transactions after the snapshot's zxid, and replaying those
//! again does no harm. A node that is gone when its turn comes is skipped, one that is new below a parent already visited
//! is not seen: the log brings both. A node whose access list is not in the table the snapshot began with was touched
//! after the snapshot's zxid, so its list is written as open: replay sets it before anyone is served.

use std::collections::VecDeque;

use bytes::BytesMut;
use zk_proto::jute::Encode;
use zk_proto::txn::{AclEntry, SnapshotDigest};
use zk_proto::{StatPersisted, Zxid};

use super::node::NodeId;
use super::{DataTree, ROOT};

/// Where a snapshot's walk stands.
#[derive(Debug)]
pub struct SnapshotCursor {
    /// The snapshot's name: the last transaction applied when it began.
    pub zxid: Zxid,
    /// Nodes to visit, with the generation they had when they were seen, and their paths' lengths implied by the tree.
    todo: VecDeque<(NodeId, u32)>,
    acls: Vec<i64>,
}

impl DataTree {
    /// Begins a walk. Appends the table of access lists, which stands before the nodes, to `out`.
    pub fn begin_snapshot(&self, out: &mut BytesMut) -> SnapshotCursor {
        let acls: Vec<i64> = self.acls.stored().map(|(id, _)| id).collect();
        zk_proto::jute::put_count(out, acls.len());
        for (id, list) in self.acls.stored() {
            AclEntry {
                id,
                acl: Some(list.to_vec()),
            }
            .encode(out);
        }
        SnapshotCursor {
            zxid: self.last_zxid,
            todo: VecDeque::from([(ROOT, 0)]),
            acls,
        }
    }

    /// Appends up to `max_nodes` nodes to `out`, and the mark that ends the tree after the last. True when it is done.
    pub fn snapshot_chunk(
        &self,
        cursor: &mut SnapshotCursor,
        max_nodes: usize,
        out: &mut BytesMut,
    ) -> bool {
        for _ in 0..max_nodes {
            let Some((id, generation)) = cursor.todo.pop_front() else {
                zk_proto::jute::put_ustring(out, Some("/"));
                return true;
            };
            let Some(node) = self.slab.get_if(id, generation) else {
                continue;
            };
            cursor.todo.extend(
                self.slab
                    .children(id)
                    .map(|child| (child, self.slab.get(child).generation)),
            );
            zk_proto::jute::put_ustring(out, Some(&self.path(id)));
            zk_proto::jute::put_buffer(out, node.data());
            let acl = node.acl.to_stored();
            zk_proto::jute::put_long(
                out,
                if cursor.acls.binary_search(&acl).is_ok() {
                    acl
                } else {
                    -1
                },
            );
            let stat = &node.stat;
            StatPersisted {
                czxid: Zxid(stat.czxid),
                mzxid: Zxid(stat.mzxid),
                ctime: stat.ctime,
                mtime: stat.mtime,
                version: stat.version,
                cversion: stat.cversion,
                aversion: stat.aversion,
                ephemeral_owner: stat.owner,
                pzxid: Zxid(stat.pzxid),
            }
            .encode(out);
        }
        false
    }

    /// The digest block of a snapshot that ends now.
    #[must_use]
    pub fn snapshot_digest(&self) -> SnapshotDigest {
        SnapshotDigest {
            zxid: self.last_zxid,
            version: 2,
            digest: self.digest() as i64,
        }
    }
}
