//! The worker that finishes deletes nobody waits for any more: one task for each session's client.
//!
//! Guards that are dropped, creates that are cancelled, guaranteed deletes whose connection is lost: each leaves a
//! [`Job`] in the worker's queue, without blocking and without spawning. The worker repeats a job through lost connections
//! until the node is gone, the server refuses for good, or the client is closed. Ephemeral nodes then go with the session;
//! others stay, and are named in a warning.
//!
//! The queue is unbounded: it holds at most one job for each node that this client
//! created and one for each guaranteed delete it began, and `Drop` has nobody to push back on. It must not know
//! recipes, nor why a node must go.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;
use zk_proto::{ErrorCode, ZPath};

use crate::client::{Client, WeakClient};
use crate::error::Error;
use crate::ops::{ANY_VERSION, join, protected};

/// How many jobs are under way at once.
const MAX_CONCURRENT: usize = 32;
/// The wait after a failure that may pass without a change of the connection's state (a moved session, a throttled
/// server). Doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After this long without an answer the attempt is dropped and begun anew: an attempt holds the client, and a client
/// that everybody else let go must end.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(30);

/// Something that must be gone. Paths are the server's, without regard to any view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Delete this node at this version (-1: any).
    Delete {
        /// The node.
        path: String,
        /// Its version.
        version: i32,
    },
    /// Find the node that a protected create with this UUID may have made, and delete it.
    Find {
        /// Where it would be.
        parent: String,
        /// What its name begins with.
        id: Uuid,
    },
}

impl Job {
    pub(crate) fn delete(path: String, version: i32) -> Self {
        Self::Delete { path, version }
    }

    pub(crate) fn find(parent: String, id: Uuid) -> Self {
        Self::Find { parent, id }
    }
}

/// The way into the worker's queue. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    queue: mpsc::UnboundedSender<Job>,
}

impl Reaper {
    /// The queue and its other end, for [`run`].
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (queue, jobs) = mpsc::unbounded_channel();
        (Self { queue }, jobs)
    }

    /// Leaves a job to the worker. Never blocks. After the client's end it is only logged: the session is over.
    pub(crate) fn push(&self, job: Job) {
        if let Err(mpsc::error::SendError(job)) = self.queue.send(job) {
            tracing::debug!(?job, "left to the end of the session");
        }
    }

    /// A job that is left to the worker unless it is disarmed first.
    pub(crate) fn ticket(&self, job: Job) -> Ticket {
        Ticket {
            armed: Some((self.clone(), job)),
        }
    }
}

/// A job that becomes the worker's when this value is dropped: the safety line of an operation under way.
#[derive(Debug)]
#[must_use = "a ticket that is dropped at once hands its job to the worker"]
pub(crate) struct Ticket {
    armed: Option<(Reaper, Job)>,
}

impl Ticket {
    /// The job turned out to be unnecessary.
    pub(crate) fn disarm(mut self) {
        self.armed = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((reaper, job)) = self.armed.take() {
            reaper.push(job);
        }
    }
}

impl Client {
    /// Leaves a node to the client's background worker, which deletes it, any version, through lost connections until it
    /// is gone, the server refuses for good, or the client is closed. For `Drop`: never blocks, never fails, needs no
    /// runtime. The worker's queue is unbounded, so give it only nodes that you created.
    ///
    /// ```no_run
    /// # fn f(client: &zk_client::Client, mine: zk_client::ZPathBuf) {
    /// client.delete_in_background(mine.as_path());
    /// # }
    /// ```
    pub fn delete_in_background(&self, path: ZPath<'_>) {
        let path = self.view().full(path.as_str().into(), false).into_owned();
        self.reaper().push(Job::delete(path, ANY_VERSION));
    }
}

/// The worker. Ends when the last handle of the client is gone, or the client is closed.
///
/// Holds no strong handle of the client while it waits: it must not keep alive what it serves.
pub(crate) async fn run(mut jobs: mpsc::UnboundedReceiver<Job>, client: WeakClient) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(finished) = under_way.join_next() => {
                if let Err(error) = finished {
                    tracing::error!(%error, "a background delete ended abnormally");
                }
            }
            job = jobs.recv(), if under_way.len() < MAX_CONCURRENT => match job {
                Some(job) => drop(under_way.spawn(work(job, client.clone()))),
                None => return,
            },
        }
    }
}

/// Repeats one job until it is settled.
async fn work(job: Job, client: WeakClient) {
    let mut failures = 0u32;
    loop {
        let mut connected = match client.upgrade() {
            Some(client) => client.state(),
            None => return,
        };
        // Without a strong handle: a client that was let go while disconnected must not be held by its own worker.
        if connected
            .wait_for(|state| state.is_connected())
            .await
            .is_err()
        {
            return;
        }
        let Some(strong) = client.upgrade() else {
            return;
        };
        let settled =
            tokio::time::timeout(LONGEST_ATTEMPT, attempt(&strong.bare_view(), &job)).await;
        drop(strong);
        match settled {
            Ok(Ok(())) => return,
            Ok(Err(error)) if !may_pass(&error) => {
                tracing::warn!(?job, %error, "a background delete is given up");
                return;
            }
            Ok(Err(error)) => tracing::debug!(?job, %error, "a background delete will be repeated"),
            Err(_) => tracing::debug!(
                ?job,
                "a background delete had no answer and will be repeated"
            ),
        }
        // The first repetition goes out with the next connection; the others must not hammer a server that refuses.
        if failures > 0 {
            let wait = FIRST_WAIT
                .saturating_mul(1 << failures.min(10))
                .min(LONGEST_WAIT);
            tokio::time::sleep(wait).await;
        }
        failures = failures.saturating_add(1);
    }
}

/// Whether another attempt may do better: a server that takes no writes now is left for one that does, or joins its ensemble.
pub(crate) fn may_pass(error: &Error) -> bool {
    error.is_retryable() || error.code() == Some(ErrorCode::NOT_READ_ONLY)
}

/// One attempt. Success is a node that is not there.
async fn attempt(client: &Client, job: &Job) -> Result<(), Error> {
    match job {
        Job::Delete { path, version } => {
            client.delete(path).version(*version).quietly().send().await
        }
        Job::Find { parent, id } => {
            // A create that the session's former server still passed on is committed before this sync is answered.
            client.sync(parent).await?;
            let children = match client.get_children(parent).send().await {
                Ok(children) => children.names,
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(()),
                Err(error) => return Err(error),
            };
            let prefix = protected::prefix(*id);
            for name in children.iter().filter(|name| name.starts_with(&prefix)) {
                client.delete(join(parent, name)).quietly().send().await?;
            }
            Ok(())
        }
    }
}
