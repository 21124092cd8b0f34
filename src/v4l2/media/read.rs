//! Reads the topology of a media device: `/dev/media*` through sysfs, and the routes of subdevices.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::stat::{fstat, major, makedev, minor};

use super::graph::{Entity, Graph, Link, Pad};
use crate::sys;
use crate::sys::from_kernel::text;
use crate::v4l2::device::Device;

/// `MEDIA_LNK_FL_ENABLED`.
const ENABLED: u32 = 1;
/// `MEDIA_LNK_FL_IMMUTABLE`.
const IMMUTABLE: u32 = 2;
/// `MEDIA_LNK_FL_DYNAMIC`.
const DYNAMIC: u32 = 4;
/// `MEDIA_LNK_FL_LINK_TYPE`. Data links have the type 0, interface links its lowest bit.
const TYPE: u32 = 0xf000_0000;
const INTERFACE: u32 = 0x1000_0000;
/// `MEDIA_INTF_T_V4L_SUBDEV`.
const SUBDEV: u32 = 0x203;
/// `MEDIA_PAD_FL_SINK`.
const SINK: u32 = 1;

/// Returns the major and minor number of a node.
#[allow(clippy::unnecessary_cast)] // The width of `dev_t` and its parts differs between targets.
pub(super) fn numbers(device: &Device) -> Option<(u32, u32)> {
    let rdev = fstat(device).ok()?.st_rdev;
    Some((major(rdev) as u32, minor(rdev) as u32))
}

/// Returns the graph of the media device that the node's parent device registered.
pub(super) fn graph((major, minor): (u32, u32)) -> Option<Graph> {
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
        let node = interface.map(|i| (i.body[0], i.body[1]));
        let device = node.and_then(device_path);
        let subdev = interface.is_some_and(|i| i.kind == SUBDEV);
        let routes = device.as_deref().filter(|_| subdev).and_then(|path| {
            // Most kernels do not report routes.
            sys::media::routing(open(path)?.as_fd()).ok()
        });
        Entity { id: e.id, name: text(&e.name), function: e.function, node, device, subdev, routes }
    });
    let pad = |p: &sys::media::Pad| Pad { id: p.id, entity: p.entity_id, index: p.index, sink: p.flags & SINK != 0 };
    let link = |l: &sys::media::Link| Link {
        source: l.source_id,
        sink: l.sink_id,
        enabled: l.flags & ENABLED != 0,
        immutable: l.flags & IMMUTABLE != 0,
        dynamic: l.flags & DYNAMIC != 0,
    };
    Some(Graph {
        path,
        entities: entities.collect(),
        pads: raw.pads.iter().map(pad).collect(),
        links: raw.links.iter().filter(|l| l.flags & TYPE == 0).map(link).collect(),
    })
}

/// Returns the path of a node under /dev, by its numbers.
fn device_path((major, minor): (u32, u32)) -> Option<String> {
    let target = fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    let path = Path::new("/dev").join(target.file_name()?);
    let is_it = fs::metadata(&path).ok()?.rdev() == makedev(major.into(), minor.into());
    path.to_str().filter(|_| is_it).map(str::to_owned)
}

fn open(path: &str) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()
}
