//! What the integration tests share: servers to test against, a network that can fail, a connection that knows no session,
//! and the comparison of two servers.
//!
//! * [`target`]: one server to test against, the embedded one or Apache ZooKeeper as a process; the environment chooses.
//! * [`embedded`]: our server in this process, from the same settings.
//! * [`apache`], [`java`]: how that process is found, configured, started and ended, and how our Java programs are built.
//! * [`many_servers`]: many of them in a row in one JVM, for shrinking.
//! * [`gate`]: tests that need what a machine may lack say loudly that they did not run, and fail where they must run.
//! * [`proxy`]: a TCP relay that delays, holds, cuts, swallows and resets, in process.
//! * [`talker`]: child processes that obey commands line by line.
//! * [`mutex`]: one shared server, clients and faults for the tests of recipes.
//! * [`world`]: one server, a faulty network, a client behind it and one past it.
//! * [`raw`]: frames over TCP without a session behind them. [`wait`]: waiting for conditions with a deadline.
//! * [`dump`]: all that a server holds, to compare two of them by content.
//! * [`differential`]: one seeded history of operations on two servers, compared step by step, shrunk on a mismatch.
//!
//! The crate holds no test; those are in `tests/tests`.

pub mod apache;
pub mod differential;
pub mod dump;
pub mod embedded;
pub mod gate;
pub mod java;
pub mod many_servers;
pub mod mutex;
pub mod proxy;
pub mod raw;
pub mod talker;
pub mod target;
pub mod wait;
pub mod world;
