//! The few ZooKeeper frames that the generator speaks, written by hand.
//!
//! It uses no ZooKeeper library on purpose, not even this workspace's `zk-proto`: a misreading shared by the server and
//! its judge would cancel out. Requests are built once as whole frames (length prefix included) and then patched in
//! place; replies are read by a cursor that never copies.

use crate::failure::{Failure, Outcome, demand};

/// Operation codes, by the names of the protocol.
pub(crate) mod op {
    pub(crate) const CREATE: i32 = 1;
    pub(crate) const DELETE: i32 = 2;
    pub(crate) const EXISTS: i32 = 3;
    pub(crate) const GET_DATA: i32 = 4;
    pub(crate) const SET_DATA: i32 = 5;
    pub(crate) const GET_CHILDREN: i32 = 8;
    pub(crate) const PING: i32 = 11;
    pub(crate) const MULTI: i32 = 14;
    pub(crate) const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub(crate) const CLOSE_SESSION: i32 = -11;
}

/// Create flags.
pub(crate) const PERSISTENT: i32 = 0;
pub(crate) const EPHEMERAL: i32 = 1;
pub(crate) const EPHEMERAL_SEQUENTIAL: i32 = 3;

/// Watch event types.
pub(crate) const EVENT_DELETED: i32 = 2;
pub(crate) const EVENT_DATA_CHANGED: i32 = 3;

/// The xid of notifications.
pub(crate) const XID_NOTIFICATION: i32 = -1;

/// NONODE.
pub(crate) const NO_NODE: i32 = -101;

/// Where the xid stands in a request frame.
const XID_AT: usize = 4;

/// Bytes of a Stat.
pub(crate) const STAT_LEN: usize = 68;

pub(crate) fn put_int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_buffer(out: &mut Vec<u8>, value: &[u8]) {
    put_int(
        out,
        i32::try_from(value.len()).expect("the generator's own values are small"),
    );
    out.extend_from_slice(value);
}

/// Appends one frame: a place for the length, then what `body` writes.
pub(crate) fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_int(out, 0);
    body(out);
    let len = i32::try_from(out.len() - start - 4).expect("the generator's own frames are small");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn request(op: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, |out| {
        put_int(out, 0);
        put_int(out, op);
        body(out);
    });
    out
}

/// Appends `request` with this xid.
pub(crate) fn put_request(out: &mut Vec<u8>, request: &[u8], xid: i32) {
    let at = out.len();
    out.extend_from_slice(request);
    set_xid(&mut out[at..], xid);
}

/// Patches the xid of a request frame.
pub(crate) fn set_xid(request: &mut [u8], xid: i32) {
    request[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
}

/// The first frame of a connection: a new session with this timeout in milliseconds.
pub(crate) fn connect(timeout_ms: i32) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, |out| {
        put_int(out, 0);
        put_long(out, 0);
        put_int(out, timeout_ms);
        put_long(out, 0);
        put_buffer(out, &[0; 16]);
        out.push(0);
    });
    out
}

fn put_open_acl(out: &mut Vec<u8>) {
    put_int(out, 1);
    put_int(out, 31);
    put_buffer(out, b"world");
    put_buffer(out, b"anyone");
}

fn put_create(out: &mut Vec<u8>, path: &str, data: &[u8], flags: i32) {
    put_buffer(out, path.as_bytes());
    put_buffer(out, data);
    put_open_acl(out);
    put_int(out, flags);
}

pub(crate) fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    request(op::CREATE, |out| put_create(out, path, data, flags))
}

pub(crate) fn delete(path: &str) -> Vec<u8> {
    request(op::DELETE, |out| {
        put_buffer(out, path.as_bytes());
        put_int(out, -1);
    })
}

fn path_watch(op: i32, path: &str, watch: bool) -> Vec<u8> {
    request(op, |out| {
        put_buffer(out, path.as_bytes());
        out.push(u8::from(watch));
    })
}

pub(crate) fn exists(path: &str, watch: bool) -> Vec<u8> {
    path_watch(op::EXISTS, path, watch)
}

pub(crate) fn get_data(path: &str, watch: bool) -> Vec<u8> {
    path_watch(op::GET_DATA, path, watch)
}

pub(crate) fn get_children(path: &str) -> Vec<u8> {
    path_watch(op::GET_CHILDREN, path, false)
}

pub(crate) fn set_data(path: &str, data: &[u8]) -> Vec<u8> {
    request(op::SET_DATA, |out| {
        put_buffer(out, path.as_bytes());
        put_buffer(out, data);
        put_int(out, -1);
    })
}

/// A multi of plain creates.
pub(crate) fn multi_creates(paths: &[String], data: &[u8]) -> Vec<u8> {
    request(op::MULTI, |out| {
        for path in paths {
            put_multi_header(out, op::CREATE, false, -1);
            put_create(out, path, data, PERSISTENT);
        }
        put_multi_header(out, -1, true, -1);
    })
}

pub(crate) fn put_multi_header(out: &mut Vec<u8>, op: i32, done: bool, err: i32) {
    put_int(out, op);
    out.push(u8::from(done));
    put_int(out, err);
}

pub(crate) fn get_all_children_number(path: &str) -> Vec<u8> {
    request(op::GET_ALL_CHILDREN_NUMBER, |out| {
        put_buffer(out, path.as_bytes())
    })
}

pub(crate) fn close_session() -> Vec<u8> {
    request(op::CLOSE_SESSION, |_| {})
}

/// Where the bytes of `needle` start in `frame`, for patching; every occurrence, in order.
pub(crate) fn places(frame: &[u8], needle: &[u8]) -> Vec<usize> {
    frame
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle)
        .map(|(at, _)| at)
        .collect()
}

/// Writes `value` as ten decimal digits, as sequential nodes have them.
pub(crate) fn put_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().take(10).rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("below ten");
        value /= 10;
    }
}

/// Reads one reply frame (without its length) from front to back.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

/// The header of every frame but the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyHeader {
    pub(crate) xid: i32,
    pub(crate) zxid: i64,
    pub(crate) err: i32,
}

/// The fields of a Stat that the generator checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) version: i32,
    pub(crate) data_length: i32,
    pub(crate) num_children: i32,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame }
    }

    fn take(&mut self, len: usize) -> Outcome<&'a [u8]> {
        if self.rest.len() < len {
            return Err(Failure::Deviation(format!(
                "a reply ends {} bytes early",
                len - self.rest.len()
            )));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn int(&mut self) -> Outcome<i32> {
        Ok(i32::from_be_bytes(
            self.take(4)?.try_into().expect("four bytes were taken"),
        ))
    }

    pub(crate) fn long(&mut self) -> Outcome<i64> {
        Ok(i64::from_be_bytes(
            self.take(8)?.try_into().expect("eight bytes were taken"),
        ))
    }

    pub(crate) fn byte(&mut self) -> Outcome<u8> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn buffer(&mut self) -> Outcome<&'a [u8]> {
        let len = self.int()?;
        self.take(
            usize::try_from(len)
                .map_err(|_| Failure::Deviation(format!("a value has the length {len}")))?,
        )
    }

    /// A buffer that may be null.
    pub(crate) fn nullable(&mut self) -> Outcome<Option<&'a [u8]>> {
        if self.rest.starts_with(&(-1_i32).to_be_bytes()) {
            self.take(4)?;
            return Ok(None);
        }
        self.buffer().map(Some)
    }

    pub(crate) fn header(&mut self) -> Outcome<ReplyHeader> {
        Ok(ReplyHeader {
            xid: self.int()?,
            zxid: self.long()?,
            err: self.int()?,
        })
    }

    pub(crate) fn stat(&mut self) -> Outcome<Stat> {
        let bytes = self.take(STAT_LEN)?;
        let int = |at: usize| {
            i32::from_be_bytes(
                bytes[at..at + 4]
                    .try_into()
                    .expect("the slice has four bytes"),
            )
        };
        Ok(Stat {
            version: int(32),
            data_length: int(52),
            num_children: int(56),
        })
    }

    pub(crate) fn end(&self) -> Outcome<()> {
        demand!(
            self.rest.is_empty(),
            "a reply has {} bytes too many",
            self.rest.len()
        );
        Ok(())
    }
}

/// A notification: type and path, after its header was read.
pub(crate) fn event<'a>(cursor: &mut Cursor<'a>) -> Outcome<(i32, &'a [u8])> {
    let kind = cursor.int()?;
    let state = cursor.int()?;
    demand!(state == 3, "a notification has the state {state}");
    let path = cursor.buffer()?;
    cursor.end()?;
    Ok((kind, path))
}

/// Session id and negotiated timeout of a connect response.
pub(crate) fn connected(frame: &[u8]) -> Outcome<(i64, i32)> {
    let mut cursor = Cursor::new(frame);
    let version = cursor.int()?;
    let timeout = cursor.int()?;
    let session = cursor.long()?;
    let password = cursor.buffer()?;
    let read_only = cursor.byte()?;
    cursor.end()?;
    demand!(
        version == 0 && password.len() == 16 && read_only == 0,
        "odd connect response"
    );
    demand!(timeout > 0 && session != 0, "the session was refused");
    Ok((session, timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_request_has_the_documented_size() {
        assert_eq!(connect(30_000).len(), 4 + 45);
    }

    #[test]
    fn a_patched_request_keeps_everything_but_its_xid() {
        let template = get_data("/a", true);
        let mut out = Vec::new();
        put_request(&mut out, &template, 7);
        assert_eq!(out, b"\0\0\0\x0f\0\0\0\x07\0\0\0\x04\0\0\0\x02/a\x01");
    }

    #[test]
    fn digits_are_ten_with_leading_zeroes() {
        let mut place = *b"xxxxxxxxxx";
        put_digits(&mut place, 1_234);
        assert_eq!(&place, b"0000001234");
    }

    #[test]
    fn a_short_reply_is_a_deviation_not_a_panic() {
        let mut cursor = Cursor::new(&[0, 0, 0, 9, 1]);
        assert!(matches!(cursor.buffer(), Err(Failure::Deviation(_))));
    }
}
