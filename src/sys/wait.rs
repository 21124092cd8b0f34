//! `poll(2)` with a deadline and `epoll(7)`.

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

/// Waits for one of `events` (or an error condition) on `fd`. Empty flags mean that the deadline passed.
pub(crate) fn until(fd: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<PollFlags, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is slept and not spun.
        let millis = left.as_micros().div_ceil(1000).min(3_600_000) as i32;
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(fd, events)];
        tick();
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
            Ok(0) if Instant::now() < deadline => {}
            Ok(_) => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
        }
    }
}
