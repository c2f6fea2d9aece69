//! What a frame from a server means: the handshake's answer, a reply, an event, an answer to credentials.
//!
//! Peer bytes decide nothing beyond that: what breaks the protocol drops the connection, never panics, and never makes
//! room by an announced length (fs C14).

use bytes::{Buf, Bytes, BytesMut};
use zk_proto::jute::{Decode, Reader};
use zk_proto::session::{EventType, ReplyHeader, WatcherEvent};
use zk_proto::{ErrorCode, OpCode, Xid, Zxid};

use super::event::{Answer, Output, Slot, Time, WatchKind};
use super::handshake::{Welcome, read_response};
use super::inflight::{Purpose, Sent};
use super::{End, Phase, SessionCore};
use crate::error::{Error, ErrorKind, Outcome};
use crate::session::SessionState;

/// Why a frame cannot be from a ZooKeeper server.
type Broken = &'static str;

impl<S: Slot> SessionCore<S> {
    /// Takes whole frames off the front of `bytes`, until the connection is given up.
    pub(super) fn received(&mut self, now: Time, bytes: &mut BytesMut) {
        loop {
            if !matches!(self.phase, Phase::Greeting { .. } | Phase::Live { .. }) {
                // Not this connection's any more.
                return bytes.clear();
            }
            let frame = match self.frames.decode(bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(session = %self.session_id(), %error, "a frame from the server");
                    self.drop_connection(now, error.to_string().into());
                    return bytes.clear();
                }
            };
            let read = match self.phase {
                Phase::Greeting { .. } => self.greeted(now, &frame),
                _ => {
                    self.keepalive.heard(now);
                    self.frame(now, frame)
                }
            };
            if let Err(why) = read {
                tracing::warn!(session = %self.session_id(), why, "the server broke the protocol");
                self.drop_connection(now, why.into());
            }
        }
        if self.requests.has_unsent() && matches!(self.phase, Phase::Live { .. }) {
            self.send_unsent(now);
        }
    }

    fn greeted(&mut self, now: Time, frame: &Bytes) -> Result<(), Broken> {
        match read_response(frame).map_err(|_| "a connect response that cannot be decoded")? {
            Welcome::Attached {
                session,
                timeout_ms,
                read_only,
            } => {
                if session.id.0 == 0 {
                    return Err("a session without a number");
                }
                let asked = self.session.as_ref().filter(|_| self.seen_writable);
                if asked.is_some_and(|asked| asked.id != session.id) {
                    return Err("another session than the one asked for");
                }
                self.attached(now, session, timeout_ms, read_only);
            }
            Welcome::Expired if self.session.is_some() && self.seen_writable => {
                self.lose_session(now);
            }
            Welcome::Expired => return Err("a new session refused"),
        }
        Ok(())
    }

    fn frame(&mut self, now: Time, mut frame: Bytes) -> Result<(), Broken> {
        let mut reader = Reader::new(&frame, "ReplyHeader");
        let header = ReplyHeader::decode(&mut reader).map_err(|_| "a reply without a header")?;
        match header.xid {
            Xid::NOTIFICATION => {
                let event = WatcherEvent::decode(&mut reader)
                    .map_err(|_| "an event that cannot be decoded")?;
                self.event(header.zxid, &event)
            }
            Xid::PING => {
                if self.keepalive.ponged() {
                    self.rotation.succeeded();
                }
                Ok(())
            }
            // Credentials prove nothing: a server answers them without a look at the session.
            Xid::AUTH => self.authenticated(header.err),
            xid => {
                let sent = self
                    .requests
                    .answered(xid)
                    .ok_or("a reply to no request, or out of turn")?;
                let read = reader.position();
                frame.advance(read);
                self.reply(now, header, frame, sent)
            }
        }
    }

    fn event(&mut self, zxid: Zxid, event: &WatcherEvent<'_>) -> Result<(), Broken> {
        let known = [
            EventType::NODE_CREATED,
            EventType::NODE_DELETED,
            EventType::NODE_DATA_CHANGED,
            EventType::NODE_CHILDREN_CHANGED,
        ];
        if !known.contains(&event.event_type) {
            return Err("an event of an unknown type");
        }
        // Before 3.9, and for events made good after a reconnect, servers do not say.
        let zxid = Some(zxid).filter(|zxid| zxid.0 > 0);
        let path = event.path.or_empty();
        let told = self.watches.fire(event.event_type, event.state, path, zxid);
        tracing::trace!(session = %self.session_id(), kind = ?event.event_type, path, watchers = told.len(), "event");
        self.deliver(told);
        Ok(())
    }

    fn authenticated(&mut self, code: ErrorCode) -> Result<(), Broken> {
        let waiting = self
            .credentials
            .answered()
            .ok_or("an answer to credentials that were not sent")?;
        if code != ErrorCode::OK {
            // Final (fs C15): the same credentials will be refused by the next server too.
            // The state first: who is told of the failure may look at it.
            self.set_state(SessionState::AuthFailed);
            for slot in waiting {
                let kind = ErrorKind::AuthFailed;
                self.fail(OpCode::AUTH, None, slot, kind, Outcome::NotDone);
            }
            self.finish(End::AuthFailed);
            return Ok(());
        }
        for slot in waiting {
            let answer = Answer {
                zxid: Zxid(0),
                xid: Xid::AUTH,
                session: self.session_id(),
                code,
                body: Bytes::new(),
                watcher: None,
            };
            self.outputs.push_back(Output::Reply(slot, Ok(answer)));
        }
        Ok(())
    }

    fn reply(
        &mut self,
        now: Time,
        header: ReplyHeader,
        body: Bytes,
        sent: Sent<S>,
    ) -> Result<(), Broken> {
        if header.zxid.0 > 0 {
            self.last_zxid = header.zxid;
        }
        // A request that is refused for its session's sake did not keep the session.
        if !matches!(
            header.err,
            ErrorCode::SESSION_EXPIRED | ErrorCode::SESSION_MOVED
        ) {
            self.keepalive.proved(sent.at);
            if matches!(sent.purpose, Purpose::User(_)) {
                self.rotation.succeeded();
            }
        }
        let slot = match sent.purpose {
            Purpose::User(slot) => slot,
            Purpose::Upkeep => {
                let refused = header.err != ErrorCode::OK;
                if refused && matches!(sent.op, OpCode::SET_WATCHES | OpCode::SET_WATCHES2) {
                    // Going on would be a connection on which no watch fires: another one may take them.
                    tracing::warn!(op = %sent.op, code = %header.err, "watches refused");
                    return Err("watches that the server does not take again");
                }
                // A watch to remove may have fired just before: NOWATCHER is as good as OK.
                if refused && header.err != ErrorCode::NO_WATCHER {
                    tracing::warn!(op = %sent.op, code = %header.err, "watches at the server");
                }
                return Ok(());
            }
            Purpose::Close => {
                self.finish(End::Closed { confirmed: true });
                return Ok(());
            }
        };
        let absent = header.err == ErrorCode::NO_NODE && sent.watch == Some(WatchKind::Exists);
        let is_answer = header.err == ErrorCode::OK || absent;
        let watcher = match (sent.watch, &sent.path) {
            (Some(kind), Some(path)) => {
                let kind = match kind {
                    WatchKind::Exists if !absent => WatchKind::Data,
                    kind => kind,
                };
                let watcher = self.watches.answered(path, is_answer.then_some(kind));
                if watcher.is_none() {
                    self.remove_stale(now, path);
                }
                watcher
            }
            _ => None,
        };
        let result = if is_answer {
            Ok(Answer {
                zxid: header.zxid,
                xid: header.xid,
                session: self.session_id(),
                code: header.err,
                body,
                watcher,
            })
        } else {
            Err(Error::server(sent.op, sent.path, header.err))
        };
        self.outputs.push_back(Output::Reply(slot, result));
        Ok(())
    }
}
