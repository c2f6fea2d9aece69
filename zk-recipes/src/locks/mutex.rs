//! `InterProcessMutex`: fair, re-entrant mutual exclusion across processes.
//!
//! Here are the options, the ways to acquire, and what follows a setback; queueing, holding and their rules are the kit's. It
//! must not know sequence numbers or watches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use zk_client::{Client, IntoPath};
use zk_proto::frame::DEFAULT_MAX_FRAME;
use zk_proto::{Acl, ErrorCode, SessionId, ZPath, ZPathBuf};

use super::error::LockError;
use super::guard::{FencingToken, Held, MutexGuard};
use super::owner::{Holds, Owner};
use crate::kit::contend::Contenders;
use crate::kit::contender::{Contender, Place, Setback};
use crate::kit::keeper::Hold;
use crate::kit::link::{Link, LinkWatch};
use crate::kit::patient;
use crate::kit::tenure::TenureState;

/// What Curator's locks are named, before the sequence number.
const LOCK_NAME: &str = "lock-";
/// What a node may hold: with room for its path and access list, what fits into the largest frame that servers accept by
/// default.
const MAX_DATA: usize = DEFAULT_MAX_FRAME - (64 << 10);
/// How long an immediate attempt waits for the node of a guard of this instance that was dropped: a round trip, or a
/// connection that is about to come back.
const LEAVING_PATIENCE: Duration = Duration::from_secs(5);

/// A mutex between processes: one at a time holds it, first come first served. Same nodes as Curator's
/// `InterProcessMutex`, so Java and Rust can contend on one path.
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_recipes::LockError> {
/// use zk_recipes::InterProcessMutex;
///
/// let mutex = InterProcessMutex::new(&client, "/locks/report")?;
/// let guard = mutex.acquire().await?;
/// println!("ours, with token {}", guard.fencing_token());
/// guard.release().await
/// # }
/// ```
///
/// A clone is the same instance. Two instances on one path are two contenders, also in one process on one session: a task
/// that acquires one while holding the other waits for itself. Re-entry goes through a [guard](MutexGuard::reenter) or an
/// [`Owner`] of one instance.
///
/// # What a lost session means
///
/// | | holding | waiting |
/// |---|---|---|
/// | connection lost | guard `Suspended`: in doubt | goes on waiting: the place in the queue lives with the session |
/// | back, same session | the node is looked at, then `Held` again | nothing to do: the watches were restored |
/// | session over | guard `Lost`, for good; `release` says so | queues again at the back, with the new session; or [fails](MutexBuilder::fail_on_session_loss) |
/// | client closed | guard `Lost` | [`Closed`](LockError::Closed) |
#[derive(Clone, Debug)]
pub struct InterProcessMutex {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    path: ZPathBuf,
    contenders: Contenders,
    /// `None`: the client's default, asked at each create.
    data: Option<Bytes>,
    acl: Option<Vec<Acl>>,
    fail_on_session_loss: bool,
    owners: Holds<Held>,
    /// The states of holds that may still have a node.
    holds: Mutex<Vec<watch::Receiver<TenureState>>>,
}

/// Options of an [`InterProcessMutex`]. From [`InterProcessMutex::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct MutexBuilder {
    client: Client,
    path: String,
    contenders: Contenders,
    data: Option<Bytes>,
    acl: Option<Vec<Acl>>,
    fail_on_session_loss: bool,
}

impl MutexBuilder {
    /// What the lock's nodes hold, for operators to read: by default the client's
    /// [default data](zk_client::Client::default_data), this host's address, as with Curator. Keep it short.
    pub fn node_data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// Marks the lock as one whose holder listens to [revocations](MutexGuard::revocations): its nodes start empty, as
    /// Curator's revocable locks do. (A guard can be asked for revocations without this.)
    pub fn revocable(self) -> Self {
        self.node_data(Bytes::new())
    }

    /// The access list of the lock's nodes; open to anyone by default. All who contend must be able to read each other's nodes,
    /// or else their acquire fails with `NOAUTH` as soon as it has to wait; the creating session must be able to delete them in
    /// the parent. Parents that are made are open to anyone: make them yourself to restrict them.
    pub fn acl(mut self, acl: Vec<Acl>) -> Self {
        self.acl = Some(acl);
        self
    }

    /// Fails a waiting acquire with [`Lost`](LockError::Lost) when its session ends, or its node is deleted for another reason,
    /// instead of queueing again at the back.
    pub fn fail_on_session_loss(mut self) -> Self {
        self.fail_on_session_loss = true;
        self
    }

    /// Another name before the sequence number than Curator's `lock-`; children with other names are no contenders. With
    /// kazoo's `__lock__` a path can be shared with kazoo's `Lock`, and no longer with Curator.
    pub fn lock_name(mut self, name: impl Into<String>) -> Self {
        self.contenders = Contenders::marked(name);
        self
    }

    /// Also waits for children whose names end in `name` and a sequence number. One way only: whoever made them, Curator for
    /// one, may not wait for ours. Call after [`lock_name`](Self::lock_name).
    pub fn respect(mut self, name: impl Into<String>) -> Self {
        self.contenders = self.contenders.respecting(name);
        self
    }

    /// The mutex. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`BadPath`](LockError::BadPath) and [`BadName`](LockError::BadName): the path, or the lock's name, is malformed;
    /// [`TooLarge`](LockError::TooLarge).
    pub fn build(self) -> Result<InterProcessMutex, LockError> {
        let path = ZPathBuf::new(self.path).map_err(LockError::BadPath)?;
        let marker = self.contenders.marker();
        if !self.contenders.can_be_told() {
            return Err(LockError::BadName(marker.to_owned()));
        }
        path.join(&format!("{marker}0000000000"))
            .map_err(LockError::BadPath)?;
        let bytes = self.data.as_ref().map_or(0, Bytes::len);
        if bytes > MAX_DATA {
            return Err(LockError::TooLarge { bytes });
        }
        Ok(InterProcessMutex {
            inner: Arc::new(Inner {
                client: patient(&self.client),
                path,
                contenders: self.contenders,
                data: self.data,
                acl: self.acl,
                fail_on_session_loss: self.fail_on_session_loss,
                owners: Holds::new(),
                holds: Mutex::default(),
            }),
        })
    }
}

/// One who holds a lock or waits for it. From [`InterProcessMutex::holder`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// Its node.
    pub path: ZPathBuf,
    /// What it wrote there: by default an address.
    pub data: Bytes,
    /// The session that owns the node.
    pub session: SessionId,
    /// The number that its guard shows.
    pub fencing_token: FencingToken,
}

impl InterProcessMutex {
    /// A mutex on `path`, with the defaults of the [builder](Self::builder). Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`BadPath`](LockError::BadPath): the path is malformed.
    pub fn new<'p>(client: &Client, path: impl IntoPath<'p>) -> Result<Self, LockError> {
        Self::builder(client, path).build()
    }

    /// Starts to describe a mutex on `path`, the parent of the lock's nodes. It is made when needed, as a container.
    pub fn builder<'p>(client: &Client, path: impl IntoPath<'p>) -> MutexBuilder {
        MutexBuilder {
            client: client.clone(),
            path: path.into_path().into_owned(),
            contenders: Contenders::marked(LOCK_NAME),
            data: None,
            acl: None,
            fail_on_session_loss: false,
        }
    }

    /// The path that is contended for.
    pub fn path(&self) -> ZPath<'_> {
        self.inner.path.as_path()
    }

    /// Waits for the lock, first come first served, through lost connections and (unless the mutex is told
    /// [otherwise](MutexBuilder::fail_on_session_loss)) through the end of the session.
    ///
    /// # Errors
    ///
    /// [`Closed`](LockError::Closed); [`Failed`](LockError::Failed) if the server refuses a request (no permission, the path is
    /// an ephemeral node, a quota, a server that takes no writes); [`Lost`](LockError::Lost) as said above.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime. The one that it is polled on watches over the guard, and must outlive it:
    /// [`Unattended`](crate::Loss::Unattended).
    ///
    /// # Cancellation
    ///
    /// Safe at every await point: the place in the queue is given up, and the node removed in the background.
    pub async fn acquire(&self) -> Result<MutexGuard, LockError> {
        self.acquire_held().await.map(MutexGuard::new)
    }

    /// As [`acquire`](Self::acquire) for at most `limit`; `None` when the time is up. The place in the queue is given up then,
    /// in the background.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancellation
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Option<MutexGuard>, LockError> {
        match tokio::time::timeout(limit, self.acquire()).await {
            Ok(acquired) => acquired.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Acquires the lock if nobody holds it or waits for it; `None` otherwise. Does not queue, but does wait for answers, and
    /// for a connection while there is none.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); [`Lost`](LockError::Lost) if the session ends meanwhile.
    ///
    /// # Cancellation
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Option<MutexGuard>, LockError> {
        self.wait_for_leaving().await;
        match self.attempt_now().await {
            Ok(held) => Ok(held.map(MutexGuard::new)),
            Err(setback) => Err(LockError::setback(&self.inner.path, setback)),
        }
    }

    /// Acquires the lock for `owner`: at once, and without a request, if that owner holds it already through this instance.
    /// The lock is let go when the last of the owner's guards is.
    ///
    /// Two tasks that acquire for one owner at the same time share what the first of them gets.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancellation
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_as(&self, owner: &Owner) -> Result<MutexGuard, LockError> {
        let slot = self.inner.owners.slot(owner);
        let mut slot = slot.lock().await;
        if let Some(held) = slot.upgrade() {
            // In doubt it may still be ours, and queueing behind our own node would last as long as the doubt.
            if !held.hold.state().is_final() {
                return Ok(MutexGuard::new(held));
            }
        }
        let held = self.acquire_held().await?;
        *slot = Arc::downgrade(&held);
        Ok(MutexGuard::new(held))
    }

    /// Whether `owner` holds the lock through this instance, and is not in doubt about it.
    pub fn is_held_by(&self, owner: &Owner) -> bool {
        let slot = self.inner.owners.slot(owner);
        // Locked means that the owner is still acquiring.
        slot.try_lock()
            .ok()
            .and_then(|slot| slot.upgrade())
            .is_some_and(|held| held.hold.state() == TenureState::Held)
    }

    /// The nodes of all who hold the lock or wait for it, in order: the first one holds. As of one moment.
    ///
    /// # Errors
    ///
    /// [`Failed`](LockError::Failed).
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn participants(&self) -> Result<Vec<ZPathBuf>, LockError> {
        let children = self.children().await?;
        let queue = self
            .inner
            .contenders
            .queue(children.iter().map(String::as_str));
        queue
            .into_iter()
            .map(|name| self.inner.path.join(name).map_err(LockError::BadPath))
            .collect()
    }

    /// Who holds the lock, or is about to; `None` if nobody takes part.
    ///
    /// # Errors
    ///
    /// [`Failed`](LockError::Failed).
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn holder(&self) -> Result<Option<Participant>, LockError> {
        loop {
            let Some(path) = self.participants().await?.into_iter().next() else {
                return Ok(None);
            };
            match self.inner.client.get_data(path.as_path()).send().await {
                Ok(node) => {
                    return Ok(Some(Participant {
                        path,
                        data: node.data,
                        session: SessionId(node.stat.ephemeral_owner),
                        fencing_token: FencingToken::new(node.stat.czxid),
                    }));
                }
                // Let go between the two requests: the next one is to be asked.
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {}
                Err(error) => return Err(LockError::failed(&self.inner.path, error)),
            }
        }
    }

    async fn children(&self) -> Result<Vec<String>, LockError> {
        self.place()
            .children()
            .await
            .map_err(|error| LockError::failed(&self.inner.path, error))
    }

    fn place(&self) -> Place<'_> {
        Place {
            client: &self.inner.client,
            parent: self.inner.path.as_path(),
            contenders: &self.inner.contenders,
            acl: self.inner.acl.as_deref(),
        }
    }

    fn data(&self) -> Bytes {
        let given = self.inner.data.clone();
        given.unwrap_or_else(|| self.inner.client.default_data())
    }

    /// Acquires, again after setbacks that allow it.
    async fn acquire_held(&self) -> Result<Arc<Held>, LockError> {
        let path = &self.inner.path;
        loop {
            let setback = match self.attempt().await {
                Ok(held) => return Ok(held),
                Err(setback) => setback,
            };
            match setback {
                Setback::SessionEnded | Setback::NodeGone if self.inner.fail_on_session_loss => {
                    return Err(LockError::setback(path, setback));
                }
                Setback::SessionEnded | Setback::NodeGone => {
                    tracing::info!(%path, ?setback, "queueing again, at the back");
                    // Without a session there is nothing to queue with, and no use in asking.
                    if LinkWatch::new(&self.inner.client).usable().await == Link::Closed {
                        return Err(LockError::Closed { path: path.clone() });
                    }
                }
                setback => return Err(LockError::setback(path, setback)),
            }
        }
    }

    async fn attempt(&self) -> Result<Arc<Held>, Setback> {
        let mut contender = Contender::enter(self.place(), self.data()).await?;
        contender.turn(1).await?;
        Ok(self.won(contender))
    }

    async fn attempt_now(&self) -> Result<Option<Arc<Held>>, Setback> {
        let place = self.place();
        let children = place.children().await?;
        // Somebody is there: two writes saved.
        if children
            .iter()
            .any(|name| self.inner.contenders.includes(name))
        {
            return Ok(None);
        }
        let mut contender = Contender::enter(place, self.data()).await?;
        if contender.is_turn(1).await? {
            return Ok(Some(self.won(contender)));
        }
        // Another one was faster. He must not find us in his way, nor our next attempt.
        contender.leave().await?;
        Ok(None)
    }

    fn won(&self, contender: Contender<'_>) -> Arc<Held> {
        let (entry, own, link) = contender.into_parts();
        let hold = Hold::begin(&self.inner.client, entry, own, link);
        tracing::debug!(path = %hold.path(), token = hold.stat().czxid.0, "acquired");
        self.followed(hold.states());
        Arc::new(Held {
            hold,
            lock: self.inner.path.clone(),
        })
    }

    fn followed(&self, states: watch::Receiver<TenureState>) {
        let mut holds = self.holds();
        // A channel that is closed has neither guard nor keeper: its node is gone.
        holds.retain(|states| states.has_changed().is_ok());
        holds.push(states);
    }

    fn holds(&self) -> std::sync::MutexGuard<'_, Vec<watch::Receiver<TenureState>>> {
        self.inner
            .holds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for nodes of this instance whose guards are gone already: they must not make an attempt fail that comes after.
    async fn wait_for_leaving(&self) {
        let leaving: Vec<_> = self
            .holds()
            .iter()
            .filter(|states| *states.borrow() == TenureState::Released)
            .cloned()
            .collect();
        let gone = async {
            for mut states in leaving {
                while states.changed().await.is_ok() {}
            }
        };
        // A server that refuses the delete keeps the node until the session ends: not our time.
        let _ = tokio::time::timeout(LEAVING_PATIENCE, gone).await;
    }
}
