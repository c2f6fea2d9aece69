//! The two frames that open a connection, and what the answer means. Knows no request.

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{ConnectRequest, ConnectResponse, Password};
use zk_proto::{DecodeError, SessionId, Zxid};

/// A session as a server gave it out. Whoever has both has the session, so `Debug` shows only the number.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) password: Password,
}

/// What a server said to a connect request.
#[derive(Debug)]
pub(crate) enum Welcome {
    /// The session is attached here.
    Attached {
        session: Session,
        timeout_ms: u64,
        read_only: bool,
    },
    /// The session that was asked for is over: expired, closed, or never there; servers do not say which.
    Expired,
}

/// Asks for `session`, or for a new one.
pub(crate) fn put_request(
    out: &mut BytesMut,
    session: Option<&Session>,
    seen: Zxid,
    timeout_ms: i32,
    allow_read_only: bool,
) {
    let mark = begin_frame(out);
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: seen,
        timeout: timeout_ms,
        session_id: session.map_or(SessionId(0), |session| session.id),
        passwd: session.map_or_else(Password::zero, |session| session.password.clone()),
        read_only: Some(allow_read_only),
    }
    .encode(out);
    end_frame(out, mark);
}

pub(crate) fn read_response(frame: &Bytes) -> Result<Welcome, DecodeError> {
    let response = ConnectResponse::decode(&mut Reader::new(frame, "ConnectResponse"))?;
    let timeout_ms = match u64::try_from(response.timeout) {
        Ok(0) | Err(_) => return Ok(Welcome::Expired),
        Ok(timeout_ms) => timeout_ms,
    };
    // A copy: the frame's memory must not live as long as the session.
    let password = Bytes::copy_from_slice(response.passwd.as_bytes());
    Ok(Welcome::Attached {
        session: Session {
            id: response.session_id,
            password: password.into(),
        },
        timeout_ms,
        // Servers before 3.4 do not send the byte.
        read_only: response.read_only.unwrap_or(false),
    })
}
