//! What the engine tells about itself: counters, connections, sessions, watches. Feeds the four-letter words.

use std::collections::BTreeMap;

use zk_proto::{OpCode, SessionId, Xid, Zxid};

use super::{ConnId, Engine};
use crate::time::Time;

/// Latencies of requests, in milliseconds, as ZooKeeper's statistics have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Shortest; 0 before the first.
    pub min: u64,
    /// Longest.
    pub max: u64,
    /// Sum.
    pub total: u64,
    /// How many.
    pub count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            min: u64::MAX,
            max: 0,
            total: 0,
            count: 0,
        }
    }
}

impl Latency {
    pub(super) fn add(&mut self, ms: u64) {
        self.min = self.min.min(ms);
        self.max = self.max.max(ms);
        self.total += ms;
        self.count += 1;
    }

    /// The shortest, 0 if there was none.
    #[must_use]
    pub fn shortest(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// The mean, 0 if there was none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.total as f64 / self.count as f64
        }
    }
}

/// Sizes of replies and events in bytes, without the length before each, as ZooKeeper's statistics have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseSize {
    /// The latest, the smallest and the largest; none before the first.
    seen: Option<(u64, u64, u64)>,
}

impl ResponseSize {
    /// `frame` is the size of a frame with its length.
    pub(super) fn add(&mut self, frame: u64) {
        let size = frame.saturating_sub(4);
        let (_, min, max) = self.seen.unwrap_or((size, size, size));
        self.seen = Some((size, min.min(size), max.max(size)));
    }

    /// The latest, the smallest and the largest, if anything was sent.
    #[must_use]
    pub fn last_min_max(&self) -> Option<(u64, u64, u64)> {
        self.seen
    }
}

/// Totals since the start, or since they were reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes of frames received.
    pub received_bytes: u64,
    /// Bytes of frames sent.
    pub sent_bytes: u64,
    /// How large replies and events were.
    pub response_size: ResponseSize,
    /// Watch events sent.
    pub events: u64,
    /// Handshakes begun.
    pub connection_requests: u64,
    /// Handshakes that attach to a session again.
    pub revalidations: u64,
    /// Sessions begun.
    pub sessions_created: u64,
    /// Sessions ended by the server.
    pub expired_sessions: u64,
    /// Identities refused.
    pub auth_failed: u64,
    /// Containers and TTL nodes deleted.
    pub swept: u64,
    /// How long requests took.
    pub latency: Latency,
}

/// One connection, as `cons` shows it.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionInfo {
    /// Its number.
    pub conn: ConnId,
    /// Its session, once there is one.
    pub session: Option<SessionId>,
    /// The negotiated timeout in milliseconds.
    pub timeout_ms: i32,
    /// Requests unanswered.
    pub queued: usize,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// When it was accepted.
    pub since: Time,
    /// What it asked last.
    pub last_op: OpCode,
    /// The xid answered last.
    pub last_cxid: Xid,
    /// The zxid sent last.
    pub last_zxid: Zxid,
    /// When it was answered last.
    pub last_response: Time,
    /// How long that took, in milliseconds.
    pub last_latency: u64,
    /// How long its requests took.
    pub latency: Latency,
}

impl Engine {
    /// Totals.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sets the server's statistics back (`srst`).
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// Sets the connections' statistics back (`crst`).
    pub fn reset_connections(&mut self) {
        for state in self.conns.values_mut() {
            state.received = 0;
            state.sent = 0;
            state.latency = Latency::default();
        }
    }

    /// All connections, in order of their numbers.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionInfo> {
        self.conns.iter().map(|(conn, state)| ConnectionInfo {
            conn: *conn,
            session: state.session(),
            timeout_ms: state.timeout_ms,
            queued: state.queue.len(),
            received: state.received,
            sent: state.sent,
            since: state.since,
            last_op: state.last_op,
            last_cxid: state.last_cxid,
            last_zxid: state.last_zxid,
            last_response: state.last_response,
            last_latency: state.last_latency.into(),
            latency: state.latency,
        })
    }

    /// Requests in process.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Sessions by the time at which they end.
    pub fn sessions_by_deadline(&self) -> BTreeMap<Time, Vec<SessionId>> {
        self.tracker
            .by_deadline()
            .map(|(time, ids)| (time, ids.iter().copied().collect()))
            .collect()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.tracker.len()
    }

    /// Connections that watch, paths watched and registrations in the data table, as `wchs` counts.
    #[must_use]
    pub fn watch_summary(&self) -> (usize, usize, usize) {
        self.watches.summary()
    }

    /// Paths of the data table and the sessions that watch them.
    pub fn watches_by_path(&self) -> BTreeMap<String, Vec<SessionId>> {
        let session = |conn: ConnId| self.conns.get(&conn).and_then(|state| state.session());
        let named = |(path, conns): (&str, Vec<ConnId>)| {
            (
                path.to_owned(),
                conns.into_iter().filter_map(session).collect(),
            )
        };
        self.watches.by_path().into_iter().map(named).collect()
    }

    /// Registrations in both tables.
    #[must_use]
    pub fn watch_count(&self) -> usize {
        self.watches.count()
    }
}
