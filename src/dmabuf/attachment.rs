//! Attaches a device to a buffer, only to synchronize CPU access (feature `drm`).

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use drm::buffer::Handle;
use drm::control::Device as _;

use super::buffer::DmaBuf;
use crate::error::{Error, Result};

/// An import of a buffer into a DRM render node (PRIME). Its only purpose is to make cache maintenance work.
///
/// For a buffer of a cached heap, `DMA_BUF_IOCTL_SYNC` does cache maintenance for the devices that are attached to the
/// buffer. Without an attachment, the ioctl succeeds but does nothing, and the CPU may see stale pixels. Hold an
/// `Attachment` while the CPU and a device without its own attachment take turns. For example, G2D is not attached,
/// because it uses physical addresses. Buffers that V4L2 exported do not need an `Attachment`, because the capture
/// device is already attached to them.
///
/// Each attachment opens the node again. If two attachments shared one descriptor of the node, both would get the same
/// GEM handle. Dropping the first attachment would then close the handle of the second.
///
/// ```no_run
/// use framelease::dmabuf::Allocator;
///
/// let buffer = Allocator::for_devices()?.allocate(1 << 20, "g2d input")?;
/// let attachment = buffer.attach("/dev/dri/renderD128")?;
/// // Read and write the buffer by the CPU, between jobs of the 2D engine.
/// drop(attachment);
/// # Ok::<(), framelease::Error>(())
/// ```
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
    /// Attaches the buffer to the device of a render node, such as `/dev/dri/renderD128`. Ioctl:
    /// `DRM_IOCTL_PRIME_FD_TO_HANDLE`.
    ///
    /// # Errors
    /// `NotFound` or `PermissionDenied` if the node cannot be opened. `Unsupported` for a memfd. Other errors are those
    /// of the import. For example, the import fails if the node does not have PRIME or the device cannot reach the
    /// memory.
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
        // The close of the node would release the handle as well.
        let _ = self.node.close_buffer(self.handle);
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({:?})", self.handle)
    }
}
