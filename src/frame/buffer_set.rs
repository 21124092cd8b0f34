//! The buffers of one pool generation, and the owner that a slot returns to when its last lease ends.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::slots::Slots;
use crate::dmabuf::{Allocator, DmaBuf};
use crate::format::Layout;

/// The identity of one set of buffers in this process. A queue that is reconfigured gets new buffers with a new
/// identity. Identities are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(u64);

/// How fast the CPU reads the pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuReads {
    /// The CPU reads through its cache, at full speed.
    Cached,
    /// The CPU bypasses its cache and is many times slower. Let a device read the pixels, or request cached buffers.
    ///
    /// If the CPU must read such a buffer, copy each row once, by
    /// [`FrameRead::copy_row`](super::FrameRead::copy_row) or
    /// [`FrameRead::for_each_row`](super::FrameRead::for_each_row), and work on the copy. These methods read 64 bytes
    /// at a time where the processor can: by MOVNTDQA on x86-64 with SSE4.1, by LDNP on aarch64. Reading in place
    /// ([`FrameRead::plane`](super::FrameRead::plane)) reads 16 bytes at a time, again for each use.
    Uncached,
    /// The driver does not report how fast the CPU reads. The default.
    #[default]
    Unknown,
}

impl CpuReads {
    /// Returns the value for an allocator's buffers. The kernel's own allocators give page cache memory, which the
    /// CPU caches. A vendor's heap may differ.
    pub(crate) fn of(allocator: &Allocator) -> Self {
        match allocator {
            Allocator::Heap(path) if !path.ends_with("system") => Self::Unknown,
            _ => Self::Cached,
        }
    }
}

/// The producer that a slot returns to when its last lease ends. Called from any thread, at most once per lease of
/// the slot.
///
/// Implementations must not panic and must not block on a peer. They keep an error for the producer's next call.
pub(crate) trait BufferOwner: Send + Sync {
    /// Takes the slot back: it is free again.
    fn release(&self, slot: usize);

    /// Returns how many slots can be leased at once, over this pool and earlier ones, if that is fewer than all
    /// slots.
    fn max_leases(&self) -> Option<usize> {
        None
    }

    /// Returns `false` if the producer has revoked the slot's lease while it was held.
    fn is_valid(&self, _slot: usize) -> bool {
        true
    }
}

pub(super) struct Shared {
    id: PoolId,
    layout: Layout,
    cpu_reads: CpuReads,
    pub(super) slots: Slots,
    /// The slots that have memory come first. All slots do, except in a pool that learns of its buffers one by one.
    memory: Box<[OnceLock<Box<[DmaBuf]>>]>,
    pub(super) owner: Box<dyn BufferOwner>,
}

/// A counted handle to the buffers of one pool. A source that is reconfigured gets a new `BufferSet`.
///
/// An importer uses the `BufferSet` to import every slot once. A publisher uses the `BufferSet` to announce every slot
/// once. A `BufferSet` keeps the memory allocated, but is not a lease.
#[derive(Clone)]
pub struct BufferSet(pub(super) Arc<Shared>);

/// A weak handle to a [`BufferSet`]. See [`BufferSet::downgrade`].
#[cfg(feature = "drm")]
#[derive(Clone)]
pub(crate) struct WeakBuffers(std::sync::Weak<Shared>);

#[cfg(feature = "drm")]
impl WeakBuffers {
    /// Returns `true` while a [`BufferSet`] or a lease on one of its slots exists.
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
    /// Returns a handle that keeps neither the buffers nor a lease, for caches that end with the pool.
    #[cfg(feature = "drm")]
    pub(crate) fn downgrade(&self) -> WeakBuffers {
        WeakBuffers(Arc::downgrade(&self.0))
    }

    /// Creates a generation from `memory[slot][memory plane]`. No slot is leased.
    pub(crate) fn new(
        layout: Layout,
        cpu_reads: CpuReads,
        memory: Vec<Vec<DmaBuf>>,
        owner: Box<dyn BufferOwner>,
    ) -> Self {
        let memory = memory.into_iter().map(|planes| OnceLock::from(planes.into_boxed_slice())).collect();
        Self::of(layout, cpu_reads, memory, owner)
    }

    /// Creates a generation whose slots get their memory one after the other, by [`BufferSet::fill`].
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

    /// Gives memory to the first slot without memory, for good. Returns `None` if every slot has memory.
    #[cfg(feature = "unixfd")]
    pub(crate) fn fill(&self, memory: Box<[DmaBuf]>) -> Option<usize> {
        let slot = self.filled();
        self.0.memory.get(slot)?.set(memory).ok().map(|()| slot)
    }

    /// Returns the number of slots that have memory. These come first, and only they have frames.
    pub(crate) fn filled(&self) -> usize {
        self.0.memory.iter().take_while(|m| m.get().is_some()).count()
    }

    /// Returns the identity of these buffers.
    pub fn id(&self) -> PoolId {
        self.0.id
    }

    /// Returns the layout that every slot has.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Returns how fast the CPU reads these buffers.
    pub fn cpu_reads(&self) -> CpuReads {
        self.0.cpu_reads
    }

    /// Returns the number of slots in the pool.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// Returns how many slots can be leased at once. For a subscriber's buffers, this is the subscriber's `hold`. For
    /// other buffers, it is [`BufferSet::slots`].
    #[doc(hidden)]
    pub fn max_leases(&self) -> usize {
        self.0.owner.max_leases().map_or(self.slots(), |most| most.min(self.slots()))
    }

    /// Returns whether leases of earlier pools count against [`BufferSet::max_leases`].
    pub(crate) fn counts_leases_of_all_pools(&self) -> bool {
        self.0.owner.max_leases().is_some()
    }

    /// Returns the number of slots that are leased.
    pub fn leased(&self) -> usize {
        self.0.slots.leased()
    }

    /// Returns the buffers of a slot, one per memory plane. Returns an empty slice if the slot does not exist or does
    /// not have its memory yet. A slot can be without memory if the frames come from GStreamer's `unixfdsink`. This
    /// element announces each buffer only with the first frame in the buffer (see `share::UnixfdSubscriber`).
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
    fn fill_gives_each_slot_its_memory_once_in_order() {
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
