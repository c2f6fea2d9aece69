//! Futures that are dropped on the way: at every await point, before and after what they wait for has come.

use std::task::Poll;

/// When the future is dropped.
#[derive(Clone, Copy, Debug)]
pub enum Drop {
    /// Right after its n-th poll: its request is out, the answer is not there.
    After(usize),
    /// When it is woken for the poll after its n-th: the answer is there, and nobody looked at it.
    Woken(usize),
}

/// Drops `future` as told; `None` if it was not ready by then.
pub async fn dropped<F: Future>(future: F, when: Drop) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let (polls, woken) = match when {
        Drop::After(polls) => (polls, false),
        Drop::Woken(polls) => (polls, true),
    };
    let mut done = 0;
    std::future::poll_fn(move |context| {
        if done == polls {
            return Poll::Ready(None);
        }
        done += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if done == polls && !woken => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Every way to drop a future that needs fewer than `polls` polls.
pub fn every_way(polls: usize) -> impl Iterator<Item = Drop> {
    (0..polls).flat_map(|n| [Drop::After(n), Drop::Woken(n)])
}
