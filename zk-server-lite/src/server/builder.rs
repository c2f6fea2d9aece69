//! What is to be said before a server starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{StartError, ZkServer, launch};
use crate::config::{ServerConfig, Whitelist};
use crate::storage::{Disk, RealDisk};

/// Builds a [`ZkServer`]. What is not said is ZooKeeper's default, but for what suits a test: everything in memory, any free
/// port of the loopback, a tick of 500 ms, no limit on connections of one address, all four-letter words, and TTL nodes.
#[derive(Debug, Clone)]
#[must_use = "a builder starts nothing"]
pub struct ZkServerBuilder {
    config: ServerConfig,
    disk: Arc<dyn Disk>,
}

impl Default for ZkServerBuilder {
    fn default() -> Self {
        let config = ServerConfig {
            client_address: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
            tick_ms: 500,
            max_client_cnxns: 0,
            four_letter_words: Whitelist::All,
            extended_types: true,
            ..ServerConfig::default()
        };
        Self::from_config(config)
    }
}

impl ZkServerBuilder {
    /// Keeps data in a directory, in ZooKeeper's formats, durably.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.data_dir = Some(dir.into());
        self
    }

    /// Keeps the transaction log in another directory than the snapshots.
    pub fn data_log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.data_log_dir = Some(dir.into());
        self
    }

    /// Whether a transaction is forced to the disk before it is answered (`forceSync`). Default: yes.
    pub fn force_sync(mut self, force: bool) -> Self {
        self.config.force_sync = force;
        self
    }

    /// Listens there. Port 0: any that is free.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.config.client_address = Some(address);
        self
    }

    /// Opens no port: clients come by [`ZkServer::connect_duplex`].
    pub fn no_port(mut self) -> Self {
        self.config.client_address = None;
        self
    }

    /// The grid of session deadlines (`tickTime`). A timeout may be from 2 to 20 ticks, unless
    /// [`session_timeouts`](Self::session_timeouts) says otherwise. Rounded to milliseconds, at least one.
    pub fn tick_time(mut self, tick: Duration) -> Self {
        self.config.tick_ms = u32::try_from(tick.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// The least and the greatest session timeout given, whatever a client asks for.
    pub fn session_timeouts(mut self, least: Duration, greatest: Duration) -> Self {
        let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        self.config.min_session_timeout = Some(ms(least));
        self.config.max_session_timeout = Some(ms(greatest));
        self
    }

    /// The super user, as `user:base64(sha1(user:password))` (`DigestAuthenticationProvider.superDigest`).
    pub fn super_digest(mut self, digest: impl Into<String>) -> Self {
        self.config.super_digest = Some(digest.into());
        self
    }

    /// Everything else, by its field.
    pub fn configure(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts with exactly this configuration.
    pub fn from_config(config: ServerConfig) -> Self {
        Self {
            config,
            disk: Arc::new(RealDisk),
        }
    }

    /// Keeps the data directory on a disk that can fail: for this crate's tests. The directory's lock stays a real file.
    #[doc(hidden)]
    pub fn on_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Starts the server; when this returns, it serves.
    ///
    /// # Errors
    /// When the address cannot be had or the data directory cannot be used.
    ///
    /// # Cancellation
    /// A dropped future leaves nothing behind: a server that comes up with nobody waiting for it stops at once.
    pub async fn start(self) -> Result<ZkServer, StartError> {
        launch::launch(self.config, self.disk, None).await
    }
}
