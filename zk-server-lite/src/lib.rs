//! An embeddable server that speaks ZooKeeper's client protocol and disk formats.
//!
//! The cargo feature `bin`, on by default, builds the `zk-server` binary and brings the crates that only it needs: its
//! command line and its log output. To embed the server, depend on it with `default-features = false`.

pub mod config;
pub mod pipeline;
mod restore;
pub mod session;
pub mod storage;
pub mod time;
pub mod tree;

mod faults;
mod four_letter;
mod net;
mod node;
mod server;

pub use faults::AfterSwallow;
pub use node::halt::Failure;
pub use server::{StartError, StoppedServer, ZkServer, ZkServerBuilder};
