//! Where shared memory comes from.

use framelease::dmabuf::Allocator;

use super::super::child::failure;
use super::super::findings::Memory;

const BYTES: usize = 1 << 16;

pub fn memory() -> Memory {
    let mut memory = Memory::default();
    for heap in Allocator::heaps().into_iter().chain([Allocator::Udmabuf]) {
        let failed = heap.allocate(BYTES, "framelease-doctor").err().map(|e| failure(&e));
        memory.heaps.push((heap.to_string(), failed));
    }
    match Allocator::for_devices() {
        Ok(allocator) => memory.for_devices = Some(allocator.to_string()),
        Err(e) => memory.no_memory = Some(failure(&e)),
    }
    memory
}
