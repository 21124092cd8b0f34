//! Shared buffers as file descriptors: identity, size, CPU access, fences, allocation.
//!
//! A [`DmaBuf`] is a handle to memory that V4L2 exports (`VIDIOC_EXPBUF`) or that a dma-heap or udmabuf allocates.
//! Devices and other processes import it. On kernels without dma-bufs a sealed memfd can be used instead, but devices
//! cannot import it. [`DmaBuf::kind`] returns whether a buffer is a dma-buf or a memfd.
//!
//! ```
//! use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
//!
//! let mut buffer = Allocator::Memfd.allocate(4096, "example")?;
//! buffer.write(DEFAULT_WAIT)?.copy_from(0, b"hello")?;
//! let mut bytes = [0; 5];
//! buffer.read(DEFAULT_WAIT)?.copy_to(0, &mut bytes)?;
//! assert_eq!(&bytes, b"hello");
//! assert_eq!((buffer.kind(), buffer.size_bytes()), (MemoryKind::Memfd, 4096));
//! # Ok::<(), framelease::Error>(())
//! ```

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
#[cfg(any(feature = "g2d", feature = "vulkan"))]
pub(crate) use buffer::WeakDmaBuf;
pub use buffer::{BufferId, DmaBuf, MemoryKind};
#[cfg(any(feature = "drm", feature = "g2d"))]
pub(crate) use fence::check;
pub use fence::{Access, SyncFile};

pub use crate::sys::shared_bytes::{Chunks, SharedBytes};
