//! A server inside a process: built, started, asked about, stopped.
//!
//! It runs on threads of its own, so it works whatever runtime the user has, or none, and does not stand still when the
//! user's time is paused.

mod builder;
mod launch;
mod prepare;
mod stopped;

pub use builder::ZkServerBuilder;
pub use prepare::StartError;
pub use stopped::StoppedServer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use zk_proto::{OpCode, SessionId};

use crate::config::ServerConfig;
use crate::faults::AfterSwallow;
use crate::node::core::{Shared, wall_ms};
use crate::node::halt::Failure;
use crate::pipeline::Engine;
use crate::storage::Disk;
use stopped::Remains;

/// Bytes a pipe inside the process holds in each direction.
const DUPLEX_BYTES: usize = 64 << 10;

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

    /// Forgets what [`swallow_next_reply`](Self::swallow_next_reply) was told and has not met its request yet.
    pub fn swallow_no_more(&self) {
        if let Some(shared) = &self.shared {
            shared.faults.swallow_no_more();
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
