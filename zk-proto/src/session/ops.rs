//! The single operations: one record for each request and response shape.

use bytes::Bytes;

use crate::acl::Acl;
use crate::code::ErrorCode;
use crate::jute::{Ustring, record};
use crate::stat::Stat;

record! {
    /// Asks for a new node: create, create2 and createContainer.
    pub struct CreateRequest<'a> {
        /// Where; for sequential modes the server appends its counter.
        pub path: Ustring<'a>,
        /// What it holds; null is kept apart from empty.
        pub data: Option<Bytes>,
        /// Who may do what.
        pub acl: Option<Vec<Acl>>,
        /// The number of a [`CreateMode`](crate::CreateMode).
        pub flags: i32,
    }
}

record! {
    /// Asks for a new node with a time to live.
    pub struct CreateTtlRequest<'a> {
        /// Where; for sequential modes the server appends its counter.
        pub path: Ustring<'a>,
        /// What it holds.
        pub data: Option<Bytes>,
        /// Who may do what.
        pub acl: Option<Vec<Acl>>,
        /// 5 or 6, the numbers of the TTL modes.
        pub flags: i32,
        /// Time to live in milliseconds.
        pub ttl: i64,
    }
}

record! {
    /// Asks for a node to be deleted.
    pub struct DeleteRequest<'a> {
        /// Which.
        pub path: Ustring<'a>,
        /// Its expected version, or −1 for any.
        pub version: i32,
    }
}

record! {
    /// A read that can leave a watch: exists, getData, getChildren, getChildren2.
    pub struct PathWatchRequest<'a> {
        /// Of which node.
        pub path: Ustring<'a>,
        /// Whether to leave a one-shot watch.
        pub watch: bool,
    }
}

record! {
    /// A request that is only a path: getACL, sync, getAllChildrenNumber, and getEphemerals with a prefix.
    pub struct PathRequest<'a> {
        /// The path or prefix.
        pub path: Ustring<'a>,
    }
}

record! {
    /// Asks for a node's data to be set.
    pub struct SetDataRequest<'a> {
        /// Of which node.
        pub path: Ustring<'a>,
        /// To what; null is kept apart from empty.
        pub data: Option<Bytes>,
        /// The expected version, or −1 for any.
        pub version: i32,
    }
}

record! {
    /// Asks for a node's ACL to be set.
    pub struct SetAclRequest<'a> {
        /// Of which node.
        pub path: Ustring<'a>,
        /// To what.
        pub acl: Option<Vec<Acl>>,
        /// The expected ACL version, or −1 for any.
        pub version: i32,
    }
}

record! {
    /// Asserts a node's version inside a multi.
    pub struct CheckVersionRequest<'a> {
        /// Of which node.
        pub path: Ustring<'a>,
        /// The expected version, or −1 to assert only that it exists.
        pub version: i32,
    }
}

record! {
    /// A path in answer: create, sync.
    pub struct PathResponse<'a> {
        /// The path, with the sequence number for sequential modes.
        pub path: Ustring<'a>,
    }
}

record! {
    /// The answer to create2, createContainer and createTTL.
    pub struct CreateResponse<'a> {
        /// The path, with the sequence number for sequential modes.
        pub path: Ustring<'a>,
        /// The new node's metadata.
        pub stat: Stat,
    }
}

record! {
    /// A Stat in answer: exists, setData, setACL.
    #[derive(Copy, Hash)]
    pub struct StatResponse {
        /// The node's metadata.
        pub stat: Stat,
    }
}

record! {
    /// The answer to getData.
    pub struct GetDataResponse {
        /// What the node holds; null is kept apart from empty.
        pub data: Option<Bytes>,
        /// Its metadata.
        pub stat: Stat,
    }
}

record! {
    /// The answer to getACL.
    pub struct AclResponse {
        /// The list; digests are masked for a caller who may not administer the node.
        pub acl: Option<Vec<Acl>>,
        /// The node's metadata.
        pub stat: Stat,
    }
}

record! {
    /// The answer to getChildren.
    pub struct ChildrenResponse<'a> {
        /// Names relative to the node, in no particular order.
        pub children: Option<Vec<Ustring<'a>>>,
    }
}

record! {
    /// The answer to getChildren2.
    pub struct Children2Response<'a> {
        /// Names relative to the node, in no particular order.
        pub children: Option<Vec<Ustring<'a>>>,
        /// The node's metadata.
        pub stat: Stat,
    }
}

record! {
    /// The answer to getEphemerals.
    pub struct EphemeralsResponse<'a> {
        /// Full paths of the session's ephemeral nodes.
        pub ephemerals: Option<Vec<Ustring<'a>>>,
    }
}

record! {
    /// The answer to getAllChildrenNumber.
    #[derive(Copy, Hash)]
    pub struct TotalResponse {
        /// How many descendants the node has.
        pub total_number: i32,
    }
}

record! {
    /// An error as a record: a failed result in a multi, and the answer to addWatch.
    #[derive(Copy, Hash)]
    pub struct ErrorResponse {
        /// The code.
        pub err: ErrorCode,
    }
}
