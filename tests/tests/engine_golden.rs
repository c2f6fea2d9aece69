//! Conversations captured from Apache ZooKeeper 3.8.0 and 3.9.3, played to the engine: its replies and events are the
//! captured ones, byte for byte.
//!
//! The capture holds the frames that were of interest. What happened between them (sessions, nodes made by others, one
//! expiry) is known from zxids and Stats, and is done by `before`, by the name of the frame it came before. The wall clock is
//! the one that the captured Stats show, and the engine numbers sessions from the same start, so zxids, session ids, owners
//! and times are compared like everything else. What is not compared:
//!
//! * passwords: Java derives them from the session's id, ours are keyed with a secret (scenario M6);
//! * the order of children, ephemerals and identities ([`ANY_ORDER`]): Java's is that of a hash table;
//! * the zxid of 3.8.0's events, which is always -1: 3.9 and ours tell the transaction's;
//! * whether an event stands before or after the reply of its request: the capture lists replies first, whatever came first;
//! * the frames of [`DIFFERENT`] and [`LEFT_OUT`], by name and with the reason.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use zk_proto::frame::FrameDecoder;
use zk_proto::jute::{Decode as _, Encode, Reader};
use zk_proto::session::{
    AddWatchMode, AddWatchRequest, ConnectRequest, ConnectResponse, CreateRequest, DeleteRequest,
    MultiResult, PathWatchRequest, ReplyHeader, RequestHeader, Response, SetDataRequest,
};
use zk_proto::{Acl, Id, OpCode, Perms, SessionId, Xid};
use zk_server_lite::pipeline::{ConnId, Database, Engine, EngineConfig};
use zk_server_lite::time::Time;

const FRAMES: &str = include_str!("../../zk-proto/tests/data/golden-frames.jsonl");

/// Cases whose reply lists names in the order of Java's hash tables.
const ANY_ORDER: &[&str] = &[
    "getChildren/ok",
    "getChildren2/ok",
    "getChildren2/zookeeper",
    "getEphemerals/prefix",
    "getEphemerals/all",
    "multiRead/mixed-results",
    "whoAmI/digest",
    "whoAmI/super",
];

/// Frames that ours answers otherwise, on purpose: `(version and name, why)`. That it does answer otherwise is checked.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "3.8.0/multi/all-ops-ok/response",
        "3.8 answers create2 inside a multi as if it were create; 3.9 and ours give the Stat",
    ),
    (
        "3.8.0/create/MARSHALLINGERROR-truncated-body/response",
        "3.8 spends a transaction on a request that it cannot read; 3.9 and ours do not",
    ),
];

/// Frames that are not played.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "3.9.3/reconfig/ok",
        "an ensemble's: this server has no ensemble to reconfigure",
    ),
    (
        "3.9.3/deleteContainer/",
        "clients may not delete containers here: 3.9 checks neither session nor ACL",
    ),
];

struct Row {
    version: &'static str,
    /// Without the version.
    name: &'static str,
    /// Without the version and the frame's place in it.
    case: &'static str,
    from_client: bool,
    /// Without the length.
    frame: Bytes,
}

struct Capture {
    rows: Vec<Row>,
    /// When each transaction was, as far as a Stat shows it.
    times: BTreeMap<(&'static str, i64), i64>,
}

impl Capture {
    fn read() -> Self {
        let mut capture = Self {
            rows: Vec::new(),
            times: BTreeMap::new(),
        };
        for line in FRAMES.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let name: &'static str = line["name"].as_str().unwrap().to_owned().leak();
            let (version, name) = name.split_once('/').unwrap();
            let hex = line["hex"].as_str().unwrap();
            let bytes: Bytes = (8..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            capture.note_times(version, &line["meaning"]);
            capture.rows.push(Row {
                version,
                name,
                case: name.rsplit_once('/').unwrap().0,
                from_client: line["direction"] == "c2s",
                frame: bytes,
            });
        }
        capture
    }

    fn note_times(&mut self, version: &'static str, meaning: &Value) {
        match meaning {
            Value::Object(fields) => {
                for (zxid, time) in [("czxid", "ctime"), ("mzxid", "mtime")] {
                    if let (Some(zxid), Some(time)) = (fields.get(zxid), fields.get(time)) {
                        let key = (version, zxid.as_i64().unwrap());
                        self.times.insert(key, time.as_i64().unwrap());
                    }
                }
                fields
                    .values()
                    .for_each(|value| self.note_times(version, value));
            }
            Value::Array(values) => {
                values
                    .iter()
                    .for_each(|value| self.note_times(version, value));
            }
            _ => {}
        }
    }
}

/// One connection, and what it has received and nobody has looked at.
struct Client {
    conn: ConnId,
    session: SessionId,
    passwd: Bytes,
    replies: VecDeque<Bytes>,
    events: VecDeque<Bytes>,
    handshaken: bool,
}

/// An engine, and who talks to it.
struct World<'a> {
    version: &'static str,
    times: &'a BTreeMap<(&'static str, i64), i64>,
    engine: Engine,
    clients: BTreeMap<&'static str, Client>,
    next_conn: u64,
    unread: BTreeMap<ConnId, BytesMut>,
}

impl<'a> World<'a> {
    fn new(version: &'static str, capture: &'a Capture, extended_types: bool) -> Self {
        let config = EngineConfig {
            tick: std::time::Duration::from_millis(500),
            min_session_timeout: 1000,
            max_session_timeout: 40_000,
            // So that the first session has the captured one's number.
            start_millis: if version == "3.8.0" {
                0x14_242a
            } else {
                0x14_54a3
            },
            extended_types,
            enforce_quota: true,
            // super:secret
            super_digest: Some("super:lK75jTNcA+U9vtVEw5vB51mj/w4=".to_owned()),
            secret: [3; 32],
            ..EngineConfig::default()
        };
        Self {
            version,
            times: &capture.times,
            engine: Engine::new(config, Database::empty(extended_types), Time::default()),
            clients: BTreeMap::new(),
            next_conn: 0,
            unread: BTreeMap::new(),
        }
    }

    fn zxid(&self) -> i64 {
        self.engine.tree().last_zxid().0
    }

    /// The wall clock of the next transaction; the one before it where no Stat tells.
    fn wall(&self) -> i64 {
        let next = self.zxid() + 1;
        let known = self.times.range((self.version, 0)..=(self.version, next));
        known.last().map_or(0, |(_, time)| *time)
    }

    fn frame(&mut self, who: &'static str, frame: &Bytes) {
        let conn = self.clients[who].conn;
        let wall = self.wall();
        self.engine.handle_frame(conn, frame, Time::default(), wall);
        self.commit();
    }

    fn commit(&mut self) {
        let mut appends = Vec::new();
        self.engine.take_appends(&mut appends);
        if let Some(last) = appends.last() {
            self.engine.committed(last.zxid, Time::default());
        }
        let conns: Vec<_> = self.clients.keys().copied().collect();
        for who in conns {
            self.collect(who);
        }
    }

    fn collect(&mut self, who: &'static str) {
        let client = self.clients.get_mut(who).unwrap();
        let Some(out) = self.engine.output(client.conn) else {
            return;
        };
        let mut received = out.split();
        let unread = self.unread.entry(client.conn).or_default();
        unread.unsplit(received.split());
        while let Some(frame) = FrameDecoder::new(1 << 20).decode(unread).unwrap() {
            let is_event = client.handshaken && frame[..4] == (-1_i32).to_be_bytes();
            client.handshaken = true;
            if is_event {
                client.events.push_back(frame);
            } else {
                client.replies.push_back(frame);
            }
        }
    }

    fn attach(&mut self, who: &'static str) {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.engine
            .attach(conn, [127, 0, 0, 1].into(), Time::default());
        let client = Client {
            conn,
            session: SessionId(0),
            passwd: Bytes::from_static(&[0; 16]),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            handshaken: false,
        };
        self.clients.insert(who, client);
    }

    /// A new session that the capture does not show.
    fn connect(&mut self, who: &'static str) {
        self.attach(who);
        let request = ConnectRequest {
            timeout: 10_000,
            passwd: Bytes::from_static(&[0; 16]).into(),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        self.frame(who, &encoded(&request));
        let frame = self.clients.get_mut(who).unwrap().replies.pop_front();
        self.welcome(who, &frame.unwrap());
    }

    fn welcome(&mut self, who: &'static str, frame: &Bytes) {
        let response = ConnectResponse::decode(&mut Reader::new(frame, "welcome")).unwrap();
        let client = self.clients.get_mut(who).unwrap();
        client.session = response.session_id;
        client.passwd = response.passwd.0.unwrap_or_default();
    }

    /// A request that the capture does not show.
    fn ask(&mut self, who: &'static str, op: OpCode, body: &impl Encode) {
        let mut out = BytesMut::new();
        let xid = Xid(0x0ead);
        RequestHeader { xid, op }.encode(&mut out);
        body.encode(&mut out);
        self.frame(who, &out.freeze());
        let reply = self.clients.get_mut(who).unwrap().replies.pop_front();
        let reply = reply.unwrap();
        let header = ReplyHeader::decode(&mut Reader::new(&reply, "reply")).unwrap();
        assert_eq!((header.xid, header.err.0), (xid, 0), "{op:?}");
    }

    fn create(&mut self, who: &'static str, path: &str, data: &str) {
        self.create_for(who, path, data, Acl::open_unsafe());
    }

    fn create_for(&mut self, who: &'static str, path: &str, data: &str, acl: Acl) {
        let request = CreateRequest {
            path: path.into(),
            data: Some(Bytes::copy_from_slice(data.as_bytes())),
            acl: Some(vec![acl]),
            flags: 0,
        };
        self.ask(who, OpCode::CREATE, &request);
    }

    fn set(&mut self, path: &str, data: &'static str) {
        let request = SetDataRequest {
            path: path.into(),
            data: Some(Bytes::from_static(data.as_bytes())),
            version: -1,
        };
        self.ask("actor", OpCode::SET_DATA, &request);
    }

    fn delete(&mut self, path: &str) {
        let request = DeleteRequest {
            path: path.into(),
            version: -1,
        };
        self.ask("actor", OpCode::DELETE, &request);
    }

    /// Transactions of no consequence up to a zxid: what happened there left no trace.
    fn pass_until(&mut self, zxid: i64) {
        while self.zxid() < zxid {
            self.connect("nobody");
        }
        assert_eq!(self.zxid(), zxid);
    }

    /// Does what had happened before a frame that the capture does not show.
    fn before(&mut self, row: &Row) {
        let is_38 = row.version == "3.8.0";
        let expire_the_short_one = |world: &mut Self| {
            let session = world.clients["connect/timeout-below-minimum"].session;
            let wall = world.wall();
            assert!(world.engine.expire_session(session, wall, Time::default()));
            world.commit();
        };
        match row.name {
            "connect/reattach/request" => self.connect("nobody"),
            "setACL/NONODE/request" if is_38 => expire_the_short_one(self),
            "addWatch/persistent-recursive/request" if !is_38 => expire_the_short_one(self),
            "auth/digest-ok/request" => self.connect("bob"),
            "auth/AUTHFAILED/request" => self.connect("bogus"),
            "auth/super/request" => self.connect("super"),
            "watch/getData-set/request" => {
                self.connect("watcher");
                self.connect("actor");
                self.create("actor", "/g/w", "");
            }
            "watch/data-changed/event0" => self.set("/g/w", "1"),
            "watch/children-changed/event0" => self.create("actor", "/g/w/k", ""),
            "watch/created-and-children-changed/event0" => self.create("actor", "/g/w/new", ""),
            "watch/deleted/event0" => {
                let watch = PathWatchRequest {
                    path: "/g/w/new".into(),
                    watch: true,
                };
                self.ask("watcher", OpCode::GET_DATA, &watch);
                self.delete("/g/w/new");
            }
            "watch/persistent/event0" => self.set("/g/w", "2"),
            "watch/persistent/event1" => self.create("actor", "/g/w/p", ""),
            "watch/persistent-recursive/event0" => self.create("actor", "/g/w2", ""),
            "watch/persistent-recursive/event1" => self.create("actor", "/g/w2/a", ""),
            "watch/persistent-recursive/event2" => self.set("/g/w2/a", "1"),
            "watch/persistent-recursive/event3" => self.delete("/g/w2/a"),
            "watch/persistent-recursive/event4" => self.delete("/g/w2"),
            "setWatches/all-fire/request"
            | "setWatches/missing-nodes/request"
            | "setWatches/up-to-date/request"
            | "setWatches2/ok/request"
            | "unknown-op/UNIMPLEMENTED/request"
            | "create/MARSHALLINGERROR-truncated-body/request" => self.connect(row.case),
            "sasl/server-without-sasl/request" => {
                if is_38 {
                    // The transaction it spent on the request before, see `DIFFERENT`.
                    self.pass_until(80);
                }
                self.connect(row.case);
            }
            "reconfig/RECONFIGDISABLED/request" => {
                // These connections are gone by now; their sessions are not.
                let gone = |who: &&str| who.starts_with("setWatches");
                let gone: Vec<_> = self.clients.keys().copied().filter(gone).collect();
                for who in gone {
                    let client = self.clients.remove(who).unwrap();
                    self.engine.detach(client.conn);
                }
            }
            "quota/create-within/request" => {
                self.create("main", "/zookeeper/quota/gq", "");
                self.create("main", "/gq", "");
                let limits = "count=-1,bytes=-1,byteHardLimit=10,countHardLimit=2";
                let node = "/zookeeper/quota/gq/zookeeper_limits";
                self.create("main", node, limits);
                let node = "/zookeeper/quota/gq/zookeeper_stats";
                self.create("main", node, "count=1,bytes=0");
            }
            "createTTL/UNIMPLEMENTED-extended-types-off/request" => {
                self.pass_until(28);
                self.connect("off");
            }
            "checkWatches/NOWATCHER-persistent/request" => {
                self.connect("last");
                self.create("last", "/dcg", "");
                self.pass_until(50);
            }
            "checkWatches/ok-persistent/request"
            | "removeWatches/ok-persistent-recursive/request" => {
                let mode = if row.case.starts_with("checkWatches") {
                    AddWatchMode::PERSISTENT
                } else {
                    AddWatchMode::PERSISTENT_RECURSIVE
                };
                let path = "/dcg".into();
                self.ask("last", OpCode::ADD_WATCH, &AddWatchRequest { path, mode });
            }
            "exists/NOAUTH/request" => {
                self.pass_until(51);
                let nobody = Acl {
                    perms: Perms::READ,
                    id: Id {
                        scheme: "digest".into(),
                        id: "nobody:x".into(),
                    },
                };
                self.create_for("last", "/dcg/sec", "", nobody);
            }
            _ => {}
        }
    }

    /// Whose connection a case belongs to.
    fn speaker(case: &'static str) -> &'static str {
        match case {
            "connect/new" => "main",
            "auth/digest-ok"
            | "whoAmI/digest"
            | "create/auth-expansion"
            | "getACL/auth-expanded"
            | "setACL/auth-expansion" => "bob",
            "auth/AUTHFAILED" => "bogus",
            "auth/super" | "whoAmI/super" => "super",
            "unknown-op/UNIMPLEMENTED"
            | "create/MARSHALLINGERROR-truncated-body"
            | "sasl/server-without-sasl" => case,
            "createTTL/UNIMPLEMENTED-extended-types-off" => "off",
            "checkWatches/NOWATCHER-persistent"
            | "checkWatches/ok-persistent"
            | "removeWatches/ok-persistent"
            | "removeWatches/ok-persistent-recursive"
            | "exists/NOAUTH"
            | "check/UNIMPLEMENTED-outside-multi" => "last",
            _ if case.starts_with("connect/") || case.starts_with("setWatches") => case,
            _ if ["watch/", "addWatch/", "checkWatches/", "removeWatches/"]
                .iter()
                .any(|start| case.starts_with(start)) =>
            {
                "watcher"
            }
            _ => "main",
        }
    }

    fn play_request(&mut self, row: &Row) {
        let who = Self::speaker(row.case);
        let mut frame = row.frame.clone();
        if row.case.starts_with("connect/") {
            self.attach(who);
            if row.case == "connect/reattach" {
                // Java's password opens nothing here: ours of the same session.
                let nobody = &self.clients["nobody"];
                let mut bytes = BytesMut::from(&frame[..]);
                assert_eq!(bytes[16..24], nobody.session.0.to_be_bytes());
                bytes[28..44].copy_from_slice(&nobody.passwd);
                frame = bytes.freeze();
            }
        }
        self.frame(who, &frame);
    }

    /// What came where a captured frame did.
    fn next_of(&mut self, row: &Row) -> Option<Bytes> {
        let who = Self::speaker(row.case);
        let client = self.clients.get_mut(who).unwrap();
        if row.name.contains("/event") {
            return client.events.pop_front();
        }
        let frame = client.replies.pop_front()?;
        if row.case.starts_with("connect/") {
            self.welcome(who, &frame);
        }
        Some(frame)
    }

    /// That nothing came which the capture does not have.
    fn is_quiet(&self, before: &str) {
        for (who, client) in &self.clients {
            let left = (client.replies.len(), client.events.len());
            assert_eq!(left, (0, 0), "{who} has more before {before}");
        }
    }
}

fn encoded(record: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    record.encode(&mut out);
    out.freeze()
}

/// The frame without what is not compared.
fn comparable(row: &Row, frame: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&frame[..]);
    if row.case.starts_with("connect/") {
        bytes[20..36].fill(0);
    } else if row.version == "3.8.0" && row.name.contains("/event") {
        bytes[4..12].fill(0xff);
    } else if ANY_ORDER.contains(&row.case) {
        let op = OpCode(
            (1..=107)
                .find(|op| row.case.split('/').next() == OpCode(*op).name())
                .unwrap(),
        );
        let mut reader = Reader::new(frame, "reply");
        bytes.clear();
        ReplyHeader::decode(&mut reader).unwrap().encode(&mut bytes);
        let mut response = Response::decode(op, &mut reader).unwrap();
        match &mut response {
            Response::Children(body) => body.children.as_mut().unwrap().sort(),
            Response::Children2(body) => body.children.as_mut().unwrap().sort(),
            Response::Ephemerals(body) => body.ephemerals.as_mut().unwrap().sort(),
            Response::WhoAmI(body) => {
                let infos = body.client_info.as_mut().unwrap();
                infos.sort_by_key(encoded);
            }
            Response::Multi(body) => {
                for result in &mut body.results {
                    if let MultiResult::GetChildren(children) = result {
                        children.as_mut().unwrap().sort();
                    }
                }
            }
            other => panic!("nothing to sort in {other:?}"),
        }
        response.encode(&mut bytes);
    }
    bytes.freeze()
}

/// What became of the server's frames of one capture.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    equal: usize,
    /// See [`DIFFERENT`].
    different: usize,
    /// See [`LEFT_OUT`].
    left_out: usize,
}

/// Plays one version's frames.
fn play(version: &'static str) -> Compared {
    let capture = Capture::read();
    // Most was captured from one server; some from others, with another setting or another history.
    let mut worlds: BTreeMap<&str, World<'_>> = ["main", "off", "last"]
        .into_iter()
        .map(|place| (place, World::new(version, &capture, place != "off")))
        .collect();
    let mut compared = Compared::default();
    let mut wrong = Vec::new();
    for row in capture.rows.iter().filter(|row| row.version == version) {
        let full = format!("{version}/{}", row.name);
        if LEFT_OUT.iter().any(|(start, _)| full.starts_with(start)) {
            compared.left_out += usize::from(!row.from_client);
            continue;
        }
        let who = World::speaker(row.case);
        let place = if worlds.contains_key(who) {
            who
        } else {
            "main"
        };
        let world = worlds.get_mut(place).unwrap();
        if row.from_client {
            world.is_quiet(&full);
        }
        world.before(row);
        if row.from_client {
            world.play_request(row);
            continue;
        }
        let found = world.next_of(row);
        let shown = found.as_ref().map(|frame| comparable(row, frame));
        let same = shown.as_ref() == Some(&comparable(row, &row.frame));
        let meant = DIFFERENT.iter().any(|(name, _)| *name == full);
        match (same, meant) {
            (true, false) => compared.equal += 1,
            (false, true) => compared.different += 1,
            _ => {
                let (java, ours) = (&row.frame[..], found.as_deref());
                wrong.push(format!("{full}\n   java {java:02x?}\n   ours {ours:02x?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong, {compared:?}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    worlds.values().for_each(|world| world.is_quiet("the end"));
    compared
}

#[test]
fn conversations_of_3_9_3_are_answered_with_the_same_bytes() {
    let all = Compared {
        equal: 151,
        different: 0,
        left_out: 6,
    };
    assert_eq!(play("3.9.3"), all);
}

#[test]
fn conversations_of_3_8_0_are_answered_with_the_same_bytes_but_where_3_9_differs() {
    let all = Compared {
        equal: 144,
        different: 2,
        left_out: 0,
    };
    assert_eq!(play("3.8.0"), all);
}
