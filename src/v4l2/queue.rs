//! One queue of a device: its buffers, and the frames that come and go.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitflags::bitflags;
use nix::errno::Errno;
use nix::poll::PollFlags;

use super::formats::{geometry, holds};
use super::imports::{ids, Imports};
use super::ring::{Ring, RingHome};
use super::sequence::Sequence;
use super::{media, Device, Direction};
use crate::dmabuf::{Allocator, DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{Layout, MAX_PLANES};
use crate::frame::{BufferSet, CpuReads, Frame, FrameFlags, FrameMeta, FrameMut, Payload};
use crate::sys::v4l2::{
    flag, CreateBuffers, Format, Picture, Plain, RemoveBuffers, RequestBuffers, MEMORY_DMABUF, MEMORY_MMAP,
    NON_COHERENT,
};
use crate::sys::v4l2_calls::{self as calls, BufType, Buffer, BufferPlane};
use crate::sys::wait;

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

/// Which memory a driver is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheWish {
    /// What the driver takes by default: on SoCs mostly memory that devices share without cache work and that the CPU
    /// reads slowly.
    #[default]
    Driver,
    /// Memory that the CPU reads through its cache (`V4L2_MEMORY_FLAG_NON_COHERENT`), where the driver offers it.
    Cached,
}

/// What comes back from a driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum Dequeued {
    /// A captured frame; from an output queue the frame that was queued, which the device is done with.
    Frame(Frame),
    /// The frame flagged [`FrameFlags::LAST`] was dequeued before: nothing comes until the queue is restarted.
    Ended,
}

/// One queue of a device. Not a thread's business but its owner's: calls take `&mut self`; the frames go anywhere.
///
/// `try_dequeue` costs one system call, the drop of a captured frame's last clone another; no memory is allocated,
/// mapped, or exported per frame. Dropping the queue stops it and leaves the buffers to the leases that are out.
pub struct Queue {
    device: Device,
    direction: Direction,
    kind: BufType,
    memory: Memory,
    /// Leases that the driver has, by index: of output queues, and of imports.
    held: Vec<Option<Held>>,
    sequence: Sequence,
    streaming: bool,
}

enum Memory {
    None,
    /// Buffers whose slot is the queue's index: the driver's own, or allocated for it.
    Ring {
        ring: Arc<Ring>,
        buffers: BufferSet,
    },
    /// Buffers of others.
    Imports {
        imports: Imports,
        layout: Layout,
    },
}

enum Held {
    Shared(Frame),
    Unique(FrameMut),
}

impl Queue {
    /// The capture or output queue of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if the device has no such queue.
    pub fn new(device: &Device, direction: Direction) -> Result<Self> {
        let kind = device.buf_type(direction, "queue")?;
        Ok(Self {
            device: device.clone(),
            direction,
            kind,
            memory: Memory::None,
            held: Vec::new(),
            sequence: Sequence::default(),
            streaming: false,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The buffers of [`Queue::allocate`] or [`Queue::allocate_from`].
    pub fn buffers(&self) -> Option<&BufferSet> {
        match &self.memory {
            Memory::Ring { buffers, .. } => Some(buffers),
            _ => None,
        }
    }

    /// Allocates buffers of the driver's for its present format and exports each memory plane once, read-only.
    ///
    /// The driver may give more or fewer than `count`: see [`BufferSet::slots`]. Ioctls: `VIDIOC_G_FMT`,
    /// `VIDIOC_REQBUFS`, `VIDIOC_EXPBUF` per buffer and memory plane.
    ///
    /// # Errors
    /// `State` if the queue has buffers, `InvalidArgument` for a count of 0 or above 64, `Busy` if another user has
    /// buffers, `Exhausted`, and `Unsupported` if the driver cannot export. Nothing stays allocated then.
    #[doc(alias = "VIDIOC_REQBUFS")]
    #[doc(alias = "VIDIOC_EXPBUF")]
    #[doc(alias = "VIDIOC_EXPBUFDMABUF")]
    pub fn allocate(&mut self, count: usize, wish: CacheWish) -> Result<&BufferSet> {
        let layout = self.begin(count)?;
        let flags = if wish == CacheWish::Cached { NON_COHERENT } else { 0 };
        let (count, flags) = self.request(MEMORY_MMAP, count, flags)?;
        // Cached where the driver took the hint. Else unknown: vmalloc is cached, dma-contig is not, neither says so.
        let cpu_reads = if flags & NON_COHERENT != 0 { CpuReads::Cached } else { CpuReads::Unknown };
        let exported = (0..count).map(|i| self.export(i, &layout)).collect::<Result<Vec<_>>>();
        self.install(exported, layout, MEMORY_MMAP, cpu_reads)
    }

    fn export(&self, index: usize, layout: &Layout) -> Result<Vec<DmaBuf>> {
        let export = |(plane, &needed): (usize, &u32)| {
            let fd = calls::expbuf(self.device.as_fd(), self.kind, index as u32, plane as u32).map_err(|e| {
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
            // A name is a courtesy to whoever reads debugfs.
            let _ = buffer.set_name(&format!("framelease {}", layout.fourcc()));
            Ok(buffer)
        };
        layout.memory_bytes().iter().enumerate().map(export).collect()
    }

    /// Allocates buffers elsewhere and has the driver import them, each at its own index for good. Ioctls:
    /// `VIDIOC_G_FMT`, `VIDIOC_REQBUFS` with `V4L2_MEMORY_DMABUF`.
    ///
    /// # Errors
    /// As [`Queue::allocate`] and [`Allocator::allocate`]; `Unsupported` if the driver imports nothing, or for a memfd.
    pub fn allocate_from(&mut self, allocator: &Allocator, count: usize) -> Result<&BufferSet> {
        let layout = self.begin(count)?;
        let name = format!("framelease {}", layout.fourcc());
        let allocate = |_| layout.memory_bytes().iter().map(|&b| allocator.allocate(b as usize, &name)).collect();
        let memory = (0..count).map(allocate).collect::<Result<Vec<Vec<DmaBuf>>>>()?;
        if memory.iter().flatten().any(|m| m.kind() != MemoryKind::DmaBuf) {
            let text = format!("{allocator} makes no dma-bufs, and the device imports nothing else");
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_REQBUFS", text).on(&self.device));
        }
        let (given, _) = self.request(MEMORY_DMABUF, count, 0)?;
        let memory = memory.into_iter().take(given).collect();
        self.install(Ok(memory), layout, MEMORY_DMABUF, CpuReads::of(allocator))
    }

    /// Prepares `count` indices for buffers of others: frames for an output queue ([`Queue::queue`]), writable ones
    /// for a capture queue ([`Queue::queue_empty`]). The driver may give more or fewer. Ioctls: `VIDIOC_G_FMT`,
    /// `VIDIOC_REQBUFS` with `V4L2_MEMORY_DMABUF`.
    ///
    /// # Errors
    /// As [`Queue::allocate`]; `Unsupported` if the driver imports nothing.
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

    /// Adds indices to a queue of imports, also while it streams. Ioctl: `VIDIOC_CREATE_BUFS`, Linux 3.2.
    ///
    /// # Errors
    /// `State` on a queue without imports, `Unsupported` or `Exhausted` by the driver.
    #[doc(alias = "VIDIOC_CREATE_BUFS")]
    pub fn grow(&mut self, count: usize) -> Result<()> {
        const OP: &str = "VIDIOC_CREATE_BUFS";
        let mut arg = self.device.create_arg(self.kind, MEMORY_DMABUF, count.min(64) as u32)?;
        let Memory::Imports { imports, .. } = &mut self.memory else { return Err(state(OP, "no imports")) };
        calls::create_bufs(self.device.as_fd(), &mut arg).map_err(|e| self.device.failed(OP, e))?;
        if arg.index as usize != imports.len() || arg.count > 64 {
            let text = format!("indices {}+{} behind {}", arg.index, arg.count, imports.len());
            return Err(Error::new(ErrorKind::Os, OP, text).on(&self.device));
        }
        imports.resize(imports.len() + arg.count as usize);
        self.held.resize_with(imports.len(), || None);
        Ok(())
    }

    /// Gives up to `count` free indices back, which ends the driver's hold on the memory last queued there. Returns
    /// how many. Ioctl: `VIDIOC_REMOVE_BUFS`, Linux 6.10.
    ///
    /// # Errors
    /// `State` on a queue without imports, `Unsupported` on older kernels.
    #[doc(alias = "VIDIOC_REMOVE_BUFS")]
    pub fn shrink(&mut self, count: usize) -> Result<usize> {
        const OP: &str = "VIDIOC_REMOVE_BUFS";
        let Memory::Imports { imports, .. } = &mut self.memory else { return Err(state(OP, "no imports")) };
        let count = count.min(imports.free_tail());
        let left = imports.len() - count;
        let (index, kind) = (left as u32, self.kind as u32);
        let mut arg = RemoveBuffers { index, count: count as u32, kind, ..RemoveBuffers::zeroed() };
        calls::remove_bufs(self.device.as_fd(), &mut arg).map_err(|e| self.device.failed(OP, e))?;
        imports.resize(left);
        self.held.truncate(left);
        Ok(count)
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

    /// REQBUFS: how many buffers the driver gave, and which flags it took.
    fn request(&self, memory: u32, count: usize, flags: u8) -> Result<(usize, u8)> {
        const OP: &str = "VIDIOC_REQBUFS";
        let kind = self.kind as u32;
        let mut arg = RequestBuffers { count: count as u32, kind, memory, flags, ..RequestBuffers::zeroed() };
        calls::reqbufs(self.device.as_fd(), &mut arg).map_err(|e| {
            let (offered, _) = self.device.memory_capabilities(self.direction).unwrap_or_default();
            let (bit, what) = match memory {
                MEMORY_DMABUF => (MemoryCapabilities::DMABUF, "imports"),
                _ => (MemoryCapabilities::MMAP, "buffers of its own"),
            };
            let refused = e == Errno::EINVAL && !offered.is_empty() && !offered.contains(bit);
            let error = self.device.failed(OP, e);
            let error = if refused { error.kind_is(ErrorKind::Unsupported) } else { error };
            error.detail(format!("{}; asked {count} {what}; the device offers {offered:?}", e.desc()))
        })?;
        match arg.count {
            0 => Err(Error::new(ErrorKind::Exhausted, OP, "the driver gave no buffer").on(&self.device)),
            count => Ok((count.min(64) as usize, arg.flags)),
        }
    }

    fn install(
        &mut self,
        memory: Result<Vec<Vec<DmaBuf>>>,
        layout: Layout,
        memory_type: u32,
        cpu_reads: CpuReads,
    ) -> Result<&BufferSet> {
        let memory = memory.map_err(|e| {
            self.release();
            e
        })?;
        let imported = if memory_type == MEMORY_DMABUF { memory.clone() } else { Vec::new() };
        let planes = layout.memory_bytes().len();
        let ring = Ring::new(&self.device, self.kind, memory_type, memory.len(), planes, imported);
        self.held.resize_with(memory.len(), || None);
        let buffers = BufferSet::new(layout, cpu_reads, memory, Box::new(RingHome(Arc::clone(&ring))));
        self.memory = Memory::Ring { ring, buffers };
        self.buffers().ok_or_else(|| state("VIDIOC_REQBUFS", "no buffers"))
    }

    /// REQBUFS(0). Its failure leaves the buffers to the close of the device.
    fn release(&self) {
        let (kind, memory) = (self.kind as u32, self.memory_type());
        let mut arg = RequestBuffers { kind, memory, ..RequestBuffers::zeroed() };
        let _ = calls::reqbufs(self.device.as_fd(), &mut arg);
    }

    fn memory_type(&self) -> u32 {
        match &self.memory {
            Memory::Ring { ring, .. } => ring.memory(),
            Memory::Imports { .. } => MEMORY_DMABUF,
            Memory::None => MEMORY_MMAP,
        }
    }

    /// Starts streaming; a capture queue first gets every buffer that nobody leases. Ioctls: `VIDIOC_QBUF`,
    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` without buffers; `Pipeline` if the media graph does not fit, with the pads and the `media-ctl` line
    /// that would mend it; `Busy`; what else the driver reports. The queue can be started again.
    #[doc(alias = "VIDIOC_STREAMON")]
    pub fn start(&mut self) -> Result<()> {
        const OP: &str = "VIDIOC_STREAMON";
        match &self.memory {
            Memory::None => return Err(state(OP, "no buffers are allocated").on(&self.device)),
            Memory::Ring { ring, .. } if self.direction == Direction::Capture => ring.queue_all()?,
            _ => {}
        }
        calls::streamon(self.device.as_fd(), self.kind).map_err(|e| match e {
            Errno::EPIPE | Errno::ENOLINK => {
                let why = media::diagnose(&self.device).unwrap_or_else(|| e.desc().into());
                self.device.failed(OP, e).kind_is(ErrorKind::Pipeline).detail(why)
            }
            e => self.device.failed(OP, e),
        })?;
        self.streaming = true;
        Ok(())
    }

    /// Stops streaming. What the driver had comes back: its own buffers for the next start, leases are given up.
    /// Ioctl: `VIDIOC_STREAMOFF`.
    ///
    /// # Errors
    /// What the driver reports (`DeviceLost` after an unplug).
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn stop(&mut self) -> Result<()> {
        self.streaming = false;
        self.sequence.restart();
        let done = match &mut self.memory {
            Memory::None => Ok(()),
            Memory::Ring { ring, .. } => ring.stop(),
            Memory::Imports { .. } => calls::streamoff(self.device.as_fd(), self.kind),
        };
        done.map_err(|e| self.device.failed("VIDIOC_STREAMOFF", e))?;
        let leases: Vec<Held> = self.held.iter_mut().filter_map(Option::take).collect();
        if let Memory::Imports { imports, .. } = &mut self.memory {
            (0..imports.len()).for_each(|i| imports.give_back(i));
        }
        // After the marks: the end of a lease may call back into the ring.
        drop(leases);
        Ok(())
    }

    /// Stops and frees: the queue can take another format. Frames that are out keep their memory; their return does
    /// nothing. Ioctls: `VIDIOC_STREAMOFF`, `VIDIOC_REQBUFS` with 0.
    pub fn free(&mut self) {
        // An unplugged device fails to stop; all of this must happen anyway.
        let _ = self.stop();
        if let Memory::Ring { ring, .. } = &self.memory {
            ring.orphan();
        }
        if !matches!(self.memory, Memory::None) {
            self.release();
        }
        self.memory = Memory::None;
        self.held.clear();
    }

    /// Buffers that the driver has.
    pub fn queued(&self) -> usize {
        match &self.memory {
            Memory::Ring { ring, .. } => ring.queued(),
            Memory::None | Memory::Imports { .. } => self.held.iter().filter(|h| h.is_some()).count(),
        }
    }

    /// `true` while an event loop may poll the device for this queue: it streams and the driver has a buffer. Without
    /// one, mem-to-mem devices report POLLERR at once and for ever. Readable is a capture queue, writable an output
    /// queue.
    pub fn is_pollable(&self) -> bool {
        self.streaming && self.queued() > 0
    }

    /// Takes what the driver is done with; `None` if that is nothing yet. One system call. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// The error of an earlier return of a buffer; `DeviceLost` after an unplug or a fatal error of the driver: leases
    /// stay valid; `State` if the queue is not started.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_dequeue(&mut self) -> Result<Option<Dequeued>> {
        const OP: &str = "VIDIOC_DQBUF";
        if !self.streaming {
            return Err(state(OP, "the queue is not started").on(&self.device));
        }
        if let Memory::Ring { ring, .. } = &self.memory {
            ring.settle()?;
        }
        let buffer = match calls::dqbuf(self.device.as_fd(), self.kind, self.memory_type()) {
            Ok(buffer) => buffer,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EPIPE) => return Ok(Some(Dequeued::Ended)),
            Err(e) => return Err(self.device.failed(OP, e)),
        };
        let index = buffer.index();
        let known = match &mut self.memory {
            Memory::Ring { ring, .. } => ring.mark_dequeued(index),
            Memory::Imports { imports, .. } => {
                imports.give_back(index);
                true
            }
            Memory::None => false,
        };
        let held = self.held.get_mut(index).and_then(Option::take);
        let frame = match (held, self.buffers()) {
            (Some(Held::Shared(frame)), _) => Some(returned(frame, &buffer)),
            (Some(Held::Unique(frame)), _) => {
                let meta = meta(&mut self.sequence, &buffer, frame.memory());
                Some(frame.freeze(meta))
            }
            (None, Some(buffers)) if known => buffers.lend(index).map(|frame| {
                let meta = meta(&mut self.sequence, &buffer, frame.memory());
                frame.freeze(meta)
            }),
            (None, _) => None,
        };
        frame.map(|f| Some(Dequeued::Frame(f))).ok_or_else(|| {
            let text = format!("the driver returned buffer {index}, which it did not have");
            Error::new(ErrorKind::Os, OP, text).on(&self.device)
        })
    }

    /// [`Queue::try_dequeue`], waiting at most `timeout`; `None` if it passed. One system call more, while all buffers
    /// are leased none: it then waits for a lease to end.
    ///
    /// # Errors
    /// As [`Queue::try_dequeue`].
    pub fn dequeue(&mut self, timeout: Duration) -> Result<Option<Dequeued>> {
        let deadline = wait::deadline(timeout);
        let ready = self.wait(PollFlags::empty(), deadline)?;
        if ready.is_empty() {
            return Ok(None);
        }
        let got = self.try_dequeue()?;
        if got.is_none() && ready.contains(PollFlags::POLLERR) {
            let text = "the device reports an error condition and has no buffer";
            return Err(Error::new(ErrorKind::DeviceLost, "poll", text).on(&self.device));
        }
        Ok(got)
    }

    /// Waits for a buffer, or for one of the `more` events. Empty if the deadline passed.
    pub(crate) fn wait(&self, more: PollFlags, deadline: Instant) -> Result<PollFlags> {
        if !self.streaming {
            return Err(state("poll", "the queue is not started").on(&self.device));
        }
        if let (Memory::Ring { ring, .. }, Direction::Capture) = (&self.memory, self.direction) {
            // Polling a queue without buffers is useless, or worse: wait for the end of a lease, or its error.
            ring.settle()?;
            while ring.queued() == 0 {
                if !ring.wait_returned(deadline) {
                    return Ok(PollFlags::empty());
                }
                ring.settle()?;
            }
        } else if self.queued() == 0 {
            return Ok(PollFlags::empty());
        }
        let events = match self.direction {
            Direction::Capture => PollFlags::POLLIN,
            Direction::Output => PollFlags::POLLOUT,
        };
        wait::until(self.device.as_fd(), events | more, deadline).map_err(|e| self.device.failed("poll", e))
    }

    /// Leases a free buffer of an output queue with [`Queue::allocate`]d memory, to be filled; `None` if there is none.
    pub fn try_acquire(&mut self) -> Option<FrameMut> {
        match &self.memory {
            Memory::Ring { ring, buffers } if self.direction == Direction::Output => buffers.lend(ring.take()?),
            _ => None,
        }
    }

    /// Free indices of a queue of imports: how many frames it takes now.
    pub fn room(&self) -> usize {
        match &self.memory {
            Memory::Imports { imports, .. } => imports.free(),
            _ => 0,
        }
    }

    /// Gives a frame to an output queue, which holds the lease until [`Queue::try_dequeue`] returns it. The same
    /// dma-buf meets the same index, so the kernel attaches it once. Size, length and offset are checked first: the
    /// kernel leaks a dma-buf that it refuses. Ioctl: `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// With the frame: `Mismatch` if its geometry is not the queue's or its buffers are too small, `WrongFile` for a
    /// memfd, `Exhausted` if every index is taken (see [`Queue::room`]), `State` without imports.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue(&mut self, frame: Frame) -> std::result::Result<(), Rejected<Frame>> {
        let payload = &frame.meta().payload;
        let own = self.buffers().is_some_and(|b| b.id() == frame.buffers().id());
        let slot = own.then(|| frame.slot());
        match self.submit(frame.memory(), frame.layout(), Some((payload, frame.meta().timestamp_ns)), slot) {
            Ok(index) => {
                self.held[index] = Some(Held::Shared(frame));
                Ok(())
            }
            Err(error) => Err(Rejected { error, item: frame }),
        }
    }

    /// Gives a buffer to a capture queue of imports, to be filled. It comes back frozen by [`Queue::try_dequeue`].
    /// Checks and costs as [`Queue::queue`]. Ioctl: `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// As [`Queue::queue`], with the buffer.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue_empty(&mut self, frame: FrameMut) -> std::result::Result<(), Rejected<FrameMut>> {
        match self.submit(frame.memory(), frame.layout(), None, None) {
            Ok(index) => {
                self.held[index] = Some(Held::Unique(frame));
                Ok(())
            }
            Err(error) => Err(Rejected { error, item: frame }),
        }
    }

    /// QBUF of somebody's memory, or of the ring's `slot`. The index is within `held`.
    fn submit(
        &mut self,
        memory: &[DmaBuf],
        layout: &Layout,
        data: Option<(&[Payload; MAX_PLANES], u64)>,
        slot: Option<usize>,
    ) -> Result<usize> {
        const OP: &str = "VIDIOC_QBUF";
        let wants = if data.is_some() { Direction::Output } else { Direction::Capture };
        if wants != self.direction {
            return Err(
                state(OP, "a frame goes to an output queue, an empty buffer to a capture queue").on(&self.device)
            );
        }
        let own = match &self.memory {
            Memory::Imports { layout, .. } => layout,
            Memory::Ring { buffers, .. } if slot.is_some() => buffers.layout(),
            _ => return Err(state(OP, "the queue has no imports").on(&self.device)),
        };
        if !holds(layout, own) {
            return Err(self.device.mismatch(OP, layout, own));
        }
        if memory.iter().any(|m| m.kind() != MemoryKind::DmaBuf) {
            return Err(Error::new(ErrorKind::WrongFile, OP, "a memfd cannot be imported").on(&self.device));
        }
        let sizes = memory.iter().map(DmaBuf::size_bytes);
        let planes = planes(own, sizes, data.map(|d| d.0), self.kind.is_multi_planar())
            .map_err(|text| Error::new(ErrorKind::Mismatch, OP, text).on(&self.device))?;
        let index = match (&mut self.memory, slot) {
            (Memory::Imports { imports, .. }, _) => imports.take(ids(memory), planes),
            (_, slot) => slot.filter(|&s| matches!(self.held.get(s), Some(None))),
        };
        let full = || Error::new(ErrorKind::Exhausted, OP, "every index is with the driver").on(&self.device);
        let index = index.ok_or_else(full)?;
        let count = own_planes(&self.memory);
        let mut buffer = Buffer::new(self.kind, self.memory_type(), index as u32, count);
        for (i, (plane, memory)) in planes.iter().zip(memory).enumerate() {
            buffer.set_plane(i, *plane, slot.is_none().then(|| memory.as_fd()));
        }
        if let Some((_, timestamp_ns)) = data {
            buffer.set_timestamp_ns(timestamp_ns);
        }
        if let Err(e) = calls::qbuf(self.device.as_fd(), &mut buffer) {
            if let Memory::Imports { imports, .. } = &mut self.memory {
                imports.give_back(index);
            }
            let text = format!("{}; index {index}, {planes:?}", e.desc());
            return Err(self.device.failed(OP, e).detail(text));
        }
        if let Memory::Ring { ring, .. } = &self.memory {
            ring.mark_queued(index);
        }
        Ok(index)
    }
}

fn own_planes(memory: &Memory) -> usize {
    match memory {
        Memory::Ring { buffers, .. } => buffers.layout().memory_bytes().len(),
        Memory::Imports { layout, .. } => layout.memory_bytes().len(),
        Memory::None => 0,
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

    fn create_arg(&self, kind: BufType, memory: u32, count: u32) -> Result<CreateBuffers> {
        let mut format = Format::new(kind, &Picture::default());
        calls::g_fmt(self.as_fd(), &mut format).map_err(|e| self.failed("VIDIOC_G_FMT", e))?;
        Ok(CreateBuffers { index: 0, count, memory, format, ..CreateBuffers::zeroed() })
    }
}

/// The planes of a QBUF, checked as the kernel should: `bytesused` counts the offset, `length` is the whole dma-buf.
/// `data` is absent for a capture queue.
fn planes(
    queue: &Layout,
    sizes: impl ExactSizeIterator<Item = usize>,
    data: Option<&[Payload; MAX_PLANES]>,
    multi_planar: bool,
) -> std::result::Result<[BufferPlane; MAX_PLANES], String> {
    let needed = queue.memory_bytes();
    if sizes.len() != needed.len() {
        return Err(format!("{} memory planes; the queue's {queue} has {}", sizes.len(), needed.len()));
    }
    let mut planes = [BufferPlane::default(); MAX_PLANES];
    for (i, (size, &needed)) in sizes.zip(needed).enumerate() {
        if size < needed as usize {
            let at = geometry(queue);
            return Err(format!("memory plane {i} is a buffer of {size} bytes; {at} needs {needed}"));
        }
        planes[i].length = u32::try_from(size).unwrap_or(u32::MAX);
        let Some(data) = data else { continue };
        let Payload { offset_bytes, bytes } = data[i];
        if offset_bytes != 0 && !multi_planar {
            return Err(format!("data at offset {offset_bytes}; the device's single-planar API has no offset"));
        }
        planes[i].data_offset = offset_bytes;
        planes[i].bytesused = match offset_bytes.checked_add(bytes) {
            Some(end) if bytes > 0 && end as usize <= size => end,
            _ => return Err(format!("memory plane {i}: {bytes} bytes at {offset_bytes} of a buffer of {size}")),
        };
    }
    Ok(planes)
}

/// What the driver says of a filled buffer. Numbers that cannot be right make it a frame in error, without data.
fn meta(sequence: &mut Sequence, buffer: &Buffer, memory: &[DmaBuf]) -> FrameMeta {
    let (count, lost) = sequence.next(buffer.sequence());
    let mut meta = FrameMeta { sequence: count, lost, timestamp_ns: buffer.timestamp_ns(), ..FrameMeta::default() };
    meta.flags = flags(buffer);
    for (i, (payload, memory)) in meta.payload.iter_mut().zip(memory).enumerate() {
        let plane = buffer.plane(i);
        match plane.bytesused.checked_sub(plane.data_offset) {
            Some(bytes) if plane.bytesused as usize <= memory.size_bytes() => {
                *payload = Payload { offset_bytes: plane.data_offset, bytes };
            }
            _ => meta.flags |= FrameFlags::ERROR,
        }
    }
    meta
}

/// A frame that an output queue is done with: flagged if the device could not use it.
fn returned(frame: Frame, buffer: &Buffer) -> Frame {
    let mut meta = *frame.meta();
    meta.flags |= flags(buffer) & FrameFlags::ERROR;
    frame.with_meta(meta)
}

fn flags(buffer: &Buffer) -> FrameFlags {
    let bits = buffer.flags();
    let mut flags = FrameFlags::empty();
    flags.set(FrameFlags::ERROR, bits & flag::ERROR != 0);
    flags.set(FrameFlags::KEY, bits & flag::KEYFRAME != 0);
    flags.set(FrameFlags::LAST, bits & flag::LAST != 0);
    flags.set(FrameFlags::MONOTONIC, bits & flag::TIMESTAMP_MASK == flag::TIMESTAMP_MONOTONIC);
    flags
}

fn state(op: &'static str, text: &str) -> Error {
    Error::new(ErrorKind::State, op, text)
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.free();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = own_planes(&self.memory).min(1) * self.held.len();
        write!(f, "Queue({:?} of {}, {buffers} buffers, {} queued)", self.direction, self.device, self.queued())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Size;

    #[test]
    fn planes_are_checked_before_the_kernel_sees_them() {
        let layout = Layout::packed("NV12M".parse().unwrap(), Size::new(64, 32)).unwrap();
        let at = |offset_bytes, bytes| Payload { offset_bytes, bytes };
        let data = [at(128, 2048), at(0, 1024), Payload::default(), Payload::default()];
        let good = planes(&layout, [4096, 4096].into_iter(), Some(&data), true).unwrap();
        assert_eq!(good[0], BufferPlane { length: 4096, bytesused: 2176, data_offset: 128 });
        assert_eq!(good[1], BufferPlane { length: 4096, bytesused: 1024, data_offset: 0 });
        for (sizes, data, multi) in [
            (vec![4096, 1000], data, true),
            (vec![4096], data, true),
            (vec![4096, 4096], data, false),
            (vec![4096, 4096], [at(4000, 200), data[1], data[2], data[3]], true),
            (vec![4096, 4096], [at(u32::MAX, 2), data[1], data[2], data[3]], true),
            (vec![4096, 4096], [at(0, 0), data[1], data[2], data[3]], true),
        ] {
            assert!(planes(&layout, sizes.into_iter(), Some(&data), multi).is_err());
        }
        let empty = planes(&layout, [4096, 4096].into_iter(), None, true).unwrap();
        assert_eq!(empty[1], BufferPlane { length: 4096, bytesused: 0, data_offset: 0 });
    }
}
