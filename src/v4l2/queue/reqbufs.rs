//! Provides a queue with buffers: the driver's own, exported once; an allocator's; or imports.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::copies::Copies;
use super::imports::Imports;
use super::mmap_buffers::{CopyOwner, MmapBuffers, MmapOwner};
use super::{state, Memory, Queue};
use crate::dmabuf::{Allocator, DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{BufferSet, CpuReads};
use crate::sys::v4l2::{Plain, RemoveBuffers, RequestBuffers, MEMORY_DMABUF, MEMORY_MMAP, NON_COHERENT};
use crate::sys::v4l2_calls as calls;

/// The kind of memory to request from a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheHint {
    /// The memory that the driver chooses. On SoCs, this memory mostly needs no cache maintenance, but the CPU reads it
    /// slowly. The default.
    #[default]
    Driver,
    /// Memory that the CPU reads through its cache (`V4L2_MEMORY_FLAG_NON_COHERENT`), if the driver offers it.
    Cached,
}

/// The most buffers of a driver whose frames are copied. It gets each of them back at once.
const MOST_TO_COPY: usize = 4;

impl Queue {
    /// Allocates the driver's own buffers for its present format and exports each memory plane once. Buffers of a
    /// capture queue are read-only. Buffers of an output queue are writable, because the caller fills them.
    ///
    /// The driver may give more or fewer than `count`: see [`BufferSet::slots`]. Ioctls: `VIDIOC_G_FMT`,
    /// `VIDIOC_REQBUFS`, `VIDIOC_EXPBUF` per buffer and memory plane.
    ///
    /// # Errors
    /// `State` if the queue has buffers, `InvalidArgument` for a count of 0 or above 64, `Busy` if another program
    /// has buffers, `Exhausted`, and `Unsupported` if the driver cannot export. Nothing stays allocated then.
    #[doc(alias = "VIDIOC_REQBUFS")]
    #[doc(alias = "VIDIOC_EXPBUF")]
    #[doc(alias = "VIDIOC_EXPBUFDMABUF")]
    pub fn allocate(&mut self, count: usize, wish: CacheHint) -> Result<&BufferSet> {
        let layout = self.begin(count)?;
        let flags = if wish == CacheHint::Cached { NON_COHERENT } else { 0 };
        let (count, flags) = self.request(MEMORY_MMAP, count, flags)?;
        // Cached if the driver accepted the hint. Else unknown: vmalloc memory is cached, dma-contig memory is not,
        // and neither driver reports it.
        let cpu_reads = if flags & NON_COHERENT != 0 { CpuReads::Cached } else { CpuReads::Unknown };
        let exported = (0..count).map(|i| self.export(i, &layout)).collect::<Result<Vec<_>>>();
        self.install(exported, layout, MEMORY_MMAP, cpu_reads)
    }

    fn export(&self, index: usize, layout: &Layout) -> Result<Vec<DmaBuf>> {
        let export = |(plane, &needed): (usize, &u32)| {
            let is_writable = self.exports_writable || self.kind.is_output();
            let place = (index as u32, plane as u32);
            let fd = calls::expbuf(self.device.as_fd(), self.kind, place, is_writable).map_err(|e| {
                let error = self.device.failed("VIDIOC_EXPBUF", e);
                if e == Errno::ENOTTY || e == Errno::EINVAL {
                    return error.kind_is(ErrorKind::Unsupported).detail("the driver cannot export its buffers");
                }
                error
            })?;
            let buffer = DmaBuf::from_fd(fd)?;
            if buffer.size_bytes() < needed as usize {
                let text = format!("{buffer:?} is smaller than the format's {needed} bytes");
                return Err(Error::new(ErrorKind::Mismatch, "VIDIOC_EXPBUF", text).on(&self.device));
            }
            // A failure is ignored: the name only helps people who read debugfs.
            let _ = buffer.set_name(&format!("framelease {}", layout.fourcc()));
            Ok(buffer)
        };
        layout.memory_bytes().iter().enumerate().map(export).collect()
    }

    /// Allocates buffers with `allocator`. The driver imports each of them at a fixed index. A memory plane has the
    /// size that the format needs, or `least_bytes` if that is more: another device may need a larger buffer. Ioctls:
    /// `VIDIOC_G_FMT`, `VIDIOC_REQBUFS` with `V4L2_MEMORY_DMABUF`.
    ///
    /// # Errors
    /// `Unsupported` if the driver cannot import, or for a memfd. Else the errors of [`Queue::allocate`] and
    /// [`Allocator::allocate`].
    pub fn allocate_from(&mut self, allocator: &Allocator, count: usize, least_bytes: &[u32]) -> Result<&BufferSet> {
        let layout = self.begin(count)?;
        let name = format!("framelease {}", layout.fourcc());
        let allocate = |_| -> Result<Vec<DmaBuf>> {
            let one = |(plane, &bytes): (usize, &u32)| {
                let bytes = bytes.max(least_bytes.get(plane).copied().unwrap_or(0));
                let buffer = allocator.allocate(bytes as usize, &name)?;
                if buffer.kind() == MemoryKind::DmaBuf {
                    return Ok(buffer);
                }
                let text = format!("{allocator} does not allocate dma-bufs, and the device imports nothing else");
                Err(Error::new(ErrorKind::Unsupported, "VIDIOC_REQBUFS", text).on(&self.device))
            };
            layout.memory_bytes().iter().enumerate().map(one).collect()
        };
        // The driver first: it may require more buffers than requested.
        let (given, _) = self.request(MEMORY_DMABUF, count, 0)?;
        let memory = (0..given).map(allocate).collect();
        self.install(memory, layout, MEMORY_DMABUF, CpuReads::of(allocator))
    }

    /// Allocates the driver's own buffers of a capture queue, which stay in the queue, and `count` buffers of
    /// `allocator`, into which the CPU copies each frame. A memory plane has the size that the driver uses, or
    /// `least_bytes` if that is more. Ioctls: `VIDIOC_G_FMT`, `VIDIOC_REQBUFS`, `VIDIOC_QUERYBUF` for each buffer.
    ///
    /// # Errors
    /// The errors of [`Queue::allocate`], without export, and of [`Allocator::allocate`].
    pub(crate) fn allocate_copies(
        &mut self,
        allocator: &Allocator,
        count: usize,
        least_bytes: &[u32],
    ) -> Result<&BufferSet> {
        let layout = self.begin(count)?;
        let (given, _) = self.request(MEMORY_MMAP, count.min(MOST_TO_COPY), 0)?;
        let made = Copies::map(&self.device, self.kind, given, &layout)
            .and_then(|copies| Ok((copies.allocate(allocator, &layout, count, least_bytes)?, copies)));
        let (memory, copies) = made.map_err(|e| {
            self.release(MEMORY_MMAP);
            e
        })?;
        let planes = layout.memory_bytes().len();
        let mmap = MmapBuffers::new(&self.device, self.kind, MEMORY_MMAP, given, planes, Vec::new());
        mmap.copy_into(count);
        self.held.resize_with(given, || None);
        let buffers = BufferSet::new(layout, CpuReads::of(allocator), memory, Box::new(CopyOwner(Arc::clone(&mmap))));
        self.memory = Memory::Mmap { mmap, buffers, copies: Some(copies) };
        self.buffers().ok_or_else(|| state("VIDIOC_REQBUFS", "no buffers"))
    }

    /// Prepares `count` indices for imports: frames for an output queue ([`Queue::queue`]), writable buffers for a
    /// capture queue ([`Queue::queue_empty`]). The driver may give more or fewer. Ioctls: `VIDIOC_G_FMT`,
    /// `VIDIOC_REQBUFS` with `V4L2_MEMORY_DMABUF`.
    ///
    /// # Errors
    /// `State` if the queue has buffers, `InvalidArgument` for a count of 0 or above 64, `Busy` if another program
    /// has buffers, `Unsupported` if the driver cannot import.
    #[doc(alias = "VIDIOC_REQBUFS")]
    #[doc(alias = "VIDIOC_IMPBUFDMABUF")]
    pub fn import(&mut self, count: usize) -> Result<()> {
        let layout = self.begin(count)?;
        let (count, _) = self.request(MEMORY_DMABUF, count, 0)?;
        let mut imports = Imports::default();
        imports.resize(count);
        self.held.resize_with(count, || None);
        self.memory = Memory::Imports { imports, layout };
        Ok(())
    }

    /// Removes an index that accepts no buffer any more, and creates it again. Ioctls: `VIDIOC_REMOVE_BUFS` (Linux
    /// 6.10), `VIDIOC_CREATE_BUFS`.
    pub(super) fn renew(&mut self, index: usize) -> Result<()> {
        let kind = self.kind as u32;
        let Memory::Imports { imports, .. } = &mut self.memory else { return Ok(()) };
        let mut create = self.device.create_arg(self.kind, MEMORY_DMABUF, 1)?;
        let mut remove = RemoveBuffers { index: index as u32, count: 1, kind, ..RemoveBuffers::zeroed() };
        calls::remove_bufs(self.device.as_fd(), &mut remove).map_err(|e| {
            let error = self.device.failed("VIDIOC_REMOVE_BUFS", e);
            if error.kind() == ErrorKind::DeviceLost {
                return error;
            }
            let text = "the kernel accepts no buffer at an index that refused one, and the driver cannot remove it: \
                        free the queue and import again";
            error.kind_is(ErrorKind::Exhausted).detail(text)
        })?;
        // The kernel uses the lowest free index, which was just removed.
        let created = calls::create_bufs(self.device.as_fd(), &mut create);
        if created.is_ok() && (create.index as usize, create.count) == (index, 1) {
            return Ok(());
        }
        imports.lose(index);
        const OP: &str = "VIDIOC_CREATE_BUFS";
        created.map_err(|e| self.device.failed(OP, e))?;
        let text = format!("created index {} instead of {index}, which was removed", create.index);
        Err(Error::new(ErrorKind::Os, OP, text).on(&self.device))
    }

    fn begin(&self, count: usize) -> Result<Layout> {
        const OP: &str = "VIDIOC_REQBUFS";
        if !matches!(self.memory, Memory::None) {
            return Err(state(OP, "the queue has buffers").on(&self.device));
        }
        if !(1..=64).contains(&count) {
            let text = format!("{count} buffers; 1 to 64 are possible");
            return Err(Error::new(ErrorKind::InvalidArgument, OP, text).on(&self.device));
        }
        self.device.format(self.direction)
    }

    /// Requests buffers (REQBUFS). Returns how many the driver gave, and which flags it accepted.
    fn request(&self, memory: u32, count: usize, flags: u8) -> Result<(usize, u8)> {
        const OP: &str = "VIDIOC_REQBUFS";
        let kind = self.kind as u32;
        let mut arg = RequestBuffers { count: count as u32, kind, memory, flags, ..RequestBuffers::zeroed() };
        calls::reqbufs(self.device.as_fd(), &mut arg).map_err(|e| {
            let offered = self.device.memory_capabilities(self.direction).unwrap_or_default();
            let (can, what) = match memory {
                MEMORY_DMABUF => (offered.map(|o| o.imports), "imports"),
                _ => (offered.map(|o| o.exports), "buffers of its own"),
            };
            // A driver that reports no capabilities is not one of videobuf2, and refuses the kind of memory.
            let refused = e == Errno::EINVAL && !can.unwrap_or(memory != MEMORY_DMABUF);
            let offered = offered.map_or("no information".to_owned(), |o| o.to_string());
            let error = self.device.failed(OP, e);
            let error = if refused { error.kind_is(ErrorKind::Unsupported) } else { error };
            let why = match e {
                Errno::ENOMEM => self.room(count),
                Errno::EBUSY => self.device.open_in(),
                _ => String::new(),
            };
            error.detail(format!("{}{why}; asked {count} {what}; the device offers {offered}", e.desc()))
        })?;
        match arg.count {
            0 => Err(Error::new(ErrorKind::Exhausted, OP, "the driver allocated 0 buffers").on(&self.device)),
            count => Ok((count.min(64) as usize, arg.flags)),
        }
    }

    /// Returns how much memory the buffers need, for the text of an error.
    fn room(&self, count: usize) -> String {
        let bytes = self
            .device
            .format(self.direction)
            .map_or(0, |layout| layout.memory_bytes().iter().map(|&n| u64::from(n)).sum());
        let free = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = free.lines().find_map(|line| line.strip_prefix("CmaFree:")).map(str::trim);
        let free = free.map_or(String::new(), |free| format!(", and the CMA region has {free} free"));
        format!("; {count} buffers of {bytes} bytes{free}: request fewer buffers or a smaller size")
    }

    fn install(
        &mut self,
        memory: Result<Vec<Vec<DmaBuf>>>,
        layout: Layout,
        memory_type: u32,
        cpu_reads: CpuReads,
    ) -> Result<&BufferSet> {
        let memory = memory.map_err(|e| {
            self.release(memory_type);
            e
        })?;
        let imported = if memory_type == MEMORY_DMABUF { memory.clone() } else { Vec::new() };
        let planes = layout.memory_bytes().len();
        let mmap = MmapBuffers::new(&self.device, self.kind, memory_type, memory.len(), planes, imported);
        self.held.resize_with(memory.len(), || None);
        let buffers = BufferSet::new(layout, cpu_reads, memory, Box::new(MmapOwner(Arc::clone(&mmap))));
        self.memory = Memory::Mmap { mmap, buffers, copies: None };
        self.buffers().ok_or_else(|| state("VIDIOC_REQBUFS", "no buffers"))
    }

    /// Frees the buffers (REQBUFS with 0), and returns `false` if only the close of the device will. The kernel refuses
    /// the type of memory that the driver does not have, also here.
    pub(super) fn release(&self, memory: u32) -> bool {
        let mut arg = RequestBuffers { kind: self.kind as u32, memory, ..RequestBuffers::zeroed() };
        calls::reqbufs(self.device.as_fd(), &mut arg).is_ok()
    }

    pub(super) fn memory_type(&self) -> u32 {
        match &self.memory {
            Memory::Mmap { mmap, .. } => mmap.memory(),
            Memory::Imports { .. } => MEMORY_DMABUF,
            Memory::None => MEMORY_MMAP,
        }
    }
}
