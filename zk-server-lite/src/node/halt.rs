//! How a server ends: asked to, or because it must not go on.
//!
//! A panic in any of its tasks or threads, or a disk that failed, ends the whole server: one task missing would be a server
//! that answers some and not others.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Why a server ended without being asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The data directory failed. Nothing that was not forced was acknowledged.
    #[error("the data directory failed: {0}")]
    Disk(String),
    /// A defect of this server: one of its tasks panicked.
    #[error("a task of the server panicked: {0}")]
    Panic(&'static str),
    /// The listening socket failed.
    #[error("the listening socket failed: {0}")]
    Listen(String),
}

/// The server has ended or is about to: whoever gets this stops without a word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Halted;

/// One per server: the word to stop, and the reason if nobody asked for it.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    token: CancellationToken,
    failure: Mutex<Option<Failure>>,
}

impl Halt {
    /// Ends the server because it must not go on. The first reason stays.
    pub(crate) fn fail(&self, failure: Failure) {
        tracing::error!(%failure, "the server stops");
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(failure);
        self.token.cancel();
    }

    /// Ends the server because somebody asked for it.
    pub(crate) fn stop(&self) {
        self.token.cancel();
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the server if the holder is dropped by a panic.
    pub(crate) fn guard(&self, task: &'static str) -> PanicGuard<'_> {
        PanicGuard { halt: self, task }
    }
}

/// See [`Halt::guard`].
#[derive(Debug)]
pub(crate) struct PanicGuard<'a> {
    halt: &'a Halt,
    task: &'static str,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.halt.fail(Failure::Panic(self.task));
        }
    }
}
