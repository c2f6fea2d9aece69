//! Operation and error codes as open newtypes: a code of a newer server survives a round trip.

use std::fmt;

use bytes::BytesMut;

use crate::error::DecodeError;
use crate::ids::newtype_field;
use crate::jute::{Field, Reader};

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident, $unknown:literal, { $($(#[$doc:meta])* $constant:ident = $value:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub i32);

        impl $name {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// ZooKeeper's own name of the code, or `None` for one this crate does not know.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!($unknown, " {}"), self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}({})", self.0)
            }
        }

        newtype_field!($name, i32);
    };
}

codes! {
    /// What a request asks for, and what a transaction does.
    OpCode, "opcode", {
        /// Ends the session.
        CLOSE_SESSION = -11, "closeSession";
        /// Starts a session; a transaction only, never a client's request.
        CREATE_SESSION = -10, "createSession";
        /// A failed transaction, or a failed result in a multi.
        ERROR = -1, "error";
        /// Never sent.
        NOTIFICATION = 0, "notification";
        /// Creates a node.
        CREATE = 1, "create";
        /// Deletes a node.
        DELETE = 2, "delete";
        /// Asks for a node's Stat.
        EXISTS = 3, "exists";
        /// Reads a node's data and Stat.
        GET_DATA = 4, "getData";
        /// Writes a node's data.
        SET_DATA = 5, "setData";
        /// Reads a node's ACL.
        GET_ACL = 6, "getACL";
        /// Writes a node's ACL.
        SET_ACL = 7, "setACL";
        /// Lists a node's children.
        GET_CHILDREN = 8, "getChildren";
        /// Makes the serving server catch up with the leader.
        SYNC = 9, "sync";
        /// Keeps the session alive.
        PING = 11, "ping";
        /// Lists a node's children and reads its Stat.
        GET_CHILDREN2 = 12, "getChildren2";
        /// Asserts a node's version; only inside a multi.
        CHECK = 13, "check";
        /// Several writes as one transaction.
        MULTI = 14, "multi";
        /// Creates a node and returns its Stat.
        CREATE2 = 15, "create2";
        /// Changes the ensemble's membership.
        RECONFIG = 16, "reconfig";
        /// Asks whether a watch is registered.
        CHECK_WATCHES = 17, "checkWatches";
        /// Removes a watch.
        REMOVE_WATCHES = 18, "removeWatches";
        /// Creates a container node.
        CREATE_CONTAINER = 19, "createContainer";
        /// Deletes an empty container; made by servers only.
        DELETE_CONTAINER = 20, "deleteContainer";
        /// Creates a node with a time to live.
        CREATE_TTL = 21, "createTTL";
        /// Several reads in one request; not atomic.
        MULTI_READ = 22, "multiRead";
        /// Adds an identity to the connection.
        AUTH = 100, "auth";
        /// Registers watches again after a reconnect.
        SET_WATCHES = 101, "setWatches";
        /// One round of a SASL exchange.
        SASL = 102, "sasl";
        /// Lists the session's ephemeral nodes.
        GET_EPHEMERALS = 103, "getEphemerals";
        /// Counts all descendants of a node.
        GET_ALL_CHILDREN_NUMBER = 104, "getAllChildrenNumber";
        /// Registers watches again, persistent ones included.
        SET_WATCHES2 = 105, "setWatches2";
        /// Registers a persistent watch.
        ADD_WATCH = 106, "addWatch";
        /// Lists the connection's identities.
        WHO_AM_I = 107, "whoAmI";
    }
}

codes! {
    /// How a request ended, in ZooKeeper's numbers.
    ErrorCode, "error code", {
        /// It worked.
        OK = 0, "OK";
        /// Range marker for system errors; servers do not send it.
        SYSTEM_ERROR = -1, "SYSTEMERROR";
        /// Inside a multi: not tried, since an operation before it failed.
        RUNTIME_INCONSISTENCY = -2, "RUNTIMEINCONSISTENCY";
        /// Servers do not send it.
        DATA_INCONSISTENCY = -3, "DATAINCONSISTENCY";
        /// Made by clients: the connection was lost.
        CONNECTION_LOSS = -4, "CONNECTIONLOSS";
        /// The request's bytes do not decode, or the server met an unexpected condition.
        MARSHALLING_ERROR = -5, "MARSHALLINGERROR";
        /// The server does not know or does not allow the operation.
        UNIMPLEMENTED = -6, "UNIMPLEMENTED";
        /// Made by clients.
        OPERATION_TIMEOUT = -7, "OPERATIONTIMEOUT";
        /// A malformed path, flag, TTL or configuration.
        BAD_ARGUMENTS = -8, "BADARGUMENTS";
        /// The session is not known.
        UNKNOWN_SESSION = -12, "UNKNOWNSESSION";
        /// Reconfiguration without a synced quorum of the new members.
        NEW_CONFIG_NO_QUORUM = -13, "NEWCONFIGNOQUORUM";
        /// Another reconfiguration is under way.
        RECONFIG_IN_PROGRESS = -14, "RECONFIGINPROGRESS";
        /// Range marker for API errors; servers do not send it.
        API_ERROR = -100, "APIERROR";
        /// The node, or its parent, does not exist.
        NO_NODE = -101, "NONODE";
        /// The ACL denies it.
        NO_AUTH = -102, "NOAUTH";
        /// The version differs from the expected one.
        BAD_VERSION = -103, "BADVERSION";
        /// The parent is ephemeral.
        NO_CHILDREN_FOR_EPHEMERALS = -108, "NOCHILDRENFOREPHEMERALS";
        /// The node exists already.
        NODE_EXISTS = -110, "NODEEXISTS";
        /// The node has children.
        NOT_EMPTY = -111, "NOTEMPTY";
        /// The session is over.
        SESSION_EXPIRED = -112, "SESSIONEXPIRED";
        /// Made by clients.
        INVALID_CALLBACK = -113, "INVALIDCALLBACK";
        /// The ACL list is null, empty or malformed.
        INVALID_ACL = -114, "INVALIDACL";
        /// The identity was refused; the server closes the connection.
        AUTH_FAILED = -115, "AUTHFAILED";
        /// The session moved to another server; seen as a closed connection.
        SESSION_MOVED = -118, "SESSIONMOVED";
        /// A write on a read-only server.
        NOT_READ_ONLY = -119, "NOTREADONLY";
        /// An ephemeral node on a local session.
        EPHEMERAL_ON_LOCAL_SESSION = -120, "EPHEMERALONLOCALSESSION";
        /// There is no such watch.
        NO_WATCHER = -121, "NOWATCHER";
        /// Made by clients.
        REQUEST_TIMEOUT = -122, "REQUESTTIMEOUT";
        /// Reconfiguration is switched off.
        RECONFIG_DISABLED = -123, "RECONFIGDISABLED";
        /// The server wants an authenticated connection.
        SESSION_CLOSED_REQUIRE_SASL_AUTH = -124, "SESSIONCLOSEDREQUIRESASLAUTH";
        /// A hard quota is exceeded.
        QUOTA_EXCEEDED = -125, "QUOTAEXCEEDED";
        /// The server is throttling.
        THROTTLED_OP = -127, "THROTTLEDOP";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_carried_and_readable() {
        assert_eq!(OpCode(77).to_string(), "opcode 77");
        assert_eq!(format!("{:?}", ErrorCode::NO_NODE), "NONODE(-101)");
        assert_eq!(format!("{:?}", ErrorCode(-999)), "error code -999(-999)");
    }
}
