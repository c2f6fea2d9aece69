//! The engine: what a standalone server decides, as a value that does no I/O.
//!
//! A driver tells it what happened and does what it says:
//!
//! * it tells: [`attach`](Engine::attach), [`handle_frame`](Engine::handle_frame), [`detach`](Engine::detach),
//!   [`tick`](Engine::tick) at [`next_deadline`](Engine::next_deadline), and [`committed`](Engine::committed) when
//!   transactions are safe in the log;
//! * it then does: append what [`take_appends`](Engine::take_appends) gives, and for each connection of
//!   [`take_dirty`](Engine::take_dirty) send its [`output`](Engine::output), close it if it
//!   [`wants_close`](Engine::wants_close), and stop or go on reading as [`may_read`](Engine::may_read) says.
//!
//! A write is *prepared* against the tree and the changes that are on their way, becomes a transaction with the next zxid,
//! and is *applied* when the log has it; only then is it answered. A read is answered at once, unless earlier requests of
//! its connection are unanswered: then it waits for these and no others. Refused writes are transactions too: they take a
//! zxid and are logged, as in ZooKeeper.
//!
//! Invariants: transactions are applied in the order in which they were prepared; replies leave in the order of requests;
//! an event is in a connection's output before any reply that shows its change. Nothing a client sends can fail a call.

mod admin;
mod commit;
mod conn;
mod connect;
mod database;
mod events;
mod multi;
mod outstanding;
mod prepare;
mod prepare_create;
mod prepare_remove;
mod prepare_set;
mod read;
mod request;
mod sweep;
mod watch_ops;

pub use admin::{ConnectionInfo, Counters, Latency, ResponseSize};
pub use conn::CloseReason;
pub use database::Database;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use zk_proto::{SessionId, Stat, Zxid};

use crate::session::password;
use crate::session::tracker::SessionTracker;
use crate::time::Time;
use crate::tree::watches::Watches;
use crate::tree::{Change, DataTree};
use conn::{Addresses, Conn};
use outstanding::{Operation, Outstanding, Pending, Saved, Slot};

/// Bytes that transactions in process take above which busy connections are not read.
const MAX_OUTSTANDING_BYTES: usize = 64 << 20;
/// Room for payloads taken at a time. A payload keeps all of it until it is applied.
const SCRATCH_BYTES: usize = 64 << 10;
/// Bytes of waiting reads above which their connection is not read.
const MAX_QUEUED_BYTES: usize = 4 << 20;

/// A connection, by a number its driver gives and does not give again while the engine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A transaction for the log: exactly what a log entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Its place in history.
    pub zxid: Zxid,
    /// Header and body.
    pub payload: Bytes,
}

/// What the engine is told at its start; names are those of zoo.cfg.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// `tickTime`: the grid of session deadlines.
    pub tick: Duration,
    /// `minSessionTimeout`, in milliseconds.
    pub min_session_timeout: i32,
    /// `maxSessionTimeout`, in milliseconds.
    pub max_session_timeout: i32,
    /// The top byte of session ids.
    pub server_id: u8,
    /// Milliseconds of the driver's clock at the start: the middle of session ids, so that a restart gives others.
    pub start_millis: u64,
    /// `extendedTypesEnabled`: TTL nodes.
    pub extended_types: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `skipACL`.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.superDigest`: `user:hash`.
    pub super_digest: Option<String>,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest_auth: bool,
    /// `globalOutstandingLimit`: requests in process above which busy connections are not read.
    pub global_outstanding_limit: usize,
    /// Unsent bytes above which a connection is closed, since its client does not read.
    pub max_unsent: usize,
    /// `znode.container.checkIntervalMs`.
    pub container_check_interval: Duration,
    /// `znode.container.maxPerMinute`.
    pub container_max_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`; zero means never.
    pub container_max_never_used: Duration,
    /// The secret of the data directory, for session passwords.
    pub secret: password::Secret,
}

impl Default for EngineConfig {
    /// ZooKeeper's defaults, with a tick of 3 s, and a secret that is none: give one.
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(3000),
            min_session_timeout: 6000,
            max_session_timeout: 60_000,
            server_id: 1,
            start_millis: 0,
            extended_types: false,
            enforce_quota: false,
            skip_acl: false,
            super_digest: None,
            digest_auth: true,
            global_outstanding_limit: 1000,
            max_unsent: 64 << 20,
            container_check_interval: Duration::from_secs(60),
            container_max_per_minute: 10_000,
            container_max_never_used: Duration::ZERO,
            secret: [0; 32],
        }
    }
}

/// A standalone server without its I/O. See the [module page](self).
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    tree: DataTree,
    tracker: SessionTracker,
    watches: Watches,
    /// Boxed: the nodes of a tree that is filled in order are half empty.
    conns: BTreeMap<ConnId, Box<Conn>>,
    addresses: Addresses,
    /// The connection each session is attached by.
    owners: BTreeMap<SessionId, ConnId>,
    /// Connections whose requests wait for a write that their session made on an earlier connection, by its zxid.
    resumed: BTreeMap<Zxid, ConnId>,
    /// Transactions prepared and not applied, oldest first.
    outstanding: VecDeque<Pending>,
    /// What these do, operation by operation; how many belong to each is in its record.
    operations: VecDeque<Operation>,
    /// The records they have in `changes`, likewise.
    touched: VecDeque<Slot>,
    /// What nodes will be when the outstanding transactions are applied.
    changes: Outstanding,
    /// Bytes that the outstanding transactions take.
    outstanding_bytes: usize,
    /// The zxid of the last transaction prepared.
    last_prepared: Zxid,
    next_session: i64,
    appends: Vec<Append>,
    /// Where payloads are encoded: one allocation of [`SCRATCH_BYTES`] for many.
    scratch: BytesMut,
    dirty: Vec<ConnId>,
    /// Connections the driver was told not to read.
    stalled: BTreeSet<ConnId>,
    sweep: sweep::Sweep,
    counters: Counters,
    /// Room for what one transaction did, kept from one to the next.
    changed: Vec<Change>,
    stats: Vec<Option<Stat>>,
    told: Vec<ConnId>,
    /// Room for what the transaction that is being prepared has touched.
    saved: Saved,
}

impl Engine {
    /// Starts with what was loaded; every session gets its full timeout from now.
    #[must_use]
    pub fn new(config: EngineConfig, database: Database, now: Time) -> Self {
        let Database {
            mut tree, sessions, ..
        } = database;
        tree.loaded(|session| sessions.contains_key(&session));
        let mut tracker = SessionTracker::new(config.tick);
        for (id, timeout) in &sessions {
            tracker.add(*id, *timeout, now);
        }
        let next_session = first_session_id(config.server_id, config.start_millis);
        let last_prepared = tree.last_zxid();
        let sweep = sweep::Sweep::new(&config, now);
        Self {
            config,
            tree,
            tracker,
            watches: Watches::default(),
            conns: BTreeMap::new(),
            addresses: Addresses::default(),
            owners: BTreeMap::new(),
            resumed: BTreeMap::new(),
            outstanding: VecDeque::new(),
            operations: VecDeque::new(),
            touched: VecDeque::new(),
            changes: Outstanding::default(),
            outstanding_bytes: 0,
            last_prepared,
            next_session,
            appends: Vec::new(),
            scratch: BytesMut::with_capacity(SCRATCH_BYTES),
            dirty: Vec::new(),
            stalled: BTreeSet::new(),
            sweep,
            counters: Counters::default(),
            changed: Vec::new(),
            stats: Vec::new(),
            told: Vec::new(),
            saved: Saved::new(),
        }
    }

    /// Ends the engine and gives its state back, as far as it was applied: a server in memory is started again with it.
    #[must_use]
    pub fn into_database(self) -> Database {
        let mut database = Database::for_restore(self.config.extended_types);
        database.sessions = self.tracker.iter().collect();
        database.tree = self.tree;
        database
    }

    /// A connection was accepted.
    pub fn attach(&mut self, conn: ConnId, peer: IpAddr, now: Time) {
        let ids = self.addresses.identities(peer);
        self.conns.insert(conn, Box::new(Conn::new(ids, now)));
    }

    /// A connection is gone. Its session lives on; its watches do not.
    pub fn detach(&mut self, conn: ConnId) {
        if let Some(gone) = self.conns.remove(&conn)
            && let Some(session) = gone.session()
            && self.owners.get(&session) == Some(&conn)
        {
            self.owners.remove(&session);
        }
        self.watches.remove_conn(conn);
        self.stalled.remove(&conn);
    }

    /// Moves time on: ends sessions, sweeps containers and TTL nodes. `wall_ms` is the wall clock, for the records.
    pub fn tick(&mut self, now: Time, wall_ms: i64) {
        // Whom the engine itself does not let be read, since the log is slow, cannot show that they live: their pings wait
        // in their sockets.
        for conn in &self.stalled {
            if let Some(state) = self.conns.get(conn)
                && let Some(session) = state.session()
            {
                self.tracker.touch(session, state.timeout_ms, now);
            }
        }
        for session in self.tracker.expired(now) {
            self.counters.expired_sessions += 1;
            self.prepare_close(session, wall_ms, now);
        }
        self.run_sweep(now, wall_ms);
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.tracker
            .next_deadline()
            .into_iter()
            .chain([self.sweep.next()])
            .min()
    }

    /// Ends a session as if its time were up. False if there is none.
    pub fn expire_session(&mut self, session: SessionId, wall_ms: i64, now: Time) -> bool {
        let known = self.tracker.mark_closing(session);
        if known {
            self.counters.expired_sessions += 1;
            self.prepare_close(session, wall_ms, now);
        }
        known
    }

    /// Transactions to append to the log, in order, since the last call.
    pub fn take_appends(&mut self, into: &mut Vec<Append>) {
        into.append(&mut self.appends);
    }

    /// Connections that have output, or a changed will to be read or closed, since the last call.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        for conn in &self.dirty {
            if let Some(conn) = self.conns.get_mut(conn) {
                conn.dirty = false;
            }
        }
        into.append(&mut self.dirty);
    }

    /// What is to be sent on a connection. A driver that cannot send leaves it there, where it counts towards the bound.
    pub fn output(&mut self, conn: ConnId) -> Option<&mut BytesMut> {
        self.conns.get_mut(&conn).map(|conn| &mut conn.out)
    }

    /// Whether and why a connection is to be closed, once its output is sent.
    #[must_use]
    pub fn wants_close(&self, conn: ConnId) -> Option<CloseReason> {
        self.conns.get(&conn).and_then(|conn| conn.close)
    }

    /// Whether to read on. When not, the connection becomes dirty once it may be read again.
    pub fn may_read(&mut self, conn: ConnId) -> bool {
        let Some(state) = self.conns.get(&conn) else {
            return false;
        };
        let limit = self.config.global_outstanding_limit;
        let busy = self.is_loaded() && !state.queue.is_empty();
        let full = state.queue.len() > limit || state.queue.bytes() > MAX_QUEUED_BYTES;
        if busy || full {
            self.stalled.insert(conn);
        }
        !(busy || full) && state.close.is_none()
    }

    /// Whether requests in process are so many that busy connections are not read.
    fn is_loaded(&self) -> bool {
        self.outstanding.len() > self.config.global_outstanding_limit
            || self.outstanding_bytes > MAX_OUTSTANDING_BYTES
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &DataTree {
        &self.tree
    }

    /// Sessions and their timeouts in milliseconds: the start of a snapshot.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> {
        self.tracker.iter()
    }

    /// The connection a session is attached by.
    #[must_use]
    pub fn connection_of(&self, session: SessionId) -> Option<ConnId> {
        self.owners.get(&session).copied()
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn)
            && !state.dirty
        {
            state.dirty = true;
            self.dirty.push(conn);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(state) = self.conns.get_mut(&conn) {
            state.close.get_or_insert(reason);
            state.queue.clear();
            if let Some(session) = state.session()
                && self.owners.get(&session) == Some(&conn)
            {
                self.owners.remove(&session);
            }
        }
        self.watches.remove_conn(conn);
        self.mark_dirty(conn);
    }
}

/// `((ms << 24) >>> 8) | (id << 56)`, as Java starts; never the number that marks containers.
fn first_session_id(server_id: u8, start_millis: u64) -> i64 {
    let id = (((start_millis << 24) >> 8) | (u64::from(server_id) << 56)) as i64;
    if id == i64::MIN { id + 1 } else { id }
}
