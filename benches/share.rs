//! Publish to receive: one frame to C subscribers and its return, over sizes. The curve over sizes must be flat.
//!
//! All in one thread, so that the figure is the work and not the scheduler: publish, every subscriber receives and
//! drops, next. `docs/performance.md` says how to read it.

use std::path::PathBuf;
use std::time::Duration;

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion, Throughput};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::Pool;
use framelease::share::{Event, Publisher, Subscriber};

const SIZES: [Size; 3] = [Size::new(640, 360), Size::new(1920, 1080), Size::new(3840, 2160)];
const TIMEOUT: Duration = Duration::from_secs(10);

struct Scene {
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    pool: Pool,
    folder: PathBuf,
}

impl Scene {
    fn new(size: Size, consumers: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("framelease-bench-{}-{size}-{consumers}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the socket");
        let layout = Layout::packed(FourCc::new(b"NV12"), size).expect("an even size");
        let pool = Pool::new(&Allocator::for_cpu_source(), layout, consumers * 2 + 4).expect("memory for the pool");
        let mut publisher = Publisher::builder(folder.join("socket")).bind().expect("a new socket");
        publisher.announce(pool.buffers()).expect("a small pool");
        let mut subscribers = Vec::new();
        for i in 0..consumers {
            let path = folder.join("socket");
            let thread = std::thread::spawn(move || Subscriber::builder(path).connect(TIMEOUT));
            while !thread.is_finished() {
                publisher.wait(Duration::from_millis(1)).expect("a publisher that works");
            }
            let mut subscriber = thread.join().expect("no panic").expect("admission");
            while publisher.active() == i {
                subscriber.try_next().expect("the buffers");
                publisher.wait(Duration::from_millis(1)).expect("a publisher that works");
            }
            subscribers.push(subscriber);
        }
        Self { publisher, subscribers, pool, folder }
    }

    fn turn(&mut self, copy: bool) {
        let mut frame = self.pool.try_acquire().expect("a free buffer");
        if copy {
            // What a shmsink-style split does: the same bytes once more, from another buffer.
            let from = self.pool.try_acquire().expect("a second free buffer").freeze_full(0, 0);
            let read = from.read(DEFAULT_WAIT).expect("readable memory");
            frame.write(DEFAULT_WAIT).and_then(|mut w| w.copy_frame(&read)).expect("writable memory");
        }
        self.publisher.publish(frame.freeze_full(0, 0), TIMEOUT).expect("policy latest never blocks");
        for subscriber in &mut self.subscribers {
            match subscriber.next(TIMEOUT) {
                Ok(Some(Event::Frame(_))) => {}
                other => panic!("{other:?} instead of a frame"),
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn share(c: &mut Criterion) {
    for (name, copy) in [("zero-copy", false), ("one copy", true)] {
        let mut group = c.benchmark_group(format!("publish to receive, {name}"));
        group.throughput(Throughput::Elements(1));
        for consumers in [1, 3, 8] {
            for size in SIZES {
                let mut scene = Scene::new(size, consumers);
                group.bench_function(BenchmarkId::new(format!("{consumers} subscribers"), size), |b| {
                    b.iter(|| scene.turn(copy));
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = share
}
criterion_main!(benches);
