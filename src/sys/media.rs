//! `linux/media.h`: the topology of a media device. `linux/v4l2-subdev.h`: the routes inside a subdevice.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::syscall_count::retry;
use super::v4l2::Plain;

/// `struct media_v2_entity`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Entity {
    pub(crate) id: u32,
    pub(crate) name: [u8; 64],
    pub(crate) function: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 5],
}

/// `struct media_v2_interface`. The first two words of `body` are the numbers of a device node.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Interface {
    pub(crate) id: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 9],
    pub(crate) body: [u32; 16],
}

/// `struct media_v2_pad`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Pad {
    pub(crate) id: u32,
    pub(crate) entity_id: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) reserved: [u32; 4],
}

/// `struct media_v2_link`: from pad to pad, or from interface to entity.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Link {
    pub(crate) id: u32,
    pub(crate) source_id: u32,
    pub(crate) sink_id: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 6],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Array {
    count: u32,
    reserved: u32,
    pointer: u64,
}

/// `struct media_v2_topology`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawTopology {
    version: u64,
    entities: Array,
    interfaces: Array,
    pads: Array,
    links: Array,
}

/// `struct v4l2_subdev_route`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Route {
    pub(crate) sink_pad: u32,
    pub(crate) sink_stream: u32,
    pub(crate) source_pad: u32,
    pub(crate) source_stream: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 5],
}

/// `struct v4l2_subdev_routing` of Linux 6.12. Earlier kernels had another struct, which no release enabled.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawRouting {
    which: u32,
    len_routes: u32,
    routes: u64,
    num_routes: u32,
    reserved: [u32; 11],
}

/// `struct media_pad_desc`, with its padding as a field.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawPadDesc {
    entity: u32,
    index: u16,
    padding: u16,
    flags: u32,
    reserved: [u32; 2],
}

/// `struct media_link_desc`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawLinkDesc {
    source: RawPadDesc,
    sink: RawPadDesc,
    flags: u32,
    reserved: [u32; 2],
}

const _: () = {
    assert!(std::mem::size_of::<RawLinkDesc>() == 52);
    assert!(std::mem::size_of::<Route>() == 40);
    assert!(std::mem::size_of::<RawRouting>() == 64);
    assert!(std::mem::size_of::<Entity>() == 96);
    assert!(std::mem::size_of::<Interface>() == 112);
    assert!(std::mem::size_of::<Pad>() == 32);
    assert!(std::mem::size_of::<Link>() == 40);
    assert!(std::mem::size_of::<RawTopology>() == 72);
};

// SAFETY: integers and arrays of them.
unsafe impl Plain for Entity {}
// SAFETY: as above.
unsafe impl Plain for Interface {}
// SAFETY: as above.
unsafe impl Plain for Pad {}
// SAFETY: as above.
unsafe impl Plain for Link {}
// SAFETY: as above.
unsafe impl Plain for Route {}

nix::ioctl_readwrite!(g_topology, b'|', 4, RawTopology);
nix::ioctl_readwrite!(subdev_g_routing, b'V', 38, RawRouting);
nix::ioctl_readwrite!(subdev_s_routing, b'V', 39, RawRouting);
nix::ioctl_readwrite!(setup_link, b'|', 3, RawLinkDesc);

/// The whole graph of a media device.
#[derive(Default)]
pub(crate) struct Topology {
    pub(crate) entities: Vec<Entity>,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) pads: Vec<Pad>,
    pub(crate) links: Vec<Link>,
}

/// `V4L2_SUBDEV_FORMAT_ACTIVE`.
const ACTIVE_FORMAT: u32 = 1;

/// A limit above the number of objects of any media device. Larger claims of a driver are refused.
const MOST: u32 = 4096;

fn room<T: Plain>(array: &mut Array) -> Result<Vec<T>, Errno> {
    if array.count > MOST {
        return Err(Errno::EOVERFLOW);
    }
    let mut items = vec![T::zeroed(); array.count as usize];
    array.pointer = items.as_mut_ptr() as usize as u64;
    Ok(items)
}

/// Returns the graph (`MEDIA_IOC_G_TOPOLOGY`, Linux 4.19), with one call for the counts and one for the graph.
pub(crate) fn topology(fd: BorrowedFd<'_>) -> Result<Topology, Errno> {
    for _ in 0..8 {
        let mut arg = RawTopology::default();
        // SAFETY: `arg` is live and exclusively borrowed; its pointers are null, so the kernel only writes the
        // counts.
        retry(|| unsafe { g_topology(fd.as_raw_fd(), &mut arg) })?;
        let mut graph = Topology {
            entities: room(&mut arg.entities)?,
            interfaces: room(&mut arg.interfaces)?,
            pads: room(&mut arg.pads)?,
            links: room(&mut arg.links)?,
        };
        // SAFETY: each pointer is to a vector of exactly `count` items, which live in `graph` and are not otherwise
        // touched during the call. The kernel returns ENOSPC instead of writing more than `count`.
        match retry(|| unsafe { g_topology(fd.as_raw_fd(), &mut arg) }) {
            // The graph grew between the calls.
            Err(Errno::ENOSPC) => {}
            Err(e) => return Err(e),
            Ok(_) => {
                graph.entities.truncate(arg.entities.count as usize);
                graph.interfaces.truncate(arg.interfaces.count as usize);
                graph.pads.truncate(arg.pads.count as usize);
                graph.links.truncate(arg.links.count as usize);
                return Ok(graph);
            }
        }
    }
    Err(Errno::EAGAIN)
}

/// Enables or disables a link between two pads, each given by the id of its entity and its index
/// (`MEDIA_IOC_SETUP_LINK`).
pub(crate) fn set_link(fd: BorrowedFd<'_>, source: (u32, u16), sink: (u32, u16), flags: u32) -> Result<(), Errno> {
    let pad = |(entity, index)| RawPadDesc { entity, index, ..RawPadDesc::default() };
    let mut arg = RawLinkDesc { source: pad(source), sink: pad(sink), flags, ..RawLinkDesc::default() };
    // SAFETY: `arg` is live, exclusively borrowed and exactly as large as the ioctl's number says. It has no pointers.
    retry(|| unsafe { setup_link(fd.as_raw_fd(), &mut arg) }).map(drop)
}

/// Replaces the routes of a subdevice (`VIDIOC_SUBDEV_S_ROUTING`).
pub(crate) fn set_routing(fd: BorrowedFd<'_>, which: u32, routes: &[Route]) -> Result<(), Errno> {
    // The kernel writes the routes that it gives back.
    let mut routes = routes.to_vec();
    let count = u32::try_from(routes.len()).map_err(|_| Errno::E2BIG)?;
    let mut arg = RawRouting {
        which,
        len_routes: count,
        routes: routes.as_mut_ptr() as usize as u64,
        num_routes: count,
        reserved: [0; 11],
    };
    // SAFETY: `arg` is live and exclusively borrowed. Its pointer is to `len_routes` routes, which are not otherwise
    // touched during the call, and the kernel writes no more than these.
    retry(|| unsafe { subdev_s_routing(fd.as_raw_fd(), &mut arg) }).map(drop)
}

/// Returns the present routes of a subdevice (`VIDIOC_SUBDEV_G_ROUTING`). Kernels without the API of streams, such as
/// Linux 6.12, return ENOTTY.
pub(crate) fn routing(fd: BorrowedFd<'_>) -> Result<Vec<Route>, Errno> {
    const ROOM: usize = 256;
    let mut routes = vec![Route::zeroed(); ROOM];
    let mut arg = RawRouting {
        which: ACTIVE_FORMAT,
        len_routes: ROOM as u32,
        routes: routes.as_mut_ptr() as usize as u64,
        num_routes: 0,
        reserved: [0; 11],
    };
    // SAFETY: `arg` is live and exclusively borrowed. Its pointer is to `len_routes` routes, which are not otherwise
    // touched during the call, and the kernel writes no more than these.
    retry(|| unsafe { subdev_g_routing(fd.as_raw_fd(), &mut arg) })?;
    routes.truncate(arg.num_routes as usize);
    Ok(routes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn topology_and_routing_have_the_uapi_s_ioctl_numbers() {
        assert_eq!(nix::request_code_readwrite!(b'|', 4, 72) as u32, 0xc048_7c04);
        assert_eq!(nix::request_code_readwrite!(b'V', 38, 64) as u32, 0xc040_5626);
        assert_eq!(nix::request_code_readwrite!(b'|', 3, 52) as u32, 0xc034_7c03);
    }
}
