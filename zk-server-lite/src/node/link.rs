//! One connection as all threads see it: its transport, and its sending side, which any of them may use.
//!
//! Bytes are queued while the engine's lock is held, so their order is the engine's; they are written after it is released,
//! by whichever thread finds the link idle. A thread that finds another one writing leaves its bytes to that one. When the
//! peer does not take them, the link is *blocked*: the poller waits for room, and further output stays with the engine,
//! which bounds it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::alarm::{Alarm, Slot};
use crate::pipeline::ConnId;

/// Where bytes come from and go.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A socket that the poller is told about when there is something to read or room to write.
    Tcp(TcpStream),
    /// A pipe inside the process.
    Pipe(Box<Pipe>),
}

/// The server's end of a pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Mutex<DuplexStream>,
    /// Makes the poller look, whoever tried in vain.
    waker: Waker,
}

/// Who calls the poller when a pipe has bytes or room.
#[derive(Debug)]
struct PipeWaker {
    alarm: Arc<Alarm>,
    slot: Slot,
}

impl Wake for PipeWaker {
    fn wake(self: Arc<Self>) {
        self.alarm.call(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.alarm.call(self.slot);
    }
}

impl Transport {
    pub(crate) fn pipe(stream: DuplexStream, alarm: Arc<Alarm>, slot: Slot) -> Self {
        Self::Pipe(Box::new(Pipe {
            stream: Mutex::new(stream),
            waker: Arc::new(PipeWaker { alarm, slot }).into(),
        }))
    }

    /// Reads what is there. [`io::ErrorKind::WouldBlock`] when nothing is: then the poller will hear of it.
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(into),
            Self::Pipe(pipe) => {
                let mut into = ReadBuf::new(into);
                let mut cx = Context::from_waker(&pipe.waker);
                match Pin::new(&mut *lock(&pipe.stream)).poll_read(&mut cx, &mut into) {
                    Poll::Ready(done) => done.map(|()| into.filled().len()),
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    /// Writes what can be written now, as [`read`](Self::read).
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Pipe(pipe) => {
                let mut cx = Context::from_waker(&pipe.waker);
                match Pin::new(&mut *lock(&pipe.stream)).poll_write(&mut cx, bytes) {
                    Poll::Ready(done) => done,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Out {
    queued: BytesMut,
    /// Whether a thread is writing: it will find what is queued meanwhile.
    writing: bool,
}

/// The connection goes on.
const OPEN: u8 = 0;
/// It ends when its output is sent.
const CLOSING: u8 = 1;
/// It ends now.
const CUT: u8 = 2;

/// What became of an attempt to send everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left, here. A buffer may be had for the pool.
    All(Option<BytesMut>),
    /// The peer does not take more now.
    Blocked,
    /// Another thread is at it.
    Elsewhere,
}

/// See the [module page](self).
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnId,
    /// Less room than a `SocketAddr` takes.
    ip: IpAddr,
    port: u16,
    slot: Slot,
    transport: Transport,
    out: Mutex<Out>,
    blocked: AtomicBool,
    /// As the engine said last.
    may_read: AtomicBool,
    end: AtomicU8,
    /// Nothing leaves before this is false: a fault hook holds replies back.
    held: AtomicBool,
    /// Nothing more is queued: a fault hook swallowed a reply.
    muted: AtomicBool,
    /// The poller was called and has not looked yet.
    called: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Link {
    pub(crate) fn new(
        id: ConnId,
        peer: SocketAddr,
        slot: Slot,
        transport: Transport,
        alarm: Arc<Alarm>,
    ) -> Self {
        Self {
            id,
            ip: peer.ip(),
            port: peer.port(),
            slot,
            transport,
            out: Mutex::default(),
            blocked: AtomicBool::new(false),
            may_read: AtomicBool::new(true),
            end: AtomicU8::new(OPEN),
            held: AtomicBool::new(false),
            muted: AtomicBool::new(false),
            called: AtomicBool::new(false),
            alarm,
        }
    }

    /// Where it came from.
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Whether readiness is not told for it: it is tried whenever the poller is called.
    pub(crate) fn is_pipe(&self) -> bool {
        matches!(self.transport, Transport::Pipe(_))
    }

    /// Reads once, for the poller.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.transport.read(into)
    }

    /// Queues bytes. Called with the engine's lock held.
    pub(crate) fn push(&self, bytes: BytesMut) {
        if self.muted.load(Ordering::Acquire) {
            return;
        }
        let mut out = lock(&self.out);
        if out.queued.is_empty() {
            out.queued = bytes;
        } else {
            out.queued.extend_from_slice(&bytes);
        }
    }

    /// Sends what is queued, as far as the peer takes it. A link that is blocked stays so.
    pub(crate) fn flush(&self) -> Flushed {
        if self.is_blocked() {
            return Flushed::Blocked;
        }
        let flushed = self.send();
        if flushed == Flushed::Blocked {
            self.nudge();
        }
        flushed
    }

    /// As [`flush`](Self::flush), for the poller, which knows of room that there may be again.
    pub(crate) fn flush_blocked(&self) -> Flushed {
        self.blocked.store(false, Ordering::Release);
        self.send()
    }

    fn send(&self) -> Flushed {
        if self.held.load(Ordering::Acquire) {
            return Flushed::Elsewhere;
        }
        let mut out = lock(&self.out);
        if out.writing {
            return Flushed::Elsewhere;
        }
        let mut spent = None;
        while !out.queued.is_empty() {
            let mut bytes = std::mem::take(&mut out.queued);
            out.writing = true;
            drop(out);
            let done = self.write_all(&mut bytes);
            out = lock(&self.out);
            out.writing = false;
            match done {
                Ok(true) => spent = Some(bytes),
                Ok(false) => {
                    bytes.extend_from_slice(&out.queued);
                    out.queued = bytes;
                    self.blocked.store(true, Ordering::Release);
                    return Flushed::Blocked;
                }
                Err(error) => {
                    tracing::debug!(peer = %self.peer(), %error, "cannot send");
                    out.queued = BytesMut::new();
                    drop(out);
                    self.cut();
                    return Flushed::All(None);
                }
            }
        }
        drop(out);
        if self.is_closing() {
            self.nudge();
        }
        Flushed::All(spent)
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        let out = lock(&self.out);
        out.queued.is_empty() && !out.writing
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Ends the connection once its output is sent.
    pub(crate) fn close(&self) {
        self.end.fetch_max(CLOSING, Ordering::AcqRel);
        self.nudge();
    }

    /// Ends the connection, whatever is unsent.
    pub(crate) fn cut(&self) {
        self.end.fetch_max(CUT, Ordering::AcqRel);
        self.nudge();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.end.load(Ordering::Acquire) != OPEN
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.end.load(Ordering::Acquire) == CUT
    }

    /// Notes whether the engine wants this connection read; calls the poller if it now does.
    pub(crate) fn allow_reading(&self, allowed: bool) {
        if self.may_read.swap(allowed, Ordering::AcqRel) != allowed && allowed {
            self.nudge();
        }
    }

    pub(crate) fn may_read(&self) -> bool {
        self.may_read.load(Ordering::Acquire)
    }

    /// Holds output back, or lets it go. Says whether it was held.
    pub(crate) fn hold(&self, held: bool) -> bool {
        self.held.swap(held, Ordering::AcqRel)
    }

    /// Drops all further output: what is queued now is the last the peer hears.
    pub(crate) fn mute(&self) {
        self.muted.store(true, Ordering::Release);
    }

    /// Makes the poller look at this connection.
    pub(crate) fn nudge(&self) {
        if !self.called.swap(true, Ordering::AcqRel) {
            self.alarm.call(self.slot);
        }
    }

    /// The poller looks: whatever changes from now on is another call.
    pub(crate) fn looked_at(&self) {
        self.called.swap(false, Ordering::AcqRel);
    }

    /// True when all is written; false when the peer takes no more now.
    fn write_all(&self, bytes: &mut BytesMut) -> io::Result<bool> {
        let mut at = 0;
        while at < bytes.len() {
            match self.transport.write(&bytes[at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => at += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    bytes.advance(at);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        bytes.clear();
        Ok(true)
    }
}

/// These locks guard plain values that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
