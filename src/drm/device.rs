//! Opening and finding DRM devices; master.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::drm::{ClientCapability, Device as _, DriverCapability};
use nix::errno::Errno;

use super::event::{flips, FlipEvent};
use crate::device_nodes::open_node;
use crate::error::{Error, Result};
use crate::sys;

/// The major number of every DRM node (`Documentation/admin-guide/devices.txt`).
const DRM_MAJOR: u64 = 226;

/// A read that leaves this much room has left no event behind.
const LARGEST_EVENT: usize = 128;

/// What a node lets its user do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// `/dev/dri/card*`: displays, and dumb buffers.
    Primary,
    /// `/dev/dri/renderD*`: buffers only; needs no master.
    Render,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The node: `/dev/dri/card0`.
    pub path: PathBuf,
    /// The driver's name: `imx-drm`, `vkms`.
    pub driver: String,
    /// The driver's description of itself.
    pub description: String,
    /// Primary or render node.
    pub kind: NodeKind,
    /// `true` if the driver has atomic modesetting.
    pub atomic: bool,
    /// `true` if it imports dma-bufs (`DRM_PRIME_CAP_IMPORT`).
    pub imports: bool,
    /// `true` if it exports them (`DRM_PRIME_CAP_EXPORT`).
    pub exports: bool,
    /// `true` if it says that it allocates dumb buffers. Drivers without displays (vgem) do not say.
    pub dumb_buffers: bool,
    /// `true` if framebuffers can name a modifier (`DRM_CAP_ADDFB2_MODIFIERS`).
    pub modifiers: bool,
}

/// `/dev/dri/card0 (vkms)`: as errors name a device.
impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.driver)
    }
}

/// An open DRM node: a counted handle. The node closes with the last clone, import, framebuffer and scanout.
///
/// GEM handles, master and pending events belong to the open file: clones share them.
#[derive(Clone)]
pub struct Device(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) node: Node,
    info: DeviceInfo,
    /// How many [`Gem`](super::Gem)s share a handle: the kernel gives one handle however often a dma-buf is imported,
    /// and one close would take it from all.
    handles: Mutex<HashMap<u32, usize>>,
    pub(super) screens: Mutex<Screens>,
}

/// What the scanouts of one open file must know of each other.
#[derive(Default)]
pub(super) struct Screens {
    /// Whoever reads the file finds the others' events, too.
    inbox: Vec<FlipEvent>,
    pub(super) crtcs: Vec<u32>,
    pub(super) planes: Vec<u32>,
}

/// The open file, for the `drm` crate.
pub(super) struct Node(OwnedFd);

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ::drm::Device for Node {}
impl ::drm::control::Device for Node {}

impl Device {
    /// Opens a node, without blocking in later calls, and asks what it is. Who opens a primary node while nobody else
    /// has it is its master. Ioctls: `DRM_IOCTL_VERSION`, `GET_CAP`, `SET_CLIENT_CAP` (universal planes, atomic,
    /// writeback connectors).
    ///
    /// # Errors
    /// `NotFound` and `PermissionDenied` as `open` reports them, `WrongFile` if it is no DRM node.
    #[doc(alias = "DRM_IOCTL_VERSION")]
    #[doc(alias = "DRM_IOCTL_SET_CLIENT_CAP")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let node = Node(open_node(path, "DRM", DRM_MAJOR)?);
        let driver = node.get_driver().map_err(|e| Error::io("DRM_IOCTL_VERSION", &e).on(path.display()))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = if name.starts_with("renderD") { NodeKind::Render } else { NodeKind::Primary };
        // Each is refused by what has no displays, or is older than the capability.
        let mut atomic = false;
        if kind == NodeKind::Primary {
            let _ = node.set_client_capability(ClientCapability::UniversalPlanes, true);
            atomic = node.set_client_capability(ClientCapability::Atomic, true).is_ok();
            let _ = node.set_client_capability(ClientCapability::WritebackConnectors, true);
        }
        let cap = |cap| node.get_driver_capability(cap).unwrap_or(0);
        let prime = cap(DriverCapability::Prime);
        let info = DeviceInfo {
            path: path.to_owned(),
            driver: driver.name().to_string_lossy().into_owned(),
            description: driver.description().to_string_lossy().into_owned(),
            kind,
            atomic,
            imports: prime & 1 != 0,
            exports: prime & 2 != 0,
            dumb_buffers: cap(DriverCapability::DumbBuffer) == 1,
            modifiers: cap(DriverCapability::AddFB2Modifiers) == 1,
        };
        Ok(Self(Arc::new(Inner { node, info, handles: Mutex::default(), screens: Mutex::default() })))
    }

    /// Opens the first node for which `wanted` holds: primary nodes by number, then render nodes.
    ///
    /// ```no_run
    /// let card = framelease::drm::Device::find(|d| d.driver == "imx-drm")?;
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound`, with what there is instead and which nodes could not be opened.
    pub fn find(wanted: impl Fn(&DeviceInfo) -> bool) -> Result<Self> {
        Self::find_open(|device| wanted(device.info()))
    }

    /// [`Device::find`] that may ask the open device more.
    pub(super) fn find_open(wanted: impl Fn(&Self) -> bool) -> Result<Self> {
        let nodes = crate::device_nodes::list("/dev/dri", &["card", "renderD"]);
        crate::device_nodes::find("/dev/dri", &nodes, |path| Self::open(path), wanted, Self::to_string)
    }

    /// What the node is.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// Becomes master, who alone may change what screens show. Ioctl: `DRM_IOCTL_SET_MASTER`; nothing happens if this
    /// open file is it already.
    ///
    /// # Errors
    /// `Busy` while another process is, `PermissionDenied` for a user who never was on this open file and is not root.
    #[doc(alias = "DRM_IOCTL_SET_MASTER")]
    pub fn acquire_master(&self) -> Result<()> {
        let os = |e: std::io::Error| match e.raw_os_error() {
            // The kernel says EINVAL of the file's own state and EBUSY of another's.
            Some(libc::EBUSY) => self.failed("DRM_IOCTL_SET_MASTER", Errno::EBUSY).detail("another process is master"),
            _ => Error::io("DRM_IOCTL_SET_MASTER", &e).on(self),
        };
        self.0.node.acquire_master_lock().map_err(os)
    }

    /// Lets another process be master, such as at a switch of virtual terminals. What the screen shows stays, until
    /// that one changes it. Ioctl: `DRM_IOCTL_DROP_MASTER`.
    ///
    /// # Errors
    /// `InvalidArgument` if this open file is not the master.
    #[doc(alias = "DRM_IOCTL_DROP_MASTER")]
    pub fn drop_master(&self) -> Result<()> {
        self.0.node.release_master_lock().map_err(|e| Error::io("DRM_IOCTL_DROP_MASTER", &e).on(self))
    }

    /// GEM handles that this open file has through this crate: one for each buffer, however often it was imported.
    pub fn open_handles(&self) -> usize {
        self.handles().len()
    }

    pub(super) fn handles(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn screens(&self) -> MutexGuard<'_, Screens> {
        self.0.screens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.node.as_fd()
    }

    /// The completion of the commit with this mark, if it has come. Reads all events that are there, and keeps those
    /// of other scanouts for them.
    pub(super) fn flip(&self, mark: u64) -> Result<Option<FlipEvent>> {
        let mut screens = self.screens();
        let mut buffer = [0; 1024];
        loop {
            match sys::drm::read_events(self.fd(), &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(length) => {
                    let Screens { inbox, crtcs, .. } = &mut *screens;
                    // A CRTC that nobody has any more: its scanout is gone, before its last flip.
                    inbox.extend(flips(&buffer[..length]).filter(|e| crtcs.contains(&e.crtc) || e.mark == mark));
                    if buffer.len() - length >= LARGEST_EVENT {
                        break;
                    }
                }
                Err(e) => return Err(self.failed("read", e)),
            }
        }
        let found = screens.inbox.iter().position(|e| e.mark == mark);
        Ok(found.map(|at| screens.inbox.swap_remove(at)))
    }

    /// Gives a CRTC and planes back.
    pub(super) fn release(&self, crtc: u32, planes: impl Iterator<Item = u32>) {
        let mut screens = self.screens();
        screens.crtcs.retain(|&c| c != crtc);
        screens.inbox.retain(|e| e.crtc != crtc);
        for plane in planes {
            screens.planes.retain(|&p| p != plane);
        }
    }

    /// An error of an ioctl on this device.
    pub(super) fn failed(&self, op: &'static str, errno: Errno) -> Error {
        Error::os(op, errno).on(self)
    }

    /// An error that the `drm` crate reported.
    pub(super) fn failed_io(&self, op: &'static str) -> impl Fn(std::io::Error) -> Error + '_ {
        move |e| Error::io(op, &e).on(self)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.info.fmt(f)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_no_drm_node_is_named() {
        for (path, kind) in [("/dev/null", ErrorKind::WrongFile), ("/dev/dri/card-none", ErrorKind::NotFound)] {
            let e = Device::open(path).unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.to_string().contains(path), "{e}");
        }
    }
}
