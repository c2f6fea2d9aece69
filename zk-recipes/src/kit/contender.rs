//! A node in a queue, until its turn.
//!
//! Creates the node, lists the queue, watches the one node in front and the own one, and says when it is the own node's turn,
//! or why it never will be. Knows the order from [`contend`](super::contend) only; must not know what the turn is for, nor
//! whether to queue again after a setback. Invariants: at most two watches, on the own node and on the one whose end lets us
//! go on, set by reads that leave none on a node that is not there; a turn is reported only if a list read under the session
//! that owns our node showed it in front.

use bytes::Bytes;
use zk_client::{Client, Error, ErrorKind, NodeData, OneshotWatch, WatchedEvent};
use zk_proto::session::{EventType, KeeperState};
use zk_proto::{Acl, ErrorCode, SessionId, ZPath, ZPathBuf};

use super::contend::{Contenders, Standing};
use super::link::{Link, LinkWatch};
use super::protected::{self, Entry};

/// What keeps a contender from its turn.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The session that owned the node is over.
    SessionEnded,
    /// Somebody deleted the node.
    NodeGone,
    /// The client is closed.
    Closed,
    /// A request failed.
    Failed(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::SessionExpired | ErrorKind::Server(ErrorCode::SESSION_EXPIRED) => {
                Self::SessionEnded
            }
            ErrorKind::Closed => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// Where and how to queue.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// A patient view.
    pub(crate) client: &'a Client,
    pub(crate) parent: ZPath<'a>,
    pub(crate) contenders: &'a Contenders,
    pub(crate) acl: Option<&'a [Acl]>,
}

impl Place<'_> {
    /// The names of the children now; none where the parent is missing.
    pub(crate) async fn children(&self) -> Result<Vec<String>, Error> {
        match self.client.get_children(self.parent).send().await {
            Ok(children) => Ok(children.names),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// A node in the queue. Dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Contender<'a> {
    place: Place<'a>,
    link: LinkWatch,
    entry: Entry,
    own: Own,
    /// The list that was read along with the create, until it was looked at.
    listed: Option<Vec<String>>,
    warned: bool,
}

/// The own node: how far it is watched, and what it last held.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) watch: Option<OneshotWatch>,
    /// The data as last read, and its version; `None` before the first read.
    pub(crate) data: Option<(i32, Bytes)>,
}

impl<'a> Contender<'a> {
    /// Creates the node.
    ///
    /// # Cancellation
    ///
    /// Safe: the node is removed in the background.
    pub(crate) async fn enter(place: Place<'a>, data: Bytes) -> Result<Self, Setback> {
        let link = LinkWatch::new(place.client);
        // Polled in this order, so sent in this order: the list, when all goes well, shows our node and saves a round trip.
        let (entry, listed) = tokio::join!(
            biased;
            protected::enter(place.client, place.parent, place.contenders.marker(), data, place.acl),
            place.children(),
        );
        let entry = entry?;
        Ok(Self {
            place,
            link,
            entry,
            own: Own::default(),
            // What is wrong with the list will show again when it is asked for alone.
            listed: listed.ok(),
            warned: false,
        })
    }

    /// Waits until the own node is among the first `leases`.
    ///
    /// # Cancellation
    ///
    /// Safe: the place in the queue stays until the contender is dropped, and the wait can be taken up again.
    pub(crate) async fn turn(&mut self, leases: usize) -> Result<(), Setback> {
        loop {
            match self.next_step(leases).await? {
                None => return Ok(()),
                Some(front) => self.wait_for(&front).await?,
            }
        }
    }

    /// Whether it is the own node's turn already.
    ///
    /// # Cancellation
    ///
    /// As [`turn`](Self::turn).
    pub(crate) async fn is_turn(&mut self, leases: usize) -> Result<bool, Setback> {
        Ok(self.next_step(leases).await?.is_none())
    }

    /// The parts, for whoever keeps what was won.
    pub(crate) fn into_parts(self) -> (Entry, Own, LinkWatch) {
        (self.entry, self.own, self.link)
    }

    /// Gives the place up, and waits until the node is gone.
    ///
    /// # Cancellation
    ///
    /// Safe: the worker finishes.
    pub(crate) async fn leave(mut self) -> Result<(), Error> {
        let path = self.entry.ticket.path();
        self.place.client.delete(path).idempotent().send().await?;
        self.entry.ticket.disarm();
        Ok(())
    }

    fn session(&self) -> SessionId {
        self.entry.session()
    }

    /// `None` if it is our turn; else the node that is to be waited for.
    async fn next_step(&mut self, leases: usize) -> Result<Option<ZPathBuf>, Setback> {
        loop {
            let along = self.listed.take();
            let fresh = along.is_none();
            let children = match along {
                Some(children) => children,
                None => self.place.children().await?,
            };
            let names = children.iter().map(String::as_str);
            let found = self
                .place
                .contenders
                .standing(names, self.entry.name(), leases);
            if let (Some(foreign), false) = (found.foreign, self.warned) {
                self.warned = true;
                tracing::warn!(path = %self.place.parent, child = foreign, "a child that is no contender is ignored");
            }
            match found.standing {
                Standing::WaitFor(name) => {
                    let front = self
                        .place
                        .parent
                        .join(name)
                        .map_err(|_| Setback::NodeGone)?;
                    return Ok(Some(front));
                }
                Standing::Hold => {
                    if self.own.watch.is_none() {
                        self.read_own().await?;
                    }
                    match self.link.now() {
                        // What was read was answered under the session that owns the node.
                        Link::Connected(session) if session == self.session() => return Ok(None),
                        // Nobody is told that it is his turn while that is in doubt: look again when connected.
                        Link::Suspended(session) if session == self.session() => {
                            self.link.usable().await;
                        }
                        Link::Closed => return Err(Setback::Closed),
                        _ => return Err(Setback::SessionEnded),
                    }
                }
                // The list read along with the create may have overtaken a create that had to be repeated.
                Standing::Vanished if !fresh => {}
                Standing::Vanished => return Err(self.vanished()),
            }
        }
    }

    /// The own node is not there, or another one has its name.
    fn vanished(&mut self) -> Setback {
        match self.link.now() {
            Link::Closed => Setback::Closed,
            // A server that this session has reached shows what the session made, if it is there.
            link if link.session() == Some(self.session()) => {
                self.entry.ticket.disarm();
                Setback::NodeGone
            }
            _ => Setback::SessionEnded,
        }
    }

    /// Reads and watches the own node; checks that it is ours.
    async fn read_own(&mut self) -> Result<(), Setback> {
        let path = self.entry.ticket.path();
        let (node, watch) = match self.place.client.get_data(path).watch().send().await {
            Ok(read) => read,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Err(self.vanished()),
            Err(error) => return Err(error.into()),
        };
        if !self.entry.is(&node.stat) {
            return Err(self.vanished());
        }
        self.own.saw(node, watch);
        Ok(())
    }

    /// Waits until something happened that can change our standing.
    async fn wait_for(&mut self, front: &ZPathBuf) -> Result<(), Setback> {
        let client = self.place.client;
        let watched = async { client.get_data(front.as_path()).watch().send().await };
        // One round trip for both; the own watch stands before the wait begins.
        let watched = if self.own.watch.is_none() {
            let (own, watched) = tokio::join!(biased; self.read_own(), watched);
            own?;
            watched
        } else {
            watched.await
        };
        let mut ahead = match watched {
            Ok((_, watch)) => watch,
            // Gone between the list and the read: no watch was left, look again.
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        loop {
            let session = self.entry.session();
            let own = self.own.watch.as_mut();
            let event = tokio::select! {
                biased;
                link = self.link.over(session) => {
                    return Err(if link == Link::Closed { Setback::Closed } else { Setback::SessionEnded });
                }
                event = async { match own { Some(watch) => watch.await, None => std::future::pending().await } } => {
                    self.own.watch = None;
                    end_of(&event)?;
                    if event.kind == EventType::NODE_DELETED {
                        return Err(self.vanished());
                    }
                    None
                }
                event = &mut ahead => Some(event),
            };
            match event {
                Some(event) => return end_of(&event),
                // The own data changed (a request to let go, before we even hold): note it, and watch on.
                None => self.read_own().await?,
            }
        }
    }
}

impl Own {
    /// Notes what was read.
    pub(crate) fn saw(&mut self, node: NodeData, watch: OneshotWatch) {
        self.watch = Some(watch);
        self.data = Some((node.stat.version, node.data));
    }
}

/// An event that ends its watch is a setback.
fn end_of(event: &WatchedEvent) -> Result<(), Setback> {
    if !event.is_end() {
        return Ok(());
    }
    Err(if event.state == KeeperState::CLOSED {
        Setback::Closed
    } else {
        Setback::SessionEnded
    })
}
