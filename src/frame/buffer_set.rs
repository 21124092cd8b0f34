//! The buffers of one pool generation, and where their slots go when the last lease ends.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::slots::Slots;
use crate::dmabuf::{Allocator, DmaBuf};
use crate::format::Layout;

/// Names one generation of buffers in this process. Never reused: a reconfigured queue gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(u64);

/// How fast the CPU reads the pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuReads {
    /// Through the cache.
    Cached,
    /// Past the cache: many times slower. Let a device read, or ask for cached buffers.
    Uncached,
    /// The driver does not say.
    #[default]
    Unknown,
}

impl CpuReads {
    /// Of an allocator's buffers: all from the page cache, which the CPU reads through its cache; a vendor's heap may
    /// be otherwise.
    pub(crate) fn of(allocator: &Allocator) -> Self {
        match allocator {
            Allocator::Heap(path) if !path.ends_with("system") => Self::Unknown,
            _ => Self::Cached,
        }
    }
}

/// Where a slot goes when its last lease ends. Called from any thread, at most once per lease of the slot.
///
/// Must not panic and must not block on a peer; an error is kept for the producer's next call.
pub(crate) trait BufferOwner: Send + Sync {
    /// The slot is free again.
    fn release(&self, slot: usize);

    /// Slots that are lent at a time, of this and earlier pools together, where the producer itself has not all.
    fn max_leases(&self) -> Option<usize> {
        None
    }

    /// `false` once the producer has taken the slot's lease away from under its holder.
    fn is_valid(&self, _slot: usize) -> bool {
        true
    }
}

pub(super) struct Shared {
    id: PoolId,
    layout: Layout,
    cpu_reads: CpuReads,
    pub(super) slots: Slots,
    /// The first so many slots have memory: all, but of a pool that is still to meet its buffers.
    memory: Box<[OnceLock<Box<[DmaBuf]>>]>,
    pub(super) owner: Box<dyn BufferOwner>,
}

/// The buffers of one pool generation: a counted handle.
///
/// Importers and publishers take it to import or announce every slot once. Holding it keeps the memory, not a lease.
#[derive(Clone)]
pub struct BufferSet(pub(super) Arc<Shared>);

/// See [`BufferSet::downgrade`].
#[cfg(feature = "drm")]
#[derive(Clone)]
pub(crate) struct WeakBuffers(std::sync::Weak<Shared>);

#[cfg(feature = "drm")]
impl WeakBuffers {
    /// `true` while somebody has the buffers or leases one of them.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

#[cfg(feature = "drm")]
impl fmt::Debug for WeakBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeakBuffers({})", self.is_alive())
    }
}

impl BufferSet {
    /// A handle that keeps neither the buffers nor a lease, for caches that end with the pool.
    #[cfg(feature = "drm")]
    pub(crate) fn downgrade(&self) -> WeakBuffers {
        WeakBuffers(Arc::downgrade(&self.0))
    }

    /// A new generation: `memory[slot][memory plane]`. Every slot begins at home.
    pub(crate) fn new(
        layout: Layout,
        cpu_reads: CpuReads,
        memory: Vec<Vec<DmaBuf>>,
        owner: Box<dyn BufferOwner>,
    ) -> Self {
        let memory = memory.into_iter().map(|planes| OnceLock::from(planes.into_boxed_slice())).collect();
        Self::of(layout, cpu_reads, memory, owner)
    }

    /// A new generation whose slots get their memory one after the other, by [`BufferSet::fill`].
    #[cfg(feature = "unixfd")]
    pub(crate) fn empty(layout: Layout, cpu_reads: CpuReads, slots: usize, owner: Box<dyn BufferOwner>) -> Self {
        Self::of(layout, cpu_reads, (0..slots).map(|_| OnceLock::new()).collect(), owner)
    }

    fn of(
        layout: Layout,
        cpu_reads: CpuReads,
        memory: Box<[OnceLock<Box<[DmaBuf]>>]>,
        owner: Box<dyn BufferOwner>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = PoolId(NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Arc::new(Shared { id, layout, cpu_reads, slots: Slots::new(memory.len()), memory, owner }))
    }

    /// Gives the first slot that has none its memory, for good. `None` if all have.
    #[cfg(feature = "unixfd")]
    pub(crate) fn fill(&self, memory: Box<[DmaBuf]>) -> Option<usize> {
        let slot = self.filled();
        self.0.memory.get(slot)?.set(memory).ok().map(|()| slot)
    }

    /// Slots that have memory: the first so many. Frames are of those alone.
    pub(crate) fn filled(&self) -> usize {
        self.0.memory.iter().take_while(|m| m.get().is_some()).count()
    }

    /// The generation.
    pub fn id(&self) -> PoolId {
        self.0.id
    }

    /// The layout that every slot has.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// How fast the CPU reads these buffers.
    pub fn cpu_reads(&self) -> CpuReads {
        self.0.cpu_reads
    }

    /// Slots in the pool.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// Slots that can be leased at a time: all, but of a subscriber's buffers, of which it holds only so many.
    #[doc(hidden)]
    pub fn max_leases(&self) -> usize {
        self.0.owner.max_leases().map_or(self.slots(), |most| most.min(self.slots()))
    }

    /// Whether leases of earlier pools count against [`BufferSet::lends`].
    pub(crate) fn counts_leases_of_all_pools(&self) -> bool {
        self.0.owner.max_leases().is_some()
    }

    /// Slots that somebody leases.
    pub fn leased(&self) -> usize {
        self.0.slots.leased()
    }

    /// The buffers of a slot, one per memory plane. Empty if there is no such slot, or it has no memory yet:
    /// GStreamer's `unixfdsink` does not tell its buffers before their first frame (`share::UnixfdSubscriber`).
    pub fn memory(&self, slot: usize) -> &[DmaBuf] {
        self.0.memory.get(slot).and_then(OnceLock::get).map_or(&[], |planes| planes)
    }
}

impl fmt::Debug for BufferSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferSet({}, {} slots, {} held: {})", self.0.id.0, self.slots(), self.leased(), self.layout())
    }
}

#[cfg(all(test, feature = "unixfd"))]
mod tests {
    use super::*;
    use crate::format::Size;

    struct Nowhere;

    impl BufferOwner for Nowhere {
        fn release(&self, _slot: usize) {}
    }

    #[test]
    fn slots_get_their_memory_in_order_and_for_good() {
        let layout = Layout::packed("GREY".parse().unwrap(), Size::new(64, 64)).unwrap();
        let memory = || -> Box<[DmaBuf]> { Box::new([Allocator::Memfd.allocate(4096, "test").unwrap()]) };
        let set = BufferSet::empty(layout, CpuReads::Cached, 2, Box::new(Nowhere));
        assert_eq!((set.slots(), set.filled(), set.memory(0)), (2, 0, &[][..]));
        let first = memory();
        assert_eq!(set.fill(first.clone()), Some(0));
        assert_eq!((set.filled(), set.memory(0), set.memory(1)), (1, &first[..], &[][..]));
        assert_eq!((set.fill(memory()), set.fill(memory()), set.filled()), (Some(1), None, 2));
        assert_eq!(set.memory(0), &first[..]);
    }
}
