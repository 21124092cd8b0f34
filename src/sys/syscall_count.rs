//! Counts the system calls that this crate makes, so that a budget of calls per frame can be asserted.

use std::cell::Cell;

use nix::errno::Errno;

thread_local! {
    // Per thread: costs no shared cache line, and a budget of one loop is not blurred by its neighbors.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// System calls of this thread. vDSO calls (`clock_gettime`) are not among them.
pub(crate) fn total() -> u64 {
    // A thread that is being torn down has no count any more.
    CALLS.try_with(Cell::get).unwrap_or(0)
}

/// Counts one call that is made elsewhere.
pub(crate) fn tick() {
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
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
