//! The handshake: a new session, or one attached again.

use bytes::Bytes;
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::{Decode, Encode, Reader};
use zk_proto::session::{ConnectRequest, ConnectResponse, Password};
use zk_proto::txn::Txn;
use zk_proto::{SessionId, Xid};

use super::conn::{CloseReason, Item};
use super::outstanding::Reply;
use super::{ConnId, Engine};
use crate::session::password;
use crate::session::tracker::Touch;
use crate::time::Time;

impl Engine {
    pub(super) fn connect(&mut self, conn: ConnId, frame: &Bytes, now: Time, wall_ms: i64) {
        let Ok(request) = ConnectRequest::decode(&mut Reader::new(frame, "ConnectRequest")) else {
            self.close(conn, CloseReason::BadHandshake);
            return;
        };
        self.counters.connection_requests += 1;
        if request.last_zxid_seen > self.tree.last_zxid() {
            self.close(conn, CloseReason::ClientAhead);
            return;
        }
        let timeout_ms = request.timeout.clamp(
            self.config.min_session_timeout,
            self.config
                .max_session_timeout
                .max(self.config.min_session_timeout),
        );
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.timeout_ms = timeout_ms;
        state.wants_read_only = request.read_only.is_some();
        if request.session_id == SessionId(0) {
            self.create_session(conn, timeout_ms, now, wall_ms);
        } else {
            self.attach_again(conn, &request, timeout_ms, now);
        }
    }

    fn create_session(&mut self, conn: ConnId, timeout_ms: i32, now: Time, wall_ms: i64) {
        let session = SessionId(self.next_session);
        // A plain counter over the whole value, past the two that mean something else.
        self.next_session = match self.next_session.wrapping_add(1) {
            0 | i64::MIN => 1,
            next => next,
        };
        // Known from now on, so that requests sent right behind the handshake find it.
        self.tracker.add(session, timeout_ms, now);
        self.owners.insert(session, conn);
        let zxid = self.propose(
            session,
            Xid(0),
            &Txn::CreateSession {
                timeout: timeout_ms,
            },
            Reply::Connect(conn),
            now,
            wall_ms,
        );
        if let Some(state) = self.conns.get_mut(&conn) {
            state.set_session(session);
            state.queue.push_back(Item::Write(zxid));
        }
    }

    /// The password is checked before anything else: ids can be guessed, and a wrong guess must not cut the rightful
    /// client's connection, as it does in Java.
    fn attach_again(&mut self, conn: ConnId, request: &ConnectRequest, timeout_ms: i32, now: Time) {
        let session = request.session_id;
        self.counters.revalidations += 1;
        let known = password::verify(&self.config.secret, session, request.passwd.as_bytes())
            && self.tracker.touch(session, timeout_ms, now) == Touch::Alive;
        if !known {
            self.connect_response(conn, None);
            self.close(conn, CloseReason::SessionRefused);
            return;
        }
        // The new owner is set first, so that closing the old connection does not take the session away from it.
        if let Some(old) = self.owners.insert(session, conn) {
            self.close(old, CloseReason::SessionMoved);
        }
        let unapplied = self
            .outstanding
            .iter()
            .rfind(|pending| pending.header.client_id == session)
            .map(|pending| pending.header.zxid);
        if let Some(state) = self.conns.get_mut(&conn) {
            state.set_session(session);
            // A session reads what it has written, whichever connection it wrote on.
            if let Some(zxid) = unapplied {
                state.queue.push_back(Item::Write(zxid));
                self.resumed.insert(zxid, conn);
            }
        }
        self.connect_response(conn, Some(session));
    }

    /// Answers a handshake; `None` refuses it.
    pub(super) fn connect_response(&mut self, conn: ConnId, session: Option<SessionId>) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        let read_only = state.wants_read_only.then_some(false);
        let response = match session {
            Some(session_id) => ConnectResponse {
                protocol_version: 0,
                timeout: state.timeout_ms,
                session_id,
                passwd: Bytes::copy_from_slice(&password::derive(&self.config.secret, session_id))
                    .into(),
                read_only,
            },
            None => ConnectResponse {
                passwd: Password::zero(),
                read_only,
                ..ConnectResponse::default()
            },
        };
        let mark = begin_frame(&mut state.out);
        response.encode(&mut state.out);
        end_frame(&mut state.out, mark);
        state.sent += 1;
        self.counters.sent += 1;
        self.mark_dirty(conn);
    }
}
