//! Counts the system calls of this crate, so that tests can assert a budget per frame.

use std::cell::Cell;

use nix::errno::Errno;

thread_local! {
    // Per thread: threads share no cache line, and do not disturb each other's budgets.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Returns the number of system calls of this thread. vDSO calls (`clock_gettime`) are not counted.
pub(crate) fn total() -> u64 {
    // A thread that is ending has no count any more.
    CALLS.try_with(Cell::get).unwrap_or(0)
}

/// Counts one call that other code makes.
pub(crate) fn tick() {
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

/// Repeats a call while signals interrupt it.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        tick();
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}
