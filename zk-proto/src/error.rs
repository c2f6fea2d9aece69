//! The one way in which bytes can be wrong: `DecodeError`, which names the record, the field and the offset.

use std::fmt;

/// Why a field could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The frame ends before the field does: `needed` more bytes were wanted, `available` are left.
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes left in the frame.
        available: usize,
    },
    /// A buffer or string length that is negative and not −1 (jute's null).
    NegativeLength(i32),
    /// A number with no meaning at this place, such as an unknown transaction type.
    BadValue(i64),
}

/// A frame, log entry or snapshot whose bytes do not form the expected record.
///
/// Decoding allocates nothing before it is sure that the bytes are there, so an error costs no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The record being read, in ZooKeeper's own spelling.
    pub record: &'static str,
    /// The field that did not fit.
    pub field: &'static str,
    /// Where the field starts, in bytes from the start of the frame.
    pub offset: usize,
    /// What was wrong with it.
    pub kind: DecodeErrorKind,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot decode {}.{} at offset {}: ",
            self.record, self.field, self.offset
        )?;
        match self.kind {
            DecodeErrorKind::Truncated { needed, available } => {
                write!(f, "needs {needed} bytes, {available} are left")
            }
            DecodeErrorKind::NegativeLength(len) => {
                write!(f, "length {len} is negative and not -1")
            }
            DecodeErrorKind::BadValue(value) => write!(f, "value {value} has no meaning here"),
        }
    }
}

impl std::error::Error for DecodeError {}
