//! The life of a session as its user sees it: a state to watch, and a stream of the changes. It must not know how the
//! changes come about; that is `core`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;
use zk_proto::SessionId;

/// Where the client stands. The number of the session is the epoch: whatever was held under one number is not held
/// under another.
///
/// ```text
///              .------------- a new session, by itself -------------.
///              v                                                    |
/// Connecting -> Connected <-> Suspended -> Lost --------------------'
///                   |             |
///                   '-- Closed, AuthFailed: the end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// No session yet.
    Connecting,
    /// The session is attached to a server.
    Connected {
        /// Which session.
        session: SessionId,
        /// Whether the server is cut off from its ensemble and takes no writes. Only where the builder allows such servers.
        read_only: bool,
    },
    /// The connection is lost. The session may still live: hold still, neither go on nor give up.
    Suspended {
        /// Which session.
        session: SessionId,
    },
    /// The session is over: a server said so, or the client's own clock (nothing was heard for 4/3 of the timeout). Its
    /// ephemeral nodes are gone, or will be. A new session follows unless the builder says otherwise.
    Lost {
        /// Which session was lost.
        session: SessionId,
    },
    /// A server refused credentials. The end: nothing is tried again.
    AuthFailed,
    /// The client was closed. The end.
    Closed,
}

impl SessionState {
    /// Whether requests go out at once.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// The session that lives, or may still live.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match *self {
            Self::Connected { session, .. } | Self::Suspended { session } => Some(session),
            _ => None,
        }
    }
}

/// The changes of state one by one, where [`Client::state`](crate::Client::state) shows the latest only: a stream, from
/// [`Client::session_events`](crate::Client::session_events). It ends once the client is closed or gone.
///
/// A reader that falls 256 changes behind misses the oldest of them; the session in each state shows what became of one all
/// the same.
#[derive(Debug)]
pub struct SessionEvents {
    next: ReusableBoxFuture<'static, Received>,
}

/// What was received, and the receiver to receive on with.
type Received = (
    Result<SessionState, broadcast::error::RecvError>,
    broadcast::Receiver<SessionState>,
);

async fn receive(mut changes: broadcast::Receiver<SessionState>) -> Received {
    (changes.recv().await, changes)
}

/// How many changes wait for a reader. States change at the pace of connections, not of requests.
pub(crate) const KEPT_EVENTS: usize = 256;

impl SessionEvents {
    pub(crate) fn new(changes: broadcast::Receiver<SessionState>) -> Self {
        Self {
            next: ReusableBoxFuture::new(receive(changes)),
        }
    }

    /// The next change; `None` once the client is closed or gone.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn next(&mut self) -> Option<SessionState> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for SessionEvents {
    type Item = SessionState;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SessionState>> {
        loop {
            let (received, changes) = ready!(self.next.poll(cx));
            self.next.set(receive(changes));
            match received {
                Ok(state) => return Poll::Ready(Some(state)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a reader of session events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return Poll::Ready(None),
            }
        }
    }
}

/// What handles must know at once, without the driver's task: until when the session can be trusted (the task may not have
/// run since the process was stopped), and how often requests were lost.
#[derive(Debug)]
pub(crate) struct Trust {
    origin: Instant,
    /// Milliseconds after `origin` from which on the session is given up; `u64::MAX` for none.
    until: AtomicU64,
    /// Milliseconds after `origin` from which on a server may have ended it, or its connection counts as dead; `u64::MAX`
    /// for none.
    doubt: AtomicU64,
    /// How often requests were lost with their connection or session.
    losses: AtomicU64,
}

impl Trust {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            until: AtomicU64::new(u64::MAX),
            doubt: AtomicU64::new(u64::MAX),
            losses: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, doubt_ms: u64, until_ms: u64) {
        self.doubt.store(doubt_ms, Ordering::Release);
        self.until.store(until_ms, Ordering::Release);
    }

    /// How long until the session is in doubt if nothing is heard; nothing if there is no session.
    pub(crate) fn remaining(&self) -> Duration {
        match self.doubt.load(Ordering::Acquire) {
            u64::MAX => Duration::ZERO,
            doubt => Duration::from_millis(doubt).saturating_sub(self.origin.elapsed()),
        }
    }

    /// Requests carry this number from their first poll on: one that was under way when others were lost must not be
    /// sent after them (fs C18).
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    pub(crate) fn count_loss(&self) {
        self.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the client's own clock has passed the moment at which the session is given up.
    pub(crate) fn is_over(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until != u64::MAX && self.origin.elapsed() >= Duration::from_millis(until)
    }
}

/// A state, and what `look` says of it. The two are published one after the other: what `look` saw while the state
/// changed may be of either, and is looked at again.
pub(crate) fn agreed<T>(
    mut state: impl FnMut() -> SessionState,
    mut look: impl FnMut() -> T,
) -> (SessionState, T) {
    let mut before = state();
    loop {
        let seen = look();
        let after = state();
        if before == after {
            return (after, seen);
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fs_k3_what_is_seen_during_a_change_of_state_is_looked_at_again() {
        let session = SessionId(7);
        let connected = SessionState::Connected {
            session,
            read_only: false,
        };
        let lost = SessionState::Lost { session };
        // The session is over by the clock; its task says so, and takes the mark away, between two looks.
        let mut states = [connected, lost, lost].into_iter();
        let mut over = [false, false].into_iter();
        let (state, over) = agreed(|| states.next().unwrap(), || over.next().unwrap());
        assert_eq!(
            (state, over),
            (lost, false),
            "not a session that lives again"
        );
    }

    #[test]
    fn nothing_is_trusted_without_a_session() {
        let trust = Trust::new(Instant::now());
        assert_eq!(
            (trust.remaining(), trust.is_over()),
            (Duration::ZERO, false)
        );
        trust.set(0, 0);
        assert_eq!((trust.remaining(), trust.is_over()), (Duration::ZERO, true));
        trust.set(3_600_000, 3_600_000);
        assert!(!trust.remaining().is_zero() && !trust.is_over());
    }
}
