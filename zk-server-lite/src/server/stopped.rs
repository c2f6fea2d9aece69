//! A server after its end, and what it leaves for the next one.

use std::sync::Arc;

use super::{StartError, ZkServer, launch};
use crate::config::ServerConfig;
use crate::node::halt::Failure;
use crate::pipeline::Database;
use crate::storage::Disk;

/// A server that has stopped, and can be started again where it was.
#[derive(Debug)]
pub struct StoppedServer {
    pub(super) config: ServerConfig,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) remains: Option<Remains>,
    pub(super) failure: Option<Failure>,
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
    /// As [`ZkServerBuilder::start`](super::ZkServerBuilder::start); also when somebody took the port.
    ///
    /// # Cancellation
    /// As [`ZkServerBuilder::start`](super::ZkServerBuilder::start).
    pub async fn restart(self) -> Result<ZkServer, StartError> {
        launch::launch(self.config, self.disk, self.remains).await
    }
}

/// What a server in memory leaves for the next one.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) database: Database,
    pub(super) secret: [u8; 32],
}
