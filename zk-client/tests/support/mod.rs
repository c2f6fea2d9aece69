//! A small ZooKeeper in memory for the tests of operations: a tree, sessions, watches, and faults on demand.
//!
//! It speaks the wire over TCP on a port of its own. Its tree is the simplest thing that gives the answers which the tests
//! look at; what ZooKeeper does in full is judged against real servers elsewhere. Faults are rules: "the next create is
//! executed, then the connection is cut before its reply".
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]
#![allow(clippy::unwrap_used, reason = "a broken test server should panic")]

pub mod cancel;
pub mod cutting;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use zk_proto::frame::{FrameDecoder, begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{
    AddWatchMode, ConnectRequest, ConnectResponse, EphemeralsResponse, ErrorResponse, EventType,
    KeeperState, MultiOp, MultiResponse, MultiResult, Password, PathResponse, ReplyHeader, Request,
    RequestHeader, TotalResponse, WatcherEvent, WhoAmIResponse,
};
use zk_proto::{ErrorCode, OpCode, SessionId, Xid, Zxid};

use tree::Event;
pub use tree::Tree;

/// What goes wrong, once, with the next request of an opcode.
pub enum Fault {
    /// Cut the connection; the request is not executed.
    CutBefore,
    /// Execute the request, cut the connection before its reply.
    CutAfter,
    /// Execute the request, cut the connection and expire the session (its ephemerals stay until `bury`).
    ExpireAfter,
    /// Do something to the tree first, then execute the request.
    First(Box<dyn FnOnce(&mut Tree) + Send>),
    /// Answer nothing, keep the connection.
    Silence,
}

struct State {
    tree: Tree,
    /// Live sessions.
    sessions: BTreeSet<i64>,
    next_session: i64,
    faults: VecDeque<(OpCode, Fault)>,
    /// Answered so every time.
    refused: Option<(OpCode, ErrorCode)>,
    /// Shakes hands and closes.
    hanging_up: bool,
    handshakes: usize,
    /// Cut off from an ensemble.
    read_only: bool,
    log: Vec<(OpCode, String)>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    accepting: bool,
}

struct Connection {
    session: i64,
    out: mpsc::UnboundedSender<Option<Bytes>>,
    data: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    pub address: SocketAddr,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            state: Arc::new(Mutex::new(State {
                tree: Tree::default(),
                sessions: BTreeSet::new(),
                next_session: 0x0100_0000_0000_0001,
                faults: VecDeque::new(),
                refused: None,
                hanging_up: false,
                handshakes: 0,
                read_only: false,
                log: Vec::new(),
                connections: BTreeMap::new(),
                next_connection: 0,
                accepting: true,
            })),
            changed: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let server = fake.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let accepting = server.state.lock().unwrap().accepting;
                if accepting {
                    tokio::spawn(server.clone().serve(socket));
                }
            }
        });
        fake
    }

    /// The next request of `op` that no earlier rule takes.
    pub fn fault(&self, op: OpCode, fault: Fault) {
        self.state.lock().unwrap().faults.push_back((op, fault));
    }

    /// Answers every request of an opcode with an error, or none again.
    pub fn refuse(&self, refused: Option<(OpCode, ErrorCode)>) {
        self.state.lock().unwrap().refused = refused;
    }

    /// Shakes hands and closes at once, or stays again.
    pub fn hang_up(&self, hanging_up: bool) {
        self.state.lock().unwrap().hanging_up = hanging_up;
    }

    /// Is cut off from an ensemble, and takes only who asks for that; or takes writes again.
    pub fn read_only(&self, read_only: bool) {
        self.state.lock().unwrap().read_only = read_only;
    }

    /// How many handshakes were answered.
    pub fn handshakes(&self) -> usize {
        self.state.lock().unwrap().handshakes
    }

    /// Rules that no request met.
    pub fn forget_faults(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    pub fn tree<T>(&self, look: impl FnOnce(&mut Tree) -> T) -> T {
        look(&mut self.state.lock().unwrap().tree)
    }

    /// Changes the tree as another client would: with events.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let result = change(&mut state.tree);
        state.publish();
        self.changed.notify_waiters();
        result
    }

    pub fn names(&self, parent: &str) -> Vec<String> {
        self.tree(|tree| tree.names(parent))
    }

    /// How many requests of `op` came in.
    pub fn count(&self, op: OpCode) -> usize {
        self.state
            .lock()
            .unwrap()
            .log
            .iter()
            .filter(|(seen, _)| *seen == op)
            .count()
    }

    pub fn log(&self) -> Vec<(OpCode, String)> {
        self.state.lock().unwrap().log.clone()
    }

    /// How many watches there are at exactly this path.
    pub fn watches(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        let sets = state
            .connections
            .values()
            .flat_map(|c| [&c.data, &c.child, &c.persistent, &c.recursive]);
        sets.filter(|set| set.contains(path)).count()
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        for connection in state.connections.values() {
            let _ = connection.out.send(None);
        }
        state.connections.clear();
    }

    /// Refuses new connections, or takes them again.
    pub fn accept(&self, accepting: bool) {
        self.state.lock().unwrap().accepting = accepting;
    }

    /// Ends every session; its ephemerals go with it.
    pub fn expire_all(&self) {
        let mut state = self.state.lock().unwrap();
        for session in std::mem::take(&mut state.sessions) {
            state.tree.close_session(session);
        }
        state.publish();
        drop(state);
        self.cut();
        self.changed.notify_waiters();
    }

    /// Removes the ephemerals of sessions that are over.
    pub fn bury(&self) {
        let mut state = self.state.lock().unwrap();
        let live = state.sessions.clone();
        state.tree.bury(&live);
        state.publish();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until the server's state is as wanted; panics with `what` after ten seconds.
    pub async fn until(&self, what: &str, mut wanted: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let changed = self.changed.notified();
            if wanted(self) {
                return;
            }
            let soon = tokio::time::Instant::now() + Duration::from_millis(20);
            assert!(
                soon < deadline,
                "never came true: {what}; log: {:?}",
                self.log()
            );
            let _ = tokio::time::timeout_at(soon, changed).await;
        }
    }

    /// Serves one connection, whatever it runs over.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let (mut read, mut write) = tokio::io::split(stream);
        let (out, mut outgoing) = mpsc::unbounded_channel::<Option<Bytes>>();
        let writer = tokio::spawn(async move {
            while let Some(Some(frame)) = outgoing.recv().await {
                if write.write_all(&frame).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
        let frames = FrameDecoder::new(1 << 20);
        let mut buffer = BytesMut::new();
        let mut connection = None;
        'socket: loop {
            tokio::select! {
                read = read.read_buf(&mut buffer) => if !matches!(read, Ok(1..)) { break },
                () = out.closed() => break,
            }
            if connection.is_none() && buffer.starts_with(b"isro") {
                let read_only = self.state.lock().unwrap().read_only;
                let answer: &'static [u8] = if read_only { b"ro" } else { b"rw" };
                let _ = out.send(Some(Bytes::from_static(answer)));
                break;
            }
            while let Ok(Some(frame)) = frames.decode(&mut buffer) {
                let keep = match connection {
                    None => match self.connect(&frame, &out) {
                        Some(id) => {
                            connection = Some(id);
                            true
                        }
                        None => false,
                    },
                    Some(id) => self.request(id, &frame),
                };
                self.changed.notify_waiters();
                if !keep {
                    break 'socket;
                }
            }
        }
        if let Some(id) = connection {
            self.state.lock().unwrap().connections.remove(&id);
        }
        let _ = out.send(None);
        drop(out);
        let _ = writer.await;
    }

    fn connect(&self, frame: &Bytes, out: &mpsc::UnboundedSender<Option<Bytes>>) -> Option<u64> {
        let mut state = self.state.lock().unwrap();
        let request = ConnectRequest::decode(&mut Reader::new(frame, "ConnectRequest")).unwrap();
        if state.read_only && request.read_only != Some(true) {
            return None;
        }
        let session = match request.session_id.0 {
            0 => {
                let id = state.next_session;
                state.next_session += 1;
                state.sessions.insert(id);
                id
            }
            id if state.sessions.contains(&id) => id,
            _ => 0,
        };
        let response = ConnectResponse {
            protocol_version: 0,
            timeout: if session == 0 { 0 } else { request.timeout },
            session_id: SessionId(session),
            passwd: Password::zero(),
            read_only: request.read_only.map(|_| state.read_only),
        };
        let _ = out.send(Some(framed(|out| response.encode(out))));
        state.handshakes += 1;
        if session == 0 || state.hanging_up {
            return None;
        }
        let id = state.next_connection;
        state.next_connection += 1;
        let connection = Connection {
            session,
            out: out.clone(),
            data: BTreeSet::new(),
            child: BTreeSet::new(),
            persistent: BTreeSet::new(),
            recursive: BTreeSet::new(),
        };
        state.connections.insert(id, connection);
        Some(id)
    }

    /// False closes the connection.
    fn request(&self, id: u64, frame: &Bytes) -> bool {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let Some(session) = state
            .connections
            .get(&id)
            .map(|connection| connection.session)
        else {
            return false;
        };
        let mut reader = Reader::new(frame, "Request");
        let header = RequestHeader::decode(&mut reader).unwrap();
        let request = Request::decode(header.op, &mut reader).unwrap();
        if header.op != OpCode::PING {
            state.log.push((header.op, path_of(&request)));
        }
        let fault = state
            .faults
            .iter()
            .position(|(op, _)| *op == header.op)
            .and_then(|at| state.faults.remove(at));
        match fault {
            Some((_, Fault::CutBefore)) => return false,
            Some((_, Fault::Silence)) => return true,
            Some((_, Fault::First(act))) => {
                act(&mut state.tree);
                state.publish();
            }
            Some((_, fault @ (Fault::CutAfter | Fault::ExpireAfter))) => {
                let _ = state.execute(id, session, header.op, request);
                state.publish();
                if matches!(fault, Fault::ExpireAfter) {
                    state.sessions.remove(&session);
                }
                return false;
            }
            None => {}
        }
        let answer = match state.refused {
            Some((op, code)) if op == header.op => Err(code),
            _ => state.execute(id, session, header.op, request),
        };
        state.publish();
        let (err, body) = match answer {
            Ok(body) => (ErrorCode::OK, body),
            Err(code) => (code, Bytes::new()),
        };
        let reply = ReplyHeader {
            xid: header.xid,
            zxid: state.tree.zxid,
            err,
        };
        let frame = framed(|out| {
            reply.encode(out);
            out.extend_from_slice(&body);
        });
        if let Some(connection) = state.connections.get(&id) {
            let _ = connection.out.send(Some(frame));
        }
        header.op != OpCode::CLOSE_SESSION
    }
}

fn framed(fill: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    let mark = begin_frame(&mut out);
    fill(&mut out);
    end_frame(&mut out, mark);
    out.freeze()
}

fn encoded(record: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    record.encode(&mut out);
    out.freeze()
}

fn path_of(request: &Request<'_>) -> String {
    match request {
        Request::Create(r) => r.path.or_empty(),
        Request::CreateTtl(r) => r.path.or_empty(),
        Request::Delete(r) => r.path.or_empty(),
        Request::PathWatch(r) => r.path.or_empty(),
        Request::Path(r) => r.path.or_empty(),
        Request::SetData(r) => r.path.or_empty(),
        Request::AddWatch(r) => r.path.or_empty(),
        Request::WatcherType(r) => r.path.or_empty(),
        _ => "",
    }
    .to_owned()
}

impl State {
    fn execute(
        &mut self,
        id: u64,
        session: i64,
        op: OpCode,
        request: Request<'_>,
    ) -> Result<Bytes, ErrorCode> {
        match request {
            Request::Multi(multi) => {
                let results = if op == OpCode::MULTI {
                    self.multi(session, &multi.ops)
                } else {
                    self.reads(&multi.ops)
                };
                Ok(encoded(&MultiResponse { results }))
            }
            Request::PathWatch(read) => {
                let path = read.path.or_empty();
                let answer = self.tree.read(op, path);
                let Some(connection) = self.connections.get_mut(&id).filter(|_| read.watch) else {
                    return answer;
                };
                match (op, &answer) {
                    (OpCode::EXISTS, _) | (OpCode::GET_DATA, Ok(_)) => {
                        connection.data.insert(path.to_owned())
                    }
                    (OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2, Ok(_)) => {
                        connection.child.insert(path.to_owned())
                    }
                    _ => false,
                };
                answer
            }
            Request::Path(read) => match op {
                OpCode::SYNC => Ok(encoded(&PathResponse { path: read.path })),
                OpCode::GET_ACL => self.tree.acl(read.path.or_empty()),
                OpCode::GET_EPHEMERALS => {
                    let paths = self.tree.ephemerals(session, read.path.or_empty());
                    Ok(encoded(&EphemeralsResponse {
                        ephemerals: Some(paths.into_iter().map(Into::into).collect()),
                    }))
                }
                OpCode::GET_ALL_CHILDREN_NUMBER => {
                    let total_number = self.tree.descendants(read.path.or_empty())?;
                    Ok(encoded(&TotalResponse { total_number }))
                }
                _ => Err(ErrorCode::UNIMPLEMENTED),
            },
            Request::AddWatch(add) => {
                let connection = self
                    .connections
                    .get_mut(&id)
                    .ok_or(ErrorCode::SESSION_EXPIRED)?;
                let path = add.path.or_empty().to_owned();
                match add.mode {
                    AddWatchMode::PERSISTENT => connection.persistent.insert(path),
                    _ => connection.recursive.insert(path),
                };
                Ok(encoded(&ErrorResponse { err: ErrorCode::OK }))
            }
            Request::WatcherType(watch) => {
                let connection = self
                    .connections
                    .get_mut(&id)
                    .ok_or(ErrorCode::SESSION_EXPIRED)?;
                let path = watch.path.or_empty();
                let sets = match watch.watcher_type.0 {
                    1 => vec![&mut connection.child],
                    2 => vec![&mut connection.data],
                    4 => vec![&mut connection.persistent],
                    5 => vec![&mut connection.recursive],
                    _ => vec![
                        &mut connection.child,
                        &mut connection.data,
                        &mut connection.persistent,
                        &mut connection.recursive,
                    ],
                };
                let mut found = false;
                for set in sets {
                    found |= if op == OpCode::REMOVE_WATCHES {
                        set.remove(path)
                    } else {
                        set.contains(path)
                    };
                }
                if found {
                    Ok(Bytes::new())
                } else {
                    Err(ErrorCode::NO_WATCHER)
                }
            }
            Request::SetWatches(again) => {
                let none = || None;
                self.set_watches(
                    id,
                    again.relative_zxid,
                    [
                        again.data_watches,
                        again.exist_watches,
                        again.child_watches,
                        none(),
                        none(),
                    ],
                );
                Ok(Bytes::new())
            }
            Request::SetWatches2(again) => {
                self.set_watches(
                    id,
                    again.relative_zxid,
                    [
                        again.data_watches,
                        again.exist_watches,
                        again.child_watches,
                        again.persistent_watches,
                        again.persistent_recursive_watches,
                    ],
                );
                Ok(Bytes::new())
            }
            Request::Empty if op == OpCode::CLOSE_SESSION => {
                self.sessions.remove(&session);
                self.tree.close_session(session);
                Ok(Bytes::new())
            }
            Request::Empty if op == OpCode::WHO_AM_I => Ok(encoded(&WhoAmIResponse {
                client_info: Some(Vec::new()),
            })),
            Request::Empty | Request::Auth(_) => Ok(Bytes::new()),
            other => self.tree.write(session, op, &other),
        }
    }

    fn multi(&mut self, session: i64, ops: &[MultiOp<'_>]) -> Vec<MultiResult<'static>> {
        let before = self.tree.clone();
        let mut results = Vec::new();
        self.tree.begin();
        for (index, op) in ops.iter().enumerate() {
            match self.tree.multi_op(session, op) {
                Ok(result) => results.push(result),
                Err(code) => {
                    let zxid = self.tree.zxid;
                    self.tree = before;
                    self.tree.zxid = zxid;
                    return (0..ops.len())
                        .map(|at| match at.cmp(&index) {
                            std::cmp::Ordering::Less => MultiResult::Error(ErrorCode::OK),
                            std::cmp::Ordering::Equal => MultiResult::Error(code),
                            std::cmp::Ordering::Greater => {
                                MultiResult::Error(ErrorCode::RUNTIME_INCONSISTENCY)
                            }
                        })
                        .collect();
                }
            }
        }
        self.tree.commit();
        results
    }

    fn reads(&mut self, ops: &[MultiOp<'_>]) -> Vec<MultiResult<'static>> {
        ops.iter()
            .map(|op| self.tree.multi_read(op).unwrap_or_else(MultiResult::Error))
            .collect()
    }

    fn set_watches(
        &mut self,
        id: u64,
        seen: Zxid,
        lists: [Option<Vec<zk_proto::jute::Ustring<'_>>>; 5],
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut events = Vec::new();
        for (list, paths) in lists.into_iter().enumerate() {
            for path in paths.unwrap_or_default() {
                let path = path.or_empty().to_owned();
                let node = self.tree.stat(&path);
                let event = match (list, node) {
                    (0 | 2, None) => Some(EventType::NODE_DELETED),
                    (0, Some(stat)) if stat.mzxid > seen => Some(EventType::NODE_DATA_CHANGED),
                    (1, Some(_)) => Some(EventType::NODE_CREATED),
                    (2, Some(stat)) if stat.pzxid > seen => Some(EventType::NODE_CHILDREN_CHANGED),
                    _ => None,
                };
                match (event, list) {
                    (Some(event), _) => events.push((event, path)),
                    (None, 0 | 1) => drop(connection.data.insert(path)),
                    (None, 2) => drop(connection.child.insert(path)),
                    (None, 3) => drop(connection.persistent.insert(path)),
                    (None, _) => drop(connection.recursive.insert(path)),
                }
            }
        }
        for (event, path) in events {
            let _ = connection.out.send(Some(notification(event, &path)));
        }
    }

    /// Sends the events of what just changed.
    fn publish(&mut self) {
        for Event { kind, path } in self.tree.take_events() {
            let parent = tree::parent(&path).to_owned();
            for connection in self.connections.values_mut() {
                let send =
                    |kind, path: &str| drop(connection.out.send(Some(notification(kind, path))));
                let recursive = connection
                    .recursive
                    .iter()
                    .any(|root| tree::is_at_or_below(&path, root));
                let mut at_node = connection.data.remove(&path)
                    | connection.persistent.contains(&path)
                    | recursive;
                if kind == EventType::NODE_DELETED {
                    at_node |= connection.child.remove(&path);
                }
                if at_node {
                    send(kind, &path);
                }
                if kind != EventType::NODE_DATA_CHANGED
                    && (connection.child.remove(&parent) | connection.persistent.contains(&parent))
                {
                    send(EventType::NODE_CHILDREN_CHANGED, &parent);
                }
            }
        }
    }
}

fn notification(event_type: EventType, path: &str) -> Bytes {
    framed(|out| {
        ReplyHeader {
            xid: Xid::NOTIFICATION,
            zxid: Zxid(-1),
            err: ErrorCode::OK,
        }
        .encode(out);
        WatcherEvent {
            event_type,
            state: KeeperState::SYNC_CONNECTED,
            path: path.into(),
        }
        .encode(out);
    })
}

/// A connected client without retries.
pub async fn connect(fake: &Fake) -> zk_client::Client {
    zk_client::Client::connect(fake.address.to_string())
        .await
        .unwrap()
}

/// A view that repeats what may be repeated, patiently.
pub async fn retrying(fake: &Fake) -> zk_client::Client {
    use zk_client::retry::{BoundedExponentialBackoff, Retry};
    let policy =
        BoundedExponentialBackoff::new(Duration::from_millis(1), Duration::from_millis(50), 100);
    connect(fake)
        .await
        .retrying(Retry::new(policy).deadline(Duration::from_secs(20)))
}
