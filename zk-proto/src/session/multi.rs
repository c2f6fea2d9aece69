//! Multi and multiRead: operations between headers, closed by an end header.

use bytes::{Bytes, BytesMut};

use super::ops::{
    CheckVersionRequest, CreateRequest, CreateResponse, CreateTtlRequest, DeleteRequest,
    ErrorResponse, GetDataResponse, PathResponse, PathWatchRequest, SetDataRequest, StatResponse,
};
use crate::code::{ErrorCode, OpCode};
use crate::error::DecodeError;
use crate::jute::{Decode, Encode, Reader, Ustring, put_vector, record};
use crate::stat::Stat;

record! {
    /// In front of every operation and result, and at the end.
    #[derive(Copy, Hash)]
    pub struct MultiHeader {
        /// The operation, or −1 for an error result and for the end.
        pub op: OpCode,
        /// True only in the end header.
        pub done: bool,
        /// −1 in requests and in the end header; the code in results.
        pub err: ErrorCode,
    }
}

impl MultiHeader {
    /// Closes a multi, in either direction.
    pub const END: Self = Self {
        op: OpCode::ERROR,
        done: true,
        err: ErrorCode::SYSTEM_ERROR,
    };
}

/// One operation of a multi or multiRead request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultiOp<'a> {
    /// create: the answer is a path.
    Create(CreateRequest<'a>),
    /// create2: the answer is path and Stat (from 3.9; a path before).
    Create2(CreateRequest<'a>),
    /// createContainer.
    CreateContainer(CreateRequest<'a>),
    /// createTTL.
    CreateTtl(CreateTtlRequest<'a>),
    /// delete.
    Delete(DeleteRequest<'a>),
    /// setData.
    SetData(SetDataRequest<'a>),
    /// check.
    Check(CheckVersionRequest<'a>),
    /// getData; only in a multiRead.
    GetData(PathWatchRequest<'a>),
    /// getChildren; only in a multiRead.
    GetChildren(PathWatchRequest<'a>),
}

impl MultiOp<'_> {
    /// The operation's code, as its header carries it.
    #[must_use]
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(_) => OpCode::CREATE,
            Self::Create2(_) => OpCode::CREATE2,
            Self::CreateContainer(_) => OpCode::CREATE_CONTAINER,
            Self::CreateTtl(_) => OpCode::CREATE_TTL,
            Self::Delete(_) => OpCode::DELETE,
            Self::SetData(_) => OpCode::SET_DATA,
            Self::Check(_) => OpCode::CHECK,
            Self::GetData(_) => OpCode::GET_DATA,
            Self::GetChildren(_) => OpCode::GET_CHILDREN,
        }
    }

    /// Whether the operation belongs into a multiRead.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::GetData(_) | Self::GetChildren(_))
    }
}

impl Encode for MultiOp<'_> {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Create(record) | Self::Create2(record) | Self::CreateContainer(record) => {
                record.encode(out);
            }
            Self::CreateTtl(record) => record.encode(out),
            Self::Delete(record) => record.encode(out),
            Self::SetData(record) => record.encode(out),
            Self::Check(record) => record.encode(out),
            Self::GetData(record) | Self::GetChildren(record) => record.encode(out),
        }
    }
}

/// Appends one operation with its header, for a request that is written piece by piece.
pub fn put_multi_op(out: &mut BytesMut, op: &MultiOp<'_>) {
    MultiHeader {
        op: op.op(),
        done: false,
        err: ErrorCode::SYSTEM_ERROR,
    }
    .encode(out);
    op.encode(out);
}

/// Appends the end header.
pub fn put_multi_end(out: &mut BytesMut) {
    MultiHeader::END.encode(out);
}

/// A multi or multiRead request: the two differ in their opcode and in the operations a server takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MultiRequest<'a> {
    /// The operations, in order.
    pub ops: Vec<MultiOp<'a>>,
}

impl<'a> MultiOp<'a> {
    /// Reads the next operation of a multi or multiRead request; `None` at its end. For a server that prepares each
    /// operation as it comes.
    ///
    /// # Errors
    /// When the bytes form neither a known operation nor the end.
    pub fn decode_next(reader: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        let header = MultiHeader::decode(reader)?;
        if header.done {
            return Ok(None);
        }
        Ok(Some(match header.op {
            OpCode::CREATE => Self::Create(Decode::decode(reader)?),
            OpCode::CREATE2 => Self::Create2(Decode::decode(reader)?),
            OpCode::CREATE_CONTAINER => Self::CreateContainer(Decode::decode(reader)?),
            OpCode::CREATE_TTL => Self::CreateTtl(Decode::decode(reader)?),
            OpCode::DELETE => Self::Delete(Decode::decode(reader)?),
            OpCode::SET_DATA => Self::SetData(Decode::decode(reader)?),
            OpCode::CHECK => Self::Check(Decode::decode(reader)?),
            OpCode::GET_DATA => Self::GetData(Decode::decode(reader)?),
            OpCode::GET_CHILDREN => Self::GetChildren(Decode::decode(reader)?),
            OpCode(other) => return Err(reader.bad_value("type", i64::from(other))),
        }))
    }
}

impl<'a> Decode<'a> for MultiRequest<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut ops = Vec::new();
        while let Some(op) = MultiOp::decode_next(reader)? {
            ops.push(op);
        }
        Ok(Self { ops })
    }
}

impl Encode for MultiRequest<'_> {
    fn encode(&self, out: &mut BytesMut) {
        for op in &self.ops {
            put_multi_op(out, op);
        }
        put_multi_end(out);
    }
}

/// One result of a multi or multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultiResult<'a> {
    /// A create; also a create2 answered by a server older than 3.9.
    Create(Ustring<'a>),
    /// A create2, createContainer or createTTL.
    Create2(Ustring<'a>, Stat),
    /// A delete.
    Delete,
    /// A setData.
    SetData(Stat),
    /// A check.
    Check,
    /// A getData.
    GetData(Option<Bytes>, Stat),
    /// A getChildren.
    GetChildren(Option<Vec<Ustring<'a>>>),
    /// A failure. 0 stands for an operation before the failed one, −2 for one after it.
    Error(ErrorCode),
}

impl Encode for MultiResult<'_> {
    /// Appends the result with its header.
    fn encode(&self, out: &mut BytesMut) {
        let header = |op, err| MultiHeader {
            op,
            done: false,
            err,
        };
        let ok = |op| header(op, ErrorCode::OK);
        match self {
            Self::Create(path) => {
                ok(OpCode::CREATE).encode(out);
                crate::jute::put_ustring(out, path.as_str());
            }
            Self::Create2(path, stat) => {
                ok(OpCode::CREATE2).encode(out);
                crate::jute::put_ustring(out, path.as_str());
                stat.encode(out);
            }
            Self::Delete => ok(OpCode::DELETE).encode(out),
            Self::SetData(stat) => {
                ok(OpCode::SET_DATA).encode(out);
                stat.encode(out);
            }
            Self::Check => ok(OpCode::CHECK).encode(out),
            Self::GetData(data, stat) => {
                ok(OpCode::GET_DATA).encode(out);
                crate::jute::put_buffer(out, data.as_deref());
                stat.encode(out);
            }
            Self::GetChildren(children) => {
                ok(OpCode::GET_CHILDREN).encode(out);
                put_vector(out, children.as_deref(), |out, name| {
                    crate::jute::put_ustring(out, name.as_str());
                });
            }
            Self::Error(err) => {
                header(OpCode::ERROR, *err).encode(out);
                ErrorResponse { err: *err }.encode(out);
            }
        }
    }
}

/// The answer to a multi or multiRead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MultiResponse<'a> {
    /// One result for each operation, in order.
    pub results: Vec<MultiResult<'a>>,
}

impl<'a> Decode<'a> for MultiResponse<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut results = Vec::new();
        loop {
            let header = MultiHeader::decode(reader)?;
            if header.done {
                return Ok(Self { results });
            }
            results.push(match header.op {
                OpCode::CREATE => MultiResult::Create(PathResponse::decode(reader)?.path),
                OpCode::CREATE2 => {
                    let CreateResponse { path, stat } = Decode::decode(reader)?;
                    MultiResult::Create2(path, stat)
                }
                OpCode::DELETE => MultiResult::Delete,
                OpCode::SET_DATA => MultiResult::SetData(StatResponse::decode(reader)?.stat),
                OpCode::CHECK => MultiResult::Check,
                OpCode::GET_DATA => {
                    let GetDataResponse { data, stat } = Decode::decode(reader)?;
                    MultiResult::GetData(data, stat)
                }
                OpCode::GET_CHILDREN => {
                    MultiResult::GetChildren(super::ChildrenResponse::decode(reader)?.children)
                }
                OpCode::ERROR => MultiResult::Error(ErrorResponse::decode(reader)?.err),
                OpCode(other) => return Err(reader.bad_value("type", i64::from(other))),
            });
        }
    }
}

impl Encode for MultiResponse<'_> {
    fn encode(&self, out: &mut BytesMut) {
        for result in &self.results {
            result.encode(out);
        }
        put_multi_end(out);
    }
}
