//! Sessions: who is alive until when, and what proves that a client is who it was.

pub mod password;
pub mod tracker;
