//! The one task of a session: lane, transport, timer, and the core between them. No rule of the protocol is here.
//!
//! Each turn takes what is ready (bytes, a batch of requests, a deadline), gives it to the core, does what the core says,
//! and writes what it left to send in one go. Reading goes on while writing waits: neither side can block the other.

pub(crate) mod lane;
pub(crate) mod mailbox;
pub(crate) mod transport;

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};
use zk_proto::SessionId;
use zk_proto::session::Password;

use crate::client::RawReply;
use crate::core::{Answer, Input, Output, SessionCore, Submission, Time, WatcherId};
use crate::error::{Error, Outcome};
use crate::hosts::Host;
use crate::session::{SessionState, Trust};
use lane::{Command, Exit, ReplySlot};
use mailbox::{Control, Registration, Sink};
use transport::{Connector, Transport};

/// Room for each read, and how much one turn reads at most before it answers.
const READ_BYTES: usize = 32 * 1024;
const READ_TURN_BYTES: usize = 512 * 1024;
/// How many turns with work may go by before what they left to send is written.
const MAX_UNWRITTEN_TURNS: u32 = 4;
/// From so many requests in flight on, more are expected at any moment.
const BUSY: usize = 16;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Link {
    Down,
    Opening(BoxFuture<std::io::Result<Box<dyn Transport>>>),
    Up(Box<dyn Transport>),
}

/// What the handles of a client read.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) state: watch::Sender<SessionState>,
    pub(crate) changes: broadcast::Sender<SessionState>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) credentials: watch::Sender<Option<(SessionId, Password)>>,
}

pub(crate) struct Driver {
    core: SessionCore<ReplySlot>,
    hosts: Vec<Host>,
    connector: Connector,
    origin: Instant,
    link: Link,
    probe: Option<BoxFuture<(usize, bool)>>,
    /// Attempts so far; successive ones begin with different addresses of a name.
    attempts: usize,
    requests: Exit,
    /// Handles are there, and nobody has closed the client.
    open: bool,
    control: mpsc::UnboundedReceiver<Control>,
    /// For the registrations that are handed out.
    control_sender: mpsc::UnboundedSender<Control>,
    /// This turn's, in their order.
    answers: Vec<(ReplySlot, Result<RawReply, Error>)>,
    received: BytesMut,
    sinks: HashMap<WatcherId, Sink>,
    closers: Vec<oneshot::Sender<bool>>,
    publisher: Publisher,
    unwritten_turns: u32,
}

/// The ends that the task holds.
pub(crate) struct Ends {
    pub(crate) requests: Exit,
    pub(crate) control: mpsc::UnboundedReceiver<Control>,
    pub(crate) control_sender: mpsc::UnboundedSender<Control>,
    pub(crate) publisher: Publisher,
}

impl Driver {
    /// `core` counts milliseconds from `origin`.
    pub(crate) fn new(
        core: SessionCore<ReplySlot>,
        hosts: Vec<Host>,
        connector: Connector,
        origin: Instant,
        ends: Ends,
    ) -> Self {
        Self {
            core,
            hosts,
            connector,
            origin,
            link: Link::Down,
            probe: None,
            attempts: 0,
            requests: ends.requests,
            open: true,
            control: ends.control,
            control_sender: ends.control_sender,
            answers: Vec::new(),
            received: BytesMut::new(),
            sinks: HashMap::new(),
            closers: Vec::new(),
            publisher: ends.publisher,
            unwritten_turns: 0,
        }
    }

    /// Runs until the session is over for good: closed, refused, or let go by its last handle.
    pub(crate) async fn run(mut self) {
        let mut timer = pin!(tokio::time::sleep_until(self.origin));
        self.handle(Input::Tick);
        while !self.core.is_over() {
            if let Some(deadline) = self.core.next_deadline() {
                let at = self.origin + Duration::from_millis(deadline.0);
                if timer.deadline() != at {
                    timer.as_mut().reset(at);
                }
            }
            std::future::poll_fn(|cx| self.poll_turn(cx, timer.as_mut())).await;
            if self.unwritten_turns > 0 && self.core.in_flight() >= BUSY {
                // Others are about to submit: let them, and write once for all.
                tokio::task::yield_now().await;
            }
        }
        // What came in too late is answered, not dropped.
        self.take_last();
        while let Ok(control) = self.control.try_recv() {
            if let Control::Close(closer) = control {
                // Whoever closes a client that is over already has what it wants.
                let _ = closer.send(true);
            }
        }
    }

    fn now(&self) -> Time {
        let elapsed = self.origin.elapsed().as_millis();
        Time(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn handle(&mut self, input: Input<'_, ReplySlot>) {
        let now = self.now();
        self.core.handle(now, input);
        self.act();
    }

    /// Takes everything that is ready; pending if nothing was.
    fn poll_turn(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<()> {
        let mut worked = false;
        if timer.poll(cx).is_ready() {
            self.handle(Input::Tick);
            worked = true;
        }
        worked |= self.poll_control(cx);
        worked |= self.poll_requests(cx);
        worked |= self.poll_opening(cx);
        worked |= self.poll_read(cx);
        worked |= self.poll_probe(cx);
        // More may be ready already, and goes out with the same write.
        if worked && self.unwritten_turns < MAX_UNWRITTEN_TURNS {
            self.unwritten_turns += 1;
        } else {
            self.unwritten_turns = 0;
            let had_room = self.core.has_room();
            worked |= self.poll_write(cx);
            // What was written may have made room for requests that wait.
            worked |= !had_room && self.core.has_room();
        }
        self.publisher.trust.set(
            ms(self.core.session_doubt()),
            ms(self.core.session_expiry()),
        );
        if worked || self.core.is_over() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn poll_control(&mut self, cx: &mut Context<'_>) -> bool {
        let mut worked = false;
        while let Poll::Ready(Some(control)) = self.control.poll_recv(cx) {
            worked = true;
            match control {
                Control::Unwatch(watcher) => {
                    self.sinks.remove(&watcher.id);
                    self.handle(Input::Unwatch(watcher));
                }
                Control::Close(closer) => {
                    self.closers.push(closer);
                    // What was submitted before the close goes before it.
                    self.take_last();
                    self.handle(Input::Close);
                }
                Control::Tried(waited_ms, asker) => {
                    // An asker that went away needs no answer.
                    let _ = asker.send(self.core.tried(waited_ms));
                }
            }
        }
        worked
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) -> bool {
        let mut worked = false;
        while self.open && self.core.has_room() {
            let Poll::Ready(more) = self.requests.poll_ready(cx) else {
                break;
            };
            worked = true;
            let now = self.now();
            // What the clock says comes first, so that a loss is counted before these are looked at.
            self.core.handle(now, Input::Tick);
            self.act();
            if more {
                while self.core.has_room()
                    && let Some((command, slot, bytes)) = self.requests.next()
                {
                    let (trust, answers) = (&self.publisher.trust, &mut self.answers);
                    submit(&mut self.core, trust, now, command, slot, bytes, answers);
                }
            } else {
                // The last handle is gone, or the client is being closed.
                self.open = false;
                self.core.handle(now, Input::LetGo);
            }
            self.act();
        }
        worked
    }

    /// Lets nothing more in and takes what is there.
    fn take_last(&mut self) {
        self.requests.close();
        let now = self.now();
        self.core.handle(now, Input::Tick);
        self.act();
        while let Some((command, slot, bytes)) = self.requests.last() {
            let (trust, answers) = (&self.publisher.trust, &mut self.answers);
            submit(&mut self.core, trust, now, command, slot, bytes, answers);
        }
        self.act();
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) -> bool {
        let Link::Opening(opening) = &mut self.link else {
            return false;
        };
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else {
            return false;
        };
        match opened {
            Ok(transport) => {
                self.link = Link::Up(transport);
                self.handle(Input::Opened);
            }
            Err(error) => {
                self.link = Link::Down;
                self.handle(Input::Disconnected(error.to_string()));
            }
        }
        true
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut total = 0;
        while total < READ_TURN_BYTES
            && let Link::Up(transport) = &mut self.link
        {
            // Room grows with what has come, not with what was announced.
            if self.received.capacity() - self.received.len() < READ_BYTES / 4 {
                self.received.reserve(READ_BYTES.max(self.received.len()));
            }
            let read = pin!(transport.read_buf(&mut self.received)).poll(cx);
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => {
                    total += count;
                    let now = self.now();
                    self.core.handle(now, Input::Received(&mut self.received));
                    self.act();
                }
                Poll::Ready(end) => {
                    total += 1;
                    self.link = Link::Down;
                    self.handle(Input::Disconnected(in_words(end)));
                }
            }
        }
        total > 0
    }

    /// True if the connection broke: what comes next must be polled, and the timer set, before the task may rest.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        while let Link::Up(transport) = &mut self.link {
            let out = self.core.outgoing();
            if out.is_empty() {
                return false;
            }
            match pin!(transport.write_buf(out)).poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(end) => {
                    self.link = Link::Down;
                    self.handle(Input::Disconnected(in_words(end)));
                    return true;
                }
            }
        }
        false
    }

    fn poll_probe(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(probe) = &mut self.probe else {
            return false;
        };
        let Poll::Ready((host, writable)) = probe.as_mut().poll(cx) else {
            return false;
        };
        self.probe = None;
        self.handle(Input::Probed { host, writable });
        true
    }

    /// Does what the core decided, in its order.
    fn act(&mut self) {
        while let Some(output) = self.core.poll_output() {
            if !matches!(output, Output::Reply(..)) {
                // Whoever sees what comes after an answer can see the answer.
                self.requests.answer(&mut self.answers);
            }
            match output {
                Output::Reply(slot, result) => {
                    let result = result.map(|answer| self.raw_reply(answer));
                    self.answers.push((slot, result));
                }
                Output::Event {
                    watcher,
                    event,
                    last,
                } => {
                    let sink = if last {
                        self.sinks.remove(&watcher)
                    } else {
                        None
                    };
                    // A receiver that is gone has its `Unwatch` on the way.
                    match sink {
                        Some(Sink::Once(sink)) => drop(sink.send(event)),
                        Some(Sink::Stream(sink)) => drop(sink.send(event)),
                        None => {
                            if let Some(Sink::Stream(sink)) = self.sinks.get(&watcher) {
                                let _ = sink.send(event);
                            }
                        }
                    }
                }
                Output::State(state) => {
                    // A state with a session finds its moments there; that a session is over stays known until the
                    // state says so.
                    let (doubt, expiry) = (self.core.session_doubt(), self.core.session_expiry());
                    if state.session().is_some() {
                        self.publisher.trust.set(ms(doubt), ms(expiry));
                    }
                    self.publisher
                        .credentials
                        .send_replace(self.core.password());
                    self.publisher.state.send_replace(state);
                    if state.session().is_none() {
                        self.publisher.trust.set(u64::MAX, u64::MAX);
                    }
                    // Without readers there is nobody to tell.
                    let _ = self.publisher.changes.send(state);
                }
                Output::Connect { host, allowed_ms } => {
                    self.received.clear();
                    let allowed = Duration::from_millis(allowed_ms);
                    let name = self.hosts[host].clone();
                    tracing::debug!(host = %name, "connecting");
                    let opening = self.connector.open(name, allowed, self.attempts);
                    self.attempts = self.attempts.wrapping_add(1);
                    self.link = Link::Opening(opening);
                }
                Output::Disconnect { lost } => {
                    if lost {
                        self.publisher.trust.count_loss();
                    }
                    self.link = Link::Down;
                    self.probe = None;
                    self.received.clear();
                }
                Output::Overdue => self.publisher.trust.count_loss(),
                Output::Probe { host } => {
                    let (connector, name) = (self.connector.clone(), self.hosts[host].clone());
                    self.probe = Some(Box::pin(async move { (host, connector.probe(name).await) }));
                }
                Output::Over { confirmed } => {
                    for closer in self.closers.drain(..) {
                        let _ = closer.send(confirmed);
                    }
                }
            }
        }
        self.requests.answer(&mut self.answers);
    }

    fn raw_reply(&mut self, answer: Answer) -> RawReply {
        let registration = answer.watcher.map(|watcher| {
            let id = watcher.id;
            let (registration, sink) = Registration::new(watcher, self.control_sender.clone());
            self.sinks.insert(id, sink);
            Box::new(registration)
        });
        RawReply {
            zxid: answer.zxid,
            xid: answer.xid,
            session: answer.session,
            code: answer.code,
            body: answer.body,
            registration,
        }
    }
}

/// Gives a command to the core; nothing of a request that others were lost before (fs C18).
fn submit(
    core: &mut SessionCore<ReplySlot>,
    trust: &Trust,
    now: Time,
    command: Command,
    slot: ReplySlot,
    bytes: &[u8],
    answers: &mut Vec<(ReplySlot, Result<RawReply, Error>)>,
) {
    let input = match command {
        Command::Submit {
            op,
            watch,
            body,
            losses,
        } => {
            let (watch, path) = watch.unzip();
            if losses != trust.losses() && !core.is_over() {
                let error = Error::new(op, path, core.loss(), Outcome::NotDone);
                answers.push((slot, Err(error)));
                return;
            }
            let body = bytes[body].into();
            let submission = Submission {
                op,
                path,
                body,
                watch,
            };
            Input::Submit(submission, slot)
        }
        Command::AddAuth { scheme, auth } => Input::AddAuth { scheme, auth, slot },
    };
    core.handle(now, input);
}

/// How a transport ended.
fn in_words(end: std::io::Result<usize>) -> String {
    match end {
        Ok(_) => "the server closed the connection".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A moment of the core as the number it is shared by; `u64::MAX` for none.
fn ms(at: Option<Time>) -> u64 {
    at.map_or(u64::MAX, |at| at.0)
}
