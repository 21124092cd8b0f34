//! Captures frames: to a file as raw pixels, one as a PNG, or only counting.

#[path = "common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraEvent, Fit, FrameSource};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FrameInterval, Size};
use framelease::frame::{Frame, FrameFlags};
use framelease::stats::{cpu_bytes, syscalls};
use framelease::v4l2::CacheHint;
use framelease::{Received, Station};

#[path = "common/picture.rs"]
mod picture;

const HELP: &str = "\
Captures frames of a camera.

Usage: capture [OPTIONS]

  --device auto|PATH   the camera (default: the first)
  --size WxH           picture size; any other size is refused (default: the camera's)
  --fourcc C[,C]       acceptable formats, best first: NV12, YUYV, NV12M, … (default: the camera's)
  --fps F              frame rate (default: the camera's)
  --input N            the camera's input
  --frames N           stop after N frames, or 0 for never (default 300)
  --buffers N          buffers to request (default 12)
  --cached             request memory that the CPU reads through its cache
  --heap PATH|udmabuf  let the camera fill buffers of this dma-heap, or of udmabuf
  --allow-copy         copy each frame if the driver can neither export nor import buffers
  --output FILE        write the pixels of every frame, without padding ('-': standard output)
  --png FILE           write the last frame as a PNG
  --json               print the figures as one JSON object
  --help               print this text
";

#[derive(Default)]
struct Options {
    builder: framelease::capture::CameraBuilder,
    frames: Option<u64>,
    output: Option<String>,
    png: Option<String>,
    json: bool,
}

fn main() -> ExitCode {
    common::exit(run())
}

fn parse() -> common::Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let mut o = Options::default();
    while let Some(arg) = parser.next()? {
        let builder = std::mem::take(&mut o.builder);
        o.builder = match arg {
            Long("device") => common::camera(builder, &common::value::<String>(&mut parser, "device")?),
            Long("size") => builder.size(common::value::<Size>(&mut parser, "size")?).fit(Fit::Exact),
            Long("fourcc") => builder.formats(common::formats(&mut parser)?),
            Long("fps") => builder.interval(FrameInterval::from_fps(common::value(&mut parser, "fps")?)),
            Long("input") => builder.input(common::value(&mut parser, "input")?),
            Long("buffers") => builder.buffers(common::value(&mut parser, "buffers")?),
            Long("cached") => builder.cache(CacheHint::Cached),
            Long("allow-copy") => builder.allow_copy(),
            Long("heap") => builder.allocator(match common::value::<String>(&mut parser, "heap")?.as_str() {
                "udmabuf" => Allocator::Udmabuf,
                path => Allocator::Heap(path.into()),
            }),
            other => {
                match other {
                    Long("frames") => o.frames = Some(common::value(&mut parser, "frames")?),
                    Long("output") => o.output = Some(common::value(&mut parser, "output")?),
                    Long("png") => o.png = Some(common::value(&mut parser, "png")?),
                    Long("json") => o.json = true,
                    Short('h') | Long("help") => {
                        print!("{HELP}{}", common::DEVICES);
                        return Ok(None);
                    }
                    other => return Err(other.unexpected().into()),
                }
                builder
            }
        };
    }
    Ok(Some(o))
}

fn run() -> common::Result<()> {
    let Some(o) = parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let wanted = o.frames.unwrap_or(300);
    let failed = |e: std::io::Error| format!("{}: {e}", o.output.as_deref().unwrap_or_default());
    let mut out: Option<Box<dyn Write>> = match o.output.as_deref() {
        None => None,
        Some("-") => Some(Box::new(BufWriter::new(std::io::stdout()))),
        Some(path) => Some(Box::new(BufWriter::new(File::create(path).map_err(|e| format!("{path}: {e}"))?))),
    };
    let mut camera = o.builder.open()?;
    let mut layout = *camera.layout()?;
    let mut progress = common::Progress::new();
    let (start, mut calls, mut first) = (Instant::now(), syscalls(), None);
    let mut last: Option<Frame> = None;
    while !common::stopped(&stop) && (wanted == 0 || camera.stats().frames < wanted) {
        match camera.recv(Duration::from_millis(200)) {
            Ok(Received::Item(CameraEvent::Frame(frame))) => {
                if let Some(out) = &mut out {
                    // A damaged frame may have less data than its layout; it is counted, not written.
                    if !frame.meta().flags.contains(FrameFlags::ERROR) {
                        frame.read(DEFAULT_WAIT)?.write_to(out).map_err(failed)?;
                    }
                }
                if first.is_none() {
                    (first, calls) = (Some(Instant::now()), syscalls());
                }
                last = o.png.is_some().then_some(frame);
            }
            Ok(Received::Item(CameraEvent::Lost(e))) if camera.stats().frames > 0 => {
                eprintln!("the stream ended: {e}");
                break;
            }
            Ok(Received::Item(CameraEvent::Lost(e))) => return Err(e.into()),
            Ok(Received::Item(CameraEvent::Changed(now))) => {
                eprintln!("the source changed: frames are {now} from here on");
                layout = now;
            }
            Ok(Received::Item(_)) => {}
            Ok(Received::Ended) => break,
            Ok(Received::Nothing) if start.elapsed() > Duration::from_secs(5) && first.is_none() => {
                return Err(format!("no frame in 5 s from {}", camera.device().info()).into());
            }
            Ok(Received::Nothing) => {}
            Err(e) => return Err(e.into()),
        }
        let stats = camera.stats();
        progress.show(|| format!("{layout}: {} frames, {} lost, {} in error", stats.frames, stats.lost, stats.errors));
    }
    progress.done();
    let calls = syscalls() - calls;
    if let Some(mut out) = out {
        out.flush().map_err(failed)?;
    }
    if let (Some(path), Some(frame)) = (&o.png, &last) {
        let (size, file) = (layout.size(), File::create(path).map_err(|e| format!("{path}: {e}"))?);
        picture::write_png(BufWriter::new(file), size.width, size.height, &picture::rgb(frame)?)?;
    }
    // Pixels and figures do not mix.
    if o.output.as_deref() == Some("-") {
        return Ok(());
    }
    report(&camera, o.json, first, calls)
}

fn report(camera: &Camera, json: bool, first: Option<Instant>, calls: u64) -> common::Result<()> {
    let (stats, layout, info) = (camera.stats(), camera.layout()?, camera.device().info());
    let seconds = first.map_or(0.0, |t| t.elapsed().as_secs_f64());
    let steady = stats.frames.saturating_sub(1).max(1) as f64;
    let (fps, calls) = (if seconds > 0.0 { steady / seconds } else { 0.0 }, calls as f64 / steady);
    let read = cpu_bytes().read;
    let (fourcc, size) = (layout.fourcc(), layout.size());
    if json {
        println!(
            "{{\"device\":{},\"driver\":{},\"width\":{},\"height\":{},\"fourcc\":{},\"stride_bytes\":{},\"buffers\":{},\
             \"frames\":{},\"lost\":{},\"errors\":{},\"fps\":{fps:.2},\"syscalls_per_frame\":{calls:.2},\
             \"cpu_bytes_read\":{read}}}",
            common::quoted(&info.path.display().to_string()),
            common::quoted(&info.driver),
            size.width,
            size.height,
            common::quoted(&fourcc.to_string()),
            layout.planes().first().map_or(0, |p| p.stride_bytes),
            camera.buffers()?.slots(),
            stats.frames,
            stats.lost,
            stats.errors,
        );
    } else {
        println!(
            "{info}: {layout} in {} buffers, CPU reads {:?}",
            camera.buffers()?.slots(),
            camera.buffers()?.cpu_reads()
        );
        println!("{} frames at {fps:.1} fps, {} lost, {} in error", stats.frames, stats.lost, stats.errors);
        println!("{calls:.2} system calls a frame, {read} pixel bytes read by the CPU");
    }
    Ok(())
}
