//! Identities of a connection: auth packets, SASL rounds, whoAmI.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::error::DecodeError;
use crate::ids::newtype_field;
use crate::jute::{Field, Reader, Ustring, record};

record! {
    /// Adds an identity to the connection.
    pub struct AuthPacket<'a> {
        /// 0.
        pub auth_type: i32,
        /// `digest` or another scheme.
        pub scheme: Ustring<'a>,
        /// What the scheme wants, such as `user:password`.
        pub auth: Secret,
    }
}

record! {
    /// One round of a SASL exchange, from the client.
    pub struct SaslRequest {
        /// The mechanism's token.
        pub token: Secret,
    }
}

record! {
    /// One round of a SASL exchange, from the server.
    pub struct SaslResponse {
        /// The mechanism's token; null from a server without SASL.
        pub token: Secret,
    }
}

record! {
    /// One identity of a connection.
    pub struct ClientInfo<'a> {
        /// Its scheme.
        pub auth_scheme: Ustring<'a>,
        /// The user part of its id.
        pub user: Ustring<'a>,
    }
}

record! {
    /// The answer to whoAmI.
    pub struct WhoAmIResponse<'a> {
        /// All identities, in no particular order.
        pub client_info: Option<Vec<ClientInfo<'a>>>,
    }
}

/// Credentials: bytes that `Debug` does not show, so that no log holds them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub Option<Bytes>);

impl Secret {
    /// The bytes, with null read as empty.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Bytes> for Secret {
    fn from(bytes: Bytes) -> Self {
        Self(Some(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "<hidden>" } else { "null" })
    }
}

newtype_field!(Secret, Option<Bytes>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let packet = AuthPacket {
            auth_type: 0,
            scheme: "digest".into(),
            auth: Bytes::from_static(b"bob:hunter2").into(),
        };
        let shown = format!("{packet:?}");
        assert!(
            shown.contains("<hidden>") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
