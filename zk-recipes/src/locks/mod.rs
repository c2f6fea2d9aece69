//! Locks. Each is a type over a [`Client`](zk_client::Client) and a path; what they share is in the kit.

mod error;
mod guard;
mod mutex;
mod owner;
mod revocable;

pub use error::LockError;
pub use guard::{FencingToken, MutexGuard};
pub use mutex::{InterProcessMutex, MutexBuilder, Participant};
pub use owner::Owner;
pub use revocable::{REVOKE_MESSAGE, Revocations, Revoker};
