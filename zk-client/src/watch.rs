//! Watches as values: a future that fires once, a stream that goes on; dropped, they unregister.
//!
//! The session core keeps the registry, restores it after a reconnect and decides what is delivered; here is only what a
//! user holds. Paths are shown as the view that set the watch sees them. It must not know requests.
//!
//! # What a lost connection means
//!
//! * **One-shot watches** lose nothing: they are set again with the last zxid that this client saw, and a change in between
//!   fires them at once. A node that was deleted and made again meanwhile shows as one change.
//! * **Persistent watches** are set again, but the server sends no events for what happened in between. The stream then
//!   yields an item for which [`is_gap`](WatchedEvent::is_gap) is true: read again what you watch.
//! * **The end of the session** ends every watch: it yields one item for which [`is_end`](WatchedEvent::is_end) is true,
//!   and a stream is over after it. A new session starts without watches.
//!
//! # Order
//!
//! An event is in its watch before the reply of any request that shows the change is with its caller. Between two watches
//! there is no order but that of polling.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use zk_proto::session::{EventType, KeeperState};
use zk_proto::{ZPath, ZPathBuf, Zxid};

use crate::client::{Registration, SessionEvent};
use crate::namespace::View;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchedEvent {
    /// What happened to the node; [`EventType::NONE`] if it is the connection that changed.
    pub kind: EventType,
    /// The state of the session: `SYNC_CONNECTED` with a node's event, the new state with [`EventType::NONE`].
    pub state: KeeperState,
    /// Which node: the one watched, or for a recursive watch one below it; for a child watch the parent.
    pub path: ZPathBuf,
    /// The transaction that changed the node; servers before 3.9, and events made good after a reconnect, do not say.
    pub zxid: Option<Zxid>,
}

impl WatchedEvent {
    /// Whether changes may have gone by unseen: the connection was lost and is back. Only persistent watches yield this.
    pub fn is_gap(&self) -> bool {
        self.kind == EventType::NONE && !self.is_end()
    }

    /// Whether the watch is over because its session is, or because the client was closed.
    pub fn is_end(&self) -> bool {
        self.kind == EventType::NONE
            && matches!(
                self.state,
                KeeperState::EXPIRED | KeeperState::CLOSED | KeeperState::AUTH_FAILED
            )
    }
}

/// A watch that fires once: a future of the one event. From `.watch()` on a read.
///
/// Dropping it unregisters it, here and (once no other watch of this client needs it) at the server.
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// let (node, changed) = client.get_data("/config").watch().await?;
/// let event = changed.await;
/// if !event.is_end() {
///     println!("{:?} was; now {:?}", node.data, client.get_data("/config").await?.data);
/// }
/// # Ok(()) }
/// ```
///
/// # Cancellation
///
/// Safe: `&mut watch` can be polled in a `select!` and kept; the event stays until it is taken.
#[derive(Debug)]
#[must_use = "a watch that is dropped is unregistered"]
pub struct OneshotWatch {
    inner: Inner,
}

impl OneshotWatch {
    pub(crate) fn new(registration: Registration, view: Arc<View>, path: ZPathBuf) -> Self {
        Self {
            inner: Inner {
                registration,
                view,
                path,
            },
        }
    }

    /// The path that is watched.
    pub fn path(&self) -> ZPath<'_> {
        self.inner.path.as_path()
    }
}

impl Future for OneshotWatch {
    type Output = WatchedEvent;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<WatchedEvent> {
        // A registration that ends without an event was ended by the client.
        self.inner
            .poll(cx)
            .map(|event| event.unwrap_or_else(|| self.inner.closed()))
    }
}

/// A watch that goes on: a [`Stream`] of events until the session ends. From [`Client::watch`](crate::Client::watch).
///
/// Dropping it unregisters it. Its buffer is unbounded: take the events, or drop the watch; a watch that nobody polls
/// holds every event that came.
///
/// # Cancellation
///
/// Safe: an event is taken only when [`next`](Self::next) returns it.
#[derive(Debug)]
#[must_use = "a watch that is dropped is unregistered"]
pub struct PersistentWatch {
    inner: Inner,
    ended: bool,
}

impl PersistentWatch {
    pub(crate) fn new(registration: Registration, view: Arc<View>, path: ZPathBuf) -> Self {
        Self {
            inner: Inner {
                registration,
                view,
                path,
            },
            ended: false,
        }
    }

    /// The path that is watched.
    pub fn path(&self) -> ZPath<'_> {
        self.inner.path.as_path()
    }

    /// The next event; `None` after the one that [is the end](WatchedEvent::is_end).
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn next(&mut self) -> Option<WatchedEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for PersistentWatch {
    type Item = WatchedEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchedEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.inner.poll(cx).map(|event| {
            let event = event.unwrap_or_else(|| self.inner.closed());
            self.ended = event.is_end();
            Some(event)
        })
    }
}

#[derive(Debug)]
struct Inner {
    registration: Registration,
    view: Arc<View>,
    path: ZPathBuf,
}

impl Inner {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchedEvent>> {
        self.registration
            .poll_event(cx)
            .map(|event| event.map(|event| self.shown(event)))
    }

    fn shown(&self, event: SessionEvent) -> WatchedEvent {
        // The event of a watch lies in its view; a path that the server made up is shown as it is, or as the watch's.
        let path =
            ZPathBuf::new(self.view.strip(&event.path)).unwrap_or_else(|_| self.path.clone());
        WatchedEvent {
            kind: event.kind,
            state: event.state,
            path,
            zxid: event.zxid,
        }
    }

    fn closed(&self) -> WatchedEvent {
        WatchedEvent {
            kind: EventType::NONE,
            state: KeeperState::CLOSED,
            path: self.path.clone(),
            zxid: None,
        }
    }
}
