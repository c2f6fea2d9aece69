//! Tests that need what a machine may lack: Java, Apache ZooKeeper's jars, Curator, Python, kazoo.
//!
//! Where such a thing is missing the test prints a line that cannot be overlooked and passes as *not run*; where the
//! environment says `ZK_INTEROP=required` (as continuous integration does) the same is a failure. Nothing is skipped silently.

use std::io::Write as _;

/// Names the variable that turns a missing tool into a failure.
pub const INTEROP: &str = "ZK_INTEROP";

/// Whether a missing tool is a failure here.
#[must_use]
pub fn interop_required() -> bool {
    std::env::var(INTEROP).is_ok_and(|value| value == "required")
}

/// Passes on what was found; otherwise reports that `test` did not run.
///
/// ```no_run
/// let Some(jars) = tests::gate::need("interop_disk", tests::apache::Distribution::debian()) else { return };
/// ```
///
/// # Panics
/// When something is missing and [`interop_required`].
#[track_caller]
pub fn need<T>(test: &str, found: Result<T, String>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(missing) => {
            assert!(
                !interop_required(),
                "{test} cannot run: {missing} ({INTEROP}=required makes this a failure)"
            );
            not_run(test, &missing);
            None
        }
    }
}

/// Says that a test did not run, past the capture of the test runner.
pub fn not_run(test: &str, why: &str) {
    // Straight to the descriptor: what goes through `eprintln!` is hidden for a test that passes.
    let line = format!("\n!!! NOT RUN: {test}: {why}\n");
    if let Err(error) = std::io::stderr().lock().write_all(line.as_bytes()) {
        eprintln!("{line}(stderr: {error})");
    }
}
