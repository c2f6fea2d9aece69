//! `multi`: several writes that happen together or not at all.
//!
//! The builder collects encoded-ready operations and gives out a typed [`Handle`] for each; the results are asked with the
//! handle, so no caller counts indices or matches on kinds. What is wrong with an operation (a bad path, a TTL without its
//! mode) is remembered with its index and reported by `commit` before anything is sent. It must not know the transport.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use zk_proto::session::{
    CheckVersionRequest, DeleteRequest, MultiOp, MultiRequest, MultiResponse, MultiResult,
    SetDataRequest,
};
use zk_proto::{ErrorCode, OpCode, Stat, ZPathBuf, Zxid};

use super::call::{Call, ViewPath};
use super::create_options::CreateOptions;
use super::path::IntoPath;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::retry::Repeat;

/// Any version: the operation does not look at it.
pub(crate) const ANY_VERSION: i32 = -1;

/// Distinguishes the handles of one builder from those of all others in the process.
static NEXT_MULTI: AtomicU64 = AtomicU64::new(0);

/// Refers to one operation of one multi, and knows the type of its result.
pub struct Handle<T> {
    multi: u64,
    index: usize,
    result: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    pub(super) fn new(multi: u64, index: usize) -> Self {
        Self {
            multi,
            index,
            result: PhantomData,
        }
    }

    /// Position of the operation in its multi, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    pub(super) fn belongs_to(&self, multi: u64) -> bool {
        self.multi == multi
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.index)
    }
}

pub(super) fn next_id() -> u64 {
    NEXT_MULTI.fetch_add(1, Ordering::Relaxed)
}

/// What a create inside a multi yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MultiCreated {
    /// The node's path, with its sequence number if it has one.
    pub path: ZPathBuf,
    /// The new node's metadata; servers older than 3.9 do not send it.
    pub stat: Option<Stat>,
}

/// Nothing: the result of a delete or a check that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Done;

/// A transaction being put together. From [`Client::multi`].
///
/// ```no_run
/// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
/// use zk_client::CreateMode;
///
/// let mut multi = client.multi();
/// multi.check("/config", 4);
/// let job = multi.create("/jobs/job-", "payload", CreateMode::PersistentSequential);
/// let counter = multi.set_data("/jobs/count", "17", None);
/// let results = multi.commit().await?;
/// println!("{} is there, counter at version {}", results[job].path, results[counter].version);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a multi does nothing until it is committed"]
pub struct MultiBuilder<'c> {
    client: &'c Client,
    id: u64,
    ops: Vec<MultiOp<'static>>,
    /// Operations described, refused ones included.
    count: usize,
    refused: Option<(usize, Error)>,
}

impl<'c> MultiBuilder<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        Self {
            client,
            id: next_id(),
            ops: Vec::new(),
            count: 0,
            refused: None,
        }
    }

    fn push<T>(&mut self, op: Result<MultiOp<'static>, Error>) -> Handle<T> {
        let index = self.count;
        self.count += 1;
        match op {
            Ok(op) => self.ops.push(op),
            // Only the first matters: nothing will be sent, and it is what `commit` reports.
            Err(error) => self.refused = self.refused.take().or(Some((index, error))),
        }
        Handle::new(self.id, index)
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none. An empty multi is valid: it succeeds and changes nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a create. `options` is a [`CreateMode`](crate::CreateMode), or [`CreateOptions`] where more than the kind
    /// matters.
    pub fn create<'p>(
        &mut self,
        path: impl IntoPath<'p>,
        data: impl Into<Bytes>,
        options: impl Into<CreateOptions>,
    ) -> Handle<MultiCreated> {
        let (options, data) = (options.into(), data.into());
        let op = ViewPath::for_create(self.client, OpCode::MULTI, path.into_path(), options.mode())
            .and_then(|path| {
                let checked = options.check().map_err(|error| {
                    Error::refused(OpCode::MULTI, path.shown(), Box::new(error))
                })?;
                Ok(checked.request(path.full().to_owned().into(), data))
            });
        self.push(op)
    }

    /// Adds a delete; `version` is a number, or `None` for any.
    pub fn delete<'p>(
        &mut self,
        path: impl IntoPath<'p>,
        version: impl Into<Option<i32>>,
    ) -> Handle<Done> {
        let version = version.into().unwrap_or(ANY_VERSION);
        let op = self.path(path).map(|path| {
            MultiOp::Delete(DeleteRequest {
                path: path.into(),
                version,
            })
        });
        self.push(op)
    }

    /// Adds a setData; `version` is a number, or `None` for any.
    pub fn set_data<'p>(
        &mut self,
        path: impl IntoPath<'p>,
        data: impl Into<Bytes>,
        version: impl Into<Option<i32>>,
    ) -> Handle<Stat> {
        let (data, version) = (Some(data.into()), version.into().unwrap_or(ANY_VERSION));
        let op = self.path(path).map(|path| {
            MultiOp::SetData(SetDataRequest {
                path: path.into(),
                data,
                version,
            })
        });
        self.push(op)
    }

    /// Adds a check: the multi fails unless the node exists and has this version (`None`: any). This is how a fencing
    /// token is enforced: check the lock's node in the transaction that writes under the lock.
    pub fn check<'p>(
        &mut self,
        path: impl IntoPath<'p>,
        version: impl Into<Option<i32>>,
    ) -> Handle<Done> {
        let version = version.into().unwrap_or(ANY_VERSION);
        let op = self.path(path).map(|path| {
            MultiOp::Check(CheckVersionRequest {
                path: path.into(),
                version,
            })
        });
        self.push(op)
    }

    fn path<'p>(&self, path: impl IntoPath<'p>) -> Result<String, Error> {
        ViewPath::new(self.client, OpCode::MULTI, path.into_path())
            .map(|path| path.full().to_owned())
    }

    /// Runs the transaction: all operations, in order, at one zxid, or none of them.
    ///
    /// # Errors
    ///
    /// [`MultiError`]: which operation failed and with what code, or what kept the whole multi from being answered.
    ///
    /// # Cancellation
    ///
    /// Unknown outcome: once polled, the transaction may be executed, whole, although the future was dropped. Put a node
    /// with a name of your own into it, and look for that.
    pub async fn commit(self) -> Result<MultiResults, MultiError> {
        let Self {
            client,
            id,
            ops,
            refused,
            ..
        } = self;
        if let Some((index, error)) = refused {
            return Err(MultiError {
                error: Box::new(error),
                failed: Some(index),
                codes: Vec::new(),
            });
        }
        // A multi of checks alone changes nothing, so it may run twice.
        let writes = ops.iter().any(|op| !matches!(op, MultiOp::Check(_)));
        let repeat = if writes {
            Repeat::IfNotDone
        } else {
            Repeat::Always
        };
        let request = MultiRequest { ops };
        let call = Call::new(client, OpCode::MULTI, None).repeat(repeat);
        let reply = call.send(&request).await.map_err(MultiError::whole)?;
        let response: MultiResponse<'_> =
            reply.decode("MultiResponse").map_err(MultiError::whole)?;
        read(client, id, &request.ops, response, reply.zxid())
    }
}

/// Pure: from what the server answered to what the caller gets.
fn read(
    client: &Client,
    id: u64,
    ops: &[MultiOp<'_>],
    response: MultiResponse<'_>,
    zxid: Zxid,
) -> Result<MultiResults, MultiError> {
    let odd = |what: &'static str| MultiError::whole(Error::protocol(OpCode::MULTI, None, what));
    if response.results.len() != ops.len() {
        return Err(odd("a multi was answered with another number of results"));
    }
    let codes: Vec<ErrorCode> = response
        .results
        .iter()
        .map(|result| {
            if let MultiResult::Error(code) = result {
                *code
            } else {
                ErrorCode::OK
            }
        })
        .collect();
    if let Some(failed) = codes.iter().position(|code| *code != ErrorCode::OK) {
        let path = client.view().strip(path_of(&ops[failed])).to_owned();
        return Err(MultiError {
            error: Box::new(Error::server(OpCode::MULTI, Some(path), codes[failed])),
            failed: Some(failed),
            codes,
        });
    }
    let results = ops.iter().zip(response.results).map(|(op, result)| {
        let created = |path: &str, stat| {
            let path = ZPathBuf::new(client.view().strip(path))
                .map_err(|_| odd("a multi answered with a malformed path"))?;
            Ok(Outcome::Created(MultiCreated { path, stat }))
        };
        match (op, result) {
            (
                MultiOp::Create(_)
                | MultiOp::Create2(_)
                | MultiOp::CreateContainer(_)
                | MultiOp::CreateTtl(_),
                result,
            ) => {
                match result {
                    // Servers older than 3.9 answer every create with a path alone.
                    MultiResult::Create(path) => created(path.or_empty(), None),
                    MultiResult::Create2(path, stat) => created(path.or_empty(), Some(stat)),
                    _ => Err(odd("a create in a multi was answered as something else")),
                }
            }
            (MultiOp::SetData(_), MultiResult::SetData(stat)) => Ok(Outcome::Set(stat)),
            (MultiOp::Delete(_), MultiResult::Delete) | (MultiOp::Check(_), MultiResult::Check) => {
                Ok(Outcome::Done(Done))
            }
            _ => Err(odd("an operation in a multi was answered as another")),
        }
    });
    Ok(MultiResults {
        id,
        results: results.collect::<Result<_, _>>()?,
        zxid,
    })
}

fn path_of<'o>(op: &'o MultiOp<'_>) -> &'o str {
    match op {
        MultiOp::Create(create) | MultiOp::Create2(create) | MultiOp::CreateContainer(create) => {
            create.path.or_empty()
        }
        MultiOp::CreateTtl(create) => create.path.or_empty(),
        MultiOp::Delete(delete) => delete.path.or_empty(),
        MultiOp::SetData(set) => set.path.or_empty(),
        MultiOp::Check(check) => check.path.or_empty(),
        MultiOp::GetData(read) | MultiOp::GetChildren(read) => read.path.or_empty(),
        _ => "",
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Created(MultiCreated),
    Set(Stat),
    Done(Done),
}

/// The results of a multi that succeeded. Ask with the handles: `results[handle]`.
#[derive(Debug, PartialEq, Eq)]
pub struct MultiResults {
    id: u64,
    results: Vec<Outcome>,
    zxid: Zxid,
}

impl MultiResults {
    /// The one zxid of all its changes.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// How many results there are: one for each operation.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether the multi was empty.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// The result of one operation; `None` for a handle of another multi.
    pub fn get<T: MultiOutcome>(&self, handle: Handle<T>) -> Option<&T> {
        if handle.belongs_to(self.id) {
            T::of(self, handle.index)
        } else {
            None
        }
    }
}

impl<T: MultiOutcome> std::ops::Index<Handle<T>> for MultiResults {
    type Output = T;

    /// # Panics
    ///
    /// If the handle belongs to another multi, as an index out of bounds does.
    fn index(&self, handle: Handle<T>) -> &T {
        self.get(handle)
            .expect("the handle came from the multi that was committed")
    }
}

/// The types that operations of a multi yield: [`MultiCreated`], [`Stat`], [`Done`]. Not for others to implement.
pub trait MultiOutcome: sealed::Sealed + Sized {
    #[doc(hidden)]
    fn of(results: &MultiResults, index: usize) -> Option<&Self>;
}

mod sealed {
    /// Closes [`MultiOutcome`](super::MultiOutcome).
    pub trait Sealed {}
    impl Sealed for super::MultiCreated {}
    impl Sealed for super::Stat {}
    impl Sealed for super::Done {}
}

macro_rules! outcome {
    ($type:ty, $variant:ident) => {
        impl MultiOutcome for $type {
            fn of(results: &MultiResults, index: usize) -> Option<&Self> {
                match results.results.get(index)? {
                    Outcome::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }
    };
}
outcome!(MultiCreated, Created);
outcome!(Stat, Set);
outcome!(Done, Done);

/// A multi that changed nothing, or of which nothing is known (see [`Error::outcome`]).
#[derive(Debug)]
pub struct MultiError {
    error: Box<Error>,
    failed: Option<usize>,
    codes: Vec<ErrorCode>,
}

impl MultiError {
    fn whole(error: Error) -> Self {
        Self {
            error: Box::new(error),
            failed: None,
            codes: Vec::new(),
        }
    }

    /// What went wrong: the failed operation's code and path, or the error of the whole request.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Index of the operation that failed; `None` where the request as a whole did.
    pub fn failed(&self) -> Option<usize> {
        self.failed
    }

    /// Whether the operation of `handle` is the one that failed.
    pub fn is_at<T>(&self, handle: Handle<T>) -> bool {
        self.failed == Some(handle.index)
    }

    /// The code of the failed operation.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.error.kind() {
            ErrorKind::Server(code) => Some(*code),
            _ => None,
        }
    }

    /// The server's code for each operation: 0 before the failed one, -2 (`RUNTIMEINCONSISTENCY`) after it. Empty where
    /// the server did not answer each.
    pub fn codes(&self) -> &[ErrorCode] {
        &self.codes
    }
}

impl From<MultiError> for Error {
    fn from(multi: MultiError) -> Self {
        *multi.error
    }
}

impl fmt::Display for MultiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failed {
            Some(index) => write!(f, "operation {index} of a multi failed"),
            None => f.write_str("a multi failed"),
        }
    }
}

impl std::error::Error for MultiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}
