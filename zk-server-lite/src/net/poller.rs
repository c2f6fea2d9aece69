//! The thread of all connections: waits for sockets and for calls, and gives each connection that has news its turn.
//!
//! A connection is an entry of a table here, a link that other threads know too, and the engine's record: there is no task
//! and no timer for each, so that an idle session costs little. A turn reads at most once, so nobody waits long for others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::io::DuplexStream;

use super::accept::is_peers_fault;
use super::connection::{Connection, Next, Stage, Tools};
use super::deadlines::Deadlines;
use crate::node::alarm::{Alarm, Slot};
use crate::node::core::Shared;
use crate::node::halt::{Failure, Halted};
use crate::node::link::Transport;

/// How much is read at once.
const READ: usize = 128 << 10;
/// Events taken at once.
const EVENTS: usize = 1024;
/// Connections accepted before others get their turn.
const ACCEPTS: usize = 64;
/// How long a connection that is being closed may take to receive what it has coming.
const LINGER: Duration = Duration::from_secs(5);
/// When to accept again after running out of descriptors: those who are connected are not to suffer.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

const LISTENER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

/// The poller before it runs: what can fail has been done.
#[derive(Debug)]
pub(crate) struct Prepared {
    poll: Poll,
    listener: Option<TcpListener>,
}

impl Prepared {
    /// Takes the listening socket, if there is one; gives what the others call the poller by.
    pub(crate) fn new(mut listener: Option<TcpListener>) -> io::Result<(Self, Alarm)> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(Waker::new(poll.registry(), ALARM)?);
        if let Some(listener) = &mut listener {
            poll.registry()
                .register(listener, LISTENER, Interest::READABLE)?;
        }
        Ok((Self { poll, listener }, alarm))
    }

    /// Serves until the server stops.
    pub(crate) fn run(self, shared: &Arc<Shared>) {
        let _guard = shared.halt.guard("poller");
        let mut poller = Poller {
            shared,
            poll: self.poll,
            listener: self.listener,
            acceptable: true,
            accept_again: None,
            connections: Vec::new(),
            free: Vec::new(),
            queue: Vec::new(),
            served: Vec::new(),
            buried: Vec::new(),
            called: Vec::new(),
            pipes: Vec::new(),
            handshakes: Deadlines::new(shared.config.sessionless_timeout),
            endings: Deadlines::new(LINGER),
            tools: Tools {
                window: vec![0; READ].into(),
                bench: shared.take_bench(),
            },
        };
        // A halted server drops its sockets with everything else.
        let Err(Halted) = poller.serve();
    }
}

struct Poller<'a> {
    shared: &'a Arc<Shared>,
    poll: Poll,
    listener: Option<TcpListener>,
    /// Somebody may wait to be accepted.
    acceptable: bool,
    accept_again: Option<Instant>,
    connections: Vec<Option<Connection>>,
    free: Vec<Slot>,
    /// Whose turn it is, each once.
    queue: Vec<Slot>,
    /// Those of the queue that are having theirs.
    served: Vec<Slot>,
    /// Those that are over.
    buried: Vec<Slot>,
    called: Vec<Slot>,
    pipes: Vec<DuplexStream>,
    handshakes: Deadlines,
    endings: Deadlines,
    tools: Tools,
}

impl Poller<'_> {
    fn serve(&mut self) -> Result<std::convert::Infallible, Halted> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let patience = self.patience();
            match self.poll.poll(&mut events, patience) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.shared.halt.fail(Failure::Listen(error.to_string()));
                    return Err(Halted);
                }
            }
            self.shared.alarm.take(&mut self.called, &mut self.pipes);
            stay_frozen(self.shared);
            if self.shared.halt.token().is_cancelled() {
                return Err(Halted);
            }
            self.note(&events);
            self.turns()?;
            for pipe in std::mem::take(&mut self.pipes) {
                self.admit_pipe(pipe)?;
            }
            self.accept()?;
            self.expire()?;
        }
    }

    /// How long nothing is to be done if nobody comes.
    fn patience(&mut self) -> Option<Duration> {
        if !self.queue.is_empty() || self.acceptable || !self.shared.alarm.may_sleep() {
            return Some(Duration::ZERO);
        }
        let connections = &self.connections;
        let stands = |stage| {
            move |slot: Slot, id| {
                connection(connections, slot)
                    .is_some_and(|connection| connection.link.id == id && connection.stage == stage)
            }
        };
        let next = [
            self.handshakes.next(stands(Stage::Beginning)),
            self.endings.next(stands(Stage::Ending)),
            self.accept_again,
        ];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Notes who has news.
    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                ALARM => {}
                LISTENER => self.acceptable = true,
                Token(number) => {
                    let Some(slot) = u32::try_from(number).ok().map(Slot) else {
                        continue;
                    };
                    if let Some(Some(connection)) = self.connections.get_mut(number) {
                        let closed = event.is_read_closed() || event.is_error();
                        connection.readable |= event.is_readable() || closed;
                        connection.closed |= closed;
                        connection.writable |= event.is_writable();
                        // Room to write, of which every socket tells at first, is news for few.
                        if connection.readable || connection.link.is_blocked() {
                            enqueue(&mut self.queue, connection, slot);
                        }
                    }
                }
            }
        }
        for slot in self.called.drain(..) {
            if let Some(Some(connection)) = self.connections.get_mut(slot.0 as usize) {
                enqueue(&mut self.queue, connection, slot);
            }
        }
    }

    /// Gives everybody in the queue one turn.
    fn turns(&mut self) -> Result<(), Halted> {
        std::mem::swap(&mut self.queue, &mut self.served);
        for slot in self.served.drain(..) {
            let Some(Some(connection)) = self.connections.get_mut(slot.0 as usize) else {
                continue;
            };
            stay_frozen(self.shared);
            connection.queued = false;
            let stage = connection.stage;
            match connection.turn(self.shared, &mut self.tools)? {
                Next::Nothing => {}
                Next::Turn => enqueue(&mut self.queue, connection, slot),
                Next::Burial => {
                    self.buried.push(slot);
                    continue;
                }
            }
            if connection.stage == Stage::Ending && stage != Stage::Ending {
                self.endings.add(slot, connection.link.id);
            }
        }
        while let Some(slot) = self.buried.pop() {
            self.bury(slot)?;
        }
        Ok(())
    }

    /// A connection is over.
    fn bury(&mut self, slot: Slot) -> Result<(), Halted> {
        if let Some(connection) = self
            .connections
            .get_mut(slot.0 as usize)
            .and_then(Option::take)
        {
            self.free.push(slot);
            self.shared.dismiss(&connection.link)?;
        }
        Ok(())
    }

    /// Ends connections that began nothing or took too long to end.
    fn expire(&mut self) -> Result<(), Halted> {
        let now = Instant::now();
        while let Some((slot, id)) = self.handshakes.pop_over(now) {
            let late = connection(&self.connections, slot).filter(|connection| {
                connection.link.id == id && connection.stage == Stage::Beginning
            });
            if let Some(connection) = late {
                self.shared.metrics.sessionless();
                tracing::debug!(peer = %connection.link.peer(), "a connection began no session in time");
                self.bury(slot)?;
            }
        }
        while let Some((slot, id)) = self.endings.pop_over(now) {
            let late = connection(&self.connections, slot)
                .is_some_and(|connection| connection.link.id == id);
            if late {
                self.bury(slot)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Halted> {
        if self
            .accept_again
            .is_some_and(|again| again <= Instant::now())
        {
            self.accept_again = None;
            self.acceptable = true;
        }
        if !self.acceptable {
            return Ok(());
        }
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listener else {
                self.acceptable = false;
                return Ok(());
            };
            match listener.accept() {
                Ok((stream, peer)) => self.admit_socket(stream, peer)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.acceptable = false;
                    return Ok(());
                }
                Err(error) if is_peers_fault(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for now");
                    self.acceptable = false;
                    self.accept_again = Some(Instant::now() + ACCEPT_AGAIN);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn admit_socket(&mut self, mut stream: TcpStream, peer: SocketAddr) -> Result<(), Halted> {
        if self.shared.faults.refuses() {
            tracing::debug!(%peer, "refusing a connection: a fault hook says so");
            return Ok(());
        }
        if self.shared.config.tcp_keep_alive
            && let Err(error) = socket2::SockRef::from(&stream).set_keepalive(true)
        {
            tracing::debug!(%peer, %error, "no keep-alive for a connection");
        }
        let slot = self.place();
        let ready = stream.set_nodelay(true).and_then(|()| {
            self.poll.registry().register(
                &mut stream,
                Token(slot.0 as usize),
                Interest::READABLE | Interest::WRITABLE,
            )
        });
        if let Err(error) = ready {
            tracing::debug!(%peer, %error, "a connection died young");
            self.free.push(slot);
            return Ok(());
        }
        self.admit(peer, slot, Transport::Tcp(stream))
    }

    fn admit_pipe(&mut self, pipe: DuplexStream) -> Result<(), Halted> {
        let slot = self.place();
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let transport = Transport::pipe(pipe, Arc::clone(&self.shared.alarm), slot);
        self.admit(peer, slot, transport)?;
        // Nobody has told its waker yet.
        if let Some(Some(connection)) = self.connections.get_mut(slot.0 as usize) {
            enqueue(&mut self.queue, connection, slot);
        }
        Ok(())
    }

    fn admit(&mut self, peer: SocketAddr, slot: Slot, transport: Transport) -> Result<(), Halted> {
        match self.shared.admit(peer, slot, transport)? {
            Ok(link) => {
                self.handshakes.add(slot, link.id);
                if let Some(place) = self.connections.get_mut(slot.0 as usize) {
                    *place = Some(Connection::new(link));
                }
            }
            // Closed without a word, as Java does.
            Err(limit) => {
                self.shared.metrics.rejected();
                tracing::warn!(%peer, limit, "too many connections");
                self.free.push(slot);
            }
        }
        Ok(())
    }

    /// A place in the table.
    fn place(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.connections.len())
                .expect("a process has fewer descriptors than 2^32");
            self.connections.push(None);
            Slot(number)
        })
    }
}

/// Waits while a fault hook has the server frozen.
fn stay_frozen(shared: &Shared) {
    while shared.faults.is_frozen() && !shared.halt.token().is_cancelled() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn connection(connections: &[Option<Connection>], slot: Slot) -> Option<&Connection> {
    connections.get(slot.0 as usize)?.as_ref()
}

fn enqueue(queue: &mut Vec<Slot>, connection: &mut Connection, slot: Slot) {
    if !connection.queued {
        connection.queued = true;
        queue.push(slot);
    }
}
