//! A device attached to a buffer only so that CPU access is synchronized (feature `drm`).

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use drm::buffer::Handle;
use drm::control::Device as _;

use super::buffer::DmaBuf;
use crate::error::{Error, Result};

/// A PRIME import on a DRM render node, held for the sake of the caches.
///
/// On a cached heap `DMA_BUF_IOCTL_SYNC` walks the buffer's attachments: with none it succeeds and does nothing, and
/// the CPU may see stale pixels. Hold one of these while the CPU and a device without an attachment of its own (G2D by
/// physical address) take turns. Buffers that V4L2 exported have the capture device's attachment and need none.
///
/// Each has a descriptor of its own: importing one buffer twice through one descriptor gives one handle, which the
/// first close would take from the second.
pub struct Attachment {
    node: Node,
    handle: Handle,
}

struct Node(File);

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Node {}
impl drm::control::Device for Node {}

impl DmaBuf {
    /// Attaches the buffer to the device behind a render node, such as `/dev/dri/renderD128`.
    /// Ioctl: `DRM_IOCTL_PRIME_FD_TO_HANDLE`.
    ///
    /// # Errors
    /// `NotFound` or `PermissionDenied` for the node, `Unsupported` on a memfd, and what the import reports: a node
    /// without PRIME, or a device that cannot reach the memory.
    #[doc(alias = "DRM_IOCTL_PRIME_FD_TO_HANDLE")]
    pub fn attach(&self, render_node: impl AsRef<Path>) -> Result<Attachment> {
        const OP: &str = "DRM_IOCTL_PRIME_FD_TO_HANDLE";
        let path = render_node.as_ref();
        self.dma_buf_only(OP)?;
        let file = File::options().read(true).write(true).open(path);
        let node = Node(file.map_err(|e| Error::io("open", &e).on(path.display()))?);
        let handle = node.prime_fd_to_buffer(self.as_fd()).map_err(|e| Error::io(OP, &e).on(path.display()))?;
        Ok(Attachment { node, handle })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The node's close releases the handle too.
        let _ = self.node.close_buffer(self.handle);
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({:?})", self.handle)
    }
}
