//! What can go wrong with a lock.
//!
//! *Lost* (somebody else may hold it now) is apart from *failed* (a request did not work). What the client saw is the source.

use zk_proto::{PathError, ZPathBuf};

use crate::kit::contender::Setback;
use crate::kit::tenure::Loss;

/// What went wrong with a lock. A time-out is not an error: see
/// [`acquire_timeout`](super::InterProcessMutex::acquire_timeout).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock's path, or with its node's name the node's path, is malformed. Nothing was sent.
    #[error("not a path for a lock")]
    BadPath(#[source] PathError),
    /// Nodes of this name, with a sequence number behind it, could not be told from others: it is empty, has a slash, or
    /// is dashes only. Nothing was sent.
    #[error("{0:?} is not a name for the nodes of a lock")]
    BadName(String),
    /// The nodes of the lock are to hold so many bytes that a server, as it comes, closes the connection on which they are
    /// sent: the create would be repeated for ever. Nothing was sent.
    #[error("{bytes} bytes are too many for the nodes of a lock")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// The lock was held, or waited for by a lock that is told to [fail then](super::MutexBuilder::fail_on_session_loss), and
    /// is no more.
    #[error("lock {path} is lost: {loss}")]
    Lost {
        /// The lock's path.
        path: ZPathBuf,
        /// How.
        loss: Loss,
    },
    /// Whether the lock is held is in doubt, because the connection is lost. See
    /// [`TenureState::Suspended`](crate::TenureState::Suspended).
    #[error("lock {path} is in doubt: the connection is lost")]
    Suspended {
        /// The lock's path.
        path: ZPathBuf,
    },
    /// The client was closed.
    #[error("lock {path} cannot be acquired: the client is closed")]
    Closed {
        /// The lock's path.
        path: ZPathBuf,
    },
    /// A request failed for good: the server refused it. A lock is not held then, and a node that was made for it is being
    /// removed.
    #[error("lock {path}: a request was refused")]
    Failed {
        /// The lock's path.
        path: ZPathBuf,
        /// What the client says, with the request and the path it was about.
        #[source]
        source: zk_client::Error,
    },
}

impl LockError {
    /// Whether the lock was lost: another process may hold it.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    pub(crate) fn failed(path: &ZPathBuf, source: zk_client::Error) -> Self {
        Self::Failed {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn lost(path: &ZPathBuf, loss: Loss) -> Self {
        Self::Lost {
            path: path.clone(),
            loss,
        }
    }

    pub(crate) fn setback(path: &ZPathBuf, setback: Setback) -> Self {
        match setback {
            Setback::SessionEnded => Self::lost(path, Loss::SessionEnded),
            Setback::NodeGone => Self::lost(path, Loss::NodeDeleted),
            Setback::Closed => Self::Closed { path: path.clone() },
            Setback::Failed(source) => Self::failed(path, source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use zk_proto::ZPath;

    use super::*;

    #[test]
    fn texts() {
        let path = ZPathBuf::new("/locks/a").unwrap();
        let lost = LockError::lost(&path, Loss::SessionEnded);
        assert_eq!(lost.to_string(), "lock /locks/a is lost: the session ended");
        assert!(lost.is_lost() && lost.source().is_none());
        let gone = LockError::setback(&path, Setback::NodeGone);
        assert_eq!(
            gone.to_string(),
            "lock /locks/a is lost: its node was deleted"
        );
        let closed = LockError::setback(&path, Setback::Closed);
        assert_eq!(
            closed.to_string(),
            "lock /locks/a cannot be acquired: the client is closed"
        );
        assert!(!closed.is_lost());
        let doubt = LockError::Suspended { path };
        assert_eq!(
            doubt.to_string(),
            "lock /locks/a is in doubt: the connection is lost"
        );
        let bad = LockError::BadPath(ZPath::new("locks").unwrap_err());
        assert_eq!(bad.to_string(), "not a path for a lock");
        assert!(bad.source().is_some());
        let bad = LockError::BadName("a/b".to_owned());
        assert_eq!(
            bad.to_string(),
            "\"a/b\" is not a name for the nodes of a lock"
        );
    }
}
