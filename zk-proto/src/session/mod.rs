//! Records between a client and a server, by duty: handshake, headers, operations, multi, watches, identities.
//!
//! A frame from a client is a [`RequestHeader`] and the record its opcode names ([`Request`]); a frame from a server is a
//! [`ReplyHeader`] and, when its error is 0, the response record. The two frames that open a connection have no header.

mod auth;
mod connect;
mod header;
mod multi;
mod ops;
mod reconfig;
mod request;
mod watch;

pub use auth::{AuthPacket, ClientInfo, SaslRequest, SaslResponse, Secret, WhoAmIResponse};
pub use connect::{ConnectRequest, ConnectResponse, Password};
pub use header::{ReplyHeader, RequestHeader};
pub use multi::{
    MultiHeader, MultiOp, MultiRequest, MultiResponse, MultiResult, put_multi_end, put_multi_op,
};
pub use ops::{
    AclResponse, CheckVersionRequest, Children2Response, ChildrenResponse, CreateRequest,
    CreateResponse, CreateTtlRequest, DeleteRequest, EphemeralsResponse, ErrorResponse,
    GetDataResponse, PathRequest, PathResponse, PathWatchRequest, SetAclRequest, SetDataRequest,
    StatResponse, TotalResponse,
};
pub use reconfig::ReconfigRequest;
pub use request::{Request, Response};
pub use watch::{
    AddWatchMode, AddWatchRequest, EventType, KeeperState, SetWatches, SetWatches2, WatcherEvent,
    WatcherType, WatcherTypeRequest,
};
