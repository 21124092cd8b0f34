//! The memory capabilities of a queue (`V4L2_BUF_CAP_*`).

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::device::{Device, Direction};
use crate::error::Result;
use crate::sys::v4l2::{BufType, CreateBuffers, Format, Picture, Plain, MEMORY_MMAP};
use crate::sys::v4l2_calls as calls;

/// The memory capabilities of a queue (`V4L2_BUF_CAP_*`). Displays as `MMAP, DMABUF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryCapabilities {
    /// Allocates driver buffers, which can be exported (`MMAP`).
    pub exports: bool,
    /// Imports dma-bufs from elsewhere (`DMABUF`).
    pub imports: bool,
    /// Allocates cached ("non-coherent") buffers on request (`MMAP_CACHE_HINTS`).
    pub cache_hints: bool,
    /// Keeps freed buffers while they are exported (`ORPHANED_BUFS`).
    pub orphans: bool,
    /// Frees single buffers of a queue (`REMOVE_BUFS`).
    pub removes: bool,
    /// The largest number of buffers, if the driver reports it.
    pub max_buffers: Option<u32>,
    bits: u32,
}

const MMAP: u32 = 1;
const DMABUF: u32 = 4;
const ORPHANED_BUFS: u32 = 0x10;
const MMAP_CACHE_HINTS: u32 = 0x40;
const MAX_NUM_BUFFERS: u32 = 0x80;
const REMOVE_BUFS: u32 = 0x100;

const NAMES: [(u32, &str); 9] = [
    (MMAP, "MMAP"),
    (2, "USERPTR"),
    (DMABUF, "DMABUF"),
    (8, "REQUESTS"),
    (ORPHANED_BUFS, "ORPHANED_BUFS"),
    (0x20, "M2M_HOLD_CAPTURE_BUF"),
    (MMAP_CACHE_HINTS, "MMAP_CACHE_HINTS"),
    (MAX_NUM_BUFFERS, "MAX_NUM_BUFFERS"),
    (REMOVE_BUFS, "REMOVE_BUFS"),
];

impl MemoryCapabilities {
    fn new(arg: &CreateBuffers) -> Self {
        let has = |bit: u32| arg.capabilities & bit != 0;
        Self {
            exports: has(MMAP),
            imports: has(DMABUF),
            cache_hints: has(MMAP_CACHE_HINTS),
            orphans: has(ORPHANED_BUFS),
            removes: has(REMOVE_BUFS),
            max_buffers: has(MAX_NUM_BUFFERS).then_some(arg.max_num_buffers),
            bits: arg.capabilities,
        }
    }
}

impl fmt::Display for MemoryCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES.iter().filter(|(bit, _)| self.bits & bit != 0).map(|(_, name)| *name).collect();
        f.write_str(&names.join(", "))
    }
}

impl Device {
    /// Returns the memory capabilities of a queue, or `None` if the driver does not report them. Changes nothing.
    /// Ioctls: `VIDIOC_G_FMT`, `VIDIOC_CREATE_BUFS` with a count of 0.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the queue. Other errors are those of `VIDIOC_G_FMT`.
    #[doc(alias = "VIDIOC_CREATE_BUFS")]
    pub fn memory_capabilities(&self, direction: Direction) -> Result<Option<MemoryCapabilities>> {
        const OP: &str = "VIDIOC_CREATE_BUFS";
        let mut arg = self.create_arg(self.buf_type(direction, OP)?, MEMORY_MMAP, 0)?;
        match calls::create_bufs(self.as_fd(), &mut arg) {
            // Drivers from before Linux 4.20 leave the field at 0.
            Ok(()) => Ok((arg.capabilities != 0).then(|| MemoryCapabilities::new(&arg))),
            Err(Errno::ENOTTY | Errno::EINVAL) => Ok(None),
            Err(e) => Err(self.failed(OP, e)),
        }
    }

    /// Returns `true` if a program has buffers of a queue. `false` if the driver does not tell. Changes nothing.
    /// Ioctls: `VIDIOC_G_FMT`, `VIDIOC_CREATE_BUFS` with a count of 0.
    pub(super) fn has_buffers(&self, direction: Direction) -> bool {
        let Some(kind) = self.info().buf_type(direction) else { return false };
        let Ok(mut arg) = self.create_arg(kind, MEMORY_MMAP, 0) else { return false };
        match calls::create_bufs(self.as_fd(), &mut arg) {
            Ok(()) => arg.index > 0,
            // uvcvideo refuses the call while another program has the camera.
            Err(e) => e == Errno::EBUSY,
        }
    }

    pub(super) fn create_arg(&self, kind: BufType, memory: u32, count: u32) -> Result<CreateBuffers> {
        let mut format = Format::new(kind, &Picture::default());
        calls::g_fmt(self.as_fd(), &mut format).map_err(|e| self.failed("VIDIOC_G_FMT", e))?;
        Ok(CreateBuffers { index: 0, count, memory, format, ..CreateBuffers::zeroed() })
    }
}
