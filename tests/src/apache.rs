//! Apache ZooKeeper as a real process: which jars, which configuration, when it is ready, and its end. Knows no test.
//!
//! The process lives on a scratch directory and a port that was free a moment before; it is killed when the value is
//! dropped. Ready means that `srvr` answers with a mode, not that time has passed. Its output goes to `server.log` in
//! the scratch directory and is shown when it does not come up.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::java;
use crate::target::Options;
use crate::wait;

/// Names the variable that holds the class path of a 3.9 distribution.
pub const CLASSPATH_39: &str = "ZK_39_CLASSPATH";

/// Java takes about a second on an idle machine; a loaded one may take many.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How often a start is tried when another process took the port in between.
const START_ATTEMPTS: usize = 5;

/// Settings that Apache ZooKeeper takes only as Java properties; our server takes them as keys of the same name.
const PROPERTIES: [&str; 5] = [
    "znode.container.checkIntervalMs",
    "znode.container.maxPerMinute",
    "znode.container.maxNeverUsedIntervalMs",
    "jute.maxbuffer",
    "readonlymode.enabled",
];

/// The jars of one version of Apache ZooKeeper.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// For messages, such as `3.8.0`.
    pub version: &'static str,
    pub(crate) class_path: String,
    pub(crate) java: PathBuf,
}

impl Distribution {
    /// 3.8.0 as Debian packages it.
    ///
    /// # Errors
    /// When Java or a jar is missing, naming what to install.
    pub fn debian() -> Result<Self, String> {
        let java = java::runtime()?;
        // The manifest of the first names its dependencies; only the logger's back end is left to choose.
        let jars = java::debian_jars(&["zookeeper.jar", "slf4j-simple.jar"], "zookeeper")?;
        Ok(Self {
            version: "3.8.0",
            class_path: java::class_path(&jars),
            java,
        })
    }

    /// 3.9 with the jars that the environment names in `ZK_39_CLASSPATH`.
    ///
    /// # Errors
    /// When Java or the variable is missing.
    pub fn from_environment_39() -> Result<Self, String> {
        let java = java::runtime()?;
        let class_path = std::env::var(CLASSPATH_39)
            .map_err(|_| format!("{CLASSPATH_39} does not name the jars of a 3.9 server"))?;
        Ok(Self {
            version: "3.9",
            class_path,
            java,
        })
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    distribution: Distribution,
    options: Options,
    directory: PathBuf,
    addr: SocketAddr,
    child: Option<Child>,
}

impl Server {
    /// Starts a server whose data lie in `directory` and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up: its last words.
    pub fn start(
        distribution: &Distribution,
        options: &Options,
        directory: &Path,
    ) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS {
            let addr = free_port().map_err(|error| format!("no free port: {error}"))?;
            let mut server = Self {
                distribution: distribution.clone(),
                options: options.clone(),
                directory: directory.to_owned(),
                addr,
                child: None,
            };
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(StartError::PortTaken) => {
                    "the port was taken by another process".clone_into(&mut last)
                }
                Err(StartError::Other(why)) => return Err(why),
            }
        }
        Err(last)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Stops the process from being run, or lets it run on: to its clients it is there and silent.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn freeze(&self, frozen: bool) -> Result<(), String> {
        let Some(child) = &self.child else {
            return Err("not running".to_owned());
        };
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill")
            .arg(signal)
            .arg(child.id().to_string())
            .status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill {signal}: {status}")),
            Err(error) => Err(format!("kill {signal}: {error}")),
        }
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.kill();
        self.launch().map_err(|error| match error {
            StartError::PortTaken => format!("{} was taken by another process", self.addr),
            StartError::Other(why) => why,
        })
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let other =
            |what: &str, error: std::io::Error| StartError::Other(format!("{what}: {error}"));
        fs::create_dir_all(&self.directory).map_err(|error| other("scratch directory", error))?;
        let config = self.directory.join("zoo.cfg");
        let text = config_text(&self.options, &self.directory, self.addr.port());
        fs::write(&config, text).map_err(|error| other("zoo.cfg", error))?;
        let mut command = Command::new(&self.distribution.java);
        command
            .args(java::QUICK_START)
            .args(properties(&self.options));
        let log_path = self.directory.join("server.log");
        let log = File::create(&log_path).map_err(|error| other("server.log", error))?;
        let errors = log
            .try_clone()
            .map_err(|error| other("server.log", error))?;
        let child = command
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(&self.distribution.class_path)
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| other("java", error))?;
        self.child = Some(child);
        self.wait_until_serving(&log_path)
    }

    fn wait_until_serving(&mut self, log: &Path) -> Result<(), StartError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let ended = match &mut self.child {
                Some(child) => child
                    .try_wait()
                    .map_err(|error| StartError::Other(error.to_string()))?,
                None => return Err(StartError::Other("not running".to_owned())),
            };
            if let Some(status) = ended {
                self.child = None;
                let words = fs::read_to_string(log).unwrap_or_default();
                if words.contains("BindException") || words.contains("Address already in use") {
                    return Err(StartError::PortTaken);
                }
                return Err(StartError::Other(format!(
                    "Apache ZooKeeper {} ended with {status}:\n{words}",
                    self.distribution.version
                )));
            }
            if four_letter(self.addr, "srvr").is_ok_and(|answer| answer.contains("Mode: ")) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.kill();
                let words = fs::read_to_string(log).unwrap_or_default();
                return Err(StartError::Other(format!(
                    "Apache ZooKeeper {} does not serve after {START_PATIENCE:?}:\n{words}",
                    self.distribution.version
                )));
            }
            wait::pause();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

enum StartError {
    PortTaken,
    Other(String),
}

/// Asks a server one of its four-letter words.
///
/// # Errors
/// When it cannot be reached or does not answer within two seconds.
pub fn four_letter(addr: SocketAddr, word: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&addr, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The `zoo.cfg` of a server on the loopback.
pub(crate) fn config_text(options: &Options, directory: &Path, port: u16) -> String {
    let mut text = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={port}\nadmin.enableServer=false\n",
        directory.join("data").display(),
    );
    for (key, value) in options.iter().filter(|(key, _)| !PROPERTIES.contains(key)) {
        text.push_str(&format!("{key}={value}\n"));
    }
    text
}

/// What goes beside that, as arguments of `java`.
pub(crate) fn properties(options: &Options) -> Vec<String> {
    let settings = options.iter().filter(|(key, _)| PROPERTIES.contains(key));
    let mut arguments: Vec<_> = settings
        .map(|(key, value)| format!("-D{key}={value}"))
        .collect();
    arguments.push("-Dzookeeper.jmx.log4j.disable=true".to_owned());
    arguments
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
