//! Three conversions by every backend of this machine, then by swscale and GStreamer in the same run; and what
//! `convert::G2d` costs beside libg2d, measured on the software libg2d of tests/fakes with its drawing switched off.
//!
//! `docs/performance.md` says how to read it. Run it with `--features simd` too.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{criterion_group, BenchmarkId, Criterion, Throughput};
use framelease::capture::TestPattern;
use framelease::convert::{candidates, Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Rect, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::process_cpu_time;
use framelease::Station;
use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeValLike;

#[path = "../tests/converting/mod.rs"]
mod converting;
#[cfg(feature = "g2d")]
mod g2d_overhead;

use converting::Jobs;

const HD: Size = Size::new(1920, 1080);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Turns of the comparison with others; medians are shown.
const TURNS: usize = 5;

/// One of the three conversions, and what does the same elsewhere.
struct Job {
    name: &'static str,
    source: Size,
    sources: usize,
    to: FourCc,
    target: Size,
    /// Times that the rival's job is done for one of ours.
    times: u32,
    rival_target: Size,
}

const JOBS: [Job; 3] = [
    Job {
        name: "1080p NV12 to RGBA",
        source: HD,
        sources: 1,
        to: FourCc::RGBA32,
        target: HD,
        times: 1,
        rival_target: HD,
    },
    Job {
        name: "4K to 1080p NV12",
        source: Size::new(3840, 2160),
        sources: 1,
        to: FourCc::NV12,
        target: HD,
        times: 1,
        rival_target: HD,
    },
    Job {
        name: "4 x 1080p NV12 composed to 1080p RGBA",
        source: HD,
        sources: 4,
        to: FourCc::RGBA32,
        target: HD,
        times: 4,
        rival_target: Size::new(960, 540),
    },
];

struct Scene {
    plan: Arc<Plan>,
    frames: Vec<Frame>,
    pool: Pool,
}

impl Scene {
    /// `None` if the backend does not take the job.
    fn new(job: &Job, converter: &dyn Converter) -> Option<Self> {
        let allocator = Allocator::for_cpu_source();
        let builder = TestPattern::builder(job.source).buffers(job.sources).unpaced().allocator(allocator.clone());
        let mut pattern = builder.start().expect("memory for the sources");
        let frames: Vec<Frame> = (0..job.sources)
            .map(|_| pattern.recv(TIMEOUT).expect("a pattern").frame().expect("a free buffer"))
            .collect();
        let layouts: Vec<Layout> = frames.iter().map(|f| *f.layout()).collect();
        let request = match job.sources {
            1 => Request::convert(Layer::default()),
            _ => {
                let cell = Size::new(job.target.width / 2, job.target.height / 2);
                let at = |i: u32| Rect::new((i % 2 * cell.width) as i32, (i / 2 * cell.height) as i32, cell);
                Request::compose((0..4).map(|i| Layer::default().place(at(i))))
            }
        };
        let target = converter.target_layout(job.to, job.target).expect("an even size");
        let kind = frames[0].memory()[0].kind();
        let plan = Plan::new(&request, &layouts, &target).expect("a possible request").memory(kind);
        let pool = Pool::new(&allocator, target, 2).expect("memory for the target");
        converter.check(&plan).ok()?;
        Some(Self { plan: Arc::new(plan), frames, pool })
    }

    fn turn(&self, converter: &mut dyn Converter) {
        let target = self.pool.try_acquire().expect("a free target");
        converter.begin(&self.plan, &self.frames, target).expect("a plan that was checked");
        converter.done(TIMEOUT).expect("a finished frame");
    }
}

fn convert(c: &mut Criterion) {
    for job in &JOBS {
        let mut group = c.benchmark_group(job.name);
        group.throughput(Throughput::Elements(1));
        for mut converter in candidates().flatten() {
            if let Some(scene) = Scene::new(job, &*converter) {
                let id = BenchmarkId::from_parameter(converter.name().to_owned());
                group.bench_function(id, |b| b.iter(|| scene.turn(&mut *converter)));
            }
        }
        group.finish();
    }
}

/// CPU time of all children until now.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("a valid argument");
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs())
}

/// CPU time of a command; `None` if it cannot be run.
fn cpu_of(command: &mut Command) -> Option<Duration> {
    let before = children();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    status.success().then(|| children() - before)
}

/// CPU time of one frame by ffmpeg's swscale, one thread: with the filter less without it.
fn swscale(job: &Job) -> Option<Duration> {
    let frames = 200u32;
    let run = |filter: &str| {
        let size = job.source.to_string();
        let source =
            format!("color=gray:s={size}:r=30,format=nv12,loop=loop={frames}:size=1,trim=end_frame={frames}{filter}");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-threads", "1", "-filter_threads", "1", "-f", "lavfi", "-i", &source]);
        cpu_of(command.args(["-f", "null", "-"]))
    };
    let to = if job.to == FourCc::NV12 { "nv12" } else { "rgba" };
    let with =
        run(&format!(",scale={}:{}:flags=bilinear,format={to}", job.rival_target.width, job.rival_target.height))?;
    Some(with.saturating_sub(run("")?) / frames * job.times)
}

/// CPU time of one frame by GStreamer's videoconvertscale, one thread: with the element less without it.
fn gstreamer(job: &Job) -> Option<Duration> {
    let frames = 200u32;
    let caps =
        |format: &str, size: Size| format!("video/x-raw,format={format},width={},height={}", size.width, size.height);
    let run = |convert: bool| {
        let mut command = Command::new("gst-launch-1.0");
        command.args(["-q", "videotestsrc", "pattern=black", &format!("num-buffers={frames}"), "!"]);
        command.args([&caps("NV12", job.source), "!"]);
        if convert {
            let to = if job.to == FourCc::NV12 { "NV12" } else { "RGBA" };
            command.args(["videoconvertscale", "n-threads=1", "!", &caps(to, job.rival_target), "!"]);
        }
        cpu_of(command.arg("fakesink"))
    };
    let with = run(true)?;
    Some(with.saturating_sub(run(false)?) / frames * job.times)
}

fn ours(job: &Job) -> Duration {
    let mut cpu = Cpu::new().expect("a descriptor");
    let scene = Scene::new(job, &cpu).expect("the CPU takes all jobs");
    let frames = 20;
    scene.turn(&mut cpu);
    let before = process_cpu_time();
    (0..frames).for_each(|_| scene.turn(&mut cpu));
    (process_cpu_time() - before) / frames
}

fn median(mut values: Vec<Duration>) -> Option<Duration> {
    values.sort();
    values.get(values.len() / 2).copied()
}

fn rivals() {
    let simd = if cfg!(feature = "simd") { "cpu with simd" } else { "cpu" };
    println!("\nCPU time of one frame in us, one thread, median of {TURNS} turns that alternate:");
    println!("{:40} {simd:>15} {:>12} {:>12} {:>8}", "", "swscale", "GStreamer", "ratio");
    for job in &JOBS {
        let (mut own, mut sws, mut gst) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            own.push(ours(job));
            sws.extend(swscale(job));
            gst.extend(gstreamer(job));
        }
        let (own, sws, gst) = (median(own), median(sws), median(gst));
        let us = |d: Option<Duration>| d.map_or("not here".to_owned(), |d| format!("{}", d.as_micros()));
        let best = [sws, gst].into_iter().flatten().min();
        let ratio = own.zip(best).map_or(String::new(), |(a, b)| format!("{:.2}", a.as_secs_f64() / b.as_secs_f64()));
        println!("{:40} {:>15} {:>12} {:>12} {ratio:>8}", job.name, us(own), us(sws), us(gst));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(10);
    targets = convert, g2d_overhead
}

#[cfg(not(feature = "g2d"))]
fn g2d_overhead(_: &mut Criterion) {}

#[cfg(feature = "g2d")]
fn g2d_overhead(c: &mut Criterion) {
    g2d_overhead::walls(c);
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Cargo runs benchmarks with `--bench`; a test of them (`--test`) compares nothing.
    if std::env::args().any(|a| a == "--bench") {
        #[cfg(feature = "g2d")]
        g2d_overhead::cpu();
        rivals();
    }
}
