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
/// If a device reads the buffer, drop the frame after the device has finished, not after its work was submitted. A
/// producer may be a V4L2 driver, which waits for no fence before it fills the buffer again. The stations of this
/// library keep their frames until then.
///
/// Cloning a frame costs two atomic additions. Dropping a clone costs two atomic subtractions. Dropping the last clone
/// also costs the call that returns the buffer, such as `VIDIOC_QBUF`.
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
    /// ends, but the producer may then overwrite the pixels.
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

    /// Returns `false` if the lease has ended early, because the publisher revoked the lease, or because the publisher
    /// or the connection to the publisher is gone. Pixels that were read after the end of the lease may belong to
    /// another frame. Therefore, call this method after the last byte was read.
    ///
    /// For a frame of a subscriber, this method checks the connection, which costs one system call. The check also
    /// works after the subscriber was dropped. Any other frame is always valid.
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

    /// Replaces the metadata and keeps the lease. Use this method to change the number or the time of a frame.
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

/// An exclusive lease on a slot. The holder of the lease may write the pixels. [`FrameMut::freeze`] turns a `FrameMut`
/// into a [`Frame`]. Dropping a `FrameMut` returns the slot.
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
