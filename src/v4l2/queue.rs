//! One queue of a device: its buffers, and the frames that come and go.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::formats::holds;
use super::imports::{ids, Imports};
use super::payload::{meta, planes, returned};
use super::ring::Ring;
use super::sequence::Sequence;
use super::{media, Device, Direction};
use crate::dmabuf::{DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{Layout, MAX_PLANES};
use crate::frame::{BufferSet, Frame, FrameMut, Payload};
use crate::sys::v4l2_calls::{self as calls, BufType, Buffer};
use crate::sys::wait;

/// What comes back from a driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum Dequeued {
    /// A captured frame; from an output queue the frame that was queued, which the device is done with.
    Frame(Frame),
    /// The frame flagged [`FrameFlags::LAST`](crate::frame::FrameFlags::LAST) was dequeued before: nothing comes until the queue is restarted.
    Ended,
}

/// One queue of a device. Not a thread's business but its owner's: calls take `&mut self`; the frames go anywhere.
///
/// `try_dequeue` costs one system call, the drop of a captured frame's last clone another; no memory is allocated,
/// mapped, or exported per frame. Dropping the queue stops it and leaves the buffers to the leases that are out.
pub struct Queue {
    pub(super) device: Device,
    pub(super) direction: Direction,
    pub(super) kind: BufType,
    pub(super) memory: Memory,
    /// Leases that the driver has, by index: of output queues, and of imports.
    pub(super) held: Vec<Option<Held>>,
    sequence: Sequence,
    streaming: bool,
}

pub(super) enum Memory {
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

pub(super) enum Held {
    Shared(Frame),
    Unique(FrameMut),
}

impl Queue {
    /// The capture or output queue of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if the device has no such queue, `Busy` if this handle's queue of that direction is in use.
    pub fn new(device: &Device, direction: Direction) -> Result<Self> {
        let kind = device.buf_type(direction, "queue")?;
        device.take_queue(direction)?;
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
        let done = match &mut self.memory {
            Memory::None => Ok(()),
            Memory::Ring { ring, .. } => ring.stop(),
            Memory::Imports { .. } => calls::streamoff(self.device.as_fd(), self.kind),
        };
        // A device that is gone has given everything up.
        if let Err(e) = done.or_else(|e| if e == Errno::ENODEV { Ok(()) } else { Err(e) }) {
            return Err(self.device.failed("VIDIOC_STREAMOFF", e));
        }
        self.streaming = false;
        self.sequence.restart();
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
        self.streaming = false;
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
    /// one, mem-to-mem devices report POLLERR at once and for ever. While it is `false`, call
    /// [`Queue::try_dequeue`] at every wake-up nevertheless: a buffer whose return failed is told and retried there. Readable is a capture queue, writable an output
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
                // In slices: an unplug and events are told by the device, not by the end of a lease.
                let slice = wait::deadline(Duration::from_millis(200)).min(deadline);
                if !ring.wait_returned(slice) {
                    let now = wait::until(self.device.as_fd(), more, Instant::now())
                        .map_err(|e| self.device.failed("poll", e))?;
                    if !now.is_empty() || slice == deadline {
                        return Ok(now);
                    }
                }
                ring.settle()?;
            }
        } else if self.queued() == 0 {
            return Err(state("poll", "nothing is queued, so nothing can come").on(&self.device));
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

    /// Free indices of a queue of imports: how many frames it takes now, if they are of different buffers.
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
        let full = || {
            let text = match &self.memory {
                Memory::Imports { imports, .. } if imports.free() > 0 => {
                    "every free index holds this buffer with another payload, which the kernel would process instead: \
                     take more indices or more buffers"
                }
                _ => "every index is with the driver",
            };
            Error::new(ErrorKind::Exhausted, OP, text).on(&self.device)
        };
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

pub(super) fn state(op: &'static str, text: &str) -> Error {
    Error::new(ErrorKind::State, op, text)
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.free();
        self.device.leave_queue(self.direction);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = own_planes(&self.memory).min(1) * self.held.len();
        write!(f, "Queue({:?} of {}, {buffers} buffers, {} queued)", self.direction, self.device, self.queued())
    }
}
