//! What Linux says about a process: CPU time and resident memory. Knows no server.

use std::fs;
use std::time::Duration;

use crate::failure::{Failure, Outcome, Tried};

/// The kernel's unit in `/proc/PID/stat`; 100 on every Linux that matters, and fixed in its user interface.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of a process so far, in steps of 10 ms.
pub(crate) fn cpu_of(pid: u32) -> Outcome<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).tried(|| format!("read {path}"))?;
    ticks(&text).ok_or_else(|| Failure::Missing(format!("{path} has no times")))
}

/// Fields 14 and 15, counted behind the name, which may hold blanks and parentheses.
fn ticks(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * 1_000 / TICKS_PER_SECOND,
    ))
}

/// CPU time of the calling thread so far, in nanoseconds' resolution.
pub(crate) fn cpu_of_this_thread() -> Outcome<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).tried(|| format!("read {path}"))?;
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| Failure::Missing(format!("{path} has no time")))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).tried(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| Failure::Missing(format!("{path} has no VmRSS")))
}

/// One, five and fifteen minutes' load, as the kernel prints it.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Kernel release and number of processors, for the conditions of a report.
pub(crate) fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cpus} CPUs, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_blanks() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(ticks(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(resident(std::process::id()).unwrap() > 0);
        cpu_of(std::process::id()).unwrap();
        cpu_of_this_thread().unwrap();
    }
}
