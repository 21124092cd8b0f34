//! Counts the system calls that this crate makes, so that a budget of calls per frame can be asserted.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

static CALLS: AtomicU64 = AtomicU64::new(0);

/// System calls since the process began. vDSO calls (`clock_gettime`) are not among them.
pub(crate) fn total() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Counts one call that is made elsewhere.
pub(crate) fn tick() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// Makes a call until a signal does not interrupt it.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        tick();
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}
