//! The wire format of Apache ZooKeeper, and nothing but the wire: no I/O, no clock, no policy.
//!
//! * [`jute`]: the primitives. [`frame`]: length-prefixed frames out of a byte stream.
//! * [`session`]: what clients and servers say to each other. [`txn`]: what servers log, snapshot and propose.
//! * [`ZPath`], [`Acl`], [`Stat`], [`CreateMode`], [`OpCode`], [`ErrorCode`] and the id types: the words used in both.
//!
//! Decoding borrows strings from the frame and shares its memory for buffers: node data is never copied here. Unknown
//! codes are carried, not refused. Bytes from a peer never panic and never cause an allocation larger than the frame.
//!
//! ```
//! use bytes::BytesMut;
//! use zk_proto::frame::{FrameDecoder, begin_frame, end_frame};
//! use zk_proto::jute::{Decode, Encode, Reader};
//! use zk_proto::session::ConnectRequest;
//!
//! let mut wire = BytesMut::new();
//! let mark = begin_frame(&mut wire);
//! ConnectRequest { timeout: 10_000, ..Default::default() }.encode(&mut wire);
//! end_frame(&mut wire, mark);
//!
//! let frame = FrameDecoder::new(1024).decode(&mut wire)?.expect("the frame is whole");
//! let request = ConnectRequest::decode(&mut Reader::new(&frame, "ConnectRequest"))?;
//! assert_eq!(request.timeout, 10_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod acl;
pub mod code;
pub mod create_mode;
pub mod error;
pub mod frame;
pub mod ids;
pub mod jute;
pub mod path;
pub mod session;
pub mod stat;
pub mod txn;

pub use acl::{Acl, Id, Perms};
pub use code::{ErrorCode, OpCode};
pub use create_mode::{CreateMode, EphemeralOwner};
pub use error::{DecodeError, DecodeErrorKind};
pub use ids::{SessionId, Xid, Zxid};
pub use path::{PathError, PathErrorKind, ZPath, ZPathBuf};
pub use stat::{Stat, StatPersisted};
