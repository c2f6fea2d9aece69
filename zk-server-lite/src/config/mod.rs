//! What a server is told at its start: typed, with ZooKeeper's names and defaults. [`properties`] reads the file's syntax,
//! [`zoo_cfg`] knows the keys.

mod complaint;
mod no_effect;
pub mod properties;
mod value;
pub mod zoo_cfg;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use zk_proto::frame::DEFAULT_MAX_FRAME;

use crate::pipeline::EngineConfig;
use crate::session::password::Secret;

/// Which four-letter words are answered (`4lw.commands.whitelist`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whitelist {
    /// `*`.
    All,
    /// Those named.
    Only(Vec<String>),
}

impl Whitelist {
    /// Whether a word is answered.
    #[must_use]
    pub fn allows(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => words.iter().any(|allowed| allowed == word),
        }
    }
}

/// How snapshots are compressed (`snapshot.compression.method`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotCompression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// snappy, as xerial's stream.
    Snappy,
}

/// A server's configuration. Names in quotes are the keys of `zoo.cfg`; defaults are ZooKeeper's.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// `dataDir`. None: everything is in memory, and gone with the server.
    pub data_dir: Option<PathBuf>,
    /// `dataLogDir`. None: as `data_dir`.
    pub data_log_dir: Option<PathBuf>,
    /// `clientPortAddress` and `clientPort`. None: no port is opened.
    pub client_address: Option<SocketAddr>,
    /// `clientPortListenBacklog`. None: the system's.
    pub backlog: Option<u32>,
    /// `tickTime`, in milliseconds.
    pub tick_ms: u32,
    /// `minSessionTimeout`, in milliseconds. None: two ticks.
    pub min_session_timeout: Option<i32>,
    /// `maxSessionTimeout`, in milliseconds. None: twenty ticks.
    pub max_session_timeout: Option<i32>,
    /// `maxClientCnxns`: connections of one address. 0: any number.
    pub max_client_cnxns: usize,
    /// `maxCnxns`: connections in all. 0: any number.
    pub max_cnxns: usize,
    /// `nio.sessionlessCnxnTimeout`: how long a connection may take to begin a session.
    pub sessionless_timeout: Duration,
    /// `jute.maxbuffer`: the largest frame accepted, in bytes.
    pub jute_max_buffer: usize,
    /// `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// `4lw.commands.whitelist`.
    pub four_letter_words: Whitelist,
    /// `snapCount`: transactions between snapshots, at most.
    pub snap_count: u32,
    /// `snapSizeLimitInKb`: kibibytes of log between snapshots, at most. 0: no limit.
    pub snap_size_limit_kb: u64,
    /// `preAllocSize`: kibibytes by which the log is zero-filled ahead.
    pub pre_alloc_kb: u64,
    /// `txnLogSizeLimitInKb`: kibibytes after which a log file is ended. 0: no limit.
    pub txn_log_size_limit_kb: u64,
    /// `forceSync`: whether a transaction is on the disk before it is answered.
    pub force_sync: bool,
    /// `snapshot.trust.empty`: start from a log without any snapshot.
    pub trust_empty: bool,
    /// `snapshot.compression.method`.
    pub snapshot_compression: SnapshotCompression,
    /// `autopurge.snapRetainCount`.
    pub purge_retain: usize,
    /// `autopurge.purgeInterval`, in hours. 0: never.
    pub purge_interval_hours: u64,
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
    /// `globalOutstandingLimit`: writes in process above which connections with unanswered requests are not read.
    pub global_outstanding_limit: usize,
    /// Unsent bytes above which a connection is closed, since its client does not read. No key of ZooKeeper's:
    /// `zkServerLite.maxUnsentBytes`.
    pub max_unsent: usize,
    /// `znode.container.checkIntervalMs`.
    pub container_check_interval: Duration,
    /// `znode.container.maxPerMinute`.
    pub container_max_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`. 0: containers never used are kept.
    pub container_max_never_used: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            data_log_dir: None,
            client_address: None,
            backlog: None,
            tick_ms: 3000,
            min_session_timeout: None,
            max_session_timeout: None,
            max_client_cnxns: 60,
            max_cnxns: 0,
            sessionless_timeout: Duration::from_secs(10),
            jute_max_buffer: DEFAULT_MAX_FRAME,
            tcp_keep_alive: false,
            four_letter_words: Whitelist::Only(vec!["srvr".to_owned()]),
            snap_count: 100_000,
            snap_size_limit_kb: 4_194_304,
            pre_alloc_kb: 65_536,
            txn_log_size_limit_kb: 0,
            force_sync: true,
            trust_empty: false,
            snapshot_compression: SnapshotCompression::None,
            purge_retain: 3,
            purge_interval_hours: 0,
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
        }
    }
}

impl ServerConfig {
    /// The least session timeout given, in milliseconds.
    #[must_use]
    pub fn min_timeout_ms(&self) -> i32 {
        self.min_session_timeout.unwrap_or_else(|| self.ticks(2))
    }

    /// The greatest session timeout given, in milliseconds.
    #[must_use]
    pub fn max_timeout_ms(&self) -> i32 {
        self.max_session_timeout.unwrap_or_else(|| self.ticks(20))
    }

    fn ticks(&self, count: u32) -> i32 {
        i32::try_from(self.tick_ms.saturating_mul(count)).unwrap_or(i32::MAX)
    }

    pub(crate) fn engine(&self, secret: Secret, start_millis: u64) -> EngineConfig {
        EngineConfig {
            tick: Duration::from_millis(u64::from(self.tick_ms.max(1))),
            min_session_timeout: self.min_timeout_ms(),
            max_session_timeout: self.max_timeout_ms(),
            server_id: 1,
            start_millis,
            extended_types: self.extended_types,
            enforce_quota: self.enforce_quota,
            skip_acl: self.skip_acl,
            super_digest: self.super_digest.clone(),
            digest_auth: self.digest_auth,
            global_outstanding_limit: self.global_outstanding_limit,
            max_unsent: self.max_unsent,
            container_check_interval: self.container_check_interval,
            container_max_per_minute: self.container_max_per_minute,
            container_max_never_used: self.container_max_never_used,
            secret,
        }
    }
}
