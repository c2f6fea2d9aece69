//! Numbers that must not be mixed up: xid, zxid, session id.

use std::fmt;

use bytes::BytesMut;

use crate::error::DecodeError;
use crate::jute::{Field, Reader};

/// The number a client gives a request; the reply carries it back. Opaque to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Xid(pub i32);

impl Xid {
    /// A watch event, from the server only.
    pub const NOTIFICATION: Self = Self(-1);
    /// A ping and its reply.
    pub const PING: Self = Self(-2);
    /// An auth packet and its reply.
    pub const AUTH: Self = Self(-4);
    /// A watch re-registration.
    pub const SET_WATCHES: Self = Self(-8);
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of a transaction in the one history all servers share: epoch in the high 32 bits, counter in the low.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// The zxid of an epoch's `counter`-th transaction.
    #[must_use]
    pub fn new(epoch: u32, counter: u32) -> Self {
        Self((i64::from(epoch) << 32) | i64::from(counter))
    }

    /// The epoch of the leader that made the transaction.
    #[must_use]
    pub fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The transaction's number within its epoch.
    #[must_use]
    pub fn counter(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A session's id. 0 in a connect request asks for a new session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! newtype_field {
    ($name:ty, $inner:ty) => {
        impl<'a> Field<'a> for $name {
            fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
                <$inner as Field<'a>>::read(reader, field).map(Self)
            }
            fn write(&self, out: &mut BytesMut) {
                self.0.write(out);
            }
        }
    };
}
pub(crate) use newtype_field;

newtype_field!(Xid, i32);
newtype_field!(Zxid, i64);
newtype_field!(SessionId, i64);
