//! The way of requests into a session's task, and of their answers back.
//!
//! Callers write their requests, already encoded, behind each other into one buffer; the task takes all of them at once
//! and puts a turn's answers back at once. One lock, held for a few copies and never while anybody is woken or anything is
//! dropped, instead of a message, a body and a reply slot on the heap for each request.
//!
//! The number of requests that wait here is bounded by permits: a full lane makes callers wait, in their order, which is
//! the back-pressure. A caller that went away (a dropped future) leaves its place abandoned: a request that is not sent
//! yet will not be, one that is sent keeps its place, and its answer is thrown away; a watch that came with the answer is
//! given up by the drop of its registration.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::sync::Semaphore;
use zk_proto::OpCode;
use zk_proto::jute::Encode;
use zk_proto::session::Secret;

use crate::client::RawReply;
use crate::core::{Slot, WatchKind};
use crate::error::Error;

type Answered = Result<RawReply, Error>;

/// What the task gives back of the buffer's room after large requests.
const KEPT_BYTES: usize = 256 * 1024;

/// What a caller asks for; the bytes of a request are in the lane's buffer.
#[derive(Debug)]
pub(crate) enum Command {
    Submit {
        op: OpCode,
        /// With the path to watch.
        watch: Option<(WatchKind, String)>,
        body: Range<usize>,
        /// [`losses`](crate::session::Trust::losses) as they were when the request was first polled.
        losses: u64,
    },
    AddAuth {
        scheme: String,
        auth: Secret,
    },
}

/// One caller's place: who waits for what.
#[derive(Debug)]
enum Place {
    Free,
    Waiting(Waker),
    Answered(Answered),
    /// The task let go of it without an answer: it was shut down.
    Forsaken,
    /// The caller went away.
    Abandoned,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<(u32, Command)>,
    bytes: BytesMut,
    /// As many as were ever asked for at once: what waits here, on the wire, and between.
    places: Vec<Place>,
    free: Vec<u32>,
    /// The task, if it waits for requests.
    task: Option<Waker>,
    /// The last handle is gone.
    let_go: bool,
    /// Nothing more is taken.
    closed: bool,
}

impl Inner {
    fn take_place(&mut self, waker: &Waker) -> u32 {
        let place = Place::Waiting(waker.clone());
        if let Some(number) = self.free.pop() {
            self.places[index(number)] = place;
            return number;
        }
        self.places.push(place);
        u32::try_from(self.places.len() - 1).expect("the lane's bound is far below 2^32")
    }

    fn release(&mut self, number: u32) -> Place {
        self.free.push(number);
        std::mem::replace(&mut self.places[index(number)], Place::Free)
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("usize has 32 bits or more")
}

#[derive(Debug)]
struct Lane {
    inner: Mutex<Inner>,
    /// Free places in the queue.
    room: Semaphore,
    /// Places that callers abandoned, so that nobody locks to look for one where there is none.
    abandoned: AtomicUsize,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked under the lock left no command: a queue entry is the last thing that is made.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane for `bound` waiting requests.
pub(crate) fn lane(bound: usize) -> (Entrance, Exit) {
    let lane = Arc::new(Lane {
        inner: Mutex::default(),
        room: Semaphore::new(bound),
        abandoned: AtomicUsize::new(0),
    });
    let exit = Exit {
        lane: Arc::clone(&lane),
        taken: VecDeque::new(),
        bytes: BytesMut::new(),
        wakers: Vec::new(),
        thrown_away: Vec::new(),
    };
    (Entrance(lane), exit)
}

/// The callers' end; dropped, the task is told that nobody holds the client.
#[derive(Debug)]
pub(crate) struct Entrance(Arc<Lane>);

/// Why a command was not taken.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Wait for [`Entrance::room`].
    Full,
    /// Nothing is taken any more.
    Closed,
}

/// Room for one command.
pub(crate) type Permit<'a> = tokio::sync::SemaphorePermit<'a>;

impl Entrance {
    /// Room for one command, if there is some and nobody waits for it.
    pub(crate) fn try_room(&self) -> Result<Permit<'_>, Refusal> {
        self.0.room.try_acquire().map_err(|error| match error {
            tokio::sync::TryAcquireError::NoPermits => Refusal::Full,
            tokio::sync::TryAcquireError::Closed => Refusal::Closed,
        })
    }

    /// Room for one command, in the order of first polls; `None` once nothing is taken any more.
    pub(crate) async fn room(&self) -> Option<Permit<'_>> {
        self.0.room.acquire().await.ok()
    }

    /// Puts a request at the end; `waker` is told of its answer. `None` if nothing is taken any more.
    pub(crate) fn submit(
        &self,
        room: Permit<'_>,
        op: OpCode,
        watch: Option<(WatchKind, String)>,
        request: &(impl Encode + ?Sized),
        losses: u64,
        waker: &Waker,
    ) -> Option<Ticket<'_>> {
        self.put(room, waker, |bytes| {
            let start = bytes.len();
            request.encode(bytes);
            Command::Submit {
                op,
                watch,
                body: start..bytes.len(),
                losses,
            }
        })
    }

    /// Puts credentials at the end, alike.
    pub(crate) fn add_auth(
        &self,
        room: Permit<'_>,
        scheme: String,
        auth: Secret,
        waker: &Waker,
    ) -> Option<Ticket<'_>> {
        self.put(room, waker, |_| Command::AddAuth { scheme, auth })
    }

    fn put(
        &self,
        room: Permit<'_>,
        waker: &Waker,
        command: impl FnOnce(&mut BytesMut) -> Command,
    ) -> Option<Ticket<'_>> {
        let mut inner = self.0.lock();
        if inner.closed {
            return None;
        }
        let command = command(&mut inner.bytes);
        // Comes back when the task has taken the command.
        room.forget();
        let number = inner.take_place(waker);
        inner.queue.push_back((number, command));
        let task = inner.task.take();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
        Some(Ticket {
            lane: &self.0,
            number: Some(number),
        })
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.let_go = true;
        let task = inner.task.take();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A caller's claim to one answer. Dropped, it abandons the place.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    lane: &'a Lane,
    /// `None` once the answer was taken.
    number: Option<u32>,
}

impl Ticket<'_> {
    /// The answer; `None` if the task ended without one.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answered>> {
        let Some(number) = self.number else {
            return Poll::Ready(None);
        };
        let mut inner = self.lane.lock();
        if let Place::Waiting(waker) = &mut inner.places[index(number)] {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        self.number = None;
        match inner.release(number) {
            Place::Answered(answer) => Poll::Ready(Some(answer)),
            _ => Poll::Ready(None),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut inner = self.lane.lock();
        let left = if matches!(inner.places[index(number)], Place::Waiting(_)) {
            self.lane.abandoned.fetch_add(1, Ordering::Relaxed);
            std::mem::replace(&mut inner.places[index(number)], Place::Abandoned)
        } else {
            inner.release(number)
        };
        // An answer may hold a watch, whose drop does more than to free memory.
        drop(inner);
        drop(left);
    }
}

/// Where one answer goes. Dropped without one, the caller learns that there will be none.
#[derive(Debug)]
pub(crate) struct ReplySlot {
    /// `None` once it was answered.
    lane: Option<Arc<Lane>>,
    number: u32,
}

impl Slot for ReplySlot {
    fn is_abandoned(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| {
            lane.abandoned.load(Ordering::Relaxed) > 0
                && matches!(lane.lock().places[index(self.number)], Place::Abandoned)
        })
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            forsake(&lane, self.number);
        }
    }
}

fn forsake(lane: &Lane, number: u32) {
    let mut inner = lane.lock();
    let left = std::mem::replace(&mut inner.places[index(number)], Place::Forsaken);
    if matches!(left, Place::Abandoned) {
        lane.abandoned.fetch_sub(1, Ordering::Relaxed);
        inner.release(number);
    }
    drop(inner);
    if let Place::Waiting(waker) = left {
        waker.wake();
    }
}

/// The task's end.
#[derive(Debug)]
pub(crate) struct Exit {
    lane: Arc<Lane>,
    /// Taken from the lane and not yet handed out; their bytes are in `bytes`.
    taken: VecDeque<(u32, Command)>,
    bytes: BytesMut,
    /// Empty between two batches of answers.
    wakers: Vec<Waker>,
    thrown_away: Vec<Answered>,
}

impl Exit {
    /// Ready with true when there are commands for [`next`](Self::next), with false when there will be none any more.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.taken.is_empty() {
            return Poll::Ready(true);
        }
        self.fetch(|inner| {
            if inner.let_go || inner.closed {
                return Poll::Ready(false);
            }
            inner.task = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Takes all that waits, and leaves the emptied room of the last time; ready with true unless nothing waits.
    fn fetch(&mut self, nothing: impl FnOnce(&mut Inner) -> Poll<bool>) -> Poll<bool> {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        let mut inner = self.lane.lock();
        if inner.queue.is_empty() {
            return nothing(&mut inner);
        }
        std::mem::swap(&mut inner.queue, &mut self.taken);
        std::mem::swap(&mut inner.bytes, &mut self.bytes);
        drop(inner);
        self.lane.room.add_permits(self.taken.len());
        Poll::Ready(true)
    }

    /// The next command that was taken, where its answer goes, and the bytes that its body is a part of.
    pub(crate) fn next(&mut self) -> Option<(Command, ReplySlot, &[u8])> {
        let (number, command) = self.taken.pop_front()?;
        let slot = ReplySlot {
            lane: Some(Arc::clone(&self.lane)),
            number,
        };
        Some((command, slot, &self.bytes))
    }

    /// As [`next`](Self::next), and takes from the lane what is missing: `None` only if nothing waits.
    pub(crate) fn last(&mut self) -> Option<(Command, ReplySlot, &[u8])> {
        if self.taken.is_empty() && self.fetch(|_| Poll::Ready(false)) != Poll::Ready(true) {
            return None;
        }
        self.next()
    }

    /// Takes nothing more from callers; what was put in before still comes out.
    pub(crate) fn close(&mut self) {
        self.lane.lock().closed = true;
        self.lane.room.close();
    }

    /// Gives out a turn's answers and wakes who waits for them.
    pub(crate) fn answer(&mut self, answers: &mut Vec<(ReplySlot, Answered)>) {
        if answers.is_empty() {
            return;
        }
        let mut inner = self.lane.lock();
        for (mut slot, answer) in answers.drain(..) {
            slot.lane = None;
            let place = &mut inner.places[index(slot.number)];
            if matches!(place, Place::Abandoned) {
                self.lane.abandoned.fetch_sub(1, Ordering::Relaxed);
                inner.release(slot.number);
                self.thrown_away.push(answer);
            } else if let Place::Waiting(waker) = std::mem::replace(place, Place::Answered(answer))
            {
                self.wakers.push(waker);
            }
        }
        drop(inner);
        self.thrown_away.clear();
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.close();
        // Whoever still waits is told: a slot that is dropped does so.
        while let Some((_, slot, _)) = self.last() {
            drop(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::{BufMut, Bytes};
    use zk_proto::{ErrorCode, SessionId, Xid, Zxid};

    use super::*;

    struct Word(&'static str);

    impl Encode for Word {
        fn encode(&self, out: &mut BytesMut) {
            out.put_slice(self.0.as_bytes());
        }
    }

    fn ask<'a>(entrance: &'a Entrance, word: &'static str) -> Option<Ticket<'a>> {
        let room = entrance.try_room().ok()?;
        entrance.submit(room, OpCode::EXISTS, None, &Word(word), 0, Waker::noop())
    }

    fn answer(xid: i32) -> Answered {
        Ok(RawReply {
            zxid: Zxid(1),
            xid: Xid(xid),
            session: SessionId(1),
            body: Bytes::new(),
            code: ErrorCode::OK,
            registration: None,
        })
    }

    fn poll<T>(mut what: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        what(&mut Context::from_waker(Waker::noop()))
    }

    /// What comes out, by body.
    fn words(exit: &mut Exit) -> Vec<(String, ReplySlot)> {
        let mut words = Vec::new();
        while let Some((command, slot, bytes)) = exit.last() {
            let Command::Submit { body, .. } = command else {
                panic!("{command:?}");
            };
            words.push((String::from_utf8(bytes[body].to_vec()).unwrap(), slot));
        }
        words
    }

    #[test]
    fn requests_come_out_in_order_and_answers_find_their_callers() {
        let (entrance, mut exit) = lane(10);
        let mut first = ask(&entrance, "first").unwrap();
        let mut second = ask(&entrance, "second").unwrap();
        let taken = words(&mut exit);
        assert_eq!(taken[0].0, "first");
        assert_eq!(taken[1].0, "second");
        assert!(poll(|cx| first.poll_answer(cx)).is_pending());
        // Backwards, to see that places do not depend on the order.
        let numbered = taken.into_iter().zip([1, 2]).rev();
        let mut answers = numbered
            .map(|((_, slot), xid)| (slot, answer(xid)))
            .collect();
        exit.answer(&mut answers);
        for (ticket, expected) in [(&mut first, 1), (&mut second, 2)] {
            match poll(|cx| ticket.poll_answer(cx)) {
                Poll::Ready(Some(Ok(reply))) => assert_eq!(reply.xid, Xid(expected)),
                other => panic!("{other:?}"),
            }
        }
        drop((first, second));
        assert_eq!(entrance.0.lock().free.len(), 2);
    }

    #[tokio::test]
    async fn a_full_lane_makes_callers_wait_in_their_order() {
        let (entrance, mut exit) = lane(1);
        let ticket = ask(&entrance, "a").unwrap();
        let mut room = Box::pin(entrance.room());
        assert!(poll(|cx| room.as_mut().poll(cx)).is_pending());
        assert_eq!(words(&mut exit).len(), 1);
        // The room that came back is the waiting caller's, whoever asks.
        assert_eq!(entrance.try_room().err(), Some(Refusal::Full));
        assert!(room.await.is_some());
        drop(ticket);
    }

    #[test]
    fn abandoned_places_are_free_again_whoever_goes_first() {
        let (entrance, mut exit) = lane(10);
        drop(ask(&entrance, "gone before it is taken").unwrap());
        let gone_before_the_answer = ask(&entrance, "b").unwrap();
        let gone_after_the_answer = ask(&entrance, "c").unwrap();
        let mut taken = words(&mut exit);
        assert!(taken[0].1.is_abandoned());
        assert!(!taken[1].1.is_abandoned());
        drop(gone_before_the_answer);
        assert!(taken[1].1.is_abandoned());
        drop(taken.remove(0));
        let mut answers = taken
            .into_iter()
            .map(|(_, slot)| (slot, answer(1)))
            .collect();
        exit.answer(&mut answers);
        drop(gone_after_the_answer);
        assert_eq!(entrance.0.lock().free.len(), 3);
        assert_eq!(entrance.0.abandoned.load(Ordering::Relaxed), 0);
        // Used again.
        let again = ask(&entrance, "d").unwrap();
        assert_eq!(entrance.0.lock().places.len(), 3);
        drop(again);
    }

    #[tokio::test]
    async fn a_task_that_goes_away_leaves_nobody_waiting() {
        let (entrance, mut exit) = lane(3);
        let mut queued = Vec::new();
        for word in ["held", "taken", "queued"] {
            queued.push(ask(&entrance, word).unwrap());
            if word == "taken" {
                assert_eq!(poll(|cx| exit.poll_ready(cx)), Poll::Ready(true));
            }
        }
        let (_, held, _) = exit.next().unwrap();
        let ended = async {
            for ticket in &mut queued {
                assert!(poll_fn(|cx| ticket.poll_answer(cx)).await.is_none());
            }
        };
        let mut ended = Box::pin(ended);
        assert!(poll(|cx| ended.as_mut().poll(cx)).is_pending());
        drop((exit, held));
        ended.await;
        assert!(entrance.room().await.is_none());
        assert!(ask(&entrance, "late").is_none());
    }

    #[test]
    fn the_last_handle_ends_the_lane_behind_what_it_asked_for() {
        let (entrance, mut exit) = lane(3);
        let ticket = ask(&entrance, "last").unwrap();
        // Nobody can hold a ticket longer than its client; here it stands for a caller that went away.
        drop(ticket);
        drop(entrance);
        assert_eq!(poll(|cx| exit.poll_ready(cx)), Poll::Ready(true));
        assert_eq!(words(&mut exit).len(), 1);
        assert_eq!(poll(|cx| exit.poll_ready(cx)), Poll::Ready(false));
    }
}
