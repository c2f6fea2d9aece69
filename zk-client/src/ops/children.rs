//! Listing a node's children.
//!
//! One request; what a watch adds is in `watch`. It must not know what names mean: recipes parse them.

use std::borrow::Cow;

use zk_proto::session::Children2Response;
use zk_proto::{OpCode, Stat};

use super::call::{Call, Reply, ViewPath};
use super::into_future;
use super::watch::WatchedGetChildren;
use crate::client::Client;
use crate::error::Error;

/// The names of a node's children and the node's metadata, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Children {
    /// Names relative to the node, in the order the server gave: none in particular.
    pub names: Vec<String>,
    /// The parent's metadata.
    pub stat: Stat,
}

impl Children {
    pub(super) fn read(reply: &Reply<'_>) -> Result<Self, Error> {
        let Children2Response { children, stat } = reply.decode("Children2Response")?;
        let names = children
            .unwrap_or_default()
            .iter()
            .map(|name| name.or_empty().to_owned())
            .collect();
        Ok(Self { names, stat })
    }
}

/// The names alone.
pub(super) fn names(reply: &Reply<'_>) -> Result<Vec<String>, Error> {
    Children::read(reply).map(|children| children.names)
}

/// Lists a node's children. From [`Client::get_children`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// let (children, changed) = client.get_children("/workers").watch().await?;
/// println!("{} workers", children.names.len());
/// println!("{:?}", changed.await); // one came or went
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a read does nothing until it is awaited"]
pub struct GetChildren<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
}

impl<'a> GetChildren<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>) -> Self {
        Self { client, path }
    }

    /// Leaves a one-shot watch, which fires when a child comes or goes, or the node itself is deleted. A node that is not
    /// there gets none.
    pub fn watch(self) -> WatchedGetChildren<'a> {
        WatchedGetChildren::new(self.client, self.path)
    }

    /// The children's names and the node's metadata.
    ///
    /// # Errors
    ///
    /// `NONODE`, `NOAUTH`; a refused path; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn send(self) -> Result<Children, Error> {
        let path = ViewPath::new(self.client, OpCode::GET_CHILDREN2, self.path)?;
        Children::read(
            &Call::read(self.client, OpCode::GET_CHILDREN2, Some(&path))
                .send(&path.unwatched())
                .await?,
        )
    }
}

into_future!(GetChildren => Children);
