//! Credentials: kept for the life of the client, sent at the start of every connection, answered outside of the request
//! queue. They are never shown. Knows no request.

use std::collections::VecDeque;

use bytes::BytesMut;
use zk_proto::frame::{begin_frame, end_frame};
use zk_proto::jute::Encode;
use zk_proto::session::{AuthPacket, RequestHeader, Secret};
use zk_proto::{OpCode, Xid};

#[derive(Debug)]
struct Credential<S> {
    scheme: String,
    auth: Secret,
    /// Who waits for the first answer. Stays over lost connections: credentials are sent again anyway.
    waiting: Vec<S>,
}

#[derive(Debug)]
pub(crate) struct Credentials<S> {
    all: Vec<Credential<S>>,
    /// Sent on this connection and not answered, as indices.
    unanswered: VecDeque<usize>,
}

impl<S> Credentials<S> {
    pub(crate) fn new(initial: Vec<(String, Secret)>) -> Self {
        let all = initial.into_iter().map(|(scheme, auth)| Credential {
            scheme,
            auth,
            waiting: Vec::new(),
        });
        Self {
            all: all.collect(),
            unanswered: VecDeque::new(),
        }
    }

    /// Keeps credentials; the same ones again are kept once.
    pub(crate) fn add(
        &mut self,
        scheme: String,
        auth: Secret,
        slot: S,
        out: Option<&mut BytesMut>,
    ) {
        let known = self
            .all
            .iter()
            .position(|known| known.scheme == scheme && known.auth == auth);
        let index = known.unwrap_or_else(|| {
            self.all.push(Credential {
                scheme,
                auth,
                waiting: Vec::new(),
            });
            self.all.len() - 1
        });
        self.all[index].waiting.push(slot);
        if let Some(out) = out {
            self.put(index, out);
        }
    }

    /// A new connection: all of them, in the order in which they were added.
    pub(crate) fn replay(&mut self, out: &mut BytesMut) {
        self.connection_lost();
        for index in 0..self.all.len() {
            self.put(index, out);
        }
    }

    fn put(&mut self, index: usize, out: &mut BytesMut) {
        let credential = &self.all[index];
        let mark = begin_frame(out);
        RequestHeader {
            xid: Xid::AUTH,
            op: OpCode::AUTH,
        }
        .encode(out);
        AuthPacket {
            auth_type: 0,
            scheme: credential.scheme.as_str().into(),
            auth: credential.auth.clone(),
        }
        .encode(out);
        end_frame(out, mark);
        self.unanswered.push_back(index);
    }

    /// The oldest unanswered credentials were answered: who waited for that. `None` if none were sent.
    pub(crate) fn answered(&mut self) -> Option<Vec<S>> {
        let index = self.unanswered.pop_front()?;
        Some(std::mem::take(&mut self.all[index].waiting))
    }

    /// How many are sent on this connection and not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The connection is gone, and with it all answers.
    pub(crate) fn connection_lost(&mut self) {
        self.unanswered.clear();
    }

    /// Whether somebody waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.all.iter().any(|known| !known.waiting.is_empty())
    }

    /// Everybody who waits, to be told of a failure.
    pub(crate) fn take_waiting(&mut self) -> Vec<S> {
        self.all
            .iter_mut()
            .flat_map(|credential| std::mem::take(&mut credential.waiting))
            .collect()
    }
}
