//! Lease counts of the slots of a pool. They are atomics: no descriptor, no memory, no lock.

#[cfg(loom)]
use loom::sync::atomic::{fence, AtomicU32, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{fence, AtomicU32, Ordering};

/// Counts from here on are saturated: a program has leaked billions of clones (`mem::forget`). Such a slot counts as
/// leased forever, so it is never filled again under a frame that is still read.
const LIMIT: u32 = u32::MAX / 2 + 1;
/// The count of a saturated slot. It is as far as possible from `LIMIT` and from 0, so that calls that run at the same
/// time cannot move it there.
const SATURATED: u32 = LIMIT + LIMIT / 2;

/// The lease count of each slot. A count of 0 means that the driver, the allocator or the publisher has the slot.
#[derive(Debug)]
pub(crate) struct Slots(Box<[AtomicU32]>);

impl Slots {
    /// Creates `count` slots without a lease.
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins the first lease. Returns `false` if the slot does not exist or is leased.
    pub(crate) fn lend(&self, slot: usize) -> bool {
        // Acquire: the last holder's accesses to the pixels happen before the next holder's.
        self.0.get(slot).is_some_and(|n| n.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok())
    }

    /// Adds a lease to a slot that the caller already leases.
    pub(crate) fn share(&self, slot: usize) {
        // Relaxed: the caller's own lease keeps the slot from being lent again, as in `Arc::clone`.
        let before = self.0[slot].fetch_add(1, Ordering::Relaxed);
        debug_assert_ne!(before, 0, "a lease was cloned that did not exist");
        if before >= LIMIT - 1 {
            self.0[slot].store(SATURATED, Ordering::Relaxed);
        }
    }

    /// Returns `true` if the caller's lease is the only one. No other thread can add a lease then.
    pub(crate) fn is_sole(&self, slot: usize) -> bool {
        // Acquire: earlier holders' accesses to the pixels happen before the caller's.
        self.0.get(slot).is_some_and(|n| n.load(Ordering::Acquire) == 1)
    }

    /// Ends a lease. Returns `true` if it was the last: the caller must then return the slot to its owner.
    pub(crate) fn give_back(&self, slot: usize) -> bool {
        // Release: this holder's accesses happen before the slot is lent again.
        match self.0[slot].fetch_sub(1, Ordering::Release) {
            1 => {}
            before => {
                if before >= LIMIT {
                    self.0[slot].store(SATURATED, Ordering::Relaxed);
                }
                return false;
            }
        }
        fence(Ordering::Acquire);
        true
    }

    /// Sets the count of a slot, as if it had been cloned that often.
    #[cfg(any(test, loom))]
    pub(crate) fn set(&self, slot: usize, leases: u32) {
        self.0[slot].store(leases, Ordering::Relaxed);
    }

    /// Returns the number of leased slots.
    pub(crate) fn leased(&self) -> usize {
        self.0.iter().filter(|n| n.load(Ordering::Relaxed) != 0).count()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn slot_returns_with_its_last_lease() {
        let slots = Slots::new(2);
        assert!(slots.lend(0));
        assert!(!slots.lend(0), "lent twice");
        assert!(!slots.lend(2), "no such slot");
        assert!(slots.is_sole(0));
        slots.share(0);
        assert!(!slots.is_sole(0) && !slots.is_sole(1));
        assert_eq!(slots.leased(), 1);
        assert!(!slots.give_back(0));
        assert!(slots.give_back(0));
        assert_eq!(slots.leased(), 0);
        assert!(slots.lend(0));
    }

    #[test]
    fn lease_count_saturates_and_never_lends_the_slot_again() {
        let slots = Slots::new(1);
        for leases in [LIMIT - 1, LIMIT, SATURATED, u32::MAX] {
            slots.set(0, leases);
            slots.share(0);
            assert!(!slots.lend(0) && !slots.is_sole(0), "{leases} leases, and one more");
            // As many ends as a program can have in flight.
            for _ in 0..1000 {
                assert!(!slots.give_back(0), "{leases}");
            }
            assert!(!slots.lend(0) && slots.leased() == 1, "{leases}");
        }
    }

    #[test]
    fn exactly_one_thread_sees_the_last_lease() {
        let slots = Arc::new(Slots::new(1));
        for _ in 0..if cfg!(miri) { 5 } else { 500 } {
            assert!(slots.lend(0));
            for _ in 0..3 {
                slots.share(0);
            }
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let slots = Arc::clone(&slots);
                    std::thread::spawn(move || usize::from(slots.give_back(0)))
                })
                .collect();
            assert_eq!(threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>(), 1);
        }
    }
}
