//! What a camera answers.

use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraBuilder, CameraEvent, FrameSource};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FormatKind, Layout};
use framelease::frame::{CpuReads, Frame, Pool};
use framelease::v4l2::CacheHint;
use framelease::{FrameEvent, Station};

use super::super::common::Result;
use super::super::options::Options;
use super::super::paths::FORMATS;
use super::{reply, Reply};

const WAIT: Duration = Duration::from_secs(5);
const BUFFERS: usize = 4;

fn builder(o: &Options, node: &str) -> CameraBuilder {
    Camera::builder().path(node).formats(FORMATS).size(o.size).buffers(BUFFERS)
}

fn frame(camera: &mut Camera) -> Result<Frame> {
    Ok(camera.recv(WAIT)?.item().and_then(CameraEvent::into_frame).ok_or("no frame came")?)
}

pub fn cache(o: &Options, node: &str) -> Result<Reply> {
    let camera = builder(o, node).cache(CacheHint::Cached).open()?;
    match camera.buffers()?.cpu_reads() {
        CpuReads::Cached => reply("yes", "yes: reads of its buffers are cached"),
        CpuReads::Uncached => reply("no", "no: reads of its buffers are uncached"),
        _ => reply("unknown", "the driver does not report it"),
    }
}

/// MiB/s: the best of several reads, which the machine disturbed least.
fn speed(mut frames: impl FnMut() -> Result<Frame>) -> Result<f64> {
    let mut best = 0.0f64;
    let mut bytes = Vec::new();
    for _ in 0..8 {
        let frame = frames()?;
        let read = frame.read(DEFAULT_WAIT)?;
        bytes.clear();
        let start = Instant::now();
        read.write_to(&mut bytes)?;
        best = best.max(bytes.len() as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20));
    }
    Ok(best)
}

pub fn reads(o: &Options, node: &str) -> Result<Reply> {
    let mut camera = builder(o, node).open()?;
    let layout: Layout = *camera.layout()?;
    let camera_speed = speed(|| frame(&mut camera))?;
    let pool = Pool::new(&Allocator::Memfd, layout, 1)?;
    let cached = speed(|| Ok(pool.try_acquire().ok_or("the buffer is leased")?.freeze_full(0, 0)))?;
    let text = format!("at {camera_speed:.0} MiB/s; cached memory at {cached:.0} MiB/s");
    reply(&format!("{camera_speed:.0} to {cached:.0}"), text)
}

pub fn import(o: &Options, node: &str) -> Result<Reply> {
    let allocator = Allocator::for_devices()?;
    let mut camera = match builder(o, node).allocator(allocator.clone()).open() {
        Ok(camera) => camera,
        Err(e) => return reply("no", format!("not from {allocator}: {e}")),
    };
    frame(&mut camera)?;
    reply("yes", format!("yes, from {allocator}"))
}

pub fn colors(o: &Options, node: &str) -> Result<Reply> {
    let camera = builder(o, node).open()?;
    let layout = *camera.layout()?;
    let (color, kind) = (layout.colorimetry(), layout.fourcc().info().map_or(FormatKind::Yuv, |i| i.kind));
    let (matrix, range) = (color.matrix(), color.quantization(kind));
    let value = format!("{:?} {matrix:?} {range:?}", color.space);
    let text = format!("{}: space {:?}, matrix {matrix:?}, range {range:?}", layout.fourcc(), color.space);
    reply(&value, text)
}
