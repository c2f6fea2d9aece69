//! Reads, pings and all else that makes no transaction: answered from the tree as it is.

use bytes::{Bytes, BytesMut};
use zk_proto::jute::{Decode, Encode, Reader, Ustring, put_buffer, put_count, put_ustring};
use zk_proto::session::{
    AclResponse, ClientInfo, EphemeralsResponse, MultiOp, MultiRequest, MultiResult, PathRequest,
    PathResponse, PathWatchRequest, ReplyHeader, RequestHeader, StatResponse, TotalResponse,
    WhoAmIResponse, put_multi_end,
};
use zk_proto::{ErrorCode, OpCode, Perms, Xid, Zxid};

use super::conn::CloseReason;
use super::request::{Nothing, Raw, append_reply};
use super::{ConnId, Engine};
use crate::time::Time;
use crate::tree::watches::{Modes, Table};
use crate::tree::{DataTree, NodeId, acl};

impl Engine {
    /// Answers one request that makes no transaction.
    pub(super) fn read(&mut self, conn: ConnId, frame: &Bytes, received: Time, now: Time) {
        let mut reader = Reader::new(frame, "Request");
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            return;
        };
        let Some(session) = self.conns.get(&conn).and_then(|state| state.session()) else {
            return;
        };
        self.answered(conn, header.op, received, now);
        let outcome = if self.tracker.is_alive(session) {
            self.serve(conn, header, &mut reader)
        } else {
            Err(ErrorCode::SESSION_EXPIRED)
        };
        if let Err(err) = outcome {
            let zxid = self.tree.last_zxid();
            self.reply(
                conn,
                ReplyHeader {
                    xid: header.xid,
                    zxid,
                    err,
                },
                &Nothing,
            );
        }
    }

    fn serve(
        &mut self,
        conn: ConnId,
        header: RequestHeader,
        reader: &mut Reader<'_>,
    ) -> Result<(), ErrorCode> {
        let ok = ReplyHeader {
            xid: header.xid,
            zxid: self.tree.last_zxid(),
            err: ErrorCode::OK,
        };
        match header.op {
            OpCode::PING => self.reply(
                conn,
                ReplyHeader {
                    xid: Xid::PING,
                    ..ok
                },
                &Nothing,
            ),
            OpCode::EXISTS => {
                let request: PathWatchRequest<'_> = body(reader)?;
                let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
                if path.contains('\0') {
                    return Err(ErrorCode::BAD_ARGUMENTS);
                }
                let found = self.tree.find(path);
                if let Some(id) = found {
                    self.may(conn, id, Perms::READ)?;
                }
                // The watch stays also when there is no node: it waits for one.
                if request.watch {
                    self.watches.add(conn, Table::Data, path, Modes::STANDARD);
                }
                let stat = self.tree.stat(found.ok_or(ErrorCode::NO_NODE)?);
                self.reply(conn, ok, &StatResponse { stat });
            }
            OpCode::GET_DATA => {
                let request: PathWatchRequest<'_> = body(reader)?;
                let (path, id) = self.readable(conn, &request.path)?;
                if request.watch {
                    self.watches.add(conn, Table::Data, path, Modes::STANDARD);
                }
                self.reply_from_tree(conn, ok, |tree, out| {
                    put_buffer(out, tree.node(id).data());
                    tree.stat(id).encode(out);
                });
            }
            OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => {
                let request: PathWatchRequest<'_> = body(reader)?;
                let (path, id) = self.readable(conn, &request.path)?;
                if request.watch {
                    self.watches.add(conn, Table::Child, path, Modes::STANDARD);
                }
                self.reply_from_tree(conn, ok, |tree, out| {
                    put_children(tree, id, out);
                    if header.op == OpCode::GET_CHILDREN2 {
                        tree.stat(id).encode(out);
                    }
                });
            }
            OpCode::GET_ACL => {
                let request: PathRequest<'_> = body(reader)?;
                let path = request.path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
                let id = self.tree.find(path).ok_or(ErrorCode::NO_NODE)?;
                self.may(conn, id, Perms::READ | Perms::ADMIN)?;
                let list = self.tree.acl(id);
                let shown = match self.may(conn, id, Perms::ADMIN) {
                    Ok(()) => list.to_vec(),
                    Err(_) => acl::masked(&list),
                };
                let stat = self.tree.stat(id);
                self.reply(
                    conn,
                    ok,
                    &AclResponse {
                        acl: Some(shown),
                        stat,
                    },
                );
            }
            OpCode::GET_ALL_CHILDREN_NUMBER => {
                let request: PathRequest<'_> = body(reader)?;
                let (path, id) = self.readable(conn, &request.path)?;
                let below = self.tree.descendants(id);
                // Java counts the root itself under its other name.
                let total = if path.is_empty() { below + 1 } else { below };
                self.reply(
                    conn,
                    ok,
                    &TotalResponse {
                        total_number: total as i32,
                    },
                );
            }
            OpCode::SYNC => {
                // A standalone server is always up to date; whatever the path, it is given back.
                let request: PathRequest<'_> = body(reader)?;
                self.reply(conn, ok, &PathResponse { path: request.path });
            }
            OpCode::GET_EPHEMERALS => {
                let request: PathRequest<'_> = body(reader)?;
                let prefix = request.path.or_empty();
                let all = prefix.trim().is_empty() || prefix == "/";
                let session = self
                    .conns
                    .get(&conn)
                    .and_then(|state| state.session())
                    .unwrap_or_default();
                let paths = self
                    .tree
                    .ephemerals(session)
                    .filter(|path| all || path.starts_with(prefix));
                let response = EphemeralsResponse {
                    ephemerals: Some(paths.map(|path| path.to_owned().into()).collect()),
                };
                self.reply(conn, ok, &response);
            }
            OpCode::WHO_AM_I => {
                let ids = self.ids(conn);
                let info = ids.iter().map(|id| ClientInfo {
                    auth_scheme: id.scheme.as_ref().into(),
                    user: match &*id.scheme {
                        "digest" => id.id.split(':').next().unwrap_or_default().into(),
                        _ => id.id.as_ref().into(),
                    },
                });
                self.reply(
                    conn,
                    ok,
                    &WhoAmIResponse {
                        client_info: Some(info.collect()),
                    },
                );
            }
            OpCode::MULTI_READ => self.multi_read(conn, ok, reader)?,
            OpCode::SET_WATCHES | OpCode::SET_WATCHES2 => self.set_watches(conn, header, reader)?,
            OpCode::ADD_WATCH => self.add_watch(conn, ok, reader)?,
            OpCode::CHECK_WATCHES | OpCode::REMOVE_WATCHES => {
                self.check_or_remove_watches(conn, header, reader)?;
                self.reply(conn, ok, &Nothing);
            }
            _ => {
                let header = ReplyHeader {
                    xid: header.xid,
                    zxid: Zxid(-1),
                    err: ErrorCode::UNIMPLEMENTED,
                };
                self.reply(conn, header, &Nothing);
                self.close(conn, CloseReason::UnknownOperation);
            }
        }
        Ok(())
    }

    /// A node the connection may read.
    fn readable<'p>(
        &self,
        conn: ConnId,
        path: &'p Ustring<'_>,
    ) -> Result<(&'p str, NodeId), ErrorCode> {
        let path = path.as_str().ok_or(ErrorCode::MARSHALLING_ERROR)?;
        let id = self.tree.find(path).ok_or(ErrorCode::NO_NODE)?;
        self.may(conn, id, Perms::READ)?;
        Ok((path, id))
    }

    fn may(&self, conn: ConnId, id: NodeId, needed: Perms) -> Result<(), ErrorCode> {
        let ids = self.conns.get(&conn).map_or(&[][..], |state| &state.ids);
        if self.config.skip_acl
            || self
                .tree
                .acls()
                .allows(self.tree.node(id).acl(), needed, ids)
        {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }

    fn ids(&self, conn: ConnId) -> Vec<zk_proto::Id> {
        self.conns
            .get(&conn)
            .map(|state| state.ids.to_vec())
            .unwrap_or_default()
    }

    /// Answers with what `body` writes from the tree, straight into the connection's output.
    fn reply_from_tree(
        &mut self,
        conn: ConnId,
        header: ReplyHeader,
        body: impl Fn(&DataTree, &mut BytesMut),
    ) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        append_reply(state, &mut self.counters, header, |out| {
            body(&self.tree, out)
        });
        self.sent(conn);
    }

    /// Reads one after the other, each with its own result; watches are not left.
    fn multi_read(
        &mut self,
        conn: ConnId,
        ok: ReplyHeader,
        reader: &mut Reader<'_>,
    ) -> Result<(), ErrorCode> {
        let request: MultiRequest<'_> = body(reader)?;
        if request.ops.iter().any(|op| !op.is_read()) {
            // Reads and writes together are no list that Java can read.
            if request.ops.iter().any(MultiOp::is_read) {
                return Err(ErrorCode::MARSHALLING_ERROR);
            }
            // Writes alone are: it sends the end of an empty list along with this error.
            let header = ReplyHeader {
                err: ErrorCode::MARSHALLING_ERROR,
                ..ok
            };
            self.reply(conn, header, &MultiReadEnd);
            return Ok(());
        }
        let mut results = BytesMut::new();
        for op in &request.ops {
            let (MultiOp::GetData(read) | MultiOp::GetChildren(read)) = op else {
                continue;
            };
            match self.readable(conn, &read.path) {
                Ok((_, id)) => {
                    let (code, stat) = match op {
                        MultiOp::GetData(_) => (OpCode::GET_DATA, Some(self.tree.stat(id))),
                        _ => (OpCode::GET_CHILDREN, None),
                    };
                    zk_proto::session::MultiHeader {
                        op: code,
                        done: false,
                        err: ErrorCode::OK,
                    }
                    .encode(&mut results);
                    match stat {
                        Some(stat) => {
                            put_buffer(&mut results, self.tree.node(id).data());
                            stat.encode(&mut results);
                        }
                        None => put_children(&self.tree, id, &mut results),
                    }
                }
                Err(code) => MultiResult::Error(code).encode(&mut results),
            }
        }
        put_multi_end(&mut results);
        self.reply(conn, ok, &Raw(&results));
        Ok(())
    }
}

fn put_children(tree: &DataTree, id: NodeId, out: &mut BytesMut) {
    put_count(out, tree.node(id).child_count() as usize);
    for name in tree.children(id) {
        put_ustring(out, Some(name));
    }
}

/// Decodes a request's body; what does not decode is answered, and the connection goes on.
pub(super) fn body<'a, T: Decode<'a>>(reader: &mut Reader<'a>) -> Result<T, ErrorCode> {
    T::decode(reader).map_err(|_| ErrorCode::MARSHALLING_ERROR)
}

struct MultiReadEnd;

impl Encode for MultiReadEnd {
    fn encode(&self, out: &mut BytesMut) {
        put_multi_end(out);
    }
}
