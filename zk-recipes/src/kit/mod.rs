//! The shared kit: what every recipe's correctness rests on, once.
//!
//! | file | holds | pure |
//! |---|---|---|
//! | [`sequence`] | sequence numbers in node names: read, order through the wrap | yes |
//! | [`contend`] | whose turn it is among the children of a path | yes |

pub mod contend;
pub mod sequence;
