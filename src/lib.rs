//! Zero-copy video on Linux: capture once, share by file descriptor, let the CPU touch no pixel.
//!
//! ```text
//! /dev/videoN ─► capture::Camera ─► Frame ──┬─► convert::{G2d, M2m, Cpu} ─► Frame
//!    ▲           capture::TestPattern (a lease)└─► share::Publisher ══ fds once, then slots ══► share::Subscriber ─► Frame
//!    └── VIDIOC_QBUF ◄── drop of the last clone: any thread, any peer, or a peer's death       (in another process)
//! ```
//!
//! A [`frame::Frame`] is a counted lease on one buffer of a driver, an allocator or a publisher in another process.
//! Stations ([`capture`], [`convert`], [`share`]) meet in it and know nothing of each other. `docs/architecture.md` has
//! the whole picture, `docs/embedding.md` the event loop, `docs/protocol.md` the bytes between processes.
//!
//! What this crate does:
//! - V4L2 devices, formats, queues, the queue pairs of mem-to-mem devices, controls and events, single- and
//!   multi-planar through one path ([`v4l2`]); buffers exported with `VIDIOC_EXPBUF`, or dma-bufs imported with `VIDIOC_QBUF` and `V4L2_MEMORY_DMABUF`. (There
//!   is no `VIDIOC_EXPBUFDMABUF` and no `VIDIOC_IMPBUFDMABUF`, whatever a blog says.)
//! - dma-bufs: identity, CPU access, fences, allocation from dma-heaps, udmabuf and memfd ([`dmabuf`]).
//! - Scaling, rotating, converting and composing, by the i.MX 2D engines, V4L2 mem-to-mem devices, or the CPU
//!   ([`convert`]).
//! - Displays, without a copy (`drm`, feature `drm`).
//! - Fan-out to other processes with quotas, policies and deadlines ([`share`]).
//!
//! What it does not do: start a thread (but the one of `convert::G2d`, which its user names), block without a timeout,
//! panic over what a kernel, a peer, a file or libg2d says, lend `&[u8]` over memory that a device may write, or copy a
//! pixel that nobody asked it to copy.

#![deny(missing_docs, missing_debug_implementations)]

pub mod bitstream;
pub mod capture;
pub mod codec;
pub mod convert;
pub mod dmabuf;
#[cfg(feature = "drm")]
pub mod drm;

mod device_nodes;
mod error;
mod flags;
pub mod format;
pub mod frame;
mod log;
pub mod negotiate;
#[cfg(feature = "tokio")]
pub mod reactor;
pub mod share;
pub mod sink;
mod station;
pub mod stats;
mod sys;
pub mod v4l2;

pub use error::{Error, ErrorKind, Reason, Rejected, Result};
pub use station::{wait, FrameEvent, Frames, Received, Station, Submit, SubmitResult, Submitted};

/// The programs in the README and in docs/embedding.md compile.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/embedding.md")]
    mod embedding {}
    #[cfg(feature = "unixfd")]
    #[doc = include_str!("../docs/interop.md")]
    mod interop {}
}
