//! The drivers of a graph, through the nodes of its subdevices.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

use super::bus_format::BusFormat;
use super::drivers::{Drivers, Target, Which};
use super::graph::{End, Entity, Graph, Hop};
use super::sensor;
use crate::error::Error;
use crate::format::{FourCc, FrameInterval, Rect, Size};
use crate::sys;
use crate::sys::media::Route;
use crate::sys::v4l2::{FmtDesc, Format, Picture, Plain, SubdevCode, SubdevFormat, SubdevIntervalOffer};
use crate::sys::v4l2::{SubdevSelection, SubdevSize};
use crate::sys::v4l2_calls as calls;
use crate::v4l2::device::{Device, Direction};
use crate::v4l2::formats::FormatRequest;
use crate::v4l2::Intervals;

/// A limit above the entries of any list, for lists that do not end.
const MOST: u32 = 256;

/// The subdevices and video nodes of a graph. Each is opened when it is first asked, and stays open: the state for
/// trials belongs to an open file.
pub(super) struct Subdevices<'a> {
    graph: &'a Graph,
    open: RefCell<Vec<(u32, Option<Device>)>>,
}

impl<'a> Subdevices<'a> {
    /// `device` is the video node that is open already.
    pub(super) fn new(graph: &'a Graph, device: &Device, node: (u32, u32)) -> Self {
        let own = graph.entities.iter().filter(|e| e.node == Some(node)).map(|e| (e.id, Some(device.clone())));
        Self { graph, open: RefCell::new(own.collect()) }
    }

    /// Returns the subdevice or video node of an entity. `None` if it does not have one or it cannot be opened.
    pub(super) fn device(&self, entity: &Entity) -> Option<Device> {
        let known = self.open.borrow().iter().find(|(id, _)| *id == entity.id).map(|(_, device)| device.clone());
        known.unwrap_or_else(|| {
            let path = Path::new(entity.device.as_deref()?);
            let opened = match entity.subdev {
                true => Device::open_subdevice(path, &entity.name),
                false => Device::open(path),
            };
            self.open.borrow_mut().push((entity.id, opened.ok()));
            self.device(entity)
        })
    }

    fn subdevice(&self, entity: &Entity) -> Option<Device> {
        self.device(entity).filter(|_| entity.subdev)
    }

    fn required(&self, entity: &Entity) -> Result<Device, Errno> {
        self.device(entity).ok_or(Errno::ENODEV)
    }
}

impl Drivers for Subdevices<'_> {
    fn codes(&self, (entity, pad): End<'_>) -> Vec<u32> {
        let Some(device) = self.subdevice(entity) else { return Vec::new() };
        let code = |index| {
            let mut raw = SubdevCode { pad: pad.index, index, which: Which::Try as u32, ..SubdevCode::zeroed() };
            calls::subdev_enum_code(device.as_fd(), &mut raw).ok().map(|()| raw.code)
        };
        (0..MOST).map_while(code).collect()
    }

    fn sizes(&self, (entity, pad): End<'_>, code: u32) -> Vec<(Size, Size)> {
        let Some(device) = self.subdevice(entity) else { return Vec::new() };
        let size = |index| {
            let mut raw = SubdevSize { index, pad: pad.index, code, which: Which::Try as u32, ..SubdevSize::zeroed() };
            calls::subdev_enum_size(device.as_fd(), &mut raw).ok()?;
            Some((Size::new(raw.min_width, raw.min_height), Size::new(raw.max_width, raw.max_height)))
        };
        (0..MOST).map_while(size).collect()
    }

    fn intervals(&self, (entity, pad): End<'_>, format: BusFormat) -> Intervals {
        let Some(device) = self.subdevice(entity) else { return Intervals::Unknown };
        let Size { width, height } = format.size;
        let interval = |index| {
            let mut raw = SubdevIntervalOffer {
                index,
                pad: pad.index,
                code: format.code,
                width,
                height,
                which: Which::Try as u32,
                ..SubdevIntervalOffer::zeroed()
            };
            calls::subdev_enum_interval(device.as_fd(), &mut raw).ok()?;
            Some(FrameInterval { numerator: raw.numerator, denominator: raw.denominator })
        };
        let all: Vec<FrameInterval> = (0..MOST).map_while(interval).collect();
        match all.is_empty() {
            true => Intervals::Unknown,
            false => Intervals::Discrete(all),
        }
    }

    fn format(&self, which: Which, (entity, pad): End<'_>) -> Option<BusFormat> {
        let mut raw = SubdevFormat { which: which as u32, pad: pad.index, ..SubdevFormat::zeroed() };
        calls::subdev_g_fmt(self.subdevice(entity)?.as_fd(), &mut raw).ok()?;
        Some(BusFormat::from_raw(&raw))
    }

    fn set_format(&self, which: Which, (entity, pad): End<'_>, format: BusFormat) -> Result<BusFormat, Errno> {
        let mut raw = format.to_raw(which as u32, pad.index);
        calls::subdev_s_fmt(self.required(entity)?.as_fd(), &mut raw)?;
        Ok(BusFormat::from_raw(&raw))
    }

    fn rect(&self, which: Which, (entity, pad): End<'_>, target: Target) -> Option<Rect> {
        let (which, pad, target) = (which as u32, pad.index, target as u32);
        let mut raw = SubdevSelection { which, pad, target, ..SubdevSelection::zeroed() };
        calls::subdev_g_selection(self.subdevice(entity)?.as_fd(), &mut raw).ok()?;
        Some(rect(&raw))
    }

    fn set_rect(&self, which: Which, (entity, pad): End<'_>, target: Target, wanted: Rect) -> Result<Rect, Errno> {
        let Rect { left, top, size: Size { width, height } } = wanted;
        let (which, pad, target) = (which as u32, pad.index, target as u32);
        let mut raw = SubdevSelection { which, pad, target, left, top, width, height, ..SubdevSelection::zeroed() };
        calls::subdev_s_selection(self.required(entity)?.as_fd(), &mut raw)?;
        Ok(rect(&raw))
    }

    fn interval(&self, (entity, pad): End<'_>) -> Option<FrameInterval> {
        sensor::own_interval(&self.subdevice(entity)?, pad.index)
    }

    fn set_interval(&self, (entity, pad): End<'_>, interval: FrameInterval) -> Result<FrameInterval, Errno> {
        sensor::set_interval(&self.required(entity)?, pad.index, interval).map_err(|e| errno(&e))
    }

    fn is_busy(&self, entity: &Entity) -> bool {
        self.device(entity).is_some_and(|device| device.info().is_capture() && device.has_buffers(Direction::Capture))
    }

    fn node(&self, entity: &Entity) -> Option<(FourCc, Size)> {
        let device = self.device(entity)?;
        let kind = device.info().buf_type(Direction::Capture)?;
        let mut arg = Format::new(kind, &Picture::default());
        calls::g_fmt(device.as_fd(), &mut arg).ok()?;
        let picture = device.complete(Direction::Capture, arg.picture());
        Some((FourCc::from(picture.fourcc), Size::new(picture.width, picture.height)))
    }

    fn offers(&self, entity: &Entity, code: u32) -> Vec<FourCc> {
        let Some(device) = self.device(entity) else { return Vec::new() };
        let Some(kind) = device.info().buf_type(Direction::Capture) else { return Vec::new() };
        // A node without this capability lists its formats for every code.
        let mbus_code = if device.info().is_routed_by_graph() { code } else { 0 };
        let offer = |index| {
            let mut desc = FmtDesc { index, kind: kind as u32, mbus_code, ..FmtDesc::zeroed() };
            calls::enum_fmt(device.as_fd(), &mut desc).ok().map(|()| FourCc::from(desc.pixelformat))
        };
        (0..MOST).map_while(offer).collect()
    }

    fn set_node(&self, entity: &Entity, fourcc: FourCc, size: Size) -> Result<(FourCc, Size), Errno> {
        let request = FormatRequest::new(fourcc, size);
        let given = self.required(entity)?.set_format(Direction::Capture, &request).map_err(|e| errno(&e))?;
        Ok((given.fourcc(), given.size()))
    }

    fn set_link(&self, hop: &Hop<'_>, enabled: bool) -> Result<(), Errno> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(&self.graph.path);
        let file = file.map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        const DYNAMIC: u32 = 4;
        let flags = u32::from(enabled) | if hop.dynamic { DYNAMIC } else { 0 };
        let pad = |(entity, pad): End<'_>| Ok((entity.id, u16::try_from(pad.index).map_err(|_| Errno::EINVAL)?));
        sys::media::set_link(file.as_fd(), pad(hop.from)?, pad(hop.to)?, flags)
    }

    fn set_routes(&self, which: Which, entity: &Entity, routes: &[Route]) -> Result<(), Errno> {
        sys::media::set_routing(self.required(entity)?.as_fd(), which as u32, routes)
    }
}

fn errno(error: &Error) -> Errno {
    error.errno().map_or(Errno::EINVAL, Errno::from_raw)
}

fn rect(raw: &SubdevSelection) -> Rect {
    Rect { left: raw.left, top: raw.top, size: Size::new(raw.width, raw.height) }
}
