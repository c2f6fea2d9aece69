//! Changes become events in the output of the connections that watch, unless these may not see the node.
//!
//! An event has no field of its receiver, so it is encoded once and copied to each.

use bytes::BytesMut;
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::Encode;
use zk_proto::session::{EventType, KeeperState, ReplyHeader, WatcherEvent};
use zk_proto::{Acl, ErrorCode, Perms, Xid, Zxid};

use super::{ConnId, Engine};
use crate::tree::acl;
use crate::tree::watches::Table;
use crate::tree::{Change, ChangeKind};

impl Engine {
    /// Fires what the changes of one transaction trigger, in order.
    pub(super) fn fire(&mut self, changes: &[Change], zxid: Zxid) {
        if self.watches.is_empty() {
            return;
        }
        let mut told = std::mem::take(&mut self.told);
        for change in changes {
            let path = &*change.path;
            let event = match change.kind {
                ChangeKind::Created => EventType::NODE_CREATED,
                ChangeKind::Deleted => EventType::NODE_DELETED,
                ChangeKind::DataChanged => EventType::NODE_DATA_CHANGED,
            };
            told.clear();
            self.watches.trigger(Table::Data, path, &mut told);
            if change.kind == ChangeKind::Deleted {
                // A child watch on the node itself hears of its end too, unless the data table told its connection.
                let mut children = Vec::new();
                self.watches.trigger(Table::Child, path, &mut children);
                if !children.is_empty() {
                    let mut first = told.clone();
                    first.sort_unstable();
                    children.retain(|conn| first.binary_search(conn).is_err());
                    told.append(&mut children);
                }
            }
            self.tell(&told, event, path, Some(&change.acl), zxid);
            if let Some(parent_acl) = &change.parent_acl {
                let parent = match path.rsplit_once('/') {
                    Some(("", _)) | None => "/",
                    Some((parent, _)) => parent,
                };
                told.clear();
                self.watches.trigger(Table::Child, parent, &mut told);
                self.tell(
                    &told,
                    EventType::NODE_CHILDREN_CHANGED,
                    parent,
                    Some(parent_acl),
                    zxid,
                );
            }
        }
        self.told = told;
    }

    /// Appends an event to the output of each connection that may read the node; `None` asks nobody's rights.
    pub(super) fn tell(
        &mut self,
        conns: &[ConnId],
        event_type: EventType,
        path: &str,
        list: Option<&[Acl]>,
        zxid: Zxid,
    ) {
        if conns.is_empty() {
            return;
        }
        let mut frame = BytesMut::new();
        let mark = begin_frame(&mut frame);
        ReplyHeader {
            xid: Xid::NOTIFICATION,
            zxid,
            err: ErrorCode::OK,
        }
        .encode(&mut frame);
        WatcherEvent {
            event_type,
            state: KeeperState::SYNC_CONNECTED,
            path: path.into(),
        }
        .encode(&mut frame);
        end_frame(&mut frame, mark);
        let max = self.config.max_unsent;
        for conn in conns {
            let Some(state) = self
                .conns
                .get_mut(conn)
                .filter(|state| state.close.is_none())
            else {
                continue;
            };
            let allowed = list.is_none_or(|list| {
                self.config.skip_acl || acl::allows(list, Perms::READ, &state.ids)
            });
            if !allowed {
                continue;
            }
            state.out.extend_from_slice(&frame);
            state.sent += 1;
            self.counters.sent += 1;
            self.counters.events += 1;
            self.counters.sent_bytes += frame.len() as u64;
            self.counters.response_size.add(frame.len() as u64);
            let unsent = state.out.len();
            self.mark_dirty(*conn);
            self.bound_output(*conn, unsent, max);
        }
    }
}
