//! Our server, in this process, from the same settings as Apache ZooKeeper: as `zoo.cfg` text. Knows no test.
//!
//! Blocking, so that tests with and without a runtime can use it. The server has its own thread; what is asynchronous in
//! starting it is driven on a thread of its own too, so a call from inside a runtime is fine.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;

use zk_server_lite::config::zoo_cfg;
use zk_server_lite::{StoppedServer, ZkServer, ZkServerBuilder};

use crate::target::Options;

/// A server that runs, or has been ended and can be started again.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(ZkServer),
    Stopped(Box<StoppedServer>),
    /// A start failed; there is nothing to start again.
    Lost,
}

impl Server {
    /// Starts a server whose data lie in `directory`, on a free port.
    ///
    /// # Errors
    /// When a setting is refused or only warned about, or the server does not start.
    pub fn start(options: &Options, directory: &Path) -> Result<Self, String> {
        let mut text = format!(
            "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort=0\n",
            directory.join("data").display()
        );
        for (key, value) in options.iter() {
            text.push_str(&format!("{key}={value}\n"));
        }
        let (config, warnings) = zoo_cfg::parse(&text).map_err(|error| error.to_string())?;
        if !warnings.is_empty() {
            return Err(format!(
                "settings of a test that the server does not take: {warnings:?}"
            ));
        }
        let server = drive(async { ZkServerBuilder::from_config(config).start().await })?;
        let server = server.map_err(|error| error.to_string())?;
        let addr = server.addr().ok_or("the server has no port")?;
        Ok(Self {
            addr,
            state: State::Running(server),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The server itself, for the faults that it can be asked for; `None` while it does not run.
    #[must_use]
    pub fn server(&self) -> Option<&ZkServer> {
        match &self.state {
            State::Running(server) => Some(server),
            State::Stopped(_) | State::Lost => None,
        }
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn kill(&mut self) -> Result<(), String> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Running(server) => {
                self.state = State::Stopped(Box::new(drive(async { server.crash().await })?));
            }
            other => self.state = other,
        }
        Ok(())
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.kill()?;
        let State::Stopped(stopped) = std::mem::replace(&mut self.state, State::Lost) else {
            return Err("an earlier start failed".to_owned());
        };
        let server =
            drive(async { stopped.restart().await })?.map_err(|error| error.to_string())?;
        self.state = State::Running(server);
        Ok(())
    }
}

/// Runs a future to its end on a thread and a runtime of its own.
fn drive<T: Send>(work: impl Future<Output = T> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let driven = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.map(|runtime| runtime.block_on(work))
        });
        match driven.join() {
            Ok(result) => result.map_err(|error| format!("no runtime: {error}")),
            Err(_) => Err("the server's start panicked".to_owned()),
        }
    })
}
