//! What the engine keeps of one connection.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zk_proto::{ErrorCode, Id, OpCode, SessionId, Xid, Zxid};

use super::admin::Latency;
use crate::time::Time;

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Its first frame was no connect request.
    BadHandshake,
    /// Its client has seen a later history than this server has.
    ClientAhead,
    /// Its session was refused.
    SessionRefused,
    /// Its session was attached by another connection.
    SessionMoved,
    /// Its session ended.
    SessionClosed,
    /// A frame too short for a header.
    BadFrame,
    /// An unknown operation.
    UnknownOperation,
    /// An identity was refused.
    AuthFailed,
    /// Its client does not read what it is sent.
    NotReading,
}

/// A request that is not answered yet, in the order of arrival.
#[derive(Debug)]
pub(super) enum Item {
    /// A transaction; answered when it is applied.
    Write(Zxid),
    /// A request that waits for those before it.
    Read(Bytes, Time),
    /// An answer that is known and waits for those before it.
    Answer(Answer),
}

/// An answer that depends on no node.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) xid: Xid,
    /// `None` for the last transaction applied when it is sent.
    pub(super) zxid: Option<Zxid>,
    pub(super) err: ErrorCode,
    pub(super) body: &'static [u8],
    /// The connection ends with it.
    pub(super) close: Option<CloseReason>,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) session: Option<SessionId>,
    /// The negotiated timeout in milliseconds; meaningful with a session.
    pub(super) timeout_ms: i32,
    pub(super) handshaken: bool,
    /// Whether the connect request had the read-only byte, so that the response has it too.
    pub(super) wants_read_only: bool,
    /// Who it is: its address, and what auth packets added.
    pub(super) ids: Arc<[Id]>,
    pub(super) queue: VecDeque<Item>,
    /// Bytes of the reads in the queue.
    pub(super) queued_bytes: usize,
    /// An answer in the queue ends the connection: what comes after it is not looked at.
    pub(super) ending: bool,
    pub(super) out: BytesMut,
    pub(super) dirty: bool,
    pub(super) close: Option<CloseReason>,
    pub(super) since: Time,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) last_op: OpCode,
    pub(super) last_cxid: Xid,
    pub(super) last_zxid: Zxid,
    pub(super) last_response: Time,
    pub(super) last_latency: u64,
    pub(super) latency: Latency,
}

impl Conn {
    pub(super) fn new(ids: Arc<[Id]>, now: Time) -> Self {
        Self {
            session: None,
            timeout_ms: 0,
            handshaken: false,
            wants_read_only: false,
            ids,
            queue: VecDeque::new(),
            queued_bytes: 0,
            ending: false,
            out: BytesMut::new(),
            dirty: false,
            close: None,
            since: now,
            received: 0,
            sent: 0,
            last_op: OpCode::NOTIFICATION,
            last_cxid: Xid(-1),
            last_zxid: Zxid(-1),
            last_response: now,
            last_latency: 0,
            latency: Latency::default(),
        }
    }
}
