//! How other threads reach the poller: connections with news, pipes to take up, or the server's end.
//!
//! The poller is woken by a system call only when it sleeps; what comes while it works is found before it sleeps again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::DuplexStream;

/// A place in the poller's table, and the token of its socket. Given again once its connection is gone, so whoever is
/// called for nothing looks and finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// See the [module page](self).
#[derive(Debug)]
pub(crate) struct Alarm {
    waker: mio::Waker,
    calls: Mutex<Calls>,
}

/// What the poller has not seen.
#[derive(Debug, Default)]
struct Calls {
    /// It sleeps, or is about to, and nobody has woken it.
    asleep: bool,
    /// There is something, perhaps only a reason to look around.
    news: bool,
    /// Bounded: a link calls once until it was looked at.
    slots: Vec<Slot>,
    pipes: Vec<DuplexStream>,
}

impl Alarm {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self {
            waker,
            calls: Mutex::default(),
        }
    }

    /// Makes the poller look at a connection.
    pub(crate) fn call(&self, slot: Slot) {
        self.tell(|calls| calls.slots.push(slot));
    }

    /// Gives the poller the server's end of a pipe inside the process.
    pub(crate) fn bring(&self, pipe: DuplexStream) {
        self.tell(|calls| calls.pipes.push(pipe));
    }

    /// Makes the poller look whether the server goes on.
    pub(crate) fn ring(&self) {
        self.tell(|_| {});
    }

    fn tell(&self, tell: impl FnOnce(&mut Calls)) {
        let mut calls = lock(&self.calls);
        tell(&mut calls);
        calls.news = true;
        let asleep = std::mem::take(&mut calls.asleep);
        drop(calls);
        if asleep && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the thread of the connections");
        }
    }

    /// The poller wants to sleep; false if it must not, because somebody called.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut calls = lock(&self.calls);
        calls.asleep = !calls.news;
        calls.asleep
    }

    /// The poller is awake and takes what there is.
    pub(crate) fn take(&self, slots: &mut Vec<Slot>, pipes: &mut Vec<DuplexStream>) {
        let mut calls = lock(&self.calls);
        calls.asleep = false;
        calls.news = false;
        slots.append(&mut calls.slots);
        pipes.append(&mut calls.pipes);
    }
}

/// The lock guards plain lists that no panic leaves half changed.
fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_sleeps_over_a_call() {
        let mut poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let alarm = Arc::new(Alarm::new(waker));
        let mut events = mio::Events::with_capacity(4);
        let (mut slots, mut pipes) = (Vec::new(), Vec::new());

        // Called while awake: no system call, and no sleep.
        alarm.call(Slot(1));
        assert!(!alarm.may_sleep());
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        alarm.take(&mut slots, &mut pipes);
        assert_eq!(slots, [Slot(1)]);

        // Called while asleep, by many: each is heard.
        assert!(alarm.may_sleep());
        let callers: Vec<_> = (2..6)
            .map(|number| {
                let alarm = Arc::clone(&alarm);
                std::thread::spawn(move || alarm.call(Slot(number)))
            })
            .collect();
        poll.poll(&mut events, Some(Duration::from_secs(30)))
            .unwrap();
        assert!(!events.is_empty());
        callers
            .into_iter()
            .for_each(|caller| caller.join().unwrap());
        alarm.take(&mut slots, &mut pipes);
        slots.sort_unstable_by_key(|slot| slot.0);
        assert_eq!(slots, (1..6).map(Slot).collect::<Vec<_>>());

        // A reason to look around is enough.
        alarm.ring();
        assert!(!alarm.may_sleep());
        alarm.take(&mut slots, &mut pipes);
        assert!(alarm.may_sleep());
    }
}
