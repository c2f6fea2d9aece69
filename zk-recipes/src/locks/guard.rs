//! The guard: possession of it is what owning the mutex means.
//!
//! Guards of one acquisition share one hold; the last one to go lets go of it. It must not know how the lock was won.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use zk_client::{Client, MultiBuilder};
use zk_proto::{SessionId, ZPath, ZPathBuf, Zxid};

use super::error::LockError;
use super::revocable::Revocations;
use crate::kit::keeper::{Hold, ReleaseError};
use crate::kit::tenure::{Loss, TenureState};

/// A number that grows with every grant of a lock. From [`MutexGuard::fencing_token`].
///
/// Give it to the resource that the lock protects, and let that refuse a smaller one than it has seen: then a holder that
/// was paused beyond its session cannot do harm when it wakes. It is the zxid that created the lock's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(Zxid);

impl FencingToken {
    pub(crate) fn new(czxid: Zxid) -> Self {
        Self(czxid)
    }

    /// The number.
    pub fn get(self) -> u64 {
        // Zxids are never negative: their upper half is an epoch that starts at 0.
        self.0.0.cast_unsigned()
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// What the guards of one acquisition share.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) hold: Hold,
    /// The lock's path, for errors.
    pub(crate) lock: ZPathBuf,
}

/// An acquired [`InterProcessMutex`](super::InterProcessMutex).
///
/// # Letting go
///
/// * [`release`](Self::release) deletes the lock's node and reports what came of it.
/// * Dropping the guard hands the node to a background worker, which deletes it, through lost connections too. Nothing
///   blocks; others may have to wait a moment longer.
/// * When the process dies, the server deletes the node once the session expires.
///
/// With [`reenter`](Self::reenter) there may be several guards of one acquisition; the last one lets go.
///
/// # Holding is not knowing
///
/// A session can end while your code runs, and then another process holds the lock. What tells you:
///
/// * [`state`](Self::state): `Held`, `Suspended` (the connection is lost: in doubt) or `Lost` (over, for good);
/// * [`lost`](Self::lost), a future to select on, and [`run`](Self::run), which does that for you;
/// * [`fencing_token`](Self::fencing_token) for the resource itself, the only protection against a paused process; inside
///   ZooKeeper, [`fenced_multi`](Self::fenced_multi).
#[derive(Debug)]
#[must_use = "a guard that is dropped lets go of the lock"]
pub struct MutexGuard {
    held: Arc<Held>,
}

impl MutexGuard {
    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self { held }
    }

    fn hold(&self) -> &Hold {
        &self.held.hold
    }

    /// Another guard of the same hold, without a request: the lock is let go when the last one is.
    ///
    /// A hold that was lost gives guards that are lost.
    pub fn reenter(&self) -> Self {
        Self {
            held: Arc::clone(&self.held),
        }
    }

    /// The lock's node.
    pub fn path(&self) -> ZPath<'_> {
        self.hold().path()
    }

    /// The session that holds.
    pub fn session_id(&self) -> SessionId {
        SessionId(self.hold().stat().ephemeral_owner)
    }

    /// A number greater than that of every earlier holder of this lock.
    pub fn fencing_token(&self) -> FencingToken {
        FencingToken::new(self.hold().stat().czxid)
    }

    /// Whether the lock is held, as far as this client knows at this moment.
    pub fn state(&self) -> TenureState {
        self.hold().state()
    }

    /// Whether the state is `Held`: neither in doubt nor lost.
    pub fn is_held(&self) -> bool {
        self.state() == TenureState::Held
    }

    /// Fails unless the lock is held, without a request.
    ///
    /// # Errors
    ///
    /// [`Lost`](LockError::Lost), or [`Suspended`](LockError::Suspended) while in doubt.
    pub fn ensure(&self) -> Result<(), LockError> {
        self.judge(self.state())
    }

    /// Waits until there is no doubt: the lock is held, or lost. For ever, if somebody changes the node's access list so that
    /// this session may not read it any more; [`verify`](Self::verify) says so.
    ///
    /// # Errors
    ///
    /// [`Lost`](LockError::Lost).
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn settled(&self) -> Result<(), LockError> {
        let mut states = self.hold().states();
        loop {
            match self.state() {
                TenureState::Suspended => {}
                state => return self.judge(state),
            }
            // The hold has a sender as long as this guard has the hold.
            if states.changed().await.is_err() {
                return self.judge(TenureState::Lost(Loss::Unattended));
            }
        }
    }

    /// Follows the state, for a `select!` on more than the loss.
    pub fn states(&self) -> watch::Receiver<TenureState> {
        self.hold().states()
    }

    /// Asks the server: reads the lock's node and checks that it is there and belongs to this session. Waits for a
    /// connection while there is none.
    ///
    /// # Errors
    ///
    /// [`Lost`](LockError::Lost); [`Failed`](LockError::Failed) if the server refuses to let us read our node.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn verify(&self) -> Result<(), LockError> {
        let seen = self.hold().verify().await;
        let state = seen.map_err(|error| LockError::failed(&self.held.lock, error))?;
        self.judge(state)
    }

    fn judge(&self, state: TenureState) -> Result<(), LockError> {
        let path = self.held.lock.clone();
        match state {
            TenureState::Held => Ok(()),
            TenureState::Suspended => Err(LockError::Suspended { path }),
            TenureState::Lost(loss) => Err(LockError::Lost { path, loss }),
            // A guard exists, so nobody released; the only way here is a release that was refused by the server.
            TenureState::Released => Err(LockError::lost(&path, Loss::NodeDeleted)),
        }
    }

    /// Waits for the loss of the lock. Never resolves if it is not lost.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn lost(&self) -> Loss {
        self.hold().lost().await
    }

    /// Runs `work` as long as the lock is not lost; on loss drops it, at the await point where it is, and reports that.
    ///
    /// While in doubt the work goes on; select on [`states`](Self::states) if that is not good enough.
    ///
    /// ```no_run
    /// # async fn f(mutex: zk_recipes::InterProcessMutex) -> Result<(), zk_recipes::LockError> {
    /// let guard = mutex.acquire().await?;
    /// let token = guard.fencing_token();
    /// let written = guard.run(async { /* write, with the token */ token.get() }).await?;
    /// # let _ = written;
    /// guard.release().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Lost`](LockError::Lost): the work was dropped. What it had begun elsewhere may have happened.
    ///
    /// # Cancellation
    ///
    /// As the work's own.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LockError> {
        tokio::select! {
            // The loss first: whoever wakes from a long pause must not take another step.
            biased;
            loss = self.lost() => Err(LockError::lost(&self.held.lock, loss)),
            output = work => Ok(output),
        }
    }

    /// A transaction that the server refuses unless the lock's node is still there: for writes to ZooKeeper itself, safe even
    /// if this process was paused since. `NONODE` at its first operation means that the lock is lost.
    pub fn fenced_multi(&self) -> MultiBuilder<'_> {
        let mut multi = self.hold().client().multi();
        multi.check(self.path(), None);
        multi
    }

    /// Requests by others to let go; see [`Revoker`](super::Revoker). Each call gives a stream of its own, which starts with
    /// the request that stands, if one does.
    pub fn revocations(&self) -> Revocations {
        Revocations::new(self.hold().data(), self.hold().states())
    }

    /// The client whose session holds.
    pub fn client(&self) -> &Client {
        self.hold().client()
    }

    /// Lets go and waits until that is certain: the lock's node is deleted, however many connections it takes, or its session
    /// is over. With other guards of the same hold left, nothing happens yet.
    ///
    /// # Errors
    ///
    /// [`Lost`](LockError::Lost): the lock had been lost before. [`Failed`](LockError::Failed): the server refuses to delete
    /// the node, which then blocks others until the session ends.
    ///
    /// # Cancellation
    ///
    /// Safe: the background worker goes on. Put a time limit around it where a server may be away for long.
    pub async fn release(self) -> Result<(), LockError> {
        // Of several that are released at the same time exactly one is the last.
        let Some(held) = Arc::into_inner(self.held) else {
            return Ok(());
        };
        held.hold.release().await.map_err(|error| match error {
            ReleaseError::Lost(loss) => LockError::lost(&held.lock, loss),
            ReleaseError::Failed(error) => LockError::failed(&held.lock, error),
        })
    }
}
