//! Plans that SIMD crates carry out (feature `simd`): opaque, upright pictures that are scaled plane by plane, or
//! converted from semi-planar Y'CbCr to RGB. `bands` carries out all other plans.

use std::sync::Arc;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use yuv::{YuvBiPlanarImage, YuvConversionMode, YuvError, YuvRange, YuvStandardMatrix};

use crate::convert::{Draw, Fill, Plan, Step};
use crate::dmabuf::SharedBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Encoding, Flip, FormatInfo, FormatKind, Layout, PlaneInfo, Range, Rotation};
use crate::frame::{FrameRead, FrameWrite};

use super::color::{codes, Space};
use super::resample::halve;
use super::samples::groups;

/// How many bytes of a source's plane one band reads: large, so that the filters are rarely set up.
const BAND_BYTES: usize = 256 * 1024;

type ToRgb = fn(
    &YuvBiPlanarImage<'_, u8>,
    &mut [u8],
    u32,
    YuvRange,
    YuvStandardMatrix,
    YuvConversionMode,
) -> std::result::Result<(), YuvError>;

#[derive(Debug)]
enum Work {
    /// A color, as one packed row for each plane of the target.
    Fill(Fill, Vec<Vec<u8>>),
    Copy(Draw),
    Convert(Draw, ToRgb, YuvRange, YuvStandardMatrix),
}

/// A plan that is prepared for this backend.
#[derive(Debug)]
pub(super) struct Prepared {
    plan: Arc<Plan>,
    work: Vec<Work>,
    rows: usize,
}

/// Private memory of a band.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    band: Vec<Vec<u8>>,
    fetched: Vec<u8>,
    scaled: [Vec<u8>; 2],
    pixels: Vec<u8>,
    resizer: Resizer,
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Prepared {
    /// Returns `None` if the plan is not for this backend.
    pub(super) fn new(plan: &Arc<Plan>) -> Option<Self> {
        let target = plan.target();
        let info = target.fourcc().info()?;
        if plan.keeps_old() {
            return None;
        }
        let (mut work, mut rows) = (Vec::new(), usize::MAX);
        for step in plan.steps() {
            match *step {
                Step::Fill(fill) => work.push(Work::Fill(fill, packed(fill, target)?)),
                Step::Draw(draw) => {
                    let source = &plan.sources()[draw.source];
                    work.push(suits(&draw, source, target)?);
                    let reduced = draw.crop.size.height.div_ceil(draw.place.size.height) as usize;
                    rows = rows.min(BAND_BYTES / (source.row_bytes(0) as usize * reduced));
                }
            }
        }
        let most = BAND_BYTES / (target.row_bytes(0) as usize).max(1);
        let rows = rows.min(most).max(info.subsampling().1 as usize * 2) / 2 * 2;
        Some(Self { plan: Arc::clone(plan), work, rows: rows.max(2) })
    }

    pub(super) fn rows_per_band(&self) -> usize {
        self.rows
    }

    /// Composes and writes the target's rows `top..bottom`.
    pub(super) fn band(
        &self,
        scratch: &mut Scratch,
        reads: &[FrameRead<'_>],
        write: &mut FrameWrite<'_>,
        (top, bottom): (usize, usize),
    ) -> Result<()> {
        let target = self.plan.target();
        let planes = planes(target);
        scratch.band.resize_with(planes.len(), Vec::new);
        for (i, band) in scratch.band.iter_mut().enumerate() {
            band.resize(target.row_bytes(i) as usize * (bottom - top).div_ceil(planes[i].vertical as usize), 0);
        }
        for work in &self.work {
            let place = match work {
                Work::Fill(fill, _) => fill.rect,
                Work::Copy(draw) | Work::Convert(draw, ..) => draw.place,
            };
            let first = place.top as usize;
            let (begin, end) = (top.max(first), bottom.min(first + place.size.height as usize));
            if begin >= end {
                continue;
            }
            match work {
                Work::Fill(_, packed) => {
                    for (i, plane) in planes.iter().enumerate() {
                        let (left, len) = span(plane, place.left as usize, place.size.width as usize);
                        let stride = target.row_bytes(i) as usize;
                        let down = plane.vertical as usize;
                        for row in (begin - top) / down..(end - top).div_ceil(down) {
                            scratch.band[i][row * stride + left..][..len].copy_from_slice(&packed[i][left..][..len]);
                        }
                    }
                }
                Work::Copy(draw) => {
                    let read = &reads[draw.source];
                    for (i, plane) in planes.iter().enumerate() {
                        scratch.scale(draw, read, (i, plane), (begin - first, end - first), i.min(1))?;
                        let (left, len) = span(plane, place.left as usize, place.size.width as usize);
                        let at = ((begin - top) / plane.vertical as usize, left);
                        lay(&scratch.scaled[i.min(1)], len, &mut scratch.band[i], target.row_bytes(i) as usize, at);
                    }
                }
                Work::Convert(draw, to_rgb, range, matrix) => {
                    let source = self::planes(&self.plan.sources()[draw.source]);
                    for (i, plane) in source.iter().enumerate() {
                        scratch.scale(draw, &reads[draw.source], (i, plane), (begin - first, end - first), i)?;
                    }
                    let (width, height) = (place.size.width, (end - begin) as u32);
                    let [y_plane, uv_plane] = &scratch.scaled;
                    let uv_stride = width.div_ceil(2) * 2;
                    let image = YuvBiPlanarImage { y_plane, y_stride: width, uv_plane, uv_stride, width, height };
                    let (left, len) = span(&planes[0], place.left as usize, width as usize);
                    let stride = target.row_bytes(0) as usize;
                    let mode = YuvConversionMode::Balanced;
                    // If the picture is not as wide as the target, each row is copied there.
                    let whole = len == stride;
                    let out = if whole {
                        &mut scratch.band[0][(begin - top) * stride..(end - top) * stride]
                    } else {
                        scratch.pixels.resize(len * (end - begin), 0);
                        &mut scratch.pixels[..]
                    };
                    to_rgb(&image, out, len as u32, *range, *matrix, mode).map_err(|e| failed("yuv", &e))?;
                    if !whole {
                        lay(&scratch.pixels, len, &mut scratch.band[0], stride, (begin - top, left));
                    }
                }
            }
        }
        for (i, plane) in planes.iter().enumerate() {
            let rows = scratch.band[i].chunks_exact(target.row_bytes(i) as usize);
            for (row, bytes) in (top / plane.vertical as usize..).zip(rows) {
                write.copy_row(i, row as u32, bytes)?;
                scratch.written += bytes.len() as u64;
            }
        }
        Ok(())
    }
}

impl Scratch {
    /// Scales rows `begin..end` of a draw's place, of one plane of its source, into `self.scaled[to]`.
    fn scale(
        &mut self,
        draw: &Draw,
        read: &FrameRead<'_>,
        (index, plane): (usize, &PlaneInfo),
        (begin, end): (usize, usize),
        to: usize,
    ) -> Result<()> {
        let (across, down) = (plane.horizontal as usize, plane.vertical as usize);
        let bytes = plane.bytes as usize;
        let (left, top) = (draw.crop.left as usize / across, draw.crop.top as usize / down);
        let (columns, rows) = (draw.crop.size.width as usize / across, draw.crop.size.height as usize / down);
        let (begin, end) = (begin / down, end.div_ceil(down));
        let mut fetch = |out: &mut Vec<u8>, from: usize, to: usize| {
            out.resize((to - from) * columns * bytes, 0);
            for (row, out) in (from..to).zip(out.chunks_exact_mut(columns * bytes)) {
                read.copy_span(index, (top + row) as u32, left * bytes, out)?;
                self.read += out.len() as u64;
            }
            Ok(())
        };
        if !draw.is_scaled() {
            return fetch(&mut self.scaled[to], begin, end);
        }
        let width = draw.place.size.width as usize / across;
        if columns == 2 * width && draw.crop.size.height == 2 * draw.place.size.height && bytes <= 2 {
            self.scaled[to].resize(width * (end - begin) * bytes, 0);
            for (row, out) in (begin..end).zip(self.scaled[to].chunks_exact_mut(width * bytes)) {
                let span = |row: usize| read.span(index, (top + row) as u32, left * bytes, columns * bytes);
                let (mut above, mut below) = (span(2 * row)?, span(2 * row + 1)?);
                if read.is_uncached() {
                    self.fetched.resize(2 * columns * bytes, 0);
                    let (first, second) = self.fetched.split_at_mut(columns * bytes);
                    read.copy(above, first);
                    read.copy(below, second);
                    (above, below) = (SharedBytes::from(&*first), SharedBytes::from(&*second));
                }
                match bytes {
                    1 => halve_shared::<1>(above, below, out),
                    _ => halve_shared::<2>(above, below, out),
                }
                self.read += 4 * out.len() as u64;
            }
            return Ok(());
        }
        let scale = f64::from(draw.crop.size.height) / f64::from(draw.place.size.height);
        // One row more than the filter's support at both ends, so that no seam shows between bands.
        let margin = scale.max(1.0) + 1.0;
        let from = (begin as f64 * scale - margin).floor().max(0.0) as usize;
        let until = ((end as f64 * scale + margin).ceil() as usize).min(rows);
        fetch(&mut self.fetched, from, until)?;
        let kind = match bytes {
            1 => PixelType::U8,
            2 => PixelType::U8x2,
            3 => PixelType::U8x3,
            _ => PixelType::U8x4,
        };
        let out = &mut self.scaled[to];
        out.resize(width * (end - begin) * bytes, 0);
        // The box filter includes a whole pixel or leaves it out. So it is the mean only for integer factors.
        let (crop, place) = (draw.crop.size, draw.place.size);
        let whole = crop.width % place.width == 0 && crop.height % place.height == 0;
        let reduces = crop.width > place.width;
        let resize = |e: &dyn std::fmt::Display| failed("fast_image_resize", e);
        let source =
            ImageRef::new(columns as u32, (until - from) as u32, &self.fetched, kind).map_err(|e| resize(&e))?;
        let mut target = Image::from_slice_u8(width as u32, (end - begin) as u32, out, kind).map_err(|e| resize(&e))?;
        // Rounded to a grid, so that no sum of them exceeds the picture, which the crate refuses.
        let at = |row: usize| ((row as f64 * scale - from as f64) * 65_536.0).round() / 65_536.0;
        let (first, last) = (at(begin), at(end).min((until - from) as f64));
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(if whole {
                FilterType::Box
            } else if reduces {
                FilterType::Hamming
            } else {
                FilterType::Bilinear
            }))
            .use_alpha(false)
            .crop(0.0, first, columns as f64, last - first);
        self.resizer.resize(&source, &mut target, Some(&options)).map_err(|e| resize(&e))
    }
}

/// [`halve`] of two rows that are read in place.
fn halve_shared<const BYTES: usize>(above: SharedBytes<'_>, below: SharedBytes<'_>, to: &mut [u8]) {
    let (above, below) = (above.chunks_exact::<64>(), below.chunks_exact::<64>());
    let rest = [above.remainder(), below.remainder()];
    let mut to = to.chunks_mut(32);
    for ((above, below), to) in above.zip(below).zip(&mut to) {
        halve::<BYTES>(&above, &below, to);
    }
    if let Some(to) = to.next() {
        let mut rows = [[0; 64]; 2];
        rest.iter().zip(&mut rows).for_each(|(from, row)| _ = from.copy_to(row));
        halve::<BYTES>(&rows[0], &rows[1], to);
    }
}

/// Copies rows of `len` bytes to a row and a byte of a band.
fn lay(rows: &[u8], len: usize, band: &mut [u8], stride: usize, (row, left): (usize, usize)) {
    for (from, to) in rows.chunks_exact(len).zip(band.chunks_exact_mut(stride).skip(row)) {
        to[left..left + len].copy_from_slice(from);
    }
}

/// Returns the first byte and the length of pixels in a row of a plane.
fn span(plane: &PlaneInfo, left: usize, width: usize) -> (usize, usize) {
    let (bytes, across) = (plane.bytes as usize, plane.horizontal as usize);
    (left / across * bytes, width.div_ceil(across) * bytes)
}

fn planes(layout: &Layout) -> &'static [PlaneInfo] {
    layout.fourcc().info().map_or(&[], |info| info.planes)
}

/// Returns how a draw is done here, if it can be.
fn suits(draw: &Draw, source: &Layout, target: &Layout) -> Option<Work> {
    let (from, to) = (source.fourcc().info()?, target.fourcc().info()?);
    let (across, down) = from.subsampling();
    let even = |v: u32, unit: u32| v % unit == 0;
    let whole = [(draw.crop.size, draw.crop), (draw.place.size, draw.place)].iter().all(|(size, rect)| {
        even(size.width, across)
            && even(size.height, down)
            && even(rect.left as u32, across)
            && even(rect.top as u32, down)
    });
    let upright = draw.rotation == Rotation::None && draw.flip == Flip::None;
    // One sample for each pixel or pixel pair of a plane. Packed 4:2:2 has more.
    let planar = |info: &FormatInfo| info.planes.len() == 2 || info.kind == FormatKind::Rgb && info.planes[0].bytes > 2;
    // One filter serves both axes, so both must be reduced or both enlarged.
    let (crop, place) = (draw.crop.size, draw.place.size);
    let alike = (crop.width > place.width) == (crop.height > place.height);
    if !alike || !whole || !upright || !draw.is_opaque() || !planar(from) {
        return None;
    }
    let name = |info: &FormatInfo| info.name.trim_end_matches('M');
    if name(from) == name(to) && Space::of(source) == Space::of(target) {
        return Some(Work::Copy(*draw));
    }
    let full_rgb = to.kind == FormatKind::Rgb && target.colorimetry().quantization(to.kind) == Range::Full;
    if from.kind != FormatKind::Yuv || !full_rgb {
        return None;
    }
    let matrix = match source.colorimetry().matrix() {
        Encoding::Bt709 | Encoding::XvYcc709 => YuvStandardMatrix::Bt709,
        Encoding::Bt2020 | Encoding::Bt2020ConstantLuminance => YuvStandardMatrix::Bt2020,
        Encoding::Bt601 | Encoding::XvYcc601 => YuvStandardMatrix::Bt601,
        _ => return None,
    };
    let range = match source.colorimetry().quantization(from.kind) {
        Range::Full => YuvRange::Full,
        _ => YuvRange::Limited,
    };
    let to_rgb: ToRgb = match (name(from), name(to)) {
        ("NV12", "RGBA32" | "RGBX32") => yuv::yuv_nv12_to_rgba,
        ("NV12", "ABGR32" | "XBGR32") => yuv::yuv_nv12_to_bgra,
        ("NV12", "RGB24") => yuv::yuv_nv12_to_rgb,
        ("NV12", "BGR24") => yuv::yuv_nv12_to_bgr,
        ("NV21", "RGBA32" | "RGBX32") => yuv::yuv_nv21_to_rgba,
        ("NV21", "ABGR32" | "XBGR32") => yuv::yuv_nv21_to_bgra,
        ("NV21", "RGB24") => yuv::yuv_nv21_to_rgb,
        ("NV21", "BGR24") => yuv::yuv_nv21_to_bgr,
        ("NV16", "RGBA32" | "RGBX32") => yuv::yuv_nv16_to_rgba,
        ("NV16", "ABGR32" | "XBGR32") => yuv::yuv_nv16_to_bgra,
        ("NV16", "RGB24") => yuv::yuv_nv16_to_rgb,
        ("NV16", "BGR24") => yuv::yuv_nv16_to_bgr,
        _ => return None,
    };
    Some(Work::Convert(*draw, to_rgb, range, matrix))
}

/// Returns a row of the target in one color, for each plane.
fn packed(fill: Fill, target: &Layout) -> Option<Vec<Vec<u8>>> {
    let [a, b, c] = codes(fill.color, Space::of(target));
    let alpha = if target.fourcc().info()?.has_alpha() { fill.color.alpha } else { 255 };
    let mut rows: Vec<Vec<u8>> = (0..target.planes().len()).map(|i| vec![0; target.row_bytes(i) as usize]).collect();
    for group in groups(target)? {
        let samples = (target.size().width as usize).div_ceil(group.across);
        for (which, component) in group.components().iter().enumerate() {
            let code = [a, b, c, alpha][component.index];
            group.pack(&vec![code; samples], which, &mut rows[group.plane]);
        }
    }
    Some(rows)
}

fn failed(of: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, "convert", format!("{of}: {error}")).on("cpu")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{draw, frame, noise};
    use super::super::{bands, Cpu, Way};
    use super::*;
    use crate::convert::{Converter, Layer, Request};
    use crate::format::{Rect, Size};
    use proptest::prelude::*;

    fn far(a: &[u8], b: &[u8]) -> u8 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn halve_shared_is_halve(pixels in prop::collection::vec(any::<[[u8; 4]; 2]>(), 0..80)) {
            let row = |i: usize| pixels.iter().flat_map(|both| both[i]).collect::<Vec<u8>>();
            let (above, below) = (row(0), row(1));
            let (mut one, mut other) = (vec![0; pixels.len() * 2], vec![1; pixels.len() * 2]);
            halve::<2>(&above, &below, &mut one);
            halve_shared::<2>(SharedBytes::from(&above[..]), SharedBytes::from(&below[..]), &mut other);
            prop_assert_eq!(&one, &other);
            halve::<1>(&above, &below, &mut one);
            halve_shared::<1>(SharedBytes::from(&above[..]), SharedBytes::from(&below[..]), &mut other);
            prop_assert_eq!(one, other);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn bands_meet_and_the_plain_way_gives_the_same(
            (w, h) in (8u32..200, 8u32..200), (tw, th) in (1u32..200, 1u32..200), rows in 1usize..40,
            (from, to) in prop::sample::select(vec![("NV12", "NV12"), ("NV12", "RGBA32"), ("NV21M", "BGR24"), ("NV16", "RGBX32"), ("RGB24", "RGB24"), ("RGBA32", "RGBA32")]),
            inset: bool,
        ) {
            let layout = |name: &str, w: u32, h: u32| Layout::aligned(name.parse().unwrap(), Size::new(w, h), 4).unwrap();
            let (source, target) = (layout(from, w * 2, h * 2), layout(to, tw * 2 + 4, th * 2 + 4));
            let place = if inset { Rect::new(2, 2, Size::new(tw * 2, th * 2)) } else { Rect::from(target.size()) };
            let request = Request::convert(Layer::default().place(place));
            let plan = Arc::new(Plan::new(&request, &[source], &target).unwrap());
            prop_assume!(Cpu::new().unwrap().check(&plan).is_ok());
            let Some(mut few) = Prepared::new(&plan) else { return Ok(()) };
            let Some(mut one) = Prepared::new(&plan) else { return Ok(()) };
            (few.rows, one.rows) = (rows * 2, usize::MAX / 2);
            let noise = frame(source, noise);
            let whole = draw(&plan, Way::Simd(one), &noise);
            let seam = far(&draw(&plan, Way::Simd(few), &noise), &whole);
            // A step of one code in chroma changes a color by up to 2.1.
            prop_assert!(seam <= if from == to { 1 } else { 4 }, "{}", seam);
            let slope = frame(source, |p, y, x| {
                let (bytes, rows) = (source.row_bytes(p) as usize, source.rows(p));
                (80 + x * 50 / bytes + (y * 50 / rows) as usize) as u8
            });
            let (simd, plain) = (Prepared::new(&plan).unwrap(), bands::Prepared::new(&plan).unwrap());
            let apart = far(&draw(&plan, Way::Simd(simd), &slope), &draw(&plan, Way::Plain(plain), &slope));
            // Chroma is first halved to the target's size here, in steps of the slope over two pixels, times 2.1.
            let step = 2.1 * 100.0 / f64::from(place.size.width.min(place.size.height));
            prop_assert!(f64::from(apart) <= 4.0 + 2.0 * step, "{}", apart);
        }
    }
}
