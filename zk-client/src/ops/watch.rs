//! Reads that leave a watch, and watches that go on.
//!
//! The request and the registration go to the session as one: whether the watch exists is decided by the reply (an absent
//! node gets an exists watch, but neither data nor child watch). The values that users hold are in [`watch`](crate::watch).
//! It must not know the registry.

use std::borrow::Cow;

use zk_proto::session::{AddWatchMode, AddWatchRequest, PathWatchRequest, StatResponse};
use zk_proto::{ErrorCode, OpCode, Stat};

use super::call::{Call, ViewPath};
use super::children::Children;
use super::data::NodeData;
use super::into_future;
use super::path::IntoPath;
use crate::client::{Client, WatchKind};
use crate::error::Error;
use crate::watch::{OneshotWatch, PersistentWatch};

macro_rules! watched {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[must_use = "a read does nothing until it is awaited"]
        pub struct $name<'a> {
            client: &'a Client,
            path: Cow<'a, str>,
        }

        impl<'a> $name<'a> {
            pub(super) fn new(client: &'a Client, path: Cow<'a, str>) -> Self {
                Self { client, path }
            }
        }
    };
}

watched! {
    /// Asks whether a node is there, and watches. From [`Exists::watch`](super::Exists::watch).
    WatchedExists
}
watched! {
    /// Reads a node, and watches. From [`GetData::watch`](super::GetData::watch).
    WatchedGetData
}
watched! {
    /// Lists children, and watches. From [`GetChildren::watch`](super::GetChildren::watch).
    WatchedGetChildren
}

impl WatchedExists<'_> {
    /// The node's metadata, `None` if there is no node; and the watch, in both cases.
    ///
    /// # Errors
    ///
    /// As [`Exists::send`](super::Exists::send). An error leaves no watch.
    ///
    /// # Cancellation
    ///
    /// Safe: no watch is left behind.
    pub async fn send(self) -> Result<(Option<Stat>, OneshotWatch), Error> {
        let path = ViewPath::new(self.client, OpCode::EXISTS, self.path)?;
        let request = PathWatchRequest {
            path: path.full().into(),
            watch: true,
        };
        let call = Call::read(self.client, OpCode::EXISTS, Some(&path)).watch(WatchKind::Exists);
        let mut reply = call.send(&request).await?;
        let stat = match reply.code() {
            ErrorCode::OK => Some(reply.decode::<StatResponse>("StatResponse")?.stat),
            _ => None,
        };
        let (registration, path) = reply.registration(&path)?;
        Ok((
            stat,
            OneshotWatch::new(registration, self.client.shared_view(), path),
        ))
    }
}

into_future!(WatchedExists => (Option<Stat>, OneshotWatch));

impl WatchedGetData<'_> {
    /// The node's data and metadata, and the watch.
    ///
    /// # Errors
    ///
    /// As [`GetData::send`](super::GetData::send). An error leaves no watch.
    ///
    /// # Cancellation
    ///
    /// Safe: no watch is left behind.
    pub async fn send(self) -> Result<(NodeData, OneshotWatch), Error> {
        let path = ViewPath::new(self.client, OpCode::GET_DATA, self.path)?;
        let request = PathWatchRequest {
            path: path.full().into(),
            watch: true,
        };
        let call = Call::read(self.client, OpCode::GET_DATA, Some(&path)).watch(WatchKind::Data);
        let mut reply = call.send(&request).await?;
        let node = NodeData::read(&reply)?;
        let (registration, path) = reply.registration(&path)?;
        Ok((
            node,
            OneshotWatch::new(registration, self.client.shared_view(), path),
        ))
    }
}

into_future!(WatchedGetData => (NodeData, OneshotWatch));

impl WatchedGetChildren<'_> {
    /// The children's names and the node's metadata, and the watch.
    ///
    /// # Errors
    ///
    /// As [`GetChildren::send`](super::GetChildren::send). An error leaves no watch.
    ///
    /// # Cancellation
    ///
    /// Safe: no watch is left behind.
    pub async fn send(self) -> Result<(Children, OneshotWatch), Error> {
        let path = ViewPath::new(self.client, OpCode::GET_CHILDREN2, self.path)?;
        let request = PathWatchRequest {
            path: path.full().into(),
            watch: true,
        };
        let call =
            Call::read(self.client, OpCode::GET_CHILDREN2, Some(&path)).watch(WatchKind::Child);
        let mut reply = call.send(&request).await?;
        let children = Children::read(&reply)?;
        let (registration, path) = reply.registration(&path)?;
        Ok((
            children,
            OneshotWatch::new(registration, self.client.shared_view(), path),
        ))
    }
}

into_future!(WatchedGetChildren => (Children, OneshotWatch));

impl Client {
    /// Watches a path from now on, whether or not there is a node: itself and its list of children
    /// ([`AddWatchMode::PERSISTENT`]), or itself and everything below ([`AddWatchMode::PERSISTENT_RECURSIVE`], which
    /// tells of nodes that come, go and change, but not of lists of children).
    ///
    /// What happens while the connection is down is *not* told; see [the page on watches](crate::watch) for what is. On
    /// servers before 3.9, a one-shot watch on the same path makes the persistent one end at its first event: do not
    /// mix them there.
    ///
    /// ```no_run
    /// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
    /// use zk_client::AddWatchMode;
    ///
    /// let mut changes = client.watch("/app", AddWatchMode::PERSISTENT_RECURSIVE).await?;
    /// while let Some(event) = changes.next().await {
    ///     if event.is_gap() {
    ///         // read everything again
    ///     } else if !event.is_end() {
    ///         println!("{:?} {}", event.kind, event.path);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A refused path; `MARSHALLINGERROR` for a mode the server does not know; `UNIMPLEMENTED` from servers before 3.6;
    /// connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe: no watch is left behind.
    pub async fn watch<'p>(
        &self,
        path: impl IntoPath<'p>,
        mode: AddWatchMode,
    ) -> Result<PersistentWatch, Error> {
        let path = ViewPath::new(self, OpCode::ADD_WATCH, path.into_path())?;
        let request = AddWatchRequest {
            path: path.full().into(),
            mode,
        };
        let kind = match mode {
            AddWatchMode::PERSISTENT_RECURSIVE => WatchKind::Recursive,
            _ => WatchKind::Persistent,
        };
        let mut reply = Call::read(self, OpCode::ADD_WATCH, Some(&path))
            .watch(kind)
            .send(&request)
            .await?;
        let (registration, path) = reply.registration(&path)?;
        Ok(PersistentWatch::new(registration, self.shared_view(), path))
    }
}
