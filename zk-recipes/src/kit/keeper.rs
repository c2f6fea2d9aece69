//! A node that holds, until it is released or lost.
//!
//! A [`Hold`] is shared by the guards of one acquisition; a task keeps watch over its node and its session and tells the state.
//! The rules of the states are [`tenure`](super::tenure)'s. It must not know which recipe holds. Invariants: while the hold is
//! not over, a ticket owns the node; a look at the node counts only if the connection stood from its request to its reply; the
//! task ends with the node, so that nothing of a hold is left once its node is gone.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::watch;
use zk_client::{Client, Error, ErrorKind, NodeData, OneshotWatch};
use zk_proto::session::{EventType, KeeperState};
use zk_proto::{ErrorCode, SessionId, Stat, ZPath, ZPathBuf};

use super::contender::Own;
use super::link::{Link, LinkWatch};
use super::protected::Entry;
use super::reaper::NodeTicket;
use super::tenure::{Input, Loss, TenureState};

/// Something held. Dropping it lets go in the background.
#[derive(Debug)]
pub(crate) struct Hold {
    shared: Arc<Shared>,
    link: LinkWatch,
    /// Owns the node until it is known to be gone.
    ticket: Mutex<Option<NodeTicket>>,
}

/// What the hold and its keeper both see.
#[derive(Debug)]
struct Shared {
    client: Client,
    path: ZPathBuf,
    stat: Stat,
    state: watch::Sender<TenureState>,
    /// The node's data with its version, each time it was read.
    data: watch::Sender<(i32, Bytes)>,
}

/// What a release found.
#[derive(Debug)]
pub(crate) enum ReleaseError {
    /// There was nothing left to release.
    Lost(Loss),
    /// The server refused.
    Failed(Error),
}

impl Hold {
    /// Starts to keep watch. `link` must have seen no change later than the last proof that the node is ours.
    pub(crate) fn begin(client: &Client, entry: Entry, own: Own, link: LinkWatch) -> Self {
        let shared = Arc::new(Shared {
            client: client.clone(),
            path: entry.ticket.path().to_owned(),
            stat: entry.stat,
            state: watch::Sender::new(TenureState::Held),
            data: watch::Sender::new(own.data.unwrap_or_default()),
        });
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            link: link.clone(),
            own: own.watch,
        };
        tokio::spawn(keeper.run());
        Self {
            shared,
            link,
            ticket: Mutex::new(Some(entry.ticket)),
        }
    }

    pub(crate) fn path(&self) -> ZPath<'_> {
        self.shared.path.as_path()
    }

    pub(crate) fn stat(&self) -> &Stat {
        &self.shared.stat
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The state, with the session asked anew: after a pause of the whole process the keeper may not have run yet. Silence
    /// is a doubt while it lasts, and is not remembered: it ends when the server is heard, or becomes a change of the link.
    pub(crate) fn state(&self) -> TenureState {
        match self.shared.learn(Input::Link(self.link.now())) {
            TenureState::Held if self.link.in_doubt() => TenureState::Suspended,
            state => state,
        }
    }

    /// A follower of the state.
    pub(crate) fn states(&self) -> watch::Receiver<TenureState> {
        self.shared.state.subscribe()
    }

    /// A follower of the node's data.
    pub(crate) fn data(&self) -> watch::Receiver<(i32, Bytes)> {
        self.shared.data.subscribe()
    }

    /// Waits for the loss; forever, if it is released first. Each poll asks the session anew, so that a task which wakes from
    /// a long pause learns of the loss before it goes on.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(crate) async fn lost(&self) -> Loss {
        let mut states = self.states();
        let mut over = std::pin::pin!(async move {
            if states.wait_for(|state| state.is_final()).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let mut ended = false;
        std::future::poll_fn(|cx| {
            if let TenureState::Lost(loss) = self.state() {
                return Poll::Ready(loss);
            }
            // Released, or news that the next look at the state shows.
            if !ended && over.as_mut().poll(cx).is_ready() {
                ended = true;
                if let TenureState::Lost(loss) = self.state() {
                    return Poll::Ready(loss);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Looks at the node.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub(crate) async fn verify(&self) -> Result<TenureState, Error> {
        let shared = &self.shared;
        if self.state().is_final() {
            return Ok(self.state());
        }
        let mut link = self.link.clone();
        loop {
            link.mark_seen();
            match shared.client.get_data(shared.path.as_path()).send().await {
                Ok(node) if shared.is(&node.stat) => {
                    if link.stood(shared.session()) {
                        return Ok(shared.learn(Input::Seen));
                    }
                    let state = shared.learn(Input::Link(link.now()));
                    if state.is_final() {
                        return Ok(state);
                    }
                }
                Ok(_) => return Ok(shared.gone(link.now())),
                Err(error) => return shared.told_by(error, link.now()),
            }
        }
    }

    /// Deletes the node, through lost connections.
    ///
    /// # Cancellation
    ///
    /// Safe: the worker finishes.
    pub(crate) async fn release(&self) -> Result<(), ReleaseError> {
        if let TenureState::Lost(loss) = self.state() {
            return Err(ReleaseError::Lost(loss));
        }
        // From here on nobody may count on it, whether or not the node is still there.
        self.shared.learn(Input::Released);
        let shared = &self.shared;
        let delete = shared.client.delete(shared.path.as_path());
        match delete.idempotent().send().await {
            Ok(()) => {
                if let Some(mut ticket) = self.take_ticket() {
                    ticket.disarm();
                }
                Ok(())
            }
            Err(error) => Err(match error.kind() {
                ErrorKind::SessionExpired => ReleaseError::Lost(Loss::SessionEnded),
                ErrorKind::Closed => ReleaseError::Lost(Loss::ClientClosed),
                _ => ReleaseError::Failed(error),
            }),
        }
    }

    fn take_ticket(&self) -> Option<NodeTicket> {
        self.ticket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Nobody can ask any more; the ticket is dropped next, and the keeper stays until the node is gone.
        if self.shared.learn(Input::Released) == TenureState::Lost(Loss::NodeDeleted)
            && let Some(mut ticket) = self.take_ticket()
        {
            ticket.disarm();
        }
    }
}

impl Shared {
    fn session(&self) -> SessionId {
        SessionId(self.stat.ephemeral_owner)
    }

    fn is(&self, found: &Stat) -> bool {
        found.ephemeral_owner == self.stat.ephemeral_owner && found.czxid == self.stat.czxid
    }

    /// Takes an input in; returns the state after it.
    fn learn(&self, input: Input) -> TenureState {
        let session = self.session();
        let mut after = TenureState::Held;
        self.state.send_if_modified(|state| {
            after = state.after(session, input);
            let news = after != *state;
            if news {
                tracing::debug!(path = %self.path, %session, from = ?*state, to = ?after, "tenure");
                *state = after;
            }
            news
        });
        after
    }

    /// Takes in that the node is not there. Whose fault that is, the link tells.
    fn gone(&self, link: Link) -> TenureState {
        self.learn(Input::Link(link));
        self.learn(Input::Gone)
    }

    /// Takes in what a failed look says about the end of the tenure; hands back what says nothing.
    fn told_by(&self, error: Error, link: Link) -> Result<TenureState, Error> {
        match error.kind() {
            ErrorKind::Server(ErrorCode::NO_NODE) => Ok(self.gone(link)),
            ErrorKind::SessionExpired => Ok(self.learn(Input::Link(Link::Between))),
            ErrorKind::Closed => Ok(self.learn(Input::Link(Link::Closed))),
            _ => Err(error),
        }
    }
}

/// The task.
struct Keeper {
    shared: Arc<Shared>,
    link: LinkWatch,
    own: Option<OneshotWatch>,
}

/// A read of the own node under way, with a new watch where the old one is used up.
type Look = Pin<Box<dyn Future<Output = Seen> + Send>>;
type Seen = Result<(NodeData, Option<OneshotWatch>), Error>;

impl Keeper {
    async fn run(mut self) {
        let mut look: Option<Look> = self.own.is_none().then(|| self.look());
        while !self.is_over(look.is_some()) {
            let (own, looking) = (self.own.as_mut(), look.as_mut());
            tokio::select! {
                biased;
                link = self.link.changed() => {
                    self.shared.learn(Input::Link(link));
                    // A look that was under way saw another connection.
                    look = matches!(link, Link::Connected(_)).then(|| self.look());
                    if link == Link::Closed {
                        return;
                    }
                }
                event = async { match own { Some(watch) => watch.await, None => std::future::pending().await } } => {
                    self.own = None;
                    if event.is_end() {
                        let closed = event.state == KeeperState::CLOSED;
                        self.shared.learn(Input::Link(if closed { Link::Closed } else { Link::Between }));
                        return;
                    }
                    if event.kind == EventType::NODE_DELETED {
                        self.shared.gone(self.link.now());
                        return;
                    }
                    look = Some(self.look());
                }
                seen = async { match looking { Some(look) => look.await, None => std::future::pending().await } } => {
                    look = None;
                    if self.saw(seen) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether there is nothing left to keep watch over. A released hold is watched until its node is gone.
    fn is_over(&self, looking: bool) -> bool {
        match *self.shared.state.borrow() {
            TenureState::Lost(_) => true,
            TenureState::Released => self.own.is_none() && !looking,
            _ => false,
        }
    }

    fn look(&self) -> Look {
        let shared = Arc::clone(&self.shared);
        let watched = self.own.is_some();
        Box::pin(async move {
            let read = shared.client.get_data(shared.path.as_path());
            if watched {
                read.send().await.map(|node| (node, None))
            } else {
                read.watch()
                    .send()
                    .await
                    .map(|(node, watch)| (node, Some(watch)))
            }
        })
    }

    /// Takes a look's result in; true if that is the end.
    fn saw(&mut self, seen: Seen) -> bool {
        match seen {
            Ok((node, watch)) if self.shared.is(&node.stat) => {
                if watch.is_some() {
                    self.own = watch;
                }
                let version = node.stat.version;
                self.shared.data.send_if_modified(|data| {
                    let news = data.0 != version;
                    if news {
                        *data = (version, node.data);
                    }
                    news
                });
                self.shared.learn(Input::Seen);
                false
            }
            Ok(_) => {
                self.shared.gone(self.link.now());
                true
            }
            Err(error) => match self.shared.told_by(error, self.link.now()) {
                Ok(state) => state.is_final(),
                Err(error) => {
                    // The node cannot be read (its access list was changed): in doubt is all that can be said.
                    tracing::warn!(path = %self.shared.path, %error, "the own node cannot be verified");
                    false
                }
            },
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.learn(Input::Unattended);
    }
}
