//! What goes into the session core and what comes out of it: plain values.
//!
//! `S` is the driver's reply slot; the core only carries it from a request to its answer and asks it one question.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zk_proto::session::{EventType, KeeperState, Secret};
use zk_proto::{ErrorCode, OpCode, SessionId, Xid, Zxid};

use crate::error::Error;
use crate::session::SessionState;

/// Milliseconds after an origin that the driver chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(pub(crate) u64);

impl Time {
    pub(crate) fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Where an answer goes.
pub(crate) trait Slot {
    /// Nobody waits any more: a request that is not sent yet need not be.
    fn is_abandoned(&self) -> bool;
}

/// What a request wants to be told of later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchKind {
    Data,
    /// Becomes `Data` when there is a node.
    Exists,
    Child,
    Persistent,
    Recursive,
}

impl WatchKind {
    /// Ends with its first event.
    pub(crate) fn is_oneshot(self) -> bool {
        matches!(self, Self::Data | Self::Exists | Self::Child)
    }
}

/// One registered watch of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatcherId(pub(crate) u64);

/// A registered watch, as its owner must know it to give it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watcher {
    pub(crate) id: WatcherId,
    pub(crate) kind: WatchKind,
    pub(crate) path: Arc<str>,
}

/// What a watch is told. Paths are the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionEvent {
    pub(crate) kind: EventType,
    pub(crate) state: KeeperState,
    pub(crate) path: String,
    pub(crate) zxid: Option<Zxid>,
}

/// A request of the user's.
#[derive(Debug)]
pub(crate) struct Submission<'a> {
    pub(crate) op: OpCode,
    /// For the watch, and for errors where it is known.
    pub(crate) path: Option<String>,
    /// Copied only if it cannot be sent at once.
    pub(crate) body: Cow<'a, [u8]>,
    pub(crate) watch: Option<WatchKind>,
}

/// An answer that is no error: the code is OK, or NONODE for an exists with a watch.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) zxid: Zxid,
    pub(crate) xid: Xid,
    pub(crate) session: SessionId,
    pub(crate) code: ErrorCode,
    pub(crate) body: Bytes,
    pub(crate) watcher: Option<Watcher>,
}

/// What happens to a session. Always with the time at which it happened.
#[derive(Debug)]
pub(crate) enum Input<'a, S> {
    /// A request to send, in the order of these inputs.
    Submit(Submission<'a>, S),
    /// Credentials, from now on and for every later connection.
    AddAuth {
        scheme: String,
        auth: Secret,
        slot: S,
    },
    /// Nobody listens to this watch any more.
    Unwatch(Watcher),
    /// The transport that [`Output::Connect`] asked for stands.
    Opened,
    /// Bytes came; whole frames are taken off the front.
    Received(&'a mut BytesMut),
    /// The transport could not be opened, or has ended; why, in words.
    Disconnected(String),
    /// What [`Output::Probe`] found: this host takes writes.
    Probed { host: usize, writable: bool },
    /// End the session at the server, after what was sent.
    Close,
    /// The last handle is gone.
    LetGo,
    /// Only time has passed.
    Tick,
}

/// What must be done, in this order. Bytes to send are in [`SessionCore::outgoing`](super::SessionCore::outgoing).
#[derive(Debug)]
pub(crate) enum Output<S> {
    /// Open a transport to the host of this number, within so many milliseconds.
    Connect { host: usize, allowed_ms: u64 },
    /// Drop the transport, or the attempt to open one; forget what was received and not yet sent. With `lost` set
    /// requests went with it, or the session did: what was submitted before this moment must not be sent after them.
    Disconnect { lost: bool },
    /// Those who waited for a connection are told that there is none: what was submitted before this moment must not be
    /// sent after them.
    Overdue,
    /// Ask this host whether it is read-only (`isro`).
    Probe { host: usize },
    /// Answer a request.
    Reply(S, Result<Answer, Error>),
    /// Tell a watch; with `last` set it will not be told more.
    Event {
        watcher: WatcherId,
        event: SessionEvent,
        last: bool,
    },
    /// The state changed.
    State(SessionState),
    /// Nothing will follow. `confirmed`: a server has closed the session.
    Over { confirmed: bool },
}
