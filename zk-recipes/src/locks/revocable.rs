//! Revocation: asking a holder to let go.
//!
//! A convention on data, shared with Curator: whoever wants a lock back writes [`REVOKE_MESSAGE`] into the holder's node, and a
//! holder that cares watches its own node. Nothing is enforced. It must not know how a hold is kept.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::watch;
use zk_client::{Client, Error, IntoPath};
use zk_proto::ErrorCode;

use crate::kit::tenure::TenureState;

/// What is written into a holder's node to ask it to let go.
pub const REVOKE_MESSAGE: &[u8] = b"__REVOKE__";

/// Asks holders to let go.
#[derive(Debug)]
pub struct Revoker;

impl Revoker {
    /// Asks the holder of the node at `path` (one of [`participants`](super::InterProcessMutex::participants)) to let go. A
    /// node that is not there any more is success: whoever had it let go.
    ///
    /// # Errors
    ///
    /// Those of a write, but for a missing node.
    ///
    /// # Cancellation
    ///
    /// *Unknown outcome*: the holder may have been asked. Asking again does no harm.
    pub async fn attempt_revoke<'p>(client: &Client, path: impl IntoPath<'p>) -> Result<(), Error> {
        let path = path.into_path();
        match client.set_data(&*path, REVOKE_MESSAGE).send().await {
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Requests to let go, as they come: a stream that yields once for each, as far as they could be told apart. From
/// [`MutexGuard::revocations`](super::MutexGuard::revocations). One that came while the lock was still being waited for is yielded at once.
///
/// It ends when the lock is lost or released.
///
/// # Cancellation
///
/// Safe: a request is taken only when [`next`](Self::next) returns it.
#[must_use = "a stream does nothing unless polled"]
pub struct Revocations {
    next: Pin<Box<dyn Future<Output = Option<Source>> + Send>>,
}

/// What the hold tells: its node's data with their version, and its state.
type Source = (watch::Receiver<(i32, Bytes)>, watch::Receiver<TenureState>);

impl Revocations {
    pub(crate) fn new(
        mut data: watch::Receiver<(i32, Bytes)>,
        states: watch::Receiver<TenureState>,
    ) -> Self {
        data.mark_changed();
        Self {
            next: Box::pin(request((data, states))),
        }
    }

    /// The next request; `None` when the lock is lost or released.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn next(&mut self) -> Option<()> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Revocations {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        let Poll::Ready(asked) = self.next.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        match asked {
            Some(source) => {
                self.next = Box::pin(request(source));
                Poll::Ready(Some(()))
            }
            None => {
                self.next = Box::pin(std::future::ready(None));
                Poll::Ready(None)
            }
        }
    }
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").finish_non_exhaustive()
    }
}

/// Waits for data that was not seen yet and is a request; `None` at the end of the hold.
async fn request((mut data, mut states): Source) -> Option<Source> {
    loop {
        tokio::select! {
            biased;
            changed = data.changed() => changed.ok()?,
            _ = states.wait_for(|state| state.is_final()) => return None,
        }
        if data.borrow_and_update().1 == REVOKE_MESSAGE {
            return Some((data, states));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_is_told_once_and_other_data_is_none() {
        let revoke = || Bytes::from_static(REVOKE_MESSAGE);
        let data = watch::Sender::new((1, revoke()));
        let state = watch::Sender::new(TenureState::Held);
        let mut requests = Revocations::new(data.subscribe(), state.subscribe());
        assert_eq!(requests.next().await, Some(()));
        for (version, bytes) in [(2, Bytes::new()), (3, Bytes::from_static(b"__REVOKE__ "))] {
            data.send_replace((version, bytes));
            let mut next = std::pin::pin!(requests.next());
            let polled = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            assert_eq!(polled, Poll::Pending);
        }
        data.send_replace((4, revoke()));
        assert_eq!(requests.next().await, Some(()));
        data.send_replace((5, revoke()));
        state.send_replace(TenureState::Released);
        assert_eq!(requests.next().await, Some(()));
        assert_eq!(requests.next().await, None);
        assert_eq!(requests.next().await, None);
    }

    #[test]
    fn the_message_is_curators() {
        assert_eq!(
            (REVOKE_MESSAGE, REVOKE_MESSAGE.len()),
            (&b"__REVOKE__"[..], 10)
        );
    }
}
