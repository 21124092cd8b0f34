//! The single descriptor of a station: an epoll over everything that can wake it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::syscall_count::tick;

/// An epoll, which is the descriptor that a station's caller polls. The set of watched descriptors may change.
#[derive(Debug)]
pub(crate) struct Readiness(Epoll);

impl Readiness {
    pub(crate) fn new() -> Result<Self, Errno> {
        tick();
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Watches a descriptor. [`Readiness::wait`] reports it as `token`.
    pub(crate) fn add(&self, fd: impl AsFd, events: EpollFlags, token: u64) -> Result<(), Errno> {
        tick();
        self.0.add(fd, EpollEvent::new(events, token))
    }

    /// Changes the events that a descriptor is watched for. Not for V4L2 devices.
    pub(crate) fn modify(&self, fd: impl AsFd, events: EpollFlags, token: u64) -> Result<(), Errno> {
        tick();
        self.0.modify(fd, &mut EpollEvent::new(events, token))
    }

    /// Stops watching a descriptor. Call this before the descriptor is closed: otherwise the copy of a forked child
    /// would keep it in the epoll.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        tick();
        let _ = self.0.delete(fd);
    }

    /// Waits until the deadline for descriptors to be ready, and returns them. Returns none if the deadline passed or
    /// a signal handler ran.
    pub(crate) fn wait<'a>(&self, events: &'a mut [EpollEvent], deadline: Instant) -> Result<&'a [EpollEvent], Errno> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is a sleep and not a busy loop.
        let millis = left.as_micros().div_ceil(1000).min(3_600_000) as i32;
        tick();
        match self.0.wait(events, EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::ZERO)) {
            Ok(count) => Ok(&events[..count]),
            Err(Errno::EINTR) => Ok(&[]),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0 .0.as_fd()
    }
}

/// A timer that makes few system calls: it is only set again for an earlier time.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: TimerFd,
    at: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> Result<Self, Errno> {
        tick();
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, at: None })
    }

    /// Makes the descriptor readable at `at`, or earlier if an earlier time is set. The caller then checks the clock
    /// and sets the timer again.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        if self.at.is_some_and(|set| set <= at) {
            return;
        }
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        tick();
        if self.timer.set(Expiration::OneShot(left.into()), TimerSetTimeFlags::empty()).is_ok() {
            self.at = Some(at);
        }
    }

    /// Sets the next time, after the work that was due at `now`. Makes one call if the time had come, and none if an
    /// earlier time in the future is set.
    pub(crate) fn next(&mut self, at: Option<Instant>, now: Instant) {
        let is_due = self.at.is_some_and(|set| set <= now);
        match at {
            // Setting a timer clears it, so a read is not needed.
            Some(at) if is_due => {
                self.at = None;
                self.wake_at(at);
            }
            Some(at) => self.wake_at(at),
            None if is_due => self.unset(),
            None => {}
        }
    }

    /// Acknowledges that the time has come; otherwise the descriptor stays readable. Returns `true` if it had come.
    pub(crate) fn acknowledge(&mut self) -> bool {
        if self.at.map_or(true, |at| at > Instant::now()) {
            return false;
        }
        self.at = None;
        // Unsetting the timer clears it, for the price of a read.
        tick();
        let _ = self.timer.unset();
        true
    }

    /// Unsets the timer, so that the descriptor is not readable.
    pub(crate) fn unset(&mut self) {
        if self.at.take().is_some() {
            tick();
            let _ = self.timer.unset();
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
