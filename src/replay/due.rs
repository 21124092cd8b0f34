//! A descriptor that is readable from a time on.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::{Error, Result};
use crate::sys::syscall_count::tick;

/// A timer of `CLOCK_MONOTONIC`. The caller sets it again for each item, which also makes it unreadable.
#[derive(Debug)]
pub(super) struct DueTimer(TimerFd);

impl DueTimer {
    /// Creates a timer that is readable at once.
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        tick();
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(|e| Error::os("timerfd", e))?;
        let timer = Self(timer);
        timer.set(0)?;
        Ok(timer)
    }

    /// Makes the descriptor readable at this time.
    pub(super) fn set(&self, due_ns: u64) -> Result<()> {
        tick();
        // The time 0 would disarm it. A timer takes no more seconds than an i64 holds, which no u64 of nanoseconds has.
        let at = Expiration::OneShot(Duration::from_nanos(due_ns.max(1)).into());
        self.0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).map_err(|e| Error::os("timerfd", e))
    }

    /// Makes the descriptor unreadable.
    pub(super) fn unset(&self) -> Result<()> {
        tick();
        self.0.unset().map_err(|e| Error::os("timerfd", e))
    }
}

impl AsFd for DueTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
