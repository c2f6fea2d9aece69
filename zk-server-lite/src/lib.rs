//! An embeddable server that speaks ZooKeeper's client protocol and disk formats.

pub mod pipeline;
pub mod session;
pub mod storage;
pub mod time;
pub mod tree;
