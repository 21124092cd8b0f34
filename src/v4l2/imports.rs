//! Which queue index an imported buffer meets: the same dma-buf always the same one, so that the kernel's cached
//! attachment is used again.

use crate::dmabuf::{BufferId, DmaBuf};
use crate::format::MAX_PLANES;

type Key = [Option<BufferId>; MAX_PLANES];

/// The indices of an import queue. Knows no descriptor: a pure bookkeeper.
#[derive(Debug, Default)]
pub(super) struct Imports {
    slots: Vec<Slot>,
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// The buffers that the kernel has attached at this index.
    key: Option<Key>,
    used: u64,
    busy: bool,
}

pub(super) fn key(memory: &[DmaBuf]) -> Key {
    let mut key = Key::default();
    for (k, buffer) in key.iter_mut().zip(memory) {
        *k = Some(buffer.id());
    }
    key
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
    /// `None` if every index is with the driver.
    pub(super) fn take(&mut self, key: &Key) -> Option<usize> {
        let free = || self.slots.iter().enumerate().filter(|(_, s)| !s.busy);
        let index = free()
            .find(|(_, s)| s.key.as_ref() == Some(key))
            .or_else(|| free().find(|(_, s)| s.key.is_none()))
            .or_else(|| free().min_by_key(|(_, s)| s.used))
            .map(|(i, _)| i)?;
        self.clock += 1;
        self.slots[index] = Slot { key: Some(*key), used: self.clock, busy: true };
        Some(index)
    }

    /// The index came back from the driver.
    pub(super) fn give_back(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.busy = false;
        }
    }

    /// The driver refused the buffers: nothing is attached at the index.
    pub(super) fn forget(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Slot::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::Allocator;
    use proptest::prelude::*;

    fn keys(count: usize) -> Vec<Key> {
        // The descriptors are closed here; two of them alive at once make the inodes differ.
        let buffers: Vec<DmaBuf> = (0..count).map(|_| Allocator::Memfd.allocate(4096, "key").unwrap()).collect();
        buffers.iter().map(|b| key(std::slice::from_ref(b))).collect()
    }

    #[test]
    fn the_same_buffer_meets_the_same_index() {
        let k = keys(4);
        let mut imports = Imports::default();
        imports.resize(2);
        assert_eq!((imports.take(&k[0]), imports.take(&k[1]), imports.take(&k[2])), (Some(0), Some(1), None));
        imports.give_back(1);
        imports.give_back(0);
        assert_eq!(imports.take(&k[1]), Some(1));
        assert_eq!(imports.take(&k[1]), Some(0), "queued twice: the other index");
        imports.give_back(0);
        imports.give_back(1);
        imports.forget(1);
        assert_eq!(imports.take(&k[3]), Some(1), "an index without an attachment first");
        imports.give_back(1);
        assert_eq!(imports.take(&k[2]), Some(0), "then the longest unused");
        imports.give_back(9);
        assert_eq!((imports.len(), imports.free(), imports.free_tail()), (2, 1, 1));
    }

    proptest! {
        #[test]
        fn no_index_is_given_twice(ops in proptest::collection::vec((0usize..6, any::<bool>()), 0..200)) {
            let k = keys(6);
            let mut imports = Imports::default();
            imports.resize(3);
            let mut out = Vec::new();
            for (i, take) in ops {
                if take {
                    match imports.take(&k[i]) {
                        Some(index) => { prop_assert!(!out.contains(&index)); out.push(index); }
                        None => prop_assert_eq!(out.len(), 3),
                    }
                } else if let Some(index) = out.pop() {
                    imports.give_back(index);
                }
            }
            prop_assert_eq!(imports.free(), 3 - out.len());
        }
    }
}
