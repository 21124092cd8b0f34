//! The descriptor of a scanout, and the watch on its device and display.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::output::{Output, QUESTION_NS};
use super::scanout_event::{Flipped, ScanoutEvent, ScanoutEvents};
use super::wake::Wake;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;
use crate::sys::readiness::{Alarm, Readiness};
use crate::sys::wait::{self, Waited};

/// Tokens of the epoll.
const DEVICE: u64 = 0;
const OTHER: u64 = 1;

/// Whether the display is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// The display is unplugged.
    NoDisplay,
    /// The device is gone, or a reopen failed. `is_back`: the device was found again and must be reopened.
    NoDevice {
        is_back: bool,
    },
}

/// Watches a device and its display, and keeps the events for the caller.
///
/// It asks the kernel for the display while a flip is pending and while the display is lost.
pub(super) struct Monitor {
    presence: Presence,
    /// The error by which the device counts as gone.
    loss: Option<Error>,
    /// Another display may have been plugged in since.
    is_mode_unsure: bool,
    events: ScanoutEvents,
    readiness: Readiness,
    alarm: Alarm,
    /// Set by other scanouts of the device that read this scanout's completions, and while events are not received.
    wake: Arc<Wake>,
    /// The caller has the descriptor, so it must be readable while events are not received.
    is_watched: AtomicBool,
}

impl Monitor {
    pub(super) fn new() -> Result<Self> {
        let os = |op| move |e: Errno| Error::os(op, e);
        let readiness = Readiness::new().map_err(os("epoll_create1"))?;
        let alarm = Alarm::new().map_err(os("timerfd_create"))?;
        let wake = Arc::new(Wake::new().map_err(os("eventfd"))?);
        readiness.add(&alarm, EpollFlags::EPOLLIN, OTHER).map_err(os("epoll_ctl"))?;
        readiness.add(wake.signal(), EpollFlags::EPOLLIN, OTHER).map_err(os("epoll_ctl"))?;
        Ok(Self {
            presence: Presence::Here,
            loss: None,
            is_mode_unsure: false,
            events: ScanoutEvents::default(),
            readiness,
            alarm,
            wake,
            is_watched: AtomicBool::new(false),
        })
    }

    pub(super) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    pub(super) fn presence(&self) -> Presence {
        self.presence
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.presence, Presence::NoDevice { .. })
    }

    /// Begins to watch the device of an output. The device exists.
    pub(super) fn add(&mut self, output: &Output) -> Result<()> {
        let added = self.readiness.add(output.device.fd(), EpollFlags::EPOLLIN, DEVICE);
        added.map_err(|e| Error::os("epoll_ctl", e))?;
        if matches!(self.presence, Presence::NoDisplay | Presence::NoDevice { is_back: false }) {
            self.events.returned();
        }
        (self.presence, self.loss, self.is_mode_unsure) = (Presence::Here, None, false);
        Ok(())
    }

    /// Stops watching. If no loss was reported, the output counts as lost until another is added.
    pub(super) fn remove(&mut self, output: &Output) {
        self.readiness.remove(output.device.fd());
        if self.presence == Presence::Here {
            self.presence = Presence::NoDevice { is_back: true };
        }
    }

    /// Begins to watch the display, because a commit was submitted. Watches it until the commit completes.
    pub(super) fn submitted(&mut self) {
        self.alarm.wake_at(Instant::now() + Duration::from_nanos(QUESTION_NS));
    }

    pub(super) fn shown(&mut self, flipped: Flipped) {
        self.events.shown(flipped);
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Notes that `dispatch` was called.
    pub(super) fn looked(&mut self) {
        self.events.looked();
    }

    pub(super) fn pop(&mut self) -> Option<ScanoutEvent> {
        self.events.pop()
    }

    /// Reads the device's events, and checks the display if it is time. Never waits.
    pub(super) fn work(&mut self, output: &mut Output, is_pending: bool) -> Result<()> {
        let is_time = self.alarm.acknowledge();
        if !self.is_gone() {
            self.read(output)?;
        }
        if is_time && (is_pending || self.presence != Presence::Here) {
            self.look(output, sys::clock::monotonic_ns());
            if self.presence != (Presence::NoDevice { is_back: true }) {
                self.submitted();
            }
        }
        Ok(())
    }

    fn read(&mut self, output: &Output) -> Result<()> {
        let mut buffer = [EpollEvent::empty(); 4];
        let events = self.readiness.wait(&mut buffer, Instant::now()).map_err(|e| Error::os("epoll_wait", e))?;
        let Some(event) = events.iter().find(|e| e.data() == DEVICE) else { return Ok(()) };
        let read = match event.events().contains(EpollFlags::EPOLLIN) {
            true => output.device.read_events(Some(output.crtc)),
            false => {
                let text = "the device does not give events any more";
                Err(Error::new(ErrorKind::DeviceLost, "poll", text).on(&output.device))
            }
        };
        match read {
            Err(error) if error.kind() == ErrorKind::DeviceLost => {
                self.lose_if_gone(output, &error);
                Ok(())
            }
            done => done,
        }
    }

    /// Checks whether the display and the device are there.
    pub(super) fn look(&mut self, output: &mut Output, now_ns: u64) {
        if let Presence::NoDevice { is_back } = &mut self.presence {
            if !*is_back && output.device.find_again(&output.connector).is_ok() {
                *is_back = true;
                self.events.returned();
            }
            return;
        }
        match (output.check(now_ns), self.presence) {
            (Ok(()), Presence::NoDisplay) => {
                self.presence = Presence::Here;
                // The link must be trained again.
                (output.is_lit, self.is_mode_unsure) = (false, true);
                self.events.returned();
            }
            (Err(error), Presence::Here) if error.kind() == ErrorKind::Disconnected => {
                crate::log::event!("{error}");
                self.presence = Presence::NoDisplay;
                self.events.lost(error);
                self.submitted();
            }
            (Err(error), _) => self.lose_if_gone(output, &error),
            (Ok(()), _) => {}
        }
    }

    /// Notes that the device is gone, if the error means that.
    pub(super) fn lose_if_gone(&mut self, output: &Output, error: &Error) {
        if error.kind() != ErrorKind::DeviceLost || self.is_gone() {
            return;
        }
        crate::log::event!("{error}");
        self.readiness.remove(output.device.fd());
        self.presence = Presence::NoDevice { is_back: false };
        self.loss = Some(error.clone());
        self.events.lost(error.clone());
        self.submitted();
    }

    /// Returns the error of calls that need the device.
    pub(super) fn no_device(&self, output: &Output) -> Error {
        let text = "the device is gone: call reopen when it is back";
        match &self.loss {
            Some(loss) => loss.clone().detail(text),
            None => {
                Error::new(ErrorKind::DeviceLost, "present", "the last reopen failed: call it again").on(&output.device)
            }
        }
    }

    /// Checks the mode once after the display came back.
    pub(super) fn check_mode(&mut self, output: &Output) -> Result<()> {
        if self.is_mode_unsure {
            output.check_mode()?;
            self.is_mode_unsure = false;
        }
        Ok(())
    }

    /// Makes the descriptor readable while events are announced. Without a caller that polls it, this costs nothing.
    pub(super) fn show_events(&self, output: &Output) {
        let is_wanted = self.events.are_announced() && self.is_watched.load(Ordering::Relaxed);
        output.device.wake(output.crtc, &self.wake, is_wanted);
    }

    /// Returns the descriptor for the caller.
    pub(super) fn watched(&self, output: &Output) -> BorrowedFd<'_> {
        if !self.is_watched.swap(true, Ordering::Relaxed) {
            self.show_events(output);
        }
        self.readiness.as_fd()
    }

    /// Waits for the device, for another scanout of it, or for the alarm. Events that are not received yet do not end
    /// the wait.
    pub(super) fn wait(&self, output: &Output, deadline: Instant) -> Result<Waited> {
        output.device.wake(output.crtc, &self.wake, false);
        wait::readable(self.readiness.as_fd(), deadline).map_err(|e| Error::os("poll", e))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.readiness.remove(&self.alarm);
        self.readiness.remove(self.wake.signal());
    }
}
