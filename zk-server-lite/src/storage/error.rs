//! What can go wrong with a data directory, and where: every error names the file, and damage names the offset.

use std::io;
use std::path::{Path, PathBuf};

use zk_proto::{DecodeError, Zxid};

/// Why a data directory could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file holds bytes that were never written so. The server must not start by skipping them.
    #[error("{} is damaged at byte {offset}: {damage}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// Transactions are missing between two that are there.
    #[error(
        "transactions are missing before {found}, in {} at byte {offset}: the one before it is {previous}",
        file.display()
    )]
    Hole {
        /// The log file with the transaction after the hole.
        file: PathBuf,
        /// Where that transaction's entry begins.
        offset: u64,
        /// The last transaction before the hole.
        previous: Zxid,
        /// The first one after it.
        found: Zxid,
    },
    /// The newest snapshot is damaged, and the log does not reach from an older one to it without a hole.
    #[error(
        "snapshot {damaged} in {} is damaged, and the log does not hold every transaction from snapshot {used} to it",
        dir.display()
    )]
    CannotFallBack {
        /// The snapshot directory.
        dir: PathBuf,
        /// The damaged snapshot.
        damaged: Zxid,
        /// The older one that is whole.
        used: Zxid,
    },
    /// There are snapshots, and none of them is whole.
    #[error("none of the {count} snapshots in {} is whole", dir.display())]
    NoValidSnapshot {
        /// The snapshot directory.
        dir: PathBuf,
        /// How many there are.
        count: usize,
        /// What is wrong with the newest.
        source: Box<Self>,
    },
    /// There are log entries but no snapshot they start from.
    #[error(
        "{} holds transactions but there is no snapshot to start from; if the log is known to be whole, set snapshot.trust.empty=true",
        log.display()
    )]
    NoSnapshot {
        /// The first log file with an entry.
        log: PathBuf,
    },
    /// A snapshot lies among the logs or a log among the snapshots: `dataDir` and `dataLogDir` were probably changed
    /// (ZOOKEEPER-2967).
    #[error("{} is in the wrong directory: check dataDir and dataLogDir", file.display())]
    Misplaced {
        /// The file.
        file: PathBuf,
    },
    /// The directory's `myid` names another server.
    #[error("{} belongs to server {found}, not to server {expected}", file.display())]
    ForeignServer {
        /// The `myid` file.
        file: PathBuf,
        /// The id configured.
        expected: u8,
        /// What the file holds.
        found: String,
    },
    /// Another process has the directory open.
    #[error("{} is locked by another server process", file.display())]
    Locked {
        /// The lock file.
        file: PathBuf,
    },
    /// An epoch or secret file does not hold what it should.
    #[error("{} does not hold {expected}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The epoch files contradict the log or each other.
    #[error("in {}, {smaller_name} {smaller} is below {larger_name} {larger}", dir.display())]
    EpochOrder {
        /// The snapshot directory, where the epoch files are.
        dir: PathBuf,
        /// Which epoch is too small.
        smaller_name: &'static str,
        /// Its value.
        smaller: u32,
        /// Which it must not be below.
        larger_name: &'static str,
        /// Its value.
        larger: u32,
    },
    /// An earlier write or force of the log failed, so nothing that depends on it may be acknowledged any more.
    #[error("the transaction log of {} stopped after a failed write", dir.display())]
    Stopped {
        /// The log directory.
        dir: PathBuf,
    },
    /// The log holds nothing at or before the transaction to truncate to.
    #[error("{} holds no transaction at or before {zxid}", dir.display())]
    NothingToKeep {
        /// The log directory.
        dir: PathBuf,
        /// The transaction that was to become the last.
        zxid: Zxid,
    },
}

impl StorageError {
    /// Wraps an I/O error with what was attempted.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Says that `file` is damaged.
    pub(crate) fn damaged(file: &Path, offset: u64, damage: impl Into<Damage>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            offset,
            damage: damage.into(),
        }
    }
}

/// What is wrong with a record in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file does not begin as its kind must.
    #[error("it does not begin with the magic number of its kind")]
    Magic,
    /// A checksum does not fit the bytes it covers.
    #[error("the checksum does not fit")]
    Checksum,
    /// A log entry is not whole, yet whole entries follow it.
    #[error("the entry is not whole, and whole entries follow it at byte {next}")]
    Torn {
        /// Where the next whole entry begins.
        next: u64,
    },
    /// Transactions stand in the wrong order.
    #[error("its transaction does not come after {previous}, which stands before it")]
    Order {
        /// The transaction before it.
        previous: Zxid,
    },
    /// A record does not decode.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// The compressed stream does not unpack.
    #[error("it does not unpack: {0}")]
    Compression(String),
    /// Bytes follow the last record.
    #[error("bytes follow the last record")]
    Trailing,
    /// The file ends before its last record.
    #[error("it ends too early")]
    TooShort,
    /// A seal is not followed by its end mark.
    #[error("the end mark is missing")]
    EndMark,
    /// A record decodes, and makes no sense where it stands.
    #[error("{0}")]
    Content(#[from] RestoreError),
}

/// A record of a snapshot or log that the database cannot take in: it proves the file wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A node came before its parent.
    #[error("node {path} comes before its parent")]
    NoParent {
        /// The node.
        path: String,
    },
    /// A path that no node can have.
    #[error("{path:?} is not a path")]
    BadPath {
        /// The text.
        path: String,
    },
    /// The same node twice.
    #[error("node {path} is listed twice")]
    Duplicate {
        /// The node.
        path: String,
    },
    /// Anything else that cannot be.
    #[error("{0}")]
    Impossible(&'static str),
}
