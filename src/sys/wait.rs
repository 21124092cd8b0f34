//! `poll(2)` with a deadline.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::syscall_count::tick;

/// Returns the time at which a wait ends. Durations that exceed the clock count as a day.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400))
}

/// Returns the time until the deadline, for a part of a wait.
pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The reason why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    /// A signal handler ran. `poll` is never restarted, whatever SA_RESTART says.
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

/// Waits until one of at most 16 descriptors is readable. Returns `false` if the deadline passed or a signal handler
/// ran.
pub(crate) fn any_readable(fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<bool, Errno> {
    let Some(last) = fds.len().min(16).checked_sub(1) else { return Ok(false) };
    let mut polled: [PollFd<'_>; 16] = std::array::from_fn(|i| PollFd::new(fds[i.min(last)], PollFlags::POLLIN));
    loop {
        tick();
        match poll(&mut polled[..=last], left(deadline)) {
            Ok(0) if Instant::now() < deadline => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

/// Returns `true` if a connection was hung up, or if the peer's process, of which this is the pidfd, has ended. Bytes
/// that arrived before may still be unread.
pub(crate) fn is_hung_up(socket: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>) -> bool {
    // POLLHUP is reported without being asked for.
    let hang_up = PollFd::new(socket, PollFlags::empty());
    let end = pidfd.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN));
    let mut polled = [hang_up.clone(), end.unwrap_or(hang_up)];
    loop {
        tick();
        match poll(&mut polled, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            answer => return answer.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Returns the remaining time, rounded up, so that the last millisecond is a sleep and not a busy loop.
fn left(deadline: Instant) -> PollTimeout {
    let left = remaining(deadline);
    PollTimeout::try_from(left.as_micros().div_ceil(1000).min(3_600_000) as i32).unwrap_or(PollTimeout::ZERO)
}

/// Waits for one of `events` (or an error condition) on `fd`. Returns empty flags if the deadline passed. EINTR is an
/// error.
pub(crate) fn events(fd: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<PollFlags, Errno> {
    loop {
        let mut fds = [PollFd::new(fd, events)];
        tick();
        match poll(&mut fds, left(deadline))? {
            0 if Instant::now() < deadline => {}
            _ => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
        }
    }
}

/// Does the same as [`events`], but continues after signals.
pub(crate) fn until(fd: BorrowedFd<'_>, wanted: PollFlags, deadline: Instant) -> Result<PollFlags, Errno> {
    loop {
        match events(fd, wanted, deadline) {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}
