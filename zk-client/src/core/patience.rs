//! Waiting for a connection: how long, and what those are told who waited in vain. It must not know why there is none.

use std::sync::Arc;

use zk_proto::OpCode;

use super::event::{Output, Slot, Time};
use super::{Phase, SessionCore};
use crate::error::{ErrorKind, Outcome};

impl<S: Slot> SessionCore<S> {
    /// When those who wait for a connection have waited long enough.
    pub(super) fn patience_ends(&self) -> Option<Time> {
        let since = self
            .waiting_since
            .filter(|_| !matches!(self.phase, Phase::Live { .. }))?;
        Some(since.plus(self.config.patience_ms))
    }

    /// Nobody took the session for as long as a request may wait. All that wait are told, not only the first: a later
    /// write must not happen where an earlier one did not (fs C18).
    pub(super) fn give_up_waiting(&mut self) {
        self.waiting_since = None;
        let words = self.attempts.words(self.config.patience_ms);
        tracing::warn!(%words, "requests have waited long enough");
        self.overdue = Some(words.clone());
        self.outputs.push_back(Output::Overdue);
        self.fail_unsent(|| ErrorKind::Unreachable(words.clone()));
        for slot in self.credentials.take_waiting() {
            let kind = ErrorKind::Unreachable(words.clone());
            self.fail(OpCode::AUTH, None, slot, kind, Outcome::NotDone);
        }
    }

    /// The error of a request that was under way when others were lost.
    pub(crate) fn loss(&self) -> ErrorKind {
        match &self.overdue {
            Some(words) => ErrorKind::Unreachable(words.clone()),
            None => ErrorKind::ConnectionLost,
        }
    }

    /// What was tried to reach a server, for somebody who waited that long.
    pub(crate) fn tried(&self, waited_ms: u64) -> Arc<str> {
        self.attempts.words(waited_ms)
    }
}
