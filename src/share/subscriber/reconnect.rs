//! State that outlives a connection: the subscriber's descriptor, and the pauses between attempts.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::{Error, Result};
use crate::sys::readiness::Readiness;
use crate::sys::signal::Signal;

/// The first pause before a reconnect. Each further pause is twice as long, up to [`LONGEST`]. Also the pause between
/// attempts to send releases that found no room.
pub(super) const SHORTEST: Duration = Duration::from_millis(10);
pub(super) const LONGEST: Duration = Duration::from_millis(500);

/// Whether a subscriber connects again after the publisher is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconnect {
    /// Report the loss and stay disconnected. This is the default.
    #[default]
    Never,
    /// Try to connect again, with pauses from 10 ms to half a second, even if the publisher refuses. Such a subscriber
    /// never returns [`Received::Ended`](crate::Received::Ended).
    Always,
}

/// Makes a subscriber's descriptor readable at the time of the next attempt.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    owes_releases: AtomicBool,
}

impl Alarm {
    fn wake_in(&self, pause: Duration) {
        let _ = self.timer.set(Expiration::OneShot(pause.into()), TimerSetTimeFlags::empty());
    }

    fn disarm(&self) {
        let _ = self.timer.unset();
        self.owes_releases.store(false, Ordering::Relaxed);
    }

    /// Notes whether releases wait for room in the socket. The socket does not report room, so a timer wakes the
    /// subscriber to try again. May be called from any thread, but only while the connection is up, and by one thread
    /// at a time.
    pub(super) fn set_owing(&self, owes: bool) {
        if owes {
            self.wake_in(SHORTEST);
            self.owes_releases.store(true, Ordering::Relaxed);
        } else if self.owes_releases.load(Ordering::Relaxed) {
            self.disarm();
        }
    }
}

/// An epoll that is readable when the connection has data, or when the next attempt is due.
#[derive(Debug)]
pub(super) struct Reconnector {
    readiness: Readiness,
    alarm: Arc<Alarm>,
    /// Set while events remain for the next call.
    unread: Signal,
    /// The pause before the next attempt to connect. Grows until a peer admits us.
    pause: Duration,
}

impl Reconnector {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let at = |op| move |e| Error::os(op, e).on(path.display());
        let readiness = Readiness::new().map_err(at("epoll_create1"))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .map_err(at("timerfd_create"))?;
        let unread = Signal::new().map_err(at("eventfd"))?;
        readiness.add(&timer, EpollFlags::EPOLLIN, 0).map_err(at("epoll_ctl"))?;
        readiness.add(&unread, EpollFlags::EPOLLIN, 0).map_err(at("epoll_ctl"))?;
        let alarm = Arc::new(Alarm { timer, owes_releases: AtomicBool::new(false) });
        Ok(Self { readiness, alarm, unread, pause: SHORTEST })
    }

    pub(super) fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// Watches a descriptor of the connection.
    pub(super) fn watch(&self, fd: impl AsFd) -> std::result::Result<(), Errno> {
        self.readiness.add(fd, EpollFlags::EPOLLIN, 0)
    }

    /// Stops watching a descriptor, before it is closed.
    pub(super) fn unwatch(&self, fd: impl AsFd) {
        self.readiness.remove(fd);
    }

    pub(super) fn set_unread(&self, has_unread: bool) {
        if has_unread {
            self.unread.set();
        } else {
            self.unread.clear();
        }
    }

    /// Begins an attempt. Returns when the next one is due if this one fails.
    pub(super) fn attempt(&mut self) -> Instant {
        let next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
        next
    }

    /// Becomes readable at `next`, for another attempt.
    pub(super) fn wake_at(&self, next: Instant) {
        self.alarm.wake_in(next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    }

    /// Ends the wait for another attempt, because the subscriber is connected or has ended.
    pub(super) fn disarm(&self) {
        self.alarm.disarm();
    }

    /// Notes that the peer has admitted us: the next pause is short.
    pub(super) fn is_taken(&mut self) {
        self.pause = SHORTEST;
    }

    /// Makes the next pause long, because an attempt at once would likely fail, too.
    pub(super) fn hold_off(&mut self) {
        self.pause = LONGEST;
    }

    /// Notes that the connection is lost. Returns when the next attempt is due.
    pub(super) fn lost(&self) -> Instant {
        self.disarm();
        let next = Instant::now() + self.pause;
        self.wake_at(next);
        next
    }
}

impl AsFd for Reconnector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}
