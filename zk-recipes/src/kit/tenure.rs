//! Do I still hold it? The states of a tenure and the one function that moves between them.
//!
//! Pure. A tenure belongs to one node of one session. Knows what happened to either; must not know how that was found out.
//! Invariants: *lost* and *released* are final; after a doubt only a look at the node gives trust back; another session is
//! never this one again, however it got its number.

use std::fmt;

use zk_proto::SessionId;

use super::link::Link;

/// Whether a hold can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenureState {
    /// Connected, and the node was there, ours, when last heard of.
    Held,
    /// In doubt: the connection is lost, silent for too long, or leads to a server that takes no writes; or it is back and the
    /// node was not looked at yet, or may not be read any more. Nobody else holds before the server
    /// ends the session, and when that is cannot be known here: stop what must not happen twice.
    Suspended,
    /// Over, against our will. Final.
    Lost(Loss),
    /// Let go by its owner, finally or with the node's end still on its way. Final.
    Released,
}

impl TenureState {
    /// Whether nothing can change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Lost(_) | Self::Released)
    }

    /// The next state.
    pub(crate) fn after(self, session: SessionId, input: Input) -> Self {
        if self.is_final() {
            return self;
        }
        match input {
            Input::Link(Link::Closed) => Self::Lost(Loss::ClientClosed),
            Input::Link(link) if link.session() != Some(session) => Self::Lost(Loss::SessionEnded),
            Input::Link(Link::Suspended(_)) => Self::Suspended,
            // Back, but with what? Whoever was in doubt stays in doubt until the node was seen.
            Input::Link(_) => self,
            Input::Seen => Self::Held,
            Input::Gone => Self::Lost(Loss::NodeDeleted),
            Input::Unattended => Self::Lost(Loss::Unattended),
            Input::Released => Self::Released,
        }
    }
}

/// What a tenure learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The session's link changed.
    Link(Link),
    /// The node was read, over a connection that still stands: it is there and ours.
    Seen,
    /// The node is not there.
    Gone,
    /// The task that kept watch is no more.
    Unattended,
    /// The owner lets go.
    Released,
}

/// How something held was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The session expired, or this client stopped trusting it: its ephemeral nodes are gone or about to go.
    SessionEnded,
    /// The node was deleted, by somebody else or by the server as the first that was heard of the end of the session.
    NodeDeleted,
    /// The client was closed.
    ClientClosed,
    /// The runtime that the hold was acquired on is gone, and with it the task that watched over it.
    Unattended,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionEnded => "the session ended",
            Self::NodeDeleted => "its node was deleted",
            Self::ClientClosed => "the client was closed",
            Self::Unattended => "the runtime it was acquired on is gone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: SessionId = SessionId(7);
    const NEXT: SessionId = SessionId(8);
    const ALL_INPUTS: [Input; 9] = [
        Input::Link(Link::Connected(MINE)),
        Input::Link(Link::Connected(NEXT)),
        Input::Link(Link::Suspended(MINE)),
        Input::Link(Link::Between),
        Input::Link(Link::Closed),
        Input::Seen,
        Input::Gone,
        Input::Unattended,
        Input::Released,
    ];

    fn run(inputs: &[Input]) -> TenureState {
        inputs
            .iter()
            .fold(TenureState::Held, |state, input| state.after(MINE, *input))
    }

    #[test]
    fn a_reconnection_alone_does_not_give_trust_back() {
        let (down, up) = (
            Input::Link(Link::Suspended(MINE)),
            Input::Link(Link::Connected(MINE)),
        );
        assert_eq!(run(&[down]), TenureState::Suspended);
        assert_eq!(run(&[down, up]), TenureState::Suspended);
        assert_eq!(run(&[down, up, Input::Seen]), TenureState::Held);
        assert_eq!(
            run(&[down, up, Input::Gone]),
            TenureState::Lost(Loss::NodeDeleted)
        );
    }

    #[test]
    fn curator_206_another_session_is_a_loss_whatever_came_between() {
        for link in [Link::Connected(NEXT), Link::Suspended(NEXT), Link::Between] {
            assert_eq!(
                run(&[Input::Link(link)]),
                TenureState::Lost(Loss::SessionEnded)
            );
        }
        let back = [
            Input::Link(Link::Connected(NEXT)),
            Input::Link(Link::Connected(MINE)),
            Input::Seen,
        ];
        assert_eq!(run(&back), TenureState::Lost(Loss::SessionEnded));
    }

    #[test]
    fn the_end_is_final() {
        for end in [
            TenureState::Released,
            TenureState::Lost(Loss::NodeDeleted),
            TenureState::Lost(Loss::Unattended),
        ] {
            for input in ALL_INPUTS {
                assert_eq!(end.after(MINE, input), end);
            }
        }
    }

    #[test]
    fn what_was_lost_says_how() {
        assert_eq!(Loss::SessionEnded.to_string(), "the session ended");
        assert_eq!(Loss::NodeDeleted.to_string(), "its node was deleted");
        assert_eq!(Loss::ClientClosed.to_string(), "the client was closed");
        assert_eq!(
            Loss::Unattended.to_string(),
            "the runtime it was acquired on is gone"
        );
    }
}
