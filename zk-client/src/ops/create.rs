//! `create`: the builder, and what it takes to be sure of one node when replies get lost and parents vanish.
//!
//! One logical create may need several requests: the search for a node made by an attempt that was never answered
//! (protection), missing parents, the create itself. All share one retry budget. The order in which they follow each
//! other is here; names are in `protected`, parents in `parents`, kinds in `create_options`. It must not know recipes.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use zk_proto::session::{CreateResponse, GetDataResponse, StatResponse};
use zk_proto::{Acl, CreateMode, ErrorCode, OpCode, Stat, ZPathBuf, Zxid};

use super::call::{Call, ViewPath};
use super::children::names;
use super::create_options::{Checked, CreateOptions};
use super::multi::ANY_VERSION;
use super::{into_future, join, parents, protected};
use crate::client::Client;
use crate::error::{Error, Outcome};
use crate::namespace::check;
use crate::reaper::{Job, Ticket};
use crate::retry::{Budget, Repeat, Verdict};

/// A node that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Created {
    /// The node's path as this view sees it: with its protected prefix and its sequence number, if it has them.
    pub path: ZPathBuf,
    /// The new node's metadata. `czxid` is a fencing number: it grows with each create.
    pub stat: Stat,
    /// The transaction that made it; equal to `stat.czxid`.
    pub zxid: Zxid,
}

/// A create being described. From [`Client::create`]; await it, or call [`send`](Self::send).
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// use zk_client::CreateMode;
///
/// client.create("/config", "v1").await?;
/// let mine = client
///     .create("/locks/a/lock-", client.default_data())
///     .mode(CreateMode::EphemeralSequential)
///     .with_container_parents()
///     .protected()
///     .await?;
/// println!("{} since {}", mine.path, mine.stat.czxid);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a create does nothing until it is awaited"]
pub struct CreateBuilder<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
    data: Bytes,
    options: CreateOptions,
    parents: Option<CreateMode>,
    parents_acl: Option<Vec<Acl>>,
    protection: Option<Uuid>,
    idempotent: bool,
}

impl<'a> CreateBuilder<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>, data: Bytes) -> Self {
        Self {
            client,
            path,
            data,
            options: CreateOptions::default(),
            parents: None,
            parents_acl: None,
            protection: None,
            idempotent: false,
        }
    }

    /// The kind of node; persistent unless said otherwise.
    pub fn mode(mut self, mode: CreateMode) -> Self {
        self.options.set_mode(mode);
        self
    }

    /// How long a node of a TTL mode may stay unchanged and childless: 1 ms to 2^40 - 1 ms. Refused with other modes; a
    /// TTL mode without it is refused too.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options = self.options.ttl(ttl);
        self
    }

    /// The access list instead of "anyone may do anything".
    pub fn acl(mut self, acl: Vec<Acl>) -> Self {
        self.options = self.options.acl(acl);
        self
    }

    /// Creates missing ancestors as persistent nodes (not those of the connect string's chroot).
    pub fn with_parents(mut self) -> Self {
        self.parents = Some(CreateMode::Persistent);
        self
    }

    /// Creates missing ancestors as containers, which the server removes some time after their last child went. Should one
    /// vanish again before the node itself is made, both are made again.
    pub fn with_container_parents(mut self) -> Self {
        self.parents = Some(CreateMode::Container);
        self
    }

    /// The access list of created ancestors; without it anyone may do anything with them.
    pub fn parents_acl(mut self, acl: Vec<Acl>) -> Self {
        self.parents_acl = Some(acl);
        self
    }

    /// Puts `_c_<uuid>-` before the node's name, so that the node is found again should the reply get lost.
    ///
    /// An ephemeral node counts as found only if the current session owns it. Where the create is given up with an unknown
    /// outcome, or its future is dropped, a background worker of the client looks for the node and deletes it.
    pub fn protected(self) -> Self {
        self.protected_with(Uuid::new_v4())
    }

    /// As [`protected`](Self::protected) with a UUID of the caller's, which must be used for one logical create only.
    pub fn protected_with(mut self, id: Uuid) -> Self {
        self.protection = Some(id);
        self
    }

    /// Recognises our own node when a repeat finds it there: `NODEEXISTS` after an attempt of unknown outcome is success if
    /// the node has version 0, our bytes and (if ephemeral) our session as owner. Not for sequential modes. Matters only in
    /// a [retrying](Client::retrying) view.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Creates the node.
    ///
    /// # Errors
    ///
    /// The server's code (`NODEEXISTS`, `NONODE` for a missing parent, `NOAUTH`, `NOCHILDRENFOREPHEMERALS`, …); refusals
    /// before anything was sent (path, TTL, access list); connection errors with their outcome.
    ///
    /// # Cancellation
    ///
    /// With protection: *safe*, the node is looked for and deleted in the background. Without: *unknown outcome*, the node
    /// may be there; a plain one can be read, a sequential one cannot be told from others.
    pub async fn send(self) -> Result<Created, Error> {
        let mut create = Logical::begin(&self)?;
        let mut budget = Budget::new(self.client.view().retry().cloned());
        loop {
            let error = match create.step(&mut budget).await {
                Ok(Step::Created(created)) => {
                    create.settled();
                    return Ok(created);
                }
                Ok(Step::Again) => continue,
                Err(error) => error,
            };
            match budget.next(error, create.repeat()).await {
                Verdict::Again => {}
                Verdict::GiveUp(error) => return Err(create.given_up(error)),
            }
        }
    }
}

into_future!(CreateBuilder => Created);

/// Why an idempotent sequential create is refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a sequential create cannot recognise its own node by its path: use protection")]
struct IdempotentSequential;

/// How often a create makes its parents (and an idempotent one reads a vanished node) before it reports what it sees.
const MAX_ROUNDS: u32 = 8;

enum Step {
    Created(Created),
    /// Something was put right; the next attempt is free.
    Again,
}

/// One create as its caller means it, over all its attempts.
struct Logical<'b> {
    builder: &'b CreateBuilder<'b>,
    options: Checked<'b>,
    /// The UUID of the next attempt. Replaced when a node of an earlier session wears it.
    id: Option<Uuid>,
    /// An attempt may have made the node: nothing else is done before that is known.
    unsure: bool,
    /// Cleans up if this value is dropped while a protected node may be there.
    ticket: Option<Ticket>,
    rounds: u32,
}

impl<'b> Logical<'b> {
    fn begin(builder: &'b CreateBuilder<'b>) -> Result<Self, Error> {
        check(&builder.path, builder.options.mode().is_sequential())
            .map_err(|error| Error::bad_path(OpCode::CREATE2, error))?;
        let refused = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::refused(OpCode::CREATE2, &builder.path, error)
        };
        let options = builder
            .options
            .check()
            .map_err(|error| refused(Box::new(error)))?;
        if builder.idempotent && builder.options.mode().is_sequential() {
            return Err(refused(Box::new(IdempotentSequential)));
        }
        Ok(Self {
            builder,
            options,
            id: builder.protection,
            unsure: false,
            ticket: None,
            rounds: 0,
        })
    }

    fn repeat(&self) -> Repeat {
        if self.id.is_some() || self.builder.idempotent {
            Repeat::Always
        } else {
            Repeat::IfNotDone
        }
    }

    /// The parent, as the view sees it.
    fn parent(&self) -> &str {
        match self.builder.path.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((parent, _)) => parent,
        }
    }

    fn target(&self) -> String {
        let (parent, name) = self.builder.path.rsplit_once('/').unwrap_or_default();
        let prefix = self.id.map(protected::prefix).unwrap_or_default();
        format!("{parent}/{prefix}{name}")
    }

    /// The next request that brings the create forward.
    async fn step(&mut self, budget: &mut Budget) -> Result<Step, Error> {
        if let (true, Some(id)) = (self.unsure, self.id) {
            if let Some(created) = self.find(budget, id).await? {
                return Ok(Step::Created(created));
            }
            // Whatever became of the earlier attempts, no node of theirs is or will be there.
            self.unsure = false;
        }
        let was_unsure = self.unsure;
        let client = self.builder.client;
        let target = self.target();
        let path = ViewPath::for_create(
            client,
            OpCode::CREATE2,
            target.into(),
            self.builder.options.mode(),
        )?;
        // One ticket for all attempts under one UUID: a second one would let go of the first, and the worker would then delete
        // the node that a later attempt makes.
        if let (Some(id), None) = (self.id, &self.ticket) {
            let parent = client.view().full(self.parent().into(), false).into_owned();
            self.ticket = Some(client.reaper().ticket(Job::find(parent, id)));
        }
        // Armed before the request leaves: from here on a dropped future may leave a node behind.
        let sent = Call::new(client, self.options.opcode(), Some(&path))
            .once(
                budget,
                &self
                    .options
                    .request(path.full().into(), self.builder.data.clone()),
            )
            .await;
        let error = match sent {
            Ok(reply) => {
                let response: CreateResponse<'_> = reply.decode("CreateResponse")?;
                let path = reply.checked_path(client.view().strip(response.path.or_empty()))?;
                return Ok(Step::Created(Created {
                    path,
                    stat: response.stat,
                    zxid: reply.zxid(),
                }));
            }
            Err(error) => error,
        };
        self.unsure |= error.outcome() == Outcome::Unknown;
        if !self.unsure {
            self.settled();
        }
        match (error.code(), self.builder.parents) {
            (Some(ErrorCode::NO_NODE), Some(mode)) if self.rounds < MAX_ROUNDS => {
                self.rounds += 1;
                let acl = self.builder.parents_acl.as_deref();
                let made = parents::make(client, self.parent(), mode, acl, budget).await?;
                if made { Ok(Step::Again) } else { Err(error) }
            }
            (Some(ErrorCode::NODE_EXISTS), _)
                if was_unsure && self.builder.idempotent && self.rounds < MAX_ROUNDS =>
            {
                self.rounds += 1;
                self.recognise(budget, &path, error).await
            }
            _ => Err(error),
        }
    }

    /// Looks for a node that an unanswered attempt of ours made.
    async fn find(&mut self, budget: &Budget, id: Uuid) -> Result<Option<Created>, Error> {
        let client = self.builder.client;
        let parent = ViewPath::new(client, OpCode::GET_CHILDREN2, self.parent().into())?;
        // A create that the session's former server still passed on is committed before this sync is answered.
        Call::read(client, OpCode::SYNC, Some(&parent))
            .once(budget, &parent.request())
            .await?;
        let children = match Call::read(client, OpCode::GET_CHILDREN2, Some(&parent))
            .once(budget, &parent.unwatched())
            .await
        {
            Ok(reply) => names(&reply)?,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(name) = protected::find(id, children.iter().map(String::as_str)) else {
            return Ok(None);
        };
        let path = join(self.parent(), name);
        let node = ViewPath::new(client, OpCode::EXISTS, path.as_str().into())?;
        let reply = match Call::read(client, OpCode::EXISTS, Some(&node))
            .once(budget, &node.unwatched())
            .await
        {
            Ok(reply) => reply,
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(None),
            Err(error) => return Err(error),
        };
        let StatResponse { stat } = reply.decode("StatResponse")?;
        if self.builder.options.mode().is_ephemeral() && stat.ephemeral_owner != reply.session().0 {
            // Made by a session of ours that is over: the node is about to vanish. Help it, and start afresh.
            client
                .reaper()
                .push(Job::delete(node.full().to_owned(), ANY_VERSION));
            self.id = Some(Uuid::new_v4());
            // Whatever else wears the old UUID is the worker's.
            self.ticket = None;
            return Ok(None);
        }
        Ok(Some(Created {
            path: reply.checked_path(node.shown())?,
            stat,
            zxid: stat.czxid,
        }))
    }

    /// Whether the node that is there is the one that an unanswered attempt of ours made.
    async fn recognise(
        &self,
        budget: &Budget,
        path: &ViewPath<'_>,
        there: Error,
    ) -> Result<Step, Error> {
        let reply = match Call::read(self.builder.client, OpCode::GET_DATA, Some(path))
            .once(budget, &path.unwatched())
            .await
        {
            Ok(reply) => reply,
            // Deleted since: then it is not there, and may be created.
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => return Ok(Step::Again),
            Err(error) => return Err(error),
        };
        let GetDataResponse { data, stat } = reply.decode("GetDataResponse")?;
        let owner = if self.builder.options.mode().is_ephemeral() {
            reply.session().0
        } else {
            0
        };
        if stat.version == 0
            && stat.ephemeral_owner == owner
            && data.unwrap_or_default() == self.builder.data
        {
            return Ok(Step::Created(Created {
                path: reply.checked_path(path.shown())?,
                stat,
                zxid: stat.czxid,
            }));
        }
        Err(there)
    }

    /// Nothing of ours is left behind, or the caller is told of it.
    fn settled(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.disarm();
        }
    }

    /// The last word. A node that may be there is left to the ticket, and the error says so even if the last request
    /// was only the search for it.
    fn given_up(self, error: Error) -> Error {
        if self.unsure {
            error.with_outcome(Outcome::Unknown)
        } else {
            error
        }
    }
}
