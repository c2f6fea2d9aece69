//! One request and its repetitions: the only place where operations meet the session.
//!
//! A [`Call`] says what is asked, of which node, and whether it may be asked twice; sending it encodes the body once, hands
//! it to the session, and repeats as the view's policy and the table in [`retry`](crate::retry) allow. Operations know
//! neither xids nor connections; this file knows no operation.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{PathRequest, PathWatchRequest};
use zk_proto::{CreateMode, ErrorCode, OpCode, SessionId, ZPathBuf, Zxid};

use super::BoxFuture;
use crate::client::{Client, RawReply, Registration, WatchKind};
use crate::driver::lane::{Permit, Refusal, Ticket};
use crate::error::{Error, ErrorKind, Outcome};
use crate::namespace::check;
use crate::retry::{Budget, Repeat, Verdict};

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

    /// Sends until answered, as the view's policy says.
    pub(crate) fn send<'s, R: Encode + Sync>(self, request: &'s R) -> Sending<'a, 's, R>
    where
        'a: 's,
    {
        match self.client.view().retry() {
            None => self.attempt(None, request),
            Some(retry) => {
                let (mut budget, body) = (Budget::new(Some(retry.clone())), Encoded::new(request));
                let repeated = async move { self.repeat_in(&mut budget, &body).await };
                Sending(Way::Long(Box::pin(repeated)))
            }
        }
    }

    /// The same within the budget of a larger operation.
    pub(crate) async fn send_in<R: Encode + Sync>(
        self,
        budget: &mut Budget,
        request: &R,
    ) -> Result<Reply<'a>, Error> {
        self.repeat_in(budget, &Encoded::new(request)).await
    }

    async fn repeat_in(self, budget: &mut Budget, body: &Encoded) -> Result<Reply<'a>, Error> {
        loop {
            match self.once(budget, body).await {
                Ok(reply) => return Ok(reply),
                Err(error) => match budget.next(error, self.repeat).await {
                    Verdict::Again => {}
                    Verdict::GiveUp(error) => return Err(error),
                },
            }
        }
    }

    /// Sends once, at most until the budget's deadline.
    pub(crate) fn once<'s, R: Encode + Sync>(
        &self,
        budget: &Budget,
        request: &'s R,
    ) -> Sending<'a, 's, R>
    where
        'a: 's,
    {
        self.attempt(budget.deadline(), request)
    }

    fn attempt<'s, R: Encode + Sync>(
        &self,
        deadline: Option<Instant>,
        request: &'s R,
    ) -> Sending<'a, 's, R>
    where
        'a: 's,
    {
        // Neither data nor credentials: what is logged of a request is what it is about.
        let span = tracing::debug_span!(
            "zk_request",
            op = %self.op,
            path = self.path.map(ViewPath::shown),
            session = tracing::field::Empty,
            xid = tracing::field::Empty,
            zxid = tracing::field::Empty,
        );
        let submitted = Submitted::new(self, request);
        // Where nobody looks and nothing ends it early, a request is no more than its place in the lane.
        if span.is_disabled() && deadline.is_none() {
            return Sending(Way::Short(submitted));
        }
        Sending(Way::Long(Box::pin(watched(submitted, deadline, span))))
    }
}

/// One attempt with all that most do without: a deadline, a span.
async fn watched<'a, R: Encode + Sync>(
    submitted: Submitted<'a, '_, R>,
    deadline: Option<Instant>,
    span: Span,
) -> Result<Reply<'a>, Error> {
    let (op, path) = (submitted.op, submitted.path);
    let submitted = submitted.instrument(span.clone());
    let answered = match deadline {
        None => submitted.await,
        Some(at) => tokio::time::timeout_at(at, submitted)
            .await
            .unwrap_or_else(|_| Err(Error::deadline_exceeded(op, shown(path)))),
    };
    match &answered {
        Ok(Reply { raw, .. }) => {
            span.record("session", tracing::field::debug(raw.session));
            span.record("xid", raw.xid.0);
            span.record("zxid", tracing::field::debug(raw.zxid));
        }
        Err(error) => tracing::debug!(parent: &span, %error, "failed"),
    }
    answered
}

fn shown(path: Option<&ViewPath<'_>>) -> Option<String> {
    path.map(|path| path.shown().to_owned())
}

/// A request's body, for attempts that may be several.
struct Encoded(BytesMut);

impl Encoded {
    fn new(request: &impl Encode) -> Self {
        let mut body = BytesMut::new();
        request.encode(&mut body);
        Self(body)
    }
}

impl Encode for Encoded {
    fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0);
    }
}

/// A request under way: the future of [`Call::send`].
#[must_use = "a request is sent when it is first polled"]
pub(crate) struct Sending<'a, 's, R>(Way<'a, 's, R>);

enum Way<'a, 's, R> {
    Short(Submitted<'a, 's, R>),
    Long(BoxFuture<'s, Result<Reply<'a>, Error>>),
}

impl<'a, R: Encode> Future for Sending<'a, '_, R> {
    type Output = Result<Reply<'a>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Way::Short(submitted) => Pin::new(submitted).poll(cx),
            Way::Long(long) => long.as_mut().poll(cx),
        }
    }
}

/// One request on its way to the session's task and back.
struct Submitted<'a, 's, R> {
    client: &'a Client,
    op: OpCode,
    path: Option<&'a ViewPath<'a>>,
    watch: Option<WatchKind>,
    request: &'s R,
    stage: Stage<'a>,
}

enum Stage<'a> {
    /// Not polled yet.
    New,
    /// The lane is full. With the number of losses when that was found.
    Full(BoxFuture<'a, Option<Permit<'a>>>, u64),
    Sent(Ticket<'a>),
}

impl<'a, 's, R: Encode> Submitted<'a, 's, R> {
    fn new(call: &Call<'a>, request: &'s R) -> Self {
        Self {
            client: call.client,
            op: call.op,
            path: call.path,
            watch: call.watch,
            request,
            stage: Stage::New,
        }
    }

    fn submit(&self, room: Permit<'_>, losses: u64, waker: &Waker) -> Result<Stage<'a>, Error> {
        // A watch is known to the session by its path; what else happens at a path, only the caller must know.
        let watch = match (self.watch, self.path) {
            (Some(kind), Some(path)) => Some((kind, path.full().to_owned())),
            _ => None,
        };
        self.client
            .lane()
            .submit(room, self.op, watch, self.request, losses, waker)
            .map(Stage::Sent)
            .ok_or_else(|| self.refused())
    }

    fn refused(&self) -> Error {
        Error::new(
            self.op,
            shown(self.path),
            self.client.end(),
            Outcome::NotDone,
        )
    }
}

impl<'a, R: Encode> Future for Submitted<'a, '_, R> {
    type Output = Result<Reply<'a>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            self.stage = match &mut self.stage {
                Stage::New => {
                    let (lane, losses) = (self.client.lane(), self.client.losses());
                    match lane.try_room() {
                        Ok(room) => {
                            self.stage = self.submit(room, losses, cx.waker())?;
                            return Poll::Pending;
                        }
                        Err(Refusal::Full) => Stage::Full(Box::pin(lane.room()), losses),
                        Err(Refusal::Closed) => return Poll::Ready(Err(self.refused())),
                    }
                }
                Stage::Full(room, losses) => {
                    let losses = *losses;
                    match ready!(room.as_mut().poll(cx)) {
                        Some(room) => {
                            self.stage = self.submit(room, losses, cx.waker())?;
                            return Poll::Pending;
                        }
                        None => return Poll::Ready(Err(self.refused())),
                    }
                }
                Stage::Sent(ticket) => {
                    let answered = ready!(ticket.poll_answer(cx)).unwrap_or_else(|| {
                        // The runtime was shut down under the task.
                        Err(Error::new(
                            self.op,
                            None,
                            ErrorKind::Closed,
                            Outcome::Unknown,
                        ))
                    });
                    let (op, path) = (self.op, self.path);
                    return Poll::Ready(match answered {
                        Ok(raw) => Ok(Reply { raw, op, path }),
                        Err(error) => Err(error.about(shown(path))),
                    });
                }
            }
        }
    }
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
        shown(self.path)
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
            Some(registration) => Ok((*registration, path)),
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
