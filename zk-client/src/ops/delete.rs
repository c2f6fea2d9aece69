//! `delete`: one node, a subtree, or one node whatever it takes.
//!
//! The three ways share the version check; they differ in what happens after `NOTEMPTY` and after a lost connection. It
//! must not know why a node is deleted; the background worker of guaranteed deletes is `reaper`.

use std::borrow::Cow;

use zk_proto::session::{DeleteRequest, MultiOp, MultiRequest, MultiResponse, MultiResult};
use zk_proto::{ErrorCode, OpCode};

use super::call::{Call, ViewPath};
use super::children::names;
use super::multi::ANY_VERSION;
use super::{into_future, join};
use crate::client::Client;
use crate::error::{Error, Outcome};
use crate::reaper::{Job, may_pass};
use crate::retry::{Budget, Repeat};

/// How often a recursive delete starts again because others put new children in, before it reports `NOTEMPTY`.
const MAX_SWEEPS: u32 = 16;
/// How many nodes one transaction of a recursive delete removes, and how many bytes of paths: far below any frame limit.
const BATCH_NODES: usize = 256;
const BATCH_BYTES: usize = 128 * 1024;

/// A delete being described. From [`Client::delete`]; await it, or call [`send`](Self::send).
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// client.delete("/config").version(3).await?;
/// client.delete("/old").recursive().await?;
/// client.delete("/locks/a/lock-0000000001").guaranteed().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a delete does nothing until it is awaited"]
pub struct DeleteBuilder<'a> {
    client: &'a Client,
    path: Cow<'a, str>,
    version: i32,
    quietly: bool,
    idempotent: bool,
    guaranteed: bool,
    recursive: bool,
}

/// Why a delete was refused before it was sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Refused {
    #[error("the root cannot be deleted")]
    Root,
    #[error("a recursive delete cannot be guaranteed: give each node to the worker instead")]
    RecursiveGuaranteed,
}

impl<'a> DeleteBuilder<'a> {
    pub(super) fn new(client: &'a Client, path: Cow<'a, str>) -> Self {
        Self {
            client,
            path,
            version: ANY_VERSION,
            quietly: false,
            idempotent: false,
            guaranteed: false,
            recursive: false,
        }
    }

    /// Deletes only this version of the node; -1 is any.
    pub fn version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// A node that is not there is success.
    pub fn quietly(mut self) -> Self {
        self.quietly = true;
        self
    }

    /// Allows a repeat after an attempt of unknown outcome; a node that is not there is success. Use it only for paths that
    /// nobody else creates again: a repeat would delete their node.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self.quietly = true;
        self
    }

    /// Hands the node to a background worker of the client if the connection or the retry policy gives out, or if the
    /// future is dropped: the worker repeats until the node is gone, the server refuses (`BADVERSION`, `NOTEMPTY`,
    /// `NOAUTH`), or the client is closed. The error is reported all the same.
    pub fn guaranteed(mut self) -> Self {
        self.guaranteed = true;
        self
    }

    /// Deletes all descendants first. Not atomic: other clients see the subtree shrink, and an error leaves what was
    /// not reached yet. A version applies to the node itself only. Memory grows with the number of descendants.
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// Deletes the node.
    ///
    /// # Errors
    ///
    /// The server's code (`NONODE`, `BADVERSION`, `NOTEMPTY`, `NOAUTH`); a refused path (the root, above all); connection
    /// errors with their outcome.
    ///
    /// # Cancellation
    ///
    /// *Unknown outcome*: the node may be gone; read it to know. Guaranteed: the worker finishes the job. Recursive: some
    /// of the descendants may be gone.
    pub async fn send(self) -> Result<(), Error> {
        let path = ViewPath::new(self.client, OpCode::DELETE, Cow::Borrowed(&*self.path))?;
        let refused = |why: Refused| Error::refused(OpCode::DELETE, &self.path, Box::new(why));
        if path.full() == "/" {
            return Err(refused(Refused::Root));
        }
        if self.recursive && self.guaranteed {
            return Err(refused(Refused::RecursiveGuaranteed));
        }
        let mut budget = Budget::new(self.client.view().retry().cloned());
        let done = if self.recursive {
            self.sweep(&path, &mut budget).await
        } else {
            self.one(&path, &mut budget).await
        };
        match done {
            Err(error) if self.quietly && error.code() == Some(ErrorCode::NO_NODE) => Ok(()),
            other => other,
        }
    }

    async fn one(&self, path: &ViewPath<'_>, budget: &mut Budget) -> Result<(), Error> {
        let ticket = self.guaranteed.then(|| {
            self.client
                .reaper()
                .ticket(Job::delete(path.full().to_owned(), self.version))
        });
        let repeat = if self.idempotent {
            Repeat::Always
        } else {
            Repeat::IfNotDone
        };
        let deleted = delete(self.client, path, self.version, repeat, budget).await;
        // An answer, good or bad, leaves the worker nothing to do.
        let answered = deleted
            .as_ref()
            .err()
            .is_none_or(|error| error.outcome() == Outcome::NotDone && !may_pass(error));
        if let (Some(ticket), true) = (ticket, answered) {
            ticket.disarm();
        }
        deleted
    }

    /// Lists and deletes until the node itself is gone.
    async fn sweep(&self, top: &ViewPath<'_>, budget: &mut Budget) -> Result<(), Error> {
        let mut sweeps = 0;
        loop {
            let below = descendants(self.client, top.shown(), budget).await?;
            // Children before their parents: the reverse of the order in which they were found.
            for batch in batches(below) {
                delete_batch(self.client, &batch, budget).await?;
            }
            match delete(self.client, top, self.version, Repeat::IfNotDone, budget).await {
                Err(error) if error.code() == Some(ErrorCode::NOT_EMPTY) && sweeps < MAX_SWEEPS => {
                    sweeps += 1
                }
                other => return other,
            }
        }
    }
}

into_future!(DeleteBuilder => ());

async fn delete(
    client: &Client,
    path: &ViewPath<'_>,
    version: i32,
    repeat: Repeat,
    budget: &mut Budget,
) -> Result<(), Error> {
    let call = Call::new(client, OpCode::DELETE, Some(path)).repeat(repeat);
    call.send_in(
        budget,
        &DeleteRequest {
            path: path.full().into(),
            version,
        },
    )
    .await
    .map(drop)
}

/// All paths below `top`, parents before their children. A node that vanishes meanwhile has none.
async fn descendants(
    client: &Client,
    top: &str,
    budget: &mut Budget,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut next = 0;
    let mut parent = top.to_owned();
    loop {
        let path = ViewPath::new(client, OpCode::GET_CHILDREN2, parent.as_str().into())?;
        match Call::read(client, OpCode::GET_CHILDREN2, Some(&path))
            .send_in(budget, &path.unwatched())
            .await
        {
            Ok(reply) => found.extend(names(&reply)?.iter().map(|name| join(&parent, name))),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) && next > 0 => {}
            Err(error) => return Err(error),
        }
        let Some(path) = found.get(next) else {
            return Ok(found);
        };
        parent.clone_from(path);
        next += 1;
    }
}

/// Pure: cuts the paths into transactions, last ones first.
fn batches(mut paths: Vec<String>) -> Vec<Vec<String>> {
    let mut batches = Vec::new();
    let mut batch: Vec<String> = Vec::new();
    let mut bytes = 0;
    while let Some(path) = paths.pop() {
        if batch.len() == BATCH_NODES || (bytes + path.len() > BATCH_BYTES && !batch.is_empty()) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += path.len();
        batch.push(path);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// Deletes a batch in one transaction; if anybody else has been at work in there, one by one.
async fn delete_batch(client: &Client, batch: &[String], budget: &mut Budget) -> Result<(), Error> {
    let paths = batch
        .iter()
        .map(|path| ViewPath::new(client, OpCode::DELETE, path.as_str().into()))
        .collect::<Result<Vec<_>, _>>()?;
    let ops = paths
        .iter()
        .map(|path| {
            MultiOp::Delete(DeleteRequest {
                path: path.full().into(),
                version: ANY_VERSION,
            })
        })
        .collect();
    let request = MultiRequest { ops };
    let call = Call::new(client, OpCode::MULTI, paths.first());
    let reply = call.send_in(budget, &request).await?;
    let response: MultiResponse<'_> = reply.decode("MultiResponse")?;
    if !response
        .results
        .iter()
        .any(|result| matches!(result, MultiResult::Error(_)))
    {
        return Ok(());
    }
    for path in &paths {
        match delete(client, path, ANY_VERSION, Repeat::IfNotDone, budget).await {
            // Somebody else deleted it, or put a child in: the next sweep sees.
            Err(error)
                if matches!(
                    error.code(),
                    Some(ErrorCode::NO_NODE | ErrorCode::NOT_EMPTY)
                ) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_go_before_their_parents_and_batches_stay_small() {
        let paths: Vec<_> = (0..600).map(|number| format!("/top/{number}")).collect();
        let batches = batches(paths.clone());
        assert_eq!(
            batches.iter().map(Vec::len).collect::<Vec<_>>(),
            [256, 256, 88]
        );
        let mut order: Vec<_> = batches.into_iter().flatten().collect();
        order.reverse();
        assert_eq!(order, paths);

        let long: Vec<_> = (0..10).map(|_| "x".repeat(BATCH_BYTES / 3)).collect();
        assert_eq!(
            super::batches(long)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>(),
            [3, 3, 3, 1]
        );
        let huge = vec!["x".repeat(BATCH_BYTES * 2)];
        assert_eq!(super::batches(huge).len(), 1);
        assert!(super::batches(Vec::new()).is_empty());
    }
}
