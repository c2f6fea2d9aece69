//! Retry policies: how long to wait before the next attempt, if there is one.
//!
//! Pure: a policy is asked with the number of attempts already repeated and the time since the first one, and answers
//! the same for the same question (jitter included: it comes from a seed in the policy). It must not know what is being
//! retried, nor sleep. All arithmetic saturates: no policy overflows, however long it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;

/// How long to wait before another attempt: a pure function.
///
/// `attempt` counts the retries already made (0 when the first attempt has just failed), `elapsed` is the time since the
/// first attempt began. `None` ends the loop, and the error of the last attempt is what the caller gets.
///
/// ```
/// use std::time::Duration;
/// use zk_client::retry::{RetryNTimes, RetryPolicy};
///
/// let policy = RetryNTimes::new(2, Duration::from_millis(50));
/// assert_eq!(policy.delay(0, Duration::ZERO), Some(Duration::from_millis(50)));
/// assert_eq!(policy.delay(2, Duration::ZERO), None);
/// ```
pub trait RetryPolicy: fmt::Debug + Send + Sync {
    /// The wait before retry number `attempt` (from 0), or `None` to give up.
    fn delay(&self, attempt: u32, elapsed: Duration) -> Option<Duration>;
}

impl<P: RetryPolicy + ?Sized> RetryPolicy for Arc<P> {
    fn delay(&self, attempt: u32, elapsed: Duration) -> Option<Duration> {
        (**self).delay(attempt, elapsed)
    }
}

impl<P: RetryPolicy + ?Sized> RetryPolicy for Box<P> {
    fn delay(&self, attempt: u32, elapsed: Duration) -> Option<Duration> {
        (**self).delay(attempt, elapsed)
    }
}

/// At most `n` retries with the same wait before each (Curator's `RetryNTimes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryNTimes {
    retries: u32,
    sleep: Duration,
}

impl RetryNTimes {
    /// `retries` may be 0: then the first error is final.
    pub const fn new(retries: u32, sleep: Duration) -> Self {
        Self { retries, sleep }
    }
}

impl RetryPolicy for RetryNTimes {
    fn delay(&self, attempt: u32, _elapsed: Duration) -> Option<Duration> {
        (attempt < self.retries).then_some(self.sleep)
    }
}

/// One retry (Curator's `RetryOneTime`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOneTime {
    sleep: Duration,
}

impl RetryOneTime {
    /// Waits `sleep` before the only retry.
    pub const fn new(sleep: Duration) -> Self {
        Self { sleep }
    }
}

impl RetryPolicy for RetryOneTime {
    fn delay(&self, attempt: u32, _elapsed: Duration) -> Option<Duration> {
        (attempt == 0).then_some(self.sleep)
    }
}

/// Retries until it works, or until a deadline of [`Retry`](super::Retry) or the end of the client stops it (Curator's
/// `RetryForever`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryForever {
    sleep: Duration,
}

impl RetryForever {
    /// The shortest wait, so that "for ever" is never a busy loop.
    pub const MIN_SLEEP: Duration = Duration::from_millis(1);

    /// Waits `sleep` before each retry; less than [`MIN_SLEEP`](Self::MIN_SLEEP) is raised to it (Curator refuses 0).
    pub const fn new(sleep: Duration) -> Self {
        if sleep.as_nanos() < Self::MIN_SLEEP.as_nanos() {
            Self {
                sleep: Self::MIN_SLEEP,
            }
        } else {
            Self { sleep }
        }
    }
}

impl RetryPolicy for RetryForever {
    fn delay(&self, _attempt: u32, _elapsed: Duration) -> Option<Duration> {
        Some(self.sleep)
    }
}

/// Retries while less than a total time has gone by (Curator's `RetryUntilElapsed`).
///
/// Curator sleeps once more before it notices that the time is over; this one does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryUntilElapsed {
    total: Duration,
    sleep: Duration,
}

impl RetryUntilElapsed {
    /// A retry is granted while `elapsed < total`; it starts `sleep` later.
    pub const fn new(total: Duration, sleep: Duration) -> Self {
        Self { total, sleep }
    }
}

impl RetryPolicy for RetryUntilElapsed {
    fn delay(&self, _attempt: u32, elapsed: Duration) -> Option<Duration> {
        (elapsed < self.total).then_some(self.sleep)
    }
}

/// Growing waits with full jitter: `base * max(1, random in 0..2^(n+1))`, at most `max_retries` times (Curator's
/// `ExponentialBackoffRetry`).
///
/// The randomness comes from a seed taken at construction, one draw per attempt number: two clients spread out, and one
/// policy gives the same answer to the same question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExponentialBackoff {
    base: Duration,
    max_retries: u32,
    cap: Duration,
    seed: u64,
}

impl ExponentialBackoff {
    /// Curator's upper limit of one wait, 2^31 - 1 ms (24.8 days).
    pub const DEFAULT_CAP: Duration = Duration::from_millis(i32::MAX as u64);
    /// Beyond this exponent the range of the jitter no longer grows (Curator pins retries to the same number; ours
    /// go on with the widest range).
    const MAX_EXPONENT: u32 = 30;

    /// Waits grow from `base`; after `max_retries` retries the error is final.
    pub fn new(base: Duration, max_retries: u32) -> Self {
        Self {
            base,
            max_retries,
            cap: Self::DEFAULT_CAP,
            seed: fastrand::u64(..),
        }
    }

    /// The same with a seed of the caller's: for tests that must repeat.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn uncapped(&self, attempt: u32) -> Duration {
        let range = 1u32 << attempt.saturating_add(1).min(Self::MAX_EXPONENT);
        // A generator per question keeps the policy a pure function; the multiplier spreads neighbouring attempts.
        let mut rng = fastrand::Rng::with_seed(
            self.seed.wrapping_add(
                u64::from(attempt)
                    .wrapping_add(1)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15),
            ),
        );
        self.base.saturating_mul(rng.u32(0..range).max(1))
    }
}

impl RetryPolicy for ExponentialBackoff {
    fn delay(&self, attempt: u32, _elapsed: Duration) -> Option<Duration> {
        (attempt < self.max_retries).then(|| self.uncapped(attempt).min(self.cap))
    }
}

/// [`ExponentialBackoff`] whose waits never exceed a limit of the caller's (Curator's `BoundedExponentialBackoffRetry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundedExponentialBackoff {
    inner: ExponentialBackoff,
}

impl BoundedExponentialBackoff {
    /// Waits grow from `base` to at most `cap`; after `max_retries` retries the error is final.
    pub fn new(base: Duration, cap: Duration, max_retries: u32) -> Self {
        Self {
            inner: ExponentialBackoff {
                cap,
                ..ExponentialBackoff::new(base, max_retries)
            },
        }
    }

    /// The same with a seed of the caller's: for tests that must repeat.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.inner.seed = seed;
        self
    }
}

impl RetryPolicy for BoundedExponentialBackoff {
    fn delay(&self, attempt: u32, elapsed: Duration) -> Option<Duration> {
        self.inner.delay(attempt, elapsed)
    }
}

/// A policy out of a sequence of waits: one of `backon`'s builders, or any cloneable iterator of [`Duration`]s. The end
/// of the sequence ends the retries.
///
/// Each question builds the sequence anew and takes its n-th element, so the sequence should be cheap to step: with
/// a hundred retries that is some five thousand steps in all, nothing beside the waits themselves.
///
/// ```
/// use std::time::Duration;
/// use zk_client::retry::{Delays, RetryPolicy};
///
/// let steps = [10, 100, 1000].map(Duration::from_millis);
/// let policy = Delays::new(steps.into_iter());
/// assert_eq!(policy.delay(1, Duration::ZERO), Some(Duration::from_millis(100)));
/// assert_eq!(policy.delay(3, Duration::ZERO), None);
///
/// let policy = Delays::new(backon::FibonacciBuilder::default().with_max_times(5));
/// assert!(policy.delay(4, Duration::ZERO).is_some());
/// ```
#[derive(Clone)]
pub struct Delays<B> {
    sequence: B,
}

impl<B: BackoffBuilder + Clone> Delays<B> {
    /// Takes the builder or iterator; it is cloned for each question.
    pub const fn new(sequence: B) -> Self {
        Self { sequence }
    }
}

impl<B> fmt::Debug for Delays<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delays").finish_non_exhaustive()
    }
}

impl<B: BackoffBuilder + Clone> RetryPolicy for Delays<B> {
    fn delay(&self, attempt: u32, _elapsed: Duration) -> Option<Duration> {
        let index = usize::try_from(attempt).ok()?;
        self.sequence.clone().build().nth(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn counted_policies_stop_after_their_number() {
        let n = RetryNTimes::new(3, MS);
        assert_eq!(
            (0..5).map(|a| n.delay(a, MS)).collect::<Vec<_>>(),
            [Some(MS), Some(MS), Some(MS), None, None]
        );
        assert_eq!(RetryNTimes::new(0, MS).delay(0, MS), None);
        let one = RetryOneTime::new(MS * 7);
        assert_eq!((one.delay(0, MS), one.delay(1, MS)), (Some(MS * 7), None));
    }

    #[test]
    fn forever_never_ends_and_never_spins() {
        let forever = RetryForever::new(Duration::ZERO);
        assert_eq!(
            forever.delay(u32::MAX, Duration::MAX),
            Some(RetryForever::MIN_SLEEP)
        );
        assert_eq!(RetryForever::new(MS * 9).delay(0, MS), Some(MS * 9));
    }

    #[test]
    fn until_elapsed_looks_only_at_the_clock() {
        let policy = RetryUntilElapsed::new(MS * 100, MS * 40);
        assert_eq!(policy.delay(1000, MS * 99), Some(MS * 40));
        assert_eq!(policy.delay(0, MS * 100), None);
    }

    #[test]
    fn a_fixed_list_is_a_policy() {
        let policy = Delays::new(vec![MS, MS * 2].into_iter());
        assert_eq!(
            (0..3).map(|a| policy.delay(a, MS)).collect::<Vec<_>>(),
            [Some(MS), Some(MS * 2), None]
        );
    }

    #[test]
    fn backon_supplies_delays() {
        let policy = Delays::new(
            backon::ExponentialBuilder::default()
                .with_min_delay(MS * 10)
                .with_factor(2.0)
                .with_max_times(3),
        );
        // backon multiplies in floating point.
        let rounded = |delay: Duration| (delay.as_secs_f64() * 1000.0).round() as u64;
        assert_eq!(
            (0..4)
                .map(|a| policy.delay(a, MS).map(rounded))
                .collect::<Vec<_>>(),
            [Some(10), Some(20), Some(40), None]
        );
    }

    proptest! {
        #[test]
        fn exponential_stays_in_curators_range(seed: u64, base in 0u64..10_000, attempt in 0u32..100, max in 0u32..100) {
            let policy = ExponentialBackoff::new(Duration::from_millis(base), max).seed(seed);
            let delay = policy.delay(attempt, Duration::ZERO);
            prop_assert_eq!(delay.is_some(), attempt < max);
            if let Some(delay) = delay {
                let base = Duration::from_millis(base);
                let widest = base.saturating_mul(1 << (attempt + 1).min(30)).min(ExponentialBackoff::DEFAULT_CAP);
                prop_assert!(delay >= base.min(ExponentialBackoff::DEFAULT_CAP) && delay <= widest);
                // Pure: asked again, the same answer.
                prop_assert_eq!(policy.delay(attempt, Duration::MAX), Some(delay));
            }
        }

        #[test]
        fn no_policy_overflows(seed: u64, attempt: u32, secs: u64) {
            let base = Duration::from_secs(secs);
            let cap = Duration::from_secs(3);
            let bounded = BoundedExponentialBackoff::new(base, cap, u32::MAX).seed(seed);
            prop_assert!(bounded.delay(attempt, Duration::MAX).is_none_or(|d| d <= cap));
            let plain = ExponentialBackoff::new(base, u32::MAX).seed(seed);
            prop_assert!(plain.delay(attempt, base).is_none_or(|d| d <= ExponentialBackoff::DEFAULT_CAP));
        }
    }

    #[test]
    fn two_seeds_spread_out() {
        let at = |seed| ExponentialBackoff::new(MS, 20).seed(seed).delay(15, MS);
        let distinct: std::collections::BTreeSet<_> = (0..32).map(at).collect();
        assert!(
            distinct.len() > 24,
            "32 clients share {} delays",
            distinct.len()
        );
    }
}
