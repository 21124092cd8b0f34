//! [`Frame`] and [`FrameMut`]: the shared and the writable lease on a buffer.

use std::fmt;

use super::buffer_set::BufferSet;
use super::lease::Lease;
use super::meta::FrameMeta;
use crate::dmabuf::DmaBuf;
use crate::format::Layout;

/// A shared lease on a picture or bitstream buffer. Cloning counts; the drop of the last clone returns the slot.
///
/// Costs: a clone is two atomic additions, a drop two subtractions and, for the last, the producer's return call.
#[derive(Clone)]
pub struct Frame {
    lease: Lease,
    meta: FrameMeta,
}

impl Frame {
    /// The exact layout of the pixels.
    pub fn layout(&self) -> &Layout {
        self.lease.buffers.layout()
    }

    /// Sequence, time, payload.
    pub fn meta(&self) -> &FrameMeta {
        &self.meta
    }

    /// The buffers, one per memory plane, for importers. Valid beyond the lease, but the pixels are not.
    pub fn memory(&self) -> &[DmaBuf] {
        self.lease.memory()
    }

    /// The pool generation that the slot belongs to, with all of its buffers.
    pub fn buffers(&self) -> &BufferSet {
        &self.lease.buffers
    }

    /// The slot's number in its pool: the same number always means the same memory.
    pub fn slot(&self) -> usize {
        self.lease.slot
    }

    /// `false` once a publisher has revoked the lease: what was read since then may be another frame's.
    pub fn is_valid(&self) -> bool {
        self.lease.buffers.0.owner.is_valid(self.lease.slot)
    }

    /// The writable form again, if this is the only lease: of a frame that nobody else has seen.
    pub(crate) fn into_unique(self) -> std::result::Result<FrameMut, Self> {
        match self.lease.buffers.0.slots.is_sole(self.lease.slot) {
            true => Ok(FrameMut { lease: self.lease }),
            false => Err(self),
        }
    }

    /// The same lease with other particulars, for a stage that renumbers or re-times frames.
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

/// The unique, writable lease on a slot. Becomes a [`Frame`] by [`FrameMut::freeze`]; dropped, the slot returns.
pub struct FrameMut {
    lease: Lease,
}

impl FrameMut {
    fn new(buffers: BufferSet, slot: usize) -> Self {
        Self { lease: Lease { buffers, slot } }
    }

    /// The exact layout of the pixels.
    pub fn layout(&self) -> &Layout {
        self.lease.buffers.layout()
    }

    /// The buffers, one per memory plane, for importers.
    pub fn memory(&self) -> &[DmaBuf] {
        self.lease.memory()
    }

    /// The pool generation that the slot belongs to.
    pub fn buffers(&self) -> &BufferSet {
        &self.lease.buffers
    }

    /// The slot's number in its pool.
    #[doc(hidden)]
    pub fn slot(&self) -> usize {
        self.lease.slot
    }

    /// Ends writing: from here on the pixels are shared.
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
    /// Begins the lease of a slot that its producer has just got back. `None` if it is leased already.
    pub(crate) fn lend(&self, slot: usize) -> Option<FrameMut> {
        self.0.slots.lend(slot).then(|| FrameMut::new(self.clone(), slot))
    }
}
