//! Waiting for a condition with a deadline: the only way a test here waits for something real. Knows no server.
//!
//! Both forms panic with what was awaited when the time is up, so that a hanging test names its reason.

use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for a loaded two-core machine; a test that needs all of it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Blocks until `condition` holds.
///
/// # Panics
/// When it does not within `patience`, naming `what`.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        pause();
    }
}

/// Waits until `condition` yields a value, on the runtime's clock.
///
/// # Panics
/// When it does not within `patience`, naming `what`.
///
/// # Cancellation
/// Nothing is held between two looks at the condition.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {patience:?}: {what}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Gives up the processor between two looks at a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition that has a deadline"
)]
pub(crate) fn pause() {
    std::thread::sleep(POLL);
}
