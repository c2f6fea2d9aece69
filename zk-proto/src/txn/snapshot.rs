//! The records of a snapshot, in the order in which it holds them: sessions, ACLs, nodes, digest.

use bytes::Bytes;

use crate::acl::Acl;
use crate::ids::{SessionId, Zxid};
use crate::jute::{Ustring, record};
use crate::stat::StatPersisted;

record! {
    /// A live session.
    #[derive(Copy, Hash)]
    pub struct SessionEntry {
        /// Its id.
        pub id: SessionId,
        /// Its timeout in milliseconds.
        pub timeout: i32,
    }
}

record! {
    /// An ACL list and the number nodes refer to it by.
    pub struct AclEntry {
        /// The number. −1 is never listed: it stands for everything to everyone.
        pub id: i64,
        /// The list.
        pub acl: Option<Vec<Acl>>,
    }
}

record! {
    /// A node. The root's path is empty; a parent comes before its children; the path `/` ends the tree.
    pub struct NodeEntry<'a> {
        /// Its full path.
        pub path: Ustring<'a>,
        /// Its data.
        pub data: Option<Bytes>,
        /// The number of its ACL list.
        pub acl_id: i64,
        /// Its metadata.
        pub stat: StatPersisted,
    }
}

record! {
    /// The tree's digest when the snapshot was complete.
    #[derive(Copy, Hash)]
    pub struct SnapshotDigest {
        /// The last transaction applied when the digest was taken; 0 for none.
        pub zxid: Zxid,
        /// The digest's version: 2.
        pub version: i32,
        /// Sum of the digests of all nodes.
        pub digest: i64,
    }
}
