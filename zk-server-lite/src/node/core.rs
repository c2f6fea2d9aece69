//! The engine behind its lock, with what belongs under the same lock: the connections' sending sides, the counts that limit
//! them, and where transactions go.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use zk_proto::Zxid;

use super::alarm::{Alarm, Slot};
use super::halt::{Failure, Halt, Halted};
use super::link::{Flushed, Link, Transport};
use crate::config::ServerConfig;
use crate::faults::Faults;
use crate::pipeline::{Append, CloseReason, ConnId, Engine};
use crate::time::Time;

/// Buffers kept for reuse, and the largest that is.
const POOLED: usize = 8;
const POOLED_BYTES: usize = 1 << 20;
/// Unsent output of a connection above which its requests are not read.
const UNSENT_PAUSE: usize = 4 << 20;

/// The clock of a server: monotonic, never that of the user's runtime, which may be paused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::after(self.start.elapsed())
    }
}

/// The wall clock in milliseconds: for ctime, mtime and the log's records, and nothing else.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// Where transactions go before they may be applied.
pub(crate) trait Journal: Send + std::fmt::Debug {
    /// Takes transactions in order. `Some` says that all up to there are already safe; otherwise somebody else will call
    /// the engine when they are.
    fn submit(&mut self, group: &mut Vec<Append>) -> Result<Option<Zxid>, Failure>;

    /// Nothing comes any more; a crash leaves everything as it is.
    fn close(&mut self, crash: bool);
}

/// A server in memory: safe as soon as it is said.
#[derive(Debug)]
pub(crate) struct MemoryJournal;

impl Journal for MemoryJournal {
    fn submit(&mut self, group: &mut Vec<Append>) -> Result<Option<Zxid>, Failure> {
        let last = group.last().map(|append| append.zxid);
        group.clear();
        Ok(last)
    }

    fn close(&mut self, _crash: bool) {}
}

/// See the [module page](self).
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Engine,
    links: HashMap<ConnId, Arc<Link>>,
    per_address: HashMap<IpAddr, usize>,
    next_conn: u64,
    journal: Box<dyn Journal>,
    appends: Vec<Append>,
    dirty: Vec<ConnId>,
}

impl Core {
    pub(crate) fn new(engine: Engine, journal: Box<dyn Journal>) -> Self {
        Self {
            engine,
            links: HashMap::new(),
            per_address: HashMap::new(),
            next_conn: 1,
            journal,
            appends: Vec::new(),
            dirty: Vec::new(),
        }
    }

    pub(crate) fn link(&self, conn: ConnId) -> Option<&Arc<Link>> {
        self.links.get(&conn)
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values()
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn close_journal(&mut self, crash: bool) {
        self.journal.close(crash);
    }

    /// Takes the engine out, for a server in memory that is started again.
    pub(crate) fn into_engine(self) -> Engine {
        self.engine
    }
}

/// What all tasks and threads of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    pool: Mutex<Vec<BytesMut>>,
    benches: Mutex<Vec<Bench>>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) clock: Clock,
    pub(crate) config: ServerConfig,
    pub(crate) halt: Halt,
    pub(crate) faults: Faults,
    pub(crate) metrics: crate::four_letter::metrics::Metrics,
}

/// Room to handle one batch in, lent to whoever does.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    pub(crate) bytes: BytesMut,
    pub(crate) frames: Vec<Bytes>,
    touched: Vec<Arc<Link>>,
}

impl Shared {
    pub(crate) fn new(core: Core, alarm: Alarm, clock: Clock, config: ServerConfig) -> Self {
        Self {
            core: Mutex::new(core),
            alarm: Arc::new(alarm),
            pool: Mutex::default(),
            benches: Mutex::default(),
            clock,
            config,
            halt: Halt::default(),
            faults: Faults::default(),
            metrics: crate::four_letter::metrics::Metrics::default(),
        }
    }

    /// Takes the engine's lock.
    ///
    /// # Errors
    /// When somebody panicked while holding it: then its state may be half changed, and nobody goes on with it.
    pub(crate) fn core(&self) -> Result<MutexGuard<'_, Core>, Halted> {
        self.core.lock().map_err(|_| {
            self.halt.fail(Failure::Panic("engine"));
            Halted
        })
    }

    /// Closes what is left of the connections once the poller is gone. Whoever embeds the server may hold on to this long
    /// after it has failed: its clients must not wait for that.
    pub(crate) fn hang_up(&self) {
        // Also when somebody panicked: nothing is done with the engine.
        let mut core = lock(&self.core);
        core.links.clear();
        core.per_address.clear();
        drop(core);
        // Pipes that came too late to be taken up.
        self.alarm.take(&mut Vec::new(), &mut Vec::new());
    }

    pub(crate) fn into_core(self) -> Option<Core> {
        self.core.into_inner().ok()
    }

    pub(crate) fn take_bench(&self) -> Bench {
        lock(&self.benches).pop().unwrap_or_default()
    }

    pub(crate) fn give_bench(&self, bench: Bench) {
        let mut benches = lock(&self.benches);
        if benches.len() < POOLED && bench.bytes.capacity() <= POOLED_BYTES {
            benches.push(bench);
        }
    }

    fn take_buffer(&self) -> BytesMut {
        lock(&self.pool).pop().unwrap_or_default()
    }

    fn give_buffer(&self, mut buffer: BytesMut) {
        if (1..=POOLED_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            let mut pool = lock(&self.pool);
            if pool.len() < POOLED {
                pool.push(buffer);
            }
        }
    }

    /// Whether a connection from there may be had.
    pub(crate) fn admit(
        &self,
        peer: SocketAddr,
        slot: Slot,
        transport: Transport,
    ) -> Result<Result<Arc<Link>, &'static str>, Halted> {
        let mut core = self.core()?;
        let (total, each) = (self.config.max_cnxns, self.config.max_client_cnxns);
        if total > 0 && core.links.len() >= total {
            return Ok(Err("maxCnxns"));
        }
        let count = core.per_address.entry(peer.ip()).or_default();
        if each > 0 && *count >= each {
            return Ok(Err("maxClientCnxns"));
        }
        *count += 1;
        let id = ConnId(core.next_conn);
        core.next_conn += 1;
        let link = Arc::new(Link::new(
            id,
            peer,
            slot,
            transport,
            Arc::clone(&self.alarm),
        ));
        core.links.insert(id, Arc::clone(&link));
        core.engine.attach(id, peer.ip(), self.clock.now());
        Ok(Ok(link))
    }

    /// A connection is gone.
    pub(crate) fn dismiss(&self, link: &Link) -> Result<(), Halted> {
        let mut core = self.core()?;
        if core.links.remove(&link.id).is_some() {
            core.engine.detach(link.id);
            let ip = link.peer().ip();
            if let Some(count) = core.per_address.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    core.per_address.remove(&ip);
                }
            }
        }
        Ok(())
    }

    /// Feeds a connection's frames to the engine and sends what comes of it.
    pub(crate) fn feed(&self, link: &Link, bench: &mut Bench) -> Result<(), Halted> {
        let (now, wall) = (self.clock.now(), wall_ms());
        let lent = self.take_buffer();
        let mut core = self.core()?;
        let core = &mut *core;
        if let Some(out) = core.engine.output(link.id)
            && out.capacity() == 0
        {
            *out = lent;
        }
        for frame in bench.frames.drain(..) {
            self.faults.request_seen(link.id, &frame);
            core.engine.handle_frame(link.id, &frame, now, wall);
        }
        self.drain(core, now, &mut bench.touched)?;
        let spare = core
            .engine
            .output(link.id)
            .filter(|out| out.is_empty())
            .map(std::mem::take);
        let allowed = self.allowed(core, link.id);
        link.allow_reading(allowed);
        let _ = core;
        if let Some(spare) = spare {
            self.give_buffer(spare);
        }
        Ok(())
    }

    /// Sends what the engine gave out, after its lock was released.
    pub(crate) fn deliver(&self, bench: &mut Bench) {
        for link in bench.touched.drain(..) {
            self.flush(&link);
        }
    }

    /// Tells the engine something and does what comes of it.
    pub(crate) fn with_engine<T>(
        &self,
        tell: impl FnOnce(&mut Engine, Time) -> T,
    ) -> Result<T, Halted> {
        let mut bench = self.take_bench();
        let told = {
            let mut core = self.core()?;
            let now = self.clock.now();
            let told = tell(&mut core.engine, now);
            self.drain(&mut core, now, &mut bench.touched)?;
            told
        };
        self.deliver(&mut bench);
        self.give_bench(bench);
        Ok(told)
    }

    /// Takes what a connection that was blocked has to send meanwhile, and sends it.
    pub(crate) fn pull(&self, link: &Arc<Link>) -> Result<(), Halted> {
        let mut core = self.core()?;
        self.collect(&mut core, link);
        drop(core);
        self.flush(link);
        Ok(())
    }

    fn flush(&self, link: &Link) {
        if let Flushed::All(Some(buffer)) = link.flush() {
            self.give_buffer(buffer);
        }
    }

    /// Passes transactions on and collects output.
    fn drain(
        &self,
        core: &mut Core,
        now: Time,
        touched: &mut Vec<Arc<Link>>,
    ) -> Result<(), Halted> {
        loop {
            core.engine.take_appends(&mut core.appends);
            if core.appends.is_empty() {
                break;
            }
            match core.journal.submit(&mut core.appends) {
                Ok(Some(safe)) => core.engine.committed(safe, now),
                Ok(None) => {}
                Err(failure) => {
                    self.halt.fail(failure);
                    return Err(Halted);
                }
            }
        }
        core.engine.take_dirty(&mut core.dirty);
        let mut dirty = std::mem::take(&mut core.dirty);
        for conn in dirty.drain(..) {
            let Some(link) = core.links.get(&conn).cloned() else {
                continue;
            };
            self.collect(core, &link);
            touched.push(link);
        }
        core.dirty = dirty;
        Ok(())
    }

    /// Moves a connection's output to its link, and passes the engine's wishes about it on.
    fn collect(&self, core: &mut Core, link: &Arc<Link>) {
        if !link.is_blocked()
            && let Some(out) = core.engine.output(link.id)
            && !out.is_empty()
        {
            let out = std::mem::take(out);
            self.faults.send(link, out);
        }
        match core.engine.wants_close(link.id) {
            Some(CloseReason::NotReading) => link.cut(),
            Some(reason) => {
                tracing::debug!(peer = %link.peer(), ?reason, "closing a connection");
                // What waits behind a blocked link goes first.
                if core.engine.output(link.id).is_none_or(|out| out.is_empty()) {
                    link.close();
                }
            }
            None => {
                let allowed = self.allowed(core, link.id);
                link.allow_reading(allowed);
            }
        }
    }

    fn allowed(&self, core: &mut Core, conn: ConnId) -> bool {
        core.engine.may_read(conn)
            && core
                .engine
                .output(conn)
                .is_none_or(|out| out.len() < UNSENT_PAUSE)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
