//! Ending a session behind its client's back, on any server, as Curator's tests do: whoever knows a session's number and
//! password may re-attach to it from another connection, and close it.
//!
//! Knows the handshake and one request. For tests and demonstrations only.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zk_client::DEFAULT_PORT;
use zk_proto::frame::{FrameDecoder, begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{ConnectRequest, ConnectResponse, Password, RequestHeader};
use zk_proto::{OpCode, SessionId, Xid, Zxid};

/// Answers to a handshake are small.
const MAX_FRAME: usize = 1 << 16;

/// Ends the session at the first of `hosts` (each `host` or `host:port`) that can be reached. Any server of an ensemble will do.
///
/// # Errors
///
/// No host can be reached, or the server does not let us have the session.
///
/// # Cancellation
///
/// *Unknown outcome*: the session may have been ended.
pub async fn session(hosts: &str, session: SessionId, password: Password) -> io::Result<()> {
    let mut failed = io::Error::other("no host is named");
    for host in hosts.split(',') {
        let named = format!("{host}:{DEFAULT_PORT}");
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        match TcpStream::connect(if has_port { host } else { &named }).await {
            // The client may take its session back before the close arrives: then once more.
            Ok(stream) => match end(stream, session, password.clone()).await? {
                End::Ended => return Ok(()),
                End::TakenBack => return Box::pin(self::session(hosts, session, password)).await,
            },
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

enum End {
    Ended,
    TakenBack,
}

async fn end(mut stream: TcpStream, session: SessionId, password: Password) -> io::Result<End> {
    let attach = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout: 10_000,
        session_id: session,
        passwd: password,
        read_only: Some(false),
    };
    write(&mut stream, |out| attach.encode(out)).await?;
    let decoder = FrameDecoder::new(MAX_FRAME);
    let mut buffer = BytesMut::new();
    let answer = loop {
        if let Some(frame) = decoder.decode(&mut buffer).map_err(io::Error::other)? {
            break frame;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut reader = Reader::new(&answer, "ConnectResponse");
    let answer = ConnectResponse::decode(&mut reader).map_err(io::Error::other)?;
    if answer.session_id != session {
        // Over already.
        return Ok(End::Ended);
    }
    let close = RequestHeader {
        xid: Xid(1),
        op: OpCode::CLOSE_SESSION,
    };
    write(&mut stream, |out| close.encode(out)).await?;
    loop {
        match decoder.decode(&mut buffer).map_err(io::Error::other)? {
            Some(_answer) => return Ok(End::Ended),
            None if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 => {
                return Ok(End::TakenBack);
            }
            None => {}
        }
    }
}

async fn write(stream: &mut TcpStream, body: impl FnOnce(&mut BytesMut)) -> io::Result<()> {
    let mut out = BytesMut::new();
    let mark = begin_frame(&mut out);
    body(&mut out);
    end_frame(&mut out, mark);
    stream.write_all(&out).await
}
