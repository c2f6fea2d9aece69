//! Apache Curator's recipes for Rust, on the same nodes as Java Curator.

pub mod kit;
mod locks;

pub use kit::tenure::{Loss, TenureState};
pub use locks::{
    FencingToken, InterProcessMutex, LockError, MutexBuilder, MutexGuard, Owner, Participant,
    REVOKE_MESSAGE, Revocations, Revoker,
};
