//! A zero-filled segment, ready before the log needs it.
//!
//! Forcing a write into blocks that were written before is half again as fast as forcing one that makes the file grow
//! (measured: 98 µs against 182 µs), because no metadata changes. Reserving blocks without writing them gains little. So
//! a thread writes zeros to the next segment and forces it, while the log goes on in the present one; the log never
//! waits for it, but goes on growing its file while there is no spare.
//!
//! Segments begin small and grow fourfold up to `preAllocSize`: a server for one test must not write 64 MiB of zeros.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::disk::{Disk, DiskFile};
use super::names;

/// The first segment's size.
const FIRST: u64 = 1 << 20;
/// How much larger each next one is.
const GROWTH: u64 = 4;
/// Zeros forced before the next are written: a whole segment forced at once would keep the disk busy for tens of
/// milliseconds, and the log's own forced writes would queue behind it.
const STEP: u64 = 1 << 20;
/// Zeros written at a time: what an idle server keeps for it.
const ZEROS: usize = 64 << 10;

/// A zero-filled, forced file that has no log's name yet.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size: u64,
}

/// Keeps one [`Spare`] ready.
#[derive(Debug)]
pub(crate) struct Preallocator {
    ready: Arc<Mutex<Option<Spare>>>,
    /// Set with an order, cleared once it is carried out and `ready` says how. While it is set the file belongs to the
    /// thread: a second order would cut a spare that the log may just be taking.
    busy: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    orders: Option<SyncSender<u64>>,
    thread: Option<JoinHandle<()>>,
    next: u64,
    largest: u64,
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Preallocator {
    /// Starts the thread, and the first segment.
    pub(crate) fn start(disk: Arc<dyn Disk>, dir: &Path, largest: u64) -> io::Result<Self> {
        let ready = Arc::new(Mutex::new(None));
        let busy = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let path = dir.join(names::SPARE_LOG);
        // One order at most is open: the next is given when the spare is taken.
        let (orders, inbox) = sync_channel(1);
        let filler = Filler {
            disk: Arc::clone(&disk),
            path: path.clone(),
            ready: Arc::clone(&ready),
            busy: Arc::clone(&busy),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("zk-log-ahead".to_owned())
            .spawn(move || filler.run(&inbox))?;
        let mut preallocator = Self {
            ready,
            busy,
            stop,
            orders: Some(orders),
            thread: Some(thread),
            next: FIRST.min(largest),
            largest,
            disk,
            path,
        };
        preallocator.order();
        Ok(preallocator)
    }

    /// Takes the spare if it is ready. The caller gives it another name, then calls [`order`](Self::order).
    pub(crate) fn take(&self) -> Option<Spare> {
        lock(&self.ready).take()
    }

    /// Whether a spare is ready.
    pub(crate) fn is_ready(&self) -> bool {
        lock(&self.ready).is_some()
    }

    /// Has the next segment filled. Does nothing while one is under way or ready.
    pub(crate) fn order(&mut self) {
        if self.is_ready() || self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(orders) = &self.orders
            && orders.try_send(self.next).is_ok()
        {
            self.next = (self.next * GROWTH).min(self.largest);
        }
    }
}

impl Drop for Preallocator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that zero-fills log segments panicked");
        }
        // A spare that nobody took is a leftover; the next start would remove it too.
        if self.take().is_some()
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the spare log segment");
        }
    }
}

/// The thread's side.
struct Filler {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    ready: Arc<Mutex<Option<Spare>>>,
    busy: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Filler {
    fn run(&self, orders: &Receiver<u64>) {
        while let Ok(size) = orders.recv() {
            match self.fill(size) {
                Ok(file) => {
                    *lock(&self.ready) = file.map(|file| Spare {
                        path: self.path.clone(),
                        file,
                        size,
                    });
                }
                // Not fatal: the log grows its file instead, and reports its own failures.
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "cannot zero-fill a log segment ahead");
                    if let Err(error) = self.disk.remove(&self.path) {
                        tracing::debug!(path = %self.path.display(), %error, "cannot remove it");
                    }
                }
            }
            self.busy.store(false, Ordering::Release);
        }
    }

    /// `None` when stopped meanwhile.
    fn fill(&self, size: u64) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = self.disk.create(&self.path, false)?;
        let zeros = vec![0; ZEROS];
        let mut offset = 0;
        while offset < size {
            if self.stop.load(Ordering::Relaxed) {
                drop(file);
                self.disk.remove(&self.path)?;
                return Ok(None);
            }
            let end = size.min(offset + STEP);
            while offset < end {
                let length = (end - offset).min(ZEROS as u64);
                file.write_at(&zeros[..length as usize], offset)?;
                offset += length;
            }
            file.sync()?;
        }
        Ok(Some(file))
    }
}

/// A panic while holding it leaves an `Option` that is whole.
fn lock(ready: &Mutex<Option<Spare>>) -> MutexGuard<'_, Option<Spare>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}
