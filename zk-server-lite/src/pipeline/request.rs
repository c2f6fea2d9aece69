//! A frame arrives: what kind of request it is, and which way it goes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{AuthPacket, ReplyHeader, RequestHeader};
use zk_proto::{ErrorCode, Id, OpCode, Xid, Zxid};

use super::admin::Counters;
use super::conn::{Answer, CloseReason, Conn, Item};
use super::{ConnId, Engine};
use crate::time::Time;
use crate::tree::acl;

/// Identities one connection may have.
const MAX_IDENTITIES: usize = 128;
/// Bytes these may take.
const MAX_IDENTITY_BYTES: usize = 64 << 10;

impl Engine {
    /// Takes one frame of a connection. Whatever it holds, it becomes a reply, a wait, or the connection's end.
    pub fn handle_frame(&mut self, conn: ConnId, frame: &Bytes, now: Time, wall_ms: i64) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if state.close.is_some() || state.ending {
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
        let (timeout_ms, Some(session)) = (state.timeout_ms, state.session()) else {
            // A session is being refused or made: only the latter goes on, and it has an id by then.
            return;
        };
        self.tracker.touch(session, timeout_ms, now);
        match header.op {
            // Identities are added when they arrive, ahead of anything that waits: a write behind it needs them.
            OpCode::AUTH => self.auth(conn, header.xid, &mut reader),
            // No mechanism is configured: a null token.
            OpCode::SASL => self.answer_in_turn(
                conn,
                Answer {
                    xid: header.xid,
                    zxid: Some(Zxid(0)),
                    err: ErrorCode::OK,
                    body: &[0xff; 4],
                    close: None,
                },
            ),
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
                let prepared =
                    self.prepare_request(conn, session, header, &mut reader, now, wall_ms);
                match prepared {
                    Ok(zxid) => {
                        if let Some(state) = self.conns.get_mut(&conn) {
                            state.queue.push_back(Item::Write(zxid));
                        }
                    }
                    Err(err) => self.answer_in_turn(
                        conn,
                        Answer {
                            xid: header.xid,
                            zxid: None,
                            err,
                            body: &[],
                            close: None,
                        },
                    ),
                }
            }
            _ if !state.queue.is_empty() => {
                // A copy: the frame is a piece of a receive buffer that may be much larger.
                state
                    .queue
                    .push_back(Item::Read(Bytes::copy_from_slice(frame), now));
            }
            _ => self.read(conn, frame, now, now),
        }
    }

    /// Sends an answer after those to earlier requests.
    fn answer_in_turn(&mut self, conn: ConnId, answer: Answer) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        if state.queue.is_empty() {
            self.give(conn, answer);
        } else {
            state.ending |= answer.close.is_some();
            state.queue.push_back(Item::Answer(answer));
        }
    }

    pub(super) fn give(&mut self, conn: ConnId, answer: Answer) {
        let header = ReplyHeader {
            xid: answer.xid,
            zxid: answer.zxid.unwrap_or_else(|| self.tree.last_zxid()),
            err: answer.err,
        };
        self.reply(conn, header, &Raw(answer.body));
        if let Some(reason) = answer.close {
            self.close(conn, reason);
        }
    }

    /// Identities are added at once; the answer keeps its turn, which is after the answer to the handshake.
    fn auth(&mut self, conn: ConnId, xid: Xid, reader: &mut Reader<'_>) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let mut answer = Answer {
            xid,
            zxid: Some(Zxid(0)),
            err: ErrorCode::OK,
            body: &[],
            close: None,
        };
        match AuthPacket::decode(reader) {
            Err(_) => answer.err = ErrorCode::MARSHALLING_ERROR,
            Ok(packet) => {
                let known = match packet.scheme.or_empty() {
                    "digest" if self.config.digest_auth => {
                        let id = acl::digest_identity(packet.auth.as_bytes());
                        let is_super = self.config.super_digest.as_deref() == Some(&*id.id);
                        let super_id = is_super.then(|| Id::new("super", ""));
                        add_identities(&mut state.ids, super_id.into_iter().chain([id]))
                    }
                    // The address is there from the start; asking again changes nothing.
                    "ip" => true,
                    _ => false,
                };
                if !known {
                    self.counters.auth_failed += 1;
                    answer.err = ErrorCode::AUTH_FAILED;
                    answer.close = Some(CloseReason::AuthFailed);
                }
            }
        }
        self.answer_in_turn(conn, answer);
    }

    /// Appends a reply to a connection's output.
    pub(super) fn reply(&mut self, conn: ConnId, header: ReplyHeader, body: &impl Encode) {
        let Some(state) = self
            .conns
            .get_mut(&conn)
            .filter(|state| state.close.is_none())
        else {
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
            state.last_latency = u32::try_from(latency).unwrap_or(u32::MAX);
            state.latency.add(latency);
        }
    }
}

/// Adds identities to those a connection has; false if it has so many that it can only mean harm.
fn add_identities(ids: &mut Arc<[Id]>, more: impl Iterator<Item = Id>) -> bool {
    let mut all = ids.to_vec();
    for id in more {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    let bytes: usize = all.iter().map(|id| id.scheme.len() + id.id.len()).sum();
    let few = all.len() <= MAX_IDENTITIES && bytes <= MAX_IDENTITY_BYTES;
    if few && all.len() > ids.len() {
        *ids = all.into();
    }
    few
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
    let size = (state.out.len() - before) as u64;
    counters.sent_bytes += size;
    counters.response_size.add(size);
    state.sent += 1;
    state.last_zxid = header.zxid;
    state.last_cxid = header.xid;
}

/// The body of a reply that has none.
pub(super) struct Nothing;

impl Encode for Nothing {
    fn encode(&self, _out: &mut BytesMut) {}
}

/// A body that is encoded already.
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl Encode for Raw<'_> {
    fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.0);
    }
}
