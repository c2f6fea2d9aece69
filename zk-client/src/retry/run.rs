//! The retry loop: asks the policy, sleeps, keeps the deadline.
//!
//! Knows the clock of the runtime and the two questions that an [`Error`] answers (may it pass? was anything done?). It
//! must not know operations: what may be repeated is handed in as a [`Repeat`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use zk_proto::OpCode;

use super::policy::RetryPolicy;
use crate::error::{Error, Outcome};

/// What an operation allows after an attempt whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Repeat only what is known not to have happened.
    IfNotDone,
    /// The operation may run twice without harm (reads; writes that recognise their own work).
    Always,
}

impl Repeat {
    /// Whether `error` leaves room for another attempt; the policy may still say no.
    ///
    /// Pure: this is the table of the [module page](super), without the rows that look a node up.
    pub fn allows(self, error: &Error) -> bool {
        error.is_retryable() && (self == Self::Always || error.outcome() == Outcome::NotDone)
    }
}

/// A policy with a deadline: what [`Client::retrying`](crate::Client::retrying) applies to every operation of a view, and
/// what [`run`](Self::run) applies to a future of the caller's.
///
/// ```
/// use std::time::Duration;
/// use zk_client::retry::{ExponentialBackoff, Retry};
///
/// let retry = Retry::new(ExponentialBackoff::new(Duration::from_millis(50), 8)).deadline(Duration::from_secs(10));
/// # let _ = retry;
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    policy: Arc<dyn RetryPolicy>,
    deadline: Option<Duration>,
}

impl Retry {
    /// A loop under `policy`, without a deadline.
    pub fn new(policy: impl RetryPolicy + 'static) -> Self {
        Self {
            policy: Arc::new(policy),
            deadline: None,
        }
    }

    /// Ends the whole call, waits included, `after` its start. An attempt that is under way at that moment is dropped; its
    /// outcome is then unknown and the error says so.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    /// Runs `attempt` until it succeeds, fails for good, or the policy or the deadline ends it. Repeats only errors that
    /// say that nothing was done; use [`run_repeatable`](Self::run_repeatable) for work that may be done twice.
    ///
    /// Operations inside `attempt` should come from a client without a policy of its own, or the attempts multiply.
    ///
    /// ```no_run
    /// # async fn f(client: zk_client::Client) -> Result<(), zk_client::Error> {
    /// use std::time::Duration;
    /// use zk_client::retry::{Retry, RetryNTimes};
    ///
    /// let retry = Retry::new(RetryNTimes::new(3, Duration::from_millis(100)));
    /// let stat = retry.run(|| client.set_data("/counter", "7").version(3).send()).await?;
    /// # let _ = stat; Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the last attempt; or one of kind [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), where the
    /// deadline cut an attempt off.
    ///
    /// # Cancellation
    ///
    /// As the attempt that is under way.
    pub async fn run<T, Fut>(&self, attempt: impl FnMut() -> Fut) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        self.run_as(Repeat::IfNotDone, attempt).await
    }

    /// As [`run`](Self::run) for work that may be done twice: an unknown outcome is repeated as well.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancellation
    ///
    /// As the attempt that is under way.
    pub async fn run_repeatable<T, Fut>(&self, attempt: impl FnMut() -> Fut) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        self.run_as(Repeat::Always, attempt).await
    }

    async fn run_as<T, Fut>(
        &self,
        repeat: Repeat,
        mut attempt: impl FnMut() -> Fut,
    ) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut budget = Budget::new(Some(self.clone()));
        loop {
            match budget.limit(attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => match budget.next(error, repeat).await {
                    Verdict::Again => {}
                    Verdict::GiveUp(error) => return Err(error),
                },
                Err(Late) => return Err(Error::deadline_exceeded(OpCode::ERROR, None)),
            }
        }
    }
}

/// The deadline came first.
#[derive(Debug)]
struct Late;

/// What the loop decided about an error.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The wait is over: try again.
    Again,
    /// This is what the caller gets.
    GiveUp(Error),
}

/// Attempts and time left of one call. An operation of several requests passes one budget through all of them.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The policy, and when the call began: without a policy nobody asks for the time.
    retry: Option<(Retry, Instant)>,
    attempt: u32,
}

impl Budget {
    /// Starts the clock. Without a `retry` the first error is final.
    pub(crate) fn new(retry: Option<Retry>) -> Self {
        Self {
            retry: retry.map(|retry| (retry, Instant::now())),
            attempt: 0,
        }
    }

    /// The end of the call, whatever is under way then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (retry, started) = self.retry.as_ref()?;
        // A deadline beyond what the clock can express is none.
        started.checked_add(retry.deadline?)
    }

    /// Runs one attempt, at most until the deadline.
    async fn limit<T>(&self, request: impl Future<Output = T>) -> Result<T, Late> {
        match self.deadline() {
            None => Ok(request.await),
            Some(at) => tokio::time::timeout_at(at, request).await.map_err(|_| Late),
        }
    }

    /// Waits as the policy says and spends one retry, or hands `error` back.
    pub(crate) async fn next(&mut self, error: Error, repeat: Repeat) -> Verdict {
        let Some((retry, started)) = self.retry.as_ref().filter(|_| repeat.allows(&error)) else {
            return Verdict::GiveUp(error);
        };
        let Some(delay) = retry.policy.delay(self.attempt, started.elapsed()) else {
            return Verdict::GiveUp(error);
        };
        let wake = Instant::now().checked_add(delay);
        let (Some(wake), true) = (
            wake,
            self.deadline()
                .is_none_or(|end| wake.is_some_and(|wake| wake < end)),
        ) else {
            // The next attempt could not start before the deadline: tell the caller now.
            return Verdict::GiveUp(error);
        };
        tracing::debug!(attempt = self.attempt, ?delay, %error, "will retry");
        tokio::time::sleep_until(wake).await;
        self.attempt = self.attempt.saturating_add(1);
        Verdict::Again
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use zk_proto::ErrorCode;

    use super::*;
    use crate::retry::{RetryForever, RetryNTimes};

    const SECOND: Duration = Duration::from_secs(1);

    fn lost(outcome: Outcome) -> Error {
        Error::connection_lost(OpCode::SET_DATA, Some("/a".to_owned()), outcome)
    }

    fn refused() -> Error {
        Error::server(OpCode::SET_DATA, Some("/a".to_owned()), ErrorCode::NO_AUTH)
    }

    /// Runs attempts that fail as `error` says; returns how many there were, and the time they took.
    async fn failing(
        retry: &Retry,
        repeat: Repeat,
        error: impl Fn() -> Error,
    ) -> (u32, Duration, Error) {
        let attempts = Cell::new(0);
        let start = Instant::now();
        let failed = retry.run_as(repeat, || {
            attempts.set(attempts.get() + 1);
            std::future::ready(Err::<(), _>(error()))
        });
        let error = failed.await.unwrap_err();
        (attempts.get(), start.elapsed(), error)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_done_is_repeated_as_the_policy_says() {
        let retry = Retry::new(RetryNTimes::new(3, SECOND));
        let (attempts, took, _) =
            failing(&retry, Repeat::IfNotDone, || lost(Outcome::NotDone)).await;
        assert_eq!((attempts, took), (4, SECOND * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_is_repeated_only_where_that_is_harmless() {
        let retry = Retry::new(RetryNTimes::new(3, SECOND));
        assert_eq!(
            failing(&retry, Repeat::IfNotDone, || lost(Outcome::Unknown))
                .await
                .0,
            1
        );
        assert_eq!(
            failing(&retry, Repeat::Always, || lost(Outcome::Unknown))
                .await
                .0,
            4
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_never_asked_for_again() {
        let retry = Retry::new(RetryForever::new(SECOND));
        let (attempts, took, error) = failing(&retry, Repeat::Always, refused).await;
        assert_eq!(
            (attempts, took, error.code()),
            (1, Duration::ZERO, Some(ErrorCode::NO_AUTH))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_begins_that_would_end_after_the_deadline() {
        let retry = Retry::new(RetryForever::new(SECOND * 2)).deadline(SECOND * 5);
        let (attempts, took, error) =
            failing(&retry, Repeat::Always, || lost(Outcome::NotDone)).await;
        assert_eq!((attempts, took), (3, SECOND * 4));
        assert!(
            error.is_retryable(),
            "the caller gets the last attempt's error: {error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_an_attempt_off_and_says_that_it_may_have_worked() {
        let retry = Retry::new(RetryForever::new(SECOND)).deadline(SECOND * 5);
        let start = Instant::now();
        let error = retry
            .run(std::future::pending::<Result<(), Error>>)
            .await
            .unwrap_err();
        assert_eq!(
            (start.elapsed(), error.outcome()),
            (SECOND * 5, Outcome::Unknown)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn success_ends_the_loop() {
        let retry = Retry::new(RetryForever::new(SECOND));
        let left = Cell::new(2);
        let value = retry.run(|| {
            left.set(left.get() - 1);
            std::future::ready(if left.get() == 0 {
                Ok(7)
            } else {
                Err(lost(Outcome::NotDone))
            })
        });
        assert_eq!(value.await.unwrap(), 7);
    }
}
