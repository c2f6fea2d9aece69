//! What a server keeps on disk, in Apache ZooKeeper's own formats: transaction logs, snapshots, epoch files.
//!
//! Plain blocking code. [`recover`](recover()) fills a database through [`Restore`]; [`TxnLog`] makes transactions durable
//! on the thread that owns it; [`SnapshotWriter`] writes what it is given. None of it knows the tree, a session's life, or
//! a socket. Every access goes through [`Disk`], so that tests can lose and tear what was not forced.
//!
//! A start is: [`DataDir::open`] (folders, lock, misplaced files), [`SessionSecret::open`], [`recover()`], a snapshot if
//! [`Recovered::history`] says that the directory is new (Java refuses logs without one), then [`TxnLog::open`].
//!
//! Rules of the formats are quoted from `disk-formats`, the project's reference, by section.

mod compression;
mod disk;
mod entry;
mod epochs;
mod error;
mod layout;
mod lock;
pub mod memory;
mod names;
mod preallocate;
mod purge;
mod reader;
mod recover;
mod replay;
mod secret;
mod snapshot_read;
mod snapshot_write;
mod truncate;
mod txn_log;

pub use compression::Compression;
pub use disk::{Disk, DiskFile, RealDisk};
pub use epochs::Epochs;
pub use error::{Damage, RestoreError, StorageError};
pub use layout::DataDir;
pub use lock::DataDirLock;
pub use names::VERSION_DIR;
pub use purge::{RETAIN_MIN, purge};
pub use reader::{LogEnd, LogEntry, LogReader};
pub use recover::{History, RecoverOptions, Recovered, Warning, recover};
pub use secret::SessionSecret;
pub use snapshot_write::{SnapshotWriter, encode_maps};
pub use truncate::truncate;
pub use txn_log::{LogOptions, TxnLog};

use zk_proto::txn::{NodeEntry, Txn, TxnDigest, TxnHeader};
use zk_proto::{Acl, SessionId, Zxid};

/// What recovery fills: the database.
///
/// The calls come in this order: `reset`; `session`, `acl` and `node` as the snapshot holds them; `snapshot_loaded`; then
/// `txn` for each transaction after the snapshot. When a snapshot turns out to be damaged, `reset` begins anew with an
/// older one.
pub trait Restore {
    /// Forgets everything: an empty database, without even a root.
    fn reset(&mut self);

    /// A live session of the snapshot.
    fn session(&mut self, id: SessionId, timeout_ms: i32);

    /// A list of the ACL map. −1 never comes: it stands for everything to everyone.
    fn acl(&mut self, id: i64, acl: Vec<Acl>);

    /// A node. Parents come before children; the root's path is empty.
    ///
    /// # Errors
    /// When there cannot be such a node. The snapshot then counts as damaged.
    fn node(&mut self, entry: NodeEntry<'_>) -> Result<(), RestoreError>;

    /// The snapshot was whole; replay starts above `zxid`. `digest` is the tree's digest after the transaction named,
    /// which may be a later one. Without any snapshot this comes with zxid 0 after `reset`, and the database is then one
    /// with ZooKeeper's initial nodes.
    fn snapshot_loaded(&mut self, zxid: Zxid, digest: Option<(Zxid, u64)>);

    /// A transaction to replay. It may have been applied before the snapshot saw its nodes: the rules of section 6.1 hold.
    ///
    /// # Errors
    /// When no history can contain it.
    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
    ) -> Result<(), RestoreError>;
}
