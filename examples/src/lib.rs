//! What the examples share. The programs are in `src/bin`, one question each.
//!
//! * [`history`]: who held a lock and when, and whether that was right: pure, tested.
//! * [`kill`]: ending a session behind its client's back.

pub mod history;
pub mod kill;
