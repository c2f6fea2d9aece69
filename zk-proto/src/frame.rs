//! Framing: a four-byte length, then as many bytes. Knows no opcode.
//!
//! The decoder takes frames out of a buffer that grows as bytes arrive. It never reserves room by an announced length, so a
//! peer that announces a large frame and sends nothing costs nothing.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest frame Apache ZooKeeper accepts by default (`jute.maxbuffer`), in bytes, without the length itself.
pub const DEFAULT_MAX_FRAME: usize = 0xf_ffff;

/// A length that no frame may have. The connection cannot be read on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameError {
    /// The announced length.
    pub length: i32,
    /// The largest length accepted.
    pub max: usize,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "frame length {} is not between 0 and {}",
            self.length, self.max
        )
    }
}

impl std::error::Error for FrameError {}

/// Cuts frames out of a byte stream.
///
/// ```
/// use bytes::BytesMut;
/// use zk_proto::frame::FrameDecoder;
///
/// let decoder = FrameDecoder::new(1024);
/// let mut received = BytesMut::from(&[0, 0, 0, 2, b'h'][..]);
/// assert_eq!(decoder.decode(&mut received)?, None);
/// received.extend_from_slice(b"i\0");
/// assert_eq!(decoder.decode(&mut received)?.as_deref(), Some(&b"hi"[..]));
/// # Ok::<(), zk_proto::frame::FrameError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FrameDecoder {
    max: usize,
}

impl FrameDecoder {
    /// Accepts frames of up to `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max }
    }

    /// Takes the next whole frame off the front of `buffer`, without its length; `None` when it has not arrived whole.
    ///
    /// # Errors
    /// When the announced length is negative or above the limit. `buffer` is left as it is.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*head);
        let length = match usize::try_from(announced) {
            Ok(length) if length <= self.max => length,
            _ => {
                return Err(FrameError {
                    length: announced,
                    max: self.max,
                });
            }
        };
        if buffer.len() - 4 < length {
            return Ok(None);
        }
        buffer.advance(4);
        Ok(Some(buffer.split_to(length).freeze()))
    }

    /// How many more bytes the frame at the front needs, if its length has arrived: a hint for the next read.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn missing(&self, buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
        let Some(head) = buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let announced = i32::from_be_bytes(*head);
        match usize::try_from(announced) {
            Ok(length) if length <= self.max => Ok(Some((length + 4).saturating_sub(buffer.len()))),
            _ => Err(FrameError {
                length: announced,
                max: self.max,
            }),
        }
    }
}

/// Where a frame begun by [`begin_frame`] has its length.
#[derive(Debug)]
#[must_use = "a frame that is not ended has no length"]
pub struct FrameMark(usize);

/// Starts a frame at the end of `out`; what is appended until [`end_frame`] is its content.
pub fn begin_frame(out: &mut BytesMut) -> FrameMark {
    let mark = FrameMark(out.len());
    out.put_i32(0);
    mark
}

/// Ends the frame: writes its length where it began.
///
/// # Panics
/// When `out` was cut below the mark, or the frame is longer than `i32::MAX`.
pub fn end_frame(out: &mut BytesMut, mark: FrameMark) {
    let FrameMark(start) = mark;
    let length = i32::try_from(out.len() - start - 4).expect("a frame is shorter than i32::MAX");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_at_and_beyond_the_bounds() {
        let decoder = FrameDecoder::new(3);
        let decode = |bytes: &[u8]| decoder.decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(&[0, 0, 0]), Ok(None));
        assert_eq!(decode(&[0, 0, 0, 0]), Ok(Some(Bytes::new())));
        assert_eq!(decode(&[0, 0, 0, 3, 1, 2]), Ok(None));
        assert_eq!(
            decode(&[0, 0, 0, 3, 1, 2, 3]),
            Ok(Some(Bytes::from_static(&[1, 2, 3])))
        );
        assert_eq!(decode(&[0, 0, 0, 4]), Err(FrameError { length: 4, max: 3 }));
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff]),
            Err(FrameError { length: -1, max: 3 })
        );
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut buffer = BytesMut::with_capacity(8);
        buffer.put_i32(0x7fff_fff0);
        let before = buffer.capacity();
        assert_eq!(FrameDecoder::new(usize::MAX).decode(&mut buffer), Ok(None));
        assert_eq!(buffer.capacity(), before);
    }

    #[test]
    fn frames_are_nested_in_one_buffer() {
        let mut out = BytesMut::new();
        for text in ["", "a", "bcd"] {
            let mark = begin_frame(&mut out);
            out.put_slice(text.as_bytes());
            end_frame(&mut out, mark);
        }
        let decoder = FrameDecoder::new(10);
        for text in ["", "a", "bcd"] {
            assert_eq!(decoder.decode(&mut out).unwrap().unwrap(), text.as_bytes());
        }
        assert!(out.is_empty());
    }
}
