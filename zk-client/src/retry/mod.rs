//! When to try again, how long to wait before, and what must never be tried again.
//!
//! Three things that Curator keeps in one loop are apart here:
//!
//! * **How long to wait** is a [`RetryPolicy`]: a pure function of the attempt and of the time since the first one. It
//!   knows no client, no clock and no sleep. Curator's family is here under Curator's names; any iterator of
//!   [`Duration`](std::time::Duration)s and any of `backon`'s builders makes one too ([`Delays`]).
//! * **What may be repeated** is decided by [`Repeat`] and by what the error knows of its own outcome (the table below).
//! * **The loop** is [`Retry`]: policy, deadline, sleep.
//!
//! # What is retried
//!
//! An error is worth another attempt only if [`Error::is_retryable`](crate::Error::is_retryable) says so (connection
//! lost, session moved, …: conditions that pass). Codes such as `NONODE` or `BADVERSION` are answers, and are never
//! retried. Of the retryable ones, an error whose outcome is *not done* is retried for every operation. With an *unknown*
//! outcome (the request was written, its reply never came) it depends on the operation:
//!
//! | operation | on an unknown outcome |
//! |---|---|
//! | reads, `sync`, `check`-only multi, `multi_read`, watches | repeated: nothing can change twice |
//! | `create`, protected | the node is looked for by its prefix, in the same session only; found: success; absent: repeated |
//! | `create`, not protected | reported: a sequential node might be made twice, a plain one would answer `NODEEXISTS` for our own node |
//! | `create().idempotent()`, not sequential | repeated; `NODEEXISTS` on a repeat is read back: version 0 and equal bytes are success |
//! | `set_data`, with or without version | reported: a repeat would bump the version twice, undo a later writer, or see `BADVERSION` from our own write |
//! | `set_data().idempotent()` | repeated; `BADVERSION` on a repeat is read back: version + 1 and equal bytes are success |
//! | `delete`, with or without version | reported: a repeat could delete a node that another client made meanwhile |
//! | `delete().idempotent()` | repeated; `NONODE` is success, as with `quietly` |
//! | `delete().guaranteed()` | reported, and the path goes to the background worker |
//! | `set_acl`, `reconfig`, `multi` with a write | reported |
//!
//! The number of attempts and the elapsed time are those of one call: operations made of several requests (parents,
//! recursive deletes) share one budget, so policies do not multiply.

mod policy;
mod run;

pub use policy::{
    BoundedExponentialBackoff, Delays, ExponentialBackoff, RetryForever, RetryNTimes, RetryOneTime,
    RetryPolicy, RetryUntilElapsed,
};
pub(crate) use run::{Budget, Verdict};
pub use run::{Repeat, Retry};
