//! The body of each transaction type: what was decided, in absolute terms, so that applying it twice does no harm.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::acl::Acl;
use crate::code::{ErrorCode, OpCode};
use crate::error::DecodeError;
use crate::jute::{
    Decode, Encode, Field, Reader, Ustring, put_buffer, put_int, put_ustring, put_vector, record,
};

record! {
    /// A new container: a create without the ephemeral flag.
    pub struct PlainCreateTxn<'a> {
        /// The node's final path.
        pub path: Ustring<'a>,
        /// Its data; null is kept apart from empty.
        pub data: Option<Bytes>,
        /// Its ACL, with `auth` already resolved.
        pub acl: Option<Vec<Acl>>,
        /// The parent's stored count of child creations after this one.
        pub parent_cversion: i32,
    }
}

record! {
    /// A new node with a time to live.
    pub struct CreateTtlTxn<'a> {
        /// The node's final path.
        pub path: Ustring<'a>,
        /// Its data.
        pub data: Option<Bytes>,
        /// Its ACL.
        pub acl: Option<Vec<Acl>>,
        /// The parent's stored count of child creations after this one.
        pub parent_cversion: i32,
        /// Time to live in milliseconds.
        pub ttl: i64,
    }
}

record! {
    /// A deleted node.
    pub struct DeleteTxn<'a> {
        /// Its path.
        pub path: Ustring<'a>,
    }
}

record! {
    /// A node's new data.
    pub struct SetDataTxn<'a> {
        /// Its path.
        pub path: Ustring<'a>,
        /// The data.
        pub data: Option<Bytes>,
        /// The version it has from now on.
        pub version: i32,
    }
}

record! {
    /// A node's new ACL.
    pub struct SetAclTxn<'a> {
        /// Its path.
        pub path: Ustring<'a>,
        /// The ACL.
        pub acl: Option<Vec<Acl>>,
        /// The ACL version it has from now on.
        pub version: i32,
    }
}

record! {
    /// A version that was asserted in a multi.
    pub struct CheckTxn<'a> {
        /// The node's path.
        pub path: Ustring<'a>,
        /// The asserted version.
        pub version: i32,
    }
}

/// A new persistent or ephemeral node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateTxn<'a> {
    /// The node's final path.
    pub path: Ustring<'a>,
    /// Its data; null is kept apart from empty.
    pub data: Option<Bytes>,
    /// Its ACL, with `auth` already resolved.
    pub acl: Option<Vec<Acl>>,
    /// Whether it belongs to the session of the header.
    pub ephemeral: bool,
    /// The parent's stored count of child creations after this one. `None` in logs of old releases, which left the
    /// field out: then one more than before.
    pub parent_cversion: Option<i32>,
}

impl<'a> Decode<'a> for CreateTxn<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let outer = reader.enter("CreateTxn");
        let txn = Self {
            path: reader.ustring("path")?,
            data: reader.buffer("data")?,
            acl: Acl::read_vector(reader, "acl")?,
            ephemeral: reader.boolean("ephemeral")?,
            // The old record ends here. Java tells the two apart by the end of the bytes, and so do we.
            parent_cversion: match reader.remaining() {
                0 => None,
                _ => Some(reader.int("parentCVersion")?),
            },
        };
        reader.enter(outer);
        Ok(txn)
    }
}

impl Encode for CreateTxn<'_> {
    fn encode(&self, out: &mut BytesMut) {
        put_ustring(out, self.path.as_str());
        put_buffer(out, self.data.as_deref());
        Acl::write_vector(self.acl.as_deref(), out);
        crate::jute::put_bool(out, self.ephemeral);
        if let Some(version) = self.parent_cversion {
            put_int(out, version);
        }
    }
}

/// A transaction's body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Txn<'a> {
    /// A new session, with its timeout in milliseconds.
    CreateSession {
        /// Milliseconds.
        timeout: i32,
    },
    /// The end of a session. `paths` are the ephemeral nodes to delete; `None` (from old releases) means all it owns.
    CloseSession {
        /// Full paths.
        paths: Option<Vec<Ustring<'a>>>,
    },
    /// A new node, logged as type 1.
    Create(CreateTxn<'a>),
    /// A new node, logged as type 15.
    Create2(CreateTxn<'a>),
    /// A new container.
    CreateContainer(PlainCreateTxn<'a>),
    /// A new node with a time to live.
    CreateTtl(CreateTtlTxn<'a>),
    /// A deleted node.
    Delete(DeleteTxn<'a>),
    /// A deleted container or TTL node.
    DeleteContainer(DeleteTxn<'a>),
    /// New data.
    SetData(SetDataTxn<'a>),
    /// A new membership.
    Reconfig(SetDataTxn<'a>),
    /// A new ACL.
    SetAcl(SetAclTxn<'a>),
    /// An asserted version; only inside a multi.
    Check(CheckTxn<'a>),
    /// Several of these as one. Never nested.
    Multi(Vec<Self>),
    /// A request that failed; it changes nothing but takes a place in history.
    Error(ErrorCode),
}

impl<'a> Txn<'a> {
    /// The type, as headers and multis carry it.
    #[must_use]
    pub fn op(&self) -> OpCode {
        match self {
            Self::CreateSession { .. } => OpCode::CREATE_SESSION,
            Self::CloseSession { .. } => OpCode::CLOSE_SESSION,
            Self::Create(_) => OpCode::CREATE,
            Self::Create2(_) => OpCode::CREATE2,
            Self::CreateContainer(_) => OpCode::CREATE_CONTAINER,
            Self::CreateTtl(_) => OpCode::CREATE_TTL,
            Self::Delete(_) => OpCode::DELETE,
            Self::DeleteContainer(_) => OpCode::DELETE_CONTAINER,
            Self::SetData(_) => OpCode::SET_DATA,
            Self::Reconfig(_) => OpCode::RECONFIG,
            Self::SetAcl(_) => OpCode::SET_ACL,
            Self::Check(_) => OpCode::CHECK,
            Self::Multi(_) => OpCode::MULTI,
            Self::Error(_) => OpCode::ERROR,
        }
    }

    /// Where a node's data stands in the encoded record; `None` without data. For whoever encoded it and will need the data
    /// again: these bytes are it.
    #[must_use]
    pub fn data_place(&self) -> Option<Range<usize>> {
        let (path, data) = match self {
            Self::Create(txn) | Self::Create2(txn) => (&txn.path, &txn.data),
            Self::CreateContainer(txn) => (&txn.path, &txn.data),
            Self::CreateTtl(txn) => (&txn.path, &txn.data),
            Self::SetData(txn) | Self::Reconfig(txn) => (&txn.path, &txn.data),
            _ => return None,
        };
        // All of these begin with the path and the data, each behind its length.
        let start = 4 + path.or_empty().len() + 4;
        data.as_ref().map(|data| start..start + data.len())
    }

    /// Reads the body of a transaction of type `op`.
    ///
    /// # Errors
    /// When the bytes do not form it, or the type is unknown.
    pub fn decode(op: OpCode, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            OpCode::CREATE_SESSION => Self::CreateSession {
                timeout: reader.int("timeOut")?,
            },
            OpCode::CLOSE_SESSION => Self::CloseSession {
                // The body may be absent, with or without a digest behind it.
                paths: match reader.remaining() {
                    0 | super::TxnDigest::LENGTH => close_session_without_body(reader)?,
                    _ => paths_to_delete(reader)?.or_else(|| Some(Vec::new())),
                },
            },
            OpCode::MULTI => Self::Multi(
                reader
                    .vector("txns", Self::decode_nested)?
                    .unwrap_or_default(),
            ),
            _ => Self::decode_single(op, reader)?,
        })
    }

    /// The types that may stand in a multi.
    fn decode_single(op: OpCode, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            OpCode::CREATE => Self::Create(Decode::decode(reader)?),
            OpCode::CREATE2 => Self::Create2(Decode::decode(reader)?),
            OpCode::CREATE_CONTAINER => Self::CreateContainer(Decode::decode(reader)?),
            OpCode::CREATE_TTL => Self::CreateTtl(Decode::decode(reader)?),
            OpCode::DELETE => Self::Delete(Decode::decode(reader)?),
            OpCode::DELETE_CONTAINER => Self::DeleteContainer(Decode::decode(reader)?),
            OpCode::SET_DATA => Self::SetData(Decode::decode(reader)?),
            OpCode::RECONFIG => Self::Reconfig(Decode::decode(reader)?),
            OpCode::SET_ACL => Self::SetAcl(Decode::decode(reader)?),
            OpCode::CHECK => Self::Check(Decode::decode(reader)?),
            OpCode::ERROR => Self::Error(ErrorCode(reader.int("err")?)),
            OpCode(other) => return Err(reader.bad_value("type", i64::from(other))),
        })
    }

    /// A transaction of a multi: its type, and its record as a buffer of its own, so that a multi cannot nest.
    fn decode_nested(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let op = OpCode(reader.int("type")?);
        let length = reader.int("data")?;
        let end = usize::try_from(length)
            .ok()
            .filter(|length| *length <= reader.remaining())
            .map(|length| reader.position() + length)
            .ok_or_else(|| reader.bad_value("data", i64::from(length)))?;
        let hidden = reader.limit(end);
        let txn = Self::decode_single(op, reader);
        reader.unlimit(hidden, end);
        txn
    }
}

/// What follows a closeSession without a body is nothing, or a digest. A body of exactly a digest's length is told apart
/// by its start: a digest begins with its version (2), a list of two paths in 12 bytes would be two empty strings.
fn close_session_without_body<'a>(
    reader: &mut Reader<'a>,
) -> Result<Option<Vec<Ustring<'a>>>, DecodeError> {
    if reader.remaining() == 0 {
        return Ok(None);
    }
    let rest = reader.rest();
    let mut ahead = Reader::new(&rest, "CloseSessionTxn");
    if ahead.int("version")? == super::TxnDigest::VERSION {
        return Ok(None);
    }
    paths_to_delete(reader)
}

/// The paths of a session's ephemeral nodes. No node's path is empty or missing; if one were let in here, a list of two
/// such would be encoded as something that is read back as a digest.
fn paths_to_delete<'a>(reader: &mut Reader<'a>) -> Result<Option<Vec<Ustring<'a>>>, DecodeError> {
    reader.vector("paths2Delete", |reader| {
        let path = reader.ustring("paths2Delete")?;
        if path.or_empty().is_empty() {
            return Err(reader.bad_value("paths2Delete", 0));
        }
        Ok(path)
    })
}

impl Encode for Txn<'_> {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::CreateSession { timeout } => put_int(out, *timeout),
            Self::CloseSession { paths: None } => {}
            Self::CloseSession { paths } => {
                put_vector(out, paths.as_deref(), |out, path| {
                    put_ustring(out, path.as_str())
                });
            }
            Self::Create(txn) | Self::Create2(txn) => txn.encode(out),
            Self::CreateContainer(txn) => txn.encode(out),
            Self::CreateTtl(txn) => txn.encode(out),
            Self::Delete(txn) | Self::DeleteContainer(txn) => txn.encode(out),
            Self::SetData(txn) | Self::Reconfig(txn) => txn.encode(out),
            Self::SetAcl(txn) => txn.encode(out),
            Self::Check(txn) => txn.encode(out),
            Self::Multi(txns) => put_vector(out, Some(txns), |out, txn| {
                put_int(out, txn.op().0);
                // The record is a buffer of its own; its length is known once it is written.
                let mark = crate::frame::begin_frame(out);
                txn.encode(out);
                crate::frame::end_frame(out, mark);
            }),
            Self::Error(code) => put_int(out, code.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_data_holds_the_data() {
        for data in [None, Some(Bytes::new()), Some(Bytes::from_static(b"data"))] {
            let create = CreateTxn {
                path: "/a/b".into(),
                data: data.clone(),
                acl: Some(vec![Acl::open_unsafe()]),
                ..CreateTxn::default()
            };
            let container = PlainCreateTxn {
                path: "/a/bc".into(),
                data: data.clone(),
                ..PlainCreateTxn::default()
            };
            let ttl = CreateTtlTxn {
                path: "/".into(),
                data: data.clone(),
                ..CreateTtlTxn::default()
            };
            let set = SetDataTxn {
                path: Ustring::null(),
                data: data.clone(),
                version: 1,
            };
            for txn in [
                Txn::Create(create.clone()),
                Txn::Create2(create),
                Txn::CreateContainer(container),
                Txn::CreateTtl(ttl),
                Txn::SetData(set.clone()),
                Txn::Reconfig(set),
            ] {
                let mut out = BytesMut::new();
                txn.encode(&mut out);
                let place = txn.data_place();
                assert_eq!(place.map(|place| &out[place]), data.as_deref(), "{txn:?}");
            }
        }
        let delete = DeleteTxn { path: "/a".into() };
        assert_eq!(Txn::Delete(delete).data_place(), None);
    }
}
