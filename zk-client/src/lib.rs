//! An async Apache ZooKeeper session that survives lost connections and expired sessions, and says so.
//!
//! ```no_run
//! # async fn f() -> Result<(), zk_client::Error> {
//! use zk_client::{Client, CreateMode};
//!
//! let client = Client::connect("localhost:2181").await?;
//! let mine = client.create("/workers/w-", "here").mode(CreateMode::EphemeralSequential).with_parents().await?;
//! let (node, changed) = client.get_data(&mine.path).watch().await?;
//! println!("{:?} since {}", node.data, node.stat.mzxid);
//! let event = changed.await; // deleted, changed, or the session's end
//! # let _ = event; client.close().await?; Ok(()) }
//! ```
//!
//! * [`Client`]: the handle, and every operation. [`ClientBuilder`]: options.
//! * [`SessionState`]: the session's life, and what its number means.
//! * [`watch`]: watches as values, and what a lost connection means for them.
//! * [`retry`]: what is repeated, and what must not be.
//! * [`Error`]: which operation, on which path, why, and whether anything was done.
//!
//! Feature `digest` adds `digest_id`, a user's identity in access control lists.
//!
//! What is not here: TLS (bring a stream of your own with [`ClientBuilder::connector`]), SASL, and recipes.

mod builder;
mod client;
mod core;
#[cfg(feature = "digest")]
mod digest;
mod driver;
mod error;
mod hosts;
mod namespace;
mod ops;
mod reaper;
pub mod retry;
mod session;
pub mod watch;

pub use builder::{ClientBuilder, ExpiryPolicy};
pub use client::Client;
#[cfg(feature = "digest")]
pub use digest::digest_id;
pub use driver::transport::Transport;
pub use error::{Error, ErrorKind, Outcome};
pub use hosts::{DEFAULT_PORT, Host, HostsError};
pub use ops::*;
pub use session::{SessionEvents, SessionState};
pub use watch::{OneshotWatch, PersistentWatch, WatchedEvent};
pub use zk_proto::session::{AddWatchMode, EventType, KeeperState, WatcherType};
pub use zk_proto::{
    Acl, CreateMode, ErrorCode, Id, OpCode, PathError, Perms, SessionId, Stat, ZPath, ZPathBuf,
    Zxid, zpath,
};
