//! Which connector, CRTC and mode a scanout takes.

use super::commit::AtomicProps;
use super::device::{Device, NodeKind};
use super::objects::{Connection, Connector, Mode};
use super::scanout::Scanout;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;

/// Which of the kernel's interfaces changes the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Api {
    /// Atomic where the driver has it.
    #[default]
    Auto,
    /// `DRM_IOCTL_MODE_ATOMIC`: all planes at once, tried before it is done, with fences.
    Atomic,
    /// `DRM_IOCTL_MODE_SETCRTC` and `PAGE_FLIP`: the primary plane alone.
    Legacy,
}

/// Chooses a connector and its mode. By default: the first device with a connected display, in the mode that the
/// display prefers.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScanoutBuilder {
    device: Option<Device>,
    connector: Option<String>,
    size: Option<Size>,
    refresh_hz: Option<u32>,
    api: Api,
}

impl ScanoutBuilder {
    /// The device.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// The connector's name: `HDMI-A-1`. A writeback connector is taken only by its name: then the device composes into
    /// memory alone, see [`Scanout::write_back`].
    pub fn connector(mut self, name: impl Into<String>) -> Self {
        self.connector = Some(name.into());
        self
    }

    /// The mode's size.
    pub fn size(mut self, size: Size) -> Self {
        self.size = Some(size);
        self
    }

    /// The mode's refresh rate, rounded to whole hertz.
    pub fn refresh_hz(mut self, hz: u32) -> Self {
        self.refresh_hz = Some(hz);
        self
    }

    /// The interface.
    pub fn api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// Chooses connector, CRTC and mode. The screen changes with the first flip.
    ///
    /// # Errors
    /// `NotFound` without a connected display, or one of that name or mode: the text lists what there is; `Busy` if
    /// another scanout of this device drives every CRTC that would do; `Unsupported` for [`Api::Atomic`] on a driver
    /// that has only the other.
    pub fn open(self) -> Result<Scanout> {
        let device = match &self.device {
            Some(device) => device.clone(),
            None => Device::find_open(|d| d.info().kind == NodeKind::Primary && has_display(d))?,
        };
        let atomic = match self.api {
            Api::Auto => device.info().atomic,
            Api::Legacy => false,
            Api::Atomic if device.info().atomic => true,
            Api::Atomic => {
                let text = "the driver has no atomic modesetting";
                return Err(Error::new(ErrorKind::Unsupported, "DRM_IOCTL_SET_CLIENT_CAP", text).on(&device));
            }
        };
        let connector = self.choose_connector(&device)?;
        let mode = self.choose_mode(&device, &connector)?;
        let possible = device.crtcs_of(&connector)?;
        let crtc = {
            let mut screens = device.screens();
            let free = possible.iter().find(|(id, _)| !screens.crtcs.contains(id)).copied();
            let free = free.ok_or_else(|| {
                let text = format!("every CRTC of {} drives another scanout", connector.name);
                Error::new(ErrorKind::Busy, "scanout", text).on(&device)
            })?;
            screens.crtcs.push(free.0);
            free
        };
        // From here on its drop gives the CRTC back.
        let mut scanout = Scanout::new(device, connector, mode, crtc);
        if atomic {
            scanout.atomic = Some(AtomicProps::of(&scanout.device, scanout.connector.id, scanout.crtc, &mode)?);
        }
        Ok(scanout)
    }

    fn choose_connector(&self, device: &Device) -> Result<Connector> {
        let all = device.connectors()?;
        let fits = |c: &&Connector| match &self.connector {
            Some(name) => c.name == *name,
            None => !c.writeback,
        };
        // Nothing hangs at a writeback connector, and the driver says so or that it does not know.
        let there = |c: &Connector| c.writeback || c.connection == Connection::Connected;
        let ready = |c: &&Connector| there(c) && !c.modes.is_empty();
        if let Some(found) = all.iter().filter(fits).find(ready) {
            return Ok(found.clone());
        }
        let name = self.connector.as_deref().unwrap_or("a display");
        let seen: Vec<_> =
            all.iter().map(|c| format!("{} ({:?}, {} modes)", c.name, c.connection, c.modes.len())).collect();
        let text = format!("asked {name}, connected; the device has {}", seen.join(", "));
        Err(Error::new(ErrorKind::NotFound, "DRM_IOCTL_MODE_GETCONNECTOR", text).on(device))
    }

    fn choose_mode(&self, device: &Device, connector: &Connector) -> Result<Mode> {
        let fits = |m: &&Mode| {
            self.size.map_or(true, |s| m.size() == s)
                && self.refresh_hz.map_or(true, |hz| m.refresh_millihertz().saturating_add(500) / 1000 == hz)
        };
        // The list has the preferred mode first, then the larger and faster.
        let mut fitting = connector.modes.iter().filter(fits);
        let first = fitting.clone().next();
        if let Some(mode) = fitting.find(|m| m.is_preferred()).or(first) {
            return Ok(*mode);
        }
        let modes: Vec<_> = connector.modes.iter().map(Mode::to_string).collect();
        let (size, rate) = (self.size.map_or("any size".into(), |s| s.to_string()), self.refresh_hz);
        let rate = rate.map_or("any rate".into(), |hz| format!("{hz} Hz"));
        let text = format!("asked {size} at {rate}; {} has {}", connector.name, modes.join(", "));
        Err(Error::new(ErrorKind::NotFound, "mode", text).on(device))
    }
}

/// Whether one of its connectors has a display.
fn has_display(device: &Device) -> bool {
    let connected = |c: &Connector| c.connection == Connection::Connected && !c.writeback;
    device.connectors().is_ok_and(|all| all.iter().any(connected))
}
