//! Test pattern, PNG or camera as frames.

use std::sync::Arc;
use std::time::Duration;

use framelease::capture::{Camera, CameraEvent, FrameSource, SizeFit, TestPattern};
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::{Received, Station, Submit};

use super::common;
use super::options::{Input, Options};

const WAIT: Duration = Duration::from_secs(5);

pub enum Source {
    Pattern(TestPattern),
    Picture(Frame),
    Camera(Box<Camera>),
}

impl Source {
    pub fn open(input: &Input, o: &Options, allocator: &Allocator) -> common::Result<Self> {
        Ok(match input {
            Input::Pattern => {
                let builder = TestPattern::builder(o.input_size).fourcc(o.from).buffers(2).unpaced();
                Self::Pattern(builder.allocator(allocator.clone()).start()?)
            }
            Input::Png(path) => Self::Picture(picture(path, o.from, allocator).map_err(|e| format!("{path}: {e}"))?),
            Input::Camera(device) => {
                let builder = Camera::builder().formats([o.from]).size(o.input_size).fit(SizeFit::Exact);
                let builder = if device == "auto" { builder } else { builder.path(device) };
                Self::Camera(Box::new(builder.open()?))
            }
        })
    }

    pub fn layout(&self) -> Layout {
        match self {
            Self::Pattern(p) => *p.buffers().layout(),
            Self::Picture(frame) => *frame.layout(),
            Self::Camera(camera) => {
                camera.layout().copied().unwrap_or_else(|_| unreachable!("it has just been opened"))
            }
        }
    }

    pub fn next(&mut self) -> common::Result<Frame> {
        match self {
            Self::Pattern(p) => p.recv(WAIT)?.ok_or_else(|| "the test pattern has no free buffer".into()),
            Self::Picture(frame) => Ok(frame.clone()),
            Self::Camera(camera) => match camera.recv(WAIT)? {
                Received::Item(CameraEvent::Frame(frame)) => Ok(frame),
                Some(_) => Err("the camera's stream changed or ended".into()),
                None => Err(format!("no frame in {WAIT:?} from the camera").into()),
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
    let rgba = Layout::packed(FourCc::new(b"AB24"), size)?;
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
    cpu.submit(&Arc::new(plan), &[frame], target)?;
    Ok(cpu.done(WAIT)?)
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
    Err(last.map_or_else(|| "there is no memory to share".into(), Into::into))
}
