//! Fences as `sync_file` descriptors: pending work of devices on a buffer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use super::buffer::DmaBuf;
use crate::error::{Error, Result};
use crate::sys;

/// A kind of access to a buffer: reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// A read access. It waits for writers.
    Read,
    /// A write access. It waits for readers and writers.
    Write,
}

impl Access {
    fn flags(self) -> u64 {
        match self {
            Self::Read => sys::dma_buf::SYNC_READ,
            Self::Write => sys::dma_buf::SYNC_WRITE,
        }
    }
}

/// A fence (`sync_file`). The descriptor is readable after the device has finished the work that the fence stands
/// for.
///
/// ```
/// use std::time::Duration;
/// use framelease::dmabuf::{Access, Allocator, DmaBuf};
///
/// fn is_idle(buffer: &DmaBuf) -> framelease::Result<bool> {
///     buffer.export_sync_file(Access::Write)?.wait(Duration::ZERO)
/// }
/// assert!(is_idle(&Allocator::Memfd.allocate(4096, "test")?).is_err()); // A memfd does not have fences.
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct SyncFile(OwnedFd);

impl SyncFile {
    /// Creates a fence from a sync_file descriptor, such as a DRM out-fence.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits until the fence is signaled, also by a device that failed. Returns `false` if `timeout` passed first.
    ///
    /// # Errors
    /// The errors of `poll`.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait::until(self.as_fd(), PollFlags::POLLIN, sys::wait::deadline(timeout))
            .map(|ready| !ready.is_empty())
            .map_err(|e| Error::os("poll", e))
    }
}

/// Returns an error if the work of a signaled fence failed. A descriptor that is not a sync_file does not report that.
#[cfg(any(feature = "drm", feature = "g2d"))]
pub(crate) fn check(fence: BorrowedFd<'_>) -> Result<()> {
    match sys::dma_buf::fence_error(fence) {
        Ok(Some(errno)) => Err(Error::os("SYNC_IOC_FILE_INFO", errno).detail(format!("the device failed: {errno}"))),
        _ => Ok(()),
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DmaBuf {
    /// Returns `true` while a device reads or writes the buffer, as far as drivers attach fences. Costs one `poll`. A
    /// memfd does not have fences.
    pub(crate) fn has_fences(&self) -> bool {
        let now = sys::wait::deadline(Duration::ZERO);
        sys::wait::until(self.as_fd(), PollFlags::POLLOUT, now).is_ok_and(|ready| ready.is_empty())
    }

    /// Returns one fence that is signaled when `access` may begin. V4L2 does not attach fences, so the fence of a V4L2
    /// buffer is already signaled. Ioctl: `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`, Linux 6.0.
    ///
    /// # Errors
    /// `Unsupported` on a memfd or an older kernel.
    #[doc(alias = "DMA_BUF_IOCTL_EXPORT_SYNC_FILE")]
    pub fn export_sync_file(&self, access: Access) -> Result<SyncFile> {
        const OP: &str = "DMA_BUF_IOCTL_EXPORT_SYNC_FILE";
        self.dma_buf_only(OP)?;
        sys::dma_buf::export_sync_file(self.as_fd(), access.flags()).map(SyncFile).map_err(|e| Error::os(OP, e))
    }

    /// Attaches a fence that later accesses wait for. `access` says whether the work of the fence reads or writes the
    /// buffer. Ioctl: `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`, Linux 6.0.
    ///
    /// # Errors
    /// `Unsupported` on a memfd or an older kernel. `InvalidArgument` if `fence` is not a sync_file.
    #[doc(alias = "DMA_BUF_IOCTL_IMPORT_SYNC_FILE")]
    pub fn import_sync_file(&self, fence: &SyncFile, access: Access) -> Result<()> {
        const OP: &str = "DMA_BUF_IOCTL_IMPORT_SYNC_FILE";
        self.dma_buf_only(OP)?;
        sys::dma_buf::import_sync_file(self.as_fd(), fence.as_fd(), access.flags()).map_err(|e| Error::os(OP, e))
    }
}
