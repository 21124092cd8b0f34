//! Tries every order of memory accesses around a slot's leases, with the model checker loom.
#![cfg(test)]

#[path = "../../src/frame/slots.rs"]
mod slots;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use slots::Slots;

/// A pool of one buffer of one pixel, which loom watches.
struct Pool {
    slots: Slots,
    pixel: UnsafeCell<u32>,
}

// SAFETY: contract: the test checks that the slots keep accesses apart; loom reports each one that they do not.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    fn new() -> Arc<Self> {
        Arc::new(Self { slots: Slots::new(1), pixel: UnsafeCell::new(0) })
    }

    fn write(&self, value: u32) {
        // SAFETY: as above.
        self.pixel.with_mut(|pixel| unsafe { *pixel = value });
    }

    fn read(&self) -> u32 {
        // SAFETY: as above.
        self.pixel.with(|pixel| unsafe { *pixel })
    }
}

#[test]
fn slot_is_filled_again_after_all_have_read_it() {
    loom::model(|| {
        let pool = Pool::new();
        assert!(pool.slots.lend(0));
        pool.write(1);
        pool.slots.share(0);
        let reader = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || end(&pool))
        };
        let own = end(&pool);
        assert!(reader.join().unwrap() ^ own, "exactly one of them frees the slot");
        assert_eq!(pool.slots.leased(), 0);
    });
}

/// Reads, ends the lease, and fills the slot again if it was the last reader.
fn end(pool: &Pool) -> bool {
    assert_eq!(pool.read(), 1);
    let is_last = pool.slots.give_back(0);
    if is_last {
        assert!(pool.slots.lend(0), "no other lease exists");
        pool.write(2);
        assert!(pool.slots.give_back(0));
    }
    is_last
}

#[test]
fn lease_of_the_only_holder_may_write() {
    loom::model(|| {
        let pool = Pool::new();
        assert!(pool.slots.lend(0));
        pool.slots.share(0);
        let reader = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.read();
                pool.slots.give_back(0);
            })
        };
        if pool.slots.is_sole(0) {
            pool.write(3);
        }
        pool.slots.give_back(0);
        reader.join().unwrap();
    });
}

#[test]
fn slot_is_lent_to_one() {
    loom::model(|| {
        let pool = Pool::new();
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || take(&pool))
        };
        take(&pool);
        other.join().unwrap();
    });
}

fn take(pool: &Pool) {
    if pool.slots.lend(0) {
        pool.write(4);
        assert!(pool.slots.give_back(0));
    }
}

/// Two threads clone and end leases where the count saturates: the slot is never lent again.
#[test]
fn lease_count_saturates_in_every_order() {
    loom::model(|| {
        let pool = Pool::new();
        pool.slots.set(0, u32::MAX / 2 - 1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.slots.share(0);
                pool.slots.share(0);
                pool.slots.give_back(0)
            })
        };
        pool.slots.share(0);
        let is_last = pool.slots.give_back(0);
        assert!(!is_last && !other.join().unwrap());
        assert!(!pool.slots.lend(0) && pool.slots.leased() == 1);
    });
}
