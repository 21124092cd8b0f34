//! The single file descriptor of a station with a V4L2 device.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::device::Device;
use super::hotplug::Hotplug;
use super::identity::Identity;
use crate::error::{Error, Result};
use crate::station::{Received, Station};
use crate::sys::readiness::{Alarm, Readiness};
use crate::sys::signal::Signal;

const DEVICE: u64 = 0;
const SIGNAL: u64 = 1;
const HOTPLUG: u64 = 2;
const ALARM: u64 = 3;

/// The first pause before the search for a lost device. Each further pause is twice as long.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// The sources that are ready now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// Flags that the device reports: IN, OUT, PRI, ERR, HUP.
    pub(crate) device: EpollFlags,
    /// A lease ended on another thread.
    pub(crate) signal: bool,
    /// A lost device may be back: search for it. Or the time of [`DeviceReadiness::wake_at`] has come.
    pub(crate) search: bool,
}

impl Ready {
    pub(crate) const NONE: Self = Self { device: EpollFlags::empty(), signal: false, search: false };

    pub(crate) fn is_empty(&self) -> bool {
        self.device.is_empty() && !self.signal && !self.search
    }

    /// Returns `true` if the device is in an error condition.
    pub(crate) fn is_broken(&self) -> bool {
        self.device.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
    }
}

/// An epoll over the device and a signal, which leases that end on other threads set. While the device is lost, it
/// also watches for the device's return.
#[derive(Debug)]
pub(crate) struct DeviceReadiness {
    readiness: Readiness,
    signal: Arc<Signal>,
    /// The device and the events that the epoll has for it.
    watched: Option<(Device, EpollFlags)>,
    /// For the search. It exists from the start, because the loss of a device must be reported without new descriptors.
    alarm: Alarm,
    search: Option<Search>,
    /// The pause after the next loss. It grows while the device is lost again soon.
    pause: Duration,
}

#[derive(Debug)]
struct Search {
    identity: Identity,
    /// `None` if inotify is not available. Only the alarm triggers a search then.
    hotplug: Option<Hotplug>,
    /// The device was found, and the station knows it.
    is_found: bool,
    /// The pause before the next search after an event, because udev makes links after the node. `None` after the last.
    next: Option<Duration>,
}

impl DeviceReadiness {
    pub(crate) fn new() -> Result<Self> {
        let failed = |op| move |e| Error::os(op, e);
        let readiness = Readiness::new().map_err(failed("epoll_create1"))?;
        let signal = Arc::new(Signal::new().map_err(failed("eventfd"))?);
        let alarm = Alarm::new().map_err(failed("timerfd_create"))?;
        readiness.add(&*signal, EpollFlags::EPOLLIN, SIGNAL).map_err(failed("epoll_ctl"))?;
        readiness.add(&alarm, EpollFlags::EPOLLIN, ALARM).map_err(failed("epoll_ctl"))?;
        Ok(Self { readiness, signal, watched: None, alarm, search: None, pause: SHORTEST })
    }

    /// Returns the signal, for other threads that make the station's descriptor readable.
    pub(crate) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Watches the device for these events. Stops watching if there are none.
    ///
    /// The entry is deleted and added, never modified. Some kernels (seen in 5.10) register their wait queue only at
    /// the first poll, and would not report events that were added later.
    pub(crate) fn watch(&mut self, device: &Device, events: EpollFlags) -> Result<()> {
        if let Some((watched, now)) = &self.watched {
            if *now == events && watched.is_same(device) {
                return Ok(());
            }
        }
        self.unwatch();
        if events.is_empty() {
            return Ok(());
        }
        self.readiness.add(device, events, DEVICE).map_err(|e| Error::os("epoll_ctl", e).on(device))?;
        self.watched = Some((device.clone(), events));
        Ok(())
    }

    /// Takes the device out of the epoll. This must happen before the device is closed.
    pub(crate) fn unwatch(&mut self) {
        if let Some((device, _)) = self.watched.take() {
            self.readiness.remove(&device);
        }
    }

    /// Returns the sources that are ready now. Never waits.
    pub(crate) fn pending(&mut self) -> Result<Ready> {
        self.ready(Instant::now())
    }

    /// Waits until a source is ready. The result is empty if the deadline passed or a signal handler ran.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Result<Ready> {
        self.ready(deadline)
    }

    fn ready(&mut self, deadline: Instant) -> Result<Ready> {
        let mut events = [EpollEvent::empty(); 4];
        let found = self.readiness.wait(&mut events, deadline).map_err(|e| Error::os("epoll_wait", e))?;
        let mut ready = Ready::NONE;
        for event in found {
            match event.data() {
                DEVICE => ready.device = event.events(),
                SIGNAL => ready.signal = true,
                _ => ready.search = true,
            }
        }
        if ready.signal {
            self.signal.clear();
        }
        Ok(ready)
    }

    /// Begins to watch for the return of a lost device. Its return makes the descriptor readable.
    pub(crate) fn lost(&mut self, device: &Device) {
        self.unwatch();
        self.found();
        let watched = |hotplug: &Hotplug| self.readiness.add(hotplug.inotify(), EpollFlags::EPOLLIN, HOTPLUG).is_ok();
        let hotplug = Hotplug::new().ok().filter(watched);
        // The device may be back already, or was never away: a driver can give up without an unplug.
        self.alarm.wake_at(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
        self.search = Some(Search { identity: Identity::of(device), hotplug, is_found: false, next: None });
    }

    /// Returns `true` from a loss until the device is open again.
    pub(crate) fn is_lost(&self) -> bool {
        self.search.is_some()
    }

    /// Makes the descriptor readable at a time, with [`Ready::search`], while the device is not lost.
    pub(crate) fn wake_at(&mut self, due: Instant) {
        self.alarm.acknowledge();
        self.alarm.wake_at(due);
    }

    /// Resets the pause, because the device works. The search after the next loss begins soon.
    pub(crate) fn works(&mut self) {
        self.pause = SHORTEST;
    }

    /// Searches for the lost device. Returns `true` once, when it is back. Call it if [`Ready::search`] is set.
    pub(crate) fn has_returned(&mut self) -> Result<bool> {
        self.alarm.acknowledge();
        let Some(search) = &mut self.search else { return Ok(false) };
        let mut is_news = search.hotplug.is_none();
        if let Some(hotplug) = &mut search.hotplug {
            while let Received::Item(_) = hotplug.try_recv()? {
                is_news = true;
            }
        }
        if search.is_found {
            // Its return was reported. If its node disappears and appears again, that is reported again.
            search.is_found = !is_news || search.identity.find().is_ok();
            return Ok(false);
        }
        search.is_found = search.identity.find().is_ok();
        let pause = match search.hotplug {
            None => Some(LONGEST),
            Some(_) if is_news => Some(SHORTEST),
            Some(_) => search.next,
        };
        if let (Some(pause), false) = (pause, search.is_found) {
            search.next = Some(pause * 2).filter(|next| *next <= LONGEST);
            self.alarm.wake_at(Instant::now() + pause);
        }
        Ok(search.is_found)
    }

    /// Searches again after a pause, because an attempt to reopen failed.
    pub(crate) fn search_again(&mut self) {
        if let Some(search) = &mut self.search {
            search.is_found = false;
            self.alarm.wake_at(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LONGEST);
        }
    }

    /// Ends the search, because the device is open again.
    pub(crate) fn found(&mut self) {
        self.alarm.unset();
        if let Some(hotplug) = self.search.take().and_then(|search| search.hotplug) {
            self.readiness.remove(hotplug.inotify());
        }
    }
}

impl AsFd for DeviceReadiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for DeviceReadiness {
    fn drop(&mut self) {
        self.unwatch();
        self.found();
        self.readiness.remove(&self.alarm);
    }
}
