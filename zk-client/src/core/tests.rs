//! Scripted sessions: inputs with times, outputs as data. No runtime, no socket, no sleep. Names begin with the fault
//! scenario (`fs_c5`) where there is one.

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
        hosts,
        timeout_ms: i32::try_from(T).unwrap(),
        allow_read_only: false,
        renew: true,
        credentials: Vec::new(),
        max_frame: 1 << 20,
        max_in_flight: 100,
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
            body: body.freeze(),
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
        self.input(Input::Disconnected);
        self.core.outgoing().clear();
    }
}

fn connected(session: SessionId) -> SessionState {
    SessionState::Connected {
        session,
        read_only: false,
    }
}

#[test]
fn a_new_session_says_nothing_of_an_old_one() {
    let mut script = Script::new(config(1));
    let request = script.attach(SESSION);
    assert_eq!(
        (request.session_id, request.last_zxid_seen, request.timeout),
        (SessionId(0), Zxid(0), 9_000)
    );
    assert_eq!(
        (request.read_only, request.passwd),
        (Some(false), Password::zero())
    );
    assert_eq!(script.states(), [connected(SESSION)]);
}

#[test]
fn replies_are_matched_in_order() {
    let mut script = Script::live(config(1));
    let first = script.submit(OpCode::EXISTS, "/a", None);
    let second = script.submit(OpCode::EXISTS, "/b", None);
    let xids: Vec<_> = script.sent().iter().map(|request| request.xid).collect();
    assert_eq!(xids, [1, 2]);
    let mut both = reply(1, 9, ErrorCode::OK);
    both.extend_from_slice(&reply(2, 10, ErrorCode::NO_NODE));
    // Byte by byte, as a slow network brings them; the driver keeps what is not a whole frame.
    let mut pending = BytesMut::new();
    for byte in &both {
        pending.extend_from_slice(&[*byte]);
        script.input(Input::Received(&mut pending));
    }
    assert!(pending.is_empty());
    assert_eq!(
        script.answer(first).unwrap().as_ref().unwrap().zxid,
        Zxid(9)
    );
    assert!(matches!(
        script.failure(second),
        (ErrorKind::Server(ErrorCode::NO_NODE), Outcome::NotDone)
    ));
}

#[test]
fn fs_c1_what_was_sent_is_lost_once_and_never_sent_again() {
    let mut script = Script::live(config(1));
    let caller = script.submit(OpCode::CREATE2, "/a", None);
    assert_eq!(script.ops(), [OpCode::CREATE2]);
    script.lose();
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::ConnectionLost, Outcome::Unknown)
    ));
    let again = script.attach(SESSION);
    assert_eq!(again.session_id, SESSION);
    assert_eq!(script.ops(), []);
    assert_eq!(
        script.states(),
        [
            SessionState::Suspended { session: SESSION },
            connected(SESSION)
        ]
    );
}

#[test]
fn what_was_not_sent_waits_for_the_next_connection() {
    let mut script = Script::live(config(1));
    script.lose();
    script.submit(OpCode::EXISTS, "/a", None);
    script.input(Input::Submit(
        Submission {
            op: OpCode::EXISTS,
            path: None,
            body: Bytes::new(),
            watch: None,
        },
        Caller(99, true),
    ));
    script.attach(SESSION);
    // The one that nobody waits for is not sent (fs C11).
    assert_eq!(script.ops(), [OpCode::EXISTS]);
}

#[test]
fn fs_c18_nothing_overtakes_a_lost_request() {
    let mut script = Script::live(Config {
        max_in_flight: 1,
        ..config(1)
    });
    script.submit(OpCode::CREATE2, "/first", None);
    let second = script.submit(OpCode::CREATE2, "/second", None);
    script.lose();
    assert!(matches!(
        script.failure(second),
        (ErrorKind::ConnectionLost, Outcome::NotDone)
    ));
    // Whatever is still on its way to the core came before the loss as well.
    let marks = script.log.iter();
    let lost = |output: &&Output<Caller>| matches!(output, Output::Disconnect { lost: true });
    assert_eq!(marks.filter(lost).count(), 1);
    script.attach(SESSION);
    assert_eq!(script.ops(), []);
}

#[test]
fn fs_c4_a_server_that_lags_costs_the_session_nothing() {
    let mut script = Script::live(config(3));
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.sent();
    script.receive(&reply(1, 77, ErrorCode::OK));
    assert!(script.answer(caller).is_some());
    script.lose();
    let mut tried = Vec::new();
    for _ in 0..2 {
        tried.push(script.until_connect());
        let request = script.greet();
        assert_eq!(
            (request.last_zxid_seen, request.session_id),
            (Zxid(77), SESSION)
        );
        script.log.clear();
        script.lose();
    }
    tried.push(script.until_connect());
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2]);
    assert_eq!(script.attach(SESSION).session_id, SESSION);
}

#[test]
fn fs_c5_silence_is_noticed_after_two_thirds_of_the_timeout() {
    let mut script = Script::live(config(1));
    script.pass(T * 2 / 3 - 1);
    assert_eq!(script.states(), []);
    assert!(script.ops().contains(&OpCode::PING));
    script.pass(1);
    assert_eq!(
        script.states(),
        [SessionState::Suspended { session: SESSION }]
    );
    assert!(
        script
            .log
            .iter()
            .any(|output| matches!(output, Output::Disconnect { .. }))
    );
}

#[test]
fn pings_keep_a_silent_session() {
    let mut script = Script::live(config(1));
    for _ in 0..50 {
        script.pass(T / 3);
        let pings = script.ops();
        assert!(!pings.is_empty() && pings.iter().all(|op| *op == OpCode::PING));
        script.receive(&reply(-2, 0, ErrorCode::OK));
    }
    assert_eq!(script.states(), []);
}

#[test]
fn fs_c6_expiry_learnt_from_the_handshake() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    script.watch(
        OpCode::ADD_WATCH,
        "/b",
        WatchKind::Persistent,
        ErrorCode::OK,
    );
    script.lose();
    let unsent = script.submit(OpCode::EXISTS, "/a", None);
    script.greet();
    script.receive(&welcome(SessionId(0), 0, false));
    assert!(matches!(
        script.failure(unsent),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
    let ended = |path: &str| (EventType::NONE, KeeperState::EXPIRED, path.to_owned(), true);
    assert_eq!(script.events(), [ended("/a"), ended("/b")]);
    script.log.clear();
    // The next session starts from nothing, by itself.
    let request = script.attach(SessionId(8));
    assert_eq!(
        (request.session_id, request.last_zxid_seen),
        (SessionId(0), Zxid(0))
    );
    assert_eq!(script.ops(), []);
    assert_eq!(script.states(), [connected(SessionId(8))]);
    assert_eq!(script.events(), []);
}

#[test]
fn fs_c6_without_renewal_the_client_is_over() {
    let mut script = Script::live(Config {
        renew: false,
        ..config(1)
    });
    script.lose();
    script.greet();
    script.receive(&welcome(SessionId(0), 0, false));
    assert!(script.core.is_over());
    assert_eq!(
        script.states().last(),
        Some(&SessionState::Lost { session: SESSION })
    );
    let late = script.submit(OpCode::EXISTS, "/a", None);
    assert!(matches!(
        script.failure(late),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
    assert_eq!(script.core.next_deadline(), None);
}

#[test]
fn the_clock_alone_ends_a_session() {
    let mut script = Script::live(config(2));
    script.lose();
    script.log.clear();
    let unsent = script.submit(OpCode::EXISTS, "/a", None);
    // No server is there; each attempt fails at once.
    while script.now < T * 4 / 3 - 1 {
        script.pass(1);
        script.lose();
        assert!(script.answer(unsent).is_none());
    }
    assert_eq!(script.states(), []);
    script.pass(1);
    assert_eq!(script.states(), [SessionState::Lost { session: SESSION }]);
    assert!(matches!(
        script.failure(unsent),
        (ErrorKind::SessionExpired, Outcome::NotDone)
    ));
}

#[test]
fn fs_k3_after_a_long_pause_the_loss_comes_before_anything_else() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.sent();
    // The process was stopped; its answer has been waiting in the socket.
    script.now += T * 4 / 3;
    let mut bytes = event(EventType::NODE_DATA_CHANGED, "/a");
    bytes.extend_from_slice(&reply(2, 9, ErrorCode::OK));
    script.receive(&bytes);
    assert!(
        matches!(
            script.log[0],
            Output::State(SessionState::Lost { session: SESSION })
        ),
        "{:?}",
        script.log
    );
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::SessionExpired, Outcome::Unknown)
    ));
    let end = (EventType::NONE, KeeperState::EXPIRED, "/a".to_owned(), true);
    assert_eq!(script.events(), [end]);
}

#[test]
fn fs_k3_a_shorter_pause_lets_a_server_decide_before_any_success() {
    let mut script = Script::live(config(1));
    let caller = script.submit(OpCode::EXISTS, "/a", None);
    script.sent();
    script.now += T;
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert!(matches!(script.log[0], Output::Disconnect { .. }));
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::ConnectionLost, Outcome::Unknown)
    ));
    assert_eq!(script.attach(SESSION).session_id, SESSION);
}

#[test]
fn fs_c7_the_negotiated_timeout_counts() {
    let mut script = Script::new(config(1));
    script.greet();
    script.receive(&welcome(SESSION, 3_000, false));
    script.log.clear();
    script.pass(1_999);
    assert_eq!(script.states(), []);
    script.pass(1);
    assert_eq!(
        script.states(),
        [SessionState::Suspended { session: SESSION }]
    );
    script.log.clear();
    assert_eq!(
        script.greet().timeout,
        9_000,
        "what was asked for is asked for again"
    );
}

#[test]
fn fs_c8_watches_are_set_again_with_the_last_zxid() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/data", WatchKind::Data, ErrorCode::OK);
    script.watch(OpCode::EXISTS, "/there", WatchKind::Exists, ErrorCode::OK);
    script.watch(
        OpCode::EXISTS,
        "/absent",
        WatchKind::Exists,
        ErrorCode::NO_NODE,
    );
    script.watch(
        OpCode::GET_CHILDREN2,
        "/child",
        WatchKind::Child,
        ErrorCode::OK,
    );
    script.lose();
    script.attach(SESSION);
    let sent = script.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].op, OpCode::SET_WATCHES, "known to all servers");
    let mut reader = Reader::new(&sent[0].body, "SetWatches");
    let again = zk_proto::session::SetWatches::decode(&mut reader).unwrap();
    let paths = |list: Option<Vec<zk_proto::jute::Ustring<'_>>>| -> Vec<String> {
        let paths = list.unwrap().into_iter();
        paths.map(|path| path.or_empty().to_owned()).collect()
    };
    assert_eq!(again.relative_zxid, Zxid(5));
    assert_eq!(paths(again.data_watches), ["/data", "/there"]);
    assert_eq!(paths(again.exist_watches), ["/absent"]);
    assert_eq!(paths(again.child_watches), ["/child"]);
    // Fires once, and is not set again after that.
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/data"));
    assert_eq!(script.events().len(), 1);
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/data"));
    assert_eq!(script.events().len(), 1);
}

#[test]
fn fs_c8_a_server_that_refuses_the_watches_is_left() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/data", WatchKind::Data, ErrorCode::OK);
    script.lose();
    script.attach(SESSION);
    let xid = script.sent()[0].xid;
    script.receive(&reply(xid, 6, ErrorCode::THROTTLED_OP));
    assert_eq!(
        script.core.state,
        SessionState::Suspended { session: SESSION },
        "{:?}",
        script.log
    );
    // The next one is given them again.
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::SET_WATCHES]);
}

#[test]
fn fs_c8_many_watches_go_in_several_requests() {
    let mut script = Script::live(config(1));
    for number in 0..5_000 {
        let path = format!("/{number:0>99}");
        let kind = if number % 2 == 0 {
            WatchKind::Data
        } else {
            WatchKind::Recursive
        };
        script.watch(OpCode::GET_DATA, &path, kind, ErrorCode::OK);
    }
    let waiting = script.submit(OpCode::EXISTS, "/x", None);
    script.sent();
    script.lose();
    assert!(script.answer(waiting).is_some());
    script.submit(OpCode::EXISTS, "/after", None);
    script.attach(SESSION);
    let sent = script.sent();
    let (batches, last) = sent.split_at(sent.len() - 1);
    assert_eq!(last[0].op, OpCode::EXISTS, "requests go after the watches");
    assert_eq!(batches.len(), 500_000usize.div_ceil(128 * 1024));
    let mut paths = 0;
    for batch in batches {
        assert!(batch.op == OpCode::SET_WATCHES2 && batch.body.len() < 0xf_ffff / 2);
        let again = SetWatches2::decode(&mut Reader::new(&batch.body, "SetWatches2")).unwrap();
        assert_eq!(again.relative_zxid, Zxid(5));
        paths += again.data_watches.unwrap().len();
        paths += again.persistent_recursive_watches.unwrap().len();
    }
    assert_eq!(paths, 5_000);
    // Their replies are matched; the request behind them is not shifted.
    for request in &sent {
        script.receive(&reply(request.xid, 9, ErrorCode::OK));
    }
    assert!(script.answer(script.callers).unwrap().is_ok());
}

#[test]
fn fs_c9_a_watch_whose_request_died_is_not_set() {
    let mut script = Script::live(config(1));
    let caller = script.submit(OpCode::GET_DATA, "/a", Some(WatchKind::Data));
    script.sent();
    script.lose();
    assert!(matches!(
        script.failure(caller),
        (ErrorKind::ConnectionLost, Outcome::Unknown)
    ));
    script.attach(SESSION);
    assert_eq!(script.ops(), []);
    // The server cannot know it either: watches die with their connection.
    script.receive(&event(EventType::NODE_DATA_CHANGED, "/a"));
    assert_eq!(script.events(), []);
}

#[test]
fn fs_c10_an_event_comes_out_before_the_reply_behind_it() {
    let mut script = Script::live(config(1));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    script.submit(OpCode::SET_DATA, "/a", None);
    script.sent();
    let mut bytes = event(EventType::NODE_DATA_CHANGED, "/a");
    bytes.extend_from_slice(&reply(2, 9, ErrorCode::OK));
    script.receive(&bytes);
    assert!(
        matches!(
            script.log[..],
            [Output::Event { last: true, .. }, Output::Reply(_, Ok(_))]
        ),
        "{:?}",
        script.log
    );
}

#[test]
fn persistent_watches_are_told_of_a_gap_after_they_are_set_again() {
    let mut script = Script::live(config(1));
    script.watch(
        OpCode::ADD_WATCH,
        "/p",
        WatchKind::Persistent,
        ErrorCode::OK,
    );
    script.watch(OpCode::ADD_WATCH, "/", WatchKind::Recursive, ErrorCode::OK);
    script.receive(&event(EventType::NODE_CREATED, "/p/q"));
    script.receive(&event(EventType::NODE_CHILDREN_CHANGED, "/p"));
    let paths: Vec<_> = script.events().into_iter().map(|event| event.2).collect();
    assert_eq!(paths, ["/p/q", "/p"]);
    script.log.clear();
    script.lose();
    assert_eq!(script.events(), []);
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::SET_WATCHES2]);
    let gap = |path: &str| {
        let path = path.to_owned();
        (EventType::NONE, KeeperState::SYNC_CONNECTED, path, false)
    };
    assert_eq!(script.events(), [gap("/"), gap("/p")]);
}

#[test]
fn the_last_watcher_removes_the_servers_watch() {
    let mut script = Script::live(config(1));
    let first = script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    let second = script.watch(OpCode::EXISTS, "/a", WatchKind::Exists, ErrorCode::OK);
    script.input(Input::Unwatch(first));
    assert_eq!(script.ops(), []);
    // A request on the wire may set it anew: the removal would come behind it.
    script.submit(OpCode::GET_DATA, "/a", Some(WatchKind::Data));
    assert_eq!(script.ops(), [OpCode::GET_DATA]);
    script.input(Input::Unwatch(second));
    assert_eq!(script.ops(), []);
    script.receive(&reply(3, 9, ErrorCode::NO_NODE));
    assert_eq!(script.ops(), [OpCode::REMOVE_WATCHES]);
    script.receive(&reply(4, 9, ErrorCode::NO_WATCHER));
    assert_eq!(script.states(), []);
}

#[test]
fn fs_c14_what_no_server_says_drops_the_connection() {
    let hostile: [&[u8]; 9] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        &reply(1, 9, ErrorCode::OK),
        &reply(-4, 0, ErrorCode::OK),
        &event(EventType(99), "/a"),
        &event(EventType::NONE, "/a"),
        // An event without its record.
        &reply(-1, 0, ErrorCode::OK),
    ];
    for bytes in hostile {
        let mut script = Script::live(config(1));
        script.receive(bytes);
        assert_eq!(
            script.states(),
            [SessionState::Suspended { session: SESSION }],
            "{bytes:?}"
        );
        script.attach(SESSION);
    }
    // Text that is none names no watched path.
    let mut script = Script::live(config(1));
    let mut bytes = event(EventType::NODE_CREATED, "/a");
    let last = bytes.len() - 1;
    bytes[last] = 0xff;
    script.receive(&bytes);
    assert_eq!(script.states(), []);
}

#[test]
fn fs_c14_a_broken_welcome_is_no_session() {
    for bytes in [&b"\0\0\0\x02hi"[..], &welcome(SessionId(0), 0, false)] {
        let mut script = Script::new(config(1));
        script.greet();
        script.log.clear();
        script.receive(bytes);
        assert_eq!(script.states(), []);
        script.attach(SESSION);
    }
    // Another session than the one asked for.
    let mut script = Script::live(config(1));
    script.lose();
    script.log.clear();
    script.greet();
    script.receive(&welcome(SessionId(99), T, false));
    assert_eq!(script.states(), []);
}

#[test]
fn fs_c15_refused_credentials_end_everything() {
    let secret = || Secret::from(Bytes::from_static(b"bob:hunter2"));
    let mut script = Script::new(Config {
        credentials: vec![("digest".to_owned(), secret())],
        ..config(1)
    });
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
    script.lose();
    script.log.clear();
    let auth = secret();
    script.input(Input::AddAuth {
        scheme: "sasl".to_owned(),
        auth,
        slot: Caller(50, false),
    });
    script.attach(SESSION);
    // Both, in order, before anything else.
    assert_eq!(script.ops(), [OpCode::AUTH, OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
    let waiting = script.submit(OpCode::EXISTS, "/a", None);
    script.receive(&reply(-4, 0, ErrorCode::AUTH_FAILED));
    assert!(matches!(
        script.failure(50),
        (ErrorKind::AuthFailed, Outcome::NotDone)
    ));
    assert!(matches!(
        script.failure(waiting),
        (ErrorKind::AuthFailed, Outcome::Unknown)
    ));
    assert_eq!(script.states().last(), Some(&SessionState::AuthFailed));
    assert!(script.core.is_over() && script.core.next_deadline().is_none());
    let shown = format!("{:?}", script.core);
    assert!(!shown.contains("hunter2") && !shown.contains("0123456789abcdef"));
}

#[test]
fn credentials_survive_a_lost_connection() {
    let mut script = Script::live(config(1));
    script.input(Input::AddAuth {
        scheme: "digest".to_owned(),
        auth: Bytes::from_static(b"a:b").into(),
        slot: Caller(50, false),
    });
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.lose();
    assert!(script.answer(50).is_none());
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::AUTH]);
    script.receive(&reply(-4, 0, ErrorCode::OK));
    assert!(script.answer(50).unwrap().is_ok());
}

#[test]
fn fs_c16_close_goes_behind_what_was_submitted() {
    let mut script = Script::live(config(1));
    let before = script.submit(OpCode::EXISTS, "/a", None);
    script.input(Input::Close);
    let after = script.submit(OpCode::EXISTS, "/b", None);
    assert_eq!(script.ops(), [OpCode::EXISTS, OpCode::CLOSE_SESSION]);
    assert!(matches!(
        script.failure(after),
        (ErrorKind::Closed, Outcome::NotDone)
    ));
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert!(script.answer(before).unwrap().is_ok());
    script.receive(&reply(2, 10, ErrorCode::OK));
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: true })
    ));
    assert_eq!(script.states(), [SessionState::Closed]);
}

#[test]
fn fs_c16_close_does_not_wait_for_ever() {
    // Nobody answers.
    let mut script = Script::live(config(1));
    script.input(Input::Close);
    script.pass(T / 3);
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: false })
    ));
    // The connection ends without an answer: the next handshake tells whether the close arrived.
    let mut script = Script::live(config(1));
    script.input(Input::Close);
    script.lose();
    script.greet();
    script.receive(&welcome(SessionId(0), 0, false));
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: true })
    ));
    let mut script = Script::live(config(1));
    script.input(Input::Close);
    script.lose();
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::CLOSE_SESSION]);
    // In the middle of a reconnect: on the next connection.
    let mut script = Script::live(config(1));
    script.lose();
    script.input(Input::Close);
    script.attach(SESSION);
    assert_eq!(script.ops(), [OpCode::CLOSE_SESSION]);
    // Before there was any session: at once.
    let mut script = Script::new(config(1));
    script.input(Input::Close);
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: true })
    ));
    // Let go without a connection: at once.
    let mut script = Script::live(config(1));
    script.lose();
    script.input(Input::LetGo);
    assert!(matches!(
        script.log.last(),
        Some(Output::Over { confirmed: false })
    ));
}

#[test]
fn fs_c17_from_a_read_only_server_to_a_full_one() {
    let mut script = Script::new(Config {
        allow_read_only: true,
        ..config(2)
    });
    let first = script.until_connect();
    assert_eq!(script.greet().read_only, Some(true));
    let fake = SessionId(0x7f);
    script.receive(&welcome(fake, T, true));
    script.watch(OpCode::GET_DATA, "/a", WatchKind::Data, ErrorCode::OK);
    script.pass(100);
    let [Output::Probe { host }] = script.log[..] else {
        panic!("{:?}", script.log);
    };
    assert_ne!(host, first);
    script.input(Input::Probed {
        host,
        writable: false,
    });
    script.log.clear();
    script.pass(199);
    assert!(script.log.is_empty(), "{:?}", script.log);
    script.pass(1);
    let Some(Output::Probe { host }) = script.log.first() else {
        panic!("{:?}", script.log);
    };
    let host = *host;
    script.sent();
    script.input(Input::Probed {
        host,
        writable: true,
    });
    assert_eq!(script.until_connect(), host);
    // A session of a read-only server is unknown elsewhere.
    assert_eq!(script.attach(SESSION).session_id, SessionId(0));
    assert_eq!(script.states().last(), Some(&connected(SESSION)));
    assert_eq!(script.ops(), [OpCode::SET_WATCHES]);
}

#[test]
fn there_is_a_bound_to_what_is_on_the_wire() {
    let mut script = Script::live(Config {
        max_in_flight: 2,
        ..config(1)
    });
    script.submit(OpCode::EXISTS, "/a", None);
    assert!(script.core.has_room());
    script.submit(OpCode::EXISTS, "/b", None);
    assert!(!script.core.has_room());
    script.submit(OpCode::EXISTS, "/c", None);
    assert_eq!(script.sent().len(), 2);
    script.receive(&reply(1, 9, ErrorCode::OK));
    assert_eq!(script.sent().len(), 1);
}

#[test]
fn a_server_that_does_not_shake_hands_is_left() {
    let mut script = Script::new(config(3));
    let first = script.until_connect();
    script.greet();
    script.log.clear();
    script.pass(T / 3 - 1);
    assert!(script.log.is_empty(), "{:?}", script.log);
    script.pass(1);
    assert_ne!(script.until_connect(), first);
}

proptest::proptest! {
    /// Whatever a server says: no panic, one answer to each caller at the end, and a bound to what is kept.
    #[test]
    fn fs_c14_no_bytes_break_the_core(frames in proptest::collection::vec(
        (proptest::option::of(-8i32..6), proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)), 0..12,
    )) {
        let mut script = Script::live(config(2));
        for path in ["/a", "/b", "/c"] {
            script.submit(OpCode::GET_DATA, path, Some(WatchKind::Data));
        }
        for (xid, bytes) in frames {
            let bytes = match xid {
                // A likely header, then anything.
                Some(xid) => frame(|out| {
                    out.extend_from_slice(&xid.to_be_bytes());
                    out.extend_from_slice(&bytes);
                }),
                None => BytesMut::from(&bytes[..]),
            };
            script.receive(&bytes);
            if !matches!(script.core.phase, super::Phase::Live { .. }) {
                script.attach(SESSION);
            }
        }
        script.input(Input::Close);
        script.pass(T);
        for caller in 1..=3 {
            assert!(script.answer(caller).is_some());
        }
        assert!(script.core.is_over());
    }
}
