//! Publish to receive: CPU of one frame to C subscribers and its return, over sizes. The curve over sizes must be flat.
//!
//! First all in one thread, so that the figure is the work and not the scheduler: publish, every subscriber receives
//! and drops, next. Then subscribers are processes, whose CPU counts, too: as fast as the slowest takes the frames, all
//! of them. `docs/performance.md` says how to read it.

mod cpu;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cpu::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::Pool;
use framelease::share::{Policy, Publisher, Subscriber, SubscriberEvent};
use framelease::{Received, Station};

const SIZES: [Size; 3] = [Size::new(640, 360), Size::new(1920, 1080), Size::new(3840, 2160)];
const WAYS: [(&str, bool); 2] = [("zero-copy", false), ("one copy", true)];
const THREAD: &str = "publish to receive";
const PROCESSES: &str = "publish to processes";
const SUBSCRIBE: &str = "--subscribe";
const TIMEOUT: Duration = Duration::from_secs(10);

struct Scene {
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    /// Subscribers, too.
    children: Vec<Child>,
    pool: Pool,
    folder: PathBuf,
}

impl Scene {
    /// Before the first subscriber.
    fn empty(size: Size, consumers: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("framelease-bench-{}-{size}-{consumers}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the socket");
        let layout = Layout::packed(FourCc::NV12, size).expect("an even size");
        let pool = Pool::new(&Allocator::for_cpu_source(), layout, consumers * 2 + 4).expect("memory for the pool");
        let mut publisher =
            Publisher::builder(folder.join("socket")).reserve(2).allow_block(TIMEOUT).bind().expect("a new socket");
        publisher.announce(pool.buffers()).expect("a small pool");
        Self { publisher, subscribers: Vec::new(), children: Vec::new(), pool, folder }
    }

    fn new(size: Size, consumers: usize) -> Self {
        let mut scene = Self::empty(size, consumers);
        for i in 0..consumers {
            let path = scene.folder.join("socket");
            let thread = std::thread::spawn(move || Subscriber::builder(path).connect(TIMEOUT));
            while !thread.is_finished() {
                scene.serve();
            }
            let mut subscriber = thread.join().expect("no panic").expect("admission");
            while scene.publisher.active() == i {
                let _ = subscriber.try_recv().expect("the buffers");
                scene.serve();
            }
            scene.subscribers.push(subscriber);
        }
        scene
    }

    fn of_processes(size: Size, consumers: usize) -> Self {
        let mut scene = Self::empty(size, consumers);
        for _ in 0..consumers {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.arg(SUBSCRIBE).arg(scene.folder.join("socket")).stdin(Stdio::null());
            scene.children.push(command.spawn().expect("a process"));
        }
        while scene.publisher.active() < consumers {
            scene.serve();
            let is_over = |c: &mut Child| c.try_wait().is_ok_and(|status| status.is_some());
            assert!(!scene.children.iter_mut().any(is_over), "a subscriber ended too early");
        }
        scene
    }

    fn serve(&mut self) {
        let _ = self.publisher.recv(Duration::from_millis(1)).expect("a publisher that works");
    }

    fn turn(&mut self, copy: bool) {
        let mut frame = self.pool.try_acquire().expect("a free buffer");
        if copy {
            // What a shmsink-style split does: the same bytes once more, from another buffer.
            let from = self.pool.try_acquire().expect("a second free buffer").freeze_full(0, 0);
            let read = from.read(DEFAULT_WAIT).expect("readable memory");
            frame.write(DEFAULT_WAIT).and_then(|mut w| w.copy_frame(&read)).expect("writable memory");
        }
        let published = self.publisher.publish(frame.freeze_full(0, 0), TIMEOUT).expect("a frame of the pool");
        assert!(published.is_taken(), "a subscriber does not take it");
        for subscriber in &mut self.subscribers {
            loop {
                match subscriber.recv(TIMEOUT) {
                    Ok(Received::Item(SubscriberEvent::Frame(_))) => break,
                    // The buffers, before the first frame.
                    Ok(Received::Item(SubscriberEvent::Format(_))) => {}
                    other => panic!("{other:?} instead of a frame"),
                }
            }
        }
    }
}

/// Takes frames and gives them back until the publisher is gone.
fn subscribe(socket: &Path) {
    let mut subscriber = Subscriber::builder(socket).policy(Policy::Block).connect(TIMEOUT).expect("admission");
    loop {
        match subscriber.recv(TIMEOUT) {
            Ok(Received::Item(SubscriberEvent::Paused)) | Ok(Received::Nothing | Received::Ended) | Err(_) => return,
            Ok(Received::Item(_)) => {}
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.publisher.pause(TIMEOUT);
        for child in &mut self.children {
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn share(c: &mut Criterion<CpuTime>) {
    for (name, copy) in WAYS {
        let mut group = c.benchmark_group(format!("{THREAD}, {name}"));
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

fn processes(c: &mut Criterion<CpuTime>, time: &CpuTime) {
    for (name, copy) in WAYS {
        let mut group = c.benchmark_group(format!("{PROCESSES}, {name}"));
        group.throughput(Throughput::Elements(1));
        for consumers in [1, 3] {
            for size in SIZES {
                let mut scene = Scene::of_processes(size, consumers);
                time.count(&scene.children);
                group.bench_function(BenchmarkId::new(format!("{consumers} subscribers"), size), |b| {
                    b.iter(|| scene.turn(copy));
                });
                time.count(&[]);
            }
        }
        group.finish();
    }
}

/// What criterion has measured: us CPU of a frame, as a table and as JSON.
fn report() -> std::io::Result<()> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("");
    let median = |group: &str, way: &str, consumers: usize, size: Size| {
        let id = format!("criterion/{group}, {way}/{consumers} subscribers/{size}/new/estimates.json");
        let text = std::fs::read_to_string(target.join(id)).ok()?;
        let number = text.split_once("\"median\"")?.1.split_once("\"point_estimate\":")?.1.split(',').next()?;
        Some(number.parse::<f64>().ok()? / 1e3)
    };
    let mut json = Vec::new();
    println!("| | subscribers | size | zero-copy | one copy | ratio |\n|---|---|---|---|---|---|");
    for (group, counts) in [(THREAD, &[1, 3, 8][..]), (PROCESSES, &[1, 3])] {
        for (consumers, size) in counts.iter().flat_map(|&c| SIZES.map(|size| (c, size))) {
            // What a filter left out is not there.
            let [Some(zero), Some(one)] = WAYS.map(|(way, _)| median(group, way, consumers, size)) else { continue };
            println!("| {group} | {consumers} | {size} | {zero:.1} | {one:.0} | {:.1} |", one / zero);
            json.push(format!(
                "{{\"what\": \"{group}\", \"subscribers\": {consumers}, \"size\": \"{size}\", \"zero_copy_cpu_us\": {zero:.2}, \
                 \"one_copy_cpu_us\": {one:.2}}}"
            ));
        }
    }
    std::fs::write(target.join("share.json"), format!("[\n  {}\n]\n", json.join(",\n  ")))
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, socket] = &args[..] {
        if flag == SUBSCRIBE {
            subscribe(Path::new(socket));
            return Ok(());
        }
    }
    let time = CpuTime::new();
    let c = Criterion::default().with_measurement(time.clone()).warm_up_time(Duration::from_millis(300));
    let mut c = c.measurement_time(Duration::from_secs(1)).sample_size(20).configure_from_args();
    share(&mut c);
    processes(&mut c, &time);
    c.final_summary();
    if args.iter().any(|a| a == "--bench") {
        report()?;
    }
    Ok(())
}
