//! Options of a client, each with its default and the reason for it. It must not know what the core does with them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use zk_proto::OpCode;
use zk_proto::session::Secret;

use crate::client::{Client, Shared, WeakClient};
use crate::core::{Config, SessionCore, Time};
use crate::driver::lane::lane;
use crate::driver::transport::{Connector, Transport};
use crate::driver::{Driver, Ends, Publisher};
use crate::error::{Error, ErrorKind, Outcome};
use crate::hosts::{Host, Hosts};
use crate::namespace::View;
use crate::reaper::{self, Reaper};
use crate::session::{KEPT_EVENTS, SessionState, Trust};

/// Curator's defaults.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// Servers do not bound their replies; a node of the default limit fits many times, and so does a long list of children.
const MAX_FRAME: usize = 64 << 20;
/// Enough to keep any connection busy; a full lane makes callers wait.
const MAX_IN_FLIGHT: usize = 4096;
const WAITING: usize = 1024;
/// Spreads the clients of one server that went away, and is not felt.
const RECONNECT_JITTER: Duration = Duration::from_millis(100);

/// What happens after a session is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpiryPolicy {
    /// The client builds a new session by itself, as Curator does. Watches, ephemeral nodes and whatever hung on the old
    /// one are gone; the number of the session tells the difference.
    NewSession,
    /// The client is over, as ZooKeeper's own is.
    End,
}

/// Options of a [`Client`]. From [`Client::builder`].
///
/// ```no_run
/// # async fn f() -> Result<(), zk_client::Error> {
/// use std::time::Duration;
///
/// let client = zk_client::Client::builder("zk1,zk2,zk3/app")?
///     .session_timeout(Duration::from_secs(30))
///     .auth("digest", "bob:secret")
///     .connect()
///     .await?;
/// # let _ = client; Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is connected"]
pub struct ClientBuilder {
    hosts: Hosts,
    session_timeout: Duration,
    connect_patience: Duration,
    allow_read_only: bool,
    expiry: ExpiryPolicy,
    credentials: Vec<(String, Secret)>,
    max_frame: usize,
    max_in_flight: usize,
    reconnect_jitter: Duration,
    seed: Option<u64>,
    connector: Connector,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials hide themselves.
        f.debug_struct("ClientBuilder")
            .field("hosts", &self.hosts)
            .field("session_timeout", &self.session_timeout)
            .field("allow_read_only", &self.allow_read_only)
            .field("expiry", &self.expiry)
            .field("credentials", &self.credentials)
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(crate) fn new(hosts: &str) -> Result<Self, Error> {
        Ok(Self {
            hosts: Hosts::parse(hosts).map_err(Error::bad_hosts)?,
            session_timeout: SESSION_TIMEOUT,
            connect_patience: CONNECT_PATIENCE,
            allow_read_only: false,
            expiry: ExpiryPolicy::NewSession,
            credentials: Vec::new(),
            max_frame: MAX_FRAME,
            max_in_flight: MAX_IN_FLIGHT,
            reconnect_jitter: RECONNECT_JITTER,
            seed: None,
            connector: Connector::Tcp,
        })
    }

    /// How long the session outlives its connection: 60 seconds, unless said otherwise. The server may answer with
    /// another value, which then counts everywhere. From 1 ms to 24 days.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How long to wait for a connection: 15 seconds, unless said otherwise, as Curator's connection timeout.
    /// [`connect`](Self::connect) waits so long for the first one, and so does each request that is made while there is none
    /// (before the first, between two, after a lost session). It then fails with [`Unreachable`](ErrorKind::Unreachable),
    /// as not done, and everything that waits behind it fails with it: a later write does not happen where an earlier one
    /// did not. A request that its view [retries](Client::retrying) waits anew with every attempt. `Duration::MAX` waits for
    /// ever.
    /// Where the session ends first they fail with [`SessionExpired`](ErrorKind::SessionExpired).
    pub fn connect_patience(mut self, patience: Duration) -> Self {
        self.connect_patience = patience;
        self
    }

    /// Accepts servers that are cut off from their ensemble and serve reads only. Off by default: reads from them may be
    /// arbitrarily old. The client goes on looking for one that takes writes.
    pub fn allow_read_only(mut self, allow: bool) -> Self {
        self.allow_read_only = allow;
        self
    }

    /// What happens after the session is lost: a new one, unless said otherwise.
    pub fn on_expiry(mut self, policy: ExpiryPolicy) -> Self {
        self.expiry = policy;
        self
    }

    /// Credentials to send at the start of every connection, as [`Client::add_auth`].
    pub fn auth(mut self, scheme: impl Into<String>, auth: impl Into<Bytes>) -> Self {
        self.credentials.push((scheme.into(), auth.into().into()));
        self
    }

    /// The longest frame accepted from a server, in bytes: 64 MiB, unless said otherwise. Lists of children are not bounded
    /// by servers.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// How many requests may be on the wire at once: 4096, unless said otherwise. Beyond that callers wait.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// The longest wait before the first attempt to connect again after a connection is lost: 100 ms, unless said otherwise.
    /// All of it is left to chance, so that the clients of a server do not come back together. Fleets of tens of
    /// thousands want more. Later attempts wait longer, up to five seconds between two rounds of the hosts.
    pub fn reconnect_jitter(mut self, longest: Duration) -> Self {
        self.reconnect_jitter = longest;
        self
    }

    /// Fixes the order in which hosts are tried and the jitter of waits: for tests. Random by default, so that clients
    /// spread over the servers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Opens byte streams to servers in a way of your own, in place of TCP: TLS, a proxy, or a duplex stream to a server in
    /// the same process. It is called for every attempt to connect, with the host of the connect string; an attempt that
    /// takes longer than the session timeout divided by the number of hosts is dropped.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), zk_client::Error> {
    /// let client = zk_client::Client::builder("in-process")?
    ///     .connector(|_host| async {
    ///         let (ours, _theirs) = tokio::io::duplex(64 * 1024);
    ///         // hand `_theirs` to the server
    ///         Ok(ours)
    ///     })
    ///     .connect()
    ///     .await?;
    /// # let _ = client; Ok(()) }
    /// ```
    pub fn connector<F, Fut, T>(mut self, connect: F) -> Self
    where
        F: Fn(Host) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<T>> + Send + 'static,
        T: Transport + 'static,
    {
        self.connector = Connector::custom(connect);
        self
    }

    /// Starts the client and waits until it is connected.
    ///
    /// # Errors
    ///
    /// [`Unreachable`](ErrorKind::Unreachable), with what was tried, when no server took the session within the
    /// [patience](Self::connect_patience); [`AuthFailed`](ErrorKind::AuthFailed) when one refused the credentials; as
    /// [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is left behind but, maybe, a session that closes itself.
    pub async fn connect(self) -> Result<Client, Error> {
        let patience = self.connect_patience;
        let client = self.start()?;
        let failed = |kind| Error::new(OpCode::CREATE_SESSION, None, kind, Outcome::NotDone);
        let mut state = client.state();
        let settled = state.wait_for(|state| {
            state.is_connected() || matches!(state, SessionState::AuthFailed | SessionState::Closed)
        });
        // Copied at once: what the channel lends is a lock, and a future that kept it could not be spawned.
        let settled = tokio::time::timeout(patience, settled)
            .await
            .map(|state| state.map_or(SessionState::Closed, |state| *state));
        let Ok(state) = settled else {
            return Err(failed(client.unreachable(patience).await));
        };
        match state {
            SessionState::AuthFailed => Err(failed(ErrorKind::AuthFailed)),
            SessionState::Closed => Err(failed(ErrorKind::Closed)),
            _ => Ok(client),
        }
    }

    /// Starts the client without waiting for a connection: requests wait for one, as long as the
    /// [patience](Self::connect_patience) lasts.
    ///
    /// # Errors
    ///
    /// A session timeout of nothing, or beyond what the protocol can say.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Client, Error> {
        let timeout_ms = i32::try_from(self.session_timeout.as_millis())
            .ok()
            .filter(|timeout_ms| *timeout_ms > 0)
            .ok_or_else(|| {
                let why = "a session timeout is 1 ms to 24 days";
                let kind = ErrorKind::Refused(why.into());
                Error::new(OpCode::CREATE_SESSION, None, kind, Outcome::NotDone)
            })?;
        let config = Config {
            hosts: self.hosts.list.iter().map(Host::to_string).collect(),
            timeout_ms,
            allow_read_only: self.allow_read_only,
            renew: self.expiry == ExpiryPolicy::NewSession,
            credentials: self.credentials,
            max_frame: self.max_frame,
            max_in_flight: self.max_in_flight,
            patience_ms: in_ms(self.connect_patience),
            close_ms: u64::from(timeout_ms.unsigned_abs() / 3).max(1),
            jitter_ms: in_ms(self.reconnect_jitter),
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        };
        let origin = Instant::now();
        let (lane, requests) = lane(WAITING);
        // Unbounded, because `Drop` cannot wait: an entry for each watch that is given up, each close, and each connect that
        // ran out of patience. The task waits for nothing before it takes them.
        let (control, control_end) = mpsc::unbounded_channel();
        let (state_sender, state) = watch::channel(SessionState::Connecting);
        let (changes, _) = broadcast::channel(KEPT_EVENTS);
        let trust = Arc::new(Trust::new(origin));
        let (credentials_sender, credentials) = watch::channel(None);
        let (reaper, jobs) = Reaper::new();
        let shared = Arc::new(Shared {
            lane,
            control: control.clone(),
            reaper,
            state,
            changes: changes.downgrade(),
            trust: Arc::clone(&trust),
            credentials,
        });
        let ends = Ends {
            requests,
            control: control_end,
            control_sender: control,
            publisher: Publisher {
                state: state_sender,
                changes,
                trust,
                credentials: credentials_sender,
            },
        };
        let core = SessionCore::new(Time(0), config);
        let driver = Driver::new(core, self.hosts.list, self.connector, origin, ends);
        let (driven, over) = oneshot::channel::<()>();
        tokio::spawn(async move {
            driver.run().await;
            drop(driven);
        });
        let worker = reaper::run(jobs, WeakClient::new(&shared));
        tokio::spawn(async move {
            tokio::select! {
                () = worker => {}
                // A client that is over deletes nothing more, even if handles stay.
                _ = over => {}
            }
        });
        let view = View::of_chroot(self.hosts.chroot.as_path());
        Ok(Client::new(shared, view))
    }
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_connect_can_be_spawned() {
        fn spawnable(_: impl Future<Output = Result<Client, Error>> + Send) {}
        spawnable(Client::connect("localhost"));
        spawnable(Client::builder("localhost").unwrap().connect());
    }
}
