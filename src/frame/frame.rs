//! [`Frame`] and [`FrameMut`]: the shared and the writable lease on a buffer.

use std::fmt;

use super::buffer_set::BufferSet;
use super::lease::Lease;
use super::meta::FrameMeta;
use crate::dmabuf::DmaBuf;
use crate::format::Layout;

/// A shared, read-only lease on a buffer with a picture or a bitstream. When the last clone is dropped, the buffer
/// returns to its producer.
///
/// Costs: a clone is two atomic additions. A drop is two subtractions; the last one also makes the producer's call
/// that returns the buffer.
#[derive(Clone)]
pub struct Frame {
    lease: Lease,
    meta: FrameMeta,
}

impl Frame {
    /// Returns the exact layout of the pixels.
    pub fn layout(&self) -> &Layout {
        self.lease.buffers.layout()
    }

    /// Returns the frame's sequence number, time, flags and payload.
    pub fn meta(&self) -> &FrameMeta {
        &self.meta
    }

    /// Returns the buffers, one per memory plane, for importers. A clone of a [`DmaBuf`] stays usable after the lease
    /// ends, but the producer may then overwrite its pixels.
    pub fn memory(&self) -> &[DmaBuf] {
        self.lease.memory()
    }

    /// Returns the buffer set that the slot belongs to.
    pub fn buffers(&self) -> &BufferSet {
        &self.lease.buffers
    }

    /// Returns the slot's number in its pool. The same number always means the same memory.
    pub fn slot(&self) -> usize {
        self.lease.slot
    }

    /// Returns `false` after the lease has ended early: a publisher revoked it, or the publisher or its connection is
    /// gone. Pixels that were read since then may be of another frame, so call this after the last byte was read.
    ///
    /// For a subscriber's frame, this call asks the connection, even after the subscriber was dropped. It costs one
    /// system call. Any other frame is always valid.
    pub fn is_valid(&self) -> bool {
        self.lease.buffers.0.owner.is_valid(self.lease.slot)
    }

    /// Returns the writable form if this is the only lease. For frames that the caller has not shared.
    pub(crate) fn into_unique(self) -> std::result::Result<FrameMut, Self> {
        match self.lease.buffers.0.slots.is_sole(self.lease.slot) {
            true => Ok(FrameMut { lease: self.lease }),
            false => Err(self),
        }
    }

    /// Replaces the metadata, for a stage that renumbers or re-times frames. The lease is the same.
    pub fn with_meta(mut self, meta: FrameMeta) -> Self {
        self.meta = meta;
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} #{}, slot {})", self.layout(), self.meta.sequence, self.lease.slot)
    }
}

/// The only lease on a slot, which may write its pixels. [`FrameMut::freeze`] turns it into a [`Frame`]. Dropping it
/// returns the slot.
pub struct FrameMut {
    lease: Lease,
}

impl FrameMut {
    fn new(buffers: BufferSet, slot: usize) -> Self {
        Self { lease: Lease { buffers, slot } }
    }

    /// Returns the exact layout of the pixels.
    pub fn layout(&self) -> &Layout {
        self.lease.buffers.layout()
    }

    /// Returns the buffers, one per memory plane, for importers.
    pub fn memory(&self) -> &[DmaBuf] {
        self.lease.memory()
    }

    /// Returns the buffer set that the slot belongs to.
    pub fn buffers(&self) -> &BufferSet {
        &self.lease.buffers
    }

    /// Returns the slot's number in its pool.
    #[doc(hidden)]
    pub fn slot(&self) -> usize {
        self.lease.slot
    }

    /// Ends writing and returns the frame with `meta`. From then on the pixels can be shared, but not written.
    pub fn freeze(self, meta: FrameMeta) -> Frame {
        Frame { lease: self.lease, meta }
    }
}

impl fmt::Debug for FrameMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameMut({}, slot {})", self.layout(), self.lease.slot)
    }
}

impl BufferSet {
    /// Begins the lease of a slot that the producer has. Returns `None` if the slot is leased.
    pub(crate) fn lend(&self, slot: usize) -> Option<FrameMut> {
        self.0.slots.lend(slot).then(|| FrameMut::new(self.clone(), slot))
    }
}
