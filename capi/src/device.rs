//! Devices: what the machine has, and what each device offers.

use std::ffi::{c_char, CString};
use std::path::Path;

use framelease::format::FourCc;
use framelease::v4l2::{
    self, Control, ControlId, ControlKind, ControlValue, Device, DeviceInfo, Direction, Hotplug, Intervals, NodeEvent,
    Sizes,
};

use crate::ffi::{self, sized, Fill, Out};
use crate::format::{code, fl_interval};
use crate::station::fl_event_kind::{FL_EVENT_NODE_APPEARED, FL_EVENT_NODE_REMOVED};
use crate::station::{fl_station, open, station, AnyStation, Event};
use crate::status::fl_status::{self, FL_ENDED, FL_OK};
use crate::status::{c, c_text, call, invalid, not_found, numbers, value, Failure};

/// The V4L2 devices of the machine at the time of the call. Close it with fl_device_list_close().
#[allow(non_camel_case_types)]
pub struct fl_device_list {
    devices: Vec<(DeviceInfo, Texts)>,
}

/// The device gives frames.
pub const FL_DEVICE_CAPTURE: u32 = 1;
/// The device takes frames.
pub const FL_DEVICE_OUTPUT: u32 = 2;
/// The device converts, encodes or decodes.
pub const FL_DEVICE_M2M: u32 = 4;

/// A V4L2 device. The texts belong to the list or the device that gave them.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_device_info {
    /// sizeof(fl_device_info): FL_INIT sets it.
    pub size: usize,
    /// Such as "/dev/video0".
    pub path: *const c_char,
    /// The driver's name, such as "uvcvideo".
    pub driver: *const c_char,
    /// The device's name, such as "HD Pro Webcam C920".
    pub card: *const c_char,
    /// Where it is connected, such as "usb-0000:00:14.0-1".
    pub bus: *const c_char,
    /// The serial number, or NULL.
    pub serial: *const c_char,
    /// FL_DEVICE_... together.
    pub flags: u32,
}

sized!(fl_device_info);

type Texts = [CString; 5];

fn texts(info: &DeviceInfo) -> Texts {
    let path = c_text(&info.path.to_string_lossy());
    let serial = c_text(info.serial.as_deref().unwrap_or(""));
    [path, c_text(&info.driver), c_text(&info.card), c_text(&info.bus), serial]
}

fn put(info: &DeviceInfo, texts: &Texts, to: &Fill<fl_device_info>) {
    let flags =
        [(info.is_capture(), FL_DEVICE_CAPTURE), (info.is_output(), FL_DEVICE_OUTPUT), (info.is_m2m(), FL_DEVICE_M2M)];
    to.put(&fl_device_info {
        size: 0,
        path: texts[0].as_ptr(),
        driver: texts[1].as_ptr(),
        card: texts[2].as_ptr(),
        bus: texts[3].as_ptr(),
        serial: info.serial.as_ref().map_or(std::ptr::null(), |_| texts[4].as_ptr()),
        flags: flags.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit),
    });
}

/// Lists the V4L2 devices. A device that cannot be opened is left out.
#[no_mangle]
pub extern "C" fn fl_device_list_create(list: *mut *mut fl_device_list) -> fl_status {
    call("fl_device_list_create", || {
        let out = Out::handle(list, "list")?;
        let devices = v4l2::devices().into_iter().map(|info| {
            let texts = texts(&info);
            (info, texts)
        });
        out.put_box(fl_device_list { devices: devices.collect() });
        Ok(FL_OK)
    })
}

/// Returns the number of devices.
#[no_mangle]
pub extern "C" fn fl_device_list_count(list: Option<&fl_device_list>) -> usize {
    value("fl_device_list_count", 0, || Ok(given(list, "the list")?.devices.len()))
}

/// Fills `info` of device `index`, from 0. FL_ENDED if the list has no such device.
#[no_mangle]
pub extern "C" fn fl_device_list_get(
    list: Option<&fl_device_list>,
    index: usize,
    info: *mut fl_device_info,
) -> fl_status {
    call("fl_device_list_get", || {
        let to = Fill::new(info, "info")?;
        let Some((info, texts)) = given(list, "the list")?.devices.get(index) else { return Ok(FL_ENDED) };
        put(info, texts, &to);
        Ok(FL_OK)
    })
}

/// Closes the list and makes the pointer NULL. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_device_list_close(list: *mut *mut fl_device_list) {
    call("fl_device_list_close", || {
        ffi::free_box(list);
        Ok(FL_OK)
    });
}

/// An open V4L2 device, to ask what it offers and to set its controls; also beside a station that uses it. Close it
/// with fl_device_close().
#[allow(non_camel_case_types)]
pub struct fl_device {
    device: Device,
    texts: Texts,
    controls: Vec<NamedControl>,
}

/// A control with its texts for C.
struct NamedControl {
    control: Control,
    name: CString,
    menu: Vec<CString>,
}

fn given<'a, T>(handle: Option<&'a T>, what: &str) -> Result<&'a T, Failure> {
    handle.ok_or_else(|| invalid(format!("{what} is NULL")))
}

/// Opens a device for questions and controls. Does not stream.
#[no_mangle]
pub extern "C" fn fl_device_open(path: *const c_char, device: *mut *mut fl_device) -> fl_status {
    call("fl_device_open", || {
        let out = Out::handle(device, "device")?;
        let device = Device::open(ffi::path(path, "path")?)?;
        let texts = texts(device.info());
        let controls = device.controls().unwrap_or_default().into_iter();
        let controls = controls.map(|control| NamedControl {
            name: c_text(&control.name),
            menu: control.menu.iter().map(|item| c_text(&item.name)).collect(),
            control,
        });
        let controls = controls.collect();
        out.put_box(fl_device { device, texts, controls });
        Ok(FL_OK)
    })
}

/// Fills what is known of the device.
#[no_mangle]
pub extern "C" fn fl_device_get_info(device: Option<&fl_device>, info: *mut fl_device_info) -> fl_status {
    call("fl_device_get_info", || {
        let device = given(device, "the device")?;
        put(device.device.info(), &device.texts, &Fill::new(info, "info")?);
        Ok(FL_OK)
    })
}

/// Gives the fourcc of the format `index`, from 0. FL_ENDED if the device has no such format. For an encoder or a
/// converter, `is_output` asks for the formats that it takes; otherwise for those that it gives. (VIDIOC_ENUM_FMT)
#[no_mangle]
pub extern "C" fn fl_device_get_format(
    device: Option<&fl_device>,
    is_output: bool,
    index: usize,
    fourcc: *mut u32,
) -> fl_status {
    call("fl_device_get_format", || {
        let out = Out::number(fourcc, "fourcc")?;
        let direction = if is_output { Direction::Output } else { Direction::Capture };
        let formats = given(device, "the device")?.device.formats(direction)?;
        let Some(offer) = formats.get(index) else { return Ok(FL_ENDED) };
        out.put(code(offer.fourcc));
        Ok(FL_OK)
    })
}

/// The sizes that a device offers for a format: one size, or a range with steps.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_size_range {
    /// sizeof(fl_size_range): FL_INIT sets it.
    pub size: usize,
    /// The smallest size, in pixels.
    pub min_width: u32,
    pub min_height: u32,
    /// The largest size. Equal to the smallest for one size.
    pub max_width: u32,
    pub max_height: u32,
    /// The steps between. 0 for one size.
    pub step_width: u32,
    pub step_height: u32,
}

sized!(fl_size_range);

/// Fills the sizes `index`, from 0, of a format. FL_ENDED if there are no more; a device that does not say its sizes
/// has none. (VIDIOC_ENUM_FRAMESIZES)
#[no_mangle]
pub extern "C" fn fl_device_get_size(
    device: Option<&fl_device>,
    fourcc: u32,
    index: usize,
    sizes: *mut fl_size_range,
) -> fl_status {
    call("fl_device_get_size", || {
        let to = Fill::new(sizes, "sizes")?;
        let (min, max, step) = match given(device, "the device")?.device.sizes(FourCc::from(fourcc))? {
            Sizes::Discrete(sizes) => match sizes.get(index) {
                Some(&size) => (size, size, framelease::format::Size::new(0, 0)),
                None => return Ok(FL_ENDED),
            },
            Sizes::Stepwise { min, max, step } if index == 0 => (min, max, step),
            _ => return Ok(FL_ENDED),
        };
        to.put(&fl_size_range {
            size: 0,
            min_width: min.width,
            min_height: min.height,
            max_width: max.width,
            max_height: max.height,
            step_width: step.width,
            step_height: step.height,
        });
        Ok(FL_OK)
    })
}

/// Fills the frame intervals `index`, from 0, of a format and size: from `min` (the fastest) to `max`, which are equal
/// for a single interval. FL_ENDED if there are no more. (VIDIOC_ENUM_FRAMEINTERVALS)
#[no_mangle]
pub extern "C" fn fl_device_get_interval(
    device: Option<&fl_device>,
    fourcc: u32,
    width: u32,
    height: u32,
    index: usize,
    min: *mut fl_interval,
    max: *mut fl_interval,
) -> fl_status {
    call("fl_device_get_interval", || {
        let (min_to, max_to) = (Out::number(min, "min")?, Out::number(max, "max")?);
        let size = crate::format::needed_size(width, height, "the size")?;
        let (min, max) = match given(device, "the device")?.device.intervals(FourCc::from(fourcc), size)? {
            Intervals::Discrete(intervals) => match intervals.get(index) {
                Some(&interval) => (interval, interval),
                None => return Ok(FL_ENDED),
            },
            Intervals::Stepwise { min, max } if index == 0 => (min, max),
            _ => return Ok(FL_ENDED),
        };
        min_to.put(Some(min).into());
        max_to.put(Some(max).into());
        Ok(FL_OK)
    })
}

/// The kind of a control's value.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_control_kind {
    /// A kind that fl_device_set_control() cannot set: text, or an array.
    FL_CONTROL_OTHER = 0,
    FL_CONTROL_INTEGER = 1,
    /// 0 or 1.
    FL_CONTROL_BOOLEAN = 2,
    /// The value of an item: see fl_device_get_menu_item().
    FL_CONTROL_MENU = 3,
    /// An action: any value presses it.
    FL_CONTROL_BUTTON = 4,
    FL_CONTROL_BITMASK = 5,
}

numbers!(
    fl_control_kind:
    FL_CONTROL_OTHER, FL_CONTROL_INTEGER, FL_CONTROL_BOOLEAN, FL_CONTROL_MENU, FL_CONTROL_BUTTON, FL_CONTROL_BITMASK
);

/// The control cannot be written.
pub const FL_CONTROL_READ_ONLY: u32 = 1;
/// Another control makes this one ineffective now.
pub const FL_CONTROL_INACTIVE: u32 = 2;
/// Another program has the control.
pub const FL_CONTROL_GRABBED: u32 = 4;

/// A control of a device: brightness, exposure, and others.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_control {
    /// sizeof(fl_control): FL_INIT sets it.
    pub size: usize,
    /// V4L2_CID_... (linux/v4l2-controls.h).
    pub id: u32,
    /// An fl_control_kind.
    pub kind: u32,
    /// FL_CONTROL_READ_ONLY and others together.
    pub flags: u32,
    /// Such as "Brightness". Belongs to the device.
    pub name: *const c_char,
    pub minimum: i64,
    pub maximum: i64,
    pub step: u64,
    pub default_value: i64,
}

sized!(fl_control);

/// Fills the control `index`, from 0, as it was when the device was opened. FL_ENDED if the device has no such control.
/// (VIDIOC_QUERY_EXT_CTRL)
#[no_mangle]
pub extern "C" fn fl_device_get_control_info(
    device: Option<&fl_device>,
    index: usize,
    control: *mut fl_control,
) -> fl_status {
    call("fl_device_get_control_info", || {
        let to = Fill::new(control, "control")?;
        let Some(named) = given(device, "the device")?.controls.get(index) else { return Ok(FL_ENDED) };
        let control = &named.control;
        let kind = match control.kind {
            ControlKind::Integer | ControlKind::Integer64 => FL_CONTROL_INTEGER,
            ControlKind::Boolean => FL_CONTROL_BOOLEAN,
            ControlKind::Menu | ControlKind::IntegerMenu => FL_CONTROL_MENU,
            ControlKind::Button => FL_CONTROL_BUTTON,
            ControlKind::Bitmask => FL_CONTROL_BITMASK,
            _ => FL_CONTROL_OTHER,
        };
        let flags = [
            (control.is_read_only, FL_CONTROL_READ_ONLY),
            (control.is_inactive, FL_CONTROL_INACTIVE),
            (control.is_grabbed, FL_CONTROL_GRABBED),
        ];
        to.put(&fl_control {
            size: 0,
            id: u32::from(control.id),
            kind,
            flags: flags.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit),
            name: named.name.as_ptr(),
            minimum: control.minimum,
            maximum: control.maximum,
            step: control.step,
            default_value: control.default,
        });
        Ok(FL_OK)
    })
}

/// An item of a control of the kind FL_CONTROL_MENU.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_menu_item {
    /// sizeof(fl_menu_item): FL_INIT sets it.
    pub size: usize,
    /// The value of the control that selects the item.
    pub value: i64,
    /// Such as "50 Hz", or a number. Belongs to the device.
    pub name: *const c_char,
}

sized!(fl_menu_item);

/// Fills the item `index`, from 0, of a control. FL_ENDED beyond the last one. The values that a driver leaves out are
/// not counted. FL_ERROR_NOT_FOUND if the device does not have the control. (VIDIOC_QUERYMENU)
#[no_mangle]
pub extern "C" fn fl_device_get_menu_item(
    device: Option<&fl_device>,
    id: u32,
    index: usize,
    item: *mut fl_menu_item,
) -> fl_status {
    call("fl_device_get_menu_item", || {
        let to = Fill::new(item, "item")?;
        let controls = &given(device, "the device")?.controls;
        let named = controls.iter().find(|named| u32::from(named.control.id) == id);
        let named = named.ok_or_else(|| not_found(format!("the device does not have the control {id:#x}")))?;
        let (Some(item), Some(name)) = (named.control.menu.get(index), named.menu.get(index)) else {
            return Ok(FL_ENDED);
        };
        to.put(&fl_menu_item { size: 0, value: item.index.into(), name: name.as_ptr() });
        Ok(FL_OK)
    })
}

/// Reads a control's value. (VIDIOC_G_EXT_CTRLS)
#[no_mangle]
pub extern "C" fn fl_device_get_control(device: Option<&fl_device>, id: u32, value: *mut i64) -> fl_status {
    call("fl_device_get_control", || {
        let out = Out::number(value, "value")?;
        match given(device, "the device")?.device.control_value(ControlId::new(id))? {
            ControlValue::Number(number) => out.put(number),
            other => return Err(crate::status::unsupported(format!("control {id:#x} is not a number: {other:?}"))),
        }
        Ok(FL_OK)
    })
}

/// Sets a control, and writes the value that the driver has set to `set`, which may be NULL. (VIDIOC_S_EXT_CTRLS)
#[no_mangle]
pub extern "C" fn fl_device_set_control(device: Option<&fl_device>, id: u32, value: i64, set: *mut i64) -> fl_status {
    call("fl_device_set_control", || {
        let device = &given(device, "the device")?.device;
        let value = match device.control(ControlId::new(id))?.kind {
            ControlKind::Button => ControlValue::Press,
            _ => ControlValue::Number(value),
        };
        let now = device.set_control(ControlId::new(id), value)?;
        if let (ControlValue::Number(now), false) = (now, set.is_null()) {
            Out::number(set, "set")?.put(now);
        }
        Ok(FL_OK)
    })
}

/// Closes the device and makes the pointer NULL. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_device_close(device: *mut *mut fl_device) {
    call("fl_device_close", || {
        ffi::free_box(device);
        Ok(FL_OK)
    });
}

/// Returns the name of an fl_control_kind, for logs. Static text.
#[no_mangle]
pub extern "C" fn fl_control_kind_name(kind: u32) -> *const c_char {
    match kind {
        FL_CONTROL_INTEGER => c!("integer"),
        FL_CONTROL_BOOLEAN => c!("boolean"),
        FL_CONTROL_MENU => c!("menu"),
        FL_CONTROL_BUTTON => c!("button"),
        FL_CONTROL_BITMASK => c!("bitmask"),
        _ => c!("other"),
    }
}

/// Opens a station that reports device nodes as they come and go: FL_EVENT_NODE_APPEARED and FL_EVENT_NODE_REMOVED. A
/// node appears before udev sets its permissions: if an open fails with FL_ERROR_PERMISSION_DENIED, try again at the
/// next event.
#[no_mangle]
pub extern "C" fn fl_hotplug_open(hotplug: *mut *mut fl_station) -> fl_status {
    open("fl_hotplug_open", hotplug, || Ok(Hotplug::new()?))
}

fn node_event(event: NodeEvent) -> Event {
    let named = |kind, path: &Path| Event::text(kind, path.to_string_lossy());
    match event {
        NodeEvent::Appeared(path) => named(FL_EVENT_NODE_APPEARED, &path),
        NodeEvent::Removed(path) => named(FL_EVENT_NODE_REMOVED, &path),
        other => Event::other(other),
    }
}

impl AnyStation for Hotplug {
    station!("a hotplug watcher", node_event);
}
