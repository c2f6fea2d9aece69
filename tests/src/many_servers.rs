//! Fresh Apache ZooKeepers by the hundred, one after the other in one JVM (`tests/java/ManyServers.java`): for shrinking a
//! history, where starting a process for each try would eat the time. Not for judging.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::apache::{Distribution, config_text, four_letter, free_port, properties};
use crate::differential::execute::Stage;
use crate::java;
use crate::talker::Talker;
use crate::target::Options;
use crate::wait::PATIENCE;

/// The JVM, and the server that runs in it.
#[derive(Debug)]
pub struct ManyServers {
    talker: Talker,
    options: Options,
    current: Option<(TempDir, SocketAddr)>,
    _classes: TempDir,
}

impl ManyServers {
    /// Starts the JVM, without a server.
    ///
    /// # Errors
    /// When there is no compiler, or the JVM does not start.
    pub fn start(distribution: &Distribution, options: &Options) -> Result<Self, String> {
        let classes = TempDir::new().map_err(|error| error.to_string())?;
        let jars = [distribution.class_path.clone().into()];
        java::compile("ManyServers", &jars, classes.path())?;
        let class_path = java::class_path(&[
            distribution.class_path.clone().into(),
            classes.path().to_owned(),
        ]);
        let mut command = Command::new(&distribution.java);
        command
            .args(java::QUICK_START)
            .args(properties(options))
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
            .args(["-cp", &class_path, "ManyServers"])
            .stderr(Stdio::null());
        let talker = Talker::start("ManyServers", &mut command)?;
        Ok(Self {
            talker,
            options: options.clone(),
            current: None,
            _classes: classes,
        })
    }

    /// Ends the server there was and starts an empty one; returns when it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn fresh(&mut self) -> Result<(), String> {
        let scratch = TempDir::new().map_err(|error| error.to_string())?;
        let addr = free_port().map_err(|error| error.to_string())?;
        let config = scratch.path().join("zoo.cfg");
        let text = config_text(&self.options, scratch.path(), addr.port());
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        self.run(&config, addr)?;
        // The one before has ended: its directory may go.
        self.current = Some((scratch, addr));
        Ok(())
    }

    /// Ends the server there was, runs one on `config` and waits until it serves.
    fn run(&mut self, config: &Path, addr: SocketAddr) -> Result<(), String> {
        self.talker.tell(&format!("start {}", config.display()));
        // Some distributions log to the standard output.
        loop {
            let line = self.talker.hear();
            if line == "started" {
                break;
            }
            if line.starts_with("failed ") {
                return Err(line);
            }
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while !four_letter(addr, "srvr").is_ok_and(|answer| answer.contains("Mode: ")) {
            let line = self.talker.poll(Duration::from_millis(2));
            if let Some(failed) = line.filter(|line| line.starts_with("failed ")) {
                return Err(failed);
            }
            if std::time::Instant::now() > deadline {
                return Err(format!("nobody serves at {addr} within {PATIENCE:?}"));
            }
        }
        Ok(())
    }
}

impl Stage for ManyServers {
    fn addr(&self) -> SocketAddr {
        match &self.current {
            Some((_, addr)) => *addr,
            // Nobody listens there.
            None => SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// Not as a crash would: it is ended in order.
    fn restart(&mut self) -> Result<(), String> {
        let (config, addr) = match &self.current {
            Some((scratch, addr)) => (scratch.path().join("zoo.cfg"), *addr),
            None => return Err("there is no server".to_owned()),
        };
        self.run(&config, addr)
    }
}
