//! Which queue index an imported buffer meets: the same dma-buf always the same one, so that the kernel's cached
//! attachment is used again.
//!
//! One kernel bug makes the payload part of the question: Linux 6.12 takes `bytesused` and `data_offset` only when it
//! attaches (`__prepare_dmabuf` in `videobuf2-core.c`), so a buffer that is queued again at its index with other
//! values is processed with the old ones. Something must then make it attach anew (docs/adr/0001): another `length`,
//! another index, or a fresh buffer at the index.

use crate::dmabuf::{BufferId, DmaBuf};
use crate::format::MAX_PLANES;
use crate::sys::v4l2_calls::BufferPlane;

/// The buffers of one frame.
type Ids = [Option<BufferId>; MAX_PLANES];
/// Where their data is.
pub(super) type Planes = [BufferPlane; MAX_PLANES];

/// The indices of an import queue. Knows no descriptor: a pure bookkeeper.
#[derive(Debug, Default)]
pub(super) struct Imports {
    slots: Vec<Slot>,
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// What the kernel may have attached at this index.
    attached: Option<(Ids, Planes)>,
    used: u64,
    busy: bool,
    /// The kernel has no such index any more.
    lost: bool,
}

impl Slot {
    fn is_free(&self) -> bool {
        !self.busy && !self.lost
    }
}

/// An index for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) index: usize,
    /// What to tell the kernel of the planes: `length` may be less than the dma-buf's.
    pub(super) planes: Planes,
    /// The kernel would process an older payload here unless the index is removed and created again.
    pub(super) stale: bool,
}

pub(super) fn ids(memory: &[DmaBuf]) -> Ids {
    let mut ids = Ids::default();
    for (id, buffer) in ids.iter_mut().zip(memory) {
        *id = Some(buffer.id());
    }
    ids
}

/// Whether both say the same of the data. The length is the buffer's affair.
fn same_data(a: &Planes, b: &Planes) -> bool {
    a.iter().zip(b).all(|(a, b)| (a.bytesused, a.data_offset) == (b.bytesused, b.data_offset))
}

/// `planes` with a length other than what is attached, so that the kernel attaches anew. `needed` is the least that the
/// queue takes of each plane. `None` if no plane has a byte to spare.
fn with_other_length(planes: &Planes, attached: &Planes, needed: &[u32]) -> Option<Planes> {
    for (i, &needed) in needed.iter().enumerate().take(MAX_PLANES) {
        let whole = planes[i].length;
        let other = if attached[i].length == whole { whole.saturating_sub(1) } else { whole };
        if other >= needed && other >= planes[i].bytesused && other > 0 {
            let mut planes = *planes;
            planes[i].length = other;
            return Some(planes);
        }
    }
    None
}

impl Imports {
    pub(super) fn resize(&mut self, count: usize) {
        self.slots.resize(count, Slot::default());
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn free(&self) -> usize {
        self.slots.iter().filter(|s| s.is_free()).count()
    }

    /// How many indices at the end are free and could be given back.
    pub(super) fn free_tail(&self) -> usize {
        self.slots.iter().rev().take_while(|s| s.is_free()).count()
    }

    /// Takes an index for these buffers: the one that they had last, with another length if they have other data now;
    /// else an unused one, else the longest unused of others; else their own, which is then stale. `None` if every
    /// index is with the driver.
    pub(super) fn take(&mut self, ids: Ids, planes: Planes, needed: &[u32]) -> Option<Taken> {
        let free = || self.slots.iter().enumerate().filter(|(_, s)| s.is_free());
        let own = || free().filter_map(|(i, s)| s.attached.filter(|a| a.0 == ids).map(|a| (i, a.1)));
        let as_it_is = || own().find(|(_, attached)| same_data(attached, &planes));
        let anew = || own().find_map(|(i, attached)| Some((i, with_other_length(&planes, &attached, needed)?)));
        let unused = || free().find(|(_, s)| s.attached.is_none());
        let others = || free().filter(|(_, s)| s.attached.map(|a| a.0) != Some(ids)).min_by_key(|(_, s)| s.used);
        let (index, planes, stale) = as_it_is()
            .or_else(anew)
            .or_else(|| unused().or_else(others).map(|(i, _)| (i, planes)))
            .map(|(i, planes)| (i, planes, false))
            .or_else(|| own().next().map(|(i, _)| (i, planes, true)))?;
        self.clock += 1;
        let slot = &mut self.slots[index];
        (slot.used, slot.busy) = (self.clock, true);
        if !stale {
            slot.attached = Some((ids, planes));
        }
        Some(Taken { index, planes, stale })
    }

    /// A stale index was removed and created again: it has what [`Imports::take`] said.
    pub(super) fn renewed(&mut self, taken: &Taken) {
        if let Some(Slot { attached: Some((_, planes)), .. }) = self.slots.get_mut(taken.index) {
            *planes = taken.planes;
        }
    }

    /// The index was removed and could not be created again.
    pub(super) fn lose(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.lost = true;
        }
    }

    /// The index came back from the driver, or the driver did not take it. What it attached may stay attached.
    pub(super) fn give_back(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.busy = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::Allocator;
    use proptest::prelude::*;

    fn some_ids(count: usize) -> Vec<Ids> {
        // All alive at once, so that the inodes differ.
        let buffers: Vec<DmaBuf> = (0..count).map(|_| Allocator::Memfd.allocate(4096, "key").unwrap()).collect();
        buffers.iter().map(|b| ids(std::slice::from_ref(b))).collect()
    }

    fn data(length: u32, bytesused: u32) -> Planes {
        let mut planes = Planes::default();
        planes[0] = BufferPlane { length, bytesused, data_offset: 0 };
        planes
    }

    fn index(taken: Option<Taken>) -> Option<usize> {
        taken.map(|t| t.index)
    }

    #[test]
    fn the_same_buffer_meets_the_same_index() {
        let k = some_ids(4);
        let mut imports = Imports::default();
        imports.resize(2);
        let mut take = |i: usize, back: &[usize]| {
            back.iter().for_each(|&b| imports.give_back(b));
            index(imports.take(k[i], data(4096, 7), &[4096]))
        };
        assert_eq!((take(0, &[]), take(1, &[]), take(2, &[])), (Some(0), Some(1), None));
        assert_eq!(take(1, &[1, 0]), Some(1));
        assert_eq!(take(1, &[]), Some(0), "queued twice: the other index");
        assert_eq!(take(2, &[1, 0]), Some(1), "the longest unused");
        assert_eq!(take(9 - 6, &[9]), Some(0));
        assert_eq!((imports.len(), imports.free(), imports.free_tail()), (2, 0, 0));
    }

    #[test]
    fn other_data_in_the_same_buffer_is_attached_anew() {
        let k = some_ids(2);
        let mut imports = Imports::default();
        imports.resize(2);
        let mut take = |i: usize, bytes| {
            let taken = imports.take(k[i], data(4096, bytes), &[4096]).unwrap();
            imports.give_back(taken.index);
            (taken.index, taken.stale)
        };
        assert_eq!((take(0, 1), take(1, 1)), ((0, false), (1, false)));
        assert_eq!(take(0, 2), (1, false), "not index 0, where the kernel would keep the old length");
        assert_eq!(take(0, 3), (0, true), "both indices hold this buffer");
        assert_eq!(take(0, 1), (0, false), "it was not renewed: the first data are still there");
        let taken = imports.take(k[0], data(4096, 3), &[4096]).unwrap();
        imports.renewed(&taken);
        imports.give_back(taken.index);
        assert_eq!(imports.take(k[0], data(4096, 3), &[4096]), Some(Taken { stale: false, ..taken }));
    }

    #[test]
    fn a_buffer_with_a_byte_to_spare_keeps_its_index() {
        let k = some_ids(1);
        let mut imports = Imports::default();
        imports.resize(3);
        let mut lengths = Vec::new();
        for bytes in [10, 20, 20, 30, 4096, 40] {
            let taken = imports.take(k[0], data(4096, bytes), &[4000]).unwrap();
            imports.give_back(taken.index);
            lengths.push((taken.index, taken.planes[0].length, taken.stale));
        }
        assert_eq!(lengths[..4], [4096, 4095, 4095, 4096].map(|length| (0, length, false)));
        // The fifth fills the buffer: nothing to spare at index 0, so another index.
        assert_eq!(lengths[4..], [(1, 4096, false), (0, 4095, false)]);
    }

    /// What a kernel with the bug believes of an index.
    #[derive(Clone, Copy, PartialEq)]
    struct Believed {
        ids: Ids,
        length: u32,
        bytes: u32,
    }

    proptest! {
        #[test]
        fn no_index_is_given_twice_none_is_stale_and_none_is_refused(
            ops in proptest::collection::vec((0usize..4, 1u32..4, any::<bool>(), any::<bool>()), 0..200),
            spare in any::<bool>(),
        ) {
            let k = some_ids(4);
            let needed = [if spare { 4000 } else { 4096 }];
            let mut imports = Imports::default();
            imports.resize(3);
            let mut kernel: [Option<Believed>; 3] = [None; 3];
            let mut out = Vec::new();
            for (i, bytes, take, renews) in ops {
                if !take {
                    if let Some(index) = out.pop() {
                        imports.give_back(index);
                    }
                    continue;
                }
                let taken = imports.take(k[i], data(4096, bytes), &needed);
                prop_assert_eq!(taken.is_none(), out.len() == 3);
                let Some(taken) = taken else { continue };
                let (index, length) = (taken.index, taken.planes[0].length);
                prop_assert!(!out.contains(&index) && length >= needed[0]);
                prop_assert!(!(taken.stale && spare));
                if taken.stale {
                    if !renews {
                        imports.give_back(index);
                        continue;
                    }
                    kernel[index] = None;
                    imports.renewed(&taken);
                }
                let attaches = kernel[index].map_or(true, |b| b.ids != k[i] || b.length != length);
                if attaches {
                    kernel[index] = Some(Believed { ids: k[i], length, bytes });
                }
                prop_assert_eq!(kernel[index].map(|b| b.bytes), Some(bytes));
                out.push(index);
            }
            prop_assert_eq!(imports.free(), 3 - out.len());
        }
    }
}
