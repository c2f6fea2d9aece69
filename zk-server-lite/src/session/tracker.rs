//! Which sessions are alive, and when each ends: ZooKeeper's expiry buckets. Time is an argument.
//!
//! A deadline is rounded up to the next tick, so sessions end in batches, in `(timeout, timeout + tick]` after their last
//! touch (client-protocol, 9.1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zk_proto::SessionId;

use crate::time::Time;

/// A live session.
#[derive(Debug, Clone, Copy)]
struct Session {
    timeout_ms: i32,
    /// The bucket it is in.
    deadline: Time,
    /// Its end is on its way: it can no longer be touched.
    closing: bool,
    /// It was given time once because the server was late, and not touched since.
    spared: bool,
}

/// All live sessions.
#[derive(Debug)]
pub struct SessionTracker {
    tick: Duration,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions by deadline; closing ones are in none.
    buckets: BTreeMap<Time, BTreeSet<SessionId>>,
}

/// What became of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The session lives on.
    Alive,
    /// The session is being closed.
    Closing,
    /// There is no such session.
    Unknown,
}

impl SessionTracker {
    /// No sessions; deadlines are multiples of `tick`.
    #[must_use]
    pub fn new(tick: Duration) -> Self {
        Self {
            tick: tick.max(Duration::from_millis(1)),
            sessions: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }

    fn bucket(&self, now: Time, timeout_ms: i32) -> Time {
        let tick = self.tick.as_millis() as u64;
        let end = now.as_millis() + u64::from(timeout_ms.max(0).unsigned_abs());
        Time::from_millis(end / tick * tick + tick)
    }

    /// Begins a session, or gives a known one a new timeout and a fresh deadline.
    pub fn add(&mut self, id: SessionId, timeout_ms: i32, now: Time) {
        let deadline = self.bucket(now, timeout_ms);
        let session = Session {
            timeout_ms,
            deadline,
            closing: false,
            spared: false,
        };
        if let Some(old) = self.sessions.insert(id, session) {
            self.leave(id, old.deadline);
        }
        self.buckets.entry(deadline).or_default().insert(id);
    }

    /// Moves a session's end away, by the timeout its connection has.
    pub fn touch(&mut self, id: SessionId, timeout_ms: i32, now: Time) -> Touch {
        let deadline = self.bucket(now, timeout_ms);
        let Some(session) = self.sessions.get_mut(&id) else {
            return Touch::Unknown;
        };
        if session.closing {
            return Touch::Closing;
        }
        session.timeout_ms = timeout_ms;
        session.spared = false;
        if deadline != session.deadline {
            let old = std::mem::replace(&mut session.deadline, deadline);
            self.leave(id, old);
            self.buckets.entry(deadline).or_default().insert(id);
        }
        Touch::Alive
    }

    /// Marks a session as ending: no touch saves it any more. False if it is unknown or was marked before.
    pub fn mark_closing(&mut self, id: SessionId) -> bool {
        let Some(session) = self
            .sessions
            .get_mut(&id)
            .filter(|session| !session.closing)
        else {
            return false;
        };
        session.closing = true;
        let deadline = session.deadline;
        self.leave(id, deadline);
        true
    }

    /// Forgets a session whose end was applied.
    pub fn remove(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.leave(id, session.deadline);
        }
    }

    /// Sessions whose time is up, marked as ending.
    ///
    /// When this comes more than a tick after a session's end, it was the server that slept, and a ping may lie unread in a
    /// socket: such a session gets one more tick, once.
    pub fn expired(&mut self, now: Time) -> Vec<SessionId> {
        let mut all = Vec::new();
        let mut spared = Vec::new();
        while let Some(bucket) = self
            .buckets
            .first_entry()
            .filter(|bucket| *bucket.key() <= now)
        {
            let late = now.since(*bucket.key()) > self.tick;
            for id in bucket.remove() {
                let Some(session) = self.sessions.get_mut(&id) else {
                    continue;
                };
                if late && !session.spared {
                    session.spared = true;
                    spared.push(id);
                } else {
                    session.closing = true;
                    all.push(id);
                }
            }
        }
        let deadline = self.bucket(now, 0);
        for id in spared {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.deadline = deadline;
                self.buckets.entry(deadline).or_default().insert(id);
            }
        }
        all
    }

    /// When the next session may expire.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.buckets.keys().next().copied()
    }

    /// Whether a session is known and not ending.
    #[must_use]
    pub fn is_alive(&self, id: SessionId) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| !session.closing)
    }

    /// Whether a session is known, ending or not.
    #[must_use]
    pub fn contains(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Sessions with their timeouts in milliseconds, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, i32)> {
        self.sessions
            .iter()
            .map(|(id, session)| (*id, session.timeout_ms))
    }

    /// Deadlines and the sessions that end at each.
    pub fn by_deadline(&self) -> impl Iterator<Item = (Time, &BTreeSet<SessionId>)> {
        self.buckets
            .iter()
            .map(|(deadline, sessions)| (*deadline, sessions))
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn leave(&mut self, id: SessionId, deadline: Time) {
        if let Some(bucket) = self.buckets.get_mut(&deadline) {
            bucket.remove(&id);
            if bucket.is_empty() {
                self.buckets.remove(&deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_between_their_timeout_and_a_tick_later() {
        for start in 0..4000 {
            let mut tracker = SessionTracker::new(Duration::from_millis(2000));
            tracker.add(SessionId(1), 1000, Time::from_millis(start));
            let end = tracker.next_deadline().unwrap();
            let after = end.as_millis() - start;
            assert!(after > 1000 && after <= 3000, "{after}");
            assert!(
                tracker
                    .expired(Time::from_millis(end.as_millis() - 1))
                    .is_empty()
            );
            assert_eq!(tracker.expired(end), [SessionId(1)]);
            assert_eq!(tracker.touch(SessionId(1), 1000, end), Touch::Closing);
        }
    }

    #[test]
    fn a_touch_moves_the_end_and_a_closing_session_cannot_be_saved() {
        let mut tracker = SessionTracker::new(Duration::from_millis(100));
        tracker.add(SessionId(1), 1000, Time::from_millis(0));
        assert_eq!(
            tracker.touch(SessionId(1), 1000, Time::from_millis(500)),
            Touch::Alive
        );
        assert!(tracker.expired(Time::from_millis(1500)).is_empty());
        assert!(tracker.mark_closing(SessionId(1)) && !tracker.mark_closing(SessionId(1)));
        assert!(tracker.expired(Time::from_millis(9000)).is_empty());
        assert_eq!(
            tracker.touch(SessionId(2), 1, Time::from_millis(0)),
            Touch::Unknown
        );
        tracker.remove(SessionId(1));
        assert!(tracker.is_empty() && tracker.next_deadline().is_none());
    }

    #[test]
    fn a_server_that_slept_reads_its_sockets_before_it_ends_sessions() {
        let mut tracker = SessionTracker::new(Duration::from_millis(100));
        for id in [1, 2] {
            tracker.add(SessionId(id), 1000, Time::from_millis(0));
        }
        let late = Time::from_millis(60_000);
        assert_eq!(tracker.expired(late), []);
        assert_eq!(tracker.touch(SessionId(2), 1000, late), Touch::Alive);
        // Once only: a server that is always late still ends sessions.
        assert_eq!(tracker.expired(Time::from_millis(60_700)), [SessionId(1)]);
        assert!(tracker.is_alive(SessionId(2)));
    }
}
