//! `autopurge`: removes old snapshots and logs at the start and then at every interval, as Apache ZooKeeper's
//! `DatadirCleanupManager` does. A purge that fails is logged and tried again at the next interval.

use std::sync::Arc;
use std::time::Duration;

use super::core::Shared;

/// Purges until the server stops. `purge` blocks, so it has threads of its own.
pub(crate) async fn run(shared: Arc<Shared>, purge: impl Fn() + Send + Sync + 'static) {
    let _guard = shared.halt.guard("purge");
    let hours = shared.config.purge_interval_hours;
    let interval = Duration::from_secs(hours.saturating_mul(3600));
    tokio::select! {
        () = shared.halt.token().cancelled() => {}
        () = regularly(interval, purge) => {}
    }
}

/// At once, then at every interval, counted from start to start.
async fn regularly(interval: Duration, purge: impl Fn() + Send + Sync + 'static) {
    let purge = Arc::new(purge);
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        let purge = Arc::clone(&purge);
        // It logs its own errors; the thread that ran it matters to nobody.
        let _ = tokio::task::spawn_blocking(move || purge()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_at_once_and_each_next_an_interval_later_whatever_became_of_the_one_before()
     {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let (purged, purges) = channel();
        let begun = tokio::time::Instant::now();
        let purge = move || {
            purged.send(begun.elapsed()).unwrap();
            panic!("a purge that fails");
        };
        let purging = tokio::time::timeout(hours(100), regularly(hours(24), purge));
        assert!(purging.await.is_err(), "it goes on");
        let times: Vec<_> = purges.try_iter().collect();
        assert_eq!(times, [0, 24, 48, 72, 96].map(hours));
    }
}
