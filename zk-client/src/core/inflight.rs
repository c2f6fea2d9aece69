//! Requests: those not sent yet, and those sent and not answered, in the order of sending.
//!
//! Replies come in the order of requests, so matching is: the oldest one, and its xid must agree. A request is sent once,
//! on one connection; when that is lost the request is answered with an unknown outcome (fs C1). It must not know watches.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::Encode;
use zk_proto::{OpCode, Xid};

use super::event::{Submission, Time, WatchKind};

/// Whose answer it is.
#[derive(Debug)]
pub(crate) enum Purpose<S> {
    /// A user's, who may have gone meanwhile: the place in the queue stays (fs C11).
    User(S),
    /// The core's own, whose answer is only matched: watches set again, watches removed.
    Upkeep,
    /// The end of the session.
    Close,
}

#[derive(Debug)]
pub(crate) struct Sent<S> {
    pub(crate) xid: Xid,
    pub(crate) op: OpCode,
    pub(crate) path: Option<String>,
    pub(crate) watch: Option<WatchKind>,
    pub(crate) purpose: Purpose<S>,
    /// When it was sent: its answer shows that the session lived on from then (fs K3).
    pub(crate) at: Time,
}

#[derive(Debug)]
pub(crate) struct InFlight<S> {
    unsent: VecDeque<(Submission<'static>, S)>,
    sent: VecDeque<Sent<S>>,
    next_xid: i32,
    most: usize,
}

impl<S> InFlight<S> {
    /// At most `most` requests on the wire at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            unsent: VecDeque::new(),
            sent: VecDeque::new(),
            next_xid: 1,
            most: most.max(1),
        }
    }

    /// Whether more requests should be given in.
    pub(crate) fn has_room(&self) -> bool {
        self.unsent.len() + self.sent.len() < self.most
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn may_send(&self) -> bool {
        self.sent.len() < self.most
    }

    pub(crate) fn queue(&mut self, submission: Submission<'_>, slot: S) {
        let submission = Submission {
            body: submission.body.into_owned().into(),
            ..submission
        };
        self.unsent.push_back((submission, slot));
    }

    pub(crate) fn next_unsent(&mut self) -> Option<(Submission<'static>, S)> {
        self.unsent.pop_front()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn xid(&mut self) -> Xid {
        let xid = Xid(self.next_xid);
        // Ordinary xids are positive; Java wraps the same way.
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        xid
    }

    /// Writes a user's request and remembers it.
    pub(crate) fn send(
        &mut self,
        at: Time,
        submission: Submission<'_>,
        slot: S,
        out: &mut BytesMut,
    ) {
        let xid = self.xid();
        put(out, xid, submission.op, &submission.body);
        self.sent.push_back(Sent {
            xid,
            op: submission.op,
            path: submission.path,
            watch: submission.watch,
            purpose: Purpose::User(slot),
            at,
        });
    }

    /// Writes a request of the core's own and remembers it.
    pub(crate) fn send_own(
        &mut self,
        at: Time,
        op: OpCode,
        body: &impl Encode,
        purpose: Purpose<S>,
        out: &mut BytesMut,
    ) {
        let xid = self.xid();
        let mark = begin_frame(out);
        header(out, xid, op);
        body.encode(out);
        end_frame(out, mark);
        self.sent.push_back(Sent {
            xid,
            op,
            path: None,
            watch: None,
            purpose,
            at,
        });
    }

    /// The request that a reply with this xid answers; `None` if the reply is out of turn.
    pub(crate) fn answered(&mut self, xid: Xid) -> Option<Sent<S>> {
        match self.sent.front() {
            Some(sent) if sent.xid == xid => self.sent.pop_front(),
            _ => None,
        }
    }

    /// The connection is lost: everything that was on it.
    pub(crate) fn take_sent(&mut self) -> VecDeque<Sent<S>> {
        std::mem::take(&mut self.sent)
    }

    /// The session is over: everything that never left.
    pub(crate) fn take_unsent(&mut self) -> VecDeque<(Submission<'static>, S)> {
        std::mem::take(&mut self.unsent)
    }
}

fn header(out: &mut BytesMut, xid: Xid, op: OpCode) {
    out.put_i32(xid.0);
    out.put_i32(op.0);
}

/// One request frame around an encoded body.
///
/// # Panics
/// When the body is longer than any frame can be.
pub(crate) fn put(out: &mut BytesMut, xid: Xid, op: OpCode, body: &[u8]) {
    let length = i32::try_from(body.len() + 8).expect("a frame is shorter than i32::MAX");
    let mut head = [0; 12];
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4..8].copy_from_slice(&xid.0.to_be_bytes());
    head[8..].copy_from_slice(&op.0.to_be_bytes());
    out.reserve(head.len() + body.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xids_wrap_to_one() {
        let mut requests = InFlight::<()>::new(10);
        requests.next_xid = i32::MAX;
        assert_eq!((requests.xid(), requests.xid()), (Xid(i32::MAX), Xid(1)));
    }
}
