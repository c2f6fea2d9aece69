//! The handle: a way into the session's task, and the view through which its user sees the tree.
//!
//! Operations are in `ops`; it must not know sockets or the protocol.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use zk_proto::session::{Password, Secret};
use zk_proto::{ErrorCode, OpCode, SessionId, Xid, Zxid};

use crate::builder::ClientBuilder;
pub(crate) use crate::core::{SessionEvent, WatchKind};
use crate::driver::lane::Entrance;
use crate::driver::mailbox::Control;
pub(crate) use crate::driver::mailbox::Registration;
use crate::error::{Error, ErrorKind, Outcome};
use crate::namespace::View;
use crate::reaper::Reaper;
use crate::session::{SessionEvents, SessionState, Trust, agreed};

/// A session with ZooKeeper. Cheap to clone; all clones, and all views made of them, share one session.
///
/// The session's task ends with the last handle: it closes the session at the server (for which it has a second, also to
/// find a connection where it has none), and lets go of the socket. [`close`](Self::close) tries harder and says whether
/// it worked.
///
/// # Requests and lost connections
///
/// Requests are sent in the order in which they are first polled and are answered in that order. When the connection is
/// lost, those that were sent fail with [`ConnectionLost`](ErrorKind::ConnectionLost) and an unknown outcome; they are
/// never sent twice. Those behind them that were not sent yet fail with the same error, as not done: so a later write of
/// one session implies the earlier ones. A request whose future is dropped before it was sent is not sent.
///
/// Requests made while there is no connection wait for the next one, 15 seconds unless the builder's
/// [`connect_patience`](ClientBuilder::connect_patience) says otherwise. They fail, as not done, with
/// [`Unreachable`](ErrorKind::Unreachable) and what was tried when none came, and with
/// [`SessionExpired`](ErrorKind::SessionExpired) when the session ended first. On a connection a request waits as long as
/// the server takes, unless a [`Retry`](crate::retry::Retry) has a deadline; a server that says nothing at all, to pings
/// neither, is left after two thirds of the session timeout.
///
/// Data that the server sent shares the memory of what was read from the socket in one go (32 KiB or more): copy what
/// you mean to keep for long.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    view: Arc<View>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lane: Entrance,
    pub(crate) control: mpsc::UnboundedSender<Control>,
    pub(crate) reaper: Reaper,
    pub(crate) state: watch::Receiver<SessionState>,
    pub(crate) changes: broadcast::WeakSender<SessionState>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) credentials: watch::Receiver<Option<(SessionId, Password)>>,
}

/// An answer without an error: the code is OK, or NONODE for an exists with a watch.
#[derive(Debug)]
pub(crate) struct RawReply {
    pub(crate) zxid: Zxid,
    pub(crate) xid: Xid,
    pub(crate) session: SessionId,
    pub(crate) body: Bytes,
    pub(crate) code: ErrorCode,
    /// Rare, and large.
    pub(crate) registration: Option<Box<Registration>>,
}

/// A handle that does not keep the session.
#[derive(Debug, Clone)]
pub(crate) struct WeakClient(Weak<Shared>);

impl WeakClient {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    pub(crate) fn upgrade(&self) -> Option<Client> {
        let shared = self.0.upgrade()?;
        Some(Client::new(shared, View::default()))
    }
}

impl Client {
    /// Connects with the defaults of [`ClientBuilder`]: `host[:port][,host[:port]...][/chroot]`.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), zk_client::Error> {
    /// let client = zk_client::Client::connect("zk1:2181,zk2:2181,zk3:2181/app").await?;
    /// client.create("/config", "on").await?;
    /// client.close().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    ///
    /// # Cancellation
    ///
    /// Safe: nothing is left behind but, maybe, a session that closes itself.
    pub async fn connect(hosts: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(hosts)?.connect().await
    }

    /// Options before connecting.
    ///
    /// # Errors
    ///
    /// The connect string is malformed.
    pub fn builder(hosts: impl AsRef<str>) -> Result<ClientBuilder, Error> {
        ClientBuilder::new(hosts.as_ref())
    }

    pub(crate) fn new(shared: Arc<Shared>, view: View) -> Self {
        Self {
            shared,
            view: Arc::new(view),
        }
    }

    /// The state of the session, to look at and to wait for changes of. Changes that follow each other quickly are seen
    /// as one; see [`session_events`](Self::session_events) for all of them.
    ///
    /// After the process was stopped for a while, this may still show what was before; the session's task has not run
    /// yet. [`current_state`](Self::current_state) knows better.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.shared.state.clone()
    }

    /// The state by the clock of this moment: a session of which nothing was heard for too long is
    /// [`Lost`](SessionState::Lost), whether or not the session's task has had the time to notice.
    pub fn current_state(&self) -> SessionState {
        let (state, is_over) = self.with_state(Trust::is_over);
        match state.session() {
            Some(session) if is_over => SessionState::Lost { session },
            _ => state,
        }
    }

    /// How much longer the session can be relied on without word from a server. Zero means doubt: what hangs on the session
    /// must be looked at again, or done no more, whatever [`state`](Self::state) still shows after a pause of the process.
    /// Zero, too, while the session is not attached to a server, or to one that is cut off from its ensemble: there the others
    /// may end it unseen.
    ///
    /// Two things end it, whichever comes first. The server may end the session a whole timeout after it last heard from
    /// this client; all that is known of that moment is that it was not before the newest request (or ping) that is
    /// answered was *sent*. An answer that was long on its way leaves less, and one that took the whole timeout nothing. And
    /// after two thirds of the timeout without a word the connection counts as dead.
    ///
    /// This is not a fence. The clocks of both sides are taken to run at one speed (that of a machine that sleeps stands
    /// still), and a follower that is cut off from its
    /// leader answers for a while (`syncLimit`) in a session that the leader is about to end. What must never be done twice
    /// needs the lock node's `czxid` checked where it is done.
    pub fn trusted_for(&self) -> Duration {
        match self.with_state(Trust::remaining) {
            (
                SessionState::Connected {
                    read_only: false, ..
                },
                remaining,
            ) => remaining,
            _ => Duration::ZERO,
        }
    }

    /// The state with what the clock says of it.
    fn with_state<T>(&self, look: impl Fn(&Trust) -> T) -> (SessionState, T) {
        agreed(|| *self.shared.state.borrow(), || look(&self.shared.trust))
    }

    /// Every change of the state from now on.
    pub fn session_events(&self) -> SessionEvents {
        let changes = self.shared.changes.upgrade();
        SessionEvents::new(changes.map_or_else(
            // The task has ended: nothing will change.
            || broadcast::channel(1).1,
            |changes| changes.subscribe(),
        ))
    }

    /// The session that lives, or was the last one; 0 before the first. It may change at any moment: replies that belong to a
    /// session say so themselves.
    pub fn session_id(&self) -> SessionId {
        match *self.shared.state.borrow() {
            SessionState::Connected { session, .. }
            | SessionState::Suspended { session }
            | SessionState::Lost { session } => session,
            _ => SessionId(0),
        }
    }

    /// The number and the password of the session that lives, or may; `None` where there is none. Whoever has both has the
    /// session: with them another connection can take it over, or end it, as tests of lost sessions do.
    pub fn session_credentials(&self) -> Option<(SessionId, Password)> {
        self.shared.credentials.borrow().clone()
    }

    /// Adds credentials to the session, on this connection and on every later one, as ZooKeeper's `addAuthInfo`:
    /// `("digest", "user:password")` for the usual scheme.
    ///
    /// ```no_run
    /// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
    /// client.add_auth("digest", "bob:secret").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AuthFailed`](ErrorKind::AuthFailed) when the server refuses them: the client is then of no further use, as with
    /// ZooKeeper's own. A lost connection is none: credentials are sent again. [`Unreachable`](ErrorKind::Unreachable) when
    /// there was no connection for as long as a request waits; the credentials stay with the client all the same.
    ///
    /// # Cancellation
    ///
    /// Once polled, the credentials may stay with the session.
    pub async fn add_auth(
        &self,
        scheme: impl Into<String>,
        auth: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let (scheme, auth) = (scheme.into(), Secret::from(auth.into()));
        let failed = |kind, outcome| Error::new(OpCode::AUTH, None, kind, outcome);
        let lane = self.lane();
        let Some(room) = lane.room().await else {
            return Err(failed(self.end(), Outcome::NotDone));
        };
        let Some(mut ticket) = lane.add_auth(room, scheme, auth, Waker::noop()) else {
            return Err(failed(self.end(), Outcome::NotDone));
        };
        match poll_fn(|cx| ticket.poll_answer(cx)).await {
            Some(answer) => answer.map(drop),
            // The runtime was shut down under the task.
            None => Err(failed(ErrorKind::Closed, Outcome::Unknown)),
        }
    }

    /// Ends the session at the server, after all requests that were submitted before, and with it its ephemeral nodes
    /// and watches. All handles are closed. Without a connection it tries to get one; a third of the session timeout
    /// altogether at most.
    ///
    /// # Errors
    ///
    /// [`ConnectionLost`](ErrorKind::ConnectionLost) with an unknown outcome, where no server confirmed it: this client is
    /// closed all the same, and the session ends by its timeout.
    ///
    /// # Cancellation
    ///
    /// Once polled, the client closes.
    pub async fn close(&self) -> Result<(), Error> {
        let (closer, closed) = oneshot::channel();
        if self.shared.control.send(Control::Close(closer)).is_err() {
            return Ok(());
        }
        match closed.await {
            Ok(true) => Ok(()),
            // The task's end without a word: it was closed by somebody else at the same time.
            Err(_) => Ok(()),
            Ok(false) => Err(Error::connection_lost(
                OpCode::CLOSE_SESSION,
                None,
                Outcome::Unknown,
            )),
        }
    }

    /// The error of somebody who waited that long for a connection.
    pub(crate) async fn unreachable(&self, waited: Duration) -> ErrorKind {
        let (asker, words) = oneshot::channel();
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        // A task that has ended answers neither.
        drop(self.shared.control.send(Control::Tried(waited_ms, asker)));
        match words.await {
            Ok(words) => ErrorKind::Unreachable(words),
            Err(_) => ErrorKind::Closed,
        }
    }

    /// The way to the session's task.
    pub(crate) fn lane(&self) -> &Entrance {
        &self.shared.lane
    }

    /// How often requests were lost so far; see [`Trust::losses`].
    pub(crate) fn losses(&self) -> u64 {
        self.shared.trust.losses()
    }

    /// Why the task takes nothing more.
    pub(crate) fn end(&self) -> ErrorKind {
        match *self.shared.state.borrow() {
            SessionState::AuthFailed => ErrorKind::AuthFailed,
            SessionState::Lost { .. } => ErrorKind::SessionExpired,
            _ => ErrorKind::Closed,
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn shared_view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    pub(crate) fn with_view(&self, view: View) -> Self {
        Self::new(Arc::clone(&self.shared), view)
    }

    pub(crate) fn reaper(&self) -> &Reaper {
        &self.shared.reaper
    }
}
