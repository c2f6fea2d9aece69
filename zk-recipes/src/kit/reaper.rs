//! A node that must not outlive its owner's interest: the home of every `Drop` in this crate.
//!
//! A [`NodeTicket`] owns a created node on behalf of a future or a guard. Whatever becomes of that (dropped, cancelled,
//! failed, forgotten by its runtime), the node is handed to the client's background worker, which deletes it through lost
//! connections until it is gone or its session is. It must not know why the node was made. The time before the node's name is
//! known is covered by the client's protected create itself.

use zk_client::Client;
use zk_proto::{ZPath, ZPathBuf};

/// A node, deleted in the background unless this is [disarmed](Self::disarm).
#[derive(Debug)]
#[must_use = "a ticket that is dropped at once deletes its node"]
pub(crate) struct NodeTicket {
    client: Client,
    path: ZPathBuf,
    armed: bool,
}

impl NodeTicket {
    pub(crate) fn new(client: Client, path: ZPathBuf) -> Self {
        Self {
            client,
            path,
            armed: true,
        }
    }

    pub(crate) fn path(&self) -> ZPath<'_> {
        self.path.as_path()
    }

    /// The node is gone: another one of its name is not ours.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for NodeTicket {
    fn drop(&mut self) {
        if self.armed {
            self.client.delete_in_background(self.path.as_path());
        }
    }
}
