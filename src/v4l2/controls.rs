//! Controls of a device: their ranges and menus, and reading and writing them by type.

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::from_kernel::text;
use crate::sys::v4l2::{Plain, QueryExtCtrl, QueryMenu};
use crate::sys::v4l2_calls::{self as calls, ControlCall};

/// `V4L2_CTRL_FLAG_NEXT_CTRL` and `_NEXT_COMPOUND`.
const NEXT: u32 = 0xc000_0000;

/// A limit above the payload of any reasonable driver's control.
const MOST_BYTES: usize = 1 << 20;

/// The id of a control (`V4L2_CID_*`). Any number is allowed. The constants are controls that most cameras and
/// converters have.
///
/// ```
/// use framelease::v4l2::ControlId;
///
/// const GAIN: ControlId = ControlId::new(0x0098_0913); // `V4L2_CID_GAIN`
/// assert_eq!(GAIN.to_string(), "0x00980913");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ControlId(u32);

impl ControlId {
    /// `V4L2_CID_BRIGHTNESS`: the brightness of the picture.
    pub const BRIGHTNESS: Self = Self(0x0098_0900);
    /// `V4L2_CID_CONTRAST`: the contrast of the picture.
    pub const CONTRAST: Self = Self(0x0098_0901);
    /// `V4L2_CID_HFLIP`: mirrors the picture horizontally.
    pub const HORIZONTAL_FLIP: Self = Self(0x0098_0914);
    /// `V4L2_CID_VFLIP`: mirrors the picture vertically.
    pub const VERTICAL_FLIP: Self = Self(0x0098_0915);
    /// `V4L2_CID_ROTATE`: rotates the picture, in degrees.
    pub const ROTATE: Self = Self(0x0098_0922);
    /// `V4L2_CID_MIN_BUFFERS_FOR_CAPTURE`.
    pub(crate) const MIN_BUFFERS_FOR_CAPTURE: Self = Self(0x0098_0927);
    /// `V4L2_CID_MIN_BUFFERS_FOR_OUTPUT`.
    pub(crate) const MIN_BUFFERS_FOR_OUTPUT: Self = Self(0x0098_0928);
    /// `V4L2_CID_ALPHA_COMPONENT`: the alpha that a device writes into every pixel.
    pub(crate) const ALPHA_COMPONENT: Self = Self(0x0098_0929);
    /// `V4L2_CID_EXPOSURE`: the exposure time of a sensor, in lines.
    pub const EXPOSURE: Self = Self(0x0098_0911);
    /// `V4L2_CID_ANALOGUE_GAIN`: the gain of a sensor.
    pub const ANALOG_GAIN: Self = Self(0x009e_0903);
    /// `V4L2_CID_EXPOSURE_AUTO`: automatic, manual or partly automatic exposure.
    pub const EXPOSURE_AUTO: Self = Self(0x009a_0901);
    /// `V4L2_CID_EXPOSURE_ABSOLUTE`: the exposure time, in units of 100 µs.
    pub const EXPOSURE_ABSOLUTE: Self = Self(0x009a_0902);

    /// Creates an id from its number in the kernel's headers.
    pub const fn new(id: u32) -> Self {
        Self(id)
    }
}

impl From<ControlId> for u32 {
    fn from(id: ControlId) -> Self {
        id.0
    }
}

impl fmt::Display for ControlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// The type of a control's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlKind {
    /// A number of 32 bits.
    Integer,
    /// A value that is 0 (off) or 1 (on).
    Boolean,
    /// An entry of a list of names.
    Menu,
    /// An entry of a list of numbers.
    IntegerMenu,
    /// A write triggers an action. The control has no value.
    Button,
    /// A number of 64 bits.
    Integer64,
    /// Bits of a 32-bit number.
    Bitmask,
    /// Text of a limited length.
    Text,
    /// An array or struct, as its bytes.
    Compound,
    /// A type that this crate does not know, with its `V4L2_CTRL_TYPE_*` number.
    Other(u32),
}

/// `V4L2_CTRL_FLAG_DISABLED`
const DISABLED: u32 = 1;

/// An entry of a menu control.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MenuItem {
    /// The value of the control that selects the entry.
    pub index: u32,
    /// The name of the entry, or its number for an integer menu.
    pub name: String,
}

/// A control, as its driver describes it. Displays as `'Brightness' takes 0 to 255 in steps of 1, by default 128`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Control {
    /// The id of the control.
    pub id: ControlId,
    /// The name of the control, from the driver.
    pub name: String,
    /// The type of the control's value.
    pub kind: ControlKind,
    /// The smallest value, or the shortest text.
    pub minimum: i64,
    /// The largest value, or the longest text.
    pub maximum: i64,
    /// The distance between two values.
    pub step: u64,
    /// The value that the driver starts with.
    pub default: i64,
    /// `true` if the control is permanently off.
    pub is_disabled: bool,
    /// `true` while another program holds the control.
    pub is_grabbed: bool,
    /// `true` if the value cannot be set.
    pub is_read_only: bool,
    /// `true` if the value cannot be read.
    pub is_write_only: bool,
    /// `true` if the control has no effect now, such as gain while automatic gain is on.
    pub is_inactive: bool,
    /// `true` if the hardware changes the value.
    pub is_volatile: bool,
    /// `true` if a new value may change other controls.
    pub changes_others: bool,
    /// Bytes of the payload of a text or compound control.
    pub payload_bytes: usize,
    /// The entries of a menu, empty for other types.
    pub menu: Vec<MenuItem>,
}

/// The value of a control.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlValue {
    /// The value of an integer, boolean (0 or 1), menu (the entry's index) or bitmask.
    Number(i64),
    /// The value of a text control.
    Text(String),
    /// The bytes of a compound control, in native byte order.
    Bytes(Vec<u8>),
    /// A press of a button control.
    Press,
}

impl From<i32> for ControlValue {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

impl From<i64> for ControlValue {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for ControlValue {
    fn from(value: bool) -> Self {
        Self::Number(value.into())
    }
}

impl From<&str> for ControlValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for ControlValue {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl fmt::Display for ControlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Text(text) => write!(f, "'{text}'"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Press => f.write_str("a press"),
        }
    }
}

/// Displays the control as errors describe it: `'Brightness' takes 0 to 255 in steps of 1, by default 128`.
impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, minimum, maximum, step, default, .. } = self;
        write!(f, "'{name}' takes ")?;
        match self.kind {
            ControlKind::Button => f.write_str("a press"),
            ControlKind::Text => write!(f, "text of {minimum} to {maximum} bytes"),
            ControlKind::Compound | ControlKind::Other(_) => write!(f, "{} bytes", self.payload_bytes),
            ControlKind::Menu | ControlKind::IntegerMenu => {
                let items: Vec<String> = self.menu.iter().map(|m| format!("{} ({})", m.index, m.name)).collect();
                write!(f, "{}, by default {default}", items.join(", "))
            }
            _ => write!(f, "{minimum} to {maximum} in steps of {step}, by default {default}"),
        }
    }
}

impl Control {
    fn from_raw(raw: &QueryExtCtrl) -> Self {
        use ControlKind as K;
        let payload = raw.flags & 0x100 != 0;
        let kind = match raw.kind {
            7 => K::Text,
            _ if payload => K::Compound,
            1 => K::Integer,
            2 => K::Boolean,
            3 => K::Menu,
            4 => K::Button,
            5 => K::Integer64,
            8 => K::Bitmask,
            9 => K::IntegerMenu,
            other => K::Other(other),
        };
        Self {
            id: ControlId::new(raw.id),
            name: text(&raw.name),
            kind,
            minimum: raw.minimum,
            maximum: raw.maximum,
            step: raw.step,
            default: raw.default_value,
            is_disabled: raw.flags & DISABLED != 0,
            is_grabbed: raw.flags & 0x2 != 0,
            is_read_only: raw.flags & 0x4 != 0,
            is_write_only: raw.flags & 0x40 != 0,
            is_inactive: raw.flags & 0x10 != 0,
            is_volatile: raw.flags & 0x80 != 0,
            changes_others: raw.flags & 0x8 != 0,
            payload_bytes: if payload { (raw.elem_size as usize).saturating_mul(raw.elems as usize) } else { 0 },
            menu: Vec::new(),
        }
    }

    /// Returns `true` if the control cannot have this value. The driver checks and rounds steps.
    fn refuses(&self, value: &ControlValue) -> bool {
        use ControlKind as K;
        match (self.kind, value) {
            (K::Button, ControlValue::Press) => false,
            (K::Text, ControlValue::Text(t)) => t.len() as i64 > self.maximum || t.contains('\0'),
            (K::Compound, ControlValue::Bytes(b)) => b.len() != self.payload_bytes,
            (K::Menu | K::IntegerMenu, ControlValue::Number(n)) => !self.menu.iter().any(|m| i64::from(m.index) == *n),
            (K::Bitmask, ControlValue::Number(n)) => n & !self.maximum != 0,
            (K::Integer | K::Boolean | K::Integer64, ControlValue::Number(n)) => {
                !(self.minimum..=self.maximum).contains(n)
            }
            _ => true,
        }
    }
}

impl Device {
    /// Returns every control that is not disabled, with its menu. For a node that a media graph feeds, the controls of
    /// the [subdevices](Device::subdevices) follow, those of the sensor first: exposure, gain, flips. Ioctls:
    /// `VIDIOC_QUERY_EXT_CTRL` (Linux 3.17), `VIDIOC_QUERYMENU`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver. The list is empty for a device without
    /// controls.
    #[doc(alias = "VIDIOC_QUERY_EXT_CTRL")]
    #[doc(alias = "VIDIOC_QUERYMENU")]
    pub fn controls(&self) -> Result<Vec<Control>> {
        let mut controls = self.own_controls()?;
        for subdevice in self.subdevices() {
            // The node's own driver may pass them on.
            let is_new = |control: &Control| !controls.iter().any(|known| known.id == control.id);
            let new: Vec<Control> = subdevice.own_controls()?.into_iter().filter(is_new).collect();
            controls.extend(new);
        }
        Ok(controls)
    }

    fn own_controls(&self) -> Result<Vec<Control>> {
        let mut controls = Vec::new();
        let mut last = 0;
        // No device has more controls. The limit ends the loop for a driver that invents them.
        for _ in 0..4096 {
            let mut raw = QueryExtCtrl { id: last | NEXT, ..QueryExtCtrl::zeroed() };
            match calls::query_ext_ctrl(self.as_fd(), &mut raw) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOTTY) => return Ok(controls),
                Err(e) => return Err(self.failed("VIDIOC_QUERY_EXT_CTRL", e)),
            }
            if raw.id <= last {
                // Stops at a driver that does not advance.
                return Ok(controls);
            }
            last = raw.id;
            // Type 6 is a class, which is only a heading.
            if raw.kind != 6 && raw.flags & DISABLED == 0 {
                controls.push(self.with_menu(Control::from_raw(&raw)));
            }
        }
        Ok(controls)
    }

    /// Returns the description of one control, also of one that a [subdevice](Device::subdevices) has. Ioctls:
    /// `VIDIOC_QUERY_EXT_CTRL`, `VIDIOC_QUERYMENU`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the control.
    #[doc(alias = "VIDIOC_QUERY_EXT_CTRL")]
    pub fn control(&self, id: ControlId) -> Result<Control> {
        self.find_control(id).map(|(_, control)| control)
    }

    /// Returns a control and the node or subdevice that has it.
    fn find_control(&self, id: ControlId) -> Result<(Self, Control)> {
        match self.own_control(id) {
            Ok(control) => Ok((self.clone(), control)),
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                let of = |subdevice: Self| Some((subdevice.own_control(id).ok()?, subdevice));
                let found = self.subdevices().into_iter().find_map(of);
                found.map(|(control, subdevice)| (subdevice, control)).ok_or(e)
            }
            Err(e) => Err(e),
        }
    }

    fn own_control(&self, id: ControlId) -> Result<Control> {
        const OP: &str = "VIDIOC_QUERY_EXT_CTRL";
        let mut raw = QueryExtCtrl { id: u32::from(id) & !NEXT, ..QueryExtCtrl::zeroed() };
        match calls::query_ext_ctrl(self.as_fd(), &mut raw) {
            Ok(()) => Ok(self.with_menu(Control::from_raw(&raw))),
            Err(e @ (Errno::EINVAL | Errno::ENOTTY)) => {
                let text = format!("the device does not have the control {id}");
                Err(self.failed(OP, e).kind_is(ErrorKind::Unsupported).detail(text))
            }
            Err(e) => Err(self.failed(OP, e)),
        }
    }

    fn with_menu(&self, mut control: Control) -> Control {
        if !matches!(control.kind, ControlKind::Menu | ControlKind::IntegerMenu) {
            return control;
        }
        let (first, last) = (control.minimum.clamp(0, 1024), control.maximum.clamp(0, 1024));
        for index in first as u32..=last as u32 {
            let mut raw = QueryMenu { id: u32::from(control.id), index, ..QueryMenu::zeroed() };
            // Menus can have gaps, for which the driver returns EINVAL.
            if calls::querymenu(self.as_fd(), &mut raw).is_err() {
                continue;
            }
            let [a, b, c, d, e, f, g, h, ..] = raw.body;
            let name = match control.kind {
                ControlKind::IntegerMenu => i64::from_ne_bytes([a, b, c, d, e, f, g, h]).to_string(),
                _ => text(&{ raw.body }),
            };
            control.menu.push(MenuItem { index, name });
        }
        control
    }

    /// Returns the value of a control. Ioctls: `VIDIOC_QUERY_EXT_CTRL`, `VIDIOC_G_EXT_CTRLS`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the control. If the control cannot be read, the error is that of the
    /// driver.
    #[doc(alias = "VIDIOC_G_EXT_CTRLS")]
    pub fn control_value(&self, id: ControlId) -> Result<ControlValue> {
        let (owner, control) = self.find_control(id)?;
        owner.exchange(&control, ControlCall::Get, &ControlValue::Number(0))
    }

    /// Sets a control and returns the value that the driver chose, which may be rounded to a step. For a control that
    /// only a subdevice has, each call reads the media graph. To set one for every frame, call the subdevice itself.
    /// Ioctls: `VIDIOC_QUERY_EXT_CTRL`, `VIDIOC_S_EXT_CTRLS`.
    ///
    /// # Errors
    /// `InvalidArgument` for a value of the wrong type or out of range (the text has the range or menu). `Unsupported`
    /// if the device does not have the control. `Busy` while another program or the stream holds the control.
    /// `PermissionDenied` if the control is read-only.
    #[doc(alias = "VIDIOC_S_EXT_CTRLS")]
    pub fn set_control(&self, id: ControlId, value: impl Into<ControlValue>) -> Result<ControlValue> {
        let ((owner, control), value) = (self.find_control(id)?, value.into());
        if control.refuses(&value) {
            let text = format!("asked {value}; {control}");
            return Err(Error::new(ErrorKind::InvalidArgument, "VIDIOC_S_EXT_CTRLS", text).on(owner));
        }
        owner.exchange(&control, ControlCall::Set, &value)
    }

    fn exchange(&self, control: &Control, call: ControlCall, value: &ControlValue) -> Result<ControlValue> {
        let op = match call {
            ControlCall::Get => "VIDIOC_G_EXT_CTRLS",
            ControlCall::Set => "VIDIOC_S_EXT_CTRLS",
        };
        let failed = |e: Errno| {
            let text = match call {
                ControlCall::Get => format!("{}; control '{}'", e.desc(), control.name),
                ControlCall::Set if e == Errno::EACCES && control.is_inactive => {
                    let text =
                        format!("another control sets this one, such as an automatic mode; asked {value}; {control}");
                    return self.failed(op, e).kind_is(ErrorKind::State).detail(text);
                }
                // The errno's own words are about mathematics.
                ControlCall::Set if e == Errno::ERANGE => format!("out of range; asked {value}; {control}"),
                ControlCall::Set => format!("{}; asked {value}; {control}", e.desc()),
            };
            self.failed(op, e).detail(text)
        };
        if matches!(control.kind, ControlKind::Text | ControlKind::Compound) {
            if control.payload_bytes > MOST_BYTES {
                return Err(failed(Errno::E2BIG));
            }
            let mut bytes = vec![0; control.payload_bytes];
            let from = match value {
                ControlValue::Text(t) => t.as_bytes(),
                ControlValue::Bytes(b) => b,
                _ => &[],
            };
            bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            calls::control_bytes(self.as_fd(), call, u32::from(control.id), &mut bytes).map_err(failed)?;
            return Ok(match control.kind {
                ControlKind::Text => ControlValue::Text(text(&bytes)),
                _ => ControlValue::Bytes(bytes),
            });
        }
        let wide = control.kind == ControlKind::Integer64;
        let mut raw = [0; 8];
        if let ControlValue::Number(n) = value {
            match wide {
                true => raw = n.to_ne_bytes(),
                false => raw[..4].copy_from_slice(&(*n as u32).to_ne_bytes()),
            }
        }
        calls::control_number(self.as_fd(), call, u32::from(control.id), &mut raw).map_err(failed)?;
        let [a, b, c, d, ..] = raw;
        Ok(match control.kind {
            ControlKind::Button => ControlValue::Press,
            ControlKind::Integer64 => ControlValue::Number(i64::from_ne_bytes(raw)),
            ControlKind::Bitmask => ControlValue::Number(u32::from_ne_bytes([a, b, c, d]).into()),
            _ => ControlValue::Number(i32::from_ne_bytes([a, b, c, d]).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u32, minimum: i64, maximum: i64) -> QueryExtCtrl {
        let mut name = [0; 32];
        name[..4].copy_from_slice(b"Gain");
        QueryExtCtrl { id: 9, kind, name, minimum, maximum, step: 1, elems: 1, ..QueryExtCtrl::zeroed() }
    }

    #[test]
    fn control_refuses_values_of_another_type_or_range() {
        let gain = Control::from_raw(&raw(1, -5, 10));
        assert!(!gain.refuses(&(-5).into()) && gain.refuses(&11.into()) && gain.refuses(&"11".into()));
        assert_eq!(gain.to_string(), "'Gain' takes -5 to 10 in steps of 1, by default 0");
        let mut menu = Control::from_raw(&raw(3, 0, 3));
        menu.menu = vec![MenuItem { index: 2, name: "two".into() }];
        assert!(menu.refuses(&1.into()) && !menu.refuses(&2.into()));
        let mask = Control::from_raw(&raw(8, 0, 0x8000_0001));
        assert!(!mask.refuses(&0x8000_0000i64.into()) && mask.refuses(&2.into()));
        let button = Control::from_raw(&raw(4, 0, 0));
        assert!(!button.refuses(&ControlValue::Press) && button.refuses(&1.into()));
        let text = Control::from_raw(&QueryExtCtrl { flags: 0x100, elem_size: 4, ..raw(7, 0, 3) });
        assert!(!text.refuses(&"abc".into()) && text.refuses(&"abcd".into()));
        let array = Control::from_raw(&QueryExtCtrl { flags: 0x100, elem_size: 2, elems: 3, ..raw(0x101, 0, 3) });
        assert_eq!((array.kind, array.payload_bytes), (ControlKind::Compound, 6));
        assert!(array.refuses(&vec![0u8; 5].into()) && !array.refuses(&vec![0u8; 6].into()));
        let odd = Control::from_raw(&raw(77, 0, 0));
        assert_eq!(odd.kind, ControlKind::Other(77));
        assert!(odd.refuses(&0.into()));
    }
}
