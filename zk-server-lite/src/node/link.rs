//! The sending side of one connection, which any thread may use.
//!
//! Bytes are queued while the engine's lock is held, so their order is the engine's; they are written after it is released,
//! by whichever thread finds the link idle. A thread that finds another one writing leaves its bytes to that one. When the
//! peer does not take them, the link is *blocked*: its connection's task waits for room, and further output stays with the
//! engine, which bounds it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, DuplexStream, WriteHalf};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::pipeline::ConnId;

/// Where bytes go.
#[derive(Debug)]
pub(crate) enum Sender {
    /// A socket.
    Tcp(OwnedWriteHalf),
    /// A pipe inside the process.
    Duplex(Mutex<WriteHalf<DuplexStream>>),
}

impl Sender {
    /// Writes what can be written now. With a waker that does nothing this is a plain attempt.
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(half) => loop {
                match half.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        match half.as_ref().poll_write_ready(cx) {
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                    done => return Poll::Ready(done),
                }
            },
            Self::Duplex(half) => Pin::new(&mut *lock(half)).poll_write(cx, bytes),
        }
    }

    /// One attempt, registering nobody. A socket's waker belongs to its task, so this must not replace it.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Duplex(_) => {
                match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
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
    pub(crate) peer: SocketAddr,
    sender: Sender,
    out: Mutex<Out>,
    blocked: AtomicBool,
    /// As the engine said last.
    may_read: AtomicBool,
    end: AtomicU8,
    /// Nothing leaves before this is false: a fault hook holds replies back.
    held: AtomicBool,
    /// Nothing more is queued: a fault hook swallowed a reply.
    muted: AtomicBool,
    wake: Notify,
}

impl Link {
    pub(crate) fn new(id: ConnId, peer: SocketAddr, sender: Sender) -> Self {
        Self {
            id,
            peer,
            sender,
            out: Mutex::default(),
            blocked: AtomicBool::new(false),
            may_read: AtomicBool::new(true),
            end: AtomicU8::new(OPEN),
            held: AtomicBool::new(false),
            muted: AtomicBool::new(false),
            wake: Notify::new(),
        }
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

    /// Sends what is queued, as far as the peer takes it.
    pub(crate) fn flush(&self) -> Flushed {
        self.send(|bytes| self.sender.try_write(bytes))
    }

    /// As [`flush`](Self::flush), for the connection's own task, which is woken when there is room again.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Flushed> {
        let would_block = || io::Error::from(io::ErrorKind::WouldBlock);
        self.blocked.store(false, Ordering::Release);
        let flushed = self.send(|bytes| match self.sender.poll_write(cx, bytes) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(would_block()),
        });
        match flushed {
            Flushed::Blocked => Poll::Pending,
            done => Poll::Ready(done),
        }
    }

    fn send(&self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> Flushed {
        if self.blocked.load(Ordering::Acquire) {
            return Flushed::Blocked;
        }
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
            let done = write_all(&mut bytes, &mut write);
            out = lock(&self.out);
            out.writing = false;
            match done {
                Ok(true) => spent = Some(bytes),
                Ok(false) => {
                    bytes.extend_from_slice(&out.queued);
                    out.queued = bytes;
                    self.blocked.store(true, Ordering::Release);
                    drop(out);
                    self.wake.notify_one();
                    return Flushed::Blocked;
                }
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "cannot send");
                    out.queued = BytesMut::new();
                    drop(out);
                    self.cut();
                    return Flushed::All(None);
                }
            }
        }
        drop(out);
        if self.is_closing() {
            self.wake.notify_one();
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
        self.wake.notify_one();
    }

    /// Ends the connection, whatever is unsent.
    pub(crate) fn cut(&self) {
        self.end.fetch_max(CUT, Ordering::AcqRel);
        self.wake.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.end.load(Ordering::Acquire) != OPEN
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.end.load(Ordering::Acquire) == CUT
    }

    /// Notes whether the engine wants this connection read; wakes its task if it now does.
    pub(crate) fn allow_reading(&self, allowed: bool) {
        if self.may_read.swap(allowed, Ordering::AcqRel) != allowed && allowed {
            self.wake.notify_one();
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

    /// Waits until somebody has news for the connection's task.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake.notified()
    }

    /// Makes the connection's task look at its state again.
    pub(crate) fn nudge(&self) {
        self.wake.notify_one();
    }
}

/// True when all is written; false when the peer takes no more now.
fn write_all(
    bytes: &mut BytesMut,
    write: &mut impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<bool> {
    let mut at = 0;
    while at < bytes.len() {
        match write(&bytes[at..]) {
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

/// These locks guard plain values that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
