//! One server to test against; the environment chooses which. Knows how to start, restart and end it, and no test.
//!
//! `ZK_TEST_SERVER` is `embedded` (the default), `apache` (Apache ZooKeeper 3.8.0, from Debian's package) or `apache-3.9`
//! (jars named by `ZK_39_CLASSPATH`). A server that was asked for and cannot be had fails the test, and says so on the
//! terminal first: nothing falls back to another one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::apache::{self, Distribution};
use crate::differential::execute::Stage;
use crate::{embedded, gate};

/// Names the variable that chooses the server.
pub const SERVER: &str = "ZK_TEST_SERVER";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, in this process, on a port.
    Embedded,
    /// Apache ZooKeeper 3.8.0 as Debian packages it.
    Apache,
    /// Apache ZooKeeper 3.9, with jars that the environment names.
    Apache39,
}

impl Kind {
    /// The one that the environment chooses.
    ///
    /// # Panics
    /// When the variable names none.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var(SERVER).as_deref() {
            Err(_) | Ok("" | "embedded") => Self::Embedded,
            Ok("apache") => Self::Apache,
            Ok("apache-3.9") => Self::Apache39,
            Ok(other) => panic!("{SERVER}={other}: there are embedded, apache and apache-3.9"),
        }
    }
}

/// The settings of a test server, as keys of `zoo.cfg`, the same for every kind.
#[derive(Debug, Clone)]
pub struct Options {
    settings: BTreeMap<String, String>,
}

impl Default for Options {
    /// Short ticks, any session timeout from two of them to ten minutes, no limit on connections, small log files,
    /// TTL nodes enabled, no container sweep within a test.
    fn default() -> Self {
        let mut options = Self {
            settings: BTreeMap::new(),
        };
        for (key, value) in [
            ("tickTime", "200"),
            ("minSessionTimeout", "400"),
            ("maxSessionTimeout", "600000"),
            ("maxClientCnxns", "0"),
            ("preAllocSize", "64"),
            ("extendedTypesEnabled", "true"),
            ("4lw.commands.whitelist", "*"),
            ("znode.container.checkIntervalMs", "3600000"),
        ] {
            options.put(key, value);
        }
        options
    }
}

impl Options {
    /// Sets one key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.put(key, value);
        self
    }

    fn put(&mut self, key: &str, value: impl ToString) {
        self.settings.insert(key.to_owned(), value.to_string());
    }

    /// All keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// A running server on a directory of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Target {
    kind: Kind,
    server: Server,
    _scratch: Option<TempDir>,
}

#[derive(Debug)]
enum Server {
    Embedded(embedded::Server),
    Apache(apache::Server),
}

impl Target {
    /// Starts the server that the environment chooses, on a scratch directory, and waits until it serves. Blocks.
    ///
    /// # Errors
    /// When it cannot be had or does not come up.
    pub fn start(options: Options) -> Result<Self, String> {
        let scratch = TempDir::new().map_err(|error| format!("no scratch directory: {error}"))?;
        let mut target = Self::start_in(Kind::from_environment(), options, scratch.path())?;
        target._scratch = Some(scratch);
        Ok(target)
    }

    /// As [`start`](Self::start), for a test on a runtime.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancellation
    /// The start goes on in the background; the server ends when it is up.
    pub async fn launch(options: Options) -> Result<Self, String> {
        tokio::task::spawn_blocking(move || Self::start(options))
            .await
            .map_err(|error| error.to_string())?
    }

    /// Starts a server of a kind on a directory, which may hold the data of another one.
    ///
    /// # Errors
    /// When it cannot be had or does not come up.
    pub fn start_in(kind: Kind, options: Options, directory: &Path) -> Result<Self, String> {
        let distribution = match kind {
            Kind::Embedded => {
                let server = embedded::Server::start(&options, directory)?;
                return Ok(Self::new(kind, Server::Embedded(server)));
            }
            Kind::Apache => Distribution::debian(),
            Kind::Apache39 => Distribution::from_environment_39(),
        };
        let distribution =
            distribution.inspect_err(|why| gate::not_run("the server that was asked for", why))?;
        let server = apache::Server::start(&distribution, &options, directory)?;
        Ok(Self::new(kind, Server::Apache(server)))
    }

    fn new(kind: Kind, server: Server) -> Self {
        Self {
            kind,
            server,
            _scratch: None,
        }
    }

    /// Which one runs.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        match &self.server {
            Server::Embedded(server) => server.addr(),
            Server::Apache(server) => server.addr(),
        }
    }

    /// Our server itself, for the faults that only it can be asked for.
    #[must_use]
    pub fn embedded(&self) -> Option<&zk_server_lite::ZkServer> {
        match &self.server {
            Server::Embedded(server) => server.server(),
            Server::Apache(_) => None,
        }
    }

    /// Ends the server as a crash would; its data and port stay its own.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn kill(&mut self) -> Result<(), String> {
        match &mut self.server {
            Server::Embedded(server) => server.kill(),
            Server::Apache(server) => {
                server.kill();
                Ok(())
            }
        }
    }

    /// Lets the server fall silent without closing anything, or lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self, frozen: bool) -> Result<(), String> {
        match &self.server {
            Server::Embedded(server) => {
                let server = server.server().ok_or("not running")?;
                if frozen {
                    server.freeze();
                } else {
                    server.thaw();
                }
                Ok(())
            }
            Server::Apache(server) => server.freeze(frozen),
        }
    }

    /// Starts it again after [`kill`](Self::kill), on the same data and port.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<(), String> {
        match &mut self.server {
            Server::Embedded(server) => server.start_again(),
            Server::Apache(server) => server.start_again(),
        }
    }
}

impl Stage for Target {
    fn addr(&self) -> SocketAddr {
        Self::addr(self)
    }

    fn restart(&mut self) -> Result<(), String> {
        self.kill()?;
        self.start_again()
    }
}
