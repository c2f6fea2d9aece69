//! Connections: accepting them, and one task for each that reads, cuts frames and hands them over.

pub(crate) mod accept;
pub(crate) mod connection;
