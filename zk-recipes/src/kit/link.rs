//! The session as recipes see it: connected, suspended, over.
//!
//! The only file that reads the client's session state; recipes need four answers from it. It must not know nodes.

use tokio::sync::watch;
use zk_client::{Client, SessionState};
use zk_proto::SessionId;

/// What is known of the session, with its number as epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Connected with this session, to a server that takes writes.
    Connected(SessionId),
    /// Without such a connection; this session may still live.
    Suspended(SessionId),
    /// There is no session: the last one is over, the next one is not there yet.
    Between,
    /// The client is closed, or will have no session again.
    Closed,
}

impl Link {
    /// The session that lives, or may.
    pub(crate) fn session(self) -> Option<SessionId> {
        match self {
            Self::Connected(session) | Self::Suspended(session) => Some(session),
            Self::Between | Self::Closed => None,
        }
    }
}

impl From<SessionState> for Link {
    fn from(state: SessionState) -> Self {
        match state {
            SessionState::Connected {
                session,
                read_only: false,
            } => Self::Connected(session),
            // A server that takes no writes is cut off: what it shows is old, and the session may be over long ago.
            SessionState::Connected { session, .. } | SessionState::Suspended { session } => {
                Self::Suspended(session)
            }
            SessionState::AuthFailed | SessionState::Closed => Self::Closed,
            _ => Self::Between,
        }
    }
}

/// Follows the link of a client.
#[derive(Clone, Debug)]
pub(crate) struct LinkWatch {
    client: Client,
    state: watch::Receiver<SessionState>,
}

impl LinkWatch {
    /// From now on.
    pub(crate) fn new(client: &Client) -> Self {
        let mut state = client.state();
        state.mark_unchanged();
        Self {
            client: client.clone(),
            state,
        }
    }

    /// The link now, by the client's own clock too: after a pause of the process its driver may not have run yet.
    pub(crate) fn now(&self) -> Link {
        self.client.current_state().into()
    }

    /// Whether the connection has been silent for too long, though nobody has noticed yet.
    pub(crate) fn in_doubt(&self) -> bool {
        self.client.trusted_for().is_zero()
    }

    /// Counts everything up to now as seen.
    pub(crate) fn mark_seen(&mut self) {
        self.state.mark_unchanged();
    }

    /// Whether this session has been connected without a break since the last [`mark_seen`](Self::mark_seen).
    pub(crate) fn stood(&self, session: SessionId) -> bool {
        self.now() == Link::Connected(session)
            && self.state.has_changed().is_ok_and(|changed| !changed)
    }

    /// Waits for a change that was not seen yet.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(crate) async fn changed(&mut self) -> Link {
        if self.state.changed().await.is_err() {
            return Link::Closed;
        }
        self.now()
    }

    /// Waits until this session is over; says what came instead.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(crate) async fn over(&mut self, session: SessionId) -> Link {
        let mut link = self.now();
        while link.session() == Some(session) {
            link = self.changed().await;
        }
        link
    }

    /// Waits for a connection, with whatever session, or the end.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(crate) async fn usable(&mut self) -> Link {
        let mut link = self.now();
        while matches!(link, Link::Suspended(_) | Link::Between) {
            link = self.changed().await;
        }
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_the_client_are_read_as_links() {
        let session = SessionId(7);
        let connected = |read_only| SessionState::Connected { session, read_only };
        for (state, link) in [
            (SessionState::Connecting, Link::Between),
            (connected(false), Link::Connected(session)),
            (connected(true), Link::Suspended(session)),
            (
                SessionState::Suspended { session },
                Link::Suspended(session),
            ),
            (SessionState::Lost { session }, Link::Between),
            (SessionState::AuthFailed, Link::Closed),
            (SessionState::Closed, Link::Closed),
        ] {
            assert_eq!(Link::from(state), link);
        }
    }
}
