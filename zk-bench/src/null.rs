//! A server with no logic: one thread, canned replies. The ceiling that no server on this machine can pass.
//!
//! It cuts frames, answers each by its operation code and writes once per readiness event. It keeps no tree: reads return
//! 1 KiB of filling, sets a Stat, creates echo the path. Speaks just enough for the generator and for client libraries.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::failure::{Failure, Outcome, Tried};
use crate::wire::{self, Cursor, op};
use crate::workload::DATA_LEN;

const LISTENER: Token = Token(usize::MAX);

struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    end: usize,
    out: Vec<u8>,
    sent: usize,
    connected: bool,
    closing: bool,
}

/// Replies that never change, and the counters that do.
struct Canned {
    /// data and Stat of a read.
    data: Vec<u8>,
    stat: [u8; wire::STAT_LEN],
    zxid: i64,
    session: i64,
}

/// Serves until the process ends. `ready` is told the address once it listens.
pub(crate) fn serve(addr: SocketAddr, ready: impl FnOnce(SocketAddr)) -> Outcome<()> {
    let mut poll = Poll::new().tried(|| "create a poll".into())?;
    let mut listener = TcpListener::bind(addr).tried(|| format!("listen at {addr}"))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)
        .tried(|| "watch a socket".into())?;
    ready(
        listener
            .local_addr()
            .tried(|| "name the own address".into())?,
    );
    let mut events = Events::with_capacity(1024);
    let mut peers: BTreeMap<usize, Peer> = BTreeMap::new();
    let mut next = 0;
    let mut canned = Canned::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.tried(|| "poll".into())?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream
                        .set_nodelay(true)
                        .tried(|| "set TCP_NODELAY".into())?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .register(&mut stream, Token(next), interest)
                        .tried(|| "watch a socket".into())?;
                    peers.insert(next, Peer::new(stream));
                    next += 1;
                }
                continue;
            }
            let token = event.token().0;
            let Some(peer) = peers.get_mut(&token) else {
                continue;
            };
            // A peer that talks nonsense or goes away costs only its own connection.
            if !matches!(peer.serve(&mut canned), Ok(true)) {
                peers.remove(&token);
            }
        }
    }
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: vec![0; 16 * 1024],
            end: 0,
            out: Vec::new(),
            sent: 0,
            connected: false,
            closing: false,
        }
    }

    /// Reads, answers, writes; whether the connection stays.
    fn serve(&mut self, canned: &mut Canned) -> Outcome<bool> {
        let open = self.fill()?;
        let mut start = 0;
        while let Some(prefix) = self.received[start..self.end].first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*prefix))
                .map_err(|_| Failure::Deviation("bad length".into()))?;
            if len > 4 << 20 {
                return Err(Failure::Deviation("a frame above 4 MiB".into()));
            }
            if self.end - start < 4 + len {
                break;
            }
            let frame = &self.received[start + 4..start + 4 + len];
            if self.connected {
                self.closing |= canned.answer(frame, &mut self.out)?;
            } else {
                canned.connect(frame, &mut self.out)?;
                self.connected = true;
            }
            start += 4 + len;
        }
        self.received.copy_within(start..self.end, 0);
        self.end -= start;
        Ok(self.flush()? && open)
    }

    fn fill(&mut self) -> Outcome<bool> {
        loop {
            if self.end == self.received.len() {
                self.received.resize(self.end * 2, 0);
            }
            let room = self.received.len() - self.end;
            match self.stream.read(&mut self.received[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.end += len;
                    if len < room {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Io("could not read".into(), error)),
            }
        }
    }

    fn flush(&mut self) -> Outcome<bool> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Io("could not write".into(), error)),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(!self.closing)
    }
}

impl Canned {
    fn new() -> Self {
        let mut stat = [0; wire::STAT_LEN];
        stat[52..56].copy_from_slice(&1024_i32.to_be_bytes());
        let mut data = Vec::new();
        wire::put_buffer(&mut data, &[b'z'; DATA_LEN]);
        data.extend_from_slice(&stat);
        Self {
            data,
            stat,
            zxid: 0,
            session: 0x0100_0000_0000_0000,
        }
    }

    fn connect(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Outcome<()> {
        let mut request = Cursor::new(frame);
        request.int()?;
        request.long()?;
        let timeout = request.int()?;
        request.long()?;
        request.nullable()?;
        // Whoever sends the read-only byte expects it back.
        let read_only = request.end().is_err();
        self.session += 1;
        wire::frame(out, |out| {
            wire::put_int(out, 0);
            wire::put_int(out, timeout);
            wire::put_long(out, self.session);
            wire::put_buffer(out, &[7; 16]);
            if read_only {
                out.push(0);
            }
        });
        Ok(())
    }

    /// Answers one request; whether it was the last.
    fn answer(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Outcome<bool> {
        let mut request = Cursor::new(frame);
        let (xid, op) = (request.int()?, request.int()?);
        let write = matches!(
            op,
            op::CREATE | op::DELETE | op::SET_DATA | op::MULTI | op::CLOSE_SESSION
        );
        self.zxid += i64::from(write);
        let start = out.len();
        wire::put_int(out, 0);
        wire::put_int(out, if op == op::PING { -2 } else { xid });
        wire::put_long(out, self.zxid);
        wire::put_int(out, 0);
        match op {
            op::GET_DATA => out.extend_from_slice(&self.data),
            op::SET_DATA | op::EXISTS => out.extend_from_slice(&self.stat),
            op::CREATE => wire::put_buffer(out, request.buffer()?),
            op::MULTI => echo_creates(&mut request, out)?,
            op::GET_CHILDREN => wire::put_int(out, 0),
            op::GET_ALL_CHILDREN_NUMBER => wire::put_int(out, 0),
            op::DELETE | op::PING | op::CLOSE_SESSION => {}
            _ => out[start + 16..].copy_from_slice(&(-6_i32).to_be_bytes()),
        }
        let len = i32::try_from(out.len() - start - 4).expect("replies are small");
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        Ok(op == op::CLOSE_SESSION)
    }
}

/// The results of a multi of plain creates.
fn echo_creates(request: &mut Cursor<'_>, out: &mut Vec<u8>) -> Outcome<()> {
    loop {
        let (op, done, _) = (request.int()?, request.byte()?, request.int()?);
        if done != 0 {
            wire::put_multi_header(out, -1, true, -1);
            return Ok(());
        }
        if op != op::CREATE {
            return Err(Failure::Deviation("only creates in a multi".into()));
        }
        wire::put_multi_header(out, op::CREATE, false, 0);
        wire::put_buffer(out, request.buffer()?);
        request.buffer()?;
        for _ in 0..request.int()? {
            request.int()?;
            request.buffer()?;
            request.buffer()?;
        }
        request.int()?;
    }
}
