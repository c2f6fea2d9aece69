//! A server inside a process: built, started, asked about, stopped.
//!
//! It runs on a thread of its own with a runtime of its own, so it works whatever runtime the user has, or none, and does
//! not stand still when the user's time is paused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use zk_proto::{OpCode, SessionId};

use crate::config::{ServerConfig, Whitelist};
use crate::faults::AfterSwallow;
use crate::net::{accept, poller};
use crate::node::core::{Clock, Core, Journal, MemoryJournal, Shared, wall_ms};
use crate::node::disk::{self, Store};
use crate::node::halt::Failure;
use crate::node::{purge, ticker};
use crate::pipeline::{Database, Engine};
use crate::storage::{Disk, RealDisk, SessionSecret};

/// Bytes a pipe inside the process holds in each direction.
const DUPLEX_BYTES: usize = 64 << 10;

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
        launch(self.config, self.disk, None).await
    }
}

/// A running server. Dropping it stops it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let server = zk_server_lite::ZkServer::start().await?;
/// println!("connect to {}", server.connect_string());
/// server.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ZkServer {
    shared: Option<Arc<Shared>>,
    address: Option<SocketAddr>,
    disk: Arc<dyn Disk>,
    thread: Option<JoinHandle<Option<Remains>>>,
    ended: Option<oneshot::Receiver<()>>,
}

/// What a server in memory leaves for the next one.
#[derive(Debug)]
struct Remains {
    database: Database,
    secret: [u8; 32],
}

impl ZkServer {
    /// What is to be configured.
    pub fn builder() -> ZkServerBuilder {
        ZkServerBuilder::default()
    }

    /// Starts a server in memory on any free port of the loopback.
    ///
    /// # Errors
    /// When the system gives no port, thread or randomness.
    ///
    /// # Cancellation
    /// As [`ZkServerBuilder::start`].
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Where it listens; None without a port.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// `host:port`, as clients take it. Empty without a port.
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.address
            .map(|address| address.to_string())
            .unwrap_or_default()
    }

    /// A connection inside the process, as if just accepted from the loopback address: bytes written to it are read by the
    /// server. One that the server would refuse is closed at the other end.
    #[must_use]
    pub fn connect_duplex(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        if let Some(shared) = &self.shared
            && !shared.faults.refuses()
            && !shared.halt.token().is_cancelled()
        {
            shared.alarm.bring(theirs);
        }
        ours
    }

    /// The sessions that live, in order of their ids.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.tell(|engine, _| {
            let mut ids: Vec<_> = engine.sessions().map(|(id, _)| id).collect();
            ids.sort_unstable();
            ids
        })
        .unwrap_or_default()
    }

    /// Ends a session as if its time were up: its ephemerals go, its connection is closed, and it cannot be attached again.
    /// False if there is no such session.
    pub fn expire_session(&self, session: SessionId) -> bool {
        self.tell(|engine, now| engine.expire_session(session, wall_ms(), now))
            .unwrap_or(false)
    }

    /// Cuts the connection a session is attached by; the session lives on. False if it has none.
    pub fn cut_connection(&self, session: SessionId) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        let Ok(core) = shared.core() else {
            return false;
        };
        let link = core
            .engine
            .connection_of(session)
            .and_then(|conn| core.link(conn));
        if let Some(link) = link {
            link.cut();
        }
        link.is_some()
    }

    /// The next request of this kind, of whichever connection, is executed and its reply never sent. What was to be sent
    /// before it is; see [`AfterSwallow`] for what comes then.
    pub fn swallow_next_reply(&self, op: OpCode, after: AfterSwallow) {
        if let Some(shared) = &self.shared {
            shared.faults.swallow_next(op, after);
        }
    }

    /// Holds the output of each connection back for so long, counted from its first unsent byte. Zero ends it.
    pub fn delay_replies(&self, delay: Duration) {
        if let Some(shared) = &self.shared {
            shared.faults.set_delay(delay);
        }
    }

    /// Whether new connections are closed as soon as they are accepted. Those that are open are left alone.
    pub fn refuse_connections(&self, refuse: bool) {
        if let Some(shared) = &self.shared {
            shared.faults.set_refuse(refuse);
        }
    }

    /// Stops everything as SIGSTOP would: connections stay open, nothing is read, answered or expired, until
    /// [`thaw`](Self::thaw). A batch that is being handled is finished.
    pub fn freeze(&self) {
        if let Some(shared) = &self.shared {
            shared.faults.set_frozen(true);
        }
    }

    /// Goes on after [`freeze`](Self::freeze). Sessions get one more tick before any expires, as their pings may be waiting.
    pub fn thaw(&self) {
        let Some(shared) = &self.shared else { return };
        shared.faults.set_frozen(false);
        if let Ok(core) = shared.core() {
            core.links().for_each(|link| link.nudge());
        }
    }

    /// Waits until the server has ended by itself; says why. Pending while it runs.
    ///
    /// # Cancellation
    /// Safe: nothing is lost by dropping the future.
    pub async fn failed(&self) -> Option<Failure> {
        let shared = self.shared.as_ref()?;
        shared.halt.token().cancelled().await;
        shared.halt.failure()
    }

    /// Stops it: what was accepted is made durable, connections are closed, the port is free. The result starts it again on
    /// the same data and port.
    ///
    /// # Cancellation
    /// Once called, the server stops, even if the future is dropped.
    pub async fn stop(mut self) -> StoppedServer {
        self.end(false).await
    }

    /// Ends it as SIGKILL would: nothing more is written or sent. In memory, all is lost.
    ///
    /// # Cancellation
    /// Once called, the server ends, even if the future is dropped.
    pub async fn crash(mut self) -> StoppedServer {
        self.end(true).await
    }

    async fn end(&mut self, crash: bool) -> StoppedServer {
        let mut config = ServerConfig::default();
        let mut failure = None;
        if let Some(shared) = self.shared.take() {
            config = shared.config.clone();
            config.client_address = self.address;
            if crash {
                shared.faults.set_crashed();
            }
            failure = shared.halt.failure();
            let stop = shared.halt.token().clone();
            // The thread takes the engine out once nobody shares it any more.
            drop(shared);
            stop.cancel();
        }
        if let Some(ended) = self.ended.take() {
            // The other end is dropped when the thread is done, however it ends.
            let _ = ended.await;
        }
        let remains = self
            .thread
            .take()
            .and_then(|thread| thread.join().ok().flatten())
            .filter(|_| !crash);
        StoppedServer {
            config,
            disk: Arc::clone(&self.disk),
            remains,
            failure,
        }
    }

    fn tell<T>(&self, tell: impl FnOnce(&mut Engine, crate::time::Time) -> T) -> Option<T> {
        self.shared.as_ref()?.with_engine(tell).ok()
    }
}

impl Drop for ZkServer {
    /// Stops the server and waits for it: the port and the directory are free afterwards.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.halt.stop();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A server that has stopped, and can be started again where it was.
#[derive(Debug)]
pub struct StoppedServer {
    config: ServerConfig,
    disk: Arc<dyn Disk>,
    remains: Option<Remains>,
    failure: Option<Failure>,
}

impl StoppedServer {
    /// Why it had ended before it was stopped, if it had.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Starts it again on the same port and data. Sessions get their full timeouts, as after any restart.
    ///
    /// # Errors
    /// As [`ZkServerBuilder::start`]; also when somebody took the port.
    ///
    /// # Cancellation
    /// As [`ZkServerBuilder::start`].
    pub async fn restart(self) -> Result<ZkServer, StartError> {
        launch(self.config, self.disk, self.remains).await
    }
}

async fn launch(
    config: ServerConfig,
    disk: Arc<dyn Disk>,
    remains: Option<Remains>,
) -> Result<ZkServer, StartError> {
    let theirs = Arc::clone(&disk);
    let (ready, waits) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("zk-server".to_owned())
        .spawn(move || {
            let _ending: oneshot::Sender<()> = ending;
            run(config, theirs, remains, ready)
        })
        .map_err(|source| StartError::System {
            action: "start the server's thread",
            source,
        })?;
    match waits.await {
        Ok(Ok(up)) => Ok(ZkServer {
            shared: Some(up.shared),
            address: up.address,
            disk,
            thread: Some(thread),
            ended: Some(ended),
        }),
        Ok(Err(error)) => Err(error),
        // The thread always answers, unless it panicked before it could.
        Err(_) => Err(StartError::System {
            action: "start the server's thread",
            source: io::Error::other("it panicked"),
        }),
    }
}

/// What the thread hands out once it serves. Dropped unseen, it stops the server.
#[derive(Debug)]
struct Up {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
}

/// The server's thread, from start to end.
fn run(
    config: ServerConfig,
    disk: Arc<dyn Disk>,
    remains: Option<Remains>,
    ready: oneshot::Sender<Result<Up, StartError>>,
) -> Option<Remains> {
    let prepared = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| StartError::System {
            action: "make a runtime",
            source,
        })
        .and_then(|runtime| Ok((prepare(config, disk, remains, &runtime)?, runtime)));
    let (
        Prepared {
            shared,
            address,
            poller,
            secret,
            mut store,
        },
        runtime,
    ) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return None;
        }
    };
    if let Some(address) = address {
        shared.metrics.set_port(address.port());
    }
    let up = Up {
        shared: Arc::clone(&shared),
        address,
    };
    let connections = std::thread::Builder::new()
        .name("zk-net".to_owned())
        .spawn({
            let shared = Arc::clone(&shared);
            move || poller.run(&shared)
        });
    let connections = match connections {
        Ok(connections) => connections,
        Err(source) => {
            shared.halt.stop();
            if let Some(store) = &mut store {
                store.stop(&shared);
            }
            let action = "start the thread of the connections";
            let _ = ready.send(Err(StartError::System { action, source }));
            return None;
        }
    };
    let stop = shared.halt.token().clone();
    runtime.block_on(async {
        tokio::spawn(ticker::run(Arc::clone(&shared)));
        if let Some(store) = &store
            && shared.config.purge_interval_hours > 0
        {
            let purge = store.purger(shared.config.purge_retain);
            tokio::spawn(purge::run(Arc::clone(&shared), purge));
        }
        if ready.send(Ok(up)).is_err() {
            shared.halt.stop();
        }
        stop.cancelled().await;
    });
    // Nothing is read any more. A panic has ended the server by itself.
    shared.alarm.ring();
    let _ = connections.join();
    // What was submitted is made safe and answered while the sockets are still there.
    if let Some(store) = &mut store {
        store.stop(&shared);
    }
    drop(runtime);
    shared.hang_up();
    if store.is_some() {
        return None;
    }
    let core = Arc::into_inner(shared)?.into_core()?;
    Some(Remains {
        database: core.into_engine().into_database(),
        secret,
    })
}

/// Everything a server needs before it serves.
struct Prepared {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    poller: poller::Prepared,
    secret: [u8; 32],
    store: Option<Store>,
}

fn prepare(
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
