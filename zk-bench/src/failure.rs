//! Why a run ended without figures: one error type for the whole tool, since its only reader is a person at a terminal.

use std::fmt;
use std::io;

/// What went wrong. A measurement that meets one of these is worth nothing and prints no figure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operating system refused something; the text says what was tried.
    Io(String, io::Error),
    /// The server said something that ZooKeeper would not say, or in another order.
    Deviation(String),
    /// A program or a file that the run needs is not there.
    Missing(String),
    /// Something did not happen in time.
    TimedOut(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Deviation(what) => write!(f, "the server deviates from the protocol: {what}"),
            Self::Missing(what) => write!(f, "{what}"),
            Self::TimedOut(what) => write!(f, "timed out: {what}"),
        }
    }
}

impl std::error::Error for Failure {}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Names what was tried when an I/O call fails.
pub(crate) trait Tried<T> {
    /// The failure carries `what`, in words that complete "could not".
    fn tried(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure::Io(format!("could not {}", what()), error))
    }
}

/// Fails the run with [`Failure::Deviation`] unless the condition holds.
macro_rules! demand {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::Deviation(format!($($text)+)));
        }
    };
}
pub(crate) use demand;
