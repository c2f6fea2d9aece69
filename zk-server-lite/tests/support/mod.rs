//! A client and a log in one thread: frames in, frames out, no clock, no socket.
#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::{Bytes, BytesMut};
use zk_proto::frame::FrameDecoder;
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{
    ConnectRequest, ConnectResponse, ReplyHeader, Request, RequestHeader, Response, WatcherEvent,
};
use zk_proto::{ErrorCode, OpCode, SessionId, Xid, Zxid};
use zk_server_lite::pipeline::{Append, CloseReason, ConnId, Database, Engine, EngineConfig};
use zk_server_lite::time::Time;

/// Wall clock at the start of every test.
pub(crate) const WALL: i64 = 1_700_000_000_000;

/// An engine whose log is a vector.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now_ms: u64,
    pub(crate) log: Vec<Append>,
    next: u64,
}

/// What a connection received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    Event(i32, String, Zxid),
    Reply(ReplyHeader, Bytes),
}

/// A connection's number and its request counter.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) conn: ConnId,
    pub(crate) session: SessionId,
    pub(crate) passwd: Bytes,
    pub(crate) timeout: i32,
    xid: i32,
    unread: BytesMut,
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        tick: std::time::Duration::from_millis(100),
        min_session_timeout: 200,
        max_session_timeout: 10_000,
        extended_types: true,
        start_millis: 77,
        secret: [7; 32],
        ..EngineConfig::default()
    }
}

impl World {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let database = Database::empty(config.extended_types);
        Self::with(config, database)
    }

    pub(crate) fn with(config: EngineConfig, database: Database) -> Self {
        let engine = Engine::new(config, database, Time::default());
        Self {
            engine,
            now_ms: 0,
            log: Vec::new(),
            next: 0,
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_millis(self.now_ms)
    }

    pub(crate) fn wall(&self) -> i64 {
        WALL + self.now_ms as i64
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        self.engine.tick(self.now(), self.wall());
        self.commit();
    }

    /// The log forces all it was given.
    pub(crate) fn commit(&mut self) {
        let mut appends = Vec::new();
        self.engine.take_appends(&mut appends);
        if let Some(last) = appends.last() {
            let zxid = last.zxid;
            self.log.append(&mut appends);
            self.engine.committed(zxid, self.now());
        }
    }

    pub(crate) fn attach(&mut self) -> Client {
        self.next += 1;
        let conn = ConnId(self.next);
        self.engine.attach(conn, [127, 0, 0, 1].into(), self.now());
        Client {
            conn,
            session: SessionId(0),
            passwd: Bytes::from_static(&[0; 16]),
            timeout: 0,
            xid: 0,
            unread: BytesMut::new(),
        }
    }

    pub(crate) fn connect(&mut self) -> Client {
        self.connect_for(5000)
    }

    pub(crate) fn connect_for(&mut self, timeout: i32) -> Client {
        let mut client = self.attach();
        let response = self
            .handshake(&mut client, timeout, Zxid(0))
            .expect("the server answers");
        assert!(response.timeout > 0);
        client
    }

    /// Sends the connect request with the client's session; `None` when the server closes without a word.
    pub(crate) fn handshake(
        &mut self,
        client: &mut Client,
        timeout: i32,
        seen: Zxid,
    ) -> Option<ConnectResponse> {
        let request = ConnectRequest {
            timeout,
            last_zxid_seen: seen,
            session_id: client.session,
            passwd: client.passwd.clone().into(),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        let mut out = BytesMut::new();
        request.encode(&mut out);
        self.frame(client, out.freeze());
        self.commit();
        let frame = self.next_frame(client)?;
        let response =
            ConnectResponse::decode(&mut Reader::new(&frame, "test")).expect("it decodes");
        client.session = response.session_id;
        client.timeout = response.timeout;
        client.passwd = Bytes::copy_from_slice(response.passwd.as_bytes());
        Some(response)
    }

    pub(crate) fn frame(&mut self, client: &Client, frame: Bytes) {
        let (now, wall) = (self.now(), self.wall());
        self.engine.handle_frame(client.conn, &frame, now, wall);
    }

    /// Sends a request and does not commit it.
    pub(crate) fn send(&mut self, client: &mut Client, op: OpCode, body: &impl Encode) -> Xid {
        client.xid += 1;
        let mut out = BytesMut::new();
        RequestHeader {
            xid: Xid(client.xid),
            op,
        }
        .encode(&mut out);
        body.encode(&mut out);
        self.frame(client, out.freeze());
        Xid(client.xid)
    }

    pub(crate) fn next_frame(&mut self, client: &mut Client) -> Option<Bytes> {
        if let Some(out) = self.engine.output(client.conn) {
            client.unread.unsplit(out.split());
        }
        FrameDecoder::new(1 << 24)
            .decode(&mut client.unread)
            .expect("a server's frame is sound")
    }

    /// All that has arrived.
    pub(crate) fn received(&mut self, client: &mut Client) -> Vec<Received> {
        let mut all = Vec::new();
        while let Some(frame) = self.next_frame(client) {
            let mut reader = Reader::new(&frame, "test");
            let header = ReplyHeader::decode(&mut reader).expect("a header");
            if header.xid == Xid::NOTIFICATION {
                let event = WatcherEvent::decode(&mut reader).expect("an event");
                all.push(Received::Event(
                    event.event_type.0,
                    event.path.or_empty().to_owned(),
                    header.zxid,
                ));
            } else {
                all.push(Received::Reply(header, reader.rest()));
            }
        }
        all
    }

    /// Sends a request, commits, and returns the events before the reply, and the reply.
    pub(crate) fn call(
        &mut self,
        client: &mut Client,
        op: OpCode,
        body: &impl Encode,
    ) -> (Vec<(i32, String)>, ReplyHeader, Bytes) {
        let xid = self.send(client, op, body);
        self.commit();
        let mut events = Vec::new();
        for received in self.received(client) {
            match received {
                Received::Event(kind, path, _) => events.push((kind, path)),
                Received::Reply(header, body) => {
                    assert!(
                        header.xid == xid || header.xid.0 < 0,
                        "{header:?} for {xid}"
                    );
                    return (events, header, body);
                }
            }
        }
        panic!(
            "no reply to {op:?}, closed: {:?}",
            self.engine.wants_close(client.conn)
        );
    }

    /// The error code of a request.
    pub(crate) fn code(
        &mut self,
        client: &mut Client,
        op: OpCode,
        body: &impl Encode,
    ) -> ErrorCode {
        self.call(client, op, body).1.err
    }

    pub(crate) fn closed(&self, client: &Client) -> Option<CloseReason> {
        self.engine.wants_close(client.conn)
    }
}

/// Reads a reply's body.
pub(crate) fn response<T>(op: OpCode, body: &Bytes, read: impl FnOnce(Response<'_>) -> T) -> T {
    read(Response::decode(op, &mut Reader::new(body, "test")).expect("the body decodes"))
}

/// A request's body as bytes, for requests that no record can express.
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Encode for Raw {
    fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0);
    }
}

/// The plain create of most tests.
pub(crate) fn create(path: &str, data: &str, flags: i32) -> Request<'static> {
    Request::Create(zk_proto::session::CreateRequest {
        path: path.to_owned().into(),
        data: Some(Bytes::copy_from_slice(data.as_bytes())),
        acl: Some(vec![zk_proto::Acl::open_unsafe()]),
        flags,
    })
}
