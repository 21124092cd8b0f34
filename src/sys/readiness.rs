//! The one descriptor of a station: an epoll of what can wake it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::syscall_count::tick;

/// An epoll, which is the descriptor that a station's user polls. The descriptors that it watches may change.
#[derive(Debug)]
pub(crate) struct Readiness(Epoll);

impl Readiness {
    pub(crate) fn new() -> Result<Self, Errno> {
        tick();
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Watches a descriptor. `token` names it in [`Readiness::wait`].
    pub(crate) fn add(&self, fd: impl AsFd, events: EpollFlags, token: u64) -> Result<(), Errno> {
        tick();
        self.0.add(fd, EpollEvent::new(events, token))
    }

    /// Changes what a descriptor is watched for. Not for V4L2 devices.
    pub(crate) fn modify(&self, fd: impl AsFd, events: EpollFlags, token: u64) -> Result<(), Errno> {
        tick();
        self.0.modify(fd, &mut EpollEvent::new(events, token))
    }

    /// Stops watching a descriptor. To be called before the descriptor is closed: a forked child's copy would keep it
    /// watched.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        tick();
        let _ = self.0.delete(fd);
    }

    /// Fills in what is ready, and waits until the deadline for something to be. Nothing is if it passed or a signal
    /// handler ran.
    pub(crate) fn wait<'a>(&self, events: &'a mut [EpollEvent], deadline: Instant) -> Result<&'a [EpollEvent], Errno> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is slept and not spun.
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

/// A timer that makes few system calls: it is set only for an earlier time than it is set for already.
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

    /// Makes the descriptor readable at `at`, or earlier if an earlier time was set before: its user then looks at its
    /// clock and sets it again.
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

    /// Sets the next time, after the work that was due at `now` has been done. Makes one call if the time had come, and none
    /// if it is set for an earlier time that is still to come.
    pub(crate) fn next(&mut self, at: Option<Instant>, now: Instant) {
        let is_due = self.at.is_some_and(|set| set <= now);
        match at {
            // Setting a timer clears it, so that no read is needed.
            Some(at) if is_due => {
                self.at = None;
                self.wake_at(at);
            }
            Some(at) => self.wake_at(at),
            None if is_due => self.unset(),
            None => {}
        }
    }

    /// Notes that the time has come. Without this the descriptor stays readable. `true` if it had.
    pub(crate) fn acknowledge(&mut self) -> bool {
        if self.at.map_or(true, |at| at > Instant::now()) {
            return false;
        }
        self.at = None;
        // Setting a timer clears it; an unset one costs the same call.
        tick();
        let _ = self.timer.unset();
        true
    }

    /// Makes the descriptor quiet.
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
