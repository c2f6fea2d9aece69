//! A connection that knows frames and nothing else: what a test sends is what goes out, what comes in is handed on.
//!
//! Blocking, with a deadline on every read. It keeps no session, matches no xid and answers nothing by itself, so a test
//! can say what no well-behaved client would.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{FrameDecoder, begin_frame, end_frame};
use zk_proto::jute::{Decode as _, Encode, Reader};
use zk_proto::session::{ConnectRequest, ConnectResponse, Password, ReplyHeader, RequestHeader};
use zk_proto::{OpCode, SessionId, Xid, Zxid};

use crate::wait::PATIENCE;

/// Reply frames are not limited by servers; this only stops a broken one.
const MAX_FRAME: usize = 64 << 20;

/// What came next on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole frame, without its length.
    Frame(Bytes),
    /// The peer closed or reset the connection.
    Closed,
    /// Nothing came before the deadline.
    Silence,
}

/// One TCP connection.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl RawConnection {
    /// Connects and sends nothing.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            decoder: FrameDecoder::new(MAX_FRAME),
            buffer: BytesMut::new(),
        })
    }

    /// Opens a new session.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not answer with a session.
    pub fn session(addr: SocketAddr, timeout_ms: i32) -> io::Result<(Self, ConnectResponse)> {
        let mut connection = Self::open(addr)?;
        let request = ConnectRequest {
            timeout: timeout_ms,
            session_id: SessionId(0),
            last_zxid_seen: Zxid(0),
            passwd: Password::zero(),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        match connection.connect(&request)? {
            Some(response) if response.timeout > 0 => Ok((connection, response)),
            other => Err(io::Error::other(format!("no session: {other:?}"))),
        }
    }

    /// Sends a connect request and reads its answer; `None` when the server closed without one.
    ///
    /// # Errors
    /// When nothing comes in time, or what comes is no connect response.
    pub fn connect(&mut self, request: &ConnectRequest) -> io::Result<Option<ConnectResponse>> {
        let mut out = BytesMut::new();
        let mark = begin_frame(&mut out);
        request.encode(&mut out);
        end_frame(&mut out, mark);
        // A server that refuses may have closed already; what it said before is still to be read.
        drop(self.send(&out));
        match self.receive(PATIENCE) {
            Received::Closed => Ok(None),
            Received::Silence => Err(io::Error::new(ErrorKind::TimedOut, "no connect response")),
            Received::Frame(frame) => {
                ConnectResponse::decode(&mut Reader::new(&frame, "ConnectResponse"))
                    .map(Some)
                    .map_err(io::Error::other)
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn request(&mut self, xid: Xid, op: OpCode, body: &impl Encode) -> io::Result<()> {
        let mut out = BytesMut::new();
        put_request(&mut out, xid, op, body);
        self.send(&out)
    }

    /// Sends one request and reads until its reply, passing over events.
    ///
    /// # Errors
    /// When the connection ends or nothing comes in time.
    pub fn call(
        &mut self,
        xid: Xid,
        op: OpCode,
        body: &impl Encode,
    ) -> io::Result<(ReplyHeader, Bytes)> {
        self.request(xid, op, body)?;
        loop {
            match self.receive(PATIENCE) {
                Received::Frame(frame) => {
                    let mut reader = Reader::new(&frame, "ReplyHeader");
                    let header = ReplyHeader::decode(&mut reader).map_err(io::Error::other)?;
                    if header.xid == xid {
                        return Ok((header, reader.rest()));
                    }
                }
                Received::Closed => {
                    return Err(io::Error::new(
                        ErrorKind::ConnectionReset,
                        "closed before the reply",
                    ));
                }
                Received::Silence => return Err(io::Error::new(ErrorKind::TimedOut, "no reply")),
            }
        }
    }

    /// Reads what comes next.
    pub fn receive(&mut self, patience: Duration) -> Received {
        let deadline = Instant::now() + patience;
        loop {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(frame)) => return Received::Frame(frame),
                Ok(None) => {}
                // A length that no frame can have is the end of what can be understood.
                Err(_) => return Received::Closed,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Received::Silence;
            }
            if self.stream.set_read_timeout(Some(left)).is_err() {
                return Received::Closed;
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Received::Closed,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Received::Silence,
                    ErrorKind::Interrupted => {}
                    _ => return Received::Closed,
                },
            }
        }
    }

    /// Closes the connection without a word.
    pub fn hang_up(self) {
        // The peer may have closed it first.
        drop(self.stream.shutdown(Shutdown::Both));
    }
}

/// Appends one request with its length to `out`.
pub fn put_request(out: &mut BytesMut, xid: Xid, op: OpCode, body: &impl Encode) {
    let mark = begin_frame(out);
    RequestHeader { xid, op }.encode(out);
    body.encode(out);
    end_frame(out, mark);
}
