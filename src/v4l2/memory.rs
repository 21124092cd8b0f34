//! What a queue can do with memory (`V4L2_BUF_CAP_*`).

use std::os::fd::AsFd;

use bitflags::bitflags;
use nix::errno::Errno;

use super::device::{Device, Direction};
use crate::error::Result;
use crate::sys::v4l2::{BufType, CreateBuffers, Format, Picture, Plain, MEMORY_MMAP};
use crate::sys::v4l2_calls as calls;

bitflags! {
    /// What a queue can do with memory (`V4L2_BUF_CAP_*`). Empty if the driver does not say.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MemoryCapabilities: u32 {
        /// Buffers of the driver's own, which can be exported.
        const MMAP = 1;
        /// Memory of the process. This crate does not use it.
        const USERPTR = 2;
        /// Imports dma-bufs.
        const DMABUF = 4;
        /// Media requests.
        const REQUESTS = 8;
        /// Freed buffers live on under their exports.
        const ORPHANED_BUFFERS = 0x10;
        /// A decoder can hold a capture buffer for several slices.
        const M2M_HOLD_CAPTURE = 0x20;
        /// Cached ("non-coherent") buffers can be asked for.
        const CACHE_HINTS = 0x40;
        /// The driver tells its largest number of buffers.
        const MAX_BUFFERS = 0x80;
        /// Single buffers can be freed.
        const REMOVE_BUFFERS = 0x100;
        const _ = !0;
    }
}

impl Device {
    /// What a queue can do with memory, and its largest number of buffers if the driver says so. Changes nothing.
    /// Ioctls: `VIDIOC_G_FMT`, `VIDIOC_CREATE_BUFS` with a count of 0.
    ///
    /// # Errors
    /// `Unsupported` if the device has no such queue; what `VIDIOC_G_FMT` reports.
    #[doc(alias = "VIDIOC_CREATE_BUFS")]
    pub fn memory_capabilities(&self, direction: Direction) -> Result<(MemoryCapabilities, Option<u32>)> {
        const OP: &str = "VIDIOC_CREATE_BUFS";
        let mut arg = self.create_arg(self.buf_type(direction, OP)?, MEMORY_MMAP, 0)?;
        match calls::create_bufs(self.as_fd(), &mut arg) {
            Ok(()) => {}
            Err(Errno::ENOTTY | Errno::EINVAL) => return Ok(Default::default()),
            Err(e) => return Err(self.failed(OP, e)),
        }
        let caps = MemoryCapabilities::from_bits_retain(arg.capabilities);
        Ok((caps, caps.contains(MemoryCapabilities::MAX_BUFFERS).then_some(arg.max_num_buffers)))
    }

    pub(super) fn create_arg(&self, kind: BufType, memory: u32, count: u32) -> Result<CreateBuffers> {
        let mut format = Format::new(kind, &Picture::default());
        calls::g_fmt(self.as_fd(), &mut format).map_err(|e| self.failed("VIDIOC_G_FMT", e))?;
        Ok(CreateBuffers { index: 0, count, memory, format, ..CreateBuffers::zeroed() })
    }
}
