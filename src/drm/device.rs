//! Opens and finds DRM devices, and acquires DRM master.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::drm::{ClientCapability, Device as _, DriverCapability};
use nix::errno::Errno;

use super::event::{flips, FlipEvent};
use super::retained::{Retained, Until};
use super::wake::Wake;
use crate::device_nodes::open_node;
use crate::error::{Error, Result};
use crate::sys;

/// The major number of every DRM node (`Documentation/admin-guide/devices.txt`).
const DRM_MAJOR: u64 = 226;

/// If a read leaves this much room in the buffer, it has read every event.
const LARGEST_EVENT: usize = 128;

/// The kind of a DRM node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// `/dev/dri/card*`: displays and dumb buffers.
    Primary,
    /// `/dev/dri/renderD*`: only buffers. A render node does not need DRM master.
    Render,
}

/// The properties of a DRM node. The `Display` text is `/dev/dri/card0 (vkms)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The path of the node, such as `/dev/dri/card0`.
    pub path: PathBuf,
    /// The driver's name, such as `imx-drm` or `vkms`.
    pub driver: String,
    /// The driver's description of itself.
    pub description: String,
    /// Whether this is a primary or a render node.
    pub kind: NodeKind,
    /// `true` if the driver has atomic modesetting.
    pub atomic: bool,
    /// `true` if the node imports dma-bufs (`DRM_PRIME_CAP_IMPORT`).
    pub imports: bool,
    /// `true` if the node exports dma-bufs (`DRM_PRIME_CAP_EXPORT`).
    pub exports: bool,
    /// `true` if the driver reports dumb buffers. Drivers without displays, such as vgem, have dumb buffers but do not
    /// report them.
    pub dumb_buffers: bool,
    /// `true` if framebuffers can name a modifier (`DRM_CAP_ADDFB2_MODIFIERS`).
    pub modifiers: bool,
}

/// Displays as `/dev/dri/card0 (vkms)`.
impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.driver)
    }
}

/// An open DRM node, as a counted handle. The node is closed when the last clone, import, framebuffer and scanout are
/// dropped.
///
/// GEM handles, master and pending events belong to the open file. Clones share them.
#[derive(Clone)]
pub struct Device(pub(super) Arc<Inner>);

// The order of the fields matters: the file is closed before the leases in `screens` end.
pub(super) struct Inner {
    pub(super) node: Node,
    info: DeviceInfo,
    /// The place where the device is plugged in: its folder in sysfs.
    bus: Option<PathBuf>,
    /// The number of [`Gem`](super::Gem)s for each handle. The kernel gives the same handle for every import of a
    /// dma-buf, and one close would release it for all.
    handles: Mutex<HashMap<u32, usize>>,
    screens: Mutex<Screens>,
}

/// The state that the scanouts of one open file share.
#[derive(Default)]
struct Screens {
    claims: Vec<Claim>,
    planes: Vec<u32>,
    retained: Vec<Retained>,
}

/// A CRTC that a scanout has taken.
struct Claim {
    crtc: u32,
    /// Its completed commits. The scanout that reads the file finds the events of all scanouts.
    inbox: Vec<FlipEvent>,
    wake: Arc<Wake>,
}

/// The open file, as the `drm` crate needs it.
pub(super) struct Node(OwnedFd);

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ::drm::Device for Node {}
impl ::drm::control::Device for Node {}

impl Device {
    /// Opens a node and reads its properties. If no other process has the primary node open, this process becomes DRM
    /// master. Ioctls: `DRM_IOCTL_VERSION`, `GET_CAP`, `SET_CLIENT_CAP` (universal planes, atomic, writeback
    /// connectors).
    ///
    /// # Errors
    /// `NotFound` or `PermissionDenied` if the node cannot be opened. `WrongFile` if the file is not a DRM node.
    #[doc(alias = "DRM_IOCTL_VERSION")]
    #[doc(alias = "DRM_IOCTL_SET_CLIENT_CAP")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let node = Node(open_node(path, "DRM", DRM_MAJOR)?);
        let driver = node.get_driver().map_err(|e| Error::io("DRM_IOCTL_VERSION", &e).on(path.display()))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = if name.starts_with("renderD") { NodeKind::Render } else { NodeKind::Primary };
        // Devices without displays and older kernels refuse these capabilities.
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
        let bus = std::fs::canonicalize(format!("/sys/class/drm/{name}/device")).ok();
        Ok(Self(Arc::new(Inner { node, info, bus, handles: Mutex::default(), screens: Mutex::default() })))
    }

    /// Opens the first node for which `wanted` returns `true`. Looks at primary nodes first, in the order of their
    /// numbers, then at render nodes.
    ///
    /// ```no_run
    /// let card = framelease::drm::Device::find(|d| d.driver == "imx-drm")?;
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if no node matches. The text lists the nodes, with the errors of those that could not be opened.
    pub fn find(wanted: impl Fn(&DeviceInfo) -> bool) -> Result<Self> {
        Self::find_open(|device| wanted(device.info()))
    }

    /// Does the same as [`Device::find`]. `wanted` gets the open device.
    pub(super) fn find_open(wanted: impl Fn(&Self) -> bool) -> Result<Self> {
        let nodes = crate::device_nodes::list("/dev/dri", &["card", "renderD"]);
        crate::device_nodes::find("/dev/dri", &nodes, |path| Self::open(path), wanted, Self::to_string)
    }

    /// Returns the properties of the node.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// Returns `true` if the device responds. An unplugged device does not respond to any ioctl. Ioctl:
    /// `DRM_IOCTL_GET_CAP`.
    pub(super) fn is_there(&self) -> bool {
        self.0.node.get_driver_capability(DriverCapability::Prime).is_ok()
    }

    /// Returns the place where the device is plugged in.
    pub(super) fn bus(&self) -> Option<&Path> {
        self.0.bus.as_deref()
    }

    /// Makes this open file the DRM master. Only the master may change what screens show. Does nothing if this open
    /// file is the master already. Ioctl: `DRM_IOCTL_SET_MASTER`.
    ///
    /// # Errors
    /// `Busy` while another process is master. `PermissionDenied` if this open file was never master and the user is
    /// not root.
    #[doc(alias = "DRM_IOCTL_SET_MASTER")]
    pub fn acquire_master(&self) -> Result<()> {
        let os = |e: std::io::Error| match e.raw_os_error() {
            // The kernel returns EINVAL for the file's own state and EBUSY for another master.
            Some(libc::EBUSY) => self.failed("DRM_IOCTL_SET_MASTER", Errno::EBUSY).detail("another process is master"),
            _ => Error::io("DRM_IOCTL_SET_MASTER", &e).on(self),
        };
        self.0.node.acquire_master_lock().map_err(os)
    }

    /// Gives up DRM master, for example before a switch of virtual terminals. The screen keeps its picture until
    /// another master changes it. Ioctl: `DRM_IOCTL_DROP_MASTER`.
    ///
    /// # Errors
    /// `InvalidArgument` if this open file is not the master.
    #[doc(alias = "DRM_IOCTL_DROP_MASTER")]
    pub fn drop_master(&self) -> Result<()> {
        self.0.node.release_master_lock().map_err(|e| Error::io("DRM_IOCTL_DROP_MASTER", &e).on(self))
    }

    /// Returns the number of GEM handles that this crate has on this open file. A buffer has one handle, however
    /// often it was imported.
    #[doc(hidden)]
    pub fn open_handles(&self) -> usize {
        self.handles().len()
    }

    pub(super) fn handles(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn screens(&self) -> MutexGuard<'_, Screens> {
        self.0.screens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.node.as_fd()
    }

    /// Takes the first free CRTC of `possible`. `wake` is set when another scanout reads its events.
    pub(super) fn claim(&self, possible: &[(u32, u32)], wake: &Arc<Wake>) -> Option<(u32, u32)> {
        let mut screens = self.screens();
        let free = possible.iter().find(|(id, _)| screens.claims.iter().all(|c| c.crtc != *id)).copied()?;
        screens.claims.push(Claim { crtc: free.0, inbox: Vec::new(), wake: Arc::clone(wake) });
        Some(free)
    }

    /// Takes a plane, unless a layer of this device has it.
    pub(super) fn claim_plane(&self, plane: u32) -> bool {
        let mut screens = self.screens();
        let is_free = !screens.planes.contains(&plane);
        if is_free {
            screens.planes.push(plane);
        }
        is_free
    }

    pub(super) fn release_plane(&self, plane: u32) {
        self.screens().planes.retain(|&p| p != plane);
    }

    /// Returns the planes that layers of this device have.
    pub(super) fn claimed_planes(&self) -> Vec<u32> {
        self.screens().planes.clone()
    }

    /// Releases a CRTC and planes.
    pub(super) fn release(&self, crtc: u32, planes: &[u32]) {
        let mut screens = self.screens();
        screens.claims.retain(|c| c.crtc != crtc);
        screens.planes.retain(|p| !planes.contains(p));
    }

    /// Reads all pending events. Each goes to the scanout of its CRTC, and wakes it if another scanout reads.
    pub(super) fn read_events(&self, reader: Option<u32>) -> Result<()> {
        let mut screens = self.screens();
        let mut buffer = [0; 1024];
        let mut ended = Vec::new();
        let done = loop {
            match sys::drm::read_events(self.fd(), &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => break Ok(()),
                Ok(length) => {
                    for event in flips(&buffer[..length]) {
                        screens.completed(event, reader, &mut ended);
                    }
                    if buffer.len() - length >= LARGEST_EVENT {
                        break Ok(());
                    }
                }
                Err(e) => break Err(self.failed("read", e)),
            }
        };
        drop(screens);
        self.end(ended);
        done
    }

    /// Returns the completion of the commit with this mark, if it was read.
    pub(super) fn completion(&self, crtc: u32, mark: u64) -> Option<FlipEvent> {
        let mut screens = self.screens();
        let claim = screens.claims.iter_mut().find(|c| c.crtc == crtc)?;
        // A CRTC has one commit at a time. Events with other marks are not from this crate.
        let found = claim.inbox.iter().find(|e| e.mark == mark).copied();
        claim.inbox.clear();
        found
    }

    /// Sets or clears the signal of a scanout. It stays set while the scanout has completions to take.
    pub(super) fn wake(&self, crtc: u32, wake: &Wake, is_wanted: bool) {
        // Under the lock, because another scanout that sets it holds the lock.
        let screens = self.screens();
        let has_completions = screens.claims.iter().any(|c| c.crtc == crtc && !c.inbox.is_empty());
        if is_wanted || !has_completions {
            wake.set(is_wanted);
        }
    }

    /// Keeps buffers until the device has finished with them.
    pub(super) fn retain(&self, retained: Retained) {
        self.screens().retained.push(retained);
    }

    /// Ends the leases of retained buffers that the device has finished with.
    pub(super) fn release_retained(&self) {
        // An error of `read` is reported again by the calls that wait for events.
        let _ = self.read_events(None);
        let signaled = |r: &Retained| match &r.until {
            Until::Fence(fence) => fence.wait(Duration::ZERO).unwrap_or(true),
            Until::Flip(_) | Until::Closed => false,
        };
        let mut screens = self.screens();
        let (ended, kept) = std::mem::take(&mut screens.retained).into_iter().partition(signaled);
        screens.retained = kept;
        drop(screens);
        self.end(ended);
    }

    /// Runs without the lock, because the end of a lease is a system call. Removes framebuffers before their leases
    /// end.
    fn end(&self, ended: Vec<Retained>) {
        for retained in ended {
            for &id in &retained.framebuffers {
                let _ = sys::drm::rm_fb(self.fd(), id);
            }
            if let Some(crtc) = retained.crtc {
                self.release(crtc, &retained.planes);
            }
        }
    }

    /// Creates the error of an ioctl on this device.
    pub(super) fn failed(&self, op: &'static str, errno: Errno) -> Error {
        Error::os(op, errno).on(self)
    }

    /// Converts an error of the `drm` crate.
    pub(super) fn failed_io(&self, op: &'static str) -> impl Fn(std::io::Error) -> Error + '_ {
        move |e| Error::io(op, &e).on(self)
    }
}

impl Screens {
    fn completed(&mut self, event: FlipEvent, reader: Option<u32>, ended: &mut Vec<Retained>) {
        let is_of = |r: &Retained| matches!(r.until, Until::Flip(mark) if mark == event.mark);
        if let Some(at) = self.retained.iter().position(is_of) {
            ended.push(self.retained.swap_remove(at));
        } else if let Some(claim) = self.claims.iter_mut().find(|c| c.crtc == event.crtc) {
            claim.inbox.push(event);
            if reader != Some(event.crtc) {
                claim.wake.set(true);
            }
        }
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
    fn open_names_files_that_are_not_drm_nodes() {
        for (path, kind) in [("/dev/null", ErrorKind::WrongFile), ("/dev/dri/card-none", ErrorKind::NotFound)] {
            let e = Device::open(path).unwrap_err();
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.to_string().contains(path), "{e}");
        }
    }
}
