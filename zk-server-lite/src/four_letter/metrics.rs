//! `mntr`: one table of what is counted, with ZooKeeper's names. Counters of the engine come from the engine; those of the
//! driver are here.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::VERSION;
use super::stats::mean;
use crate::node::core::Shared;
use crate::node::halt::Halted;

/// A count, smallest, largest and sum: ZooKeeper's "summary".
#[derive(Debug)]
pub(crate) struct Summary {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

impl Summary {
    pub(crate) fn add(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(ms, Ordering::Relaxed);
        self.min.fetch_min(ms, Ordering::Relaxed);
        self.max.fetch_max(ms, Ordering::Relaxed);
    }

    fn print(&self, name: &str, text: &mut String) {
        let (count, sum) = (
            self.count.load(Ordering::Relaxed),
            self.sum.load(Ordering::Relaxed),
        );
        let min = if count == 0 {
            0
        } else {
            self.min.load(Ordering::Relaxed)
        };
        let average = if count == 0 {
            0.0
        } else {
            sum as f64 / count as f64
        };
        let max = self.max.load(Ordering::Relaxed);
        let _ = write!(
            text,
            "zk_avg_{name}\t{}\nzk_min_{name}\t{min}\nzk_max_{name}\t{max}\nzk_cnt_{name}\t{count}\nzk_sum_{name}\t{sum}\n",
            mean(average)
        );
    }
}

/// What the driver counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    rejected: AtomicU64,
    sessionless: AtomicU64,
    trace_mask: AtomicI64,
    port: AtomicI64,
    pub(crate) fsync: Summary,
    pub(crate) snapshot: Summary,
    snapshot_errors: AtomicU64,
    pub(crate) recovery: Summary,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            rejected: AtomicU64::new(0),
            sessionless: AtomicU64::new(0),
            // ZooKeeper's default: warnings, session traces and client requests.
            trace_mask: AtomicI64::new(306),
            port: AtomicI64::new(-1),
            fsync: Summary::default(),
            snapshot: Summary::default(),
            snapshot_errors: AtomicU64::new(0),
            recovery: Summary::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sessionless(&self) {
        self.sessionless.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_failed(&self) {
        self.snapshot_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn trace_mask(&self) -> i64 {
        self.trace_mask.load(Ordering::Relaxed)
    }

    pub(crate) fn set_trace_mask(&self, mask: i64) {
        self.trace_mask.store(mask, Ordering::Relaxed);
    }

    pub(crate) fn port(&self) -> Option<u16> {
        u16::try_from(self.port.load(Ordering::Relaxed)).ok()
    }

    pub(crate) fn set_port(&self, port: u16) {
        self.port.store(i64::from(port), Ordering::Relaxed);
    }
}

pub(super) fn mntr(shared: &Shared) -> Result<String, Halted> {
    let mut text = String::new();
    let core = shared.core()?;
    let (engine, tree) = (&core.engine, core.engine.tree());
    let counters = engine.counters();
    let metrics = &shared.metrics;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let connections = core.connection_count();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "zk_{key}\t{value}");
    };
    line("version", &VERSION);
    line("server_state", &"standalone");
    line("peer_state", &"standalone");
    line("ephemerals_count", &tree.ephemeral_count());
    line("num_alive_connections", &connections);
    line("avg_latency", &mean(counters.latency.mean()));
    line("min_latency", &counters.latency.shortest());
    line("max_latency", &counters.latency.max);
    line("outstanding_requests", &engine.outstanding());
    line("znode_count", &tree.node_count());
    line("global_sessions", &engine.session_count());
    line("local_sessions", &0);
    line("packets_sent", &counters.sent);
    line("packets_received", &counters.received);
    line("watch_count", &engine.watch_count());
    line("approximate_data_size", &tree.data_size());
    if let Some(open) = open_descriptors() {
        line("open_file_descriptor_count", &open);
    }
    if let Some(max) = max_descriptors() {
        line("max_file_descriptor_count", &max);
    }
    line("uptime", &shared.clock.now().as_millis());
    line("auth_failed_count", &counters.auth_failed);
    line(
        "non_mtls_remote_conn_count",
        &core
            .links()
            .filter(|link| !link.peer().ip().is_loopback())
            .count(),
    );
    line(
        "non_mtls_local_conn_count",
        &core
            .links()
            .filter(|link| link.peer().ip().is_loopback())
            .count(),
    );
    let sizes = counters.response_size.last_min_max();
    let size = |pick: fn((u64, u64, u64)) -> u64| {
        sizes.map_or_else(|| "-1".to_owned(), |sizes| pick(sizes).to_string())
    };
    line("last_client_response_size", &size(|(last, _, _)| last));
    line("min_client_response_size", &size(|(_, min, _)| min));
    line("max_client_response_size", &size(|(_, _, max)| max));
    line("outstanding_tls_handshake", &0);
    line("connection_drop_probability", &"0.0");
    line("connection_request_count", &counters.connection_requests);
    line("connection_rejected", &read(&metrics.rejected));
    line("connection_revalidate_count", &counters.revalidations);
    line("stale_sessions_expired", &counters.expired_sessions);
    line(
        "sessionless_connections_expired",
        &read(&metrics.sessionless),
    );
    line("snap_count", &0);
    line("diff_count", &0);
    line("looking_count", &0);
    line("bytes_received_count", &counters.received_bytes);
    line("response_bytes", &counters.sent_bytes);
    line("snapshot_error_count", &read(&metrics.snapshot_errors));
    drop(core);
    metrics.fsync.print("fsynctime", &mut text);
    metrics.snapshot.print("snapshottime", &mut text);
    metrics.recovery.print("dbinittime", &mut text);
    Ok(text)
}

fn open_descriptors() -> Option<usize> {
    // The listing itself has one open.
    std::fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.count().saturating_sub(1))
}

fn max_descriptors() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
