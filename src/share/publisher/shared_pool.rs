//! A pool with its number in the protocol.

use crate::dmabuf::DmaBuf;
use crate::frame::BufferSet;
use crate::share::wire::Format;

/// A pool that was announced, with its number in the protocol.
#[derive(Debug)]
pub(super) struct SharedPool {
    pub(super) number: u32,
    pub(super) buffers: BufferSet,
    /// Slots that have memory and were announced.
    pub(super) filled: usize,
}

impl SharedPool {
    pub(super) fn is_writable(&self) -> bool {
        self.buffers.memory(0).iter().any(DmaBuf::is_writable_by_others)
    }

    pub(super) fn format(&self) -> Format {
        Format {
            pool: self.number,
            slots: self.filled as u16,
            cpu_reads: self.buffers.cpu_reads(),
            writable: self.is_writable(),
            layout: *self.buffers.layout(),
        }
    }
}
