//! What a consumer pays to read every pixel of a 1080p frame: in place by the safe form, as a slice, and as copied
//! rows. The sum of words is bound by memory, the count of bright bytes by the loop.

use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use framelease::dmabuf::{Allocator, SharedBytes, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, FrameRead, PlaneRead, Pool};

/// Four sums, because compilers turn them into vectors.
fn sum_of(words: impl Iterator<Item = [u8; 32]>) -> u64 {
    let mut sums = [0_u64; 4];
    for chunk in words {
        for (sum, word) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
            *sum = word.try_into().map_or(0, u64::from_ne_bytes).wrapping_add(*sum);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

fn sum_of_slice(row: &[u8]) -> u64 {
    sum_of(row.chunks_exact(32).map(|chunk| chunk.try_into().unwrap_or([0; 32])))
}

fn bright(row: SharedBytes) -> u64 {
    row.fold(0, |count, byte| count + u64::from(byte > 200))
}

fn bright_of_slice(row: &[u8]) -> u64 {
    row.iter().fold(0, |count, &byte| count + u64::from(byte > 200))
}

fn planes<'a>(pixels: &'a FrameRead<'_>) -> impl Iterator<Item = PlaneRead<'a>> {
    (0..2).map(|plane| pixels.plane(plane).expect("NV12 has two planes"))
}

fn in_place(frame: &Frame, job: impl Fn(SharedBytes) -> u64) -> u64 {
    let pixels = frame.read(DEFAULT_WAIT).expect("a memfd");
    planes(&pixels).flat_map(|plane| plane.rows()).map(job).fold(0, u64::wrapping_add)
}

#[allow(unsafe_code)]
fn as_slice(frame: &Frame, job: impl Fn(&[u8]) -> u64) -> u64 {
    // SAFETY: only this process has the memory, and nothing writes it while the frame is lent.
    in_place(frame, |row| job(unsafe { row.as_slice() }))
}

fn copied(frame: &Frame, job: impl Fn(&[u8]) -> u64) -> u64 {
    let (mut total, mut scratch) = (0_u64, Vec::new());
    let pixels = frame.read(DEFAULT_WAIT).expect("a memfd");
    pixels.for_each_row(&mut scratch, |row| total = total.wrapping_add(job(row))).expect("a whole frame");
    total
}

fn read(c: &mut Criterion) {
    let layout = Layout::packed(FourCc::NV12, Size::new(1920, 1080)).expect("an even size");
    let pool = Pool::new(&Allocator::Memfd, layout, 1).expect("memory for the pool");
    let mut frame = pool.try_acquire().expect("a free buffer");
    let bytes: Vec<u8> = (0..layout.pixel_bytes()).map(|i| (i * 31) as u8).collect();
    frame.write(DEFAULT_WAIT).and_then(|mut write| write.copy_payload(0, &bytes)).expect("room for the pixels");
    let frame = frame.freeze_full(0, 0);
    let mut group = c.benchmark_group("read 1080p NV12");
    group.throughput(Throughput::Bytes(layout.pixel_bytes()));
    let sum = sum_of_slice(&bytes);
    let shared = |row: SharedBytes| sum_of(row.chunks_exact());
    let results = [in_place(&frame, shared), as_slice(&frame, sum_of_slice), copied(&frame, sum_of_slice)];
    assert_eq!(results, [sum; 3], "all forms read the same");
    group.bench_function("sum of words, SharedBytes", |b| b.iter(|| in_place(&frame, shared)));
    group.bench_function("sum of words, unsafe slice", |b| b.iter(|| as_slice(&frame, sum_of_slice)));
    group.bench_function("sum of words, copied rows", |b| b.iter(|| copied(&frame, sum_of_slice)));
    group.bench_function("bright bytes, SharedBytes", |b| b.iter(|| in_place(&frame, bright)));
    group.bench_function("bright bytes, unsafe slice", |b| b.iter(|| as_slice(&frame, bright_of_slice)));
    group.bench_function("bright bytes, copied rows", |b| b.iter(|| copied(&frame, bright_of_slice)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = read
}
criterion_main!(benches);
