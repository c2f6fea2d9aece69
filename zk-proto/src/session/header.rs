//! The headers of every frame after the handshake.

use crate::code::{ErrorCode, OpCode};
use crate::ids::{Xid, Zxid};
use crate::jute::record;

record! {
    /// In front of every request.
    #[derive(Copy, Hash)]
    pub struct RequestHeader {
        /// The client's number for the request.
        pub xid: Xid,
        /// What is asked for.
        pub op: OpCode,
    }
}

record! {
    /// In front of every reply and event.
    #[derive(Copy, Hash)]
    pub struct ReplyHeader {
        /// The request's number, or one of the reserved ones.
        pub xid: Xid,
        /// The last transaction the server had processed when it built the reply.
        pub zxid: Zxid,
        /// How it ended. With any other code than 0 there is normally no body.
        pub err: ErrorCode,
    }
}
