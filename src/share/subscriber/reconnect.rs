//! What all connections of a subscriber have in common: its descriptor, and the pauses between attempts.

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

/// The first pause before a reconnect; each further one is twice as long, up to [`LONGEST`]. Also between attempts to
/// send what found no room.
pub(super) const SHORTEST: Duration = Duration::from_millis(10);
pub(super) const LONGEST: Duration = Duration::from_millis(500);

/// What to do when the publisher goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconnect {
    /// Report it and stay disconnected.
    #[default]
    Never,
    /// Try again, with pauses from 10 ms to half a second, until it is back. Such a subscriber never gives
    /// [`Received::Ended`](crate::Received::Ended).
    Always,
}

/// Makes a subscriber's descriptor readable when it is time to try something again.
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

    /// Releases found no room in the socket, which does not tell when it has some: wakes the subscriber to try again. Or
    /// they did. From any thread, but only while their connection is up and by one at a time.
    pub(super) fn set_owing(&self, owes: bool) {
        if owes {
            self.wake_in(SHORTEST);
            self.owes_releases.store(true, Ordering::Relaxed);
        } else if self.owes_releases.load(Ordering::Relaxed) {
            self.disarm();
        }
    }
}

/// An epoll that is readable when there is something to do: the connection has something, or it is time to try again.
#[derive(Debug)]
pub(super) struct Reconnector {
    readiness: Readiness,
    alarm: Arc<Alarm>,
    /// Set while events are left for the next call.
    unread: Signal,
    /// Before the next attempt to connect. Grows until a peer has taken us.
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

    /// Ends that, before the descriptor is closed.
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

    /// An attempt begins. When the next one is due, should it fail.
    pub(super) fn attempt(&mut self) -> Instant {
        let next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
        next
    }

    /// Becomes readable at `next`, when it is time for another attempt.
    pub(super) fn wake_at(&self, next: Instant) {
        self.alarm.wake_in(next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    }

    /// Is not readable any longer: connected, or over.
    pub(super) fn disarm(&self) {
        self.alarm.disarm();
    }

    /// The peer has admitted us: the next pause is short.
    pub(super) fn is_taken(&mut self) {
        self.pause = SHORTEST;
    }

    /// Something is wrong that will hardly be right at once: the next pause is long.
    pub(super) fn hold_off(&mut self) {
        self.pause = LONGEST;
    }

    /// The connection is lost. When the next attempt is due.
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
