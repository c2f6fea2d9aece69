//! Keeps the cores from sleeping while something is measured. Knows no measurement.
//!
//! A request on a loopback socket takes four times as long when the core that answers it must be woken first, and which of
//! the two is measured changes from second to second on a quiet machine. A loop on each core that runs only while nobody
//! else wants the core (`SCHED_IDLE`) leaves one mode: that of a machine with work to do.

use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use crate::failure::{Outcome, Tried};

/// One idle loop per core, each in a process of its own, until dropped.
pub(crate) struct Awake(Vec<Child>);

impl Awake {
    /// Starts the loops. `chrt` comes with util-linux.
    pub(crate) fn keep() -> Outcome<Self> {
        let program = std::env::current_exe().tried(|| "find this program".into())?;
        let cores = available_parallelism().tried(|| "count the cores".into())?;
        let mut loops = Self(Vec::new());
        for _ in 0..cores.get() {
            let mut command = Command::new("chrt");
            command.args(["--idle", "0"]).arg(&program).arg("spin");
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
            loops.0.push(child.tried(|| "start chrt".into())?);
        }
        Ok(loops)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself needs no end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The loop: ends with the process that started it, however that one ends.
pub(crate) fn spin() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        for _ in 0..100_000 {
            std::hint::spin_loop();
        }
    }
}
