//! A client made of a blocking socket and the records of the protocol: what it sends is exactly what the test says.

#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{
    ConnectRequest, ConnectResponse, CreateRequest, PathWatchRequest, ReplyHeader, RequestHeader,
    SetDataRequest,
};
use zk_proto::{Acl, ErrorCode, OpCode, SessionId, Xid, Zxid};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    xid: i32,
}

/// A session that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) password: Bytes,
    pub(crate) timeout_ms: i32,
}

/// A reply's header, and what came behind it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) header: ReplyHeader,
    pub(crate) body: Bytes,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, xid: 0 }
    }

    /// A connection with a new session.
    pub(crate) fn session(address: SocketAddr, timeout_ms: i32) -> (Self, Session) {
        let mut raw = Self::connect(address);
        let session = raw
            .handshake(timeout_ms, SessionId(0), &[0; 16])
            .expect("a session");
        (raw, session)
    }

    /// Asks for a session; None when refused.
    pub(crate) fn handshake(
        &mut self,
        timeout_ms: i32,
        id: SessionId,
        password: &[u8],
    ) -> Option<Session> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout: timeout_ms,
            session_id: id,
            passwd: zk_proto::session::Password(Some(Bytes::copy_from_slice(password))),
            read_only: Some(false),
        };
        self.send_record(&request);
        let frame = self.frame().expect("an answer");
        let response =
            ConnectResponse::decode(&mut Reader::new(&frame, "ConnectResponse")).unwrap();
        (response.timeout > 0).then(|| Session {
            id: response.session_id,
            password: response.passwd.0.unwrap_or_default(),
            timeout_ms: response.timeout,
        })
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send_record(&mut self, record: &impl Encode) {
        let mut out = BytesMut::new();
        let mark = begin_frame(&mut out);
        record.encode(&mut out);
        end_frame(&mut out, mark);
        self.send_bytes(&out);
    }

    /// Sends a request without waiting; says its xid.
    pub(crate) fn send(&mut self, op: OpCode, body: &impl Encode) -> i32 {
        self.xid += 1;
        let out = request(self.xid, op, body);
        self.send_bytes(&out);
        self.xid
    }

    /// The next frame; None at the end of the stream.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return None,
            Err(error) => panic!("no frame: {error}"),
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        Some(frame.into())
    }

    /// The next reply; None at the end of the stream.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let frame = self.frame()?;
        let mut reader = Reader::new(&frame, "Reply");
        let header = ReplyHeader::decode(&mut reader).unwrap();
        Some(Reply {
            header,
            body: frame.slice(16..),
        })
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn ask(&mut self, op: OpCode, body: &impl Encode) -> Reply {
        let xid = self.send(op, body);
        let reply = self.reply().expect("a reply");
        assert_eq!(reply.header.xid, Xid(xid));
        reply
    }

    pub(crate) fn create(&mut self, path: &str, data: &[u8], flags: i32) -> ErrorCode {
        self.ask(OpCode::CREATE, &create(path, data, flags))
            .header
            .err
    }

    pub(crate) fn set(&mut self, path: &str, data: &[u8]) -> ErrorCode {
        let data = Some(Bytes::copy_from_slice(data));
        self.ask(
            OpCode::SET_DATA,
            &SetDataRequest {
                path: path.into(),
                data,
                version: -1,
            },
        )
        .header
        .err
    }

    /// Data of a node; None when there is no such node.
    pub(crate) fn get(&mut self, path: &str) -> Option<Bytes> {
        let reply = self.ask(
            OpCode::GET_DATA,
            &PathWatchRequest {
                path: path.into(),
                watch: false,
            },
        );
        match reply.header.err {
            ErrorCode::OK => Some(
                Reader::new(&reply.body, "GetDataResponse")
                    .buffer("data")
                    .unwrap()
                    .unwrap_or_default(),
            ),
            ErrorCode::NO_NODE => None,
            other => panic!("getData {path}: {other:?}"),
        }
    }

    pub(crate) fn exists(&mut self, path: &str, watch: bool) -> ErrorCode {
        self.ask(
            OpCode::EXISTS,
            &PathWatchRequest {
                path: path.into(),
                watch,
            },
        )
        .header
        .err
    }

    /// Sends a ping and takes its answer.
    pub(crate) fn ping(&mut self) {
        let out = request(-2, OpCode::PING, &Nothing);
        self.send_bytes(&out);
        assert_eq!(self.reply().expect("a ping's answer").header.xid, Xid(-2));
    }

    /// Waits for the server to end the connection.
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_end(&error) => return,
                Err(error) => panic!("still open: {error}"),
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

pub(crate) fn create<'a>(path: &'a str, data: &[u8], flags: i32) -> CreateRequest<'a> {
    CreateRequest {
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        acl: Some(vec![Acl::open_unsafe()]),
        flags,
    }
}

/// A whole request frame.
pub(crate) fn request(xid: i32, op: OpCode, body: &impl Encode) -> BytesMut {
    let mut out = BytesMut::new();
    let mark = begin_frame(&mut out);
    RequestHeader { xid: Xid(xid), op }.encode(&mut out);
    body.encode(&mut out);
    end_frame(&mut out, mark);
    out
}

/// A body that is none.
pub(crate) struct Nothing;

impl Encode for Nothing {
    fn encode(&self, _: &mut BytesMut) {}
}

/// A body given as bytes.
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

impl Encode for Body<'_> {
    fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.0);
    }
}

/// What the server says to a four-letter word; nothing if it turns the connection away, which resets it when the word was
/// already under way.
pub(crate) fn word(address: SocketAddr, word: &str) -> String {
    let mut raw = Raw::connect(address);
    raw.send_bytes(word.as_bytes());
    let mut text = String::new();
    match raw.stream.read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        read => drop(read.unwrap()),
    }
    text
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
