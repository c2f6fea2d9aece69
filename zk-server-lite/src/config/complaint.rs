//! What is wrong with a configuration: errors that refuse a start, and warnings that do not.

use super::properties::MalformedEscape;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file's syntax.
    #[error(transparent)]
    Syntax(#[from] MalformedEscape),
    /// A value that its key cannot have.
    #[error("line {line}: {key}={value}: expected {expected}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// Its value as written.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A key that must be there.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// An ensemble's configuration.
    #[error(
        "line {line}: {key}: this server runs alone; ensembles are not supported, remove the server.N lines"
    )]
    Ensemble {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// Two values that contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// Something a start is not refused for, to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// A known key of something this server does not have.
    NoEffect {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// What it belongs to.
        feature: &'static str,
    },
    /// A key nobody knows.
    Unknown {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

impl std::fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEffect { line, key, feature } => {
                write!(
                    f,
                    "line {line}: {key} has no effect: this server has no {feature}"
                )
            }
            Self::Unknown { line, key } => write!(f, "line {line}: {key} is not a known key"),
        }
    }
}
