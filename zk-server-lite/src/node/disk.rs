//! A server with a directory: what it starts from, where its transactions go, and the snapshots beside them.
//!
//! With `forceSync` transactions go to a log thread as groups: it writes a group, forces it, tells the engine, and finds the
//! next group formed meanwhile. Without, they are written by whoever handled the request, as there is nothing to wait for.
//! A disk that fails ends the server; what was not forced was never acknowledged.
//!
//! A snapshot is written by a thread of its own that takes the engine's lock for a bounded number of nodes at a time, so no
//! writer waits for it. If it fails the server goes on: the log has everything.

use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use zk_proto::Zxid;
use zk_proto::jute::{Encode, put_count};
use zk_proto::txn::SessionEntry;

use super::core::{Journal, Shared};
use super::halt::{Failure, Halted};
use crate::config::{ServerConfig, SnapshotCompression};
use crate::pipeline::{Append, Database};
use crate::session::password::Secret;
use crate::storage::{
    Compression, DataDir, Disk, History, LogOptions, RecoverOptions, SessionSecret, SnapshotWriter,
    StorageError, TxnLog, purge, recover,
};
use crate::tree::DataTree;

/// Nodes serialised under one taking of the lock: some tens of microseconds, in which every request waits.
const CHUNK: usize = 200;

/// A directory that was opened and read.
#[derive(Debug)]
pub(crate) struct Opened {
    disk: Arc<dyn Disk>,
    dir: DataDir,
    log: TxnLog,
    pub(crate) database: Database,
    pub(crate) secret: Secret,
    pub(crate) took: Duration,
}

/// Locks the directory, reads it, and makes it ready to be written.
pub(crate) fn open(
    config: &ServerConfig,
    data_dir: &std::path::Path,
    disk: Arc<dyn Disk>,
) -> Result<Opened, StorageError> {
    let begun = Instant::now();
    let dir = DataDir::open(&*disk, data_dir, config.data_log_dir.as_deref())?;
    let secret = *SessionSecret::open(&*disk, dir.snap_dir())?.bytes();
    let mut database = Database::empty(config.extended_types);
    let options = RecoverOptions {
        trust_empty: config.trust_empty,
        ..RecoverOptions::default()
    };
    let recovered = recover(
        &*disk,
        dir.snap_dir(),
        dir.log_dir(),
        &options,
        &mut database,
    )?;
    if recovered.history == History::New {
        let writer = SnapshotWriter::create(
            Arc::clone(&disk),
            dir.snap_dir(),
            Zxid(0),
            compression(config),
        )?;
        first_snapshot(writer, &database)?;
    }
    let options = LogOptions {
        preallocate: config.pre_alloc_kb * 1024,
        force_sync: config.force_sync,
        size_limit: config.txn_log_size_limit_kb * 1024,
    };
    let log = TxnLog::open(Arc::clone(&disk), dir.log_dir().to_owned(), options)?;
    let took = begun.elapsed();
    tracing::info!(
        last_zxid = %recovered.last_zxid,
        replayed = recovered.replayed,
        nodes = database.tree.node_count(),
        took_ms = took.as_millis() as u64,
        "the data directory is read"
    );
    Ok(Opened {
        disk,
        dir,
        log,
        database,
        secret,
        took,
    })
}

fn compression(config: &ServerConfig) -> Compression {
    match config.snapshot_compression {
        SnapshotCompression::None => Compression::None,
        SnapshotCompression::Gzip => Compression::Gzip,
        SnapshotCompression::Snappy => Compression::Snappy,
    }
}

/// `snapshot.0`, without which Java refuses a log.
fn first_snapshot(mut writer: SnapshotWriter, database: &Database) -> Result<(), StorageError> {
    let mut out = BytesMut::new();
    put_count(&mut out, 0);
    let mut cursor = database.tree.begin_snapshot(&mut out);
    while !database.tree.snapshot_chunk(&mut cursor, CHUNK, &mut out) {}
    writer.write(&out)?;
    writer
        .finish(Some(database.tree.snapshot_digest()))
        .map(drop)
}

/// The directory of a running server. Dropped last, since it holds the lock.
#[derive(Debug)]
pub(crate) struct Store {
    snapshots: Arc<Snapshots>,
    queue: Option<Arc<Queue>>,
    thread: Option<JoinHandle<()>>,
    dir: DataDir,
}

impl Opened {
    /// Splits into what the engine's lock guards and what the server keeps.
    pub(crate) fn into_parts(
        self,
        config: &ServerConfig,
    ) -> (Database, Box<dyn Journal>, Store, Option<TxnLog>) {
        let snapshots = Arc::new(Snapshots {
            disk: self.disk,
            dir: self.dir.snap_dir().to_owned(),
            compression: compression(config),
            shared: OnceLock::new(),
            running: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let due = Due::new(config, Arc::clone(&snapshots));
        let store = |queue| Store {
            snapshots,
            queue,
            thread: None,
            dir: self.dir,
        };
        if config.force_sync {
            let queue = Arc::new(Queue {
                waiting: Mutex::default(),
                due: Mutex::new(Some(due)),
                news: Condvar::new(),
            });
            (
                self.database,
                Box::new(ThreadJournal(Arc::clone(&queue))),
                store(Some(queue)),
                Some(self.log),
            )
        } else {
            (
                self.database,
                Box::new(InlineJournal {
                    log: Some(self.log),
                    due,
                }),
                store(None),
                None,
            )
        }
    }
}

impl Store {
    /// Starts what works beside the connections.
    pub(crate) fn start(
        &mut self,
        shared: &Arc<Shared>,
        log: Option<TxnLog>,
    ) -> std::io::Result<()> {
        // Set once, here.
        let _ = self.snapshots.shared.set(Arc::downgrade(shared));
        if let (Some(queue), Some(log)) = (self.queue.clone(), log) {
            let due = lock(&queue.due).take();
            let shared = Arc::clone(shared);
            let run = move || {
                let _guard = shared.halt.guard("log thread");
                if let Some(due) = due {
                    run_log(&shared, &queue, log, due);
                }
            };
            self.thread = Some(
                std::thread::Builder::new()
                    .name("zk-log".to_owned())
                    .spawn(run)?,
            );
        }
        Ok(())
    }

    /// Ends the threads: what was submitted is forced and answered, unless the server crashes.
    pub(crate) fn stop(&mut self, shared: &Shared) {
        if let Some(queue) = &self.queue {
            lock(&queue.waiting).closing = true;
            queue.news.notify_one();
        } else if let Ok(mut core) = shared.core() {
            core.close_journal(shared.faults.is_crashed());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(thread) = lock(&self.snapshots.thread).take() {
            let _ = thread.join();
        }
    }

    /// What `autopurge` does at each interval.
    pub(crate) fn purger(&self, retain: usize) -> impl Fn() + Send + Sync + 'static {
        let disk = Arc::clone(&self.snapshots.disk);
        let (snap_dir, log_dir) = (
            self.dir.snap_dir().to_owned(),
            self.dir.log_dir().to_owned(),
        );
        move || match purge(&*disk, &snap_dir, &log_dir, retain) {
            Ok(removed) => tracing::info!(files = removed.len(), "purged old snapshots and logs"),
            Err(error) => tracing::warn!(%error, "cannot purge old snapshots and logs"),
        }
    }
}

/// Transactions on their way to the log thread. Bounded by what the engine lets be outstanding.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Until the thread has it.
    due: Mutex<Option<Due>>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    appends: Vec<Append>,
    closing: bool,
}

/// See [`Queue`].
#[derive(Debug)]
struct ThreadJournal(Arc<Queue>);

impl Journal for ThreadJournal {
    fn submit(&mut self, group: &mut Vec<Append>) -> Result<Option<Zxid>, Failure> {
        let mut waiting = lock(&self.0.waiting);
        let idle = waiting.appends.is_empty();
        waiting.appends.append(group);
        drop(waiting);
        if idle {
            self.0.news.notify_one();
        }
        Ok(None)
    }

    fn close(&mut self, _crash: bool) {}
}

/// For a log that is not forced.
#[derive(Debug)]
struct InlineJournal {
    log: Option<TxnLog>,
    due: Due,
}

impl Journal for InlineJournal {
    fn submit(&mut self, group: &mut Vec<Append>) -> Result<Option<Zxid>, Failure> {
        let Some(log) = &mut self.log else {
            return Ok(None);
        };
        let last = write_group(log, group).and_then(|last| {
            self.due.count(log, group.len())?;
            Ok(last)
        });
        group.clear();
        last.map_err(|error| Failure::Disk(describe(&error)))
    }

    fn close(&mut self, crash: bool) {
        if let Some(log) = self.log.take()
            && !crash
            && let Err(error) = log.close()
        {
            tracing::error!(%error, "cannot end the log cleanly");
        }
    }
}

/// Appends and forces a group; says up to where the log is safe.
fn write_group(log: &mut TxnLog, group: &[Append]) -> Result<Option<Zxid>, StorageError> {
    log.append(
        group
            .iter()
            .map(|append| (append.zxid, &append.payload[..])),
    )?;
    log.force()?;
    Ok(group.last().map(|append| append.zxid))
}

fn run_log(shared: &Shared, queue: &Queue, mut log: TxnLog, mut due: Due) {
    let mut group = Vec::new();
    loop {
        let mut waiting = lock(&queue.waiting);
        while waiting.appends.is_empty() && !waiting.closing {
            waiting = queue
                .news
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut group, &mut waiting.appends);
        drop(waiting);
        while shared.faults.is_frozen() && !shared.halt.token().is_cancelled() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if shared.faults.is_crashed() {
            return;
        }
        if group.is_empty() {
            break;
        }
        let begun = Instant::now();
        let written = write_group(&mut log, &group);
        shared.metrics.fsync.add(begun.elapsed());
        let counted = written.and_then(|last| due.count(&mut log, group.len()).map(|()| last));
        group.clear();
        match counted {
            Ok(Some(last)) => {
                if shared
                    .with_engine(|engine, now| engine.committed(last, now))
                    .is_err()
                {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                shared.halt.fail(Failure::Disk(describe(&error)));
                return;
            }
        }
    }
    if let Err(error) = log.close() {
        tracing::error!(%error, "cannot end the log cleanly");
    }
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// When the next snapshot is due. The owner of the log has it.
#[derive(Debug)]
struct Due {
    snapshots: Arc<Snapshots>,
    snap_count: u32,
    size_limit: u64,
    transactions: u64,
    limit: u64,
    bytes_limit: u64,
}

impl Due {
    fn new(config: &ServerConfig, snapshots: Arc<Snapshots>) -> Self {
        let mut due = Self {
            snapshots,
            snap_count: config.snap_count.max(2),
            size_limit: config.snap_size_limit_kb * 1024,
            transactions: 0,
            limit: 0,
            bytes_limit: 0,
        };
        due.draw();
        due
    }

    /// Half of it for sure and half by chance, so that the members of an ensemble do not all pause together.
    fn draw(&mut self) {
        let count = u64::from(self.snap_count);
        self.transactions = 0;
        self.limit = count / 2 + fastrand::u64(0..=count / 2);
        self.bytes_limit = self.size_limit / 2 + fastrand::u64(0..=self.size_limit / 2);
    }

    /// Counts a group that is in the log; begins a snapshot, and a new log file, when it is time.
    fn count(&mut self, log: &mut TxnLog, transactions: usize) -> Result<(), StorageError> {
        self.transactions += transactions as u64;
        let large = self.size_limit > 0 && log.size() > self.bytes_limit;
        if (self.transactions > self.limit || large) && self.snapshots.begin() {
            self.draw();
            log.roll()?;
        }
        Ok(())
    }
}

/// Writes snapshots, one at a time.
#[derive(Debug)]
struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    compression: Compression,
    shared: OnceLock<Weak<Shared>>,
    running: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Snapshots {
    /// Starts one unless one is running. False if it cannot be started.
    fn begin(self: &Arc<Self>) -> bool {
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else {
            return false;
        };
        if self.running.swap(true, Ordering::AcqRel) {
            return false;
        }
        let this = Arc::clone(self);
        let run = move || {
            let _guard = shared.halt.guard("snapshot thread");
            let begun = Instant::now();
            match this.write(&shared) {
                Ok(Some(zxid)) => {
                    shared.metrics.snapshot.add(begun.elapsed());
                    tracing::info!(%zxid, took_ms = begun.elapsed().as_millis() as u64, "wrote a snapshot");
                }
                Ok(None) => {}
                Err(error) => {
                    shared.metrics.snapshot_failed();
                    tracing::error!(
                        error = describe(&error),
                        "cannot write a snapshot; the log has everything"
                    );
                }
            }
            this.running.store(false, Ordering::Release);
        };
        match std::thread::Builder::new()
            .name("zk-snapshot".to_owned())
            .spawn(run)
        {
            Ok(thread) => {
                // The one before is done, or this one had not been begun.
                *lock(&self.thread) = Some(thread);
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot start a thread to write a snapshot");
                self.running.store(false, Ordering::Release);
                false
            }
        }
    }

    /// None when the server stops meanwhile.
    fn write(&self, shared: &Shared) -> Result<Option<Zxid>, StorageError> {
        let mut out = BytesMut::new();
        let begun = shared.core().map(|core| {
            let sessions: Vec<_> = core.engine.sessions().collect();
            put_count(&mut out, sessions.len());
            for (id, timeout) in sessions {
                SessionEntry { id, timeout }.encode(&mut out);
            }
            core.engine.tree().begin_snapshot(&mut out)
        });
        let Ok(mut cursor) = begun else {
            return Ok(None);
        };
        let mut writer = SnapshotWriter::create(
            Arc::clone(&self.disk),
            &self.dir,
            cursor.zxid,
            self.compression,
        )?;
        let mut digest = None;
        while digest.is_none() {
            if shared.halt.token().is_cancelled() {
                return Ok(None);
            }
            let begun = Instant::now();
            let mut chunk = |tree: &DataTree| {
                tree.snapshot_chunk(&mut cursor, CHUNK, &mut out)
                    .then(|| tree.snapshot_digest())
            };
            match shared.core().map(|core| chunk(core.engine.tree())) {
                Ok(done) => digest = done,
                Err(Halted) => return Ok(None),
            }
            writer.write(&out)?;
            out.clear();
            // Half of the time at most: under steady writes snapshots follow each other closely, and neither the lock nor a
            // core is theirs alone.
            std::thread::park_timeout(begun.elapsed());
        }
        writer.finish(digest)?;
        Ok(Some(cursor.zxid))
    }
}

/// These locks guard plain values that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
