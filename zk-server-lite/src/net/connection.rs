//! What one connection is about: its first bytes (a four-letter word or a handshake), then requests, then its end.
//!
//! A connection owns no buffer while nothing has arrived in part. All that is ready is read into the poller's window, every
//! whole frame is cut, and they are handed over together.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zk_proto::frame::FrameDecoder;

use crate::four_letter::{self, Word};
use crate::node::core::{Bench, Shared};
use crate::node::halt::Halted;
use crate::node::link::{Flushed, Link};

/// Whether a read that brings less than there was room for has emptied the socket, and the poller hears of what comes
/// after it: so with epoll and kqueue.
const SHORT_READ_EMPTIES: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

/// The largest room for received bytes that is kept for the next turn.
const KEPT: usize = 1 << 20;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody knows yet what it wants.
    Beginning,
    /// It sends requests.
    Serving,
    /// It ends when its output is sent.
    Ending,
}

/// What a connection needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// News.
    Nothing,
    /// Another turn, after the others had theirs.
    Turn,
    /// Nothing ever: it is over.
    Burial,
}

/// See the [module page](self).
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: Arc<Link>,
    /// The beginning of a frame whose rest has not arrived.
    partial: Option<Box<BytesMut>>,
    pub(super) stage: Stage,
    /// There may be something to read.
    pub(super) readable: bool,
    /// The peer has sent its last byte, so that an emptied socket has still its end to tell.
    pub(super) closed: bool,
    /// There may be room to write.
    pub(super) writable: bool,
    /// It has a turn coming.
    pub(super) queued: bool,
}

/// What the poller lends to the connection whose turn it is.
#[derive(Debug)]
pub(super) struct Tools {
    /// Received bytes, until they are copied in one piece behind what they continue.
    pub(super) window: Box<[u8]>,
    pub(super) bench: Bench,
}

impl Connection {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            partial: None,
            stage: Stage::Beginning,
            readable: false,
            closed: false,
            writable: true,
            queued: false,
        }
    }

    /// Does what can be done now, reading at most once.
    pub(super) fn turn(&mut self, shared: &Shared, tools: &mut Tools) -> Result<Next, Halted> {
        self.link.looked_at();
        if self.link.is_pipe() {
            self.readable = true;
            self.writable = true;
        }
        if self.link.is_blocked() && self.writable {
            match self.link.flush_blocked() {
                Flushed::Blocked => self.writable = false,
                Flushed::All(_) | Flushed::Elsewhere => shared.pull(&self.link)?,
            }
        }
        if self.link.is_cut() {
            return Ok(Next::Burial);
        }
        match self.stage {
            Stage::Ending => return Ok(self.end()),
            Stage::Beginning if self.link.is_closing() => return Ok(Next::Burial),
            Stage::Serving if self.link.is_closing() => {
                self.stage = Stage::Ending;
                return Ok(self.end());
            }
            Stage::Beginning | Stage::Serving => {}
        }
        if !self.readable || !self.link.may_read() {
            return Ok(Next::Nothing);
        }
        let received = match self.link.read(&mut tools.window) {
            Ok(0) => return Ok(Next::Burial),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                self.closed = false;
                return Ok(Next::Nothing);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Next::Turn),
            Err(error) => {
                tracing::debug!(peer = %self.link.peer(), %error, "cannot receive");
                return Ok(Next::Burial);
            }
        };
        // A pipe registers its waker only when it is found empty.
        let told_of_more = SHORT_READ_EMPTIES && !self.link.is_pipe();
        if told_of_more && received < tools.window.len() && !self.closed {
            self.readable = false;
        }
        let next = self.take(shared, tools, received)?;
        if next == Next::Nothing && self.readable {
            return Ok(Next::Turn);
        }
        Ok(next)
    }

    fn end(&self) -> Next {
        if self.link.is_flushed() {
            Next::Burial
        } else {
            Next::Nothing
        }
    }

    /// Handles what is in the window.
    fn take(
        &mut self,
        shared: &Shared,
        tools: &mut Tools,
        received: usize,
    ) -> Result<Next, Halted> {
        let mut bytes = match self.partial.take() {
            Some(partial) => *partial,
            None => {
                let mut bytes = std::mem::take(&mut tools.bench.bytes);
                bytes.clear();
                bytes
            }
        };
        bytes.extend_from_slice(&tools.window[..received]);
        if self.stage == Stage::Beginning {
            match first_bytes(&bytes) {
                First::Frame => {}
                First::Incomplete => {
                    self.keep(bytes);
                    return Ok(Next::Nothing);
                }
                First::Word(word, argument) => {
                    let answer = four_letter::answer(shared, word, argument)?;
                    self.link.push(BytesMut::from(answer.as_bytes()));
                    self.link.close();
                    self.link.flush();
                    self.stage = Stage::Ending;
                    return Ok(Next::Turn);
                }
            }
        }
        let decoder = FrameDecoder::new(shared.config.jute_max_buffer);
        let sound = cut_frames(decoder, &mut bytes, &mut tools.bench.frames);
        let whole = !tools.bench.frames.is_empty();
        if !sound {
            tracing::debug!(peer = %self.link.peer(), "closing a connection: a length that no frame may have");
        } else if !bytes.is_empty() {
            if whole {
                self.keep(BytesMut::from(&bytes[..]));
            } else {
                // Not copied again for each piece that arrives.
                self.keep(std::mem::take(&mut bytes));
            }
        }
        if bytes.capacity() <= KEPT {
            tools.bench.bytes = bytes;
        }
        if whole {
            self.stage = Stage::Serving;
            shared.feed(&self.link, &mut tools.bench)?;
            shared.deliver(&mut tools.bench);
        }
        match (sound, self.stage) {
            (true, _) => Ok(Next::Nothing),
            (false, Stage::Beginning) => Ok(Next::Burial),
            // What came before it counts.
            (false, _) => {
                self.link.close();
                Ok(Next::Turn)
            }
        }
    }

    fn keep(&mut self, partial: BytesMut) {
        self.partial = Some(Box::new(partial));
    }
}

/// What a connection begins with.
enum First {
    Incomplete,
    Word(Word, Option<i64>),
    Frame,
}

fn first_bytes(bytes: &[u8]) -> First {
    let Some(first) = bytes.first_chunk() else {
        return First::Incomplete;
    };
    match Word::parse(first) {
        None => First::Frame,
        Some(word) if !word.has_argument() => First::Word(word, None),
        Some(word) => match bytes[4..].first_chunk() {
            None => First::Incomplete,
            Some(argument) => First::Word(word, Some(i64::from_be_bytes(*argument))),
        },
    }
}

/// Cuts every whole frame off the front. False when a length follows that no frame may have.
fn cut_frames(decoder: FrameDecoder, bytes: &mut BytesMut, frames: &mut Vec<Bytes>) -> bool {
    loop {
        match decoder.decode(bytes) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
