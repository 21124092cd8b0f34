//! The counted lease on one slot of a buffer set.

use super::buffer_set::BufferSet;
use crate::dmabuf::DmaBuf;

/// A lease on one slot. Clones are counted; dropping the last one returns the slot to its owner.
pub(super) struct Lease {
    pub(super) buffers: BufferSet,
    pub(super) slot: usize,
}

impl Lease {
    pub(super) fn memory(&self) -> &[DmaBuf] {
        self.buffers.memory(self.slot)
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.buffers.0.slots.share(self.slot);
        Self { buffers: self.buffers.clone(), slot: self.slot }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shared = &self.buffers.0;
        if shared.slots.give_back(self.slot) {
            shared.owner.release(self.slot);
        }
    }
}
