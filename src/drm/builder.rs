//! Chooses the connector, mode and CRTC of a scanout, at first and after a loss.

use super::device::{Device, NodeKind};
use super::objects::{Connection, Connector, Mode};
use super::output::{Api, OutputRequirements};
use super::scanout::Scanout;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;

/// Chooses a connector and its mode. The default is the first device with a connected display, in the mode that the
/// display prefers.
///
/// ```no_run
/// use framelease::drm::Scanout;
/// use framelease::format::Size;
///
/// let screen = Scanout::builder().connector("HDMI-A-1").size(Size::new(1280, 720)).refresh_hz(60).open()?;
/// println!("{}", screen.size());
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScanoutBuilder {
    device: Option<Device>,
    output: OutputRequirements,
}

impl ScanoutBuilder {
    /// Sets the device to use.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Sets the connector by its name, such as `HDMI-A-1`. A writeback connector is used only if it is named here.
    /// The device then composes into memory: see [`Scanout::write_back`].
    pub fn connector(mut self, name: impl Into<String>) -> Self {
        self.output.connector = Some(name.into());
        self
    }

    /// Sets the size of the mode.
    pub fn size(mut self, size: Size) -> Self {
        self.output.size = Some(size);
        self
    }

    /// Sets the refresh rate of the mode, in whole hertz.
    pub fn refresh_hz(mut self, hz: u32) -> Self {
        self.output.refresh_hz = Some(hz);
        self
    }

    /// Sets the kernel interface to use. The default is [`Api::Auto`].
    #[doc(hidden)]
    pub fn api(mut self, api: Api) -> Self {
        self.output.api = api;
        self
    }

    /// Takes a connector, a CRTC and a mode. The screen changes with the first frame.
    ///
    /// # Errors
    /// `NotFound` if no display is connected, or if no connected display has the requested name or mode (the text lists
    /// the connectors or the modes). `Busy` if other scanouts of this device drive every CRTC of the connector.
    /// `Unsupported` for a device without displays. `Exhausted` if the process has no descriptors left.
    pub fn open(self) -> Result<Scanout> {
        let device = match &self.device {
            Some(device) => device.clone(),
            None => Device::find_open(|d| d.info().kind == NodeKind::Primary && has_display(d))?,
        };
        let (connector, mode) = choose(&device, &self.output)?;
        device.release_retained();
        Scanout::new(device, self.output, connector, mode)
    }
}

impl Scanout {
    /// Creates a builder, which chooses the connector and mode.
    pub fn builder() -> ScanoutBuilder {
        ScanoutBuilder::default()
    }

    /// Finds the device again, by the place where it is plugged in, or by driver and connector name. Takes the
    /// connector again, in a mode that meets the builder's requirements. The file descriptor and the layers stay the
    /// same. Call this after a device was lost, and after another display was plugged in.
    ///
    /// The leases of all shown, pending and staged frames end. Present new frames afterwards. If the call fails, the
    /// scanout counts as lost, and the call can be repeated.
    ///
    /// # Errors
    /// `NotFound` while the device or a connected display is missing, or if no mode of the display fits. `Busy` if
    /// another scanout took the CRTC. `Unsupported` if no plane takes the format of a layer. `PermissionDenied` while
    /// another process is DRM master.
    pub fn reopen(&mut self) -> Result<()> {
        let (device, name) = match self.connection() {
            Ok(_) => (self.device().clone(), self.connector().name.clone()),
            Err(_) => self.device().find_again(self.connector())?,
        };
        let requirements = OutputRequirements { connector: Some(name), ..self.requirements().clone() };
        let (connector, mode) = choose(&device, &requirements)?;
        device.release_retained();
        self.replace_output(device, requirements, connector, mode)
    }
}

fn choose(device: &Device, wish: &OutputRequirements) -> Result<(Connector, Mode)> {
    let connector = choose_connector(device, wish)?;
    let mode = choose_mode(device, &connector, wish)?;
    Ok((connector, mode))
}

fn choose_connector(device: &Device, wish: &OutputRequirements) -> Result<Connector> {
    let all = device.connectors()?;
    let fits = |c: &&Connector| match &wish.connector {
        Some(name) => c.name == *name,
        None => !c.writeback,
    };
    // A writeback connector has no display, and its driver reports "disconnected" or "unknown".
    let ready = |c: &&Connector| (c.writeback || c.connection == Connection::Connected) && !c.modes.is_empty();
    if let Some(found) = all.iter().filter(fits).find(ready) {
        return Ok(found.clone());
    }
    let name = wish.connector.as_deref().unwrap_or("a display");
    let seen: Vec<_> =
        all.iter().map(|c| format!("{} ({:?}, {} modes)", c.name, c.connection, c.modes.len())).collect();
    let text = format!("asked {name}, connected; the device has {}", seen.join(", "));
    Err(Error::new(ErrorKind::NotFound, "DRM_IOCTL_MODE_GETCONNECTOR", text).on(device))
}

fn choose_mode(device: &Device, connector: &Connector, wish: &OutputRequirements) -> Result<Mode> {
    let fits = |m: &&Mode| {
        wish.size.map_or(true, |s| m.size() == s)
            && wish.refresh_hz.map_or(true, |hz| m.refresh_millihertz().saturating_add(500) / 1000 == hz)
    };
    // The list has the preferred mode first, then larger and faster modes.
    let mut fitting = connector.modes.iter().filter(fits);
    let first = fitting.clone().next();
    if let Some(mode) = fitting.find(|m| m.is_preferred()).or(first) {
        return Ok(*mode);
    }
    let modes: Vec<_> = connector.modes.iter().map(Mode::to_string).collect();
    let (size, rate) = (wish.size.map_or("any size".into(), |s| s.to_string()), wish.refresh_hz);
    let rate = rate.map_or("any rate".into(), |hz| format!("{hz} Hz"));
    let text = format!("asked {size} at {rate}; {} has {}", connector.name, modes.join(", "));
    Err(Error::new(ErrorKind::NotFound, "mode", text).on(device))
}

/// Returns whether one of the device's connectors has a display.
fn has_display(device: &Device) -> bool {
    let connected = |c: &Connector| c.connection == Connection::Connected && !c.writeback;
    device.connectors().is_ok_and(|all| all.iter().any(connected))
}
