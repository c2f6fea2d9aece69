//! Watches: registering, re-registering, removing, and the events they yield.

use std::fmt;

use bytes::BytesMut;

use crate::error::DecodeError;
use crate::ids::{Zxid, newtype_field};
use crate::jute::{Field, Reader, Ustring, record};

record! {
    /// Registers one-shot watches again after a reconnect.
    pub struct SetWatches<'a> {
        /// The highest zxid the client saw in a reply: changes after it yield events at once.
        pub relative_zxid: Zxid,
        /// Paths with a data watch.
        pub data_watches: Option<Vec<Ustring<'a>>>,
        /// Paths with an exists watch set while the node was absent.
        pub exist_watches: Option<Vec<Ustring<'a>>>,
        /// Paths with a child watch.
        pub child_watches: Option<Vec<Ustring<'a>>>,
    }
}

record! {
    /// Registers watches again, persistent ones included.
    pub struct SetWatches2<'a> {
        /// The highest zxid the client saw in a reply: changes after it yield events at once.
        pub relative_zxid: Zxid,
        /// Paths with a data watch.
        pub data_watches: Option<Vec<Ustring<'a>>>,
        /// Paths with an exists watch set while the node was absent.
        pub exist_watches: Option<Vec<Ustring<'a>>>,
        /// Paths with a child watch.
        pub child_watches: Option<Vec<Ustring<'a>>>,
        /// Paths with a persistent watch. No event tells what changed during the gap.
        pub persistent_watches: Option<Vec<Ustring<'a>>>,
        /// Paths with a persistent recursive watch. No event tells what changed during the gap.
        pub persistent_recursive_watches: Option<Vec<Ustring<'a>>>,
    }
}

record! {
    /// Registers a persistent watch.
    pub struct AddWatchRequest<'a> {
        /// Where; the node need not exist.
        pub path: Ustring<'a>,
        /// Which kind.
        pub mode: AddWatchMode,
    }
}

record! {
    /// Asks for watches of one type at one path: checkWatches and removeWatches.
    pub struct WatcherTypeRequest<'a> {
        /// Where.
        pub path: Ustring<'a>,
        /// Of which type.
        pub watcher_type: WatcherType,
    }
}

record! {
    /// What happened, in a frame whose header has the xid −1.
    pub struct WatcherEvent<'a> {
        /// What.
        pub event_type: EventType,
        /// The connection's state; 3 (SyncConnected) from a healthy server.
        pub state: KeeperState,
        /// Where, without any chroot.
        pub path: Ustring<'a>,
    }
}

macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $constant:ident = $value:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub i32);

        impl $name {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($constant)),)*
                    other => write!(f, concat!(stringify!($name), "({})"), other),
                }
            }
        }

        newtype_field!($name, i32);
    };
}

open_enum! {
    /// Kinds of persistent watch.
    AddWatchMode {
        /// Events of the node itself and of its list of children.
        PERSISTENT = 0;
        /// Events of the node and all its descendants.
        PERSISTENT_RECURSIVE = 1;
    }
}

open_enum! {
    /// Kinds of watch, to check for and to remove.
    WatcherType {
        /// Child watches.
        CHILDREN = 1;
        /// Data watches, exists watches included.
        DATA = 2;
        /// All watches at the path.
        ANY = 3;
        /// Persistent watches; since 3.9.
        PERSISTENT = 4;
        /// Persistent recursive watches; since 3.9.
        PERSISTENT_RECURSIVE = 5;
    }
}

open_enum! {
    /// What an event tells.
    EventType {
        /// Nothing of a node: the connection's state changed. Made by clients.
        NONE = -1;
        /// The node was created.
        NODE_CREATED = 1;
        /// The node was deleted.
        NODE_DELETED = 2;
        /// The node's data was set.
        NODE_DATA_CHANGED = 3;
        /// A child was created or deleted.
        NODE_CHILDREN_CHANGED = 4;
        /// A data watch was removed. Made by clients.
        DATA_WATCH_REMOVED = 5;
        /// A child watch was removed. Made by clients.
        CHILD_WATCH_REMOVED = 6;
        /// A persistent watch was removed. Made by clients.
        PERSISTENT_WATCH_REMOVED = 7;
    }
}

open_enum! {
    /// The state of a connection, as events carry it.
    KeeperState {
        /// Not connected.
        DISCONNECTED = 0;
        /// Connected to a server that is part of a quorum.
        SYNC_CONNECTED = 3;
        /// The identity was refused.
        AUTH_FAILED = 4;
        /// Connected to a read-only server.
        CONNECTED_READ_ONLY = 5;
        /// SASL is through.
        SASL_AUTHENTICATED = 6;
        /// Closed by the user.
        CLOSED = 7;
        /// The session is over.
        EXPIRED = -112;
    }
}
