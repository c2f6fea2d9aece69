//! Reading one transaction log file: whole entries in order, then how the file ends.
//!
//! This module tells what it found; whether a torn end is acceptable is for [`recover`](mod@super::recover) to say, which
//! knows if the file is the last. Memory is bounded by the read block and the longest entry that is really there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zk_proto::Zxid;
use zk_proto::txn::FileHeader;

use super::disk::{Disk, DiskFile, read_full};
use super::entry::{self, HEAD, Head, OVERHEAD};
use super::error::{Damage, StorageError};

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;
/// A lost write leaves at least this much of zeros, aligned: the smallest unit a disk writes.
const SECTOR: u64 = 512;

/// A whole entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its transaction.
    pub zxid: Zxid,
    /// Header, record and digest, as [`zk_proto::txn::decode_txn`] takes them.
    pub payload: Bytes,
}

/// How a log file ends behind its last whole entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Where the next entry would begin. 0 for a file without a header.
    pub offset: u64,
    /// Whether anything but zeros stands there.
    pub torn: bool,
    /// A whole entry that nevertheless follows, and where.
    pub next_whole: Option<u64>,
    /// Where the last byte that is not zero ends.
    pub data_end: u64,
    /// Whether a whole sector is blank in what should be the next entry: the trace of a write that did not arrive.
    pub blank_sector: bool,
}

/// Reads the entries of one log file.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    size: u64,
    /// Bytes of the file from `position` on, as far as read.
    ahead: Bytes,
    /// Where the next entry begins.
    position: u64,
    last: Zxid,
    end: Option<LogEnd>,
}

impl LogReader {
    /// Opens a log file. One without a header (a crash came before it was written) reads as empty.
    ///
    /// # Errors
    /// When it cannot be read, or begins with something else than a log's header.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let file = disk
            .open(path, false)
            .map_err(StorageError::io("open", path))?;
        let size = file.size().map_err(StorageError::io("measure", path))?;
        let mut reader = Self {
            path: path.to_owned(),
            file,
            size,
            ahead: Bytes::new(),
            position: 0,
            last: Zxid(0),
            end: None,
        };
        let header = FileHeader::LENGTH;
        reader.fill(header)?;
        let magic = FileHeader::LOG_MAGIC.to_be_bytes();
        let begun = &reader.ahead[..reader.ahead.len().min(header)];
        if begun.len() == header && begun[..4] == magic {
            reader.skip(header);
            return Ok(reader);
        }
        // Nothing, the first bytes of a header, or the zeros of a preallocated file.
        let blank = begun.iter().all(|byte| *byte == 0);
        let cut =
            begun.len() < header && begun[..begun.len().min(4)] == magic[..begun.len().min(4)];
        let end = reader.look_behind(0)?;
        if (!blank && !cut) || end.next_whole.is_some() {
            return Err(StorageError::damaged(path, 0, Damage::Magic));
        }
        reader.end = Some(end);
        Ok(reader)
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How the file ends; known once [`next_entry`](Self::next_entry) has returned `None`.
    #[must_use]
    pub fn end(&self) -> Option<LogEnd> {
        self.end
    }

    /// Whether the file lacks even its header.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.end.is_some_and(|end| end.offset == 0)
    }

    /// The next whole entry; `None` where there is none any more.
    ///
    /// # Errors
    /// When the file cannot be read, or an entry with a fitting checksum is too short to be a transaction.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry>, StorageError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let Some(length) = self.whole_entry()? else {
            self.end = Some(self.look_behind(self.position)?);
            return Ok(None);
        };
        let offset = self.position;
        let payload = self.ahead.slice(HEAD..HEAD + length);
        let Some(zxid) = entry::zxid(&payload) else {
            return Err(StorageError::damaged(&self.path, offset, Damage::TooShort));
        };
        self.last = zxid;
        self.skip(length + OVERHEAD);
        Ok(Some(LogEntry {
            offset,
            zxid,
            payload,
        }))
    }

    /// The payload length of the entry at `position`, if it is whole; it is then in `ahead`.
    fn whole_entry(&mut self) -> Result<Option<usize>, StorageError> {
        if !self.fill(HEAD)? {
            return Ok(None);
        }
        let head = self.head();
        let length = u64::from(head.length);
        if length == 0 || self.position + length + OVERHEAD as u64 > self.size {
            return Ok(None);
        }
        let length = head.length as usize;
        // The file is at least that long, so this allocates for what is there.
        if !self.fill(length + OVERHEAD)? || self.ahead[HEAD + length] != entry::END {
            return Ok(None);
        }
        Ok(head
            .fits(&self.ahead[HEAD..HEAD + length])
            .then_some(length))
    }

    fn head(&self) -> Head {
        let mut head = [0; HEAD];
        head.copy_from_slice(&self.ahead[..HEAD]);
        Head::read(&head)
    }

    fn skip(&mut self, count: usize) {
        self.ahead = self.ahead.slice(count..);
        self.position += count as u64;
    }

    /// Makes `ahead` hold at least `needed` bytes; false if the file ends before.
    fn fill(&mut self, needed: usize) -> Result<bool, StorageError> {
        if self.ahead.len() >= needed {
            return Ok(true);
        }
        let have = self.ahead.len();
        let read_from = self.position + have as u64;
        let left = usize::try_from(self.size.saturating_sub(read_from)).unwrap_or(usize::MAX);
        let more = left.min(BLOCK.max(needed - have));
        let mut block = BytesMut::zeroed(have + more);
        block[..have].copy_from_slice(&self.ahead);
        let read = read_full(&*self.file, &mut block[have..], read_from)
            .map_err(StorageError::io("read", &self.path))?;
        block.truncate(have + read);
        self.ahead = block.freeze();
        Ok(self.ahead.len() >= needed)
    }

    /// Looks at everything from `offset` on, where no whole entry begins.
    ///
    /// A candidate must have a fitting checksum and a zxid above the last one. Node data that imitates an entry could make
    /// a torn end look like damage; then the server refuses to start, which is the safe mistake.
    fn look_behind(&self, offset: u64) -> Result<LogEnd, StorageError> {
        let mut end = LogEnd {
            offset,
            torn: false,
            next_whole: None,
            data_end: offset,
            blank_sector: false,
        };
        let behind = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut block = vec![0; behind.min(BLOCK + HEAD)];
        let zeros = vec![0; block.len()];
        let mut start = offset;
        while start < self.size {
            let filled = read_full(&*self.file, &mut block, start)
                .map_err(StorageError::io("read", &self.path))?;
            if filled == 0 {
                break;
            }
            let bytes = &block[..filled];
            if bytes != &zeros[..filled] {
                if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                    end.data_end = start + last as u64 + 1;
                }
                if end.next_whole.is_none() {
                    end.next_whole = self.find_entry(bytes, start, offset)?;
                }
            }
            if filled < BLOCK + HEAD {
                break;
            }
            start += BLOCK as u64;
        }
        end.torn = end.data_end > offset;
        if let Some(next) = end.next_whole {
            end.blank_sector = self.has_blank_sector(offset, next)?;
        }
        Ok(end)
    }

    /// The first whole entry that begins in `bytes`, which stand at `start`, but not at `broken` itself.
    fn find_entry(
        &self,
        bytes: &[u8],
        start: u64,
        broken: u64,
    ) -> Result<Option<u64>, StorageError> {
        for (at, window) in bytes.windows(HEAD).enumerate() {
            let offset = start + at as u64;
            if window[..4] != [0; 4] || offset == broken {
                continue;
            }
            let mut head = [0; HEAD];
            head.copy_from_slice(window);
            let head = Head::read(&head);
            let length = u64::from(head.length);
            if length < entry::HEADER as u64 || offset + length + OVERHEAD as u64 > self.size {
                continue;
            }
            // The end mark is tested before the payload is read: it rules out nearly all.
            let mut mark = [0];
            read_full(&*self.file, &mut mark, offset + HEAD as u64 + length)
                .map_err(StorageError::io("read", &self.path))?;
            if mark[0] != entry::END {
                continue;
            }
            let mut payload = vec![0; head.length as usize];
            read_full(&*self.file, &mut payload, offset + HEAD as u64)
                .map_err(StorageError::io("read", &self.path))?;
            if head.fits(&payload) && entry::zxid(&payload).is_some_and(|zxid| zxid > self.last) {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn has_blank_sector(&self, from: u64, to: u64) -> Result<bool, StorageError> {
        let mut sector = [0; SECTOR as usize];
        let mut at = from.next_multiple_of(SECTOR);
        // The group began within a sector that holds older entries: what it was to put there is blank. An entry's first
        // four bytes are zeros anyway and prove nothing.
        let begun = (at - from) as usize;
        if begun > 4 {
            read_full(&*self.file, &mut sector[..begun], from)
                .map_err(StorageError::io("read", &self.path))?;
            if sector[..begun].iter().all(|byte| *byte == 0) {
                return Ok(true);
            }
        }
        while at + SECTOR <= to.next_multiple_of(SECTOR) {
            let filled = read_full(&*self.file, &mut sector, at)
                .map_err(StorageError::io("read", &self.path))?;
            if filled == sector.len() && sector == [0; SECTOR as usize] {
                return Ok(true);
            }
            at += SECTOR;
        }
        Ok(false)
    }
}
