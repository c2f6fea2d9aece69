//! Which host is tried next, and when. Pure arithmetic over a seed; it must not know names or sockets.
//!
//! The list is shuffled once, then walked round and round. Inside of a round there is no wait; a round without success is
//! followed by a wait that doubles from [`FIRST_WAIT_MS`] to [`LONGEST_WAIT_MS`], with half of it left to chance: clients
//! that lost one server together must not come back together (fs C13). A server that takes the session and then is of no
//! use has not ended the round: the wait begins anew only with a connection that did its work, or stood for long.

use super::event::Time;

const FIRST_WAIT_MS: u64 = 200;
const LONGEST_WAIT_MS: u64 = 5_000;

#[derive(Debug)]
pub(crate) struct Rotation {
    order: Vec<usize>,
    next: usize,
    /// Attempts since the last success.
    failed: usize,
    /// Rounds that failed since the last success.
    rounds: u32,
    /// When the session was attached, as long as the connection has shown no use.
    unproven: Option<Time>,
    /// The longest wait before the first attempt after a lost connection; all of it is left to chance.
    jitter_ms: u64,
    chance: fastrand::Rng,
}

impl Rotation {
    pub(crate) fn new(hosts: usize, jitter_ms: u64, seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut order: Vec<_> = (0..hosts.max(1)).collect();
        chance.shuffle(&mut order);
        Self {
            order,
            next: 0,
            failed: 0,
            rounds: 0,
            unproven: None,
            jitter_ms,
            chance,
        }
    }

    pub(crate) fn hosts(&self) -> usize {
        self.order.len()
    }

    /// The host to try now.
    pub(crate) fn take(&mut self) -> usize {
        let host = self.order[self.next % self.order.len()];
        self.next = (self.next + 1) % self.order.len();
        host
    }

    /// The host that would be next, without taking it, other than `than` if there is another.
    pub(crate) fn peek_other(&self, than: usize) -> Option<usize> {
        (0..self.order.len())
            .map(|ahead| self.order[(self.next + ahead) % self.order.len()])
            .find(|host| *host != than)
    }

    /// Makes this host the next one.
    pub(crate) fn prefer(&mut self, host: usize) {
        if let Some(at) = self.order.iter().position(|known| *known == host) {
            self.next = at;
        }
    }

    /// A server has taken the session; whether it is of any use is not known.
    pub(crate) fn attached(&mut self, now: Time) {
        self.unproven = Some(now);
    }

    /// The connection is of use: somebody's request was answered, or a ping.
    pub(crate) fn succeeded(&mut self) {
        (self.failed, self.rounds, self.unproven) = (0, 0, None);
    }

    /// When to try after a connection with a session is lost.
    pub(crate) fn after_loss(&mut self, now: Time) -> Time {
        let jitter_ms = self.jitter_ms();
        let at = match self.unproven {
            // It was taken and dropped at once: without a wait that grows this would go on at full speed.
            Some(attached) if now < attached.plus(LONGEST_WAIT_MS) => self.after_failure(now),
            _ => {
                self.succeeded();
                now
            }
        };
        at.plus(jitter_ms)
    }

    /// When to try after the session is lost: to get a new one is no repetition.
    pub(crate) fn after_expiry(&mut self, now: Time) -> Time {
        now.plus(self.jitter_ms())
    }

    fn jitter_ms(&mut self) -> u64 {
        self.chance.u64(0..=self.jitter_ms)
    }

    /// When to try after an attempt failed.
    pub(crate) fn after_failure(&mut self, now: Time) -> Time {
        self.failed += 1;
        if !self.failed.is_multiple_of(self.order.len()) {
            return now;
        }
        let wait = FIRST_WAIT_MS
            .saturating_mul(1 << self.rounds.min(16))
            .min(LONGEST_WAIT_MS);
        self.rounds = self.rounds.saturating_add(1);
        now.plus(wait / 2 + self.chance.u64(0..=wait / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fs_c13_every_host_is_tried_within_one_round() {
        for seed in 0..50 {
            let mut rotation = Rotation::new(5, 100, seed);
            for _ in 0..3 {
                let mut round: Vec<_> = (0..5).map(|_| rotation.take()).collect();
                round.sort_unstable();
                assert_eq!(round, [0, 1, 2, 3, 4]);
            }
        }
        assert_eq!(Rotation::new(1, 100, 7).peek_other(0), None);
    }

    #[test]
    fn fs_c13_a_thousand_clients_come_back_spread_out() {
        let mut buckets = [0usize; 10];
        for seed in 0..1_000 {
            let mut rotation = Rotation::new(3, 100, seed);
            let mut now = Time(0);
            now = rotation.after_loss(now);
            for _ in 0..3 {
                now = rotation.after_failure(now);
            }
            assert!((100..=300).contains(&now.0), "{now:?}");
            buckets[usize::try_from((now.0 - 100) / 20).unwrap().min(9)] += 1;
        }
        assert!(buckets.iter().all(|clients| *clients < 250), "{buckets:?}");
    }

    #[test]
    fn only_a_connection_of_use_starts_the_waits_anew() {
        let mut rotation = Rotation::new(1, 0, 3);
        let lost_after = |rotation: &mut Rotation, ms| {
            rotation.attached(Time(0));
            rotation.after_loss(Time(ms)).0 - ms
        };
        let waits: Vec<_> = (0..20).map(|_| lost_after(&mut rotation, 1)).collect();
        assert!(
            (100..=200).contains(&waits[0]) && waits[10] >= 2_500,
            "{waits:?}"
        );
        // It stood for long, though nobody asked it for anything.
        assert_eq!(lost_after(&mut rotation, LONGEST_WAIT_MS), 0);
        assert!(lost_after(&mut rotation, 1) <= 200);
        rotation.attached(Time(0));
        rotation.succeeded();
        assert_eq!(rotation.after_loss(Time(1)), Time(1));
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let mut rotation = Rotation::new(1, 100, 3);
        let mut waits = Vec::new();
        for _ in 0..100 {
            waits.push(rotation.after_failure(Time(0)).0);
        }
        assert!((100..=200).contains(&waits[0]));
        assert!(
            waits[50..]
                .iter()
                .all(|wait| (2_500..=5_000).contains(wait))
        );
    }
}
