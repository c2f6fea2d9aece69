//! A frame arrives: what kind of request it is, and which way it goes.

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{AuthPacket, ReplyHeader, RequestHeader, SaslResponse};
use zk_proto::{ErrorCode, Id, OpCode, Xid, Zxid};

use super::admin::Counters;
use super::conn::{CloseReason, Conn, Item};
use super::outstanding::Reply;
use super::{ConnId, Engine};
use crate::time::Time;
use crate::tree::acl;

impl Engine {
    /// Takes one frame of a connection. Whatever it holds, it becomes a reply, a wait, or the connection's end.
    pub fn handle_frame(&mut self, conn: ConnId, frame: &Bytes, now: Time, wall_ms: i64) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if state.close.is_some() {
            return;
        }
        state.received += 1;
        self.counters.received += 1;
        self.counters.received_bytes += frame.len() as u64 + 4;
        if !state.handshaken {
            state.handshaken = true;
            self.connect(conn, frame, now, wall_ms);
            return;
        }
        let mut reader = Reader::new(frame, "Request");
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            self.close(conn, CloseReason::BadFrame);
            return;
        };
        let (timeout_ms, Some(session)) = (state.timeout_ms, state.session) else {
            // A session is being refused or made: only the latter goes on, and it has an id by then.
            return;
        };
        self.tracker.touch(session, timeout_ms, now);
        match header.op {
            // Identities are added when they arrive, ahead of anything that waits: a write behind it needs them.
            OpCode::AUTH => self.auth(conn, header.xid, &mut reader),
            OpCode::SASL => {
                let header = ReplyHeader {
                    xid: header.xid,
                    zxid: Zxid(0),
                    err: ErrorCode::OK,
                };
                self.reply(conn, header, &SaslResponse::default());
            }
            OpCode::CREATE
            | OpCode::CREATE2
            | OpCode::CREATE_CONTAINER
            | OpCode::CREATE_TTL
            | OpCode::DELETE
            | OpCode::DELETE_CONTAINER
            | OpCode::SET_DATA
            | OpCode::SET_ACL
            | OpCode::MULTI
            | OpCode::RECONFIG
            | OpCode::CLOSE_SESSION => {
                let reply = Reply::Request {
                    conn,
                    op: header.op,
                };
                let zxid =
                    self.prepare_request(conn, session, header, &mut reader, reply, now, wall_ms);
                if let Some(state) = self.conns.get_mut(&conn) {
                    state.queue.push_back(Item::Write(zxid));
                }
            }
            _ => {
                if state_is_busy(self, conn) {
                    if let Some(state) = self.conns.get_mut(&conn) {
                        state.queue.push_back(Item::Read(frame.clone(), now));
                    }
                } else {
                    self.read(conn, frame, now, now);
                }
            }
        }
    }

    fn auth(&mut self, conn: ConnId, xid: Xid, reader: &mut Reader<'_>) {
        let Ok(packet) = AuthPacket::decode(reader) else {
            self.reply(
                conn,
                ReplyHeader {
                    xid,
                    zxid: Zxid(0),
                    err: ErrorCode::MARSHALLING_ERROR,
                },
                &Nothing,
            );
            return;
        };
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let mut ids = state.ids.to_vec();
        let mut add = |id: Id| {
            if !ids.contains(&id) {
                ids.push(id);
            }
        };
        let known = match packet.scheme.or_empty() {
            "digest" if self.config.digest_auth => {
                let id = acl::digest_identity(packet.auth.as_bytes());
                if self.config.super_digest.as_deref() == Some(&*id.id) {
                    add(Id::new("super", ""));
                }
                add(id);
                true
            }
            // The address is there from the start; asking again changes nothing.
            "ip" => true,
            _ => false,
        };
        if known {
            state.ids = ids.into();
            self.reply(
                conn,
                ReplyHeader {
                    xid,
                    zxid: Zxid(0),
                    err: ErrorCode::OK,
                },
                &Nothing,
            );
        } else {
            self.counters.auth_failed += 1;
            self.reply(
                conn,
                ReplyHeader {
                    xid,
                    zxid: Zxid(0),
                    err: ErrorCode::AUTH_FAILED,
                },
                &Nothing,
            );
            self.close(conn, CloseReason::AuthFailed);
        }
    }

    /// Appends a reply to a connection's output.
    pub(super) fn reply(&mut self, conn: ConnId, header: ReplyHeader, body: &impl Encode) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        append_reply(state, &mut self.counters, header, |out| body.encode(out));
        self.sent(conn);
    }

    /// A connection's output grew: its driver must know, and it must not grow for ever.
    pub(super) fn sent(&mut self, conn: ConnId) {
        let unsent = self.conns.get(&conn).map_or(0, |state| state.out.len());
        self.mark_dirty(conn);
        self.bound_output(conn, unsent, self.config.max_unsent);
    }

    /// Gives up on a connection whose client does not read.
    pub(super) fn bound_output(&mut self, conn: ConnId, unsent: usize, max: usize) {
        if unsent > max {
            if let Some(state) = self.conns.get_mut(&conn) {
                state.out.clear();
            }
            self.close(conn, CloseReason::NotReading);
        }
    }

    /// Notes that a request was answered, for the statistics.
    pub(super) fn answered(&mut self, conn: ConnId, op: OpCode, received: Time, now: Time) {
        let latency = now.since(received).as_millis() as u64;
        self.counters.latency.add(latency);
        if let Some(state) = self.conns.get_mut(&conn) {
            state.last_op = op;
            state.last_response = now;
            state.last_latency = latency;
            state.latency.add(latency);
        }
    }
}

fn state_is_busy(engine: &Engine, conn: ConnId) -> bool {
    engine
        .conns
        .get(&conn)
        .is_some_and(|state| !state.queue.is_empty())
}

/// Writes a reply frame into a connection's output, and counts it.
pub(super) fn append_reply(
    state: &mut Conn,
    counters: &mut Counters,
    header: ReplyHeader,
    body: impl FnOnce(&mut BytesMut),
) {
    let before = state.out.len();
    let mark = begin_frame(&mut state.out);
    header.encode(&mut state.out);
    body(&mut state.out);
    end_frame(&mut state.out, mark);
    counters.sent += 1;
    counters.sent_bytes += (state.out.len() - before) as u64;
    state.sent += 1;
    state.last_zxid = header.zxid;
    state.last_cxid = header.xid;
}

/// The body of a reply that has none.
pub(super) struct Nothing;

impl Encode for Nothing {
    fn encode(&self, _out: &mut BytesMut) {}
}
