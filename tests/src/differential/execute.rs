//! One server plays a history; what its clients saw comes out in a form that can be compared.
//!
//! Made equal before comparing: wall-clock times and session ids (numbered in order of creation), the order of children
//! and of identities, and the order of events of a closed session's nodes, all of which are unspecified.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Decode as _, Encode as _, Reader, Ustring};
use zk_proto::session::{
    AclResponse, ConnectRequest, ConnectResponse, MultiOp, MultiResult, Password, ReplyHeader,
    Request, RequestHeader, Response, WatcherEvent,
};
use zk_proto::{Acl, ErrorCode, OpCode, SessionId, Stat, Xid, Zxid};

use super::step::{Op, Pass, Seen, Step};
use super::{Peer, Rules};
use crate::raw::{RawConnection, Received};

/// A server that says nothing for so long says nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// The timeout of a session that a slot opens because it has none.
const USUAL_TIMEOUT: i32 = 200_000;

/// What all clients saw, step by step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// For each step, what came to each slot, slot by slot. Shorter than the history when the server fell silent.
    pub steps: Vec<Vec<Sight>>,
}

impl Record {
    /// The record from one step on.
    #[must_use]
    pub fn tail(&self, step: usize) -> Self {
        Self {
            steps: self.steps.get(step..).unwrap_or_default().to_vec(),
        }
    }

    /// How often each operation ended how: what a history covers.
    #[must_use]
    pub fn tally(&self) -> String {
        let mut replies: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for sight in self.steps.iter().flatten() {
            let (what, how) = match &sight.what {
                What::Reply { op, err, body, .. } => {
                    let name = op.name();
                    let mut how = err.name().map_or_else(|| err.0.to_string(), str::to_owned);
                    if *op == OpCode::MULTI && body.contains("Error(") {
                        "rolled back".clone_into(&mut how);
                    }
                    (
                        name.map_or_else(|| format!("opcode {}", op.0), str::to_owned),
                        how,
                    )
                }
                What::Event { kind, .. } => ("event".to_owned(), kind.to_string()),
                What::Connected { session: 0, .. } => ("connect".to_owned(), "refused".to_owned()),
                What::Connected { .. } => ("connect".to_owned(), "OK".to_owned()),
                What::TurnedAway => ("connect".to_owned(), "turned away".to_owned()),
                What::Pong { .. } => continue,
                What::Odd(_) => ("odd".to_owned(), String::new()),
                What::Closed => ("closed".to_owned(), String::new()),
                What::Silence => ("silence".to_owned(), String::new()),
            };
            *replies.entry(what).or_default().entry(how).or_default() += 1;
        }
        let lines = replies.iter().map(|(what, how)| {
            let how: Vec<_> = how
                .iter()
                .map(|(how, count)| format!("{how} {count}"))
                .collect();
            format!("  {what}: {}", how.join(", "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// One thing that came to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Which client.
    pub slot: usize,
    /// What came.
    pub what: What,
}

/// What can come to a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// An answer to a connect request, with the session's number.
    Connected {
        /// Sessions are numbered in order of creation; 0 is none.
        session: usize,
        /// The negotiated timeout.
        timeout: i32,
        /// The read-only byte, if there was one.
        read_only: Option<bool>,
    },
    /// The connect request was answered by closing.
    TurnedAway,
    /// A reply.
    Reply {
        /// The request's number.
        xid: i32,
        /// The operation that was asked for.
        op: OpCode,
        /// The header's zxid.
        zxid: i64,
        /// How it ended.
        err: ErrorCode,
        /// The body, made comparable.
        body: String,
    },
    /// A watch event.
    Event {
        /// The header's zxid; 0 where it is not compared.
        zxid: i64,
        /// The event's type.
        kind: i32,
        /// The state beside it.
        state: i32,
        /// Where.
        path: Option<String>,
    },
    /// The answer to the ping behind a step.
    Pong {
        /// The last transaction that the server had processed.
        zxid: i64,
    },
    /// A frame that was not expected, or cannot be read.
    Odd(String),
    /// The server closed the connection.
    Closed,
    /// The server should have said something and did not.
    Silence,
}

impl What {
    /// Whether the server closes the connection behind this reply.
    fn ends_the_connection(&self) -> bool {
        match self {
            Self::Reply { op, err, zxid, .. } => match *err {
                ErrorCode::AUTH_FAILED => true,
                ErrorCode::UNIMPLEMENTED => *zxid == -1,
                err => *op == OpCode::CLOSE_SESSION && err == ErrorCode::OK,
            },
            _ => false,
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: {:?}", self.slot, self.what)
    }
}

/// A request that waits for its reply.
struct Pending {
    xid: Xid,
    op: Op,
}

/// One client.
#[derive(Default)]
struct Slot {
    connection: Option<RawConnection>,
    session: Option<(SessionId, Password)>,
    last_xid: i32,
    seen: Zxid,
}

/// A server that can be killed and started again.
pub trait Stage {
    /// Where it listens; the same after a restart.
    fn addr(&self) -> SocketAddr;

    /// Ends it as a crash would and starts it again on its data.
    ///
    /// # Errors
    /// When it does not come up.
    fn restart(&mut self) -> Result<(), String>;
}

/// One server with its clients.
struct World<'a> {
    stage: &'a mut dyn Stage,
    rules: Rules,
    slots: Vec<Slot>,
    sessions: BTreeMap<i64, usize>,
}

/// Lets a server, which must be empty, play a history with so many clients.
///
/// # Errors
/// When the server cannot be reached at all, or does not come up again.
pub fn play(
    stage: &mut dyn Stage,
    slots: usize,
    rules: Rules,
    steps: &[Step],
) -> std::io::Result<Record> {
    let mut world = World {
        stage,
        rules,
        slots: std::iter::repeat_with(Slot::default).take(slots).collect(),
        sessions: BTreeMap::new(),
    };
    let mut record = Record::default();
    for step in steps {
        let mut sights = world.step(step)?;
        world.collect(&mut sights);
        settle(step, &mut sights);
        let silent = sights.iter().any(|sight| sight.what == What::Silence);
        record.steps.push(sights);
        if silent {
            break;
        }
    }
    Ok(record)
}

/// Groups by client, and sorts what has no order.
fn settle(step: &Step, sights: &mut [Sight]) {
    sights.sort_by_key(|sight| sight.slot);
    let closes = match step {
        Step::Requests { ops, .. } => ops.iter().any(|op| op.code == OpCode::CLOSE_SESSION),
        _ => false,
    };
    if closes {
        // The nodes of a session go in no particular order.
        for run in sights.chunk_by_mut(|left, right| left.slot == right.slot) {
            run.sort_by(|left, right| left.what.cmp(&right.what));
        }
    }
}

impl World<'_> {
    fn step(&mut self, step: &Step) -> std::io::Result<Vec<Sight>> {
        let mut sights = Vec::new();
        match step {
            Step::Connect { slot, timeout } => {
                self.hang_up(*slot);
                self.open(*slot, *timeout, &mut sights)?;
            }
            Step::Attach {
                slot,
                seen,
                password,
                takeover,
            } => {
                self.attach(*slot, *seen, *password, *takeover, &mut sights)?;
            }
            Step::HangUp { slot } => self.hang_up(*slot),
            Step::Restart => {
                for slot in 0..self.slots.len() {
                    self.hang_up(slot);
                }
                self.stage.restart().map_err(std::io::Error::other)?;
            }
            Step::Requests { slot, ops } => {
                if self.slots[*slot].connection.is_none() {
                    self.attach(*slot, Seen::Last, Pass::Right, false, &mut sights)?;
                }
                if self.slots[*slot].connection.is_none() {
                    self.open(*slot, USUAL_TIMEOUT, &mut sights)?;
                }
                self.requests(*slot, ops, &mut sights);
            }
        }
        Ok(sights)
    }

    fn hang_up(&mut self, slot: usize) {
        if let Some(connection) = self.slots[slot].connection.take() {
            connection.hang_up();
        }
    }

    fn open(&mut self, slot: usize, timeout: i32, sights: &mut Vec<Sight>) -> std::io::Result<()> {
        self.slots[slot] = Slot::default();
        let request = ConnectRequest {
            timeout,
            passwd: Password::zero(),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        self.shake_hands(slot, &request, sights)
    }

    fn attach(
        &mut self,
        slot: usize,
        seen: Seen,
        password: Pass,
        takeover: bool,
        sights: &mut Vec<Sight>,
    ) -> std::io::Result<()> {
        let Some((session_id, own)) = self.slots[slot].session.clone() else {
            return Ok(());
        };
        // hazard attach-with-wrong-password: only without a rightful connection.
        let old = self.slots[slot].connection.take();
        let old = if takeover && password == Pass::Right {
            old
        } else {
            if let Some(old) = old {
                old.hang_up();
            }
            None
        };
        let request = ConnectRequest {
            last_zxid_seen: self.resolve(slot, seen),
            timeout: USUAL_TIMEOUT,
            session_id,
            passwd: match password {
                Pass::Right => own,
                Pass::Wrong => Password(Some(Bytes::from_static(&[7; Password::LENGTH]))),
                Pass::Null => Password(None),
            },
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        self.shake_hands(slot, &request, sights)?;
        if let Some(old) = old {
            if self.slots[slot].connection.is_none() {
                // Turned away for its zxid: the old one lives on.
                self.slots[slot].connection = Some(old);
            } else {
                // takeover
                old.hang_up();
            }
        }
        Ok(())
    }

    fn resolve(&self, slot: usize, seen: Seen) -> Zxid {
        match seen {
            Seen::Nothing => Zxid(0),
            Seen::Last => self.slots[slot].seen,
            Seen::Ahead => Zxid(1 << 40),
        }
    }

    fn shake_hands(
        &mut self,
        slot: usize,
        request: &ConnectRequest,
        sights: &mut Vec<Sight>,
    ) -> std::io::Result<()> {
        let mut connection = RawConnection::open(self.stage.addr())?;
        let what = match connection.connect(request) {
            Ok(Some(response)) => {
                let what = self.connected(&response);
                if response.timeout > 0 {
                    let this = &mut self.slots[slot];
                    this.session = Some((response.session_id, response.passwd));
                    this.connection = Some(connection);
                }
                what
            }
            Ok(None) => What::TurnedAway,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => What::Silence,
            Err(error) => What::Odd(error.to_string()),
        };
        sights.push(Sight { slot, what });
        Ok(())
    }

    fn connected(&mut self, response: &ConnectResponse) -> What {
        let next = self.sessions.len() + 1;
        let session = match response.session_id.0 {
            0 => 0,
            id => *self.sessions.entry(id).or_insert(next),
        };
        What::Connected {
            session,
            timeout: response.timeout,
            read_only: response.read_only,
        }
    }

    fn requests(&mut self, slot: usize, ops: &[Op], sights: &mut Vec<Sight>) {
        let mut out = BytesMut::new();
        let mut pending = Vec::new();
        for op in ops {
            let mut op = op.clone();
            if let Some(seen) = op.relative {
                let zxid = self.resolve(slot, seen);
                match &mut op.body {
                    Request::SetWatches(body) => body.relative_zxid = zxid,
                    Request::SetWatches2(body) => body.relative_zxid = zxid,
                    _ => {}
                }
            }
            let this = &mut self.slots[slot];
            this.last_xid += 1;
            let xid = Xid(this.last_xid);
            let mark = begin_frame(&mut out);
            RequestHeader { xid, op: op.code }.encode(&mut out);
            out.extend_from_slice(&op.bytes());
            end_frame(&mut out, mark);
            pending.push(Pending { xid, op });
        }
        let Some(connection) = &mut self.slots[slot].connection else {
            return;
        };
        // A server that closed says so when it is read.
        drop(connection.send(&out));
        let mut pending = pending.into_iter();
        let mut next = pending.next();
        while next.is_some() {
            if !self.receive(slot, &mut next, &mut pending, sights) {
                return;
            }
        }
        // The end of a connection is no part of the reply before it: it comes when it comes.
        if sights
            .last()
            .is_some_and(|sight| sight.what.ends_the_connection())
        {
            while self.receive(slot, &mut None, &mut std::iter::empty(), sights) {}
        }
    }

    /// Reads one thing; false when the connection has ended or fell silent.
    fn receive(
        &mut self,
        slot: usize,
        next: &mut Option<Pending>,
        rest: &mut impl Iterator<Item = Pending>,
        sights: &mut Vec<Sight>,
    ) -> bool {
        let Some(connection) = &mut self.slots[slot].connection else {
            return false;
        };
        let (what, go_on) = match connection.receive(SILENCE) {
            Received::Closed => {
                self.slots[slot].connection = None;
                (What::Closed, false)
            }
            Received::Silence => (What::Silence, false),
            Received::Frame(frame) => (self.frame(slot, &frame, next, rest), true),
        };
        sights.push(Sight { slot, what });
        go_on
    }

    fn frame(
        &mut self,
        slot: usize,
        frame: &Bytes,
        next: &mut Option<Pending>,
        rest: &mut impl Iterator<Item = Pending>,
    ) -> What {
        let mut reader = Reader::new(frame, "reply");
        let Ok(header) = ReplyHeader::decode(&mut reader) else {
            return What::Odd(format!("{frame:?}"));
        };
        if header.xid == Xid::NOTIFICATION {
            return match WatcherEvent::decode(&mut reader) {
                Ok(event) => What::Event {
                    // notification-zxid
                    zxid: if self.rules.peer == Peer::V38 {
                        0
                    } else {
                        header.zxid.0
                    },
                    kind: event.event_type.0,
                    state: event.state.0,
                    path: event.path.0.map(std::borrow::Cow::into_owned),
                },
                Err(error) => What::Odd(format!("event: {error}")),
            };
        }
        if header.xid == Xid::PING && next.is_none() {
            return What::Pong {
                zxid: header.zxid.0,
            };
        }
        let Some(asked) = next.take_if(|asked| asked.xid == header.xid) else {
            return What::Odd(format!("{header:?} {:?}", reader.rest()));
        };
        *next = rest.next();
        let this = &mut self.slots[slot];
        this.seen = this.seen.max(header.zxid);
        let body = if header.err == ErrorCode::OK {
            match Response::decode(asked.op.code, &mut reader) {
                Ok(response) => self.comparable(&asked.op, response),
                Err(error) => format!("{error}: {frame:?}"),
            }
        } else {
            format!("{:?}", reader.rest())
        };
        What::Reply {
            xid: header.xid.0,
            op: asked.op.code,
            zxid: header.zxid.0,
            err: header.err,
            body,
        }
    }

    /// Asks every connection whether something is on its way.
    fn collect(&mut self, sights: &mut Vec<Sight>) {
        if sights.iter().any(|sight| sight.what == What::Silence) {
            return;
        }
        let mut ping = BytesMut::new();
        let mark = begin_frame(&mut ping);
        RequestHeader {
            xid: Xid::PING,
            op: OpCode::PING,
        }
        .encode(&mut ping);
        end_frame(&mut ping, mark);
        for slot in &mut self.slots {
            if let Some(connection) = &mut slot.connection {
                drop(connection.send(&ping));
            }
        }
        for slot in 0..self.slots.len() {
            let mut answered = self.slots[slot].connection.is_none();
            while !answered {
                let at = sights.len();
                if !self.receive(slot, &mut None, &mut std::iter::empty(), sights) {
                    break;
                }
                answered = !matches!(sights[at].what, What::Event { .. });
            }
        }
    }

    fn comparable(&self, op: &Op, mut response: Response<'_>) -> String {
        match &mut response {
            Response::Create(body) => self.level(&mut body.stat),
            Response::Stat(body) => self.level(&mut body.stat),
            Response::Data(body) => self.level(&mut body.stat),
            Response::Acl(AclResponse { acl, stat }) => {
                self.level(stat);
                // auth-order
                let entries = acl.as_deref_mut().unwrap_or_default();
                let same = |left: &Acl, right: &Acl| {
                    left.perms == right.perms && left.id.scheme == right.id.scheme
                };
                for run in entries.chunk_by_mut(same) {
                    run.sort_by(|left, right| left.id.id.cmp(&right.id.id));
                }
            }
            Response::Children(body) => sort(&mut body.children),
            Response::Children2(body) => {
                sort(&mut body.children);
                self.level(&mut body.stat);
            }
            Response::Ephemerals(body) => sort(&mut body.ephemerals),
            Response::WhoAmI(body) => {
                if let Some(list) = &mut body.client_info {
                    list.sort_by_cached_key(|info| format!("{info:?}"));
                }
            }
            Response::Multi(body) => {
                let asked = match &op.body {
                    Request::Multi(request) => request.ops.as_slice(),
                    _ => &[],
                };
                for (at, result) in body.results.iter_mut().enumerate() {
                    match result {
                        MultiResult::Create2(_, stat)
                        | MultiResult::SetData(stat)
                        | MultiResult::GetData(_, stat) => self.level(stat),
                        MultiResult::GetChildren(children) => sort(children),
                        _ => {}
                    }
                    // create2-in-multi
                    if self.rules.peer == Peer::V38
                        && matches!(asked.get(at), Some(MultiOp::Create2(_)))
                        && let MultiResult::Create2(path, _) = result
                    {
                        *result = MultiResult::Create(std::mem::take(path));
                    }
                }
            }
            _ => {}
        }
        format!("{response:?}")
    }

    /// Takes out of a Stat what two servers cannot have in common.
    fn level(&self, stat: &mut Stat) {
        stat.ctime = i64::from(stat.ctime != 0);
        stat.mtime = i64::from(stat.mtime != 0);
        if stat.ephemeral_owner != 0 {
            let number = self.sessions.get(&stat.ephemeral_owner).copied();
            stat.ephemeral_owner = number.map_or(-1, |number| i64::try_from(number).unwrap_or(-1));
        }
    }
}

fn sort(names: &mut Option<Vec<Ustring<'_>>>) {
    if let Some(names) = names {
        names.sort();
    }
}
