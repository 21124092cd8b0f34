//! Assigns queue indices to imported buffers. The same dma-buf always gets the same index, so that the kernel reuses
//! its cached attachment, whatever the buffer contains.
//!
//! This module works around one kernel bug (docs/adr/0001): on a single-planar output queue, an index at which a
//! buffer was refused accepts no other buffer until it is removed and created again.

use crate::dmabuf::{BufferId, DmaBuf};
use crate::format::MAX_PLANES;

/// The identities of the buffers of one frame.
type Ids = [Option<BufferId>; MAX_PLANES];

/// The indices of an import queue. It does not use a descriptor.
#[derive(Debug, Default)]
pub(super) struct Imports {
    slots: Vec<Slot>,
    clock: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    /// The driver has it.
    Busy,
    /// The kernel accepts no buffer at this index.
    Spoiled,
    /// The index does not exist in the kernel any more.
    Lost,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// The buffers that the kernel may have attached at this index.
    attached: Option<Ids>,
    used: u64,
    state: State,
}

/// An index for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) index: usize,
    /// The index must first be removed and created again.
    pub(super) spoiled: bool,
}

pub(super) fn ids<'a>(memory: impl IntoIterator<Item = &'a DmaBuf>) -> Ids {
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
        self.slots.iter().filter(|s| matches!(s.state, State::Free | State::Spoiled)).count()
    }

    /// Takes an index for these buffers: the index that they had last, else an unused one, else the one unused for
    /// longest, else a spoiled one. Returns `None` if the driver has every index.
    pub(super) fn take(&mut self, ids: Ids) -> Option<Taken> {
        let all = |state| self.slots.iter().enumerate().filter(move |(_, s)| s.state == state);
        let own = all(State::Free).find(|(_, s)| s.attached == Some(ids));
        let (index, slot) = own
            .or_else(|| all(State::Free).find(|(_, s)| s.attached.is_none()))
            .or_else(|| all(State::Free).min_by_key(|(_, s)| s.used))
            .or_else(|| all(State::Spoiled).next())?;
        let taken = Taken { index, spoiled: slot.state == State::Spoiled };
        self.clock += 1;
        self.slots[index] = Slot { attached: Some(ids), used: self.clock, state: State::Busy };
        Some(taken)
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(slot) = self.slots.get_mut(index).filter(|s| s.state == State::Busy) {
            slot.state = state;
        }
    }

    /// Frees an index that the driver returned, or whose buffer it refused. The buffer may stay attached.
    pub(super) fn give_back(&mut self, index: usize) {
        self.set(index, State::Free);
    }

    /// Marks an index at which the driver refused a buffer, and which accepts no buffer any more.
    pub(super) fn spoil(&mut self, index: usize) {
        self.set(index, State::Spoiled);
    }

    /// Marks an index that was removed and could not be created again.
    pub(super) fn lose(&mut self, index: usize) {
        self.set(index, State::Lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::Allocator;
    use proptest::prelude::*;

    fn some_ids(count: usize) -> Vec<Ids> {
        // All exist at the same time, so that the inodes differ.
        let buffers: Vec<DmaBuf> = (0..count).map(|_| Allocator::Memfd.allocate(4096, "key").unwrap()).collect();
        buffers.iter().map(|b| ids(std::slice::from_ref(b))).collect()
    }

    fn index(taken: Option<Taken>) -> Option<usize> {
        taken.map(|t| t.index)
    }

    #[test]
    fn take_gives_the_same_buffer_the_same_index() {
        let k = some_ids(4);
        let mut imports = Imports::default();
        imports.resize(2);
        let mut take = |i: usize, back: &[usize]| {
            back.iter().for_each(|&b| imports.give_back(b));
            index(imports.take(k[i]))
        };
        assert_eq!((take(0, &[]), take(1, &[]), take(2, &[])), (Some(0), Some(1), None));
        assert_eq!(take(1, &[1, 0]), Some(1));
        assert_eq!(take(1, &[]), Some(0), "queued twice: the other index");
        assert_eq!(take(2, &[1, 0]), Some(1), "the one unused for longest");
        assert_eq!(take(9 - 6, &[9]), Some(0));
        assert_eq!((imports.len(), imports.free()), (2, 0));
    }

    #[test]
    fn take_gives_a_spoiled_index_last_and_a_lost_one_never() {
        let k = some_ids(2);
        let mut imports = Imports::default();
        imports.resize(2);
        let fresh = |index| Some(Taken { index, spoiled: false });
        assert_eq!(imports.take(k[0]), fresh(0));
        imports.spoil(0);
        assert_eq!(imports.free(), 2);
        assert_eq!(imports.take(k[0]), fresh(1), "not its own index, which accepts nothing");
        assert_eq!(imports.take(k[1]), Some(Taken { index: 0, spoiled: true }));
        imports.give_back(0);
        assert_eq!(imports.take(k[1]), fresh(0), "created again");
        imports.lose(0);
        imports.give_back(0);
        assert_eq!((imports.take(k[1]), imports.free()), (None, 0));
    }

    proptest! {
        #[test]
        fn take_never_gives_an_index_twice(ops in proptest::collection::vec((0usize..4, 0u8..4), 0..200)) {
            let k = some_ids(4);
            let mut imports = Imports::default();
            imports.resize(3);
            let (mut out, mut spoiled) = (Vec::new(), Vec::new());
            for (i, op) in ops {
                if op == 0 {
                    if let Some(index) = out.pop() {
                        imports.give_back(index);
                    }
                    continue;
                }
                let taken = imports.take(k[i]);
                prop_assert_eq!(taken.is_none(), out.len() == 3);
                let Some(Taken { index, spoiled: is_spoiled }) = taken else { continue };
                prop_assert!(!out.contains(&index));
                prop_assert_eq!(is_spoiled, spoiled.contains(&index));
                spoiled.retain(|&s| s != index);
                if op == 1 {
                    imports.spoil(index);
                    spoiled.push(index);
                } else {
                    out.push(index);
                }
            }
            prop_assert_eq!(imports.free(), 3 - out.len());
        }
    }
}
