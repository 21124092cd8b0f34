//! Reads the media graph of a video node: `/dev/media*` through sysfs, and the formats of pads through subdevice
//! nodes.

mod graph;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::sys::stat::{fstat, major, minor};

pub(super) use self::graph::Diagnosis;
use self::graph::{BusFormat, Drivers, Entity, Graph, Link, NodeFormat, Pad};
use super::device::{Device, Direction};
use crate::format::{FourCc, Size};
use crate::sys;
use crate::sys::from_kernel::text;
use crate::sys::v4l2::{FmtDesc, Format, Picture, Plain, SubdevFormat};

/// `MEDIA_LNK_FL_ENABLED`.
const ENABLED: u32 = 1;
/// `MEDIA_LNK_FL_LINK_TYPE`. Data links have the type 0, interface links its lowest bit.
const TYPE: u32 = 0xf000_0000;
const INTERFACE: u32 = 0x1000_0000;
/// `MEDIA_INTF_T_V4L_SUBDEV`.
const SUBDEV: u32 = 0x203;
/// `MEDIA_PAD_FL_SINK`.
const SINK: u32 = 1;
/// `V4L2_SUBDEV_ROUTE_FL_ACTIVE`.
const ACTIVE: u32 = 1;
/// A limit above the formats of any node.
const MOST_FORMATS: u32 = 256;

/// Returns the path through the media graph to a video node, as one line of text. Returns `None` if the node does not
/// belong to a media device, or if no link leads to the node. Ioctls: `MEDIA_IOC_G_TOPOLOGY`, `VIDIOC_SUBDEV_G_FMT`,
/// `VIDIOC_SUBDEV_G_ROUTING`.
#[doc(alias = "MEDIA_IOC_G_TOPOLOGY")]
#[doc(alias = "VIDIOC_SUBDEV_G_FMT")]
#[doc(alias = "VIDIOC_SUBDEV_G_ROUTING")]
pub fn media_path(device: &Device) -> Option<String> {
    let (major, minor) = numbers(device)?;
    graph(major, minor)?.path_text(major, minor, pad_format)
}

/// Explains why a pipeline does not start, and which command would correct it.
pub(super) fn diagnose(device: &Device) -> Option<Diagnosis> {
    let (major, minor) = numbers(device)?;
    let node = |code| node_format(device, code);
    graph(major, minor)?.diagnosis(major, minor, Drivers { format: &pad_format, takes: &pad_takes, node: &node })
}

/// Returns the format of a capture node, and the formats that it offers for a media bus code.
fn node_format(device: &Device, mbus_code: u32) -> Option<NodeFormat> {
    let kind = device.info().buf_type(Direction::Capture)?;
    let mut arg = Format::new(kind, &Picture::default());
    sys::v4l2_calls::g_fmt(device.as_fd(), &mut arg).ok()?;
    let picture = device.complete(Direction::Capture, arg.picture());
    let offers = |index| {
        let mut desc = FmtDesc { index, kind: kind as u32, mbus_code, ..FmtDesc::zeroed() };
        sys::v4l2_calls::enum_fmt(device.as_fd(), &mut desc).ok().map(|()| FourCc::from(desc.pixelformat))
    };
    Some(NodeFormat {
        fourcc: FourCc::from(picture.fourcc),
        size: Size::new(picture.width, picture.height),
        offers: device.info().is_routed_by_graph().then(|| (0..MOST_FORMATS).map_while(offers).collect()),
    })
}

#[allow(clippy::unnecessary_cast)] // The width of `dev_t` and its parts differs between targets.
fn numbers(device: &Device) -> Option<(u32, u32)> {
    let rdev = fstat(device).ok()?.st_rdev;
    Some((major(rdev) as u32, minor(rdev) as u32))
}

/// Returns the graph of the media device that the node's parent device registered.
fn graph(major: u32, minor: u32) -> Option<Graph> {
    let siblings = fs::read_dir(format!("/sys/dev/char/{major}:{minor}/device")).ok()?;
    let name = siblings.flatten().filter_map(|e| e.file_name().into_string().ok()).find(|n| {
        n.strip_prefix("media").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    })?;
    let path = format!("/dev/{name}");
    let raw = sys::media::topology(open(&path)?.as_fd()).ok()?;
    let interface_of = |entity: u32| {
        let link = raw.links.iter().find(|l| l.flags & TYPE == INTERFACE && l.sink_id == entity)?;
        raw.interfaces.iter().find(|i| i.id == link.source_id)
    };
    let entities = raw.entities.iter().map(|e| {
        let interface = interface_of(e.id);
        Entity {
            id: e.id,
            name: text(&e.name),
            node: interface.map(|i| (i.body[0], i.body[1])),
            subdev: interface.is_some_and(|i| i.kind == SUBDEV),
            routes: interface.filter(|i| i.kind == SUBDEV).and_then(|i| routes(i.body[0], i.body[1])),
        }
    });
    let pad = |p: &sys::media::Pad| Pad { id: p.id, entity: p.entity_id, index: p.index, sink: p.flags & SINK != 0 };
    let data = raw.links.iter().filter(|l| l.flags & TYPE == 0);
    Some(Graph {
        path,
        entities: entities.collect(),
        pads: raw.pads.iter().map(pad).collect(),
        links: data.map(|l| Link { source: l.source_id, sink: l.sink_id, enabled: l.flags & ENABLED != 0 }).collect(),
    })
}

/// Returns the active format of a subdevice's pad.
fn pad_format(entity: &Entity, pad: u32) -> Option<BusFormat> {
    let (major, minor) = entity.node.filter(|_| entity.subdev)?;
    let mut raw = SubdevFormat { which: 1, pad, ..SubdevFormat::zeroed() };
    sys::v4l2_calls::subdev_g_fmt(node(major, minor)?.as_fd(), &mut raw).ok()?;
    Some(bus_format(&raw))
}

/// Asks whether a pad would take a format, without changing it.
fn pad_takes(entity: &Entity, pad: u32, format: BusFormat) -> bool {
    const TRY: u32 = 0;
    let BusFormat { width, height, code, field } = format;
    let mut raw = SubdevFormat { which: TRY, pad, width, height, code, field, ..SubdevFormat::zeroed() };
    let file = entity.node.filter(|_| entity.subdev).and_then(|(major, minor)| node(major, minor));
    file.is_some_and(|file| sys::v4l2_calls::subdev_s_fmt(file.as_fd(), &mut raw).is_ok()) && bus_format(&raw) == format
}

fn bus_format(raw: &SubdevFormat) -> BusFormat {
    BusFormat { width: raw.width, height: raw.height, code: raw.code, field: raw.field }
}

/// Returns the active routes of a subdevice, from sink pad to source pad. Most kernels do not report them.
fn routes(major: u32, minor: u32) -> Option<Vec<(u32, u32)>> {
    let routes = sys::media::routing(node(major, minor)?.as_fd()).ok()?;
    let active = routes.iter().filter(|r| r.flags & ACTIVE != 0);
    Some(active.map(|r| (r.sink_pad, r.source_pad)).collect())
}

/// Opens a subdevice by the numbers of its node.
fn node(major: u32, minor: u32) -> Option<File> {
    let target = fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    let file = open(PathBuf::from("/dev").join(target.file_name()?).to_str()?)?;
    (file.metadata().ok()?.rdev() == nix::sys::stat::makedev(major.into(), minor.into())).then_some(file)
}

fn open(path: &str) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()
}
