//! Reading a snapshot into a [`Restore`] (disk formats, section 5).
//!
//! A second thread reads, unpacks and sums up blocks while this one decodes and restores: the two costs that remain. The
//! checksums are known only at the end, so a damaged snapshot has been restored in part when it is refused; the caller
//! then starts over with [`Restore::reset`].

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::{Bytes, BytesMut};
use simd_adler32::Adler32;
use zk_proto::jute::{Decode, Reader};
use zk_proto::txn::{AclEntry, FileHeader, NodeEntry, SessionEntry, TxnDigest};
use zk_proto::{DecodeError, DecodeErrorKind, Zxid};

use super::Restore;
use super::compression::{self, Compression};
use super::disk::{Disk, DiskFile, read_full};
use super::error::{Damage, StorageError};

/// Unpacked bytes handed from thread to thread at a time.
const BLOCK: usize = 1 << 20;
/// Blocks that may wait between the threads.
const BLOCKS_AHEAD: usize = 4;
/// What a plain snapshot ends with: the mark `/` as a string.
const END_MARK: [u8; 5] = *b"\0\0\0\x01/";
/// Magic numbers of packed snapshots.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const SNAPPY_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";

/// Whether a file looks like a whole snapshot from outside: what Java checks before it tries one.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn looks_whole(
    disk: &dyn Disk,
    path: &Path,
    compression: Compression,
) -> Result<bool, StorageError> {
    let look = || -> io::Result<bool> {
        let file = disk.open(path, false)?;
        let size = file.size()?;
        let mut edge = [0; 8];
        Ok(match compression {
            Compression::None => {
                let edge = &mut edge[..END_MARK.len()];
                size >= 10
                    && read_full(&*file, edge, size - END_MARK.len() as u64)? == edge.len()
                    && *edge == END_MARK
            }
            Compression::Gzip => {
                let edge = &mut edge[..GZIP_MAGIC.len()];
                read_full(&*file, edge, 0)? == edge.len() && *edge == GZIP_MAGIC
            }
            Compression::Snappy => read_full(&*file, &mut edge, 0)? == 8 && edge == SNAPPY_MAGIC,
        })
    };
    look().map_err(StorageError::io("read", path))
}

/// Reads the snapshot at `path`, begun at `zxid`, into `restore`, which must be fresh.
///
/// # Errors
/// When it cannot be read or is damaged; `restore` has then taken a part of it.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
    zxid: Zxid,
    compression: Compression,
    restore: &mut (impl Restore + ?Sized),
) -> Result<(), StorageError> {
    let file = disk
        .open(path, false)
        .map_err(StorageError::io("open", path))?;
    let size = file.size().map_err(StorageError::io("measure", path))?;
    if compression == Compression::None && size <= BLOCK as u64 {
        // Not worth a thread.
        let mut source = Source::new(file, compression, size as usize + 1);
        return Image::new(path, || source.next_block()).restore(zxid, restore);
    }
    std::thread::scope(|scope| {
        let (sender, blocks) = sync_channel(BLOCKS_AHEAD);
        let spawned = std::thread::Builder::new()
            .name("zk-snapshot-read".to_owned())
            .spawn_scoped(scope, move || {
                let mut source = Source::new(file, compression, BLOCK);
                loop {
                    let block = source.next_block();
                    let last = !matches!(&block, Ok(Some(_)));
                    // A receiver that is gone has found damage.
                    if sender.send(block).is_err() || last {
                        break;
                    }
                }
            });
        spawned.map_err(StorageError::io("start a thread for", path))?;
        let blocks: Receiver<io::Result<Option<Block>>> = blocks;
        Image::new(path, move || blocks.recv().unwrap_or(Ok(None))).restore(zxid, restore)
    })
}

/// Unpacked bytes, and the checksum of all bytes before them.
#[derive(Clone)]
struct Block {
    bytes: Bytes,
    sum_before: Adler32,
}

/// The reading thread's side: blocks in order.
struct Source {
    reader: Box<dyn Read + Send>,
    sum: Adler32,
    block: usize,
}

impl Source {
    fn new(file: Arc<dyn DiskFile>, compression: Compression, block: usize) -> Self {
        Self {
            reader: compression::unpack(file, compression),
            sum: Adler32::new(),
            block,
        }
    }

    fn next_block(&mut self) -> io::Result<Option<Block>> {
        let mut bytes = BytesMut::zeroed(self.block);
        let mut filled = 0;
        while filled < self.block {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(None);
        }
        bytes.truncate(filled);
        let sum_before = self.sum.clone();
        self.sum.write(&bytes);
        Ok(Some(Block {
            bytes: bytes.freeze(),
            sum_before,
        }))
    }
}

/// The decoding side: a stream of records over the blocks.
struct Image<F> {
    path: PathBuf,
    next: F,
    /// Bytes not consumed yet.
    ahead: Bytes,
    /// Where `ahead` begins in the unpacked stream.
    position: u64,
    /// The last two blocks and where they begin: a seal begins in one of them.
    recent: [Option<(u64, Block)>; 2],
    /// Where the next block begins.
    received: u64,
    ended: bool,
}

impl<F: FnMut() -> io::Result<Option<Block>>> Image<F> {
    fn new(path: &Path, next: F) -> Self {
        Self {
            path: path.to_owned(),
            next,
            ahead: Bytes::new(),
            position: 0,
            recent: [None, None],
            received: 0,
            ended: false,
        }
    }

    #[expect(
        clippy::redundant_closure,
        reason = "the function itself is not general over the reader's lifetime; the closure is"
    )]
    fn restore(
        mut self,
        zxid: Zxid,
        restore: &mut (impl Restore + ?Sized),
    ) -> Result<(), StorageError> {
        let header: FileHeader = self.record("FileHeader", |reader| FileHeader::decode(reader))?;
        if header.magic != FileHeader::SNAPSHOT_MAGIC {
            return Err(StorageError::damaged(&self.path, 0, Damage::Magic));
        }
        let sessions = self.record("sessions", |reader| reader.int("count"))?;
        for _ in 0..sessions {
            let session: SessionEntry =
                self.record("SessionEntry", |reader| SessionEntry::decode(reader))?;
            restore.session(session.id, session.timeout);
        }
        let acls = self.record("acls", |reader| reader.int("count"))?;
        for _ in 0..acls {
            let entry: AclEntry = self.record("AclEntry", |reader| AclEntry::decode(reader))?;
            restore.acl(entry.id, entry.acl.unwrap_or_default());
        }
        self.nodes(restore)?;
        self.seal()?;
        // Taken before the snapshot began, it says nothing about it.
        let digest = self.digest()?.filter(|(at, _)| *at >= zxid);
        restore.snapshot_loaded(zxid, digest);
        Ok(())
    }

    fn nodes(&mut self, restore: &mut (impl Restore + ?Sized)) -> Result<(), StorageError> {
        loop {
            let ahead = self.ahead.clone();
            let mut reader = Reader::new(&ahead, "NodeEntry");
            // All nodes that are whole in what was read; their place is known from the reader.
            let needed = loop {
                let start = reader.position();
                if ahead.get(start..start + END_MARK.len()) == Some(&END_MARK[..]) {
                    self.consume(start + END_MARK.len());
                    return Ok(());
                }
                match NodeEntry::decode(&mut reader) {
                    Ok(node) => restore.node(node).map_err(|error| {
                        StorageError::damaged(&self.path, self.position + start as u64, error)
                    })?,
                    Err(error) => break (start, error),
                }
            };
            let (start, error) = needed;
            drop(ahead);
            self.consume(start);
            self.need_more(error)?;
        }
    }

    /// The digest block of 3.6 and later with its seal, and the third block of 3.9.
    fn digest(&mut self) -> Result<Option<(Zxid, u64)>, StorageError> {
        if self.at_end()? {
            return Ok(None);
        }
        let (zxid, version) = self.record("SnapshotDigest", |reader| {
            Ok((Zxid(reader.long("zxid")?), reader.int("version")?))
        })?;
        let digest = if version < TxnDigest::VERSION {
            // Version 1 was written in hexadecimal and never compared.
            self.record("SnapshotDigest", |reader| {
                reader.ustring("digest").map(drop)
            })?;
            None
        } else {
            Some(self.record("SnapshotDigest", |reader| reader.long("digest"))?)
        };
        self.seal()?;
        if !self.at_end()? {
            // What 3.9 stores here is the same number as in the name or a later one. The name's is always safe to replay
            // from, so this is read only to check the seal.
            self.record("lastProcessedZxid", |reader| {
                reader.long("lastProcessedZxid")
            })?;
            self.seal()?;
        }
        if !self.at_end()? {
            return Err(self.damaged(Damage::Trailing));
        }
        // A block of zeros says that there is no digest.
        let known = digest.filter(|_| version == TxnDigest::VERSION && zxid != Zxid(0));
        Ok(known.map(|digest| (zxid, digest.cast_unsigned())))
    }

    /// Checks a seal against everything before it.
    fn seal(&mut self) -> Result<(), StorageError> {
        let sum = self.sum_here();
        let stored = self.record("seal", |reader| reader.long("checksum"))?;
        if sum.is_none_or(|sum| stored != i64::from(sum)) {
            return Err(self.damaged(Damage::Checksum));
        }
        let mark = self.record("seal", |reader| {
            reader
                .ustring("mark")
                .map(|mark| mark.as_str() == Some("/"))
        })?;
        if !mark {
            return Err(self.damaged(Damage::EndMark));
        }
        Ok(())
    }

    /// The checksum of all bytes before `position`.
    fn sum_here(&self) -> Option<u32> {
        self.recent.iter().flatten().find_map(|(start, block)| {
            let within = usize::try_from(self.position.checked_sub(*start)?).ok()?;
            let mut sum = block.sum_before.clone();
            sum.write(block.bytes.get(..within)?);
            Some(sum.finish())
        })
    }

    /// Decodes one small record, reading on as needed.
    fn record<T>(
        &mut self,
        name: &'static str,
        decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, StorageError> {
        loop {
            let ahead = self.ahead.clone();
            let mut reader = Reader::new(&ahead, name);
            match decode(&mut reader) {
                Ok(value) => {
                    self.consume(reader.position());
                    return Ok(value);
                }
                Err(error) => self.need_more(error)?,
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.ahead = self.ahead.slice(count..);
        self.position += count as u64;
    }

    /// Reads on if the record at `position` only lacks bytes and there are more.
    fn need_more(&mut self, error: DecodeError) -> Result<(), StorageError> {
        let lacks = matches!(error.kind, DecodeErrorKind::Truncated { .. });
        if lacks && self.pull()? {
            return Ok(());
        }
        Err(self.damaged(if lacks {
            Damage::TooShort
        } else {
            Damage::Decode(error)
        }))
    }

    fn at_end(&mut self) -> Result<bool, StorageError> {
        Ok(self.ahead.is_empty() && !self.pull()?)
    }

    /// Takes the next block behind `ahead`; false at the end.
    fn pull(&mut self) -> Result<bool, StorageError> {
        if self.ended {
            return Ok(false);
        }
        let block = match (self.next)() {
            Ok(block) => block,
            Err(error) if is_stream_damage(&error) => {
                return Err(self.damaged(Damage::Compression(error.to_string())));
            }
            Err(error) => return Err(StorageError::io("read", &self.path)(error)),
        };
        let Some(block) = block else {
            self.ended = true;
            return Ok(false);
        };
        self.ahead = if self.ahead.is_empty() {
            block.bytes.clone()
        } else {
            let mut joined = BytesMut::with_capacity(self.ahead.len() + block.bytes.len());
            joined.extend_from_slice(&self.ahead);
            joined.extend_from_slice(&block.bytes);
            joined.freeze()
        };
        let start = self.received;
        self.received += block.bytes.len() as u64;
        self.recent.swap(0, 1);
        self.recent[1] = Some((start, block));
        Ok(true)
    }

    fn damaged(&self, damage: Damage) -> StorageError {
        StorageError::damaged(&self.path, self.position, damage)
    }
}

/// Whether an I/O error comes from unpacking, not from the device.
fn is_stream_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}
