//! The pictures that every converter must draw correctly or refuse: one suite for the CPU, mem-to-mem devices and G2D.

#![allow(dead_code)] // No test program uses all of it.

#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../converting/mod.rs"]
pub mod converting;
pub mod picture;
#[path = "../../examples/common/picture.rs"]
pub mod rgb;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use converting::Jobs;
use framelease::convert::{Blend, Color, Converter, Cpu, Layer, Plan, Request, Scaling};
use framelease::dmabuf::{Allocator, MemoryKind};
use framelease::format::{
    ColorSpace, Colorimetry, Encoding, Flip, FormatKind, FourCc, Layout, Range, Rect, Rotation, Size, FORMATS,
};
use framelease::frame::{Frame, Pool};
use framelease::ErrorKind;

use picture::Rgba;

/// Long enough for an emulated processor. A test waits this long only if it fails.
pub const WAIT: Duration = Duration::from_secs(60);

/// One conversion with a known result.
#[derive(Clone, Debug)]
pub struct Case {
    pub request: Request,
    pub sources: Vec<Layout>,
    pub target: Layout,
}

/// The result of the suite for a backend.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that were drawn correctly.
    pub drawn: Vec<String>,
    /// Cases that were refused, with the rule.
    pub refused: Vec<String>,
    /// Least PSNR in dB.
    pub least_db: f64,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources: Vec<String> = self.sources.iter().map(|l| format!("{l} {:?}", l.colorimetry().matrix())).collect();
        write!(f, "{} to {} {:?}", sources.join(" + "), self.target, self.target.colorimetry().matrix())?;
        for (i, l) in self.request.layers.iter().enumerate().filter(|(_, l)| **l != Layer::default()) {
            write!(f, "; layer {i}: {l:?}")?;
        }
        Ok(())
    }
}

/// A layout with the stride alignment that the converter needs, or with other strides.
pub fn layout(name: &str, width: u32, height: u32, stride_align: u32) -> Layout {
    Layout::aligned(name.parse().unwrap(), Size::new(width, height), stride_align).unwrap()
}

fn colored(layout: Layout, encoding: Encoding, range: Range) -> Layout {
    layout.with_colorimetry(Colorimetry { space: ColorSpace::Default, encoding, range, ..Colorimetry::default() })
}

fn rect(left: i32, top: i32, width: u32, height: u32) -> Rect {
    Rect::new(left, top, Size::new(width, height))
}

/// Whether the CPU draws from one format to the other.
fn is_drawn(from: FourCc, to: FourCc) -> bool {
    let [from, to] = [from, to].map(|fourcc| Layout::aligned(fourcc, Size::new(64, 48), 16).unwrap());
    let plan = Plan::new(&Request::convert(Layer::default()), &[from], &to).unwrap();
    Cpu::new().unwrap().check(&plan).is_ok()
}

/// Formats that the CPU draws from, with one memory plane or several.
pub fn raw_formats() -> impl Iterator<Item = FourCc> {
    let has_colors = FORMATS.iter().filter(|i| matches!(i.kind, FormatKind::Yuv | FormatKind::Rgb));
    has_colors.map(|i| i.fourcc).filter(|fourcc| is_drawn(*fourcc, FourCc::NV12))
}

/// Those that it also draws to. A unit test counts them.
pub fn target_formats() -> impl Iterator<Item = FourCc> {
    raw_formats().filter(|fourcc| is_drawn(FourCc::NV12, *fourcc))
}

/// Returns all cases: each format to and from RGBA and NV12, sizes, odd sizes, strides, orientations, colors, blends.
/// `align` is the stride alignment of all layouts, except in the cases about strides.
pub fn cases(align: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut one = |layer: Layer, source: Layout, target: Layout| {
        cases.push(Case { request: Request::convert(layer), sources: vec![source], target });
    };
    let of = |name: &str, w: u32, h: u32| layout(name, w, h, align);
    let plain = Layer::default();
    for format in raw_formats() {
        let name = format.info().unwrap().name;
        for other in ["RGBA32", "NV12", "YUYV", "BGR24"] {
            one(plain, of(name, 64, 48), of(other, 64, 48));
        }
    }
    for format in target_formats() {
        let name = format.info().unwrap().name;
        for other in ["RGBA32", "NV12", "YUYV", "BGR24"] {
            one(plain, of(other, 64, 48), of(name, 64, 48));
        }
    }
    for (name, to) in [("NV12", "RGBA32"), ("NV12", "NV12"), ("YUYV", "NV12"), ("RGBA32", "RGB565"), ("YUYV", "YUYV")] {
        // Larger, smaller, one side only, far, odd.
        for (w, h) in [(128, 96), (32, 24), (64, 24), (34, 90), (200, 150), (63, 47)] {
            one(plain, of(name, 64, 48), of(to, w, h));
        }
        one(plain, of(name, 63, 47), of(to, 64, 48));
        one(plain, of(name, 320, 240), of(to, 64, 64));
        one(plain, of(name, 256, 192), of(to, 64, 48));
        // Strides beyond the row, and strides that differ.
        for stride in [64, 256] {
            one(plain, layout(name, 60, 40, stride), layout(to, 60, 40, 512 / stride * 16));
        }
        for rotation in [Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270] {
            for flip in [Flip::None, Flip::Horizontal, Flip::Vertical] {
                let layer = plain.rotation(rotation).flip(flip);
                let (w, h) = if rotation.is_quarter() { (48, 64) } else { (64, 48) };
                one(layer, of(name, 64, 48), of(to, w, h));
                one(layer, of(name, 64, 48), of(to, 80, 80));
            }
        }
        one(plain.crop(rect(16, 8, 32, 32)), of(name, 64, 48), of(to, 32, 32));
        one(plain.crop(rect(2, 4, 50, 30)), of(name, 64, 48), of(to, 100, 80));
        one(plain.place(rect(16, 16, 32, 16)), of(name, 64, 48), of(to, 64, 48));
        one(plain.fit(Scaling::Keep).margin(Color::rgb(200, 30, 90)), of(name, 64, 48), of(to, 96, 96));
        one(plain.fit(Scaling::Keep).rotation(Rotation::Clockwise90), of(name, 64, 48), of(to, 96, 96));
    }
    let wide = [Encoding::Bt601, Encoding::Bt709];
    for (from, to) in [(0, 1), (1, 0), (1, 1)] {
        for (from_range, to_range) in [(Range::Limited, Range::Full), (Range::Full, Range::Limited)] {
            let nv12 = colored(of("NV12", 64, 48), wide[from], from_range);
            one(plain, nv12, colored(of("YUYV", 64, 48), wide[to], to_range));
            one(plain, nv12, of("RGBA32", 64, 48));
            one(plain, of("RGBA32", 64, 48), colored(of("NV12", 64, 48), wide[to], to_range));
        }
    }
    let quarter = |x: i32, y: i32| plain.place(rect(x, y, 32, 32));
    let grid = [quarter(0, 0), quarter(32, 0), quarter(0, 32), quarter(32, 32).rotation(Rotation::Half)];
    let inset = |blend: Blend, alpha: u8| plain.place(rect(16, 12, 40, 40)).blend(blend).alpha(alpha);
    for to in ["RGBA32", "NV12", "XBGR32"] {
        cases.push(Case {
            request: Request::compose(grid),
            sources: vec![of("NV12", 64, 48), of("YUYV", 64, 48), of("RGBA32", 64, 48), of("NV12", 32, 32)],
            target: of(to, 64, 64),
        });
        for (blend, alpha) in [
            (Blend::Replace, 255),
            (Blend::Replace, 100),
            (Blend::Straight, 255),
            (Blend::Straight, 128),
            (Blend::Premultiplied, 255),
            (Blend::Premultiplied, 128),
        ] {
            cases.push(Case {
                // The first source is drawn last.
                request: Request::compose([inset(blend, alpha).z_order(2), plain]),
                sources: vec![of("RGBA32", 64, 48), of("NV12", 64, 64)],
                target: of(to, 64, 64),
            });
        }
        cases.push(Case {
            request: Request::compose([quarter(0, 0).alpha(128)]).background(Some(Color::rgb(20, 90, 200))),
            sources: vec![of("NV12", 64, 48)],
            target: of(to, 64, 64),
        });
    }
    cases
}

/// Returns the case with its NV12 sources in the tiles of a format, or `None` if it has no such source.
pub fn tiled(case: &Case, fourcc: FourCc) -> Option<Case> {
    let mut case = case.clone();
    let mut is_tiled = false;
    for layout in case.sources.iter_mut().filter(|l| l.fourcc() == FourCc::NV12) {
        let stride = layout.planes()[0].stride_bytes;
        let tiles = Layout::from_strides(fourcc, layout.size(), &[stride; 2], &[]).unwrap();
        (*layout, is_tiled) = (tiles.with_colorimetry(layout.colorimetry()), true);
    }
    is_tiled.then_some(case)
}

/// Runs one case. Returns its PSNR, or the rule by which the backend refuses it.
pub fn run(converter: &mut dyn Converter, allocator: &Allocator, case: &Case) -> Result<f64, String> {
    let kind = allocator.allocate(4096, "kind").unwrap().kind();
    let plan = Plan::new(&case.request, &case.sources, &case.target).unwrap().memory(kind);
    if let Err(e) = converter.check(&plan) {
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{case}: {e}");
        return Err(e.to_string());
    }
    let frames: Vec<Frame> = (0..)
        .zip(&case.sources)
        .map(|(i, l)| picture::frame(allocator, l, i, case.request.layers[i].blend == Blend::Premultiplied))
        .collect();
    let pool = Pool::new(allocator, case.target, 1).unwrap();
    let plan = Arc::new(plan);
    converter.begin(&plan, &frames, pool.try_acquire().unwrap()).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(converter.in_flight(), 1);
    let done = converter.done(WAIT).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(converter.in_flight(), 0);
    assert_eq!(
        (done.meta().sequence, done.meta().timestamp_ns),
        (frames[0].meta().sequence, frames[0].meta().timestamp_ns)
    );
    Ok(compare(case, &done))
}

/// Returns the PSNR of a frame compared with the expected picture. Edges of layers are left out.
///
/// # Panics
/// If the frame fits better to a picture that is shifted by a pixel.
pub fn compare(case: &Case, done: &Frame) -> f64 {
    let got = rgb::rgb(done).unwrap();
    let shifted = |dx: f64, dy: f64| {
        let known = expected(case, dx, dy);
        picture::psnr(&known.0, &got, |i| known.1[i])
    };
    let db = shifted(0.0, 0.0);
    if case.sources.len() == 1 && case.target.size().width <= 100 {
        for (dx, dy) in [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
            let other = shifted(dx, dy);
            assert!(other < db, "{case}: {db:.1} dB, but {other:.1} dB if shifted by {dx}, {dy}");
        }
    }
    db
}

type Known = Rc<(Vec<u8>, Vec<bool>)>;

/// Returns the expected RGB picture, shifted by `(dx, dy)` pixels, and which pixels are away from all edges. It is the
/// same for all formats except those without alpha or color, so it is cached.
fn expected(case: &Case, dx: f64, dy: f64) -> Known {
    thread_local!(static KNOWN: RefCell<HashMap<String, Known>> = RefCell::default());
    let size = case.target.size();
    let grey = [&case.target, &case.sources[0]].iter().any(|l| l.fourcc() == FourCc::GREY);
    let sources: Vec<_> = case.sources.iter().map(|l| (l.size(), l.fourcc().info().unwrap().has_alpha())).collect();
    let key = format!("{:?} {sources:?} {size} {grey} {dx} {dy}", case.request);
    if let Some(known) = KNOWN.with(|k| k.borrow().get(&key).cloned()) {
        return known;
    }
    let (mut expected, mut sure) = (Vec::new(), Vec::new());
    for y in 0..size.height {
        for x in 0..size.width {
            let (color, inside) = expect(case, f64::from(x) + 0.5 + dx, f64::from(y) + 0.5 + dy);
            let luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2];
            expected.extend(color[..3].iter().map(|&c| ((if grey { luma } else { c }) * 255.0).round() as u8));
            sure.push(inside);
        }
    }
    let known = Rc::new((expected, sure));
    KNOWN.with(|k| k.borrow_mut().insert(key, Rc::clone(&known)));
    known
}

/// Returns the color at a point of the target, and whether the point is away from all edges.
fn expect(case: &Case, x: f64, y: f64) -> (Rgba, bool) {
    let rgba = |c: Color| [c.red, c.green, c.blue, c.alpha].map(|v| f64::from(v) / 255.0);
    let mut color = rgba(case.request.background.unwrap());
    let mut sure = true;
    let mut order: Vec<usize> = (0..case.sources.len()).collect();
    order.sort_by_key(|&i| case.request.layers[i].z_order);
    for i in order {
        let (layer, source) = (&case.request.layers[i], &case.sources[i]);
        let crop = layer.crop.unwrap_or(Rect::from(source.size()));
        let area = layer.place.unwrap_or(Rect::from(case.target.size()));
        let (mut w, mut h) = (f64::from(crop.size.width), f64::from(crop.size.height));
        if layer.rotation.is_quarter() {
            (w, h) = (h, w);
        }
        let (aw, ah) = (f64::from(area.size.width), f64::from(area.size.height));
        let (pw, ph) = match layer.fit {
            Scaling::Keep => (w * (aw / w).min(ah / h), h * (aw / w).min(ah / h)),
            _ => (aw, ah),
        };
        let (left, top) = (f64::from(area.left) + (aw - pw) / 2.0, f64::from(area.top) + (ah - ph) / 2.0);
        // Upright position in the layer, 0 to 1.
        let (s, t) = ((x - left) / pw, (y - top) / ph);
        let edge = (x - left).abs().min((x - left - pw).abs()).min((y - top).abs()).min((y - top - ph).abs());
        let near = x > left - 3.0 && x < left + pw + 3.0 && y > top - 3.0 && y < top + ph + 3.0;
        sure &= !(near && edge < 3.0);
        if !((0.0..1.0).contains(&s) && (0.0..1.0).contains(&t)) {
            let in_area = x >= f64::from(area.left)
                && x < f64::from(area.left) + aw
                && y >= f64::from(area.top)
                && y < f64::from(area.top) + ah;
            if let (Some(margin), true) = (layer.margin, in_area) {
                color = rgba(margin);
            }
            continue;
        }
        // Back through the rotation, then the flip.
        let (s, t) = match layer.rotation {
            Rotation::None => (s, t),
            Rotation::Clockwise90 => (t, 1.0 - s),
            Rotation::Half => (1.0 - s, 1.0 - t),
            Rotation::Clockwise270 => (1.0 - t, s),
        };
        let (s, t) = match layer.flip {
            Flip::None => (s, t),
            Flip::Horizontal => (1.0 - s, t),
            Flip::Vertical => (s, 1.0 - t),
        };
        let u = (f64::from(crop.left) + s * f64::from(crop.size.width)) / f64::from(source.size().width);
        let v = (f64::from(crop.top) + t * f64::from(crop.size.height)) / f64::from(source.size().height);
        let [r, g, b, a] = picture::point(i, u, v);
        let has_alpha = source.fourcc().info().unwrap().has_alpha();
        // Straight and premultiplied pixels show the same picture: it is stored either way.
        let alpha = f64::from(layer.alpha) / 255.0 * if has_alpha && layer.blend != Blend::Replace { a } else { 1.0 };
        for (to, from) in color.iter_mut().zip([r, g, b]) {
            *to = from * alpha + *to * (1.0 - alpha);
        }
    }
    (color, sure)
}

/// Runs the suite. Every case must be drawn with at least `least_db`, or be refused with a rule.
pub fn suite(converter: &mut dyn Converter, allocator: &Allocator, align: u32, least_db: f64) -> Report {
    let mut report = Report { least_db: f64::MAX, ..Report::default() };
    let mut bad = Vec::new();
    for case in cases(align) {
        match run(converter, allocator, &case) {
            Err(rule) => report.refused.push(format!("{case}: {rule}")),
            Ok(db) => {
                if db < least_db {
                    bad.push(format!("{db:.1} dB: {case}"));
                }
                report.least_db = report.least_db.min(db);
                report.drawn.push(case.to_string());
            }
        }
    }
    assert!(
        bad.is_empty(),
        "{}: {} of {} below {least_db} dB:\n{}",
        converter.name(),
        bad.len(),
        report.drawn.len(),
        bad.join("\n")
    );
    eprintln!(
        "{}: {} drawn, {} refused, least {:.1} dB",
        converter.name(),
        report.drawn.len(),
        report.refused.len(),
        report.least_db
    );
    report
}

/// Returns udmabuf where the kernel has it, otherwise memfd.
pub fn allocator() -> (Allocator, MemoryKind) {
    let heap = Allocator::Heap("/dev/dma_heap/system".into());
    for (allocator, kind) in [(heap, MemoryKind::DmaBuf), (Allocator::Udmabuf, MemoryKind::DmaBuf)] {
        if allocator.allocate(4096, "probe").is_ok() {
            return (allocator, kind);
        }
    }
    (Allocator::Memfd, MemoryKind::Memfd)
}
