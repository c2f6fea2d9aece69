//! Access lists: `getACL`, `setACL`.
//!
//! It must not know schemes: an [`Acl`] is data.

use std::borrow::Cow;

use zk_proto::session::{AclResponse, SetAclRequest, StatResponse};
use zk_proto::{Acl, OpCode, Stat};

use super::call::{Call, ViewPath};
use super::create_options::CreateOptionsError;
use super::into_future;
use super::multi::ANY_VERSION;
use crate::client::Client;
use crate::error::Error;

/// A node's access list and metadata, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AclList {
    /// The entries; a server masks digests for those who may not administer the node.
    pub acl: Vec<Acl>,
    /// The metadata; `aversion` is the list's version.
    pub stat: Stat,
}

/// Reads an access list. From [`Client::get_acl`].
#[derive(Debug)]
#[must_use = "a read does nothing until it is awaited"]
pub struct GetAcl<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
}

impl<'a> GetAcl<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>) -> Self {
        Self { client, path }
    }

    /// The access list and the node's metadata.
    ///
    /// # Errors
    ///
    /// `NONODE`; `NOAUTH` without the right to read or to administer; a refused path; connection errors.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn send(self) -> Result<AclList, Error> {
        let path = ViewPath::new(self.client, OpCode::GET_ACL, self.path)?;
        let reply = Call::read(self.client, OpCode::GET_ACL, Some(&path))
            .send(&path.request())
            .await?;
        let AclResponse { acl, stat } = reply.decode("AclResponse")?;
        Ok(AclList {
            acl: acl.unwrap_or_default(),
            stat,
        })
    }
}

into_future!(GetAcl => AclList);

/// Replaces an access list. From [`Client::set_acl`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// use zk_client::Acl;
///
/// let now = client.get_acl("/config").await?;
/// client.set_acl("/config", vec![Acl::creator_all()]).version(now.stat.aversion).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct SetAcl<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
    acl: Vec<Acl>,
    version: i32,
}

impl<'a> SetAcl<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>, acl: Vec<Acl>) -> Self {
        Self {
            client,
            path,
            acl,
            version: ANY_VERSION,
        }
    }

    /// Replaces the list only if this is its version (`aversion`); -1 is any.
    pub fn version(mut self, aversion: i32) -> Self {
        self.version = aversion;
        self
    }

    /// Replaces the list; the metadata afterwards is returned.
    ///
    /// # Errors
    ///
    /// `NONODE`, `BADVERSION`, `INVALIDACL`, `NOAUTH` without the right to administer; a refused path or an empty list;
    /// connection errors with their outcome.
    ///
    /// # Cancellation
    ///
    /// *Unknown outcome*: the list may be replaced; read it to know.
    pub async fn send(self) -> Result<Stat, Error> {
        let path = ViewPath::new(self.client, OpCode::SET_ACL, self.path)?;
        if self.acl.is_empty() {
            return Err(Error::refused(
                OpCode::SET_ACL,
                path.shown(),
                Box::new(CreateOptionsError::AclEmpty),
            ));
        }
        let request = SetAclRequest {
            path: path.full().into(),
            acl: Some(self.acl),
            version: self.version,
        };
        let reply = Call::new(self.client, OpCode::SET_ACL, Some(&path))
            .send(&request)
            .await?;
        Ok(reply.decode::<StatResponse>("StatResponse")?.stat)
    }
}

into_future!(SetAcl => Stat);
