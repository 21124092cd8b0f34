//! Both ends: a camera that agrees with the encoder, or a test pattern made as the encoder wants it.

use framelease::capture::{Camera, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::encode::{agree, source_layout, Encoder, Quirks, SourceMemory};
use framelease::format::FourCc;
use framelease::v4l2::{Device, Direction};

use super::common;
use super::options::Options;
use super::source::Source;

/// Formats of the test pattern, best first.
const PATTERN_FORMATS: [&[u8; 4]; 5] = [b"NV12", b"NM12", b"YUYV", b"RGB3", b"XR24"];

/// Opens both ends so that they fit.
pub fn open(o: &Options) -> common::Result<(Source, Encoder)> {
    let device = match &o.device {
        Some(path) => Device::open(path)?,
        None => Encoder::find(o.codec)?,
    };
    match &o.camera {
        Some(camera) => with_camera(o, device, camera),
        None => with_pattern(o, device),
    }
}

fn with_camera(o: &Options, device: Device, camera: &str) -> common::Result<(Source, Encoder)> {
    let camera = match camera {
        "auto" => Device::find(|d| d.is_capture())?,
        path => Device::open(path)?,
    };
    let quirks = Quirks::of(device.info());
    let agreement = agree(&device, &camera, &o.params(), &o.formats, quirks)?;
    let mut builder = Camera::builder().device(camera).layout(&agreement.source).interval(o.interval()).buffers(8);
    if agreement.memory == SourceMemory::Allocated {
        builder = builder.allocator(allocator()?);
    }
    let camera = builder.open()?;
    let params = o.params().resized(agreement.size);
    let encoder = Encoder::builder(params).device(device).open(camera.buffers()?)?;
    Ok((Source::Camera(Box::new(camera)), encoder))
}

fn with_pattern(o: &Options, device: Device) -> common::Result<(Source, Encoder)> {
    let params = o.params();
    let offered: Vec<FourCc> = {
        // The coded format decides what else there is.
        let first = o.formats.first().copied().unwrap_or(FourCc::new(b"NV12"));
        let _ = source_layout(&device, &params, first);
        device.formats(Direction::Output)?.iter().map(|offer| offer.fourcc).collect()
    };
    let own = PATTERN_FORMATS.map(FourCc::new);
    let wanted = if o.formats.is_empty() { &own[..] } else { &o.formats };
    let Some(&fourcc) = wanted.iter().find(|f| offered.contains(f)) else {
        let list = |all: &[FourCc]| all.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!("the test pattern could be {}; the encoder reads {}", list(wanted), list(&offered)).into());
    };
    let layout = source_layout(&device, &params, fourcc)?;
    let builder = TestPattern::builder(o.size).layout(layout).interval(o.interval()).allocator(allocator()?);
    let pattern = builder.start()?;
    let encoder = Encoder::builder(params).device(device).open(pattern.buffers())?;
    Ok((Source::Pattern(pattern), encoder))
}

/// The first that makes dma-bufs here.
fn allocator() -> common::Result<Allocator> {
    let heaps = ["linux,cma", "reserved", "system"].map(|name| Allocator::Heap(format!("/dev/dma_heap/{name}").into()));
    let mut refused = Vec::new();
    for allocator in heaps.into_iter().chain([Allocator::Udmabuf]) {
        match allocator.allocate(4096, "probe") {
            Ok(_) => return Ok(allocator),
            Err(e) => refused.push(e.to_string()),
        }
    }
    Err(format!("nothing here makes dma-bufs: {}", refused.join("; ")).into())
}
