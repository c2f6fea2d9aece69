//! Replaying the log files above a snapshot: the order of history, and which ends of files are acceptable.
//!
//! A second thread reads files and checks checksums while this one decodes and applies.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use zk_proto::Zxid;
use zk_proto::txn::decode_txn;

use super::Restore;
use super::disk::{Disk, read_full};
use super::entry;
use super::error::{Damage, StorageError};
use super::reader::{LogEnd, LogEntry, LogReader};
use super::recover::{RecoverOptions, Warning};
use super::txn_log::UNFORCED_MAX;

/// Entries handed from thread to thread at a time.
const BATCH_ENTRIES: usize = 2048;
/// Or so many bytes of payload.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may wait between the threads.
const BATCHES_AHEAD: usize = 4;

/// Some entries of one file, and how it ends if these are its last.
struct Batch {
    file: usize,
    entries: Vec<LogEntry>,
    end: Option<LogEnd>,
}

/// Reads files one after another.
struct Source<'a> {
    disk: &'a dyn Disk,
    files: &'a [PathBuf],
    file: usize,
    reader: Option<LogReader>,
}

impl Source<'_> {
    fn next_batch(&mut self) -> Result<Option<Batch>, StorageError> {
        let Some(path) = self.files.get(self.file) else {
            return Ok(None);
        };
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => LogReader::open(self.disk, path)?,
        };
        let mut batch = Batch {
            file: self.file,
            entries: Vec::new(),
            end: None,
        };
        let mut bytes = 0;
        while batch.entries.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            match reader.next_entry() {
                Ok(Some(entry)) => {
                    bytes += entry.payload.len();
                    batch.entries.push(entry);
                }
                Ok(None) => {
                    batch.end = reader.end();
                    self.file += 1;
                    return Ok(Some(batch));
                }
                Err(error) => return Err(error),
            }
        }
        self.reader = Some(reader);
        Ok(Some(batch))
    }
}

/// Where replay stands.
pub(crate) struct Replay<'a, R: ?Sized> {
    pub(crate) disk: &'a dyn Disk,
    /// All log files that may matter, oldest first.
    pub(crate) files: &'a [PathBuf],
    pub(crate) options: &'a RecoverOptions,
    /// Replay starts above it.
    pub(crate) snapshot: Zxid,
    pub(crate) restore: &'a mut R,
    /// The last transaction that is in the database.
    pub(crate) last: Zxid,
    pub(crate) count: u64,
    /// Where the last entry seen of the present file begins.
    pub(crate) entry_at: u64,
    /// Damaged snapshots that the history must pass through.
    pub(crate) must_see: Vec<Zxid>,
    pub(crate) warnings: Vec<Warning>,
}

impl<R: Restore + ?Sized> Replay<'_, R> {
    /// Replays all files.
    pub(crate) fn run(&mut self) -> Result<(), StorageError> {
        let mut source = Source {
            disk: self.disk,
            files: self.files,
            file: 0,
            reader: None,
        };
        // A short log is not worth a thread.
        let first = source.next_batch()?;
        let Some(first) = first else {
            return Ok(());
        };
        let short = first.end.is_some() && self.files.len() == 1;
        self.batch(first)?;
        if short {
            return Ok(());
        }
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("zk-log-read".to_owned())
                .spawn_scoped(scope, move || {
                    loop {
                        let batch = source.next_batch().transpose();
                        let last = !matches!(&batch, Some(Ok(_)));
                        if let Some(batch) = batch
                            && sender.send(batch).is_err()
                        {
                            break;
                        }
                        if last {
                            break;
                        }
                    }
                })
                .map_err(StorageError::io("start a thread for", &self.files[0]))?;
            // Owned here, so that it is gone, and the reader with it, when damage ends the loop.
            let batches = batches;
            for batch in &batches {
                self.batch(batch?)?;
            }
            Ok(())
        })
    }

    fn batch(&mut self, batch: Batch) -> Result<(), StorageError> {
        let path = &self.files[batch.file];
        for entry in &batch.entries {
            self.entry(path, entry)?;
        }
        if let Some(end) = batch.end {
            self.file_end(path, end, batch.file + 1 == self.files.len())?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, entry: &LogEntry) -> Result<(), StorageError> {
        self.entry_at = entry.offset;
        // The snapshot has it. Below a snapshot holes are legitimate: the leader may have sent one over them.
        if entry.zxid <= self.snapshot && self.last == self.snapshot {
            return Ok(());
        }
        if entry.zxid <= self.last {
            let previous = self.last;
            return Err(StorageError::damaged(
                path,
                entry.offset,
                Damage::Order { previous },
            ));
        }
        if !entry::follows(self.last, entry.zxid) {
            return Err(StorageError::Hole {
                file: path.to_owned(),
                offset: entry.offset,
                previous: self.last,
                found: entry.zxid,
            });
        }
        let damaged = |damage: Damage| StorageError::damaged(path, entry.offset, damage);
        let (header, txn, digest) =
            decode_txn(&entry.payload).map_err(|error| damaged(error.into()))?;
        self.restore
            .txn(&header, &txn, digest)
            .map_err(|error| damaged(error.into()))?;
        self.last = entry.zxid;
        self.count += 1;
        self.must_see.retain(|zxid| *zxid != entry.zxid);
        Ok(())
    }

    /// Section 2, "Our rule": a torn end of the last file is what a crash leaves; damage before whole entries is not.
    fn file_end(&mut self, path: &Path, end: LogEnd, last: bool) -> Result<(), StorageError> {
        if let Some(next) = end.next_whole {
            // A power cut may lose any sector of the last, unforced group and keep others behind it. That, and nothing
            // acknowledged, is what may be dropped here.
            let unforced =
                last && end.blank_sector && end.data_end - end.offset <= 2 * UNFORCED_MAX;
            if !unforced {
                return Err(StorageError::damaged(
                    path,
                    end.offset,
                    Damage::Torn { next },
                ));
            }
        }
        if end.offset == 0 {
            self.warn(Warning::Headless {
                file: path.to_owned(),
            });
            if last && self.options.repair {
                self.disk
                    .remove(path)
                    .map_err(StorageError::io("remove", path))?;
            }
        } else if end.torn {
            self.warn(Warning::TornTail {
                file: path.to_owned(),
                offset: end.offset,
                bytes: end.data_end - end.offset,
            });
        }
        if self.options.repair && end.offset > 0 {
            self.settle(path, &end, last)?;
        }
        self.entry_at = 0;
        Ok(())
    }

    /// Makes what was read from a file durable, before anything is written that comes after it.
    ///
    /// That a file can be read proves nothing: a process that was killed between a write and its force leaves entries that
    /// only the page cache has, and so does a force that failed, of which a later one says nothing (the pages count as
    /// clean). A power cut would then take them from under the next log file and leave a hole. So all that can have been
    /// unforced in the last file is written over with itself, which makes it dirty again, and forced.
    fn settle(&self, path: &Path, end: &LogEnd, last: bool) -> Result<(), StorageError> {
        let file = self
            .disk
            .open(path, true)
            .map_err(StorageError::io("open", path))?;
        if last {
            if end.torn {
                file.set_size(end.offset)
                    .map_err(StorageError::io("cut", path))?;
            }
            let from = end.offset.saturating_sub(UNFORCED_MAX).min(self.entry_at);
            let length = usize::try_from(end.offset - from)
                .map_err(|error| StorageError::io("read", path)(io::Error::other(error)))?;
            let mut tail = vec![0; length];
            match read_full(&*file, &mut tail, from) {
                Ok(read) if read == length => {}
                Ok(_) => {
                    let shrunk = io::ErrorKind::UnexpectedEof.into();
                    return Err(StorageError::io("read", path)(shrunk));
                }
                Err(error) => return Err(StorageError::io("read", path)(error)),
            }
            file.write_at(&tail, from)
                .map_err(StorageError::io("write", path))?;
        }
        file.sync().map_err(StorageError::io("force", path))
    }

    fn warn(&mut self, warning: Warning) {
        tracing::warn!("{warning}");
        self.warnings.push(warning);
    }
}
