//! The handshake: the first frame each way, without headers.

use bytes::{Bytes, BytesMut};

use crate::error::DecodeError;
use crate::ids::{SessionId, Zxid, newtype_field};
use crate::jute::{Field, Reader, record};

record! {
    /// What a client sends first.
    #[derive(Hash)]
    pub struct ConnectRequest {
        /// 0; servers do not check it.
        pub protocol_version: i32,
        /// The highest zxid the client saw in a reply. A server that has not got so far closes the connection.
        pub last_zxid_seen: Zxid,
        /// The session timeout asked for, in milliseconds; the server clamps it.
        pub timeout: i32,
        /// The session to attach to, or 0 for a new one.
        pub session_id: SessionId,
        /// The session's password; for a new session 16 zero bytes, empty or null.
        pub passwd: Password,
        /// Whether a read-only server will do. Clients older than 3.4 leave the byte out.
        pub read_only: Option<bool>,
    }
}

record! {
    /// What a server answers first.
    #[derive(Hash)]
    pub struct ConnectResponse {
        /// 0.
        pub protocol_version: i32,
        /// The negotiated session timeout in milliseconds; 0 or less means that the session is refused or expired.
        pub timeout: i32,
        /// The session, or 0 when refused.
        pub session_id: SessionId,
        /// The session's password, or zero bytes when refused.
        pub passwd: Password,
        /// Whether the server is read-only. Present only if the request had the byte.
        pub read_only: Option<bool>,
    }
}

/// A session's password: bytes that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Password(pub Option<Bytes>);

impl Password {
    /// How many bytes servers give out.
    pub const LENGTH: usize = 16;

    /// The password of no session: 16 zero bytes.
    #[must_use]
    pub const fn zero() -> Self {
        Self(Some(Bytes::from_static(&[0; Self::LENGTH])))
    }

    /// The bytes, with null read as empty.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever has a session's id and password has the session.
        f.write_str(if self.0.is_some() { "<hidden>" } else { "null" })
    }
}

impl From<Bytes> for Password {
    fn from(bytes: Bytes) -> Self {
        Self(Some(bytes))
    }
}

newtype_field!(Password, Option<Bytes>);
