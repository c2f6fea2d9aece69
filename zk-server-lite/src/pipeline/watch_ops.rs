//! Requests about watches: adding persistent ones, registering again after a reconnect, checking, removing.

use zk_proto::jute::{Reader, Ustring};
use zk_proto::session::{
    AddWatchMode, AddWatchRequest, ErrorResponse, EventType, ReplyHeader, RequestHeader,
    SetWatches, SetWatches2, WatcherType, WatcherTypeRequest,
};
use zk_proto::{ErrorCode, OpCode, Zxid};

use super::read::body;
use super::request::Nothing;
use super::{ConnId, Engine};
use crate::tree::watches::{Modes, Table};

impl Engine {
    /// Neither the node's existence nor its access list is looked at: events are filtered one by one.
    pub(super) fn add_watch(
        &mut self,
        conn: ConnId,
        ok: ReplyHeader,
        reader: &mut Reader<'_>,
    ) -> Result<(), ErrorCode> {
        let request: AddWatchRequest<'_> = body(reader)?;
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        let recursive = match request.mode {
            AddWatchMode::PERSISTENT => false,
            AddWatchMode::PERSISTENT_RECURSIVE => true,
            _ => return Err(ErrorCode::MARSHALLING_ERROR),
        };
        self.watches.add_persistent(conn, path, recursive);
        self.reply(conn, ok, &ErrorResponse::default());
        Ok(())
    }

    pub(super) fn check_or_remove_watches(
        &mut self,
        conn: ConnId,
        header: RequestHeader,
        reader: &mut Reader<'_>,
    ) -> Result<(), ErrorCode> {
        let request: WatcherTypeRequest<'_> = body(reader)?;
        let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        let kind = request.watcher_type;
        if !(WatcherType::CHILDREN..=WatcherType::PERSISTENT_RECURSIVE).contains(&kind) {
            return Err(ErrorCode::MARSHALLING_ERROR);
        }
        let found = if header.op == OpCode::REMOVE_WATCHES {
            self.watches.remove(conn, path, kind)
        } else {
            self.watches.contains(conn, path, kind)
        };
        if found {
            Ok(())
        } else {
            Err(ErrorCode::NO_WATCHER)
        }
    }

    /// Registers a reconnected client's watches. What changed since the zxid it had seen is told at once, and such a
    /// one-shot watch is not registered again. Persistent watches get no word of what they missed.
    pub(super) fn set_watches(
        &mut self,
        conn: ConnId,
        header: RequestHeader,
        reader: &mut Reader<'_>,
    ) -> Result<(), ErrorCode> {
        let request: SetWatches2<'_> = if header.op == OpCode::SET_WATCHES2 {
            body(reader)?
        } else {
            let SetWatches {
                relative_zxid,
                data_watches,
                exist_watches,
                child_watches,
            } = body(reader)?;
            SetWatches2 {
                relative_zxid,
                data_watches,
                exist_watches,
                child_watches,
                ..SetWatches2::default()
            }
        };
        let since = request.relative_zxid.0;
        for path in texts(&request.data_watches) {
            let event = match self.tree.find(path) {
                None => Some(EventType::NODE_DELETED),
                Some(id) if self.tree.node(id).stat.mzxid > since => {
                    Some(EventType::NODE_DATA_CHANGED)
                }
                Some(_) => None,
            };
            self.catch_up(conn, event, path, Table::Data);
        }
        for path in texts(&request.exist_watches) {
            let event = self.tree.find(path).map(|_| EventType::NODE_CREATED);
            self.catch_up(conn, event, path, Table::Data);
        }
        for path in texts(&request.child_watches) {
            let event = match self.tree.find(path) {
                None => Some(EventType::NODE_DELETED),
                Some(id) if self.tree.node(id).stat.pzxid > since => {
                    Some(EventType::NODE_CHILDREN_CHANGED)
                }
                Some(_) => None,
            };
            self.catch_up(conn, event, path, Table::Child);
        }
        for path in texts(&request.persistent_watches) {
            self.watches.add_persistent(conn, path, false);
        }
        for path in texts(&request.persistent_recursive_watches) {
            self.watches.add_persistent(conn, path, true);
        }
        let zxid = self.tree.last_zxid();
        self.reply(
            conn,
            ReplyHeader {
                xid: header.xid,
                zxid,
                err: ErrorCode::OK,
            },
            &Nothing,
        );
        Ok(())
    }

    fn catch_up(&mut self, conn: ConnId, event: Option<EventType>, path: &str, table: Table) {
        match event {
            // Nobody's rights are asked for here, as in ZooKeeper.
            Some(event) => self.tell(&[conn], event, path, None, Zxid(-1)),
            None => self.watches.add(conn, table, path, Modes::STANDARD),
        }
    }
}

fn texts<'a>(list: &'a Option<Vec<Ustring<'_>>>) -> impl Iterator<Item = &'a str> {
    list.iter().flatten().filter_map(Ustring::as_str)
}
