//! Operations on the session and the ensemble rather than on one node: sync, identities, ephemerals, counts, configuration.
//!
//! Each is one request. It must not know the format of a configuration: that is text for administrators.

use zk_proto::session::{
    EphemeralsResponse, ReconfigRequest, TotalResponse, WatcherType, WatcherTypeRequest,
    WhoAmIResponse,
};
use zk_proto::{ErrorCode, OpCode, ZPathBuf};

use super::call::{Call, NoBody, ViewPath};
use super::data::NodeData;
use super::into_future;
use super::path::IntoPath;
use crate::client::Client;
use crate::error::Error;

/// Where the ensemble keeps its configuration; not subject to any chroot.
const CONFIG: &str = "/zookeeper/config";

/// One identity of the connection, as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The scheme: `ip`, `digest`, `super`, ….
    pub scheme: String,
    /// The user part: an address, a name; never a password or digest.
    pub user: String,
}

impl Client {
    /// Makes the serving server catch up: reads sent afterwards see at least what was committed when this was sent.
    /// Requests keep their order on a connection, so joining `sync` and a read is enough.
    ///
    /// # Errors
    ///
    /// A refused path; `NOTREADONLY`; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn sync<'p>(&self, path: impl IntoPath<'p>) -> Result<(), Error> {
        let path = ViewPath::new(self, OpCode::SYNC, path.into_path())?;
        Call::read(self, OpCode::SYNC, Some(&path))
            .send(&path.request())
            .await
            .map(drop)
    }

    /// The paths of this session's ephemeral nodes that lie at or below `path`, in no particular order.
    ///
    /// The server matches text (`/foo` also finds `/foobar`); here only whole components count. Ephemerals outside of this
    /// view are left out.
    ///
    /// # Errors
    ///
    /// A refused path; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn get_ephemerals<'p>(
        &self,
        path: impl IntoPath<'p>,
    ) -> Result<Vec<ZPathBuf>, Error> {
        let path = ViewPath::new(self, OpCode::GET_EPHEMERALS, path.into_path())?;
        let reply = Call::read(self, OpCode::GET_EPHEMERALS, Some(&path))
            .send(&path.request())
            .await?;
        let EphemeralsResponse { ephemerals } = reply.decode("EphemeralsResponse")?;
        let paths = ephemerals.unwrap_or_default();
        let inside = paths.iter().filter_map(|found| {
            let found = self.view().strip_inside(found.or_empty())?;
            let below = path.shown() == "/"
                || found
                    .strip_prefix(path.shown())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            below.then(|| reply.checked_path(found))
        });
        inside.collect()
    }

    /// How many descendants a node has, itself not counted.
    ///
    /// # Errors
    ///
    /// `NONODE`, `NOAUTH`; a refused path; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn get_all_children_number<'p>(&self, path: impl IntoPath<'p>) -> Result<i32, Error> {
        let path = ViewPath::new(self, OpCode::GET_ALL_CHILDREN_NUMBER, path.into_path())?;
        let call = Call::read(self, OpCode::GET_ALL_CHILDREN_NUMBER, Some(&path));
        Ok(call
            .send(&path.request())
            .await?
            .decode::<TotalResponse>("TotalResponse")?
            .total_number)
    }

    /// The identities of this connection: its address, and one for each accepted [`add_auth`](Self::add_auth).
    ///
    /// # Errors
    ///
    /// Connection errors; `UNIMPLEMENTED` from servers before 3.7.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn who_am_i(&self) -> Result<Vec<Identity>, Error> {
        let reply = Call::read(self, OpCode::WHO_AM_I, None)
            .send(&NoBody)
            .await?;
        let WhoAmIResponse { client_info } = reply.decode("WhoAmIResponse")?;
        let identity = |scheme: &str, user: &str| Identity {
            scheme: scheme.to_owned(),
            user: user.to_owned(),
        };
        let infos = client_info.unwrap_or_default();
        Ok(infos
            .iter()
            .map(|info| identity(info.auth_scheme.or_empty(), info.user.or_empty()))
            .collect())
    }

    /// The ensemble's configuration, as text. Read from `/zookeeper/config`, whatever the chroot; empty on a standalone
    /// server.
    ///
    /// # Errors
    ///
    /// `NOAUTH`; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn get_config(&self) -> Result<NodeData, Error> {
        let path = ViewPath::absolute(CONFIG);
        NodeData::read(
            &Call::read(self, OpCode::GET_DATA, Some(&path))
                .send(&path.unwatched())
                .await?,
        )
    }

    /// Changes the ensemble's membership; see [`ReconfigBuilder`].
    pub fn reconfig(&self) -> ReconfigBuilder<'_> {
        ReconfigBuilder {
            client: self,
            joining: None,
            leaving: None,
            members: None,
            from_config: -1,
        }
    }

    /// Whether the server knows a watch of this kind, of this connection, at exactly this path.
    ///
    /// # Errors
    ///
    /// A refused path; `MARSHALLINGERROR` for the two persistent kinds from servers before 3.9; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn check_watches<'p>(
        &self,
        path: impl IntoPath<'p>,
        kind: WatcherType,
    ) -> Result<bool, Error> {
        let path = ViewPath::new(self, OpCode::CHECK_WATCHES, path.into_path())?;
        let request = WatcherTypeRequest {
            path: path.full().into(),
            watcher_type: kind,
        };
        match Call::read(self, OpCode::CHECK_WATCHES, Some(&path))
            .send(&request)
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(ErrorCode::NO_WATCHER) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A change of membership being described. From [`Client::reconfig`].
///
/// Either servers join and leave, or the whole membership is replaced. The texts are ZooKeeper's own:
/// `server.4=host:2888:3888;2181`, several with commas between them; ids alone for those that leave.
#[derive(Debug)]
#[must_use = "a change does nothing until it is awaited"]
pub struct ReconfigBuilder<'a> {
    client: &'a Client,
    joining: Option<String>,
    leaving: Option<String>,
    members: Option<String>,
    from_config: i64,
}

impl<'a> ReconfigBuilder<'a> {
    /// Servers that join or change.
    pub fn joining(mut self, servers: impl Into<String>) -> Self {
        self.joining = Some(servers.into());
        self
    }

    /// Ids of servers that leave.
    pub fn leaving(mut self, ids: impl Into<String>) -> Self {
        self.leaving = Some(ids.into());
        self
    }

    /// The whole new membership, in place of the two others.
    pub fn members(mut self, servers: impl Into<String>) -> Self {
        self.members = Some(servers.into());
        self
    }

    /// Changes only this version of the configuration (hexadecimal in its text); any, if not given.
    pub fn from_config(mut self, version: i64) -> Self {
        self.from_config = version;
        self
    }

    /// Changes the membership; the new configuration is returned.
    ///
    /// # Errors
    ///
    /// `RECONFIGDISABLED` (the server's default), `UNIMPLEMENTED` from a standalone server, `RECONFIGINPROGRESS`,
    /// `NEWCONFIGNOQUORUM`, `BADVERSION`, `BADARGUMENTS`, `NOAUTH`; connection errors with their outcome.
    ///
    /// # Cancellation
    ///
    /// *Unknown outcome*: the change may be made; [`get_config`](Client::get_config) tells.
    pub async fn send(self) -> Result<NodeData, Error> {
        let text =
            |text: Option<String>| text.map_or_else(zk_proto::jute::Ustring::null, Into::into);
        let request = ReconfigRequest {
            joining_servers: text(self.joining),
            leaving_servers: text(self.leaving),
            new_members: text(self.members),
            cur_config_id: self.from_config,
        };
        NodeData::read(
            &Call::new(self.client, OpCode::RECONFIG, None)
                .send(&request)
                .await?,
        )
    }
}

into_future!(ReconfigBuilder => NodeData);
