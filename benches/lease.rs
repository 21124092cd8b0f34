//! What a lease costs by itself, without a socket: clone and drop, a slot out and home again, both while other threads
//! do the same; and the arithmetic of a layout.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::Pool;

const NV12: FourCc = FourCc::NV12;
const SIZE: Size = Size::new(1920, 1080);

fn pool(count: usize) -> Pool {
    let layout = Layout::packed(NV12, SIZE).expect("an even size");
    Pool::new(&Allocator::Memfd, layout, count).expect("memory for the pool")
}

/// Runs `measure` while `others` threads do `work`.
fn beside(others: usize, work: impl Fn() + Sync, measure: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    work();
                }
            });
        }
        measure();
        is_over.store(true, Ordering::Relaxed);
    });
}

fn lease(c: &mut Criterion) {
    let mut group = c.benchmark_group("lease");
    // One core is ours.
    for others in [0, 1] {
        let pool = pool(8);
        let frame = pool.try_acquire().expect("a free buffer").freeze_full(0, 0);
        let share = || drop(std::hint::black_box(frame.clone()));
        beside(others, share, || {
            let id = BenchmarkId::new("clone and drop one frame", format!("{others} other threads"));
            group.bench_function(id, |b| b.iter(share));
        });
        let lend = || {
            if let Some(frame) = pool.try_acquire() {
                drop(frame.freeze_full(0, 0));
            }
        };
        beside(others, lend, || {
            let id = BenchmarkId::new("a slot out and home", format!("{others} other threads"));
            group.bench_function(id, |b| b.iter(lend));
        });
    }
    let pool = pool(8);
    group.bench_function("a slot out, home from another thread", |b| {
        let (to, frames) = std::sync::mpsc::sync_channel(4);
        let dropper = std::thread::spawn(move || frames.into_iter().for_each(drop::<framelease::frame::Frame>));
        b.iter(|| {
            let frame = pool.acquire(Duration::from_secs(1)).expect("the other thread drops them");
            to.send(frame.freeze_full(0, 0)).expect("it lives");
        });
        drop(to);
        dropper.join().expect("no panic");
    });
    group.finish();
}

fn layout(c: &mut Criterion) {
    c.bench_function("layout of 1080p NV12", |b| b.iter(|| Layout::aligned(NV12, std::hint::black_box(SIZE), 64)));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = lease, layout
}
criterion_main!(benches);
