//! Creating a contender's node, and being sure of exactly one.
//!
//! The protocol of a protected create (the UUID in the name, the search after a lost reply, the owner check, the clean-up
//! after giving up) is the client's; here is how recipes use it: ephemeral, sequential, parents as containers, and a ticket on
//! the node from the very poll in which its name becomes known. It must not know queues.

use bytes::Bytes;
use zk_client::{Client, Error};
use zk_proto::{Acl, CreateMode, SessionId, Stat, ZPath};

use super::reaper::NodeTicket;

/// A node of our own.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) ticket: NodeTicket,
    pub(crate) stat: Stat,
}

impl Entry {
    /// The session that owns the node.
    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.stat.ephemeral_owner)
    }

    /// The node's name below its parent.
    pub(crate) fn name(&self) -> &str {
        self.ticket.path().name().unwrap_or_default()
    }

    /// Whether a node that was read is this one: a name can be taken again by somebody else, an owner and a creation cannot.
    pub(crate) fn is(&self, found: &Stat) -> bool {
        found.ephemeral_owner == self.stat.ephemeral_owner && found.czxid == self.stat.czxid
    }
}

/// Creates `<parent>/_c_<uuid>-<marker><sequence>`.
///
/// # Cancellation
///
/// Safe: the node is looked for and deleted in the background.
pub(crate) async fn enter(
    client: &Client,
    parent: ZPath<'_>,
    marker: &str,
    data: Bytes,
    acl: Option<&[Acl]>,
) -> Result<Entry, Error> {
    let path = if parent.is_root() {
        format!("/{marker}")
    } else {
        format!("{parent}/{marker}")
    };
    let mut create = client
        .create(path, data)
        .mode(CreateMode::EphemeralSequential)
        .with_container_parents()
        .protected();
    if let Some(acl) = acl {
        create = create.acl(acl.to_vec());
    }
    let created = create.send().await?;
    Ok(Entry {
        ticket: NodeTicket::new(client.clone(), created.path),
        stat: created.stat,
    })
}
