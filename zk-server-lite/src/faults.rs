//! Fault hooks for tests: what can go wrong between a client and its server, on request.
//!
//! They act where bytes and time meet the engine, never inside it: an expired session, a swallowed reply or a frozen server
//! is what a real one would show. Without a hook in use the cost is one atomic load per batch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::watch;
use zk_proto::{OpCode, Xid};

use crate::node::halt::Halt;
use crate::node::link::Link;
use crate::pipeline::ConnId;

/// What becomes of a connection whose reply was swallowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSwallow {
    /// It is cut right where the reply would have begun, as when a server dies after it acted.
    Cut,
    /// It stays open and nothing more is heard on it, as when a network drops packets.
    Silence,
}

#[derive(Debug)]
struct Victim {
    conn: ConnId,
    xid: Xid,
    after: AfterSwallow,
}

/// The hooks of one server.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Whether any rule below is in force.
    armed: AtomicBool,
    swallow: Mutex<Vec<(OpCode, AfterSwallow)>>,
    victims: Mutex<Vec<Victim>>,
    delay_us: AtomicU64,
    refuse: AtomicBool,
    frozen: watch::Sender<bool>,
    crashed: AtomicBool,
    handle: OnceLock<Handle>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            armed: AtomicBool::new(false),
            swallow: Mutex::default(),
            victims: Mutex::default(),
            delay_us: AtomicU64::new(0),
            refuse: AtomicBool::new(false),
            frozen: watch::Sender::new(false),
            crashed: AtomicBool::new(false),
            handle: OnceLock::new(),
        }
    }
}

impl Faults {
    /// Gives the runtime on which delays are waited for.
    pub(crate) fn attach_runtime(&self, handle: Handle) {
        let _ = self.handle.set(handle);
    }

    pub(crate) fn swallow_next(&self, op: OpCode, after: AfterSwallow) {
        lock(&self.swallow).push((op, after));
        self.armed.store(true, Ordering::Release);
    }

    /// Forgets what was not used up.
    pub(crate) fn swallow_no_more(&self) {
        lock(&self.swallow).clear();
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.delay_us.store(
            u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
            Ordering::Release,
        );
        if !delay.is_zero() {
            self.armed.store(true, Ordering::Release);
        }
    }

    pub(crate) fn set_refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::Release);
    }

    pub(crate) fn refuses(&self) -> bool {
        self.refuse.load(Ordering::Acquire)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    pub(crate) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }

    /// From now on nothing is written or sent any more.
    pub(crate) fn set_crashed(&self) {
        self.crashed.store(true, Ordering::Release);
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.crashed.load(Ordering::Acquire)
    }

    /// Waits while the server is frozen. True if it was.
    pub(crate) async fn wait_thawed(&self, halt: &Halt) -> bool {
        if !self.is_frozen() {
            return false;
        }
        let mut frozen = self.frozen.subscribe();
        tokio::select! {
            // The sender is a field of this value, so it is not gone.
            _ = frozen.wait_for(|frozen| !frozen) => {}
            () = halt.token().cancelled() => {}
        }
        true
    }

    /// A request is about to be handled: is its reply one to swallow?
    pub(crate) fn request_seen(&self, conn: ConnId, frame: &Bytes) {
        if !self.armed.load(Ordering::Acquire) {
            return;
        }
        let (Some(xid), Some(op)) = (word(frame, 0), word(frame, 4)) else {
            return;
        };
        let mut rules = lock(&self.swallow);
        if let Some(at) = rules.iter().position(|(wanted, _)| wanted.0 == op) {
            let (_, after) = rules.remove(at);
            lock(&self.victims).push(Victim {
                conn,
                xid: Xid(xid),
                after,
            });
        }
    }

    /// Queues a connection's output, less what is swallowed, later if delayed.
    pub(crate) fn send(&self, link: &Arc<Link>, mut out: BytesMut) {
        if !self.armed.load(Ordering::Acquire) {
            link.push(out);
            return;
        }
        let struck = {
            let mut victims = lock(&self.victims);
            victims
                .iter()
                .enumerate()
                .filter(|(_, victim)| victim.conn == link.id)
                .find_map(|(at, victim)| find_reply(&out, victim.xid).map(|start| (at, start)))
                .map(|(at, start)| (victims.remove(at).after, start))
        };
        if let Some((after, start)) = struck {
            out.truncate(start);
            link.push(out);
            link.mute();
            if after == AfterSwallow::Cut {
                link.close();
            }
        } else {
            link.push(out);
        }
        let delay = Duration::from_micros(self.delay_us.load(Ordering::Acquire));
        if !delay.is_zero()
            && let Some(handle) = self.handle.get()
            && !link.hold(true)
        {
            let link = Arc::clone(link);
            handle.spawn(async move {
                tokio::time::sleep(delay).await;
                link.hold(false);
                link.flush();
            });
        }
    }
}

/// Where the reply to a request begins in a run of whole frames.
fn find_reply(out: &[u8], xid: Xid) -> Option<usize> {
    let mut at = 0;
    while let (Some(length), Some(found)) = (word(out, at), word(out, at + 4)) {
        if found == xid.0 {
            return Some(at);
        }
        at += 4 + usize::try_from(length).ok()?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<i32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| i32::from_be_bytes(*word))
}

/// These locks guard plain lists that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
