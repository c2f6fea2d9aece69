//! One request and its repetitions: the only place where operations meet the session.
//!
//! A [`Call`] says what is asked, of which node, and whether it may be asked twice; sending it encodes the body once, hands
//! it to the session, and repeats as the view's policy and the table in [`retry`](crate::retry) allow. Operations know
//! neither xids nor connections; this file knows no operation.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use tracing::Instrument;
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{PathRequest, PathWatchRequest};
use zk_proto::{CreateMode, ErrorCode, OpCode, SessionId, ZPathBuf, Zxid};

use crate::client::{Client, RawReply, Registration, Submission, WatchKind};
use crate::error::Error;
use crate::namespace::check;
use crate::retry::{Budget, Late, Repeat, Verdict};

/// A checked path of a view: as its user writes it, and as the server knows it.
#[derive(Clone, Debug)]
pub(crate) struct ViewPath<'p> {
    full: Cow<'p, str>,
    /// How much of `full` is the view's root.
    root: usize,
}

impl<'p> ViewPath<'p> {
    pub(crate) fn new(client: &Client, op: OpCode, path: Cow<'p, str>) -> Result<Self, Error> {
        Self::checked(client, op, path, false)
    }

    /// For creates: a sequential one is checked with a digit at its end.
    pub(crate) fn for_create(
        client: &Client,
        op: OpCode,
        path: Cow<'p, str>,
        mode: CreateMode,
    ) -> Result<Self, Error> {
        Self::checked(client, op, path, mode.is_sequential())
    }

    fn checked(
        client: &Client,
        op: OpCode,
        path: Cow<'p, str>,
        sequential: bool,
    ) -> Result<Self, Error> {
        check(&path, sequential).map_err(|error| Error::bad_path(op, error))?;
        Ok(Self {
            full: client.view().full(path, sequential),
            root: client.view().root_len(),
        })
    }

    /// A path that is absolute for the server, in whatever view.
    pub(crate) fn absolute(path: &'static str) -> Self {
        Self {
            full: Cow::Borrowed(path),
            root: 0,
        }
    }

    pub(crate) fn full(&self) -> &str {
        &self.full
    }

    pub(crate) fn shown(&self) -> &str {
        match &self.full[self.root..] {
            "" => "/",
            below => below,
        }
    }

    /// A request that is this path and nothing else.
    pub(crate) fn request(&self) -> PathRequest<'_> {
        PathRequest {
            path: self.full().into(),
        }
    }

    /// A read of this path that leaves no watch.
    pub(crate) fn unwatched(&self) -> PathWatchRequest<'_> {
        PathWatchRequest {
            path: self.full().into(),
            watch: false,
        }
    }
}

/// The body of a request that has none.
pub(crate) struct NoBody;

impl Encode for NoBody {
    fn encode(&self, _out: &mut BytesMut) {}
}

/// A request to be sent, maybe several times.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    client: &'a Client,
    op: OpCode,
    path: Option<&'a ViewPath<'a>>,
    repeat: Repeat,
    watch: Option<WatchKind>,
}

impl<'a> Call<'a> {
    /// A request that may be repeated only while nothing was done.
    pub(crate) fn new(client: &'a Client, op: OpCode, path: Option<&'a ViewPath<'a>>) -> Self {
        Self {
            client,
            op,
            path,
            repeat: Repeat::IfNotDone,
            watch: None,
        }
    }

    /// A request that changes nothing.
    pub(crate) fn read(client: &'a Client, op: OpCode, path: Option<&'a ViewPath<'a>>) -> Self {
        Self {
            repeat: Repeat::Always,
            ..Self::new(client, op, path)
        }
    }

    /// Registers a watch with the reply.
    pub(crate) fn watch(self, kind: WatchKind) -> Self {
        Self {
            watch: Some(kind),
            ..self
        }
    }

    pub(crate) fn repeat(self, repeat: Repeat) -> Self {
        Self { repeat, ..self }
    }

    fn shown(&self) -> Option<String> {
        self.path.map(|path| path.shown().to_owned())
    }

    /// Sends until answered, as the view's policy says.
    pub(crate) async fn send(self, request: &impl Encode) -> Result<Reply<'a>, Error> {
        let mut budget = Budget::new(self.client.view().retry().cloned());
        self.send_in(&mut budget, request).await
    }

    /// The same within the budget of a larger operation.
    pub(crate) async fn send_in(
        self,
        budget: &mut Budget,
        request: &impl Encode,
    ) -> Result<Reply<'a>, Error> {
        let body = body(request);
        loop {
            match self.attempt(budget, body.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => match budget.next(error, self.repeat).await {
                    Verdict::Again => {}
                    Verdict::GiveUp(error) => return Err(error),
                },
            }
        }
    }

    /// Sends once, at most until the budget's deadline.
    pub(crate) async fn once(
        &self,
        budget: &Budget,
        request: &impl Encode,
    ) -> Result<Reply<'a>, Error> {
        self.attempt(budget, body(request)).await
    }

    async fn attempt(&self, budget: &Budget, body: Bytes) -> Result<Reply<'a>, Error> {
        let submission = Submission {
            op: self.op,
            path: self.path.map(|path| path.full().to_owned()),
            body,
            watch: self.watch,
        };
        // Neither data nor credentials: what is logged of a request is what it is about.
        let span = tracing::debug_span!(
            "zk_request",
            op = %self.op,
            path = self.path.map(ViewPath::shown),
            session = tracing::field::Empty,
            xid = tracing::field::Empty,
            zxid = tracing::field::Empty,
        );
        let answered = budget
            .limit(self.client.submit(submission))
            .instrument(span.clone())
            .await;
        match answered {
            Ok(Ok(raw)) => {
                span.record("session", tracing::field::debug(raw.session));
                span.record("xid", raw.xid.0);
                span.record("zxid", tracing::field::debug(raw.zxid));
                Ok(Reply {
                    raw,
                    op: self.op,
                    path: self.path,
                })
            }
            Ok(Err(error)) => {
                tracing::debug!(parent: &span, %error, "failed");
                Err(error)
            }
            Err(Late) => Err(Error::deadline_exceeded(self.op, self.shown())),
        }
    }
}

fn body(request: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    request.encode(&mut out);
    out.freeze()
}

/// An answer without an error.
#[derive(Debug)]
pub(crate) struct Reply<'p> {
    raw: RawReply,
    op: OpCode,
    path: Option<&'p ViewPath<'p>>,
}

impl Reply<'_> {
    fn shown(&self) -> Option<String> {
        self.path.map(|path| path.shown().to_owned())
    }

    /// The zxid in the reply's header.
    pub(crate) fn zxid(&self) -> Zxid {
        self.raw.zxid
    }

    /// The session on which the answer came.
    pub(crate) fn session(&self) -> SessionId {
        self.raw.session
    }

    /// `OK`; or `NONODE` where an exists watch was left for a node that is not there.
    pub(crate) fn code(&self) -> ErrorCode {
        self.raw.code
    }

    /// The watch that came with the reply, and its path as the view shows it.
    pub(crate) fn registration(
        &mut self,
        path: &ViewPath<'_>,
    ) -> Result<(Registration, ZPathBuf), Error> {
        let path = self.checked_path(path.shown())?;
        match self.raw.registration.take() {
            Some(registration) => Ok((registration, path)),
            None => Err(Error::protocol(
                self.op,
                self.shown(),
                "a watch was asked for and none was registered",
            )),
        }
    }

    /// The body. Bytes behind the record are ignored: newer servers may add fields.
    pub(crate) fn decode<'r, T: Decode<'r>>(&'r self, record: &'static str) -> Result<T, Error> {
        let mut reader = Reader::new(&self.raw.body, record);
        T::decode(&mut reader).map_err(|error| Error::decode(self.op, self.shown(), error))
    }

    /// A path that the server sent, checked.
    pub(crate) fn checked_path(&self, path: &str) -> Result<ZPathBuf, Error> {
        ZPathBuf::new(path)
            .map_err(|_| Error::protocol(self.op, self.shown(), "the server sent a malformed path"))
    }
}
