//! The transaction log, writing side: groups of entries, forced together.
//!
//! One owner (the log thread) appends a group, forces it, and only then lets its transactions be acknowledged. Nothing
//! here knows what a transaction means; it sees a zxid and bytes.
//!
//! Invariants:
//! * A file gets a log's name only when its header and first group are in it and forced, so no reader, Java included,
//!   meets a log it would refuse.
//! * After a failed write or force nothing is written any more: what the failed call covered may or may not be on disk,
//!   and a later success would not say which (fail-stop).
//! * Never more than [`UNFORCED_MAX`] bytes (or one entry) are written and not forced, which bounds what a torn group
//!   can leave behind.
//! * After a start a new file is begun, as Java does: a torn tail is never written over.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use zk_proto::Zxid;
use zk_proto::jute::Encode;
use zk_proto::txn::FileHeader;

use super::disk::{Disk, DiskFile};
use super::entry;
use super::error::StorageError;
use super::names;
use super::preallocate::Preallocator;

/// Bytes that may be written and not forced.
pub(crate) const UNFORCED_MAX: u64 = 1 << 20;
/// The group buffer is given back above this.
const BUFFER_KEPT: usize = 4 << 20;

/// How the log is written. The names in quotes are those of `zoo.cfg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// `preAllocSize`, in bytes: the largest zero-filled segment. 0: files just grow. Default 64 MiB.
    pub preallocate: u64,
    /// `forceSync`: whether [`TxnLog::force`] reaches the disk. Default true. When false nothing is zero-filled ahead
    /// either: only a forced write gains by it.
    pub force_sync: bool,
    /// `txnLogSizeLimitInKb`, in bytes: a file that is longer after a force is the last of its own. 0: no limit.
    pub size_limit: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            preallocate: 64 << 20,
            force_sync: true,
            size_limit: 0,
        }
    }
}

/// The log file that is being written.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Where the next entry goes.
    position: u64,
    /// Bytes that hold zeros or entries: appending below this does not make the file grow.
    filled: u64,
    /// Bytes written since the last force.
    unforced: u64,
}

/// Appends transactions to the log of a directory.
///
/// ```
/// use std::sync::Arc;
/// use zk_proto::Zxid;
/// use zk_server_lite::storage::{LogOptions, RealDisk, TxnLog};
///
/// # let dir = tempfile::tempdir()?;
/// let mut log = TxnLog::open(Arc::new(RealDisk), dir.path().to_owned(), LogOptions::default())?;
/// # let first_payload = [0; 32]; let second_payload = [0; 32];
/// log.append([(Zxid(1), &first_payload[..]), (Zxid(2), &second_payload[..])])?;
/// log.force()?; // only now may transactions 1 and 2 be acknowledged
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TxnLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    ahead: Option<Preallocator>,
    segment: Option<Segment>,
    group: Vec<u8>,
    bytes_since_roll: u64,
    stopped: bool,
}

impl TxnLog {
    /// Opens the log of `dir` (a `version-2` folder) for appending. No log file is created before the first append.
    ///
    /// Call it after [`recover`](super::recover()), which removes what a crash left.
    ///
    /// # Errors
    /// When the thread that zero-fills segments cannot be started.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: LogOptions,
    ) -> Result<Self, StorageError> {
        let ahead = if options.preallocate > 0 && options.force_sync {
            Some(
                Preallocator::start(Arc::clone(&disk), &dir, options.preallocate)
                    .map_err(StorageError::io("start a thread for", &dir))?,
            )
        } else {
            None
        };
        Ok(Self {
            disk,
            dir,
            options,
            ahead,
            segment: None,
            group: Vec::new(),
            bytes_since_roll: 0,
            stopped: false,
        })
    }

    /// Writes a group of transactions, in order of their zxids, with one write (several when it is larger than 1 MiB).
    /// They are durable after the next [`force`](Self::force).
    ///
    /// # Errors
    /// When the group may not be on disk whole; the log has then stopped for good.
    pub fn append<'a>(
        &mut self,
        group: impl IntoIterator<Item = (Zxid, &'a [u8])>,
    ) -> Result<(), StorageError> {
        self.check_stopped()?;
        self.group.clear();
        let mut first = None;
        for (zxid, payload) in group {
            if first.is_some()
                && (self.group.len() + payload.len() + entry::OVERHEAD) as u64 > UNFORCED_MAX
            {
                self.guarded(|log| log.write_group(first.take()))?;
            }
            first.get_or_insert(zxid);
            entry::put(&mut self.group, payload);
        }
        self.guarded(|log| log.write_group(first))
    }

    /// Makes everything appended durable. Does nothing when it is, or with `forceSync=no`.
    ///
    /// # Errors
    /// When it may not be durable; the log has then stopped for good.
    pub fn force(&mut self) -> Result<(), StorageError> {
        self.check_stopped()?;
        self.guarded(|log| {
            log.force_segment()?;
            let limit = log.options.size_limit;
            if limit > 0
                && log
                    .segment
                    .as_ref()
                    .is_some_and(|segment| segment.position > limit)
            {
                log.finish_segment()?;
            }
            Ok(())
        })
    }

    /// Ends the present file: the next append begins a new one. Called when a snapshot begins.
    ///
    /// # Errors
    /// When what was appended may not be durable; the log has then stopped for good.
    pub fn roll(&mut self) -> Result<(), StorageError> {
        self.check_stopped()?;
        self.bytes_since_roll = 0;
        self.guarded(Self::finish_segment)
    }

    /// Forces what was appended and cuts the zeros behind it: a clean stop. Dropping the log without it loses nothing that
    /// was forced.
    ///
    /// # Errors
    /// When what was appended may not be durable.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.check_stopped()?;
        self.finish_segment()
    }

    /// Bytes appended since the log was opened or [rolled](Self::roll), for `snapSizeLimitInKb`.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes_since_roll
    }

    /// Whether a write or force failed: everything fails from then on.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether a zero-filled segment is ready for when it is needed.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.ahead.as_ref().is_some_and(Preallocator::is_ready)
    }

    fn check_stopped(&self) -> Result<(), StorageError> {
        if self.stopped {
            return Err(StorageError::Stopped {
                dir: self.dir.clone(),
            });
        }
        Ok(())
    }

    /// Runs a step that, if it fails, must be the last.
    fn guarded(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let done = step(self);
        self.stopped |= done.is_err();
        done
    }

    /// Writes `self.group`, whose first transaction is `first`.
    fn write_group(&mut self, first: Option<Zxid>) -> Result<(), StorageError> {
        let Some(first) = first else {
            return Ok(());
        };
        let length = self.group.len() as u64;
        self.bytes_since_roll += length;
        if let Some(segment) = &self.segment {
            let full = segment.position + length > segment.filled;
            let ready = self.ahead.as_ref().is_some_and(Preallocator::is_ready);
            if full && ready {
                self.finish_segment()?;
            } else if segment.unforced + length > UNFORCED_MAX && segment.unforced > 0 {
                self.force_segment()?;
            }
        }
        match &mut self.segment {
            Some(segment) => {
                segment
                    .file
                    .write_at(&self.group, segment.position)
                    .map_err(StorageError::io("append to", &segment.path))?;
                segment.position += length;
                segment.unforced += length;
                segment.filled = segment.filled.max(segment.position);
            }
            None => self.begin_segment(first)?,
        }
        self.group.clear();
        if self.group.capacity() > BUFFER_KEPT {
            self.group = Vec::new();
        }
        Ok(())
    }

    /// Begins a file with its header and `self.group`, and gives it its name when both are safe.
    fn begin_segment(&mut self, first: Zxid) -> Result<(), StorageError> {
        let spare = self.ahead.as_ref().and_then(Preallocator::take);
        let (unborn, file, filled) = match spare {
            Some(spare) => (spare.path, spare.file, spare.size),
            None => {
                let path = self.dir.join(names::UNBORN_LOG);
                let file = self
                    .disk
                    .create(&path, false)
                    .map_err(StorageError::io("create", &path))?;
                (path, file, 0)
            }
        };
        let mut header = BytesMut::with_capacity(FileHeader::LENGTH);
        FileHeader::LOG.encode(&mut header);
        // One write: the header goes in front of the group.
        let mut start = Vec::with_capacity(header.len() + self.group.len());
        start.extend_from_slice(&header);
        start.extend_from_slice(&self.group);
        file.write_at(&start, 0)
            .map_err(StorageError::io("append to", &unborn))?;
        if self.options.force_sync {
            file.sync().map_err(StorageError::io("force", &unborn))?;
        }
        let path = self.dir.join(names::log(first));
        self.disk
            .rename(&unborn, &path)
            .map_err(StorageError::io("rename", &unborn))?;
        if self.options.force_sync {
            self.disk
                .sync_dir(&self.dir)
                .map_err(StorageError::io("force", &self.dir))?;
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.order();
        }
        let position = start.len() as u64;
        self.segment = Some(Segment {
            path,
            file,
            position,
            filled: filled.max(position),
            unforced: 0,
        });
        Ok(())
    }

    fn force_segment(&mut self) -> Result<(), StorageError> {
        if let Some(segment) = &mut self.segment
            && segment.unforced > 0
        {
            if self.options.force_sync {
                segment
                    .file
                    .sync()
                    .map_err(StorageError::io("force", &segment.path))?;
            }
            segment.unforced = 0;
        }
        Ok(())
    }

    /// Forces the present file, cuts its zeros, and leaves it.
    fn finish_segment(&mut self) -> Result<(), StorageError> {
        self.force_segment()?;
        if let Some(segment) = self.segment.take()
            && segment.filled > segment.position
            && let Err(error) = segment.file.set_size(segment.position)
        {
            // Zeros at the end mean nothing; they only take room.
            tracing::debug!(path = %segment.path.display(), %error, "cannot cut the zeros behind a log");
        }
        Ok(())
    }
}
