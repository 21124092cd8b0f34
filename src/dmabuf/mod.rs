//! Shared buffers as file descriptors: identity, size, CPU access, fences, allocation.
//!
//! A [`DmaBuf`] is what V4L2 exports (`VIDIOC_EXPBUF`), what a dma-heap or udmabuf allocates, and what devices and other
//! processes import. Where the kernel does not offer dma-bufs, a sealed memfd can stand in. [`DmaBuf::kind`] says which of the
//! two it is. Devices cannot import a memfd.
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
#[cfg(feature = "g2d")]
pub(crate) use buffer::WeakDmaBuf;
pub use buffer::{BufferId, DmaBuf, MemoryKind};
pub use fence::{Access, SyncFile};
