//! How snapshots are packed: plain, gzip, or snappy in the stream framing of snappy-java (disk formats, section 5).
//!
//! Seals are over the unpacked bytes, so nothing here knows them. A damaged stream is an error of kind `InvalidData` or
//! `UnexpectedEof`; memory grows by what unpacks, never by what a length announces.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::disk::DiskFile;

/// `snapshot.compression.method`. Chosen by the setting for writing, by the file's extension for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// As they are: the default, and the fastest to recover.
    #[default]
    None,
    /// `gz`.
    Gzip,
    /// `snappy`.
    Snappy,
}

impl Compression {
    /// Parses the value of `snapshot.compression.method`; `None` for a word that is none of its.
    #[must_use]
    pub fn from_method(method: &str) -> Option<Self> {
        match method {
            "" | "none" | "checked" => Some(Self::None),
            "gz" => Some(Self::Gzip),
            "snappy" => Some(Self::Snappy),
            _ => None,
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Snappy => ".snappy",
        }
    }

    pub(crate) fn from_extension(extension: Option<&str>) -> Option<Self> {
        match extension {
            None => Some(Self::None),
            Some("gz") => Some(Self::Gzip),
            Some("snappy") => Some(Self::Snappy),
            Some(_) => None,
        }
    }
}

/// A file read from its start.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Read for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A file written from its start.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: Arc<dyn DiskFile>,
    offset: u64,
}

impl Write for FileWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write_at(buf, self.offset)?;
        self.offset += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes gathered before they are written.
const WRITE_BUFFER: usize = 1 << 20;
/// Bytes read of a packed file at a time.
const READ_BUFFER: usize = 256 << 10;

/// The unpacked bytes of a file.
pub(crate) fn unpack(file: Arc<dyn DiskFile>, compression: Compression) -> Box<dyn Read + Send> {
    let reader = FileReader { file, offset: 0 };
    match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(
            READ_BUFFER,
            reader,
        ))),
        Compression::Snappy => Box::new(SnappyReader::new(BufReader::with_capacity(
            READ_BUFFER,
            reader,
        ))),
    }
}

/// A file that packs what is written to it.
#[derive(Debug)]
pub(crate) enum Pack {
    Plain(BufWriter<FileWriter>),
    Gzip(Box<GzEncoder<BufWriter<FileWriter>>>),
    Snappy(Box<SnappyWriter<BufWriter<FileWriter>>>),
}

impl Pack {
    pub(crate) fn new(file: Arc<dyn DiskFile>, compression: Compression) -> Self {
        let writer = BufWriter::with_capacity(WRITE_BUFFER, FileWriter { file, offset: 0 });
        match compression {
            Compression::None => Self::Plain(writer),
            Compression::Gzip => Self::Gzip(Box::new(GzEncoder::new(
                writer,
                flate2::Compression::fast(),
            ))),
            Compression::Snappy => Self::Snappy(Box::new(SnappyWriter::new(writer))),
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.write_all(bytes),
            Self::Gzip(writer) => writer.write_all(bytes),
            Self::Snappy(writer) => writer.put(bytes),
        }
    }

    /// Hands everything to the file, end of stream included.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut writer) => writer.flush(),
            Self::Gzip(writer) => writer.finish()?.flush(),
            Self::Snappy(writer) => writer.finish(),
        }
    }
}

/// Magic, version 1, compatible with version 1.
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Unpacked bytes per chunk, as snappy-java writes them.
const SNAPPY_CHUNK: usize = 32 << 10;
/// Unpacked bytes per chunk that we accept: snappy-java's block size can be configured.
const SNAPPY_CHUNK_MAX: usize = 8 << 20;

/// Reads snappy-java's stream.
struct SnappyReader<R> {
    inner: R,
    started: bool,
    packed: Vec<u8>,
    chunk: Vec<u8>,
    position: usize,
}

impl<R: Read> SnappyReader<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            started: false,
            packed: Vec::new(),
            chunk: Vec::new(),
            position: 0,
        }
    }

    /// Unpacks the next chunk; false at the end of the stream.
    fn advance(&mut self) -> io::Result<bool> {
        if !self.started {
            let mut header = [0; SNAPPY_HEADER.len()];
            self.inner.read_exact(&mut header)?;
            if header[..8] != SNAPPY_HEADER[..8] {
                return Err(invalid("not a snappy-java stream"));
            }
            self.started = true;
        }
        let mut length = [0; 4];
        match self.inner.read(&mut length[..1])? {
            0 => return Ok(false),
            _ => self.inner.read_exact(&mut length[1..])?,
        }
        let length = u64::from(u32::from_be_bytes(length));
        if length > snap::raw::max_compress_len(SNAPPY_CHUNK_MAX) as u64 {
            return Err(invalid("a chunk is too long"));
        }
        self.packed.clear();
        // Grows as bytes come, whatever the length says.
        if (&mut self.inner)
            .take(length)
            .read_to_end(&mut self.packed)? as u64
            != length
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let unpacked =
            snap::raw::decompress_len(&self.packed).map_err(|error| invalid(&error.to_string()))?;
        if unpacked > SNAPPY_CHUNK_MAX {
            return Err(invalid("a chunk unpacks to too much"));
        }
        self.chunk.resize(unpacked, 0);
        snap::raw::Decoder::new()
            .decompress(&self.packed, &mut self.chunk)
            .map_err(|error| invalid(&error.to_string()))?;
        self.position = 0;
        Ok(true)
    }
}

impl<R: Read> Read for SnappyReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.position == self.chunk.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let count = buf.len().min(self.chunk.len() - self.position);
        buf[..count].copy_from_slice(&self.chunk[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Writes snappy-java's stream.
#[derive(Debug)]
pub(crate) struct SnappyWriter<W> {
    inner: W,
    started: bool,
    chunk: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> SnappyWriter<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            started: false,
            chunk: Vec::with_capacity(SNAPPY_CHUNK),
            packed: vec![0; snap::raw::max_compress_len(SNAPPY_CHUNK)],
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SNAPPY_CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == SNAPPY_CHUNK {
                self.put_chunk()?;
            }
        }
        Ok(())
    }

    fn put_chunk(&mut self) -> io::Result<()> {
        if !self.started {
            self.inner.write_all(&SNAPPY_HEADER)?;
            self.started = true;
        }
        let length = snap::raw::Encoder::new()
            .compress(&self.chunk, &mut self.packed)
            .map_err(io::Error::other)?;
        let announced = u32::try_from(length).map_err(io::Error::other)?;
        self.inner.write_all(&announced.to_be_bytes())?;
        self.inner.write_all(&self.packed[..length])?;
        self.chunk.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.chunk.is_empty() || !self.started {
            self.put_chunk()?;
        }
        self.inner.flush()
    }
}
