//! Connections: one thread, the poller, accepts them, reads what arrives, cuts frames and hands them over.

pub(crate) mod accept;
pub(crate) mod connection;
mod deadlines;
pub(crate) mod poller;
