//! The vocabulary of a history. Concrete and printable; knows no server and no reply.

use std::fmt;

use bytes::BytesMut;
use zk_proto::OpCode;
use zk_proto::jute::Encode as _;
use zk_proto::session::Request;

/// One thing that the clients do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The slot opens a new session; a connection that it has is dropped without a word.
    Connect {
        /// Which client.
        slot: usize,
        /// The timeout it asks for, in milliseconds.
        timeout: i32,
    },
    /// The slot attaches to its last session again.
    Attach {
        /// Which client.
        slot: usize,
        /// The `last_zxid_seen` it sends.
        seen: Seen,
        /// The password it sends.
        password: Pass,
        /// Whether the connection it has stays open meanwhile (the server has to end it).
        takeover: bool,
    },
    /// The slot drops its connection; its session lives on.
    HangUp {
        /// Which client.
        slot: usize,
    },
    /// The server is killed and started again on its data; all connections are gone, sessions live on.
    Restart,
    /// The slot sends requests in one piece and reads until all are answered.
    Requests {
        /// Which client.
        slot: usize,
        /// What it asks for.
        ops: Vec<Op>,
    },
}

/// A zxid that is known only when the step is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// 0.
    Nothing,
    /// The highest zxid of a reply to this slot.
    Last,
    /// Far beyond anything the server has processed.
    Ahead,
}

/// Which password an attach sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The session's own.
    Right,
    /// Another one of the same length.
    Wrong,
    /// Null.
    Null,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// The opcode in its header.
    pub code: OpCode,
    /// Its body.
    pub body: Request<'static>,
    /// For setWatches: the relative zxid to fill in.
    pub relative: Option<Seen>,
    /// Damage done to the body's bytes.
    pub damage: Damage,
}

/// Damage done to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// None.
    None,
    /// Only so many permille of its bytes are sent.
    Cut(usize),
    /// So many zero bytes follow it.
    Trail(usize),
}

impl Op {
    /// An undamaged request.
    #[must_use]
    pub fn new(code: OpCode, body: Request<'static>) -> Self {
        Self {
            code,
            body,
            relative: None,
            damage: Damage::None,
        }
    }

    /// The body's bytes as they are sent.
    #[must_use]
    pub fn bytes(&self) -> BytesMut {
        let mut body = BytesMut::new();
        self.body.encode(&mut body);
        match self.damage {
            Damage::None => {}
            Damage::Cut(permille) => body.truncate(body.len() * permille / 1000),
            Damage::Trail(count) => body.resize(body.len() + count, 0),
        }
        body
    }
}

impl Step {
    /// Which client acts; none when the server is restarted.
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        match self {
            Self::Restart => None,
            Self::Connect { slot, .. }
            | Self::Attach { slot, .. }
            | Self::HangUp { slot }
            | Self::Requests { slot, .. } => Some(*slot),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { slot, timeout } => {
                write!(f, "client {slot}: new session, timeout {timeout}")
            }
            Self::Attach {
                slot,
                seen,
                password,
                takeover,
            } => write!(
                f,
                "client {slot}: attach, seen {seen:?}, password {password:?}, takeover {takeover}"
            ),
            Self::HangUp { slot } => write!(f, "client {slot}: hang up"),
            Self::Restart => f.write_str("the server is killed and started again"),
            Self::Requests { slot, ops } => {
                write!(f, "client {slot}:")?;
                for op in ops {
                    write!(f, " {op};")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code.name() {
            Some(name) => write!(f, "{name} ")?,
            None => write!(f, "opcode {} ", self.code.0)?,
        }
        match &self.body {
            // The record hides what is no secret in a test.
            Request::Auth(packet) => write!(
                f,
                "{:?} {:?}",
                packet.scheme.0,
                String::from_utf8_lossy(packet.auth.as_bytes())
            )?,
            body => write!(f, "{body:?}")?,
        }
        if let Some(relative) = self.relative {
            write!(f, " relative to {relative:?}")?;
        }
        match self.damage {
            Damage::None => Ok(()),
            damage => write!(f, " {damage:?}"),
        }
    }
}
