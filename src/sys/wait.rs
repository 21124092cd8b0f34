//! `poll(2)` with a deadline.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::syscall_count::tick;

/// A point in time that no wait outlasts. Durations too long for the clock mean "a day".
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400))
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    /// A signal handler ran. `poll` is not restarted, whatever SA_RESTART says.
    Interrupted,
}

/// Waits until a descriptor is readable or in an error condition.
pub(crate) fn readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<Waited, Errno> {
    match events(fd, PollFlags::POLLIN, deadline) {
        Ok(events) if events.is_empty() => Ok(Waited::TimedOut),
        Ok(_) => Ok(Waited::Ready),
        Err(Errno::EINTR) => Ok(Waited::Interrupted),
        Err(e) => Err(e),
    }
}

/// Waits for one of `events` (or an error condition) on `fd`. Empty flags mean that the deadline passed. EINTR is an
/// error.
pub(crate) fn events(fd: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<PollFlags, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is slept and not spun.
        let millis = left.as_micros().div_ceil(1000).min(3_600_000) as i32;
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(fd, events)];
        tick();
        match poll(&mut fds, timeout)? {
            0 if Instant::now() < deadline => {}
            _ => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
        }
    }
}

/// [`events`], whatever signals come.
pub(crate) fn until(fd: BorrowedFd<'_>, wanted: PollFlags, deadline: Instant) -> Result<PollFlags, Errno> {
    loop {
        match events(fd, wanted, deadline) {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}
