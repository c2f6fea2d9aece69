//! Scripted sessions: inputs with times, outputs as data. No runtime, no socket, no sleep. Names begin with the fault
//! scenario (`fs_c5`) where there is one.

mod closing;
mod connection;
mod credentials;
mod expiry;
mod hostile;
mod patience;
mod requests;
mod watches;

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{FrameDecoder, begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{
    ConnectRequest, ConnectResponse, EventType, KeeperState, Password, PathWatchRequest,
    ReplyHeader, RequestHeader, Secret, SetWatches2, WatcherEvent,
};
use zk_proto::{ErrorCode, OpCode, SessionId, Xid, Zxid};

use super::{Answer, Config, Input, Output, SessionCore, Slot, Submission, Time, WatchKind};
use crate::error::{Error, ErrorKind, Outcome};
use crate::session::SessionState;

const T: u64 = 9_000;
const PATIENCE: u64 = 20_000;
const SESSION: SessionId = SessionId(0x0100_0000_0000_0007);

/// A slot with a number, abandoned at will.
#[derive(Debug, PartialEq)]
struct Caller(u32, bool);

impl Slot for Caller {
    fn is_abandoned(&self) -> bool {
        self.1
    }
}

struct Script {
    core: SessionCore<Caller>,
    now: u64,
    callers: u32,
    log: Vec<Output<Caller>>,
}

fn config(hosts: usize) -> Config {
    Config {
        hosts: (1..=hosts).map(|number| format!("host-{number}")).collect(),
        timeout_ms: i32::try_from(T).unwrap(),
        allow_read_only: false,
        renew: true,
        credentials: Vec::new(),
        max_frame: 1 << 20,
        max_in_flight: 100,
        patience_ms: PATIENCE,
        close_ms: T / 3,
        jitter_ms: 100,
        seed: 1,
    }
}

fn frame(fill: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    let mark = begin_frame(&mut out);
    fill(&mut out);
    end_frame(&mut out, mark);
    out
}

fn reply(xid: i32, zxid: i64, err: ErrorCode) -> BytesMut {
    frame(|out| {
        ReplyHeader {
            xid: Xid(xid),
            zxid: Zxid(zxid),
            err,
        }
        .encode(out);
    })
}

fn event(kind: EventType, path: &str) -> BytesMut {
    frame(|out| {
        ReplyHeader {
            xid: Xid::NOTIFICATION,
            zxid: Zxid(-1),
            err: ErrorCode::OK,
        }
        .encode(out);
        WatcherEvent {
            event_type: kind,
            state: KeeperState::SYNC_CONNECTED,
            path: path.into(),
        }
        .encode(out);
    })
}

fn welcome(session: SessionId, timeout: u64, read_only: bool) -> BytesMut {
    frame(|out| {
        ConnectResponse {
            protocol_version: 0,
            timeout: i32::try_from(timeout).unwrap(),
            session_id: session,
            passwd: Password::from(Bytes::from_static(b"0123456789abcdef")),
            read_only: Some(read_only),
        }
        .encode(out);
    })
}

/// A request as the server reads it.
#[derive(Debug, PartialEq)]
struct Request {
    xid: i32,
    op: OpCode,
    body: Bytes,
}

impl Script {
    fn new(config: Config) -> Self {
        let mut script = Self {
            core: SessionCore::new(Time(0), config),
            now: 0,
            callers: 0,
            log: Vec::new(),
        };
        script.tick();
        script
    }

    /// Attached, nothing else said.
    fn live(config: Config) -> Self {
        let mut script = Self::new(config);
        script.attach(SESSION);
        script.log.clear();
        script
    }

    fn input(&mut self, input: Input<'_, Caller>) {
        self.core.handle(Time(self.now), input);
        while let Some(output) = self.core.poll_output() {
            self.log.push(output);
        }
    }

    fn tick(&mut self) {
        self.input(Input::Tick);
    }

    /// Lets time pass with all deadlines in between.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(Time(deadline)) = self.core.next_deadline()
            && deadline <= end
        {
            self.now = self.now.max(deadline);
            self.tick();
        }
        self.now = end;
    }

    fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = BytesMut::from(bytes);
        self.input(Input::Received(&mut bytes));
    }

    /// Waits until a transport is asked for.
    fn until_connect(&mut self) -> usize {
        for _ in 0..100 {
            if let Some(Output::Connect { host, .. }) =
                self.log.iter().rev().find(|output| {
                    matches!(output, Output::Connect { .. } | Output::Disconnect { .. })
                })
            {
                return *host;
            }
            let Some(Time(deadline)) = self.core.next_deadline() else {
                break;
            };
            self.now = self.now.max(deadline);
            self.tick();
        }
        panic!("no connect: {:?}", self.log);
    }

    fn greet(&mut self) -> ConnectRequest {
        self.until_connect();
        self.input(Input::Opened);
        let mut out = self.core.outgoing().split();
        let frame = FrameDecoder::new(1 << 20)
            .decode(&mut out)
            .unwrap()
            .unwrap();
        assert!(out.is_empty(), "the server has not answered yet");
        ConnectRequest::decode(&mut Reader::new(&frame, "ConnectRequest")).unwrap()
    }

    fn attach(&mut self, session: SessionId) -> ConnectRequest {
        let request = self.greet();
        self.receive(&welcome(session, T, false));
        request
    }

    fn sent(&mut self) -> Vec<Request> {
        let mut out = self.core.outgoing().split();
        let mut sent = Vec::new();
        while let Some(frame) = FrameDecoder::new(1 << 20).decode(&mut out).unwrap() {
            let mut reader = Reader::new(&frame, "RequestHeader");
            let header = RequestHeader::decode(&mut reader).unwrap();
            sent.push(Request {
                xid: header.xid.0,
                op: header.op,
                body: reader.rest(),
            });
        }
        sent
    }

    fn ops(&mut self) -> Vec<OpCode> {
        self.sent().into_iter().map(|request| request.op).collect()
    }

    fn submit(&mut self, op: OpCode, path: &str, watch: Option<WatchKind>) -> u32 {
        let mut body = BytesMut::new();
        PathWatchRequest {
            path: path.into(),
            watch: watch.is_some(),
        }
        .encode(&mut body);
        let submission = Submission {
            op,
            path: Some(path.to_owned()),
            body: (&*body).into(),
            watch,
        };
        self.callers += 1;
        let caller = self.callers;
        self.input(Input::Submit(submission, Caller(caller, false)));
        caller
    }

    /// Registers a watch; the request is the connection's `xid`th.
    fn watch(
        &mut self,
        op: OpCode,
        path: &str,
        kind: WatchKind,
        code: ErrorCode,
    ) -> super::Watcher {
        let caller = self.submit(op, path, Some(kind));
        let xid = self.sent().last().unwrap().xid;
        self.receive(&reply(xid, 5, code));
        let watcher = match self.answer(caller) {
            Some(Ok(answer)) => answer.watcher.clone().unwrap(),
            other => panic!("{other:?}"),
        };
        self.log.clear();
        watcher
    }

    fn answer(&self, caller: u32) -> Option<&Result<Answer, Error>> {
        let mut answers = self.log.iter().filter_map(|output| match output {
            Output::Reply(slot, result) if slot.0 == caller => Some(result),
            _ => None,
        });
        let answer = answers.next();
        assert!(answers.next().is_none(), "answered twice");
        answer
    }

    fn failure(&self, caller: u32) -> (&ErrorKind, Outcome) {
        let error = self.answer(caller).unwrap().as_ref().unwrap_err();
        (error.kind(), error.outcome())
    }

    fn states(&self) -> Vec<SessionState> {
        let states = self.log.iter().filter_map(|output| match output {
            Output::State(state) => Some(*state),
            _ => None,
        });
        states.collect()
    }

    fn events(&self) -> Vec<(EventType, KeeperState, String, bool)> {
        let events = self.log.iter().filter_map(|output| match output {
            Output::Event { event, last, .. } => {
                Some((event.kind, event.state, event.path.clone(), *last))
            }
            _ => None,
        });
        events.collect()
    }

    fn lose(&mut self) {
        self.input(Input::Disconnected("unplugged".to_owned()));
        self.core.outgoing().clear();
    }
}

fn connected(session: SessionId) -> SessionState {
    SessionState::Connected {
        session,
        read_only: false,
    }
}
