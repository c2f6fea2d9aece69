//! Owner tokens: re-entry for code that cannot pass a guard down.
//!
//! A token is an identity and nothing else. Which holds it has is kept by each mutex, since re-entry is per instance, as it
//! is in Java. It must not know a client.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Who acquires: equal owners share a hold of one [`InterProcessMutex`](super::InterProcessMutex).
///
/// Threads do not identify anybody here, since tasks move between them; a token does. Clones are equal; each
/// [`new`](Self::new) one is like no other.
///
/// ```
/// use zk_recipes::Owner;
/// let owner = Owner::new();
/// assert_eq!(owner, owner.clone());
/// assert_ne!(owner, Owner::new());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(u64);

impl Owner {
    /// An owner unlike all others of this process.
    #[expect(
        clippy::new_without_default,
        reason = "a default value that differs each time would surprise"
    )]
    pub fn new() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What each owner holds of one mutex. `H` is the shared part of the guards.
#[derive(Debug)]
pub(crate) struct Holds<H> {
    slots: Mutex<BTreeMap<u64, Slot<H>>>,
}

/// One owner's hold. Locked over an acquire, so that two tasks of one owner do not queue behind each other.
pub(crate) type Slot<H> = Arc<tokio::sync::Mutex<Weak<H>>>;

impl<H> Holds<H> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::default(),
        }
    }

    /// The owner's slot. Slots that nobody uses and that hold nothing are forgotten on the way.
    pub(crate) fn slot(&self, owner: &Owner) -> Slot<H> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|hold| hold.strong_count() > 0)
        });
        let slot = slots
            .entry(owner.0)
            .or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Weak::new())));
        Arc::clone(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_owners_that_hold_nothing_are_forgotten() {
        let holds = Holds::<u8>::new();
        let (one, two) = (Owner::new(), Owner::new());
        let held = Arc::new(1);
        *holds.slot(&one).try_lock().unwrap() = Arc::downgrade(&held);
        let busy = holds.slot(&two);
        for _ in 0..100 {
            drop(holds.slot(&Owner::new()));
        }
        // The last of the hundred goes with the next call.
        assert_eq!(holds.slots.lock().unwrap().len(), 3);
        assert!(Arc::ptr_eq(&busy, &holds.slot(&two)));
        assert!(holds.slot(&one).try_lock().unwrap().upgrade().is_some());
        drop((held, busy));
        drop(holds.slot(&two));
        assert_eq!(holds.slots.lock().unwrap().len(), 1);
    }
}
