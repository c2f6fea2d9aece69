//! Apache Curator's recipes for Rust, on the same nodes as Java Curator.

pub mod kit;
