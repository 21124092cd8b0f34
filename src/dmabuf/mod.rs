//! Shared buffers as file descriptors: identity, size, CPU access, fences, allocation.
//!
//! A [`DmaBuf`] is what V4L2 exports (`VIDIOC_EXPBUF`), a dma-heap or udmabuf allocates, and importers and peers take.
//! A sealed memfd can stand in where the kernel offers no dma-buf; [`DmaBuf::kind`] says which it is.

mod access;
mod alloc;
#[cfg(feature = "drm")]
mod attachment;
mod buffer;
mod fence;
mod users;

pub use access::{CpuRead, CpuWrite, DEFAULT_WAIT};
pub use alloc::Allocator;
#[cfg(feature = "drm")]
pub use attachment::Attachment;
#[cfg(feature = "unixfd")]
pub(crate) use buffer::Shrinkable;
#[cfg(feature = "g2d")]
pub(crate) use buffer::WeakDmaBuf;
pub use buffer::{BufferId, DmaBuf, MemoryKind};
pub use fence::{Access, SyncFile};
