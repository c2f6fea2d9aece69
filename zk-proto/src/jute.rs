//! Jute: the primitives every ZooKeeper record is made of. Knows no record.
//!
//! All integers are big-endian; a record is its fields in order, with no tags and no padding. Buffers, strings and vectors
//! start with a four-byte length or count, where −1 means null.
//!
//! Reading borrows: a string is a slice of the frame, a buffer is a [`Bytes`] that shares the frame's memory. A vector
//! reserves no more room than the frame's remaining bytes could fill, whatever count it announces.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind};

/// Something that can be written as jute.
pub trait Encode {
    /// Appends the record's fields to `out`.
    fn encode(&self, out: &mut BytesMut);
}

/// Something that can be read from jute.
pub trait Decode<'a>: Sized {
    /// Reads the record's fields from where the reader stands.
    ///
    /// # Errors
    /// When the bytes do not form the record; the reader's position is then unspecified.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// A nullable string that borrows from the frame where it can.
///
/// Bytes that are not UTF-8 become U+FFFD, as Java's reader makes them; such a string is the only kind that does not
/// encode back to the bytes it came from. `PartialEq` compares null as different from empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Ustring<'a>(pub Option<Cow<'a, str>>);

impl<'a> Ustring<'a> {
    /// The null string (length −1 on the wire).
    #[must_use]
    pub fn null() -> Self {
        Self(None)
    }

    /// The text, or `None` for null.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The text, with null read as empty.
    #[must_use]
    pub fn or_empty(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The same string, free of the frame's lifetime.
    #[must_use]
    pub fn into_owned(self) -> Ustring<'static> {
        Ustring(self.0.map(|text| Cow::Owned(text.into_owned())))
    }
}

impl<'a> From<&'a str> for Ustring<'a> {
    fn from(text: &'a str) -> Self {
        Self(Some(Cow::Borrowed(text)))
    }
}

impl From<String> for Ustring<'_> {
    fn from(text: String) -> Self {
        Self(Some(Cow::Owned(text)))
    }
}

/// Reads jute primitives from one frame.
///
/// ```
/// use bytes::Bytes;
/// use zk_proto::jute::Reader;
///
/// let frame = Bytes::from_static(&[0, 0, 0, 7, 0, 0, 0, 2, b'/', b'a']);
/// let mut reader = Reader::new(&frame, "Example");
/// assert_eq!(reader.int("number")?, 7);
/// assert_eq!(reader.ustring("path")?.as_str(), Some("/a"));
/// assert!(reader.int("more").is_err());
/// # Ok::<(), zk_proto::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    position: usize,
    /// Where reading ends: the frame's end, or the end of a buffer that holds a record. Never beyond the frame.
    end: usize,
    record: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `frame`; `record` names what is read, for errors.
    #[must_use]
    pub fn new(frame: &'a Bytes, record: &'static str) -> Self {
        Self {
            frame,
            position: 0,
            end: frame.len(),
            record,
        }
    }

    /// Names the record from here on, for errors. Returns the former name, to be set back by a nested record.
    pub fn enter(&mut self, record: &'static str) -> &'static str {
        std::mem::replace(&mut self.record, record)
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The unread rest of the frame, sharing its memory.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.position..self.end)
    }

    /// Steps over `expected` if that is what comes next.
    pub(crate) fn skip_if(&mut self, expected: &[u8]) -> bool {
        let next = self.frame[self.position..self.end].starts_with(expected);
        if next {
            self.position += expected.len();
        }
        next
    }

    /// Ends reading at `end`, which must lie in what is left. Returns where it ended before.
    pub(crate) fn limit(&mut self, end: usize) -> usize {
        debug_assert!(
            (self.position..=self.end).contains(&end),
            "a limit lies in what is left"
        );
        std::mem::replace(&mut self.end, end)
    }

    /// Undoes [`limit`](Self::limit) and goes on behind the limited part, read to its end or not.
    pub(crate) fn unlimit(&mut self, end_before: usize, position: usize) {
        self.end = end_before;
        self.position = position;
    }

    /// An error at the reader's position, for values that read well but mean nothing.
    #[must_use]
    pub fn bad_value(&self, field: &'static str, value: i64) -> DecodeError {
        self.error(field, DecodeErrorKind::BadValue(value))
    }

    fn error(&self, field: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            record: self.record,
            field,
            offset: self.position,
            kind,
        }
    }

    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], DecodeError> {
        if needed > self.remaining() {
            return Err(self.truncated(field, needed));
        }
        let start = self.position;
        self.position += needed;
        Ok(&self.frame[start..self.position])
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        // A record is a handful of these: the way on is short, errors are made elsewhere.
        match self.frame[self.position..self.end].first_chunk() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(field, N)),
        }
    }

    #[cold]
    #[inline(never)]
    fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        let available = self.remaining();
        self.error(field, DecodeErrorKind::Truncated { needed, available })
    }

    /// Reads a four-byte integer.
    ///
    /// # Errors
    /// When fewer than four bytes are left.
    #[inline]
    pub fn int(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    /// Reads an eight-byte integer.
    ///
    /// # Errors
    /// When fewer than eight bytes are left.
    #[inline]
    pub fn long(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    /// Reads one byte as a boolean; any non-zero byte is true, as on Java's side.
    ///
    /// # Errors
    /// When no byte is left.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.take(field, 1)?[0] != 0)
    }

    /// The length of a buffer or string: `None` for null, otherwise known to be inside the frame.
    fn length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        let start = self.position;
        let length = self.int(field)?;
        if length == -1 {
            return Ok(None);
        }
        let error = |kind| DecodeError {
            record: self.record,
            field,
            offset: start,
            kind,
        };
        let Ok(needed) = usize::try_from(length) else {
            return Err(error(DecodeErrorKind::NegativeLength(length)));
        };
        if needed > self.remaining() {
            return Err(error(DecodeErrorKind::Truncated {
                needed,
                available: self.remaining(),
            }));
        }
        Ok(Some(needed))
    }

    /// Reads a buffer as a slice of the frame: no copy, and the frame lives as long as the slice.
    ///
    /// # Errors
    /// When the length is negative and not −1, or goes beyond the frame.
    pub fn buffer(&mut self, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(field)? else {
            return Ok(None);
        };
        let start = self.position;
        self.position += length;
        Ok(Some(self.frame.slice(start..self.position)))
    }

    /// Reads a string, borrowing from the frame unless its bytes are not UTF-8.
    ///
    /// # Errors
    /// When the length is negative and not −1, or goes beyond the frame.
    pub fn ustring(&mut self, field: &'static str) -> Result<Ustring<'a>, DecodeError> {
        let Some(length) = self.length(field)? else {
            return Ok(Ustring(None));
        };
        let bytes = self.take(field, length)?;
        // The strict check takes whole words of ASCII; the lossy one goes byte by byte, and is for what is not UTF-8.
        Ok(Ustring(Some(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        })))
    }

    /// Reads a vector item by item. A negative count is null; Java's loops read −5 like −1.
    ///
    /// # Errors
    /// The first error of an item. A count that the frame cannot hold fails at the item where the frame ends.
    pub fn vector<T>(
        &mut self,
        field: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Ok(count) = usize::try_from(self.int(field)?) else {
            return Ok(None);
        };
        // Every item of this protocol takes at least four bytes on the wire, and an item in memory may be larger than on
        // the wire: reserve for what is there, in steps, never for what is announced.
        let mut items = Vec::with_capacity(count.min(self.remaining() / size_of::<T>().max(4)));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }
}

/// Appends a four-byte integer.
pub fn put_int(out: &mut BytesMut, value: i32) {
    out.put_i32(value);
}

/// Appends an eight-byte integer.
pub fn put_long(out: &mut BytesMut, value: i64) {
    out.put_i64(value);
}

/// Appends a boolean as one byte.
pub fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

/// Appends a buffer, `None` as null.
///
/// # Panics
/// When the buffer is longer than `i32::MAX`: no frame could carry it.
pub fn put_buffer(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => out.put_i32(-1),
        Some(bytes) => {
            put_count(out, bytes.len());
            out.put_slice(bytes);
        }
    }
}

/// Appends a string, `None` as null.
///
/// # Panics
/// When the string is longer than `i32::MAX`: no frame could carry it.
pub fn put_ustring(out: &mut BytesMut, value: Option<&str>) {
    put_buffer(out, value.map(str::as_bytes));
}

/// Appends a vector, `None` as null.
///
/// # Panics
/// When there are more than `i32::MAX` items: no frame could carry them.
pub fn put_vector<T>(
    out: &mut BytesMut,
    items: Option<&[T]>,
    mut item: impl FnMut(&mut BytesMut, &T),
) {
    match items {
        None => out.put_i32(-1),
        Some(items) => {
            put_count(out, items.len());
            for each in items {
                item(out, each);
            }
        }
    }
}

/// Appends a length or count.
///
/// # Panics
/// When it is larger than `i32::MAX`.
pub fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(
        i32::try_from(count).expect("jute cannot express more than i32::MAX bytes or items"),
    );
}

/// How one field type is read and written: what `record!` strings together.
pub(crate) trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut BytesMut);

    /// Reads a vector of these. A type with one vector that almost everybody sends may know it by its bytes.
    fn read_vector(
        reader: &mut Reader<'a>,
        field: &'static str,
    ) -> Result<Option<Vec<Self>>, DecodeError> {
        reader.vector(field, |reader| Self::read(reader, field))
    }

    /// Writes a vector of these, `None` as null.
    fn write_vector(items: Option<&[Self]>, out: &mut BytesMut) {
        put_vector(out, items, |out, item| item.write(out));
    }
}

impl<'a> Field<'a> for i32 {
    #[inline]
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        reader.int(field)
    }
    fn write(&self, out: &mut BytesMut) {
        put_int(out, *self);
    }
}

impl<'a> Field<'a> for i64 {
    #[inline]
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        reader.long(field)
    }
    fn write(&self, out: &mut BytesMut) {
        put_long(out, *self);
    }
}

impl<'a> Field<'a> for bool {
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        reader.boolean(field)
    }
    fn write(&self, out: &mut BytesMut) {
        put_bool(out, *self);
    }
}

/// A boolean that older peers leave out: absent when the frame ends before it, and not written when absent.
impl<'a> Field<'a> for Option<bool> {
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        if reader.remaining() == 0 {
            Ok(None)
        } else {
            reader.boolean(field).map(Some)
        }
    }
    fn write(&self, out: &mut BytesMut) {
        if let Some(value) = self {
            put_bool(out, *value);
        }
    }
}

impl<'a> Field<'a> for Option<Bytes> {
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        reader.buffer(field)
    }
    fn write(&self, out: &mut BytesMut) {
        put_buffer(out, self.as_deref());
    }
}

impl<'a> Field<'a> for Ustring<'a> {
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        reader.ustring(field)
    }
    fn write(&self, out: &mut BytesMut) {
        put_ustring(out, self.as_str());
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<Vec<T>> {
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        T::read_vector(reader, field)
    }
    fn write(&self, out: &mut BytesMut) {
        T::write_vector(self.as_deref(), out);
    }
}

/// Lets a record stand as a field of another.
macro_rules! record_is_field {
    ($name:ty) => {
        impl<'a> $crate::jute::Field<'a> for $name {
            fn read(
                reader: &mut $crate::jute::Reader<'a>,
                _field: &'static str,
            ) -> Result<Self, $crate::error::DecodeError> {
                $crate::jute::Decode::decode(reader)
            }
            fn write(&self, out: &mut bytes::BytesMut) {
                $crate::jute::Encode::encode(self, out);
            }
        }
    };
}

/// Defines a record once: the struct, its decoder and its encoder come from the same field list, so they cannot differ.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident<'a> { $($(#[$fmeta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name<'a> { $($(#[$fmeta])* pub $field: $type,)* }
        $crate::jute::record!(@impl $name, { $name<'a> }, $($field)*);
    };
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }
        $crate::jute::record!(@impl $name, { $name }, $($field)*);
    };
    (@impl $name:ident, { $full:ty }, $($field:ident)*) => {
        impl<'a> $crate::jute::Decode<'a> for $full {
            fn decode(reader: &mut $crate::jute::Reader<'a>) -> Result<Self, $crate::error::DecodeError> {
                let outer = reader.enter(stringify!($name));
                let record = Self { $($field: $crate::jute::Field::read(reader, stringify!($field))?,)* };
                reader.enter(outer);
                Ok(record)
            }
        }
        impl<'a> $crate::jute::Encode for $full {
            fn encode(&self, out: &mut bytes::BytesMut) {
                $($crate::jute::Field::write(&self.$field, out);)*
            }
        }
        $crate::jute::record_is_field!($full);
    };
}
pub(crate) use {record, record_is_field};
