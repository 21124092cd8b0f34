//! A connector with its CRTC and mode, their earlier state, and whether a display is connected.

use std::sync::Arc;

use super::device::Device;
use super::objects::{Connection, Connector, Mode, Plane};
use super::saved_crtc::SavedCrtc;
use super::wake::Wake;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;

/// The kernel interface that changes the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Api {
    /// Atomic if the driver has it, else legacy. The default.
    #[default]
    Auto,
    /// `DRM_IOCTL_MODE_ATOMIC`: changes all planes at once, with test commits and fences.
    Atomic,
    /// `DRM_IOCTL_MODE_SETCRTC` and `PAGE_FLIP`: changes only the primary plane.
    Legacy,
}

/// The requirements by which an output was chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct OutputRequirements {
    pub(super) connector: Option<String>,
    pub(super) size: Option<Size>,
    pub(super) refresh_hz: Option<u32>,
    pub(super) api: Api,
}

/// The interval at which the kernel is asked whether a display is connected.
pub(super) const QUESTION_NS: u64 = 500_000_000;

/// A connector that a CRTC drives in a mode. Dropping it releases the CRTC and its planes.
pub(super) struct Output {
    pub(super) device: Device,
    pub(super) requirements: OutputRequirements,
    pub(super) connector: Connector,
    pub(super) mode: Mode,
    pub(super) crtc: u32,
    crtc_index: u32,
    pub(super) planes: Vec<u32>,
    /// The mode is set, and no other process has been master since.
    pub(super) is_lit: bool,
    saved: Option<SavedCrtc>,
    asked_ns: u64,
    is_claimed: bool,
}

impl Output {
    /// Takes a CRTC for the connector. The screen does not change.
    pub(super) fn new(
        device: Device,
        requirements: OutputRequirements,
        connector: Connector,
        mode: Mode,
        wake: &Arc<Wake>,
    ) -> Result<Self> {
        let possible = device.crtcs_of(&connector)?;
        let (crtc, crtc_index) = device.claim(&possible, wake).ok_or_else(|| {
            let text = format!("every CRTC of {} drives another scanout", connector.name);
            Error::new(ErrorKind::Busy, "scanout", text).on(&device)
        })?;
        Ok(Self {
            saved: SavedCrtc::of(&device, crtc),
            device,
            requirements,
            connector,
            mode,
            crtc,
            crtc_index,
            planes: Vec::new(),
            is_lit: false,
            asked_ns: 0,
            is_claimed: true,
        })
    }

    /// Returns the planes that reach the CRTC.
    pub(super) fn reachable_planes(&self) -> Result<Vec<Plane>> {
        let bit = 1u32.checked_shl(self.crtc_index).unwrap_or(0);
        Ok(self.device.planes()?.into_iter().filter(|p| p.crtcs & bit != 0).collect())
    }

    /// Asks the kernel whether a display is connected. Does not probe the display.
    pub(super) fn connection(&self) -> Result<Connection> {
        self.device.connection(self.connector.id)
    }

    /// Returns `true` if the last question is old enough that the display may be gone.
    pub(super) fn is_question_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.asked_ns) >= QUESTION_NS
    }

    /// Asks the kernel, and returns an error for an unplugged display or device.
    pub(super) fn check(&mut self, now_ns: u64) -> Result<()> {
        self.asked_ns = now_ns;
        match self.connection() {
            // A writeback connector never has a display.
            Ok(Connection::Disconnected) if !self.connector.writeback => {
                let text = format!("no display is plugged into {}", self.connector.name);
                let error = Error::new(ErrorKind::Disconnected, "DRM_IOCTL_MODE_GETCONNECTOR", text);
                Err(error.on(&self.device))
            }
            Ok(_) => Ok(()),
            // The connector of a DisplayPort hub disappears with the hub.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(e.kind_is(ErrorKind::Disconnected).detail(format!("{} is gone", self.connector.name)))
            }
            Err(e) => Err(e),
        }
    }

    /// Checks that the display that came back has the mode. It may be another display.
    pub(super) fn check_mode(&self) -> Result<()> {
        let all = self.device.connectors()?;
        let modes = all.into_iter().find(|c| c.id == self.connector.id).map_or(Vec::new(), |c| c.modes);
        if modes.contains(&self.mode) {
            return Ok(());
        }
        let modes: Vec<_> = modes.iter().map(Mode::to_string).collect();
        let (name, mode) = (&self.connector.name, self.mode);
        let text = format!("asked {mode}; the display at {name} now has {}: call reopen", modes.join(", "));
        Err(Error::new(ErrorKind::NotFound, "DRM_IOCTL_MODE_GETCONNECTOR", text).on(&self.device))
    }

    /// Shows the picture that the CRTC showed before it was taken. Does nothing for a CRTC that was released, because
    /// another scanout may have it.
    pub(super) fn restore(&mut self) {
        if let Some(saved) = self.saved.take().filter(|_| self.is_claimed) {
            saved.restore(&self.device);
        }
    }

    /// Continues another output of the same device, whose CRTC was released.
    pub(super) fn continues(&mut self, before: &mut Self) {
        if self.crtc == before.crtc {
            self.saved = before.saved.take();
        }
    }

    /// Takes a plane again that was released.
    pub(super) fn claim_plane(&mut self, plane: u32) {
        if self.device.claim_plane(plane) {
            self.planes.push(plane);
        }
    }

    /// Releases a plane.
    pub(super) fn release_plane(&mut self, plane: u32) {
        self.planes.retain(|&p| p != plane);
        self.device.release_plane(plane);
    }

    /// Releases the CRTC and its planes.
    pub(super) fn release(&mut self) {
        self.is_lit = false;
        if std::mem::take(&mut self.is_claimed) {
            self.device.release(self.crtc, &std::mem::take(&mut self.planes));
        }
    }

    /// Leaves the CRTC and its planes to the device, which releases them later.
    pub(super) fn leave(&mut self) -> (u32, Vec<u32>) {
        self.is_claimed = false;
        (self.crtc, std::mem::take(&mut self.planes))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.release();
    }
}
