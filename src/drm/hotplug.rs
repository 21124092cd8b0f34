//! Displays that are pulled out and come back.

use super::objects::{Connection, Mode};
use super::scanout::Scanout;
use crate::error::{Error, ErrorKind, Result};
use crate::sys;

/// How often flips ask.
const INTERVAL_NS: u64 = 500_000_000;

/// What is known of the display.
#[derive(Debug, Default)]
pub(super) struct Plug {
    asked_ns: u64,
    /// Until the next flip, which sets the mode: links must be trained again.
    pub(super) out: bool,
}

impl Scanout {
    /// Whether a display hangs at the connector, as the kernel knows it: drivers without a hot-plug interrupt look every
    /// ten seconds. Flips ask this twice a second; who wants to know at once asks at a `change` uevent of the subsystem
    /// `drm`. Ioctl: `DRM_IOCTL_MODE_GETCONNECTOR`.
    ///
    /// # Errors
    /// `NotFound` if the connector itself is gone, `DeviceLost` if the device is.
    #[doc(alias = "DRM_IOCTL_MODE_GETCONNECTOR")]
    pub fn connection(&self) -> Result<Connection> {
        self.device.connection(self.connector.id)
    }

    /// `DeviceLost` if the device is unplugged: it completes no flip, and tells those who ask.
    pub(super) fn check_device(&self) -> Result<()> {
        match self.connection() {
            Err(e) if e.kind() == ErrorKind::DeviceLost => Err(e),
            _ => Ok(()),
        }
    }

    /// [`Scanout::check_device`] behind a flip that takes long.
    pub(super) fn check_pending(&mut self, submitted_ns: u64) -> Result<()> {
        let now_ns = sys::clock::monotonic_ns();
        if now_ns.saturating_sub(submitted_ns.max(self.plug.asked_ns)) < INTERVAL_NS {
            return Ok(());
        }
        self.plug.asked_ns = now_ns;
        self.check_device()
    }

    /// Refuses a flip while no display is there: the kernel would show it to nobody and not say so.
    pub(super) fn check_display(&mut self, now_ns: u64) -> Result<()> {
        let lately = now_ns.saturating_sub(self.plug.asked_ns) < INTERVAL_NS;
        // Nothing ever hangs at a writeback connector.
        if self.connector.writeback || (lately && !self.plug.out) {
            return Ok(());
        }
        self.plug.asked_ns = now_ns;
        if self.connection()? == Connection::Disconnected {
            self.plug.out = true;
            let text = format!("no display hangs at {} now: what is staged waits for it", self.connector.name);
            return Err(Error::new(ErrorKind::Disconnected, "DRM_IOCTL_MODE_GETCONNECTOR", text).on(&self.device));
        }
        if self.plug.out {
            self.check_mode()?;
        }
        Ok(())
    }

    /// The display that came back may be another.
    fn check_mode(&self) -> Result<()> {
        let all = self.device.connectors()?;
        let modes = all.into_iter().find(|c| c.id == self.connector.id).map_or(Vec::new(), |c| c.modes);
        if modes.contains(&self.mode) {
            return Ok(());
        }
        let modes: Vec<_> = modes.iter().map(Mode::to_string).collect();
        let (name, mode) = (&self.connector.name, self.mode);
        let text = format!("asked {mode}; the display at {name} now has {}: open a new scanout", modes.join(", "));
        Err(Error::new(ErrorKind::NotFound, "DRM_IOCTL_MODE_GETCONNECTOR", text).on(&self.device))
    }
}
