//! One nonblocking connection of the generator: frames in, frames out, one system call each per readiness event.
//!
//! Knows framing and the handshake, no operation. Buffers are reused; a frame is handed out as a slice of the receive
//! buffer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::failure::{Failure, Outcome, Tried, demand};
use crate::wire;

/// One read takes at most this much: 4 connections x 64 outstanding x 1 KiB fits.
const READ_SIZE: usize = 256 * 1024;

/// Ports of one source address before the next is used: sessions that come and go would run out of them otherwise.
const PORTS_PER_SOURCE: u32 = 10_000;

/// Connections opened before their answers are awaited: Apache ZooKeeper's listener holds 50 that are not accepted yet.
const OPENED_AT_ONCE: usize = 32;

/// A connection with its two buffers.
pub(crate) struct Conn {
    stream: TcpStream,
    received: Vec<u8>,
    /// Frames before this offset were handed out.
    start: usize,
    /// Bytes before this offset are from the peer.
    end: usize,
    /// Requests to send; whole frames.
    pub(crate) out: Vec<u8>,
    sent: usize,
    closed: bool,
}

impl Conn {
    fn new(stream: StdStream, read_size: usize) -> Outcome<Self> {
        stream
            .set_nodelay(true)
            .tried(|| "set TCP_NODELAY".into())?;
        stream
            .set_nonblocking(true)
            .tried(|| "make a socket nonblocking".into())?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            received: vec![0; read_size],
            start: 0,
            end: 0,
            out: Vec::new(),
            sent: 0,
            closed: false,
        })
    }

    /// Reads what is there. After it, [`Self::next_frame`] until `None`.
    ///
    /// A read that did not fill the buffer emptied the socket; the poll reports what arrives later.
    fn fill(&mut self) -> Outcome<()> {
        if self.start > 0 {
            self.received.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            if self.end == self.received.len() {
                self.received.resize(self.end * 2, 0);
            }
            let room = self.received.len() - self.end;
            match self.stream.read(&mut self.received[self.end..]) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(());
                }
                Ok(len) => {
                    self.end += len;
                    if len < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.closed = true;
                    return Ok(());
                }
                Err(error) => {
                    return Err(Failure::Io("could not read from the server".into(), error));
                }
            }
        }
    }

    /// The bounds of the next whole frame in `received`, without its length prefix.
    fn next_frame(&mut self) -> Outcome<Option<(usize, usize)>> {
        let buffered = &self.received[self.start..self.end];
        let Some(prefix) = buffered.first_chunk::<4>() else {
            return Ok(None);
        };
        let len = i32::from_be_bytes(*prefix);
        let len = usize::try_from(len)
            .map_err(|_| Failure::Deviation(format!("a frame has the length {len}")))?;
        if buffered.len() < 4 + len {
            return Ok(None);
        }
        let bounds = (self.start + 4, self.start + 4 + len);
        self.start = bounds.1;
        Ok(Some(bounds))
    }

    /// Sends what is queued as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::Io("could not write to the server".into(), error));
                }
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}

/// What a [`Hub`] found on one of its connections.
pub(crate) enum Found<'a> {
    /// A whole frame.
    Frame(&'a [u8]),
    /// The server closed the connection; every frame before was handed out.
    Closed,
}

/// All connections of one workload with the poll that watches them, on the caller's thread.
pub(crate) struct Hub {
    poll: Poll,
    events: Events,
    conns: Vec<Option<Conn>>,
    opened: u32,
}

impl Hub {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self {
            poll: Poll::new().tried(|| "create a poll".into())?,
            events: Events::with_capacity(1024),
            conns: Vec::new(),
            opened: 0,
        })
    }

    /// Opens `count` sessions, [`OPENED_AT_ONCE`] at a time, and returns when all were confirmed.
    pub(crate) fn open(
        &mut self,
        addr: SocketAddr,
        count: usize,
        buffer: Buffer,
    ) -> Outcome<Vec<i64>> {
        let mut sessions = vec![0; count];
        let first = self.conns.len();
        let mut at = 0;
        while at < count {
            let batch = (count - at).min(OPENED_AT_ONCE);
            for _ in 0..batch {
                self.connect(addr, buffer)?;
            }
            let mut missing = batch;
            self.until(
                "sessions to be confirmed",
                |missing: &mut usize, conn, found, _| {
                    let Found::Frame(frame) = found else {
                        return Err(Failure::Deviation(
                            "a new connection was closed without an answer".into(),
                        ));
                    };
                    sessions[conn - first] = wire::connected(frame)?.0;
                    *missing -= 1;
                    Ok(*missing == 0)
                },
                &mut missing,
            )?;
            at += batch;
        }
        Ok(sessions)
    }

    /// Starts one connection with a connect request under way; its slot number.
    pub(crate) fn connect(&mut self, addr: SocketAddr, buffer: Buffer) -> Outcome<usize> {
        let slot = self.conns.len();
        self.conns.push(None);
        self.reconnect(slot, addr, buffer)?;
        Ok(slot)
    }

    /// Like [`Self::connect`], in a slot whose connection was closed.
    pub(crate) fn reconnect(
        &mut self,
        slot: usize,
        addr: SocketAddr,
        buffer: Buffer,
    ) -> Outcome<()> {
        let source = self.opened / PORTS_PER_SOURCE;
        self.opened += 1;
        let mut conn = Conn::new(dial(addr, source)?, buffer.size())?;
        conn.out
            .extend_from_slice(&wire::connect(SESSION_TIMEOUT_MS));
        self.poll
            .registry()
            .register(
                &mut conn.stream,
                Token(slot),
                Interest::READABLE | Interest::WRITABLE,
            )
            .tried(|| "watch a socket".into())?;
        conn.flush()?;
        self.conns[slot] = Some(conn);
        Ok(())
    }

    /// Queues for one connection; [`Self::flush`] sends.
    pub(crate) fn out(&mut self, conn: usize) -> &mut Vec<u8> {
        &mut self.conns[conn]
            .as_mut()
            .expect("callers use open slots")
            .out
    }

    pub(crate) fn flush(&mut self, conn: usize) -> Outcome<()> {
        self.conns[conn]
            .as_mut()
            .expect("callers use open slots")
            .flush()
    }

    /// Drops the connection in a slot.
    pub(crate) fn close(&mut self, conn: usize) {
        self.conns[conn] = None;
    }

    /// Waits for one readiness round and hands everything found to `visit`, which may append requests to the buffer of the
    /// same connection; they are sent once per connection and round. Returns whether anything happened.
    pub(crate) fn round(
        &mut self,
        patience: Duration,
        mut visit: impl FnMut(usize, Found<'_>, &mut Vec<u8>) -> Outcome<()>,
    ) -> Outcome<bool> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            other => other.tried(|| "poll".into())?,
        }
        let mut any = false;
        for event in &self.events {
            let slot = event.token().0;
            let Some(conn) = self.conns[slot].as_mut() else {
                continue;
            };
            any = true;
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                conn.fill()?;
                while let Some((from, to)) = conn.next_frame()? {
                    visit(slot, Found::Frame(&conn.received[from..to]), &mut conn.out)?;
                }
                if conn.closed {
                    visit(slot, Found::Closed, &mut conn.out)?;
                    self.conns[slot] = None;
                    continue;
                }
            }
            conn.flush()?;
        }
        Ok(any)
    }

    /// Rounds until `visit` says `true`, with the [`PATIENCE`] of a server that hangs.
    pub(crate) fn until<S>(
        &mut self,
        what: &str,
        mut visit: impl FnMut(&mut S, usize, Found<'_>, &mut Vec<u8>) -> Outcome<bool>,
        state: &mut S,
    ) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut done = false;
        while !done {
            self.round(Duration::from_millis(200), |conn, found, out| {
                done |= visit(state, conn, found, out)?;
                Ok(())
            })?;
            if !done && Instant::now() > deadline {
                return Err(Failure::TimedOut(format!("waited {PATIENCE:?} for {what}")));
            }
        }
        Ok(())
    }
}

/// How much a connection reads at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Buffer {
    /// For few connections with much traffic.
    Large,
    /// For thousands of connections.
    Small,
}

impl Buffer {
    fn size(self) -> usize {
        match self {
            Self::Large => READ_SIZE,
            Self::Small => 1024,
        }
    }
}

/// What every session asks for.
pub(crate) const SESSION_TIMEOUT_MS: i32 = 40_000;

/// How long a reply may take before the run fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connected socket. On loopback the source address moves on with `source`, since one has only some 28,000 ports and
/// each closed connection holds its own for a minute.
fn dial(addr: SocketAddr, source: u32) -> Outcome<StdStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)
        .tried(|| "create a socket".into())?;
    if let IpAddr::V4(ip) = addr.ip()
        && ip.is_loopback()
        && source > 0
    {
        let [_, _, third, fourth] = source.to_be_bytes();
        let from = SocketAddr::from((Ipv4Addr::new(127, 1, third, fourth), 0));
        socket
            .bind(&from.into())
            .tried(|| format!("use the source address {from}"))?;
    }
    socket
        .connect(&addr.into())
        .tried(|| format!("connect to {addr}"))?;
    Ok(socket.into())
}

/// A blocking connection for preparing, probing and checking: one request, one reply.
pub(crate) struct Plain {
    stream: StdStream,
    xid: i32,
    /// Leaves that [`Self::remove_tree`] found and deletes next.
    doomed: Vec<String>,
}

impl Plain {
    /// A new session.
    pub(crate) fn open(addr: SocketAddr) -> Outcome<Self> {
        Self::try_open(addr, PATIENCE)
            .map_err(|error| Failure::Io(format!("could not open a session at {addr}"), error))
    }

    /// A new session, or the reason why the server does not serve yet.
    pub(crate) fn try_open(addr: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        let stream = StdStream::connect_timeout(&addr, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let mut plain = Self {
            stream,
            xid: 0,
            doomed: Vec::new(),
        };
        plain.stream.write_all(&wire::connect(SESSION_TIMEOUT_MS))?;
        let frame = plain.receive()?;
        wire::connected(&frame).map_err(std::io::Error::other)?;
        plain.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(plain)
    }

    fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let len = u64::from(u32::from_be_bytes(prefix));
        let mut frame = Vec::new();
        // Grows by what arrives, not by what was announced.
        (&mut self.stream).take(len).read_to_end(&mut frame)?;
        if frame.len() as u64 != len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(frame)
    }

    /// Sends one request and returns error code and body of its reply.
    pub(crate) fn call(&mut self, mut request: Vec<u8>) -> Outcome<(i32, Vec<u8>)> {
        self.xid += 1;
        wire::set_xid(&mut request, self.xid);
        self.stream
            .write_all(&request)
            .tried(|| "send a request".into())?;
        self.reply(self.xid)
    }

    fn reply(&mut self, xid: i32) -> Outcome<(i32, Vec<u8>)> {
        let frame = self.receive().tried(|| "receive a reply".into())?;
        let header = wire::Cursor::new(&frame).header()?;
        demand!(
            header.xid == xid,
            "a reply has the xid {} where {xid} is due",
            header.xid
        );
        Ok((header.err, frame[16..].to_vec()))
    }

    /// Sends all requests at once and demands that each succeeds.
    pub(crate) fn all(&mut self, requests: impl IntoIterator<Item = Vec<u8>>) -> Outcome<()> {
        let mut pending = requests.into_iter().peekable();
        while pending.peek().is_some() {
            let mut out = Vec::new();
            let first = self.xid + 1;
            for request in pending.by_ref().take(256) {
                self.xid += 1;
                wire::put_request(&mut out, &request, self.xid);
            }
            self.stream
                .write_all(&out)
                .tried(|| "send requests".into())?;
            for xid in first..=self.xid {
                let (err, _) = self.reply(xid)?;
                demand!(err == 0, "a request that should succeed failed with {err}");
            }
        }
        Ok(())
    }

    /// The names of a node's children, in the server's order.
    pub(crate) fn children(&mut self, path: &str) -> Outcome<Vec<String>> {
        let (err, body) = self.call(wire::get_children(path))?;
        demand!(err == 0, "getChildren({path}) failed with {err}");
        let mut cursor = wire::Cursor::new(&body);
        let count = cursor.int()?;
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(String::from_utf8_lossy(cursor.buffer()?).into_owned());
        }
        cursor.end()?;
        Ok(names)
    }

    /// Deletes a node with everything below it, where nothing is deeper than `levels` below. Leaves are not asked for
    /// children, so that a million of them cost no round trip each.
    pub(crate) fn remove_tree(&mut self, path: &str, levels: usize) -> Outcome<()> {
        if levels > 0 {
            for name in self.children(path)? {
                if levels > 1 {
                    self.remove_tree(&format!("{path}/{name}"), levels - 1)?;
                } else {
                    self.doomed.push(format!("{path}/{name}"));
                }
            }
        }
        let doomed = std::mem::take(&mut self.doomed);
        self.all(
            doomed
                .into_iter()
                .chain([path.to_owned()])
                .map(|path| wire::delete(&path)),
        )
    }

    /// Ends the session.
    pub(crate) fn close(mut self) -> Outcome<()> {
        let (err, _) = self.call(wire::close_session())?;
        demand!(err == 0, "closeSession failed with {err}");
        Ok(())
    }
}
