//! What a converter draws from a test picture. Each picture is one job.

use std::sync::Arc;
use std::time::Duration;

use framelease::convert::{Blend, Converter, ConverterEvent, G2d, Layer, M2m, Plan, Request};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::{ColorSpace, Colorimetry, Encoding, Flip, FourCc, Layout, Range, Rect, Rotation, Size};
use framelease::frame::Frame;
use framelease::Received;

use super::super::common::Result;
use super::super::options::Options;
use super::paint::{self, distance, painted, Quarters, Rgb, BLUE, GREEN, PICTURE, RED, WHITE};
use super::{reply, unasked, Reply, LIBRARY};
use crate::picture;

const WAIT: Duration = Duration::from_secs(10);
const SIZE: Size = Size::new(128, 128);
const PAINTED: [FourCc; 8] = [
    FourCc::RGBX32,
    FourCc::XBGR32,
    FourCc::RGBA32,
    FourCc::RGB24,
    FourCc::BGR24,
    FourCc::NV12,
    FourCc::YUYV,
    FourCc::UYVY,
];
const RGBS: [FourCc; 6] =
    [FourCc::RGBX32, FourCc::XBGR32, FourCc::RGBA32, FourCc::ABGR32, FourCc::RGB24, FourCc::BGR24];
const YUVS: [FourCc; 3] = [FourCc::NV12, FourCc::YUYV, FourCc::UYVY];
const WITH_ALPHA: [FourCc; 2] = [FourCc::RGBA32, FourCc::ABGR32];
const WITHOUT_ALPHA: [FourCc; 6] =
    [FourCc::RGBX32, FourCc::XBGR32, FourCc::RGB24, FourCc::BGR24, FourCc::NV12, FourCc::YUYV];

fn open(node: &str) -> Result<Box<dyn Converter>> {
    Ok(if node == LIBRARY { Box::new(G2d::open()?) } else { Box::new(M2m::open(node)?) })
}

/// A job with the first pair of formats that the converter takes.
struct Job {
    plan: Arc<Plan>,
    source: Layout,
    target: Layout,
}

fn job(
    converter: &dyn Converter,
    request: &Request,
    formats: (&[FourCc], &[FourCc]),
    color: Colorimetry,
) -> Result<Job> {
    sized_job(converter, request, formats, color, (SIZE, SIZE))
}

fn sized_job(
    converter: &dyn Converter,
    request: &Request,
    (from, into): (&[FourCc], &[FourCc]),
    color: Colorimetry,
    (before, after): (Size, Size),
) -> Result<Job> {
    let planned = |from: FourCc, into: FourCc| {
        let source = converter.target_layout(from, before).or_else(|_| Layout::aligned(from, before, 64))?;
        let (source, target) = (source.with_colorimetry(color), converter.target_layout(into, after)?);
        let plan = Plan::new(request, &vec![source; request.layers.len()], &target)?;
        converter.check(&plan)?;
        Ok(Job { plan: Arc::new(plan), source, target })
    };
    let mut refused: Vec<(bool, framelease::Error)> = Vec::new();
    for &from in from {
        for &into in into {
            match planned(from, into) {
                Ok(job) => return Ok(job),
                Err(e) => {
                    // If the device has both formats, its reason is another one.
                    let is_known = [from, into].iter().all(|&format| converter.target_layout(format, after).is_ok());
                    refused.push((is_known, e));
                }
            }
        }
    }
    let reason = refused.iter().find(|(is_known, _)| *is_known).or(refused.first());
    Err(reason.map_or_else(|| "no formats to try".into(), |(_, e)| e.clone().into()))
}

/// Draws the source. The target is green before.
fn drawn(converter: &mut dyn Converter, job: &Job, source: Frame) -> Result<Frame> {
    all_drawn(converter, job, &[source])
}

fn all_drawn(converter: &mut dyn Converter, job: &Job, sources: &[Frame]) -> Result<Frame> {
    let mut target = paint::buffer(job.target)?;
    if PAINTED.contains(&job.target.fourcc()) {
        paint::fill(&mut target, [GREEN; 4])?;
    }
    if !converter.try_submit(&job.plan, sources, target)?.is_taken() {
        return unasked("the converter has no room");
    }
    match converter.recv(WAIT)? {
        Received::Item(ConverterEvent::Frame(frame)) => Ok(frame),
        Received::Item(ConverterEvent::Failed { error, .. }) => Err(error.into()),
        other => Err(format!("{other:?} instead of a picture").into()),
    }
}

/// A drawn picture.
struct Drawn {
    size: Size,
    rgb: Vec<u8>,
}

impl Drawn {
    fn new(frame: &Frame) -> Result<Self> {
        Ok(Self { size: frame.layout().size(), rgb: picture::rgb(frame)? })
    }

    /// The color at a place, in eighths of width and height.
    fn at(&self, x: usize, y: usize) -> Rgb {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let at = 3 * ((y * height / 8) * width + x * width / 8);
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// The middles of the quarters, each as the nearest of the four colors.
    fn quarters(&self) -> Quarters {
        [(2, 2), (6, 2), (2, 6), (6, 6)].map(|(x, y)| {
            let color = self.at(x, y);
            PICTURE.into_iter().min_by_key(|&known| distance(known, color)).unwrap_or(WHITE)
        })
    }
}

fn named(quarters: Quarters) -> String {
    let name = |color| match color {
        RED => "red",
        GREEN => "green",
        BLUE => "blue",
        _ => "white",
    };
    quarters.map(name).join(", ")
}

/// Draws the picture with a layer, and gives the result the name of the picture that it equals.
fn turned(node: &str, layer: Layer, known: &[(&str, Quarters)]) -> Result<Reply> {
    let mut converter = open(node)?;
    let job = job(&*converter, &Request::convert(layer), (&PAINTED, &PAINTED), Colorimetry::default())?;
    let frame = drawn(&mut *converter, &job, painted(job.source, PICTURE)?)?;
    let found = Drawn::new(&frame)?.quarters();
    let (source, target) = (job.source.fourcc(), job.target.fourcc());
    match known.iter().find(|(_, quarters)| *quarters == found) {
        Some((name, _)) => reply(name, format!("{name} ({source} to {target})")),
        None => reply("unknown", format!("red, green, blue, white became {} ({source} to {target})", named(found))),
    }
}

const CLOCKWISE: Quarters = [BLUE, RED, WHITE, GREEN];
const COUNTERCLOCKWISE: Quarters = [GREEN, WHITE, RED, BLUE];

pub fn rotate(_: &Options, node: &str) -> Result<Reply> {
    let known = [("clockwise", CLOCKWISE), ("counterclockwise", COUNTERCLOCKWISE), ("not at all", PICTURE)];
    turned(node, Layer::default().rotation(Rotation::Clockwise90), &known)
}

pub fn flip(_: &Options, node: &str) -> Result<Reply> {
    let known = [("flip, then turn", [WHITE, GREEN, BLUE, RED]), ("turn, then flip", [RED, BLUE, GREEN, WHITE])];
    turned(node, Layer::default().flip(Flip::Horizontal).rotation(Rotation::Clockwise90), &known)
}

pub fn outside(_: &Options, node: &str) -> Result<Reply> {
    let mut converter = open(node)?;
    let middle = Rect::new(32, 32, Size::new(64, 64));
    let request = Request::compose([Layer::default().place(middle)]).background(None);
    let job = job(&*converter, &request, (&PAINTED, &PAINTED), Colorimetry::default())?;
    let drawn = Drawn::new(&drawn(&mut *converter, &job, painted(job.source, [RED; 4])?)?)?;
    for (x, y) in [(1, 1), (7, 1), (4, 1), (1, 4), (7, 4), (4, 7), (7, 7)] {
        let color = drawn.at(x, y);
        if distance(color, GREEN) > 60 {
            return reply("changed", format!("changed: green became {color:?} at {x}/8, {y}/8"));
        }
    }
    let inside = drawn.at(4, 4);
    match distance(inside, RED) > 60 {
        true => reply("nothing drawn", format!("nothing was drawn: {inside:?} inside")),
        false => reply("kept", format!("kept ({} to {})", job.source.fourcc(), job.target.fourcc())),
    }
}

/// Half-transparent red over blue.
pub fn blend(_: &Options, node: &str) -> Result<Reply> {
    let mut converter = open(node)?;
    let over = Layer::default().blend(Blend::Straight).alpha(128).z_order(1);
    let request = Request::compose([over, Layer::default()]);
    let job = job(&*converter, &request, (&PAINTED, &RGBS), Colorimetry::default())?;
    let sources = [painted(job.source, [RED; 4])?, painted(job.source, [BLUE; 4])?];
    let color = Drawn::new(&all_drawn(&mut *converter, &job, &sources)?)?.at(4, 4);
    let known = [("mixed", [128, 0, 127]), ("opaque", RED), ("not drawn", BLUE)];
    let (value, nearest) = known.into_iter().min_by_key(|(_, known)| distance(*known, color)).unwrap_or(known[0]);
    match distance(nearest, color) < 40 {
        true => reply(value, format!("{value}: red over blue is {color:?}")),
        false => reply("wrong", format!("wrong: red over blue is {color:?}")),
    }
}

/// The picture is scaled from and to this size.
const LARGE: u32 = 256;

pub fn scale(_: &Options, node: &str) -> Result<Reply> {
    let mut converter = open(node)?;
    let mut scaled = |before: u32, after: u32| -> Result<()> {
        let sizes = (Size::new(before, before), Size::new(after, after));
        let request = Request::convert(Layer::default());
        let job = sized_job(&*converter, &request, (&PAINTED, &PAINTED), Colorimetry::default(), sizes)?;
        let frame = drawn(&mut *converter, &job, painted(job.source, PICTURE)?)?;
        if Drawn::new(&frame)?.quarters() == PICTURE {
            Ok(())
        } else {
            unasked("another picture")
        }
    };
    let mut refused = String::new();
    let mut most = |scaled: &mut dyn FnMut(u32) -> Result<()>| {
        let mut found = 1;
        for factor in [2, 4, 8, 16] {
            match scaled(factor) {
                Ok(()) => found = factor,
                Err(e) => {
                    refused += &format!("; {factor}: {e}");
                    break;
                }
            }
        }
        found
    };
    let down = most(&mut |factor| scaled(LARGE, LARGE / factor));
    let up = most(&mut |factor| scaled(LARGE / factor, LARGE));
    let value = format!("1/{down} to {up}");
    reply(&value, format!("{value}, of {LARGE}x{LARGE}{refused}"))
}

/// Values that both matrices and both ranges make different colors of.
const YUV: Rgb = [120, 70, 180];

/// Draws [`YUV`] to RGB. The source names these colors.
fn read_as(node: &str, encoding: Encoding, range: Range) -> Result<Rgb> {
    let mut converter = open(node)?;
    let color = Colorimetry { space: ColorSpace::Default, encoding, range, ..Colorimetry::default() };
    let job = job(&*converter, &Request::convert(Layer::default()), (&YUVS, &RGBS), color)?;
    // The values that are wanted, whatever the source's colors are.
    let (wide, full) = (encoding == Encoding::Bt709, range == Range::Full);
    let source = painted(job.source, [paint::rgb(YUV, wide, full); 4])?;
    Ok(Drawn::new(&drawn(&mut *converter, &job, source)?)?.at(4, 4))
}

/// Of each named set of colors: which of both alternatives the device used.
fn read_twice(node: &str, named: [(&str, Encoding, Range); 2], known: [(&str, bool, bool); 2]) -> Result<Reply> {
    let mut used = Vec::new();
    let mut text = Vec::new();
    for (name, encoding, range) in named {
        match read_as(node, encoding, range) {
            Ok(color) => {
                let nearest = known.into_iter().min_by_key(|k| distance(paint::rgb(YUV, k.1, k.2), color));
                let found = nearest.map_or("", |(name, ..)| name);
                used.push(found);
                text.push(format!("{name} is read as {found}"));
            }
            Err(e) => {
                used.push("refused");
                text.push(format!("{name} is refused: {e}"));
            }
        }
    }
    let [first, second] = named.map(|(name, ..)| name);
    let value = match used[..] {
        [a, b] if a == first && b == second => "as named".to_owned(),
        ["refused", "refused"] => return Err(text.join("; ").into()),
        [a, b] => format!("{a}, {b}"),
        _ => String::new(),
    };
    reply(&value, text.join("; "))
}

pub fn matrix(_: &Options, node: &str) -> Result<Reply> {
    let named = [("BT.601", Encoding::Bt601, Range::Limited), ("BT.709", Encoding::Bt709, Range::Limited)];
    read_twice(node, named, [("BT.601", false, false), ("BT.709", true, false)])
}

pub fn range(_: &Options, node: &str) -> Result<Reply> {
    let named = [("limited", Encoding::Bt601, Range::Limited), ("full", Encoding::Bt601, Range::Full)];
    read_twice(node, named, [("limited", false, false), ("full", false, true)])
}

/// The first bytes of the target's first row.
fn first_bytes<const N: usize>(frame: &Frame) -> Result<[u8; N]> {
    let mut row = vec![0; frame.layout().row_bytes(0) as usize];
    frame.read(DEFAULT_WAIT)?.copy_row(0, 0, &mut row)?;
    Ok(std::array::from_fn(|i| row[i]))
}

pub fn alpha(_: &Options, node: &str) -> Result<Reply> {
    let mut converter = open(node)?;
    let request = Request::convert(Layer::default());
    let job = job(&*converter, &request, (&WITHOUT_ALPHA, &WITH_ALPHA), Colorimetry::default())?;
    let frame = drawn(&mut *converter, &job, painted(job.source, PICTURE)?)?;
    let [.., alpha] = first_bytes::<4>(&frame)?;
    reply(&alpha.to_string(), format!("{alpha} ({} to {})", job.source.fourcc(), job.target.fourcc()))
}

pub fn rgb565(_: &Options, node: &str) -> Result<Reply> {
    let mut converter = open(node)?;
    let request = Request::convert(Layer::default());
    let job = job(&*converter, &request, (&PAINTED, &[FourCc::RGB565]), Colorimetry::default())?;
    let frame = drawn(&mut *converter, &job, painted(job.source, [RED; 4])?)?;
    let word = u16::from_le_bytes(first_bytes(&frame)?);
    // Red's five bits, of which a device may miss the lowest.
    let value = match (word & 0xf000, word & 0x001e) {
        (0xf000, 0) => "as V4L2's RGBP",
        (0, 0x1e) => "red and blue exchanged",
        _ => "unknown",
    };
    reply(value, format!("{value}: red is {word:#06x}"))
}
