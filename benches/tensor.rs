//! Frames to tensors by `convert::Tensor`, then by OpenCV and by swscale with NumPy in the same run.
//!
//! `python3` needs OpenCV and NumPy, for example from a folder that `PYTHONPATH` names:
//! `python3 -m pip install --target target/opencv opencv-python-headless`.

use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{criterion_group, BenchmarkId, Criterion, Throughput};
use framelease::convert::tensor::{Axes, Element, Filter, Fit, TensorBuilder};
use framelease::convert::{Color, Tensor};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::process_cpu_time;
use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeValLike;

const HD: Size = Size::new(1920, 1080);
const SIDE: Size = Size::new(640, 640);
const GRAY: Color = Color::rgb(114, 114, 114);
/// Turns of the comparison with others; medians are shown.
const TURNS: usize = 9;

fn source(fourcc: FourCc, size: Size) -> Frame {
    let layout = Layout::packed(fourcc, size).expect("an even size");
    let pool = Pool::new(&Allocator::Memfd, layout, 1).expect("memory for the source");
    let mut frame = pool.try_acquire().expect("a free buffer");
    let mut write = frame.write(DEFAULT_WAIT).expect("a buffer of this process");
    let mut seed = 1u32;
    for plane in 0..layout.planes().len() {
        let mut row = vec![0; layout.row_bytes(plane) as usize];
        for y in 0..layout.rows(plane) {
            for byte in &mut row {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (seed >> 24) as u8;
            }
            write.copy_row(plane, y, &row).expect("a row of the layout");
        }
    }
    drop(write);
    frame.freeze_full(0, 0)
}

fn letterbox() -> TensorBuilder {
    Tensor::builder(SIDE).fit(Fit::Letterbox(GRAY)).scale([1.0 / 255.0; 3])
}

fn bench<T: Element + Default>(c: &mut Criterion, name: &str, frame: &Frame, builder: TensorBuilder) {
    let mut tensor = builder.build().expect("a possible tensor");
    let mut into = vec![T::default(); tensor.elements()];
    let mut group = c.benchmark_group("tensor of 640x640");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter(|| tensor.write(frame, &mut into).expect("a whole frame"));
    });
}

fn tensors(c: &mut Criterion) {
    let nv12 = source(FourCc::NV12, HD);
    bench::<f32>(c, "1080p NV12 to CHW f32", &nv12, letterbox());
    bench::<f32>(c, "720p NV12 to CHW f32", &source(FourCc::NV12, Size::new(1280, 720)), letterbox());
    bench::<f32>(c, "1080p NV12 to CHW f32, area", &nv12, letterbox().filter(Filter::Area));
    bench::<f32>(c, "1080p NV12 to HWC f32", &nv12, letterbox().axes(Axes::Hwc));
    bench::<u16>(c, "1080p NV12 to CHW f16", &nv12, letterbox());
    bench::<u8>(c, "1080p NV12 to HWC u8", &nv12, letterbox().axes(Axes::Hwc).scale([1.0; 3]));
    bench::<f32>(c, "1080p YUYV to CHW f32", &source(FourCc::YUYV, HD), letterbox());
    bench::<f32>(c, "1080p RGB24 to CHW f32", &source(FourCc::RGB24, HD), letterbox());
}

/// CPU time of all children until now.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("a valid argument");
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs())
}

fn ours(size: Size) -> Duration {
    let frame = source(FourCc::NV12, size);
    let mut tensor = letterbox().build().expect("a possible tensor");
    let mut into = vec![0f32; tensor.elements()];
    let frames = 60;
    tensor.write(&frame, &mut into).expect("a whole frame");
    let before = process_cpu_time();
    for _ in 0..frames {
        tensor.write(&frame, &mut into).expect("a whole frame");
    }
    (process_cpu_time() - before) / frames
}

/// What `tensor.py` measures; `None` without Python or a module.
fn python(way: &str, size: Size) -> Option<Duration> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tensor.py");
    let mut command = Command::new("python3");
    // NumPy's libraries start threads otherwise.
    command.args([script, way, &size.width.to_string(), &size.height.to_string()]).env("OPENBLAS_NUM_THREADS", "1");
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    Some(Duration::from_nanos(String::from_utf8(output.stdout).ok()?.trim().parse().ok()?))
}

/// CPU time of one frame by ffmpeg's swscale, one thread: with the filter less without it.
fn swscale(size: Size) -> Option<Duration> {
    let frames = 200u32;
    let run = |filter: &str| {
        let source =
            format!("color=gray:s={size}:r=30,format=nv12,loop=loop={frames}:size=1,trim=end_frame={frames}{filter}");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-threads", "1", "-filter_threads", "1", "-f", "lavfi", "-i", &source]);
        let before = children();
        let status = command.args(["-f", "null", "-"]).stdin(Stdio::null()).status().ok()?;
        status.success().then(|| children() - before)
    };
    let height = size.height * SIDE.width / size.width;
    let with = run(&format!(",scale={}:{height}:flags=bilinear,format=rgb24", SIDE.width))?;
    Some(with.saturating_sub(run("")?) / frames)
}

fn rivals() {
    println!("\nCPU time of NV12 to 640x640 CHW f32 in us, one thread, median of {TURNS} turns that alternate:");
    println!("{:10} {:>12} {:>12} {:>8} {:>16} {:>8}", "", "framelease", "OpenCV", "ratio", "swscale, NumPy", "ratio");
    for size in [HD, Size::new(1280, 720)] {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            times[0].push(ours(size));
            times[1].extend(python("opencv", size));
            times[2].extend(swscale(size).zip(python("numpy", size)).map(|(a, b)| a + b));
        }
        let [own, opencv, swscale] = times.map(|mut times| {
            times.sort();
            times.get(times.len() / 2).map(Duration::as_secs_f64)
        });
        let us = |seconds: Option<f64>| seconds.map_or("not here".to_owned(), |s| format!("{:.0}", s * 1e6));
        let ratio = |other: Option<f64>| own.zip(other).map_or(String::new(), |(a, b)| format!("{:.2}", a / b));
        let name = size.to_string();
        println!(
            "{name:10} {:>12} {:>12} {:>8} {:>16} {:>8}",
            us(own),
            us(opencv),
            ratio(opencv),
            us(swscale),
            ratio(swscale)
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(10);
    targets = tensors
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Cargo runs benchmarks with `--bench`; a test of them (`--test`) compares nothing.
    if std::env::args().any(|a| a == "--bench") {
        rivals();
    }
}
