//! Fences as `sync_file` descriptors: what a device still does to a buffer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use super::buffer::DmaBuf;
use crate::error::{Error, Result};
use crate::sys;

/// What somebody is about to do to a buffer, or a fence stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Reading: waits for writers.
    Read,
    /// Writing: waits for readers and writers.
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

/// A fence (`sync_file`): readable once the device work that it stands for is done.
#[derive(Debug)]
pub struct SyncFile(OwnedFd);

impl SyncFile {
    /// Takes a sync_file descriptor, such as a DRM out-fence.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits until the fence has signalled: `true`, or `false` if `timeout` passed first.
    ///
    /// # Errors
    /// What `poll` reports.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait::until(self.as_fd(), PollFlags::POLLIN, sys::wait::deadline(timeout))
            .map(|ready| !ready.is_empty())
            .map_err(|e| Error::os("poll", e))
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DmaBuf {
    /// The fences that an access must wait for, as one sync_file. V4L2 attaches none: a vb2 buffer's is signalled at
    /// once. Ioctl: `DMA_BUF_IOCTL_EXPORT_SYNC_FILE`, Linux 6.0.
    ///
    /// # Errors
    /// `Unsupported` on a memfd or an older kernel.
    #[doc(alias = "DMA_BUF_IOCTL_EXPORT_SYNC_FILE")]
    pub fn export_sync_file(&self, access: Access) -> Result<SyncFile> {
        const OP: &str = "DMA_BUF_IOCTL_EXPORT_SYNC_FILE";
        self.dma_buf_only(OP)?;
        sys::dma_buf::export_sync_file(self.as_fd(), access.flags()).map(SyncFile).map_err(|e| Error::os(OP, e))
    }

    /// Attaches a fence that later accesses wait for: `access` says what the fenced work does to the buffer.
    /// Ioctl: `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`, Linux 6.0.
    ///
    /// # Errors
    /// `Unsupported` on a memfd or an older kernel, `InvalidArgument` if `fence` is no sync_file.
    #[doc(alias = "DMA_BUF_IOCTL_IMPORT_SYNC_FILE")]
    pub fn import_sync_file(&self, fence: &SyncFile, access: Access) -> Result<()> {
        const OP: &str = "DMA_BUF_IOCTL_IMPORT_SYNC_FILE";
        self.dma_buf_only(OP)?;
        sys::dma_buf::import_sync_file(self.as_fd(), fence.as_fd(), access.flags()).map_err(|e| Error::os(OP, e))
    }
}
