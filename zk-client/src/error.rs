//! The one error of this crate: which operation, on which path, why, and what is known of its outcome.
//!
//! Pure. It must not know requests or connections; who makes an error says what it means.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use zk_proto::{DecodeError, ErrorCode, OpCode, PathError};

use crate::hosts::HostsError;

/// What is known of a failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not happen and will not.
    NotDone,
    /// It may have happened, or may still: the request was on its way when the connection was lost.
    Unknown,
}

/// Why an operation failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server answered with this code.
    Server(ErrorCode),
    /// The connection was lost before the answer. The session may live on.
    ConnectionLost,
    /// No server took the session for as long as a request may [wait](crate::ClientBuilder::connect_patience). With what
    /// was tried, host by host, for people to read.
    Unreachable(Arc<str>),
    /// The session ended before the answer.
    SessionExpired,
    /// A server refused the client's credentials; the client is of no further use.
    AuthFailed,
    /// The client is closed.
    Closed,
    /// The caller's deadline came first.
    DeadlineExceeded,
    /// The path is malformed; nothing was sent.
    BadPath(PathError),
    /// The request contradicts itself; nothing was sent.
    Refused(Box<dyn StdError + Send + Sync>),
    /// The connect string is malformed.
    BadHosts(HostsError),
    /// The server broke the protocol.
    Protocol(&'static str),
    /// The answer cannot be decoded.
    Decode(DecodeError),
}

/// Why an operation failed, and what became of it.
pub struct Error(Box<Failed>);

/// On the heap, so that what goes well need not carry room for it.
#[derive(Debug)]
struct Failed {
    op: OpCode,
    path: Option<String>,
    kind: ErrorKind,
    outcome: Outcome,
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            op,
            path,
            kind,
            outcome,
        } = &*self.0;
        f.debug_struct("Error")
            .field("op", op)
            .field("path", path)
            .field("kind", kind)
            .field("outcome", outcome)
            .finish()
    }
}

impl Error {
    /// The operation.
    pub fn op(&self) -> OpCode {
        self.0.op
    }

    /// The path that the operation was given, as the view shows it; `None` for operations without one.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// Why.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The server's code, where it was the server that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.0.kind {
            ErrorKind::Server(code) => Some(code),
            _ => None,
        }
    }

    /// Whether the same operation may succeed later by itself (Curator's list: connection lost or not there, session expired or
    /// moved, timeouts of the server, and a throttled request). Whether it may be *repeated* depends on
    /// [`outcome`](Self::outcome) as well.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::ConnectionLost | ErrorKind::Unreachable(_) | ErrorKind::SessionExpired => {
                true
            }
            ErrorKind::Server(code) => matches!(
                code,
                ErrorCode::CONNECTION_LOSS
                    | ErrorCode::OPERATION_TIMEOUT
                    | ErrorCode::REQUEST_TIMEOUT
                    | ErrorCode::SESSION_EXPIRED
                    | ErrorCode::SESSION_MOVED
                    | ErrorCode::THROTTLED_OP
            ),
            _ => false,
        }
    }

    /// Whether the operation is known not to have happened.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    pub(crate) fn new(op: OpCode, path: Option<String>, kind: ErrorKind, outcome: Outcome) -> Self {
        Self(Box::new(Failed {
            op,
            path,
            kind,
            outcome,
        }))
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// With the path that the operation was given, as the view shows it.
    pub(crate) fn about(mut self, path: Option<String>) -> Self {
        self.0.path = path;
        self
    }

    pub(crate) fn bad_path(op: OpCode, error: PathError) -> Self {
        let path = Some(error.path.clone());
        Self::new(op, path, ErrorKind::BadPath(error), Outcome::NotDone)
    }

    pub(crate) fn refused(op: OpCode, path: &str, why: Box<dyn StdError + Send + Sync>) -> Self {
        let path = Some(path.to_owned());
        Self::new(op, path, ErrorKind::Refused(why), Outcome::NotDone)
    }

    pub(crate) fn server(op: OpCode, path: Option<String>, code: ErrorCode) -> Self {
        // A server that gave up in the middle does not know either.
        let outcome = match code {
            ErrorCode::CONNECTION_LOSS
            | ErrorCode::OPERATION_TIMEOUT
            | ErrorCode::REQUEST_TIMEOUT
            | ErrorCode::SYSTEM_ERROR
            | ErrorCode::DATA_INCONSISTENCY => Outcome::Unknown,
            _ => Outcome::NotDone,
        };
        Self::new(op, path, ErrorKind::Server(code), outcome)
    }

    pub(crate) fn protocol(op: OpCode, path: Option<String>, what: &'static str) -> Self {
        Self::new(op, path, ErrorKind::Protocol(what), Outcome::Unknown)
    }

    pub(crate) fn decode(op: OpCode, path: Option<String>, error: DecodeError) -> Self {
        Self::new(op, path, ErrorKind::Decode(error), Outcome::Unknown)
    }

    pub(crate) fn deadline_exceeded(op: OpCode, path: Option<String>) -> Self {
        Self::new(op, path, ErrorKind::DeadlineExceeded, Outcome::Unknown)
    }

    pub(crate) fn connection_lost(op: OpCode, path: Option<String>, outcome: Outcome) -> Self {
        Self::new(op, path, ErrorKind::ConnectionLost, outcome)
    }

    pub(crate) fn bad_hosts(error: HostsError) -> Self {
        let kind = ErrorKind::BadHosts(error);
        Self::new(OpCode::CREATE_SESSION, None, kind, Outcome::NotDone)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.op)?;
        if let Some(path) = &self.0.path {
            write!(f, " {path:?}")?;
        }
        match &self.0.kind {
            ErrorKind::Server(code) => write!(f, ": {code}"),
            ErrorKind::ConnectionLost => f.write_str(": connection lost"),
            ErrorKind::Unreachable(tried) => write!(f, ": {tried}"),
            ErrorKind::SessionExpired => f.write_str(": session expired"),
            ErrorKind::AuthFailed => f.write_str(": credentials refused"),
            ErrorKind::Closed => f.write_str(": the client is closed"),
            ErrorKind::DeadlineExceeded => f.write_str(": deadline exceeded"),
            ErrorKind::BadPath(error) => write!(f, ": {error}"),
            ErrorKind::Refused(error) => write!(f, ": {error}"),
            ErrorKind::BadHosts(error) => write!(f, ": {error}"),
            ErrorKind::Protocol(what) => write!(f, ": {what}"),
            ErrorKind::Decode(error) => write!(f, ": {error}"),
        }?;
        match self.0.outcome {
            Outcome::NotDone => Ok(()),
            Outcome::Unknown => f.write_str(" (outcome unknown)"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.kind {
            ErrorKind::BadPath(error) => Some(error),
            ErrorKind::Refused(error) => Some(&**error),
            ErrorKind::BadHosts(error) => Some(error),
            ErrorKind::Decode(error) => Some(error),
            _ => None,
        }
    }
}
