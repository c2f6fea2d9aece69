//! Deadlines that are all equally far away, so that they come in the order in which they were set. Usually they are not
//! missed, and forgotten when they come to the front.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::node::alarm::Slot;
use crate::pipeline::ConnId;

/// See the [module page](self).
#[derive(Debug)]
pub(super) struct Deadlines {
    patience: Duration,
    /// A connection's number beside its place, which may have been given to another one.
    waiting: VecDeque<(Instant, Slot, ConnId)>,
}

impl Deadlines {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, slot: Slot, conn: ConnId) {
        let now = Instant::now();
        // None is further away than time goes.
        if let Some(end) = now.checked_add(self.patience) {
            self.waiting.push_back((end, slot, conn));
        }
    }

    /// Forgets those at the front for which nobody waits any more; the time of the first that counts.
    pub(super) fn next(&mut self, counts: impl Fn(Slot, ConnId) -> bool) -> Option<Instant> {
        while let Some((end, slot, conn)) = self.waiting.front() {
            if counts(*slot, *conn) {
                return Some(*end);
            }
            self.waiting.pop_front();
        }
        // Room for a burst is given back.
        self.waiting.shrink_to(64);
        None
    }

    /// The next one that is over.
    pub(super) fn pop_over(&mut self, now: Instant) -> Option<(Slot, ConnId)> {
        let (end, slot, conn) = *self.waiting.front()?;
        if end > now {
            return None;
        }
        self.waiting.pop_front();
        Some((slot, conn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deadlines_that_count_are_waited_for() {
        let mut deadlines = Deadlines::new(Duration::from_secs(1));
        for number in 0..3 {
            deadlines.add(Slot(number), ConnId(number.into()));
        }
        let first = deadlines.next(|slot, _| slot != Slot(0)).unwrap();
        assert_eq!(deadlines.pop_over(first - Duration::from_millis(1)), None);
        assert_eq!(deadlines.pop_over(first), Some((Slot(1), ConnId(1))));
        assert_eq!(deadlines.next(|_, _| false), None);
        assert_eq!(deadlines.pop_over(first + Duration::from_secs(9)), None);
    }
}
