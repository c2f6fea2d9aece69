//! What the engine keeps of one connection.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zk_proto::{ErrorCode, Id, OpCode, SessionId, Xid, Zxid};

use super::admin::Latency;
use crate::time::Time;
use crate::tree::acl::ip_identity;

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

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Read(frame, _) => frame.len(),
            Self::Write(_) | Self::Answer(_) => 0,
        }
    }
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

/// Requests that are not answered yet. Most connections have none, so the queue itself is elsewhere.
#[derive(Debug, Default)]
pub(super) struct Queue(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// Bytes of the reads.
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.items.len())
    }

    /// Bytes of the reads that wait.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    pub(super) fn push_back(&mut self, item: Item) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += item.bytes();
        waiting.items.push_back(item);
    }

    pub(super) fn front(&self) -> Option<&Item> {
        self.0.as_ref()?.items.front()
    }

    pub(super) fn pop_front(&mut self) -> Option<Item> {
        let waiting = self.0.as_mut()?;
        let item = waiting.items.pop_front()?;
        waiting.bytes -= item.bytes();
        Some(item)
    }

    /// Forgets what waits, and gives its room back.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

#[derive(Debug)]
pub(super) struct Conn {
    /// 0 without one, as on the wire.
    session: SessionId,
    /// The negotiated timeout in milliseconds; meaningful with a session.
    pub(super) timeout_ms: i32,
    pub(super) handshaken: bool,
    /// Whether the connect request had the read-only byte, so that the response has it too.
    pub(super) wants_read_only: bool,
    /// Who it is: its address, and what auth packets added. Shared with others that have no more than their address.
    pub(super) ids: Arc<[Id]>,
    pub(super) queue: Queue,
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
    pub(super) last_latency: u32,
    pub(super) latency: Latency,
}

impl Conn {
    pub(super) fn new(ids: Arc<[Id]>, now: Time) -> Self {
        Self {
            session: SessionId(0),
            timeout_ms: 0,
            handshaken: false,
            wants_read_only: false,
            ids,
            queue: Queue::default(),
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

    pub(super) fn session(&self) -> Option<SessionId> {
        (self.session != SessionId(0)).then_some(self.session)
    }

    pub(super) fn set_session(&mut self, session: SessionId) {
        self.session = session;
    }
}

/// What connections are by their address alone: one list for all of the same address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    lists: BTreeMap<IpAddr, Arc<[Id]>>,
    /// How many may be there before those that nobody uses are looked for.
    room: usize,
}

impl Addresses {
    /// Lists kept without looking whether they are used.
    const ROOM: usize = 64;

    pub(super) fn identities(&mut self, peer: IpAddr) -> Arc<[Id]> {
        if self.lists.len() >= self.room {
            self.lists.retain(|_, list| Arc::strong_count(list) > 1);
            // Not again before as many came as there are, so the search costs each of them a constant.
            self.room = (2 * self.lists.len()).max(Self::ROOM);
        }
        let list = self
            .lists
            .entry(peer)
            .or_insert_with(|| [ip_identity(peer)].into());
        Arc::clone(list)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_one_list_as_long_as_somebody_uses_it() {
        let mut addresses = Addresses::default();
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(number));
        let kept = addresses.identities(address(0));
        for number in 1..10_000 {
            let ids = addresses.identities(address(number));
            assert_eq!(ids[0].id, address(number).to_string());
        }
        assert!(addresses.lists.len() <= Addresses::ROOM);
        assert!(Arc::ptr_eq(&kept, &addresses.identities(address(0))));
    }
}
