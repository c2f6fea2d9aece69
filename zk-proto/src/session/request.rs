//! The record that belongs to each opcode, in both directions.

use bytes::{Bytes, BytesMut};

use super::{
    AclResponse, AddWatchRequest, AuthPacket, CheckVersionRequest, Children2Response,
    ChildrenResponse, CreateRequest, CreateResponse, CreateTtlRequest, DeleteRequest,
    EphemeralsResponse, ErrorResponse, GetDataResponse, MultiRequest, MultiResponse, PathRequest,
    PathResponse, PathWatchRequest, ReconfigRequest, SaslRequest, SaslResponse, SetAclRequest,
    SetDataRequest, SetWatches, SetWatches2, StatResponse, TotalResponse, WatcherTypeRequest,
    WhoAmIResponse,
};
use crate::code::OpCode;
use crate::error::DecodeError;
use crate::jute::{Decode, Encode, Reader};

macro_rules! bodies {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident($($op:ident)|+, $record:ty);)* } empty { $($empty:ident)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name<'a> {
            $($(#[$doc])* $variant($record),)*
            /// The opcode has no body.
            Empty,
            /// An opcode this crate does not know, with the bytes of its body as they came.
            Unknown(Bytes),
        }

        impl<'a> $name<'a> {
            /// Reads the record that belongs to `op`. Bytes after it are left unread, as servers leave them.
            ///
            /// # Errors
            /// When the bytes do not form that record.
            pub fn decode(op: OpCode, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                Ok(match op {
                    $($(OpCode::$op)|+ => Self::$variant(Decode::decode(reader)?),)*
                    $(OpCode::$empty)|* => Self::Empty,
                    _ => Self::Unknown(reader.rest()),
                })
            }
        }

        impl Encode for $name<'_> {
            fn encode(&self, out: &mut BytesMut) {
                match self {
                    $(Self::$variant(record) => record.encode(out),)*
                    Self::Empty => {}
                    Self::Unknown(bytes) => out.extend_from_slice(bytes),
                }
            }
        }
    };
}

bodies! {
    /// A request's body. Several opcodes share a shape, so the opcode travels beside it.
    ///
    /// ```
    /// use bytes::{Bytes, BytesMut};
    /// use zk_proto::jute::{Decode, Encode, Reader};
    /// use zk_proto::session::{PathWatchRequest, Request, RequestHeader};
    /// use zk_proto::{OpCode, Xid};
    ///
    /// let mut frame = BytesMut::new();
    /// RequestHeader { xid: Xid(1), op: OpCode::GET_DATA }.encode(&mut frame);
    /// PathWatchRequest { path: "/a".into(), watch: true }.encode(&mut frame);
    ///
    /// let frame = frame.freeze();
    /// let mut reader = Reader::new(&frame, "Request");
    /// let header = RequestHeader::decode(&mut reader)?;
    /// let Request::PathWatch(read) = Request::decode(header.op, &mut reader)? else { unreachable!() };
    /// assert_eq!(read.path.as_str(), Some("/a"));
    /// # Ok::<(), zk_proto::DecodeError>(())
    /// ```
    Request {
        /// create, create2, createContainer.
        Create(CREATE | CREATE2 | CREATE_CONTAINER, CreateRequest<'a>);
        /// createTTL.
        CreateTtl(CREATE_TTL, CreateTtlRequest<'a>);
        /// delete.
        Delete(DELETE, DeleteRequest<'a>);
        /// exists, getData, getChildren, getChildren2.
        PathWatch(EXISTS | GET_DATA | GET_CHILDREN | GET_CHILDREN2, PathWatchRequest<'a>);
        /// getACL, sync, getEphemerals, getAllChildrenNumber, and deleteContainer.
        Path(GET_ACL | SYNC | GET_EPHEMERALS | GET_ALL_CHILDREN_NUMBER | DELETE_CONTAINER, PathRequest<'a>);
        /// setData.
        SetData(SET_DATA, SetDataRequest<'a>);
        /// setACL.
        SetAcl(SET_ACL, SetAclRequest<'a>);
        /// check.
        Check(CHECK, CheckVersionRequest<'a>);
        /// multi, multiRead.
        Multi(MULTI | MULTI_READ, MultiRequest<'a>);
        /// reconfig.
        Reconfig(RECONFIG, ReconfigRequest<'a>);
        /// checkWatches, removeWatches.
        WatcherType(CHECK_WATCHES | REMOVE_WATCHES, WatcherTypeRequest<'a>);
        /// auth.
        Auth(AUTH, AuthPacket<'a>);
        /// setWatches.
        SetWatches(SET_WATCHES, SetWatches<'a>);
        /// setWatches2.
        SetWatches2(SET_WATCHES2, SetWatches2<'a>);
        /// sasl.
        Sasl(SASL, SaslRequest);
        /// addWatch.
        AddWatch(ADD_WATCH, AddWatchRequest<'a>);
    } empty { PING CLOSE_SESSION WHO_AM_I }
}

bodies! {
    /// A successful reply's body, by the opcode of its request.
    Response {
        /// create, sync.
        Path(CREATE | SYNC, PathResponse<'a>);
        /// create2, createContainer, createTTL.
        Create(CREATE2 | CREATE_CONTAINER | CREATE_TTL, CreateResponse<'a>);
        /// exists, setData, setACL.
        Stat(EXISTS | SET_DATA | SET_ACL, StatResponse);
        /// getData, reconfig.
        Data(GET_DATA | RECONFIG, GetDataResponse);
        /// getACL.
        Acl(GET_ACL, AclResponse);
        /// getChildren.
        Children(GET_CHILDREN, ChildrenResponse<'a>);
        /// getChildren2.
        Children2(GET_CHILDREN2, Children2Response<'a>);
        /// multi, multiRead.
        Multi(MULTI | MULTI_READ, MultiResponse<'a>);
        /// sasl.
        Sasl(SASL, SaslResponse);
        /// getEphemerals.
        Ephemerals(GET_EPHEMERALS, EphemeralsResponse<'a>);
        /// getAllChildrenNumber.
        Total(GET_ALL_CHILDREN_NUMBER, TotalResponse);
        /// addWatch.
        Error(ADD_WATCH, ErrorResponse);
        /// whoAmI.
        WhoAmI(WHO_AM_I, WhoAmIResponse<'a>);
    } empty { DELETE PING CHECK_WATCHES REMOVE_WATCHES AUTH SET_WATCHES SET_WATCHES2 CLOSE_SESSION DELETE_CONTAINER CHECK }
}
