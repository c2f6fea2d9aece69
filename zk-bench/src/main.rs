//! `zk-bench`: loads a ZooKeeper-protocol server, and compares ours with Apache ZooKeeper.
//!
//! ```text
//! cli        the command line            compare   both servers, alternating, goals
//! workload   what is asked of a server   lifetime  start, memory, recovery
//! conn       one thread, one poll        client    client libraries on the null server
//! wire       frames by hand              mutex     the SDK's mutex beside raw operations
//! server     processes to measure        null      a server with no logic
//! goals      what we want to reach       limits    loopback, disk, memory right now
//! awake      keeps the cores from sleeping
//! ```
//!
//! The generator is one thread and no ZooKeeper library. It checks every reply and every event, and a run that meets a
//! deviation prints no figure: a fast wrong answer is not a result. All goals are ratios in one interleaved run, since
//! absolute figures move with the machine.

mod awake;
mod cli;
mod client;
mod compare;
mod conn;
mod failure;
mod goals;
mod lifetime;
mod limits;
mod mutex;
mod null;
mod procfs;
mod sample;
mod server;
mod table;
mod wire;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("zk-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
