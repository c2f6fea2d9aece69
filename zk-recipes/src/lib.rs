//! Apache Curator's recipes for Rust, on the same nodes as Java Curator: both can contend on one path.
//!
//! ```
//! use zk_recipes::{InterProcessMutex, LockError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A server inside this process, for tests; "zk1:2181,zk2:2181,zk3:2181/app" is another one.
//! let server = zk_server_lite::ZkServer::start().await?;
//! let client = zk_client::Client::connect(server.connect_string()).await?;
//!
//! let mutex = InterProcessMutex::new(&client, "/locks/report")?;
//! let guard = mutex.acquire().await?;
//! let token = guard.fencing_token();
//! match guard.run(async { /* the work, with the token for what it writes to */ token }).await {
//!     Ok(token) => println!("done under {token}"),
//!     Err(LockError::Lost { loss, .. }) => println!("somebody else may hold it now: {loss}"),
//!     Err(other) => return Err(other.into()),
//! }
//! guard.release().await?;
//! # client.close().await?;
//! # Ok(()) }
//! ```
//!
//! # In a service
//!
//! One of several replicas does the work, the others stand by; whoever loses the lock stops at the next await point and
//! queues again; on shutdown the next one takes over at once.
//!
//! ```no_run
//! # async fn one_round(token: zk_recipes::FencingToken) -> Result<(), std::io::Error> { Ok(()) }
//! use zk_recipes::{InterProcessMutex, LockError};
//!
//! async fn serve(client: &zk_client::Client, shutdown: impl Future<Output = ()>) -> Result<(), LockError> {
//!     let mutex = InterProcessMutex::new(client, "/app/locks/worker")?;
//!     let mut shutdown = std::pin::pin!(shutdown);
//!     loop {
//!         let guard = tokio::select! {
//!             // Dropped while it waits, it leaves the queue.
//!             _ = &mut shutdown => return Ok(()),
//!             guard = mutex.acquire() => guard?,
//!         };
//!         let work = async {
//!             loop {
//!                 // Lost or in doubt between two rounds: not another one before that is clear.
//!                 guard.settled().await?;
//!                 if let Err(error) = one_round(guard.fencing_token()).await {
//!                     eprintln!("a round failed: {error}");
//!                     return Ok::<_, LockError>(());
//!                 }
//!             }
//!         };
//!         tokio::select! {
//!             _ = &mut shutdown => return guard.release().await,
//!             done = guard.run(work) => match done.and_then(|done| done) {
//!                 // Let others try.
//!                 Ok(()) => guard.release().await?,
//!                 Err(LockError::Lost { loss, .. }) => eprintln!("the lock is lost: {loss}"),
//!                 Err(other) => return Err(other),
//!             },
//!         }
//!     }
//! }
//! ```
//!
//! # Which recipe when
//!
//! | you want | use |
//! |---|---|
//! | one at a time, among processes, first come first served | [`InterProcessMutex::acquire`] |
//! | the same, but not for longer than a while | [`acquire_timeout`](InterProcessMutex::acquire_timeout) |
//! | only if nobody is at it | [`try_acquire`](InterProcessMutex::try_acquire) |
//! | to take it again further down in the same task | [`MutexGuard::reenter`]; [`acquire_as`](InterProcessMutex::acquire_as) with an [`Owner`] where the guard cannot be passed |
//! | to know who is at it | [`participants`](InterProcessMutex::participants), [`holder`](InterProcessMutex::holder) |
//! | to ask the holder for it | [`Revoker`], and [`revocations`](MutexGuard::revocations) on its side |
//! | writes that only the holder can make, whatever happens | [`fencing_token`](MutexGuard::fencing_token); inside ZooKeeper [`fenced_multi`](MutexGuard::fenced_multi) |
//!
//! Curator's other recipes are not here yet.
//!
//! # What a lost session means
//!
//! Everything held here hangs on a *session*, which the server ends when it has not heard from the client for the session
//! timeout. Then the lock is somebody else's, whatever this process thinks. So there are two words, the same as Curator's:
//!
//! * **Suspended**: the connection is lost, or leads to a server that is cut off and takes no writes, and nobody can tell
//!   whether the session lives. A guard says so at once. It is held again when the connection is back, with the same session,
//!   and the lock's node was seen.
//! * **Lost**: the session is over, by the word of a server or by the client's own clock; or the node was deleted. It is final
//!   for this guard. The client goes on with a new session, and a new acquire starts at the back of the queue.
//!
//! Between the moment in which a server ends a session and the moment in which its client knows, two believe that they hold.
//! No client can close that gap; the resource can, by refusing the smaller [fencing token](FencingToken).
//!
//! # Cancellation
//!
//! Every acquiring function may be dropped at any await point, by `select!`, a time-out or the end of a task: no node, no
//! watch and no task is left, through lost connections and lost replies, unless the session ends first and takes the node
//! along. Guards may be dropped anywhere, also where there is no runtime. Should the client go with them, its session is
//! closed if a server can be reached within a second; else what is left goes with the session's timeout.
//!
//! # Names and payloads
//!
//! Nodes are named as Curator 5 names them (`_c_<uuid>-lock-<sequence>`), hold what Curator's hold (this host's address) and
//! have containers as parents. Curator orders them by text and so errs when the parent's counter wraps after 2^31 children;
//! here they are ordered right.

pub mod kit;
mod locks;

pub use kit::tenure::{Loss, TenureState};
pub use locks::{
    FencingToken, InterProcessMutex, LockError, MutexBuilder, MutexGuard, Owner, Participant,
    REVOKE_MESSAGE, Revocations, Revoker,
};
