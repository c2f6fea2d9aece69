//! `multiRead`: several reads in one request, each answered on its own.
//!
//! The sibling of `multi`, with the same handles. Not atomic: two reads may see the tree before and after a change. It must
//! not know writes.

use zk_proto::session::{MultiOp, MultiRequest, MultiResponse, MultiResult, PathWatchRequest};
use zk_proto::{ErrorCode, OpCode};

use super::call::{Call, ViewPath};
use super::data::NodeData;
use super::multi::{Handle, next_id};
use super::path::IntoPath;
use crate::client::Client;
use crate::error::Error;

/// A batch of reads being put together. From [`Client::multi_read`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// let mut reads = client.multi_read();
/// let config = reads.get_data("/config");
/// let workers = reads.get_children("/workers");
/// let results = reads.commit().await?;
/// println!("{:?} {:?}", results.get(config)?.data, results.get(workers)?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing until it is committed"]
pub struct MultiReadBuilder<'c> {
    client: &'c Client,
    id: u64,
    ops: Vec<MultiOp<'static>>,
    /// What each read is of, for errors.
    paths: Vec<String>,
    refused: Option<Error>,
}

impl<'c> MultiReadBuilder<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        Self {
            client,
            id: next_id(),
            ops: Vec::new(),
            paths: Vec::new(),
            refused: None,
        }
    }

    fn push<'p, T>(
        &mut self,
        path: impl IntoPath<'p>,
        op: impl FnOnce(PathWatchRequest<'static>) -> MultiOp<'static>,
    ) -> Handle<T> {
        let handle = Handle::new(self.id, self.paths.len());
        let path = path.into_path();
        self.paths.push(path.clone().into_owned());
        match ViewPath::new(self.client, OpCode::MULTI_READ, path) {
            Ok(path) => self.ops.push(op(PathWatchRequest {
                path: path.full().to_owned().into(),
                watch: false,
            })),
            Err(error) => self.refused = self.refused.take().or(Some(error)),
        }
        handle
    }

    /// Adds a read of data and metadata.
    pub fn get_data<'p>(&mut self, path: impl IntoPath<'p>) -> Handle<NodeData> {
        self.push(path, MultiOp::GetData)
    }

    /// Adds a list of children: names only.
    pub fn get_children<'p>(&mut self, path: impl IntoPath<'p>) -> Handle<Vec<String>> {
        self.push(path, MultiOp::GetChildren)
    }

    /// How many reads there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none. An empty batch is valid.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Sends the batch. A read that fails does not fail the others: its error is in the results.
    ///
    /// # Errors
    ///
    /// A refused path (nothing is sent then); connection errors; `UNIMPLEMENTED` from servers before 3.6.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn commit(self) -> Result<MultiReadResults, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let request = MultiRequest { ops: self.ops };
        let reply = Call::read(self.client, OpCode::MULTI_READ, None)
            .send(&request)
            .await?;
        let response: MultiResponse<'_> = reply.decode("MultiResponse")?;
        let odd = |what| Error::protocol(OpCode::MULTI_READ, None, what);
        if response.results.len() != request.ops.len() {
            return Err(odd(
                "a batch of reads was answered with another number of results",
            ));
        }
        let results = request
            .ops
            .iter()
            .zip(response.results)
            .map(|(op, result)| match (op, result) {
                (_, MultiResult::Error(code)) => Ok(Read::Failed(code)),
                (MultiOp::GetData(_), MultiResult::GetData(data, stat)) => {
                    Ok(Read::Data(NodeData {
                        data: data.unwrap_or_default(),
                        stat,
                    }))
                }
                (MultiOp::GetChildren(_), MultiResult::GetChildren(names)) => {
                    let names = names.unwrap_or_default();
                    Ok(Read::Children(
                        names
                            .iter()
                            .map(|name| name.or_empty().to_owned())
                            .collect(),
                    ))
                }
                _ => Err(odd("a read in a batch was answered as another")),
            });
        Ok(MultiReadResults {
            id: self.id,
            results: results.collect::<Result<_, _>>()?,
            paths: self.paths,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Data(NodeData),
    Children(Vec<String>),
    Failed(ErrorCode),
}

/// The answers to a batch of reads. Ask with the handles.
#[derive(Debug)]
pub struct MultiReadResults {
    id: u64,
    results: Vec<Read>,
    paths: Vec<String>,
}

impl MultiReadResults {
    /// The answer to one read.
    ///
    /// # Errors
    ///
    /// The server's code for this read (`NONODE`, `NOAUTH`), with its path.
    ///
    /// # Panics
    ///
    /// If the handle belongs to another batch, as an index out of bounds does.
    pub fn get<T: MultiReadOutcome>(&self, handle: Handle<T>) -> Result<&T, Error> {
        assert!(
            handle.belongs_to(self.id),
            "the handle came from the batch that was committed"
        );
        match &self.results[handle.index()] {
            Read::Failed(code) => Err(Error::server(
                OpCode::MULTI_READ,
                Some(self.paths[handle.index()].clone()),
                *code,
            )),
            _ => Ok(T::of(self, handle.index())
                .expect("a handle has the type of its read; `commit` checked the answer")),
        }
    }
}

/// The types that reads of a batch yield: [`NodeData`], `Vec<String>`. Not for others to implement.
pub trait MultiReadOutcome: sealed::Sealed + Sized {
    #[doc(hidden)]
    fn of(results: &MultiReadResults, index: usize) -> Option<&Self>;
}

mod sealed {
    /// Closes [`MultiReadOutcome`](super::MultiReadOutcome).
    pub trait Sealed {}
    impl Sealed for super::NodeData {}
    impl Sealed for Vec<String> {}
}

impl MultiReadOutcome for NodeData {
    fn of(results: &MultiReadResults, index: usize) -> Option<&Self> {
        if let Read::Data(data) = results.results.get(index)? {
            Some(data)
        } else {
            None
        }
    }
}

impl MultiReadOutcome for Vec<String> {
    fn of(results: &MultiReadResults, index: usize) -> Option<&Self> {
        if let Read::Children(names) = results.results.get(index)? {
            Some(names)
        } else {
            None
        }
    }
}
