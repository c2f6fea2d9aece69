//! What ZooKeeper keeps about a node besides its data.

use crate::ids::Zxid;
use crate::jute::record;

record! {
    /// A node's metadata as clients see it (68 bytes on the wire).
    #[derive(Copy, Hash)]
    pub struct Stat {
        /// The transaction that created the node.
        pub czxid: Zxid,
        /// The transaction that last set its data.
        pub mzxid: Zxid,
        /// When it was created, in milliseconds since the Unix epoch by the leader's clock.
        pub ctime: i64,
        /// When its data was last set, likewise.
        pub mtime: i64,
        /// How often its data was set; wraps.
        pub version: i32,
        /// How often its list of children changed: creations plus deletions; wraps.
        pub cversion: i32,
        /// How often its ACL was set; wraps.
        pub aversion: i32,
        /// The session that owns it if it is ephemeral, else 0. Containers and TTL nodes show 0.
        pub ephemeral_owner: i64,
        /// Length of its data in bytes; null counts as 0.
        pub data_length: i32,
        /// Number of its direct children.
        pub num_children: i32,
        /// The transaction that last created or deleted a child.
        pub pzxid: Zxid,
    }
}

record! {
    /// A node's metadata as a snapshot stores it (60 bytes).
    #[derive(Copy, Hash)]
    pub struct StatPersisted {
        /// The transaction that created the node.
        pub czxid: Zxid,
        /// The transaction that last set its data.
        pub mzxid: Zxid,
        /// Creation time, milliseconds since the Unix epoch.
        pub ctime: i64,
        /// Time of the last data change, likewise.
        pub mtime: i64,
        /// Data version.
        pub version: i32,
        /// Number of child *creations*; what clients see is twice this less the number of children.
        pub cversion: i32,
        /// ACL version.
        pub aversion: i32,
        /// The stored owner: see [`EphemeralOwner`](crate::create_mode::EphemeralOwner).
        pub ephemeral_owner: i64,
        /// The transaction that last created or deleted a child.
        pub pzxid: Zxid,
    }
}
