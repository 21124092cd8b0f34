//! Connectors, modes, CRTCs and planes of a device, and the formats of each plane.

use std::fmt;

use ::drm::control::{self, connector, Device as _, ModeTypeFlags};

use super::device::{Device, NodeKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Size};
use crate::sys;
use crate::sys::drm::{FenceProp, Prop, ValueProp};

/// Whether a display is plugged into a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Connection {
    /// A display is plugged in.
    Connected,
    /// No display is plugged in.
    Disconnected,
    /// The driver does not know, for example for writeback connectors and some analog connectors.
    Unknown,
}

impl Connection {
    fn of(state: connector::State) -> Self {
        match state {
            connector::State::Connected => Self::Connected,
            connector::State::Disconnected => Self::Disconnected,
            connector::State::Unknown => Self::Unknown,
        }
    }
}

/// A display mode: size, rate and timings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    pub(super) raw: control::Mode,
}

impl Mode {
    /// Returns the visible size in pixels.
    pub fn size(&self) -> Size {
        let (width, height) = self.raw.size();
        Size::new(width.into(), height.into())
    }

    /// Returns the refresh rate in millihertz, from the pixel clock and the totals. 0 if the driver does not report
    /// it.
    pub(crate) fn refresh_millihertz(&self) -> u32 {
        let total = u64::from(self.raw.hsync().2) * u64::from(self.raw.vsync().2);
        if total == 0 {
            return self.raw.vrefresh().saturating_mul(1000);
        }
        // The clock is in kHz.
        u32::try_from(u64::from(self.raw.clock()) * 1_000_000 / total).unwrap_or(u32::MAX)
    }

    /// Returns the nanoseconds from one refresh to the next. 0 if the driver does not report a rate.
    pub(crate) fn period_ns(&self) -> u64 {
        1_000_000_000_000u64.checked_div(self.refresh_millihertz().into()).unwrap_or(0)
    }

    /// Returns `true` if the display prefers this mode.
    pub(crate) fn is_preferred(&self) -> bool {
        self.raw.mode_type().contains(ModeTypeFlags::PREFERRED)
    }
}

/// Displays as `1920x1080@60.00`.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.refresh_millihertz();
        write!(f, "{}@{}.{:02}", self.size(), rate / 1000, rate % 1000 / 10)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode({self})")
    }
}

/// A connector, which a display is plugged into.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connector {
    /// The KMS object id.
    pub id: u32,
    /// The kernel's name, such as `HDMI-A-1` for `/sys/class/drm/card0-HDMI-A-1`.
    pub name: String,
    /// Whether a display is plugged in.
    pub connection: Connection,
    /// `true` for a writeback connector, which writes the picture to memory.
    pub writeback: bool,
    /// The modes of the display.
    pub modes: Vec<Mode>,
    /// The index among the connectors of the device.
    position: usize,
    encoders: Vec<control::encoder::Handle>,
}

impl Connector {
    fn of(info: &connector::Info, position: usize) -> Self {
        Self {
            position,
            id: info.handle().into(),
            name: info.to_string(),
            connection: Connection::of(info.state()),
            writeback: info.interface() == connector::Interface::Writeback,
            modes: info.modes().iter().map(|&raw| Mode { raw }).collect(),
            encoders: info.encoders().to_vec(),
        }
    }
}

/// A DRM format modifier (`DRM_FORMAT_MOD_*`): the tiling or compression of pixels in memory.
///
/// ```
/// use framelease::drm::Modifier;
///
/// let tiled = Modifier::from(0x0100_0000_0000_0001); // I915_FORMAT_MOD_X_TILED
/// assert_ne!(tiled, Modifier::LINEAR);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Modifier(u64);

impl Modifier {
    /// `DRM_FORMAT_MOD_LINEAR`: row after row. V4L2 formats are linear unless their name says otherwise.
    pub const LINEAR: Self = Self(0);
}

/// Converts the number that `drm_fourcc.h` defines.
impl From<u64> for Modifier {
    fn from(modifier: u64) -> Self {
        Self(modifier)
    }
}

impl From<Modifier> for u64 {
    fn from(modifier: Modifier) -> Self {
        modifier.0
    }
}

impl fmt::Display for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LINEAR => f.write_str("linear"),
            Self(bits) => write!(f, "{bits:#018x}"),
        }
    }
}

/// The purpose of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlaneKind {
    /// The lowest plane. Most CRTCs require it.
    Primary,
    /// A plane above the primary plane. Some drivers can place it below.
    Overlay,
    /// The top plane, for small pictures.
    Cursor,
}

/// A format that a plane supports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlaneFormat {
    /// The DRM code (`drm_fourcc.h`).
    pub code: u32,
    /// The modifiers with which the plane supports this format. Empty if the driver does not list modifiers.
    pub modifiers: Vec<Modifier>,
}

impl PlaneFormat {
    /// Returns the V4L2 format with the same bytes in memory, with all color planes in one memory plane.
    pub fn fourcc(&self) -> Option<FourCc> {
        FourCc::from_drm(self.code)
    }
}

/// A plane, which connects framebuffers to a CRTC. Displays as `primary plane 31 takes XR24, AR24 (linear)`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plane {
    /// The KMS object id.
    pub id: u32,
    /// The purpose of the plane.
    pub kind: PlaneKind,
    /// The supported formats (`IN_FORMATS`, else the list without modifiers).
    pub formats: Vec<PlaneFormat>,
    /// Bit `n` is set for the `n`-th CRTC.
    pub(super) crtcs: u32,
    /// The CRTC that shows it now, or 0.
    pub(super) crtc: u32,
    pub(super) props: Props,
}

impl Plane {
    /// Returns `true` if the plane supports this format with this modifier. A format without listed modifiers is
    /// supported with any modifier.
    pub fn takes(&self, code: u32, modifier: Modifier) -> bool {
        let fits = |f: &PlaneFormat| f.code == code && (f.modifiers.is_empty() || f.modifiers.contains(&modifier));
        self.formats.iter().any(fits)
    }

    /// Returns `true` if the plane lists this modifier for this format.
    pub(super) fn lists(&self, code: u32, modifier: Modifier) -> bool {
        self.formats.iter().any(|f| f.code == code && f.modifiers.contains(&modifier))
    }
}

/// Displays as `primary plane 31 takes XR24, AR24 (linear)`.
impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PlaneKind::Primary => "primary",
            PlaneKind::Overlay => "overlay",
            PlaneKind::Cursor => "cursor",
        };
        write!(f, "{kind} plane {} takes ", self.id)?;
        for (i, format) in self.formats.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, code(format.code))?;
            let others: Vec<_> = format.modifiers.iter().filter(|&&m| m != Modifier::LINEAR).collect();
            if !others.is_empty() {
                write!(f, " (and {} modifiers besides linear)", others.len())?;
            }
        }
        Ok(())
    }
}

/// Returns a DRM code as text: the four characters, and the V4L2 name if it differs.
pub(super) fn code(code: u32) -> String {
    let drm = FourCc::from(code).to_string();
    match FourCc::from_drm(code).and_then(FourCc::info) {
        Some(info) if info.name != drm => format!("{drm} (V4L2 {})", info.name),
        _ => drm,
    }
}

/// The properties of one object, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Props(Vec<(String, Prop, u64)>);

impl Props {
    fn find(&self, name: &str) -> Option<&(String, Prop, u64)> {
        self.0.iter().find(|(n, ..)| n == name)
    }

    /// Returns a property to set.
    pub(super) fn value(&self, name: &str) -> Option<ValueProp> {
        self.find(name).and_then(|(_, prop, _)| match *prop {
            Prop::Value(prop) => Some(prop),
            Prop::Fence(_) => None,
        })
    }

    /// Returns a property that requests a fence.
    pub(super) fn fence(&self, name: &str) -> Option<FenceProp> {
        self.find(name).and_then(|(_, prop, _)| match *prop {
            Prop::Fence(prop) => Some(prop),
            Prop::Value(_) => None,
        })
    }

    /// Returns the value of a property when it was read.
    pub(super) fn current(&self, name: &str) -> Option<u64> {
        self.find(name).map(|&(_, _, value)| value)
    }
}

impl Device {
    /// Lists the connectors, including writeback connectors. If this process is DRM master, the kernel probes the
    /// displays, which can take tenths of a second. In other processes, the call returns the last known state. Ioctls:
    /// `DRM_IOCTL_MODE_GETRESOURCES`, `GETCONNECTOR`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have displays.
    #[doc(alias = "DRM_IOCTL_MODE_GETCONNECTOR")]
    pub fn connectors(&self) -> Result<Vec<Connector>> {
        let resources = self.resources()?;
        // A connector can disappear between the two calls (DisplayPort MST).
        let connector = |(position, &c): (usize, &connector::Handle)| {
            Some(Connector::of(&self.0.node.get_connector(c, true).ok()?, position))
        };
        Ok(resources.connectors().iter().enumerate().filter_map(connector).collect())
    }

    /// Lists the planes. Ioctls: `DRM_IOCTL_MODE_GETPLANERESOURCES`, `GETPLANE`, `OBJ_GETPROPERTIES`, `GETPROPBLOB`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have displays.
    #[doc(alias = "DRM_IOCTL_MODE_GETPLANE")]
    #[doc(hidden)]
    pub fn planes(&self) -> Result<Vec<Plane>> {
        let all = self.resources()?;
        let handles = self.0.node.plane_handles().map_err(self.failed_io("DRM_IOCTL_MODE_GETPLANERESOURCES"))?;
        let mut planes = Vec::new();
        for handle in handles {
            let info = self.0.node.get_plane(handle).map_err(self.failed_io("DRM_IOCTL_MODE_GETPLANE"))?;
            let props = self.props(handle)?;
            let kind = match props.current("type") {
                Some(1) => PlaneKind::Primary,
                Some(2) => PlaneKind::Cursor,
                // Without universal planes only overlays are listed.
                _ => PlaneKind::Overlay,
            };
            let blob = props.current("IN_FORMATS").filter(|&b| b != 0);
            let mut formats =
                blob.and_then(|b| self.0.node.get_property_blob(b).ok()).map_or(Vec::new(), |b| in_formats(&b));
            if formats.is_empty() {
                let plain = |&code: &u32| PlaneFormat { code, modifiers: Vec::new() };
                formats = info.formats().iter().map(plain).collect();
            }
            let possible = all.filter_crtcs(info.possible_crtcs());
            let bit = |(n, c): (usize, &control::crtc::Handle)| u32::from(possible.contains(c)).checked_shl(n as u32);
            let crtcs = all.crtcs().iter().enumerate().filter_map(bit).fold(0, |a, b| a | b);
            let crtc = info.crtc().map_or(0, Into::into);
            planes.push(Plane { id: handle.into(), kind, formats, crtcs, crtc, props });
        }
        Ok(planes)
    }

    /// Returns the state of one connector that the kernel knows, without a probe. Ioctl:
    /// `DRM_IOCTL_MODE_GETCONNECTOR`.
    pub(super) fn connection(&self, id: u32) -> Result<Connection> {
        let state = sys::drm::connection(self.fd(), id);
        let state = state.map_err(|e| self.failed("DRM_IOCTL_MODE_GETCONNECTOR", e))?;
        Ok(Connection::of(connector::State::from(state)))
    }

    /// Finds a device again, and the name of a connector on it.
    ///
    /// The device is at the place where it was plugged in before, or is another one of the same driver that has the
    /// connector. The kernel may give the connector a new number while a process has the lost device open. Then it is
    /// identified by its position.
    pub(super) fn find_again(&self, connector: &Connector) -> Result<(Self, String)> {
        let kind = |name: &str| name.rsplit_once('-').map(|(kind, _)| kind.to_owned());
        let found_on = |device: &Self| {
            let names = device.connector_names();
            if names.contains(&connector.name) {
                return Some(connector.name.clone());
            }
            let same = names.get(connector.position).filter(|name| kind(name) == kind(&connector.name));
            same.filter(|_| device.bus().is_some() && device.bus() == self.bus()).cloned()
        };
        let fits = |d: &Self| {
            let info = d.info();
            info.kind == NodeKind::Primary && info.driver == self.info().driver && found_on(d).is_some()
        };
        let device = Self::find_open(fits)?;
        let name = found_on(&device).unwrap_or_else(|| connector.name.clone());
        Ok((device, name))
    }

    /// Returns the names of the connectors, without a probe.
    fn connector_names(&self) -> Vec<String> {
        let Ok(resources) = self.resources() else { return Vec::new() };
        let name =
            |&c: &connector::Handle| self.0.node.get_connector(c, false).map_or(String::new(), |i| i.to_string());
        resources.connectors().iter().map(name).collect()
    }

    /// Returns the connectors that a CRTC drives now, with their property `CRTC_ID`. Empty without the atomic
    /// interface.
    pub(super) fn connectors_at(&self, crtc: u32) -> Vec<(u32, ValueProp)> {
        let Ok(resources) = self.resources() else { return Vec::new() };
        let driven = |&connector: &connector::Handle| {
            let props = self.props(connector).ok()?;
            let prop = props.value("CRTC_ID").filter(|_| props.current("CRTC_ID") == Some(crtc.into()))?;
            Some((connector.into(), prop))
        };
        resources.connectors().iter().filter_map(driven).collect()
    }

    /// Returns the CRTCs that a connector's encoders reach: id and index.
    pub(super) fn crtcs_of(&self, connector: &Connector) -> Result<Vec<(u32, u32)>> {
        let all = self.resources()?;
        let mut found = Vec::new();
        for &encoder in &connector.encoders {
            let Ok(info) = self.0.node.get_encoder(encoder) else { continue };
            let possible = all.filter_crtcs(info.possible_crtcs());
            for (index, crtc) in (0u32..).zip(all.crtcs()) {
                if possible.contains(crtc) && !found.contains(&((*crtc).into(), index)) {
                    found.push(((*crtc).into(), index));
                }
            }
        }
        Ok(found)
    }

    pub(super) fn resources(&self) -> Result<control::ResourceHandles> {
        self.0.node.resource_handles().map_err(|e| {
            let error = Error::io("DRM_IOCTL_MODE_GETRESOURCES", &e).on(self);
            match e.raw_os_error() {
                // Drivers without DRIVER_MODESET return EOPNOTSUPP or EINVAL. Render nodes return EACCES.
                Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EACCES) => {
                    error.kind_is(ErrorKind::Unsupported).detail("the node does not have displays")
                }
                _ => error,
            }
        })
    }

    /// Returns the properties of an object.
    pub(super) fn props<H: control::ResourceHandle>(&self, handle: H) -> Result<Props> {
        let set = self.0.node.get_properties(handle).map_err(self.failed_io("DRM_IOCTL_MODE_OBJ_GETPROPERTIES"))?;
        let mut props = Vec::new();
        for (&id, &value) in set.iter() {
            let (name, prop) =
                sys::drm::property(self.fd(), id.into()).map_err(|e| self.failed("DRM_IOCTL_MODE_GETPROPERTY", e))?;
            props.push((name, prop, value));
        }
        Ok(Props(props))
    }
}

/// Parses the `IN_FORMATS` blob (`struct drm_format_modifier_blob`): formats, and for each modifier one bit per
/// format.
fn in_formats(blob: &[u8]) -> Vec<PlaneFormat> {
    let word =
        |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(blob.get(at..at.checked_add(4)?)?.try_into().ok()?)) };
    let long =
        |at: usize| -> Option<u64> { Some(u64::from_ne_bytes(blob.get(at..at.checked_add(8)?)?.try_into().ok()?)) };
    let field = |at| word(at).unwrap_or(0) as usize;
    let (formats, formats_at, modifiers, modifiers_at) = (field(8), field(12), field(16), field(20));
    let mut found: Vec<PlaneFormat> = (0..formats)
        .map_while(|i| word(formats_at.checked_add(i.checked_mul(4)?)?))
        .map(|code| PlaneFormat { code, modifiers: Vec::new() })
        .collect();
    for i in 0..modifiers {
        let Some(at) = i.checked_mul(24).and_then(|o| o.checked_add(modifiers_at)) else { break };
        let (Some(bits), Some(offset), Some(modifier)) =
            (long(at), at.checked_add(8).and_then(word), at.checked_add(16).and_then(long))
        else {
            break;
        };
        for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
            if let Some(format) = (offset as usize).checked_add(bit).and_then(|n| found.get_mut(n)) {
                format.modifiers.push(Modifier::from(modifier));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob(formats: &[u32], modifiers: &[(u64, u32, u64)]) -> Vec<u8> {
        let modifiers_at = 24 + 4 * formats.len() as u32;
        let mut bytes = Vec::new();
        for word in [1, 0, formats.len() as u32, 24, modifiers.len() as u32, modifiers_at].iter().chain(formats) {
            bytes.extend(word.to_ne_bytes());
        }
        for &(bits, offset, modifier) in modifiers {
            bytes.extend(bits.to_ne_bytes());
            bytes.extend([offset, 0].map(u32::to_ne_bytes).concat());
            bytes.extend(modifier.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn plane_in_formats_assigns_modifiers_to_formats() {
        let found = in_formats(&blob(&[1, 2, 3], &[(0b101, 0, 0), (0b1, 1, 77)]));
        let modifiers: Vec<Vec<u64>> = found.iter().map(|f| f.modifiers.iter().map(|m| m.0).collect()).collect();
        assert_eq!(modifiers, [vec![0], vec![77], vec![0]]);
    }

    #[test]
    fn code_has_the_drm_and_the_v4l2_name() {
        assert_eq!(code(u32::from_le_bytes(*b"XR24")), "XR24 (V4L2 XBGR32)");
        assert_eq!(code(u32::from_le_bytes(*b"NV12")), "NV12");
        assert_eq!(code(u32::from_le_bytes(*b"XR48")), "XR48");
    }

    proptest! {
        #[test]
        fn plane_in_formats_accepts_any_blob(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), counts: bool) {
            if counts && bytes.len() >= 24 {
                // Plausible counts and offsets reach more of the parser.
                for (at, word) in [(8, 9u32), (12, 24), (16, 9), (20, 60)] {
                    bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
                }
            }
            prop_assert!(in_formats(&bytes).len() <= bytes.len() / 4 + 1);
        }
    }
}
