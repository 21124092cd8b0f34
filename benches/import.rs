//! A buffer that arrives with a descriptor of its own for each frame, as most protocols send it: imported again each
//! time, or found again by its identity (`BufferId`: device and inode).
//!
//! *Import* is taking the descriptor; *map* adds a byte of each page by the CPU, where a new mapping pays a page
//! fault for each. On a dma-buf (udmabuf) where the machine has one, else on a memfd.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use criterion::{criterion_group, criterion_main, BatchSize, BenchmarkId, Criterion};
use framelease::dmabuf::{Allocator, BufferId, DmaBuf, MemoryKind, DEFAULT_WAIT};
use framelease::format::Size;

const SIZES: [Size; 2] = [Size::new(640, 360), Size::new(1920, 1080)];
const PAGE: usize = 4096;
/// Descriptors that are open at a time: criterion's own batches can be more than a process may open.
const BATCH: BatchSize = BatchSize::NumIterations(256);

fn look(buffer: &DmaBuf) {
    let read = buffer.read(DEFAULT_WAIT).expect("readable memory");
    let mut byte = [0];
    for at in (0..buffer.size_bytes()).step_by(PAGE) {
        read.copy_to(at, &mut byte).expect("a byte within the buffer");
    }
}

fn import(c: &mut Criterion) {
    for size in SIZES {
        let bytes = (size.width * size.height * 3 / 2) as usize;
        let allocator = Allocator::for_cpu_source();
        let buffer = allocator.allocate(bytes.next_multiple_of(PAGE), "import").expect("memory for a frame");
        let kind = if buffer.kind() == MemoryKind::DmaBuf { "dma-buf" } else { "memfd" };
        let mut group = c.benchmark_group(format!("import, {kind}"));
        // Installing the descriptor is the sender's and the kernel's work; it is in neither figure.
        let arrive = || buffer.as_fd().try_clone_to_owned().expect("a descriptor");
        let again = |fd: OwnedFd| DmaBuf::from_fd(fd).expect("a buffer");
        let mut cache: HashMap<BufferId, DmaBuf> = HashMap::new();
        let mut known = |fd: OwnedFd| {
            let new = DmaBuf::from_fd(fd).expect("a buffer");
            cache.entry(new.id()).or_insert(new).clone()
        };
        group.bench_function(BenchmarkId::new("import again", size), |b| {
            b.iter_batched(arrive, again, BATCH);
        });
        group.bench_function(BenchmarkId::new("found by identity", size), |b| {
            b.iter_batched(arrive, &mut known, BATCH);
        });
        group.bench_function(BenchmarkId::new("import again, map", size), |b| {
            b.iter_batched(arrive, |fd| look(&again(fd)), BATCH);
        });
        group.bench_function(BenchmarkId::new("found by identity, map", size), |b| {
            b.iter_batched(arrive, |fd| look(&known(fd)), BATCH);
        });
        // What framelease's own protocol needs: the slot's number.
        let slots = [buffer.clone()];
        group.bench_function(BenchmarkId::new("found by slot, map", size), |b| b.iter(|| look(&slots[0])));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = import
}
criterion_main!(benches);
