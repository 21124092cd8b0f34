//! Test pattern, PNG or camera as frames.

use std::sync::Arc;
use std::time::Duration;

use framelease::capture::{Camera, CameraEvent, Fit, FrameSource, TestPattern};
use framelease::convert::{Converter, ConverterEvent, Cpu, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, FrameMut, Pool};
use framelease::Received;

use super::common;
use super::options::{Input, Options};

const WAIT: Duration = Duration::from_secs(5);

pub enum Source {
    Live(Box<dyn FrameSource>),
    Picture(Frame),
}

impl Source {
    pub fn open(input: &Input, o: &Options, allocator: &Allocator) -> common::Result<Self> {
        Ok(match input {
            Input::Pattern => {
                let builder = TestPattern::builder(o.input_size).fourcc(o.from).buffers(2).unpaced();
                Self::Live(Box::new(builder.allocator(allocator.clone()).start()?))
            }
            Input::Png(path) => Self::Picture(picture(path, o.from, allocator).map_err(|e| format!("{path}: {e}"))?),
            Input::Camera(device) => {
                let builder = Camera::builder().formats([o.from]).size(o.input_size).fit(Fit::Exact);
                let builder = common::camera(builder, device);
                Self::Live(Box::new(builder.open()?))
            }
        })
    }

    pub fn layout(&self) -> common::Result<Layout> {
        match self {
            Self::Live(source) => Ok(*source.layout()?),
            Self::Picture(frame) => Ok(*frame.layout()),
        }
    }

    pub fn next(&mut self) -> common::Result<Frame> {
        match self {
            Self::Picture(frame) => Ok(frame.clone()),
            Self::Live(source) => match source.recv(WAIT)? {
                Received::Item(CameraEvent::Frame(frame)) => Ok(frame),
                Received::Item(CameraEvent::Lost(e)) => Err(e.into()),
                Received::Nothing => Err(format!("no frame in {WAIT:?}").into()),
                other => Err(format!("the source changed or ended: {other:?}").into()),
            },
        }
    }
}

/// A PNG as a frame of the format that was asked for.
fn picture(path: &str, fourcc: FourCc, allocator: &Allocator) -> common::Result<Frame> {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path)?));
    decoder.set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("the picture is too large")?];
    let info = reader.next_frame(&mut pixels)?;
    let (size, pixels) = (Size::new(info.width, info.height), &pixels[..info.buffer_size()]);
    let grey = info.color_type == png::ColorType::GrayscaleAlpha;
    let rgba = Layout::packed(FourCc::RGBA32, size)?;
    let mut frame = Pool::new(allocator, rgba, 1)?.try_acquire().ok_or("no buffer")?;
    {
        let mut write = frame.write(DEFAULT_WAIT)?;
        for (y, row) in (0..).zip(pixels.chunks_exact(info.line_size)) {
            if grey {
                let row: Vec<u8> = row.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect();
                write.copy_row(0, y, &row)?;
            } else {
                write.copy_row(0, y, row)?;
            }
        }
    }
    let frame = frame.freeze_full(0, 0);
    if fourcc == rgba.fourcc() {
        return Ok(frame);
    }
    let mut cpu = Cpu::new()?;
    let plan = Plan::new(&Request::convert(Layer::default()), &[rgba], &cpu.target_layout(fourcc, size)?)?;
    let target = Pool::new(allocator, *plan.target(), 1)?.try_acquire().ok_or("no buffer")?;
    converted(&mut cpu, &Arc::new(plan), &[frame], target)
}

/// One conversion, from its beginning to its end.
pub fn converted(
    converter: &mut dyn Converter,
    plan: &Arc<Plan>,
    sources: &[Frame],
    target: FrameMut,
) -> common::Result<Frame> {
    if !converter.try_submit(plan, sources, target)?.is_taken() {
        return Err(format!("{} has no room", converter.name()).into());
    }
    match converter.recv(WAIT)? {
        Received::Item(ConverterEvent::Frame(frame)) => Ok(frame),
        Received::Item(ConverterEvent::Failed { error, .. } | ConverterEvent::Lost(error)) => Err(error.into()),
        other => Err(format!("{} gave {other:?} in {WAIT:?}", converter.name()).into()),
    }
}

/// Memory that devices import, if the machine has some: contiguous and uncached heaps first, since 2D engines take no
/// scattered pages and are not coherent with caches.
pub fn allocator(asked: Option<&str>) -> common::Result<(Allocator, MemoryKind)> {
    let candidates = match asked {
        Some("udmabuf") => vec![Allocator::Udmabuf],
        Some("memfd") => vec![Allocator::Memfd],
        Some(path) => vec![Allocator::Heap(path.into())],
        None => {
            let rank = |a: &Allocator| match a.to_string() {
                name if name.contains("cma-uncached") => 0,
                name if name.contains("cma") => 1,
                _ => 2,
            };
            let mut heaps = Allocator::heaps();
            heaps.sort_by_key(rank);
            heaps.into_iter().chain([Allocator::Udmabuf, Allocator::Memfd]).collect()
        }
    };
    let mut last = None;
    for allocator in candidates {
        match allocator.allocate(4096, "probe") {
            Ok(buffer) => return Ok((allocator, buffer.kind())),
            Err(e) => last = Some(e),
        }
    }
    Err(last.map_or_else(|| "no allocator of shared memory works here".into(), Into::into))
}
