//! What ends a connection, a session or the client, and what that does to everything else: requests are answered, watches
//! told, the next attempt planned. Each is told in the order that user code may rely on.

use std::collections::VecDeque;

use bytes::BytesMut;
use zk_proto::session::KeeperState;
use zk_proto::{OpCode, SessionId, Zxid};

use super::attempts::Why;
use super::event::{Output, Slot, Time};
use super::inflight::{Purpose, Sent};
use super::{Phase, SessionCore};
use crate::error::{Error, ErrorKind, Outcome};
use crate::session::SessionState;

/// How long a client that nobody holds tries to close its session.
pub(super) const LET_GO_MS: u64 = 1_000;

/// Why a session, or the client, is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Expired(SessionId),
    AuthFailed,
    Closed { confirmed: bool },
}

impl End {
    fn error(self) -> ErrorKind {
        match self {
            Self::Expired(_) => ErrorKind::SessionExpired,
            Self::AuthFailed => ErrorKind::AuthFailed,
            Self::Closed { .. } => ErrorKind::Closed,
        }
    }

    fn keeper_state(self) -> KeeperState {
        match self {
            Self::Expired(_) => KeeperState::EXPIRED,
            Self::AuthFailed => KeeperState::AUTH_FAILED,
            Self::Closed { .. } => KeeperState::CLOSED,
        }
    }

    fn state(self) -> SessionState {
        match self {
            Self::Expired(session) => SessionState::Lost { session },
            Self::AuthFailed => SessionState::AuthFailed,
            Self::Closed { .. } => SessionState::Closed,
        }
    }
}

impl<S: Slot> SessionCore<S> {
    /// Nobody holds the client, and nobody waits for its end. Without a connection it tries for one all the same, as long as
    /// an answer may take: what hangs on the session (the node of an acquire that was given up) would else be in the way
    /// of others for a whole timeout.
    pub(super) fn let_go(&mut self, now: Time) {
        self.close(now, LET_GO_MS.min(self.config.close_ms));
    }

    pub(super) fn close(&mut self, now: Time, patience_ms: u64) {
        if self.is_over() || self.closing.is_some() {
            return;
        }
        self.closing = Some(now.plus(patience_ms));
        match &mut self.phase {
            Phase::Live { .. } => {
                self.send_unsent(now);
                self.send_close(now);
            }
            // There is a session, but no connection: attach once more to end it, as long as a close may take. That may be
            // shorter than the wait before the next attempt.
            Phase::Waiting { until } if self.session.is_some() => *until = now,
            _ if self.session.is_some() => {}
            _ => self.finish(End::Closed { confirmed: true }),
        }
    }

    pub(super) fn send_close(&mut self, now: Time) {
        let (requests, out) = (&mut self.requests, &mut self.out);
        requests.send_own(now, OpCode::CLOSE_SESSION, &Nothing, Purpose::Close, out);
    }

    /// Gives the connection up, whoever began it, and plans the next.
    pub(super) fn drop_connection(&mut self, now: Time, why: Why) {
        let was_live = matches!(self.phase, Phase::Live { .. });
        if let Phase::Opening { host, .. }
        | Phase::Greeting { host, .. }
        | Phase::Live { host, .. } = self.phase
        {
            tracing::debug!(session = %self.session_id(), host, %why, "the connection is given up");
            self.attempts.failed(host, why);
        }
        self.out.clear();
        self.keepalive.connection_lost();
        self.credentials.connection_lost();
        self.watches.connection_lost();
        let sent = self.requests.take_sent();
        let lost = sent
            .iter()
            .any(|sent| matches!(sent.purpose, Purpose::User(_)));
        self.outputs.push_back(Output::Disconnect { lost });
        if was_live && let Some(session) = &self.session {
            let session = session.id;
            self.set_state(SessionState::Suspended { session });
        }
        self.fail_sent(sent, || ErrorKind::ConnectionLost);
        if lost {
            // A later write must not happen where an earlier one did not (fs C18).
            self.fail_unsent(|| ErrorKind::ConnectionLost);
        }
        if was_live {
            let waits = self.requests.has_unsent() || self.credentials.has_waiting();
            self.waiting_since = waits.then_some(now);
        }
        // A close without an answer goes on: the next handshake is refused, or carries another close.
        let until = if was_live {
            self.rotation.after_loss(now)
        } else {
            self.rotation.after_failure(now)
        };
        self.phase = Phase::Waiting { until };
        if now >= until {
            self.connect(now);
        }
    }

    /// The session is over; the client may go on with a new one.
    pub(super) fn lose_session(&mut self, now: Time) {
        let Some(session) = self.session.take() else {
            return;
        };
        let end = End::Expired(session.id);
        if self.closing.is_some() {
            return self.finish(End::Closed { confirmed: true });
        }
        if !self.config.renew {
            return self.finish(end);
        }
        self.end_session(end);
        let since = self.waiting_since.unwrap_or(now);
        self.waiting_since = self.credentials.has_waiting().then_some(since);
        self.phase = Phase::Waiting {
            until: self.rotation.after_expiry(now),
        };
    }

    /// Everything that ends with a session, told in the order that user code may rely on: the state first.
    fn end_session(&mut self, end: End) {
        self.set_state(end.state());
        self.outputs.push_back(Output::Disconnect { lost: true });
        self.out.clear();
        self.keepalive.connection_lost();
        self.credentials.connection_lost();
        let told = self.watches.end(end.keeper_state());
        self.deliver(told);
        let sent = self.requests.take_sent();
        self.fail_sent(sent, || end.error());
        self.fail_unsent(|| end.error());
        self.session = None;
        self.seen_writable = false;
        // A session that starts from nothing has seen nothing: a restored ensemble must not lock the client out.
        self.last_zxid = Zxid(0);
        let timeout_ms = u64::try_from(self.config.timeout_ms).unwrap_or(1);
        self.keepalive.set_timeout(timeout_ms);
    }

    pub(super) fn finish(&mut self, end: End) {
        if self.is_over() {
            return;
        }
        self.end_session(end);
        for slot in self.credentials.take_waiting() {
            self.fail(OpCode::AUTH, None, slot, end.error(), Outcome::NotDone);
        }
        self.phase = Phase::Over;
        self.closing = None;
        let confirmed = matches!(end, End::Closed { confirmed: true } | End::Expired(_));
        self.outputs.push_back(Output::Over { confirmed });
    }

    fn fail_sent(&mut self, sent: VecDeque<Sent<S>>, kind: impl Fn() -> ErrorKind) {
        for sent in sent {
            if let Purpose::User(slot) = sent.purpose {
                self.fail(sent.op, sent.path, slot, kind(), Outcome::Unknown);
            }
        }
    }

    pub(super) fn fail_unsent(&mut self, kind: impl Fn() -> ErrorKind) {
        for (submission, slot) in self.requests.take_unsent() {
            let (op, path) = (submission.op, submission.path);
            self.fail(op, path, slot, kind(), Outcome::NotDone);
        }
    }

    pub(super) fn fail(
        &mut self,
        op: OpCode,
        path: Option<String>,
        slot: S,
        kind: ErrorKind,
        outcome: Outcome,
    ) {
        let error = Error::new(op, path, kind, outcome);
        self.outputs.push_back(Output::Reply(slot, Err(error)));
    }
}

/// The body of closeSession.
struct Nothing;

impl zk_proto::jute::Encode for Nothing {
    fn encode(&self, _out: &mut BytesMut) {}
}
