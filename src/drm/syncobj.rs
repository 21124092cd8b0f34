//! Syncobjs, the fences of graphics APIs, to and from sync_files.

use std::fmt;

use nix::errno::Errno;

use super::device::Device;
use crate::dmabuf::SyncFile;
use crate::error::{ErrorKind, Result};
use crate::sys;

/// A container for one fence at a time (`drm_syncobj`). Vulkan and OpenGL drivers signal it and wait for it.
///
/// To let displays and readers wait for a GPU, export the fence of its work as a [`SyncFile`]. Pass the `SyncFile` to
/// [`Scanout::stage_fenced`](super::Scanout::stage_fenced), or attach it to the buffer
/// ([`DmaBuf::import_sync_file`](crate::dmabuf::DmaBuf::import_sync_file)). To let a GPU wait, import the fence of
/// [`DmaBuf::export_sync_file`](crate::dmabuf::DmaBuf::export_sync_file) or
/// [`Scanout::try_present_fenced`](super::Scanout::try_present_fenced). The next job of the GPU then waits for this
/// fence.
///
/// Dropping a `Syncobj` destroys the kernel's object (`DRM_IOCTL_SYNCOBJ_DESTROY`). Exported fences stay valid.
pub struct Syncobj {
    device: Device,
    handle: u32,
}

impl Device {
    /// Creates a syncobj without a fence, on a render or primary node. Ioctl: `DRM_IOCTL_SYNCOBJ_CREATE`.
    ///
    /// # Errors
    /// `Unsupported` if the driver does not have syncobjs.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_CREATE")]
    #[doc(hidden)]
    pub fn syncobj(&self) -> Result<Syncobj> {
        let created = sys::drm::syncobj_create(self.fd());
        let handle = created.map_err(|e| self.failed("DRM_IOCTL_SYNCOBJ_CREATE", e))?;
        Ok(Syncobj { device: self.clone(), handle })
    }
}

impl Syncobj {
    /// Returns the number of the handle, for a driver's own submission ioctl. It is valid in this open file only.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Replaces the present fence with the fence of a sync_file. Ioctl: `DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE`.
    ///
    /// # Errors
    /// `InvalidArgument` if the descriptor is not a sync_file, `DeviceLost` after an unplug.
    #[doc(alias = "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE")]
    pub fn import(&self, fence: &SyncFile) -> Result<()> {
        use std::os::fd::AsFd;
        sys::drm::syncobj_import_sync_file(self.device.fd(), self.handle, fence.as_fd())
            .map_err(|e| self.device.failed("DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE", e))
    }

    /// Exports the present fence as a sync_file. Later fences do not change it. Ioctl:
    /// `DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD`.
    ///
    /// # Errors
    /// `State` if the syncobj has no fence yet, `DeviceLost` after an unplug.
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
        // The kernel has destroyed it already if the device was unplugged.
        let _ = sys::drm::syncobj_destroy(self.device.fd(), self.handle);
    }
}

impl fmt::Debug for Syncobj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Syncobj({} of {})", self.handle, self.device)
    }
}
