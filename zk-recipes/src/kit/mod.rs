//! The shared kit: what every recipe's correctness rests on, once.
//!
//! | file | holds | pure |
//! |---|---|---|
//! | [`sequence`] | sequence numbers in node names: read, order through the wrap | yes |
//! | [`contend`] | whose turn it is among the children of a path | yes |
//! | `tenure` | do I still hold it: states, and the one function that moves between them | yes |
//! | `link` | the session as recipes see it: connected, suspended, over | |
//! | `reaper` | a node that must not outlive its owner's interest: the home of every `Drop` | |
//! | `protected` | create a contender's node, and be sure of exactly one | |
//! | `contender` | a node in a queue, until its turn | |
//! | `keeper` | a node that holds, until it is released or lost | |
//!
//! No recipe knows a sequence number, a retry sleep of its own or a session's life; all of that is here.

pub mod contend;
pub(crate) mod contender;
pub(crate) mod keeper;
pub(crate) mod link;
pub(crate) mod protected;
pub(crate) mod reaper;
pub mod sequence;
pub(crate) mod tenure;

use std::time::Duration;

use tokio::sync::watch;
use zk_client::retry::{Retry, RetryPolicy};
use zk_client::{Client, SessionState};

/// The pause before a request that a lost connection took down is sent again. While there is no connection requests wait in
/// the session's queue (15 seconds, then they are sent again), so this paces a connection that comes and goes, not the search for a server.
const PAUSE: Duration = Duration::from_millis(20);

/// The view that recipes work through: it gives up when the client has ended, not before. Only what may be asked twice is
/// repeated, and refusals never are.
pub(crate) fn patient(client: &Client) -> Client {
    client.retrying(Retry::new(WhileTheClientLives(client.state())))
}

/// Repeats as long as there is somebody who could succeed: a client that is told not to follow a lost session by a new one
/// ends with it, and would answer "expired" for ever.
#[derive(Debug)]
struct WhileTheClientLives(watch::Receiver<SessionState>);

impl RetryPolicy for WhileTheClientLives {
    fn delay(&self, _attempt: u32, _elapsed: Duration) -> Option<Duration> {
        // The sending end is the session's task.
        self.0.has_changed().is_ok().then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_the_client() {
        let (session, state) = watch::channel(SessionState::Connecting);
        let policy = WhileTheClientLives(state);
        let delay = || policy.delay(u32::MAX, Duration::MAX);
        assert_eq!(delay(), Some(PAUSE));
        session.send_replace(SessionState::Closed);
        assert_eq!(delay(), Some(PAUSE));
        drop(session);
        assert_eq!(delay(), None);
    }
}
