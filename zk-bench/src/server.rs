//! Server processes to measure: our `zk-server`, Apache ZooKeeper from Debian's jars, the null server of this program.
//!
//! Each lives on a scratch directory of the caller and a port that was free a moment before, writes its output to
//! `server.log` there, and is killed when the value is dropped. Both real servers read the same `zoo.cfg`, with defaults
//! but for `maxClientCnxns=0` and no admin server. Served means that a session was opened and a read answered.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::conn::Plain;
use crate::failure::{Failure, Outcome, Tried, demand};
use crate::wire;
use crate::workload::Target;

/// How long a server may take until it serves; recovery of a million nodes on a busy machine included.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long one attempt to open a session waits for an answer, so that one swallowed at start costs little.
const ATTEMPT_PATIENCE: Duration = Duration::from_millis(1_000);

/// Pause between attempts: the resolution of start and recovery times.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

/// Where Debian puts its jars.
const JARS: &str = "/usr/share/java";

/// The manifest of the first names its dependencies; the second is a logger that costs nothing.
const APACHE_JARS: [&str; 2] = ["zookeeper.jar", "slf4j-nop.jar"];

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Ours,
    Apache,
    Null,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "zk-server",
            Self::Apache => "Apache 3.8.0",
            Self::Null => "null",
        })
    }
}

/// Whether transactions are forced to disk before they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forcing {
    On,
    Off,
}

impl fmt::Display for Forcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "fsync on",
            Self::Off => "fsync off",
        })
    }
}

/// The programs that serve.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    ours: PathBuf,
}

impl Programs {
    /// `ours` is the path of `zk-server`; by default it lies next to this program.
    pub(crate) fn find(ours: Option<PathBuf>) -> Outcome<Self> {
        let this = this_program()?;
        let ours = ours.unwrap_or_else(|| this.with_file_name("zk-server"));
        // Servers run in their own directories.
        let ours = std::path::absolute(&ours).tried(|| format!("resolve {}", ours.display()))?;
        Ok(Self { ours })
    }

    /// Fails early, with what to do, when a program of these kinds is missing.
    pub(crate) fn require(&self, kinds: &[Kind]) -> Outcome<()> {
        for kind in kinds {
            match kind {
                Kind::Null => {}
                Kind::Ours => require_file(
                    &self.ours,
                    "build it with `cargo build --release -p zk-server-lite` or name it with --server",
                )?,
                Kind::Apache => {
                    for jar in APACHE_JARS {
                        require_file(
                            &Path::new(JARS).join(jar),
                            "install Debian's package zookeeper, or leave Apache out with --without-apache",
                        )?;
                    }
                    let java = Command::new("java")
                        .arg("-version")
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status();
                    if !java.is_ok_and(|status| status.success()) {
                        return Err(Failure::Missing("no Java found: install default-jre-headless, or leave Apache out with --without-apache".into()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn require_file(path: &Path, remedy: &str) -> Outcome<()> {
    if path.is_file() {
        Ok(())
    } else {
        Err(Failure::Missing(format!(
            "{} is missing: {remedy}",
            path.display()
        )))
    }
}

fn this_program() -> Outcome<PathBuf> {
    std::env::current_exe().tried(|| "find this program".into())
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    child: Child,
    addr: SocketAddr,
    dir: PathBuf,
}

impl Server {
    /// Starts on `dir`, which it may have served before; returns at once.
    pub(crate) fn spawn(
        kind: Kind,
        programs: &Programs,
        dir: &Path,
        forcing: Forcing,
    ) -> Outcome<Self> {
        let addr = free_address()?;
        fs::create_dir_all(dir).tried(|| format!("create {}", dir.display()))?;
        let config = dir.join("zoo.cfg");
        let mut text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n",
            dir.join("data").display(),
            addr.port(),
        );
        let mut command = match kind {
            Kind::Ours => {
                if forcing == Forcing::Off {
                    text.push_str("forceSync=no\n");
                }
                let mut command = Command::new(&programs.ours);
                command.arg(&config);
                command
            }
            Kind::Apache => {
                let mut command = Command::new("java");
                command.arg("-Xmx2g");
                if forcing == Forcing::Off {
                    command.arg("-Dzookeeper.forceSync=no");
                }
                command.args([
                    "-cp",
                    &APACHE_JARS.map(|jar| format!("{JARS}/{jar}")).join(":"),
                ]);
                command
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
                    .arg(&config);
                command
            }
            Kind::Null => {
                let mut command = Command::new(this_program()?);
                command.args(["null", "--listen", &addr.to_string()]);
                command
            }
        };
        fs::write(&config, text).tried(|| format!("write {}", config.display()))?;
        let log = File::create(dir.join("server.log")).tried(|| "create server.log".into())?;
        let errors = log.try_clone().tried(|| "share server.log".into())?;
        let child = command
            .current_dir(dir)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .tried(|| format!("start {kind}"))?;
        Ok(Self {
            kind,
            child,
            addr,
            dir: dir.to_owned(),
        })
    }

    /// Starts and waits until it serves; the time from the start of the process to the first answered read.
    pub(crate) fn start(
        kind: Kind,
        programs: &Programs,
        dir: &Path,
        forcing: Forcing,
    ) -> Outcome<(Self, Duration)> {
        let begun = Instant::now();
        let mut server = Self::spawn(kind, programs, dir, forcing)?;
        server.serves("/")?;
        Ok((server, begun.elapsed()))
    }

    /// Waits until a read of this node is answered, for a recovering server too.
    pub(crate) fn serves(&mut self, path: &str) -> Outcome<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let served = match Plain::try_open(self.addr, ATTEMPT_PATIENCE) {
                // A server that starts may still drop the session it has just opened.
                Ok(mut plain) => plain.call(wire::get_data(path, false)).map(|(err, _)| err),
                Err(error) => Err(Failure::Io("could not open a session".into(), error)),
            };
            match served {
                Ok(err) => {
                    demand!(
                        err == 0,
                        "{} answers a read of {path} with {err}",
                        self.kind
                    );
                    return Ok(());
                }
                Err(failure) if Instant::now() > deadline => {
                    return Err(Failure::TimedOut(format!(
                        "{} does not serve ({failure}):\n{}",
                        self.kind,
                        self.log()
                    )));
                }
                Err(_) => {}
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::Missing(format!(
                    "{} ended with {status}:\n{}",
                    self.kind,
                    self.log()
                )));
            }
            pause();
        }
    }

    fn log(&self) -> String {
        let text = fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            addr: self.addr,
            pid: Some(self.pid()),
            exact: self.kind != Kind::Null,
        }
    }

    /// SIGKILL, and the end of the process awaited.
    pub(crate) fn kill(mut self) -> Outcome<()> {
        self.end().tried(|| format!("end {}", self.kind))
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which its user has seen as a lost connection.
        let _ended = self.end();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process offers nothing to wait for: its port is polled, with a deadline"
)]
fn pause() {
    std::thread::sleep(ATTEMPT_PAUSE);
}

/// A loopback port that nobody listens at right now.
fn free_address() -> Outcome<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).tried(|| "find a free port".into())?;
    listener.local_addr().tried(|| "find a free port".into())
}
