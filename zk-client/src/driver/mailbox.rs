//! What does not wait in the lane of requests, and where events go.
//!
//! Giving up a watch in `Drop` and closing go beside the lane, at once; that queue holds at most one entry for each watch
//! and each close.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::core::{SessionEvent, WatchKind, Watcher};

/// What a task is told at once.
#[derive(Debug)]
pub(crate) enum Control {
    Unwatch(Watcher),
    /// Answered with whether a server confirmed it.
    Close(oneshot::Sender<bool>),
    /// Answered with what was tried to reach a server, by somebody who waited that many milliseconds.
    Tried(u64, oneshot::Sender<Arc<str>>),
}

/// The driver's end of a watch.
#[derive(Debug)]
pub(crate) enum Sink {
    Once(oneshot::Sender<SessionEvent>),
    /// Unbounded, so that a slow reader never blocks the session (fs C12); documented at `PersistentWatch`.
    Stream(mpsc::UnboundedSender<SessionEvent>),
}

#[derive(Debug)]
enum Source {
    Once(Option<oneshot::Receiver<SessionEvent>>),
    Stream(mpsc::UnboundedReceiver<SessionEvent>),
}

/// The user's end of a watch. Dropped, it unregisters.
#[derive(Debug)]
pub(crate) struct Registration {
    source: Source,
    watcher: Option<Watcher>,
    control: mpsc::UnboundedSender<Control>,
}

impl Registration {
    pub(crate) fn new(watcher: Watcher, control: mpsc::UnboundedSender<Control>) -> (Self, Sink) {
        let (sink, source) = if matches!(watcher.kind, WatchKind::Persistent | WatchKind::Recursive)
        {
            let (sink, source) = mpsc::unbounded_channel();
            (Sink::Stream(sink), Source::Stream(source))
        } else {
            let (sink, source) = oneshot::channel();
            (Sink::Once(sink), Source::Once(Some(source)))
        };
        let registration = Self {
            source,
            watcher: Some(watcher),
            control,
        };
        (registration, sink)
    }

    /// The next event; `None` when there will be none.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<SessionEvent>> {
        match &mut self.source {
            Source::Stream(source) => source.poll_recv(cx),
            Source::Once(slot) => {
                let Some(source) = slot else {
                    return std::task::Poll::Ready(None);
                };
                let event = std::task::ready!(std::pin::Pin::new(source).poll(cx));
                *slot = None;
                // It has fired: nothing is left to unregister.
                self.watcher = None;
                std::task::Poll::Ready(event.ok())
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            // A task that has ended has no watches.
            let _ = self.control.send(Control::Unwatch(watcher));
        }
    }
}
