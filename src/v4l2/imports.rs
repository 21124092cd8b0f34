//! Which queue index an imported buffer meets: the same dma-buf always the same one, so that the kernel's cached
//! attachment is used again.
//!
//! One kernel bug makes the payload part of the question: Linux 6.12 takes `bytesused` and `data_offset` only when it
//! attaches (`__prepare_dmabuf` in `videobuf2-core.c`), so a buffer that is queued again at its index with other
//! values is processed with the old ones. It then goes to an index that holds another buffer.

use crate::dmabuf::{BufferId, DmaBuf};
use crate::format::MAX_PLANES;
use crate::sys::v4l2_calls::BufferPlane;

/// The buffers of one frame.
type Ids = [Option<BufferId>; MAX_PLANES];
/// Where their data is.
type Planes = [BufferPlane; MAX_PLANES];

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
}

pub(super) fn ids(memory: &[DmaBuf]) -> Ids {
    let mut ids = Ids::default();
    for (id, buffer) in ids.iter_mut().zip(memory) {
        *id = Some(buffer.id());
    }
    ids
}

impl Imports {
    pub(super) fn resize(&mut self, count: usize) {
        self.slots.resize(count, Slot::default());
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn free(&self) -> usize {
        self.slots.iter().filter(|s| !s.busy).count()
    }

    /// How many indices at the end are free and could be given back.
    pub(super) fn free_tail(&self) -> usize {
        self.slots.iter().rev().take_while(|s| !s.busy).count()
    }

    /// Takes an index for these buffers: the one that they had last, else an unused one, else the longest unused.
    /// `None` if every index is with the driver, or holds these buffers with other data.
    pub(super) fn take(&mut self, ids: Ids, planes: Planes) -> Option<usize> {
        let free = || self.slots.iter().enumerate().filter(|(_, s)| !s.busy);
        let index = free()
            .find(|(_, s)| s.attached == Some((ids, planes)))
            .or_else(|| free().find(|(_, s)| s.attached.is_none()))
            .or_else(|| {
                let others = free().filter(|(_, s)| s.attached.map(|a| a.0) != Some(ids));
                others.min_by_key(|(_, s)| s.used)
            })
            .map(|(i, _)| i)?;
        self.clock += 1;
        self.slots[index] = Slot { attached: Some((ids, planes)), used: self.clock, busy: true };
        Some(index)
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

    fn data(bytesused: u32) -> Planes {
        [BufferPlane { bytesused, ..BufferPlane::default() }; MAX_PLANES]
    }

    #[test]
    fn the_same_buffer_meets_the_same_index() {
        let k = some_ids(4);
        let mut imports = Imports::default();
        imports.resize(2);
        let mut take = |i: usize, back: &[usize]| {
            back.iter().for_each(|&b| imports.give_back(b));
            imports.take(k[i], data(7))
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
        assert_eq!(imports.take(k[0], data(1)), Some(0));
        imports.give_back(0);
        assert_eq!(imports.take(k[1], data(1)), Some(1));
        imports.give_back(1);
        assert_eq!(imports.take(k[0], data(2)), Some(1), "not index 0, where the kernel would keep the old length");
        assert_eq!(imports.take(k[0], data(3)), None);
        assert_eq!(imports.take(k[0], data(1)), Some(0));
    }

    proptest! {
        #[test]
        fn no_index_is_given_twice_and_none_is_stale(
            ops in proptest::collection::vec((0usize..4, 0u32..3, any::<bool>()), 0..200),
        ) {
            let k = some_ids(4);
            let mut imports = Imports::default();
            imports.resize(3);
            // What a kernel with the bug believes of each index.
            let mut kernel: [Option<(Ids, u32)>; 3] = [None; 3];
            let mut out = Vec::new();
            for (i, bytes, take) in ops {
                if take {
                    let Some(index) = imports.take(k[i], data(bytes)) else { continue };
                    prop_assert!(!out.contains(&index));
                    out.push(index);
                    match &kernel[index] {
                        Some((ids, seen)) if *ids == k[i] => prop_assert_eq!(*seen, bytes),
                        _ => kernel[index] = Some((k[i], bytes)),
                    }
                } else if let Some(index) = out.pop() {
                    imports.give_back(index);
                }
            }
            prop_assert_eq!(imports.free(), 3 - out.len());
        }
    }
}
