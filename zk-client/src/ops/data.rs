//! Reading and writing one node's data: `exists`, `getData`, `setData`.
//!
//! Small builders over one request each. What a watch adds to the reads is in `watch`. It must not know retry rules
//! beyond saying what may be asked twice.

use std::borrow::Cow;

use bytes::Bytes;
use zk_proto::session::{GetDataResponse, SetDataRequest, StatResponse};
use zk_proto::{ErrorCode, OpCode, Stat};

use super::call::{Call, Reply, ViewPath};
use super::into_future;
use super::multi::ANY_VERSION;
use super::watch::{WatchedExists, WatchedGetData};
use crate::client::Client;
use crate::error::{Error, Outcome};
use crate::retry::{Budget, Repeat, Verdict};

/// A node's data and metadata, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeData {
    /// The bytes; shares the memory of the received frame. A node without data (null) reads as empty.
    pub data: Bytes,
    /// The metadata.
    pub stat: Stat,
}

impl NodeData {
    pub(super) fn read(reply: &Reply<'_>) -> Result<Self, Error> {
        let GetDataResponse { data, stat } = reply.decode("GetDataResponse")?;
        Ok(Self {
            data: data.unwrap_or_default(),
            stat,
        })
    }
}

/// Asks whether a node is there. From [`Client::exists`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// if let Some(stat) = client.exists("/config").await? {
///     println!("version {}", stat.version);
/// }
/// let (stat, changed) = client.exists("/config").watch().await?;
/// if stat.is_none() {
///     println!("{:?}", changed.await); // created
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a read does nothing until it is awaited"]
pub struct Exists<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
}

impl<'a> Exists<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>) -> Self {
        Self { client, path }
    }

    /// Leaves a one-shot watch: it fires when the node is created, deleted or its data set. Where the node may never come
    /// (again), prefer `get_data(..).watch()`, which leaves none for an absent node.
    pub fn watch(self) -> WatchedExists<'a> {
        WatchedExists::new(self.client, self.path)
    }

    /// The node's metadata; `None` if there is no node.
    ///
    /// # Errors
    ///
    /// A refused path; `NOAUTH` (servers from 3.8.4 and 3.9.2); connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn send(self) -> Result<Option<Stat>, Error> {
        let path = ViewPath::new(self.client, OpCode::EXISTS, self.path)?;
        match Call::read(self.client, OpCode::EXISTS, Some(&path))
            .send(&path.unwatched())
            .await
        {
            Ok(reply) => Ok(Some(reply.decode::<StatResponse>("StatResponse")?.stat)),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

into_future!(Exists => Option<Stat>);

/// Reads a node. From [`Client::get_data`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// let node = client.get_data("/config").await?;
/// println!("{} bytes, version {}", node.data.len(), node.stat.version);
///
/// let (node, changed) = client.get_data("/config").watch().await?;
/// println!("{:?}, then {:?}", node.data, changed.await);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a read does nothing until it is awaited"]
pub struct GetData<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
}

impl<'a> GetData<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>) -> Self {
        Self { client, path }
    }

    /// Leaves a one-shot watch, which fires when the data is set or the node deleted. A node that is not there gets none.
    pub fn watch(self) -> WatchedGetData<'a> {
        WatchedGetData::new(self.client, self.path)
    }

    /// The node's data and metadata.
    ///
    /// # Errors
    ///
    /// `NONODE`, `NOAUTH`; a refused path; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn send(self) -> Result<NodeData, Error> {
        let path = ViewPath::new(self.client, OpCode::GET_DATA, self.path)?;
        NodeData::read(
            &Call::read(self.client, OpCode::GET_DATA, Some(&path))
                .send(&path.unwatched())
                .await?,
        )
    }
}

into_future!(GetData => NodeData);

/// Replaces a node's data. From [`Client::set_data`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// let node = client.get_data("/counter").await?;
/// let stat = client.set_data("/counter", "8").version(node.stat.version).await?;
/// assert_eq!(stat.version, node.stat.version + 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct SetData<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
    data: Bytes,
    version: i32,
    idempotent: bool,
}

impl<'a> SetData<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>, data: Bytes) -> Self {
        Self {
            client,
            path,
            data,
            version: ANY_VERSION,
            idempotent: false,
        }
    }

    /// Sets the data only if this is the node's version; -1 is any.
    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// Allows a repeat after an attempt of unknown outcome, and recognises our own write when the repeat meets it:
    /// `BADVERSION` is success if the node holds our bytes at the version after the expected one. Only for bytes that no
    /// other client writes: equal bytes of another's count as ours. Without a version, a repeat may undo a later write.
    /// Matters only in a [retrying](Client::retrying) view.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Replaces the data; the metadata afterwards is returned.
    ///
    /// # Errors
    ///
    /// `NONODE`, `BADVERSION`, `NOAUTH`, `QUOTAEXCEEDED`; a refused path; connection errors with their outcome.
    ///
    /// # Cancellation
    ///
    /// *Unknown outcome*: the write may be executed. A read of the version tells, if nobody else writes.
    pub async fn send(self) -> Result<Stat, Error> {
        let path = ViewPath::new(self.client, OpCode::SET_DATA, Cow::Borrowed(&*self.path))?;
        let mut budget = Budget::new(self.client.view().retry().cloned());
        let repeat = if self.idempotent {
            Repeat::Always
        } else {
            Repeat::IfNotDone
        };
        let call = Call::new(self.client, OpCode::SET_DATA, Some(&path));
        let mut unsure = false;
        loop {
            let request = SetDataRequest {
                path: path.full().into(),
                data: Some(self.data.clone()),
                version: self.version,
            };
            let error = match call.once(&budget, &request).await {
                Ok(reply) => return Ok(reply.decode::<StatResponse>("StatResponse")?.stat),
                Err(error) => error,
            };
            unsure |= error.outcome() == Outcome::Unknown;
            if unsure && self.idempotent && error.code() == Some(ErrorCode::BAD_VERSION) {
                return self.recognise(&path, &mut budget, error).await;
            }
            match budget.next(error, repeat).await {
                Verdict::Again => {}
                // An earlier attempt may have worked, whatever became of the last.
                Verdict::GiveUp(error) if unsure && error.code().is_none() => {
                    return Err(error.with_outcome(Outcome::Unknown));
                }
                Verdict::GiveUp(error) => return Err(error),
            }
        }
    }

    /// Whether the version that is in the way is our own write.
    async fn recognise(
        &self,
        path: &ViewPath<'_>,
        budget: &mut Budget,
        in_the_way: Error,
    ) -> Result<Stat, Error> {
        let read = Call::read(self.client, OpCode::GET_DATA, Some(path))
            .send_in(budget, &path.unwatched())
            .await;
        let node = match read.and_then(|reply| NodeData::read(&reply)) {
            Ok(node) => node,
            Err(error) => return Err(error.with_outcome(Outcome::Unknown)),
        };
        if node.stat.version == self.version.wrapping_add(1) && node.data == self.data {
            return Ok(node.stat);
        }
        // Ours may have been overwritten since; nobody can tell.
        Err(in_the_way.with_outcome(Outcome::Unknown))
    }
}

into_future!(SetData => Stat);
