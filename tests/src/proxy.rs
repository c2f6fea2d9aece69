//! A TCP relay between a client and a server that fails on command, in process.
//!
//! It reads frames, so that a fault can be aimed: at the reply of an operation, at the n-th request of a kind, at a byte.
//! Both directions of every connection obey the same [`Proxy`]; a fault that waits for something (`swallow_reply`,
//! `cut_at_request`) is armed once and used up once. What is not a frame, such as a four-letter word, passes as it comes.
//!
//! | command | what the client sees |
//! |---|---|
//! | [`Proxy::hold`] | silence: the connection stays, bytes wait (both ways: half-open) |
//! | [`Proxy::delay`] | each piece arrives late, in order |
//! | [`Proxy::cut`], [`Proxy::reset`] | every connection ends, by FIN or RST |
//! | [`Proxy::cut_after`] | the connection ends inside a request or reply, at the named byte |
//! | [`Proxy::cut_at_request`] | the connection ends before or after a request reached the server |
//! | [`Proxy::swallow_reply`] | the operation was done, its reply is lost, the connection stays or ends |
//! | [`Proxy::pretend_read_only`] | a server that is cut off from its ensemble |
//! | [`Proxy::refuse`] | the connection is accepted and closed |

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zk_proto::frame::FrameDecoder;
use zk_proto::jute::{Decode as _, Reader};
use zk_proto::session::{ReplyHeader, RequestHeader};
use zk_proto::{OpCode, Xid};

/// No frame in a test is larger.
const MAX_FRAME: usize = 64 << 20;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// Whether a request still reaches the server when the connection ends at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The connection ends before the request is passed on.
    Withheld,
    /// The request is passed on, then the connection ends: the reply is lost.
    Delivered,
}

/// The relay. Dropping it ends every connection.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    control: watch::Sender<Control>,
    faults: Mutex<Faults>,
}

/// What applies to every connection from now on.
#[derive(Debug, Clone)]
struct Control {
    upstream: SocketAddr,
    held: [bool; 2],
    delay: [Duration; 2],
    /// Connections of an earlier generation end.
    generation: u64,
    reset: bool,
    refuse: bool,
    read_only: bool,
}

/// Faults that are used up, and counters.
#[derive(Debug, Default)]
struct Faults {
    /// Bytes that may still pass before the connection ends.
    budget: [Option<usize>; 2],
    swallow: Vec<(OpCode, bool)>,
    cut_at: Vec<(OpCode, usize, Reach)>,
    accepted: usize,
    open: usize,
    requests: Vec<OpCode>,
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        // A panic of a test elsewhere leaves plain numbers here, which stay usable.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Listens on a free port and relays to `upstream`.
    ///
    /// # Errors
    /// When no port can be had.
    ///
    /// # Cancellation
    /// Nothing is left behind.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let control = Control {
            upstream,
            held: [false; 2],
            delay: [Duration::ZERO; 2],
            generation: 0,
            reset: false,
            refuse: false,
            read_only: false,
        };
        let shared = Arc::new(Shared {
            control: watch::Sender::new(control),
            faults: Mutex::default(),
        });
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            addr,
            shared,
            acceptor,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends later connections to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared
            .control
            .send_modify(|control| control.upstream = upstream);
    }

    /// Stops passing bytes on in one direction, or passes what waited and goes on.
    pub fn hold(&self, direction: Direction, held: bool) {
        self.shared
            .control
            .send_modify(|control| control.held[direction as usize] = held);
    }

    /// Passes each piece of one direction on this much later.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared
            .control
            .send_modify(|control| control.delay[direction as usize] = delay);
    }

    /// Ends every connection with a FIN on both sides.
    pub fn cut(&self) {
        self.end(false);
    }

    /// Ends every connection with a RST on both sides.
    pub fn reset(&self) {
        self.end(true);
    }

    fn end(&self, reset: bool) {
        self.shared.control.send_modify(|control| {
            control.generation += 1;
            control.reset = reset;
        });
    }

    /// Accepts and closes connections at once, or serves them again. Those that are open stay.
    pub fn refuse(&self, refuse: bool) {
        self.shared
            .control
            .send_modify(|control| control.refuse = refuse);
    }

    /// Lets the server say of itself, to those who connect from now on, that it takes no writes.
    pub fn pretend_read_only(&self, read_only: bool) {
        self.shared
            .control
            .send_modify(|control| control.read_only = read_only);
    }

    /// Ends the connection that carries the byte after the next `bytes` ones of this direction.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        self.shared.faults().budget[direction as usize] = Some(bytes);
    }

    /// Ends the connection at the `nth` request (1 is the next) of an operation.
    pub fn cut_at_request(&self, op: OpCode, nth: usize, reach: Reach) {
        self.shared.faults().cut_at.push((op, nth, reach));
    }

    /// Drops the reply to the next request of `op`; `then_cut` ends the connection in its place.
    pub fn swallow_reply(&self, op: OpCode, then_cut: bool) {
        self.shared.faults().swallow.push((op, then_cut));
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.faults().accepted
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.faults().open
    }

    /// The operations of all requests that came from clients so far, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<OpCode> {
        self.shared.faults().requests.clone()
    }

    /// Forgets faults that wait to be used, lets held bytes go, accepts again.
    pub fn heal(&self) {
        {
            let mut faults = self.shared.faults();
            faults.budget = [None; 2];
            faults.swallow.clear();
            faults.cut_at.clear();
        }
        self.shared.control.send_modify(|control| {
            control.held = [false; 2];
            control.delay = [Duration::ZERO; 2];
            control.refuse = false;
            control.read_only = false;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        shared.faults().accepted += 1;
        let control = shared.control.borrow().clone();
        if control.refuse {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.faults().open += 1;
            relay(client, &control, &shared).await;
            shared.faults().open -= 1;
        });
    }
}

/// Requests on this connection whose replies are to be dropped; the flag ends the connection as well.
type Doomed = Mutex<Vec<(Xid, bool)>>;

async fn relay(client: TcpStream, control: &Control, shared: &Shared) {
    let Ok(server) = TcpStream::connect(control.upstream).await else {
        return;
    };
    // A relay that waits to fill packets would hide what the two ends do.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let doomed = Doomed::default();
    let mut to_server = Pump {
        direction: Direction::ToServer,
        shared,
        doomed: &doomed,
        control: shared.control.subscribe(),
        first: true,
        framed: true,
    };
    let mut to_client = Pump {
        direction: Direction::ToClient,
        shared,
        doomed: &doomed,
        control: shared.control.subscribe(),
        first: true,
        framed: true,
    };
    let mut ends = (client_read, server_write, server_read, client_write);
    let mut ended = shared.control.subscribe();
    let generation = control.generation;
    tokio::select! {
        () = to_server.run(&mut ends.0, &mut ends.1) => {}
        () = to_client.run(&mut ends.2, &mut ends.3) => {}
        _ = ended.wait_for(|now| now.generation != generation) => {}
    }
    let reset = {
        let now = shared.control.borrow();
        now.reset && now.generation != generation
    };
    if reset {
        for half in [ends.1, ends.3] {
            drop(half.as_ref().set_zero_linger());
            // Its drop would send a FIN first.
            half.forget();
        }
    }
}

/// One direction of one connection.
struct Pump<'a> {
    direction: Direction,
    shared: &'a Shared,
    doomed: &'a Doomed,
    control: watch::Receiver<Control>,
    /// The first frame of each direction has no header.
    first: bool,
    /// False once something came that is not a frame.
    framed: bool,
}

enum Verdict {
    Pass,
    Drop,
    Cut,
}

impl Pump<'_> {
    async fn run(&mut self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let decoder = FrameDecoder::new(MAX_FRAME);
        let mut buffer = BytesMut::new();
        loop {
            match from.read_buf(&mut buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            loop {
                if !self.framed {
                    let rest = buffer.split().freeze();
                    if !rest.is_empty() && !self.pass(&rest, to).await {
                        return;
                    }
                    break;
                }
                match decoder.decode(&mut buffer) {
                    Ok(Some(frame)) => {
                        let greeting = self.first && self.direction == Direction::ToClient;
                        let verdict = self.judge(&frame);
                        let length =
                            u32::try_from(frame.len()).expect("the decoder's limit is below 4 GiB");
                        let mut whole = [&length.to_be_bytes()[..], &frame].concat();
                        if greeting && self.control.borrow().read_only {
                            // The last byte of an answer to a connect request that has it, too.
                            if let Some(read_only) = whole.last_mut() {
                                *read_only = 1;
                            }
                        }
                        let go_on = match verdict {
                            Verdict::Pass => self.pass(&whole, to).await,
                            Verdict::Drop => true,
                            Verdict::Cut => false,
                        };
                        if !go_on {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => self.framed = false,
                }
            }
        }
    }

    /// Writes in time and within the budget; false ends the connection.
    async fn pass(&mut self, bytes: &[u8], to: &mut OwnedWriteHalf) -> bool {
        let side = self.direction as usize;
        let delay = self.control.borrow().delay[side];
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self
            .control
            .wait_for(|control| !control.held[side])
            .await
            .is_err()
        {
            return false;
        }
        let (allowed, last) = {
            let mut faults = self.shared.faults();
            match &mut faults.budget[side] {
                Some(left) if *left < bytes.len() => {
                    let allowed = *left;
                    faults.budget[side] = None;
                    (allowed, true)
                }
                Some(left) => {
                    *left -= bytes.len();
                    (bytes.len(), false)
                }
                None => (bytes.len(), false),
            }
        };
        to.write_all(&bytes[..allowed]).await.is_ok() && !last
    }

    fn judge(&mut self, frame: &Bytes) -> Verdict {
        if std::mem::take(&mut self.first) {
            return Verdict::Pass;
        }
        match self.direction {
            Direction::ToServer => self.judge_request(frame),
            Direction::ToClient => self.judge_reply(frame),
        }
    }

    fn judge_request(&self, frame: &Bytes) -> Verdict {
        let Ok(header) = RequestHeader::decode(&mut Reader::new(frame, "RequestHeader")) else {
            return Verdict::Pass;
        };
        let mut faults = self.shared.faults();
        faults.requests.push(header.op);
        if let Some(at) = faults.swallow.iter().position(|(op, _)| *op == header.op) {
            let (_, then_cut) = faults.swallow.remove(at);
            self.doomed().push((header.xid, then_cut));
        }
        let mut due = None;
        for (at, (op, nth, _)) in faults.cut_at.iter_mut().enumerate() {
            if *op == header.op {
                *nth = nth.saturating_sub(1);
                if *nth == 0 {
                    due = Some(at);
                }
            }
        }
        match due.map(|at| faults.cut_at.remove(at).2) {
            None => Verdict::Pass,
            Some(Reach::Withheld) => Verdict::Cut,
            Some(Reach::Delivered) => {
                // The server must have it before the connection is gone, or it may be lost with it: the reply is
                // what tells, so the cut falls there.
                self.doomed().push((header.xid, true));
                Verdict::Pass
            }
        }
    }

    fn judge_reply(&self, frame: &Bytes) -> Verdict {
        let Ok(header) = ReplyHeader::decode(&mut Reader::new(frame, "ReplyHeader")) else {
            return Verdict::Pass;
        };
        let mut doomed = self.doomed();
        match doomed.iter().position(|(xid, _)| *xid == header.xid) {
            None => Verdict::Pass,
            Some(at) if doomed.remove(at).1 => Verdict::Cut,
            Some(_) => Verdict::Drop,
        }
    }

    fn doomed(&self) -> MutexGuard<'_, Vec<(Xid, bool)>> {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
