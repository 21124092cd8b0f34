//! Queues frames and empty buffers.

use std::os::fd::AsFd;

use super::imports::{ids, Taken};
use super::planes::{planes, split};
use super::{state, Held, Lease, Memory, Queue};
use crate::dmabuf::{DmaBuf, MemoryKind};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{Layout, MAX_PLANES};
use crate::frame::{Frame, FrameMut, Payload};
use crate::station::{SubmitResult, Submitted};
use crate::sys::v4l2::BufType;
use crate::sys::v4l2_calls::{self as calls, Buffer, BufferPlane};
use crate::v4l2::formats::{holds, splits};
use crate::v4l2::Direction;

const OP: &str = "VIDIOC_QBUF";

impl Queue {
    /// Leases a free buffer of an output queue, for the caller to fill. The queue has buffers from [`Queue::allocate`]
    /// or [`Queue::allocate_from`]. Returns `None` if no buffer is free.
    pub fn try_acquire(&mut self) -> Option<FrameMut> {
        match &self.memory {
            Memory::Mmap { mmap, buffers, .. } if self.direction == Direction::Output => buffers.lend(mmap.take()?),
            _ => None,
        }
    }

    /// Allows pictures whose planes share a buffer on a queue with a buffer for each plane, by `data_offset`. For
    /// drivers that honor it.
    pub(crate) fn split_planes(&mut self, splits: bool) {
        self.splits = splits;
    }

    /// Returns the number of free indices of a queue of imports. This many frames can be queued, if they are in
    /// different buffers.
    pub fn free_slots(&self) -> usize {
        match &self.memory {
            Memory::Imports { imports, .. } => imports.free(),
            _ => 0,
        }
    }

    /// Queues a frame on an output queue, which holds the lease until [`Queue::try_dequeue`] returns it. The same
    /// dma-buf always gets the same index, so the kernel attaches it once. Size, length and offset are checked first,
    /// because the kernel leaks a dma-buf that it refuses. Ioctl: `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// Every error gives the frame back. `Mismatch` if its geometry differs from the queue's or its buffers are too
    /// small, `WrongFile` for a memfd, `State` without imports, and the errors of the driver.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue(&mut self, frame: Frame) -> SubmitResult<Frame> {
        let timestamp_ns = frame.meta().timestamp_ns;
        self.queue_at(frame, timestamp_ns)
    }

    /// Does the same as [`Queue::queue`], with another timestamp than the frame's.
    pub(in crate::v4l2) fn queue_at(&mut self, frame: Frame, timestamp_ns: u64) -> SubmitResult<Frame> {
        let payload = &frame.meta().payload;
        let own = self.buffers().is_some_and(|b| b.id() == frame.buffers().id());
        let slot = own.then(|| frame.slot());
        match self.submit(frame.memory(), frame.layout(), Some((payload, timestamp_ns)), slot) {
            Ok(Some(index)) => {
                self.hold(index, Lease::Shared(frame));
                Ok(Submitted::Taken)
            }
            Ok(None) => Ok(Submitted::Full(frame)),
            Err(error) => Err(Rejected { error, item: frame }),
        }
    }

    /// Notes that the driver refused the buffer that was queued at an index.
    fn spoil(&mut self, index: usize) {
        if let Memory::Imports { imports, .. } = &mut self.memory {
            match self.kind {
                BufType::Output => imports.spoil(index),
                _ => imports.give_back(index),
            }
        }
    }

    fn hold(&mut self, index: usize, lease: Lease) {
        self.taken += 1;
        self.rests = false;
        self.held[index] = Some(Held { number: self.taken, lease });
    }

    /// Queues a buffer on a capture queue of imports, for the device to fill. [`Queue::try_dequeue`] returns it as a
    /// frame. The call checks and costs the same as [`Queue::queue`]. Ioctl: `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// With the buffer: `Mismatch` if its geometry differs from the queue's or it is too small, `WrongFile` for a
    /// memfd, `State` without imports, and the errors of the driver.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue_empty(&mut self, frame: FrameMut) -> SubmitResult<FrameMut> {
        match self.submit(frame.memory(), frame.layout(), None, None) {
            Ok(Some(index)) => {
                self.hold(index, Lease::Unique(frame));
                Ok(Submitted::Taken)
            }
            Ok(None) => Ok(Submitted::Full(frame)),
            Err(error) => Err(Rejected { error, item: frame }),
        }
    }

    /// Returns an error if [`Queue::queue`] would refuse a frame without asking the driver.
    pub(crate) fn check(&self, frame: &Frame) -> Result<()> {
        self.arrange(frame.memory(), frame.layout(), Some(&frame.meta().payload), None).map(drop)
    }

    /// Checks memory against the queue, and arranges it by plane. For split planes, every entry is the same buffer.
    fn arrange<'a>(
        &self,
        memory: &'a [DmaBuf],
        layout: &Layout,
        data: Option<&[Payload; MAX_PLANES]>,
        slot: Option<usize>,
    ) -> Result<([Option<&'a DmaBuf>; MAX_PLANES], [BufferPlane; MAX_PLANES])> {
        let wants = if data.is_some() { Direction::Output } else { Direction::Capture };
        if wants != self.direction {
            return Err(
                state(OP, "a frame goes to an output queue, an empty buffer to a capture queue").on(&self.device)
            );
        }
        let own = match &self.memory {
            Memory::Imports { layout, .. } => *layout,
            Memory::Mmap { buffers, .. } if slot.is_some() => *buffers.layout(),
            _ => return Err(state(OP, "the queue is not set up for imports").on(&self.device)),
        };
        let is_split = self.splits && slot.is_none() && data.is_some() && splits(layout, &own);
        if !is_split && !holds(layout, &own) {
            return Err(self.device.mismatch(OP, layout, &own));
        }
        if memory.iter().any(|m| m.kind() != MemoryKind::DmaBuf) {
            return Err(Error::new(ErrorKind::WrongFile, OP, "a memfd cannot be imported").on(&self.device));
        }
        let does_not_fit = |text| Error::new(ErrorKind::Mismatch, OP, text).on(&self.device);
        let mut buffers = [None; MAX_PLANES];
        let mut payload = data.copied();
        match (is_split, memory) {
            (true, [one]) => {
                buffers[..own.memory_bytes().len()].fill(Some(one));
                let whole = payload.unwrap_or_default()[0];
                payload = Some(split(layout, &own, one.size_bytes(), whole).map_err(does_not_fit)?);
            }
            _ => buffers.iter_mut().zip(memory).for_each(|(to, from)| *to = Some(from)),
        }
        let sizes = buffers.iter().copied().flatten().map(DmaBuf::size_bytes);
        let planes =
            planes(layout, &own, sizes, payload.as_ref(), self.kind.is_multi_planar()).map_err(does_not_fit)?;
        Ok((buffers, planes))
    }

    /// Queues imported memory, or the queue's own buffer `slot`. Returns the index, which is within `held`, or `None`
    /// if the driver has every index.
    fn submit(
        &mut self,
        memory: &[DmaBuf],
        layout: &Layout,
        data: Option<(&[Payload; MAX_PLANES], u64)>,
        slot: Option<usize>,
    ) -> Result<Option<usize>> {
        let (buffers, planes) = self.arrange(memory, layout, data.map(|(payload, _)| payload), slot)?;
        let buffers = buffers.iter().copied().flatten();
        let taken = match (&mut self.memory, slot) {
            (Memory::Imports { imports, .. }, _) => imports.take(ids(buffers.clone())),
            (_, Some(slot)) if matches!(self.held.get(slot), Some(None)) => Some(Taken { index: slot, spoiled: false }),
            _ => None,
        };
        let Some(Taken { index, spoiled }) = taken else { return Ok(None) };
        if spoiled {
            self.renew(index).map_err(|e| {
                self.spoil(index);
                e
            })?;
        }
        let mut buffer = Buffer::new(self.kind, self.memory_type(), index as u32, buffers.clone().count());
        for (i, (plane, memory)) in planes.iter().zip(buffers).enumerate() {
            buffer.set_plane(i, *plane, slot.is_none().then(|| memory.as_fd()));
        }
        if let Some((_, timestamp_ns)) = data {
            buffer.set_timestamp_ns(timestamp_ns);
        }
        if let Err(e) = calls::qbuf(self.device.as_fd(), &mut buffer) {
            self.spoil(index);
            let text = format!("{}; index {index}, {planes:?}", e.desc());
            return Err(self.device.failed(OP, e).detail(text));
        }
        if let Memory::Mmap { mmap, .. } = &self.memory {
            mmap.mark_queued(index);
        }
        Ok(Some(index))
    }
}
