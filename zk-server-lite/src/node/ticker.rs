//! Moves the engine's time on.
//!
//! A process that was stopped (SIGSTOP, a suspended machine) wakes with every deadline in the past while its clients'
//! pings wait in the sockets. When the ticker finds itself late it therefore gives the connections one more tick to be read
//! before anything expires.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Shared, wall_ms};

pub(crate) async fn run(shared: Arc<Shared>) {
    let _guard = shared.halt.guard("ticker");
    let tick = Duration::from_millis(u64::from(shared.config.tick_ms.max(1)));
    loop {
        let now = shared.clock.now();
        let Ok(deadline) = shared.core().map(|core| core.engine.next_deadline()) else {
            return;
        };
        // A session opened meanwhile may end before the deadline seen now, but not within less than a tick.
        let wait = deadline
            .map_or(tick, |deadline| deadline.since(now).min(tick))
            .max(Duration::from_millis(1));
        tokio::select! {
            () = shared.halt.token().cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let late = shared.clock.now().since(now).saturating_sub(wait);
        if shared.faults.wait_thawed(&shared.halt).await
            || late > tick / 2 + Duration::from_millis(100)
        {
            tracing::warn!(
                late_ms = late.as_millis() as u64,
                "the server was stopped for a while; clients get one more tick"
            );
            tokio::select! {
                () = shared.halt.token().cancelled() => return,
                () = tokio::time::sleep(tick) => {}
            }
        }
        if shared
            .with_engine(|engine, now| engine.tick(now, wall_ms()))
            .is_err()
        {
            return;
        }
    }
}
