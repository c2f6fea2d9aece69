//! What drives the engine: the lock it stands behind, the connections' sending sides, and where its transactions go.
//!
//! Threading (measured in `docs/threading.md`): a request is handled on the thread that read it. Whoever has news for the
//! engine (the poller with a connection's frames, the log thread with a forced group, the ticker) takes the lock once, tells it
//! everything, drains what it wants done, gives the lock back, and only then writes to sockets. No lock is held across an
//! await or, with the exception of `forceSync=no`, across a system call.

pub(crate) mod alarm;
pub(crate) mod core;
pub(crate) mod disk;
pub(crate) mod halt;
pub(crate) mod link;
pub(crate) mod purge;
pub(crate) mod ticker;
