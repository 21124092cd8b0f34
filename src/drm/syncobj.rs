//! Syncobjs: the fences that graphics APIs hand about, to and from sync_files.

use std::fmt;

use nix::errno::Errno;

use super::device::Device;
use crate::dmabuf::SyncFile;
use crate::error::{ErrorKind, Result};
use crate::sys;

/// A holder of one fence at a time (`drm_syncobj`), as Vulkan and OpenGL drivers signal and wait for.
///
/// A GPU's work on a frame meets the rest of this crate by its [`SyncFile`]: hand it to
/// [`Scanout::stage_fenced`](super::Scanout::stage_fenced), or attach it to the buffer
/// ([`DmaBuf::import_sync_file`](crate::dmabuf::DmaBuf::import_sync_file)), where readers and displays wait for it by
/// themselves. The other way, what [`DmaBuf::export_sync_file`](crate::dmabuf::DmaBuf::export_sync_file) or
/// [`Scanout::try_flip_fenced`](super::Scanout::try_flip_fenced) gives is imported for a GPU's next job to wait for.
///
/// Destroyed on drop (`DRM_IOCTL_SYNCOBJ_DESTROY`); fences that were exported live on.
pub struct Syncobj {
    device: Device,
    handle: u32,
}

impl Device {
    /// A syncobj without a fence. Ioctl: `DRM_IOCTL_SYNCOBJ_CREATE`, of a render or primary node.
    ///
    /// # Errors
    /// `Unsupported` if the driver has no syncobjs.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_CREATE")]
    pub fn syncobj(&self) -> Result<Syncobj> {
        let created = sys::drm::syncobj_create(self.fd());
        let handle = created.map_err(|e| self.failed("DRM_IOCTL_SYNCOBJ_CREATE", e))?;
        Ok(Syncobj { device: self.clone(), handle })
    }
}

impl Syncobj {
    /// The number of the handle, in this open file alone: what a driver's own submission ioctl names.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Replaces its fence by that of a sync_file, which stays the caller's. Ioctl: `DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE`.
    ///
    /// # Errors
    /// `InvalidArgument` if the descriptor is no sync_file, `DeviceLost`.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE")]
    pub fn import(&self, fence: &SyncFile) -> Result<()> {
        use std::os::fd::AsFd;
        sys::drm::syncobj_import_sync_file(self.device.fd(), self.handle, fence.as_fd())
            .map_err(|e| self.device.failed("DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE", e))
    }

    /// The fence that it has now, as a sync_file; later ones do not change that. Ioctl:
    /// `DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD`.
    ///
    /// # Errors
    /// `State` if it has no fence yet, `DeviceLost`.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD")]
    pub fn export(&self) -> Result<SyncFile> {
        const OP: &str = "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD";
        let fd = sys::drm::syncobj_export_sync_file(self.device.fd(), self.handle);
        fd.map(SyncFile::from_fd).map_err(|e| match e {
            Errno::EINVAL => {
                let text = "the syncobj has no fence: import one, or submit the work first";
                self.device.failed(OP, e).kind_is(ErrorKind::State).detail(text)
            }
            e => self.device.failed(OP, e),
        })
    }
}

impl Drop for Syncobj {
    fn drop(&mut self) {
        // An unplugged device has none any more.
        let _ = sys::drm::syncobj_destroy(self.device.fd(), self.handle);
    }
}

impl fmt::Debug for Syncobj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Syncobj({} of {})", self.handle, self.device)
    }
}
