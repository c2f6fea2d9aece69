//! What a server needs before it serves: the port, the data, the engine; and why it may not get it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::stopped::Remains;
use crate::config::ServerConfig;
use crate::net::{accept, poller};
use crate::node::core::{Clock, Core, Journal, MemoryJournal, Shared};
use crate::node::disk::{self, Store};
use crate::pipeline::{Database, Engine};
use crate::storage::{Disk, SessionSecret};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The data directory cannot be used: locked, damaged, or not to be read or written.
    #[error("cannot use the data directory: {}", crate::node::disk::describe(.0))]
    Storage(crate::storage::StorageError),
    /// The operating system gave no thread, no runtime or no randomness.
    #[error("cannot {action}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// Everything a server needs before it serves.
pub(super) struct Prepared {
    pub(super) shared: Arc<Shared>,
    pub(super) address: Option<SocketAddr>,
    pub(super) poller: poller::Prepared,
    pub(super) secret: [u8; 32],
    pub(super) store: Option<Store>,
}

pub(super) fn prepare(
    config: ServerConfig,
    disk: Arc<dyn Disk>,
    remains: Option<Remains>,
    runtime: &tokio::runtime::Runtime,
) -> Result<Prepared, StartError> {
    // The port first: a second server on the same port must not touch the directory.
    let listener = config
        .client_address
        .map(|address| {
            accept::bind(address, config.backlog)
                .map_err(|source| StartError::Listen { address, source })
        })
        .transpose()?;
    let address = listener
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let (poller, alarm) = poller::Prepared::new(listener).map_err(|source| StartError::System {
        action: "watch sockets",
        source,
    })?;
    let clock = Clock::new();
    // Wall time, unlike Java's monotonic time, makes ids of different starts differ for sure.
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    let serve = |database, secret, journal: Box<dyn Journal>, config: ServerConfig| {
        let engine = Engine::new(config.engine(secret, millis), database, clock.now());
        let shared = Arc::new(Shared::new(
            Core::new(engine, journal),
            alarm,
            clock,
            config,
        ));
        shared.faults.attach_runtime(runtime.handle().clone());
        shared
    };
    if let Some(dir) = config.data_dir.clone() {
        let opened = disk::open(&config, &dir, disk).map_err(StartError::Storage)?;
        let (secret, took) = (opened.secret, opened.took);
        let (database, journal, mut store, log) = opened.into_parts(&config);
        let shared = serve(database, secret, journal, config);
        shared.metrics.recovery.add(took);
        store
            .start(&shared, log)
            .map_err(|source| StartError::System {
                action: "start the log thread",
                source,
            })?;
        return Ok(Prepared {
            shared,
            address,
            poller,
            secret,
            store: Some(store),
        });
    }
    let (database, secret) = match remains {
        Some(remains) => (remains.database, remains.secret),
        None => {
            let secret = SessionSecret::random().map_err(|source| StartError::System {
                action: "get randomness",
                source,
            })?;
            (Database::empty(config.extended_types), *secret.bytes())
        }
    };
    let shared = serve(database, secret, Box::new(MemoryJournal), config);
    Ok(Prepared {
        shared,
        address,
        poller,
        secret,
        store: None,
    })
}
