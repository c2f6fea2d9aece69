//! In front of and behind each transaction, and at the start of each file.

use crate::code::OpCode;
use crate::ids::{SessionId, Xid, Zxid};
use crate::jute::record;

record! {
    /// Who asked for a transaction, and where it stands in history (32 bytes).
    #[derive(Copy, Hash)]
    pub struct TxnHeader {
        /// The session that asked for it.
        pub client_id: SessionId,
        /// The session's number for the request.
        pub cxid: Xid,
        /// Its place in history.
        pub zxid: Zxid,
        /// The leader's wall clock when it was prepared, in milliseconds since the Unix epoch.
        pub time: i64,
        /// Its type.
        pub op: OpCode,
    }
}

record! {
    /// The digest of the tree after a transaction.
    #[derive(Copy, Hash)]
    pub struct TxnDigest {
        /// The digest's version: 2.
        pub version: i32,
        /// Sum of the digests of all nodes.
        pub tree_digest: i64,
    }
}

impl TxnDigest {
    /// The digest version this crate speaks of.
    pub const VERSION: i32 = 2;
    /// Bytes of an encoded digest.
    pub const LENGTH: usize = 12;
}

record! {
    /// At the start of every log and snapshot file (16 bytes).
    #[derive(Copy, Hash)]
    pub struct FileHeader {
        /// Which kind of file.
        pub magic: i32,
        /// 2. Written, and not checked by readers.
        pub version: i32,
        /// 0 in logs, −1 in snapshots. Not checked by readers.
        pub dbid: i64,
    }
}

impl FileHeader {
    /// Bytes of an encoded header.
    pub const LENGTH: usize = 16;
    /// `ZKLG`: a transaction log.
    pub const LOG_MAGIC: i32 = i32::from_be_bytes(*b"ZKLG");
    /// `ZKSN`: a snapshot.
    pub const SNAPSHOT_MAGIC: i32 = i32::from_be_bytes(*b"ZKSN");

    /// The header of a transaction log.
    pub const LOG: Self = Self {
        magic: Self::LOG_MAGIC,
        version: 2,
        dbid: 0,
    };
    /// The header of a snapshot.
    pub const SNAPSHOT: Self = Self {
        magic: Self::SNAPSHOT_MAGIC,
        version: 2,
        dbid: -1,
    };
}
