//! The session core: every rule of the protocol, no I/O, no clock, no runtime.
//!
//! [`SessionCore::handle`] takes one [`Input`] with the time at which it happened; afterwards
//! [`poll_output`](SessionCore::poll_output) yields what must be done, in order, [`outgoing`](SessionCore::outgoing) holds
//! bytes for the transport, and [`next_deadline`](SessionCore::next_deadline) says when to come back without an input.
//! The driver does what it is told, entirely, before the next input.
//!
//! | file | decides |
//! |---|---|
//! | `handshake` | what a connect response means |
//! | `inflight` | xids, matching, who waits for what |
//! | `keepalive` | pings, dead connections, local judgement of expiry |
//! | `watches` | who is told of an event, what is set again, what is removed |
//! | `reconnect` | which host next, and when |
//! | `attempts` | what became of each host's last attempt, in words |
//! | `auth` | credentials to send again |
//! | `frames` | what a frame from a server means |
//! | `end` | what ends a connection, a session or the client, and what that does to everything else |
//! | `patience` | how long requests wait for a connection |
//! | here | the phases, and what goes from one to the next |
//!
//! # Invariants
//!
//! * A request is on one connection at most, and is answered exactly once.
//! * The clock is looked at before the input: after a long pause the loss of the session is the first thing that comes out,
//!   and what a connection had to say by then is not heard any more (fs K3).
//! * An event comes out before the answer that shows its change, because frames are handled in the order of arrival.
//! * `closeSession` goes out only on the connection that carries the session.

mod attempts;
mod auth;
mod end;
mod event;
mod frames;
mod handshake;
mod inflight;
mod keepalive;
mod patience;
mod reconnect;
#[cfg(test)]
mod tests;
mod watches;

use std::collections::VecDeque;

use bytes::BytesMut;
use zk_proto::frame::FrameDecoder;
use zk_proto::session::{Password, Secret, SetWatches, WatcherTypeRequest};
use zk_proto::{OpCode, SessionId, Xid, Zxid};

use crate::error::{ErrorKind, Outcome};
use crate::session::SessionState;

use attempts::{Attempts, Why};
use auth::Credentials;
use end::End;
pub(crate) use event::{
    Answer, Input, Output, SessionEvent, Slot, Submission, Time, WatchKind, Watcher, WatcherId,
};
use handshake::Session;
use inflight::{InFlight, Purpose};
use keepalive::Keepalive;
use reconnect::Rotation;
use watches::{Delivery, Watches};

/// First look for a server that takes writes, and the longest pause between two (section 15.7).
const FIRST_PROBE_MS: u64 = 100;
const LONGEST_PROBE_MS: u64 = 60_000;
/// A server that speaks, and has answered none of so many pings, is no server of this session.
const MOST_PINGS: usize = 16;
/// With this much left to write there is no room for more requests.
const FULL_BYTES: usize = 4 << 20;

/// What a session is asked to be.
#[derive(Debug)]
pub(crate) struct Config {
    /// Their names, for errors.
    pub(crate) hosts: Vec<String>,
    pub(crate) timeout_ms: i32,
    pub(crate) allow_read_only: bool,
    /// Build a new session after one is lost.
    pub(crate) renew: bool,
    pub(crate) credentials: Vec<(String, Secret)>,
    pub(crate) max_frame: usize,
    pub(crate) max_in_flight: usize,
    /// How long requests wait for a connection.
    pub(crate) patience_ms: u64,
    /// How long the server's answer to a close is waited for.
    pub(crate) close_ms: u64,
    /// The longest wait before the first attempt after a lost connection.
    pub(crate) jitter_ms: u64,
    pub(crate) seed: u64,
}

/// Where the connection is in its life.
#[derive(Debug)]
enum Phase {
    /// No transport until then.
    Waiting { until: Time },
    /// The driver opens a transport.
    Opening { host: usize, deadline: Time },
    /// The connect request is on its way.
    Greeting { host: usize, deadline: Time },
    /// The session is attached.
    Live {
        host: usize,
        probing: Option<Probing>,
    },
    /// Nothing will happen any more.
    Over,
}

/// The search for a server that takes writes.
#[derive(Debug)]
struct Probing {
    /// `None` while a probe is out.
    next: Option<Time>,
    pause_ms: u64,
}

#[derive(Debug)]
pub(crate) struct SessionCore<S> {
    config: Config,
    phase: Phase,
    /// The session that lives, or may still live.
    session: Option<Session>,
    /// A server that takes writes has carried this session; what read-only servers give out is valid nowhere else.
    seen_writable: bool,
    last_zxid: Zxid,
    keepalive: Keepalive,
    rotation: Rotation,
    attempts: Attempts,
    /// Since when somebody waits for a connection.
    waiting_since: Option<Time>,
    /// What was told to those who waited in vain, until a server is reached.
    overdue: Option<std::sync::Arc<str>>,
    requests: InFlight<S>,
    watches: Watches,
    credentials: Credentials<S>,
    frames: FrameDecoder,
    closing: Option<Time>,
    state: SessionState,
    out: BytesMut,
    outputs: VecDeque<Output<S>>,
}

impl<S: Slot> SessionCore<S> {
    pub(crate) fn new(now: Time, mut config: Config) -> Self {
        let credentials = Credentials::new(std::mem::take(&mut config.credentials));
        let hosts = std::mem::take(&mut config.hosts);
        let timeout_ms = u64::try_from(config.timeout_ms).unwrap_or(1);
        Self {
            phase: Phase::Waiting { until: now },
            session: None,
            seen_writable: false,
            last_zxid: Zxid(0),
            keepalive: Keepalive::new(timeout_ms),
            rotation: Rotation::new(hosts.len(), config.jitter_ms, config.seed),
            attempts: Attempts::new(hosts),
            waiting_since: None,
            overdue: None,
            requests: InFlight::new(config.max_in_flight),
            watches: Watches::default(),
            credentials,
            frames: FrameDecoder::new(config.max_frame),
            closing: None,
            state: SessionState::Connecting,
            out: BytesMut::new(),
            outputs: VecDeque::new(),
            config,
        }
    }

    /// One thing that happened.
    pub(crate) fn handle(&mut self, now: Time, input: Input<'_, S>) {
        self.look_at_the_clock(now);
        match input {
            Input::Submit(submission, slot) => self.submit(now, submission, slot),
            Input::AddAuth { scheme, auth, slot } => self.add_auth(now, scheme, auth, slot),
            Input::Unwatch(watcher) => {
                self.watches.drop_watcher(&watcher);
                self.remove_stale(now, &watcher.path);
            }
            Input::Opened => self.opened(now),
            Input::Received(bytes) => self.received(now, bytes),
            Input::Disconnected(why) => self.disconnected(now, why.into()),
            Input::Probed { host, writable } => self.probed(now, host, writable),
            Input::Close => self.close(now, self.config.close_ms),
            Input::LetGo => self.let_go(now),
            Input::Tick => {}
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output<S>> {
        self.outputs.pop_front()
    }

    /// Bytes for the transport, in order. The driver takes them; what it could not write when the transport is dropped
    /// is void.
    pub(crate) fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// When to call [`handle`](Self::handle) at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let phase = match &self.phase {
            Phase::Over => return None,
            Phase::Waiting { until } => *until,
            Phase::Opening { deadline, .. } | Phase::Greeting { deadline, .. } => *deadline,
            Phase::Live { probing, .. } => {
                let alive = self.keepalive.read_deadline().min(self.keepalive.ping_at());
                let probe = probing.as_ref().and_then(|probing| probing.next);
                probe.map_or(alive, |probe| alive.min(probe))
            }
        };
        let expiry = self.session_expiry().unwrap_or(phase);
        let closing = self.closing.unwrap_or(phase);
        let patience = self.patience_ends().unwrap_or(phase);
        Some(phase.min(expiry).min(closing).min(patience))
    }

    /// From when on the session is given up, whatever a server says later.
    pub(crate) fn session_expiry(&self) -> Option<Time> {
        self.session.as_ref().map(|_| self.keepalive.expiry())
    }

    /// From when on a server may have ended the session, or its connection counts as dead, whether or not anybody has
    /// noticed.
    pub(crate) fn session_doubt(&self) -> Option<Time> {
        self.session.as_ref().map(|_| self.keepalive.doubt())
    }

    /// Whether more requests should be given in; more are taken all the same.
    pub(crate) fn has_room(&self) -> bool {
        self.requests.has_room()
            && self.credentials.unanswered() < self.config.max_in_flight
            && self.out.len() < FULL_BYTES
    }

    /// Requests that are sent and not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.requests.in_flight()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Deadlines that have passed, the gravest first.
    fn look_at_the_clock(&mut self, now: Time) {
        if self.closing.is_some_and(|deadline| now >= deadline) {
            self.finish(End::Closed { confirmed: false });
        }
        if self.session_expiry().is_some_and(|expiry| now >= expiry) {
            self.lose_session(now);
        }
        if self.patience_ends().is_some_and(|end| now >= end) {
            self.give_up_waiting();
        }
        match &mut self.phase {
            Phase::Waiting { until } if now >= *until => self.connect(now),
            Phase::Opening { deadline, .. } if now >= *deadline => {
                self.drop_connection(now, "no connection in time".into());
            }
            Phase::Greeting { deadline, .. } if now >= *deadline => {
                self.drop_connection(now, "connected, but no handshake in time".into());
            }
            Phase::Live { .. } if now >= self.keepalive.read_deadline() => {
                self.drop_connection(now, "nothing heard for too long".into());
            }
            Phase::Live { host, probing } => {
                if let Some(probing) = probing
                    && probing.next.is_some_and(|at| now >= at)
                {
                    match self.rotation.peek_other(*host) {
                        Some(other) => {
                            probing.next = None;
                            self.outputs.push_back(Output::Probe { host: other });
                        }
                        // The only server may find its ensemble again: the next connection shows.
                        None => {
                            probing.next = None;
                            self.outputs.push_back(Output::Probe { host: *host });
                        }
                    }
                }
                if now >= self.keepalive.ping_at() {
                    if self.keepalive.unanswered_pings() == MOST_PINGS {
                        return self.drop_connection(now, "no ping is answered".into());
                    }
                    inflight::put(&mut self.out, Xid::PING, OpCode::PING, &[]);
                    self.keepalive.pinged(now);
                }
            }
            _ => {}
        }
    }

    fn session_id(&self) -> SessionId {
        self.session
            .as_ref()
            .map_or(SessionId(0), |session| session.id)
    }

    fn set_state(&mut self, state: SessionState) {
        if self.state != state {
            tracing::info!(?state, "session state");
            self.state = state;
            self.outputs.push_back(Output::State(state));
        }
    }

    fn connect(&mut self, now: Time) {
        let host = self.rotation.take();
        let allowed_ms = self.keepalive.connect_ms(self.rotation.hosts());
        self.phase = Phase::Opening {
            host,
            deadline: now.plus(allowed_ms),
        };
        self.attempts.begun(host);
        self.outputs.push_back(Output::Connect { host, allowed_ms });
    }

    fn opened(&mut self, now: Time) {
        let Phase::Opening { host, deadline } = self.phase else {
            return;
        };
        // What a read-only server gave out is unknown to the others.
        let known = self.session.as_ref().filter(|_| self.seen_writable);
        handshake::put_request(
            &mut self.out,
            known,
            self.last_zxid,
            self.config.timeout_ms,
            self.config.allow_read_only,
        );
        self.phase = Phase::Greeting { host, deadline };
        self.keepalive.pinged(now);
    }

    /// The session is attached: credentials, watches, requests, in this order (section 15.4).
    fn attached(&mut self, now: Time, session: Session, timeout_ms: u64, read_only: bool) {
        let Phase::Greeting { host, .. } = self.phase else {
            return;
        };
        let had = self.session.is_some();
        self.keepalive.set_timeout(timeout_ms);
        self.keepalive.heard(now);
        self.keepalive.ponged();
        self.keepalive.sent(now);
        self.rotation.attached(now);
        self.attempts.succeeded();
        (self.waiting_since, self.overdue) = (None, None);
        self.seen_writable |= !read_only;
        let probing = read_only.then(|| Probing {
            next: Some(now.plus(FIRST_PROBE_MS)),
            pause_ms: FIRST_PROBE_MS,
        });
        self.phase = Phase::Live { host, probing };
        self.set_state(SessionState::Connected {
            session: session.id,
            read_only,
        });
        self.session = Some(session);
        self.credentials.replay(&mut self.out);
        self.set_watches_again(now);
        if had {
            let gaps = self.watches.gaps();
            self.deliver(gaps);
        }
        self.send_unsent(now);
        if self.closing.is_some() {
            self.send_close(now);
        }
    }

    fn set_watches_again(&mut self, now: Time) {
        for (batch, persistent) in self.watches.batches(self.last_zxid) {
            let (requests, out) = (&mut self.requests, &mut self.out);
            if persistent {
                requests.send_own(now, OpCode::SET_WATCHES2, &batch, Purpose::Upkeep, out);
            } else {
                let batch = SetWatches {
                    relative_zxid: batch.relative_zxid,
                    data_watches: batch.data_watches,
                    exist_watches: batch.exist_watches,
                    child_watches: batch.child_watches,
                };
                requests.send_own(now, OpCode::SET_WATCHES, &batch, Purpose::Upkeep, out);
            }
        }
    }

    fn submit(&mut self, now: Time, submission: Submission<'_>, slot: S) {
        if slot.is_abandoned() {
            // Its future was dropped before it could be sent.
            return;
        }
        match self.phase {
            Phase::Over => {
                let kind = match self.state {
                    SessionState::AuthFailed => ErrorKind::AuthFailed,
                    SessionState::Lost { .. } => ErrorKind::SessionExpired,
                    _ => ErrorKind::Closed,
                };
                self.fail(submission.op, submission.path, slot, kind, Outcome::NotDone);
            }
            _ if self.closing.is_some() => {
                let (op, path) = (submission.op, submission.path);
                self.fail(op, path, slot, ErrorKind::Closed, Outcome::NotDone);
            }
            Phase::Live { .. } if !self.requests.has_unsent() && self.requests.may_send() => {
                self.send(now, submission, slot);
            }
            _ => {
                self.waiting_since.get_or_insert(now);
                self.requests.queue(submission, slot);
            }
        }
    }

    fn send(&mut self, now: Time, submission: Submission<'_>, slot: S) {
        if let (Some(_), Some(path)) = (submission.watch, &submission.path) {
            self.watches.sent(path);
        }
        self.requests.send(now, submission, slot, &mut self.out);
        self.keepalive.sent(now);
    }

    fn send_unsent(&mut self, now: Time) {
        while self.requests.may_send()
            && let Some((submission, slot)) = self.requests.next_unsent()
        {
            if !slot.is_abandoned() {
                self.send(now, submission, slot);
            }
        }
    }

    fn add_auth(&mut self, now: Time, scheme: String, auth: Secret, slot: S) {
        if self.is_over() || self.closing.is_some() {
            let kind = match self.state {
                SessionState::AuthFailed => ErrorKind::AuthFailed,
                _ => ErrorKind::Closed,
            };
            return self.fail(OpCode::AUTH, None, slot, kind, Outcome::NotDone);
        }
        let live = matches!(self.phase, Phase::Live { .. });
        let out = live.then_some(&mut self.out);
        self.credentials.add(scheme, auth, slot, out);
        if live {
            self.keepalive.sent(now);
        } else {
            self.waiting_since.get_or_insert(now);
        }
    }

    fn remove_stale(&mut self, now: Time, path: &str) {
        if !matches!(self.phase, Phase::Live { .. }) || self.closing.is_some() {
            return;
        }
        for watcher_type in self.watches.removable(path) {
            let request = WatcherTypeRequest {
                path: path.into(),
                watcher_type,
            };
            let (requests, out) = (&mut self.requests, &mut self.out);
            requests.send_own(now, OpCode::REMOVE_WATCHES, &request, Purpose::Upkeep, out);
            self.keepalive.sent(now);
        }
    }

    fn probed(&mut self, now: Time, other: usize, writable: bool) {
        let Phase::Live {
            probing: Some(probing),
            ..
        } = &mut self.phase
        else {
            return;
        };
        if writable {
            // The connection has done what it was for.
            self.rotation.succeeded();
            self.rotation.prefer(other);
            self.drop_connection(now, "left for a server that takes writes".into());
        } else {
            probing.pause_ms = (probing.pause_ms * 2).min(LONGEST_PROBE_MS);
            probing.next = Some(now.plus(probing.pause_ms));
            // The next probe is for the next host.
            self.rotation.take();
        }
    }

    /// The driver's transport is gone.
    fn disconnected(&mut self, now: Time, why: Why) {
        if matches!(
            self.phase,
            Phase::Opening { .. } | Phase::Greeting { .. } | Phase::Live { .. }
        ) {
            self.drop_connection(now, why);
        }
    }

    /// The number and the password of the session that lives, or may.
    pub(crate) fn password(&self) -> Option<(SessionId, Password)> {
        let session = self.session.as_ref()?;
        Some((session.id, session.password.clone()))
    }

    fn deliver(&mut self, told: Vec<Delivery>) {
        let outputs = told
            .into_iter()
            .map(|(watcher, event, last)| Output::Event {
                watcher,
                event,
                last,
            });
        self.outputs.extend(outputs);
    }
}
