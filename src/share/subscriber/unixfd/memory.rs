//! The memories of a sink as a buffer set: each slot gets its memory when that first arrives.

use std::sync::Arc;

use super::pending_releases::{PendingReleases, SinkOwner};
use crate::dmabuf::{BufferId, DmaBuf, MemoryKind, Shrinkable};
use crate::error::Result;
use crate::format::{Layout, MAX_PLANES};
use crate::frame::{BufferSet, CpuReads, FrameMut};
use crate::sys::socket::FdInbox;

/// The memory of one buffer, plane by plane.
pub(super) type Planes = [Option<DmaBuf>; MAX_PLANES];

/// One set of slots, with its number.
#[derive(Debug)]
pub(super) struct Set {
    number: u32,
    buffers: BufferSet,
}

impl Set {
    pub(super) fn new(owed: &Arc<PendingReleases>, number: u32, layout: Layout, slots: usize, first: &Planes) -> Self {
        let is_cached = first.iter().flatten().all(|m| m.kind() == MemoryKind::Memfd);
        let cpu_reads = if is_cached { CpuReads::Cached } else { CpuReads::Unknown };
        let home = Box::new(SinkOwner { owed: Arc::clone(owed), set: number });
        Self { number, buffers: BufferSet::empty(layout, cpu_reads, slots, home) }
    }

    pub(super) fn buffers(&self) -> &BufferSet {
        &self.buffers
    }

    fn known(&self) -> impl Iterator<Item = (usize, &[DmaBuf])> {
        (0..self.buffers.filled()).map(|slot| (slot, self.buffers.memory(slot)))
    }

    fn find(&self, id: BufferId) -> Option<DmaBuf> {
        self.known().flat_map(|(_, memory)| memory).find(|m| m.id() == id).cloned()
    }

    /// Lends a free slot that has this memory, or gives the memory to an empty slot. `None` if there is neither.
    pub(super) fn lend(&self, owed: &PendingReleases, id: u64, planes: &Planes) -> Option<FrameMut> {
        let is_free = |slot| !owed.is_out(self.number, slot);
        let same = |memory: &[DmaBuf]| memory.iter().eq(planes.iter().flatten());
        let known = self.known().find(|&(slot, memory)| same(memory) && is_free(slot)).map(|(slot, _)| slot);
        let slot = match known {
            Some(slot) => slot,
            None => self.buffers.fill(planes.iter().flatten().cloned().collect())?,
        };
        let frame = self.buffers.lend(slot)?;
        owed.lend(self.number, slot, id);
        Some(frame)
    }
}

/// Takes a message's descriptors, and closes those of known memories. The caller has checked how many there are.
pub(super) fn take(fds: &mut FdInbox, set: Option<&Set>, shrinkable: Shrinkable) -> Result<Planes> {
    let mut planes = Planes::default();
    for i in 0..fds.len().min(MAX_PLANES) {
        let Some(fd) = fds.take(i) else { break };
        let id = BufferId::of(&fd)?;
        // The planes of one picture may share a memory.
        let known = planes.iter().flatten().find(|m| m.id() == id).cloned();
        planes[i] = Some(match known.or_else(|| set?.find(id)) {
            Some(known) => known,
            None => DmaBuf::take(fd, shrinkable)?,
        });
    }
    Ok(planes)
}
