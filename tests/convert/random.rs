//! Random plans, compared with a pixel-by-pixel implementation of a request: slow, in floating point, without bands.

use crate::conformance::converting::Jobs;
use framelease::convert::{Blend, Color};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::{Flip, FormatKind, Layout, Range, Rect, Rotation};
use framelease::frame::FrameMut;
use proptest::prelude::*;

use super::*;

/// Codes of a pixel: Y, U, V or R, G, B as stored; then alpha.
type Codes = [f64; 4];

fn noise(seed: u32, at: u32) -> u32 {
    let n = (seed.wrapping_mul(0x85eb_ca6b) ^ at).wrapping_mul(0x9e37_79b1);
    (n ^ n >> 15).wrapping_mul(0x2c1b_3c6d) >> 16
}

/// The position of a component in its color plane: plane, byte of the row, row.
fn place(layout: &Layout, component: usize, x: u32, y: u32) -> Option<(usize, usize, u32)> {
    let name = layout.fourcc().info().unwrap().name.trim_end_matches('M');
    let (x, half_x, half_y) = (x as usize, x as usize / 2, y / 2);
    let packed = |at: [usize; 3]| {
        let first = at.get(component)?;
        Some((0, x / 2 * 4 + first + if component == 0 { x % 2 * 2 } else { 0 }, y))
    };
    let rgb = |bytes: usize, at: [usize; 4]| Some((0, x * bytes + at[component], y));
    match (name, component) {
        ("GREY", 0) => Some((0, x, y)),
        (_, 0) if layout.planes().len() > 1 => Some((0, x, y)),
        ("NV12", 1 | 2) => Some((1, half_x * 2 + component - 1, half_y)),
        ("NV21", 1 | 2) => Some((1, half_x * 2 + 2 - component, half_y)),
        ("NV24", 1 | 2) => Some((1, x * 2 + component - 1, y)),
        ("NV42", 1 | 2) => Some((1, x * 2 + 2 - component, y)),
        ("NV16", 1 | 2) => Some((1, half_x * 2 + component - 1, y)),
        ("NV61", 1 | 2) => Some((1, half_x * 2 + 2 - component, y)),
        ("YUV420", 1 | 2) => Some((component, half_x, half_y)),
        ("YUV422P" | "YUV422", 1 | 2) => Some((component, half_x, y)),
        ("YVU422", 1 | 2) => Some((3 - component, half_x, y)),
        ("YUV444", 1 | 2) => Some((component, x, y)),
        ("YVU444", 1 | 2) => Some((3 - component, x, y)),
        ("YVU420", 1 | 2) => Some((3 - component, half_x, half_y)),
        ("YUYV", _) => packed([0, 1, 3]),
        ("YVYU", _) => packed([0, 3, 1]),
        ("UYVY", _) => packed([1, 0, 2]),
        ("VYUY", _) => packed([1, 2, 0]),
        ("RGB24", 0..=2) => rgb(3, [0, 1, 2, 3]),
        ("BGR24", 0..=2) => rgb(3, [2, 1, 0, 3]),
        ("RGBA32", _) | ("RGBX32", 0..=2) => rgb(4, [0, 1, 2, 3]),
        ("ABGR32", _) | ("XBGR32" | "BGR32", 0..=2) => rgb(4, [2, 1, 0, 3]),
        ("ARGB32", _) | ("XRGB32" | "RGB32", 0..=2) => rgb(4, [1, 2, 3, 0]),
        ("BGRA32", _) | ("BGRX32", 0..=2) => rgb(4, [3, 2, 1, 0]),
        _ => None,
    }
}

fn is_yuv(layout: &Layout) -> bool {
    layout.fourcc().info().unwrap().kind == FormatKind::Yuv
}

/// Writes noise away from the ends of the range. Alpha, if the format has it, is the same everywhere.
fn fill(target: &mut FrameMut, seed: u32) {
    let layout = *target.layout();
    let rows = |plane: usize| layout.rows(plane) as usize;
    let mut planes: Vec<Vec<Vec<u8>>> =
        (0..layout.planes().len()).map(|p| vec![vec![0x5a; layout.row_bytes(p) as usize]; rows(p)]).collect();
    for y in 0..layout.size().height {
        for x in 0..layout.size().width {
            for component in 0..4 {
                let Some((plane, byte, row)) = place(&layout, component, x, y) else { continue };
                let chroma = component > 0 && is_yuv(&layout);
                let at = ((plane as u32) << 24) ^ (row << 12) ^ byte as u32;
                planes[plane][row as usize][byte] = match component {
                    3 => 40 + (noise(seed, 77) % 176) as u8,
                    _ if chroma => 108 + (noise(seed, at) % 41) as u8,
                    _ => 80 + (noise(seed, at) % 91) as u8,
                };
            }
        }
    }
    let mut write = target.write(DEFAULT_WAIT).unwrap();
    for (p, rows) in planes.iter().enumerate() {
        for (y, row) in (0..).zip(rows) {
            write.copy_row(p, y, row).unwrap();
        }
    }
}

struct Picture {
    layout: Layout,
    codes: Vec<Codes>,
}

impl Picture {
    fn of(frame: &Frame) -> Self {
        let layout = *frame.layout();
        let read = frame.read(DEFAULT_WAIT).unwrap();
        let plane = |p: usize| -> Vec<Vec<u8>> {
            let row = |y| {
                let mut row = vec![0; layout.row_bytes(p) as usize];
                read.copy_row(p, y, &mut row).unwrap();
                row
            };
            (0..layout.rows(p)).map(row).collect()
        };
        let planes: Vec<_> = (0..layout.planes().len()).map(plane).collect();
        let mut codes = Vec::new();
        for y in 0..layout.size().height {
            for x in 0..layout.size().width {
                codes.push([0, 1, 2, 3].map(|component| match place(&layout, component, x, y) {
                    Some((plane, byte, row)) => f64::from(planes[plane][row as usize][byte]),
                    None if component == 3 => 255.0,
                    None => 128.0,
                }));
            }
        }
        Self { layout, codes }
    }

    fn at(&self, x: u32, y: u32) -> Codes {
        self.codes[(y * self.layout.size().width + x) as usize]
    }
}

/// Offsets and scales of codes.
fn scale(layout: &Layout) -> ([f64; 3], [f64; 3]) {
    let yuv = is_yuv(layout);
    let kind = if yuv { FormatKind::Yuv } else { FormatKind::Rgb };
    let full = layout.colorimetry().quantization(kind) == Range::Full;
    let black = if full { 0.0 } else { 16.0 };
    let (luma, chroma) = if full { (255.0, 255.0) } else { (219.0, 224.0) };
    if yuv {
        ([black, 128.0, 128.0], [luma, chroma, chroma])
    } else {
        ([black; 3], [luma; 3])
    }
}

fn to_rgb(layout: &Layout, codes: Codes) -> [f64; 3] {
    let (zero, one) = scale(layout);
    let s = [0, 1, 2].map(|i| (codes[i] - zero[i]) / one[i]);
    if !is_yuv(layout) {
        return s;
    }
    let (kr, kb) = layout.colorimetry().matrix().luma_weights();
    let (kr, kb) = (f64::from(kr), f64::from(kb));
    let (r, b) = (s[0] + 2.0 * (1.0 - kr) * s[2], s[0] + 2.0 * (1.0 - kb) * s[1]);
    [r, (s[0] - kr * r - kb * b) / (1.0 - kr - kb), b]
}

fn from_rgb(layout: &Layout, [r, g, b]: [f64; 3]) -> [f64; 3] {
    let (zero, one) = scale(layout);
    let s = if is_yuv(layout) {
        let (kr, kb) = layout.colorimetry().matrix().luma_weights();
        let (kr, kb) = (f64::from(kr), f64::from(kb));
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        [y, (b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr))]
    } else {
        [r, g, b]
    };
    [0, 1, 2].map(|i| s[i] * one[i] + zero[i])
}

fn has_alpha(layout: &Layout) -> bool {
    layout.fourcc().info().unwrap().has_alpha()
}

/// The expected pixels of a request without scaling. Chroma is not averaged yet.
fn expected(request: &Request, sources: &[Picture], old: &Picture) -> Vec<Codes> {
    let target = &old.layout;
    let own_alpha = |a: f64| if has_alpha(target) { a } else { 255.0 };
    let size = target.size();
    let (zero, _) = scale(target);
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|&i| request.layers[i].z_order);
    let mut out = Vec::new();
    for y in 0..size.height {
        for x in 0..size.width {
            let mut to = match request.background {
                None => old.at(x, y),
                Some(c) => {
                    let [a, b, d] = from_rgb(target, [c.red, c.green, c.blue].map(|v| f64::from(v) / 255.0));
                    [a, b, d, own_alpha(f64::from(c.alpha))]
                }
            };
            for &i in &order {
                let (layer, source) = (&request.layers[i], &sources[i]);
                let place = layer.place.unwrap();
                let (px, py) = (x as i32 - place.left, y as i32 - place.top);
                if px < 0 || py < 0 || px >= place.size.width as i32 || py >= place.size.height as i32 {
                    continue;
                }
                let crop = layer.crop.unwrap();
                let (w, h) = (crop.size.width as i32, crop.size.height as i32);
                let (cx, cy) = match layer.rotation {
                    Rotation::None => (px, py),
                    Rotation::Clockwise90 => (py, h - 1 - px),
                    Rotation::Half => (w - 1 - px, h - 1 - py),
                    Rotation::Clockwise270 => (w - 1 - py, px),
                };
                let (cx, cy) = match layer.flip {
                    Flip::None => (cx, cy),
                    Flip::Horizontal => (w - 1 - cx, cy),
                    Flip::Vertical => (cx, h - 1 - cy),
                };
                let codes = source.at((crop.left + cx) as u32, (crop.top + cy) as u32);
                let [a, b, c] = from_rgb(target, to_rgb(&source.layout, codes));
                let (from, own, all) = ([a, b, c], codes[3] / 255.0, f64::from(layer.alpha) / 255.0);
                let blend = if has_alpha(&source.layout) { layer.blend } else { Blend::Replace };
                let (factor, keep) = match blend {
                    Blend::Straight => (own * all, 1.0 - own * all),
                    Blend::Premultiplied => (all, 1.0 - own * all),
                    _ => (all, 1.0 - all),
                };
                for k in 0..3 {
                    to[k] = ((from[k] - zero[k]) * factor + (to[k] - zero[k]) * keep + zero[k]).clamp(0.0, 255.0);
                }
                let alpha = if blend == Blend::Premultiplied { own * all } else { factor };
                let replaced = if blend == Blend::Replace { codes[3] } else { 255.0 };
                to[3] = own_alpha(replaced * alpha + to[3] * keep);
            }
            out.push(to);
        }
    }
    out
}

/// Averages chroma over the pixels of each sample, as the target stores it.
fn averaged(target: &Layout, mut codes: Vec<Codes>) -> Vec<Codes> {
    if !is_yuv(target) {
        return codes;
    }
    let (width, height) = (target.size().width, target.size().height);
    let (across, down) = target.fourcc().info().unwrap().subsampling();
    for top in (0..height).step_by(down as usize) {
        for left in (0..width).step_by(across as usize) {
            let block: Vec<usize> = (top..(top + down).min(height))
                .flat_map(|y| (left..(left + across).min(width)).map(move |x| (y * width + x) as usize))
                .collect();
            for k in [1, 2] {
                let mean = block.iter().map(|&i| codes[i][k]).sum::<f64>() / block.len() as f64;
                block.iter().for_each(|&i| codes[i][k] = mean);
            }
        }
    }
    codes
}

fn format() -> impl Strategy<Value = &'static str> {
    let names = target_formats().map(|f| f.info().unwrap().name).filter(|n| *n != "RGB565").collect::<Vec<_>>();
    prop::sample::select(names)
}

/// A part of a side, on a grid of `unit` pixels: begin and length.
fn part(side: u32, unit: u32, (a, b): (u32, u32)) -> (u32, u32) {
    let begin = a % side / unit * unit;
    let length = (b % (side - begin) + 1).div_ceil(unit) * unit;
    (begin, length.min(side - begin))
}

#[derive(Clone, Debug)]
struct AnyLayer {
    format: &'static str,
    place: [u32; 4],
    crop: [u32; 4],
    layer: Layer,
}

fn any_layer() -> impl Strategy<Value = AnyLayer> {
    let rotation =
        prop::sample::select(vec![Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270]);
    let flip = prop::sample::select(vec![Flip::None, Flip::Horizontal, Flip::Vertical]);
    let blend = prop::sample::select(vec![Blend::Replace, Blend::Straight, Blend::Premultiplied]);
    let alpha = prop_oneof![Just(255u8), any::<u8>()];
    let numbers = (prop::array::uniform4(0u32..10_000), prop::array::uniform4(0u32..10_000));
    (format(), numbers, rotation, flip, blend, alpha, -2i32..3).prop_map(
        |(format, (place, crop), rotation, flip, blend, alpha, z)| {
            let layer = Layer::default().rotation(rotation).flip(flip).blend(blend).alpha(alpha).z_order(z);
            AnyLayer { format, place, crop, layer }
        },
    )
}

fn frame_of(layout: Layout, seed: u32) -> Frame {
    let mut frame = Pool::new(&Allocator::Memfd, layout, 1).unwrap().try_acquire().unwrap();
    fill(&mut frame, seed);
    frame.freeze_full(0, 0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn plan_without_scaling_equals_a_pixel_by_pixel_reference(
        to in format(), (w, h) in (1u32..90, 1u32..150), layers in prop::collection::vec(any_layer(), 1..5),
        background in prop::option::of(any::<(u8, u8, u8)>()), seed: u32,
    ) {
        let target = layout(to, w, h, 4);
        let (across, down) = target.fourcc().info().unwrap().subsampling();
        let (mut request, mut sources) = (Vec::new(), Vec::new());
        for (i, any) in (0..).zip(&layers) {
            let (left, width) = part(w, across, (any.place[0], any.place[1]));
            let (top, height) = part(h, down, (any.place[2], any.place[3]));
            let (sub_x, sub_y) = any.format.parse::<framelease::format::FourCc>().unwrap().info().unwrap().subsampling();
            let mut layer = any.layer;
            let turned = |l: &Layer| if l.rotation.is_quarter() { (height, width) } else { (width, height) };
            let (cw, ch) = turned(&layer);
            if cw % sub_x != 0 || ch % sub_y != 0 {
                layer = layer.rotation(Rotation::None).flip(Flip::None);
            }
            let (cw, ch) = turned(&layer);
            let (cl, ct) = (any.crop[0] % 20 / sub_x * sub_x, any.crop[1] % 20 / sub_y * sub_y);
            // A part that ends between the pixels of a sample ends with the picture.
            let behind = |length: u32, unit: u32, n: u32| if length % unit == 0 { n % 9 } else { 0 };
            let size = (cl + cw + behind(cw, sub_x, any.crop[2]), ct + ch + behind(ch, sub_y, any.crop[3]));
            request.push(
                layer
                    .place(Rect::new(left as i32, top as i32, Size::new(width, height)))
                    .crop(Rect::new(cl as i32, ct as i32, Size::new(cw, ch))),
            );
            sources.push(frame_of(layout(any.format, size.0, size.1, 4), seed ^ i));
        }
        let background = background.map(|(r, g, b)| Color::rgb(60 + r / 2, 60 + g / 2, 60 + b / 2));
        let request = Request::compose(request).background(background);
        let layouts: Vec<_> = sources.iter().map(|f| *f.layout()).collect();
        let plan = Arc::new(Plan::new(&request, &layouts, &target).unwrap());
        let pool = Pool::new(&Allocator::Memfd, target, 1).unwrap();
        let mut into = pool.try_acquire().unwrap();
        fill(&mut into, !seed);
        let old = Picture::of(&frame_of(target, !seed));
        let mut cpu = Cpu::new().unwrap();
        cpu.begin(&plan, &sources, into).unwrap();
        let got = Picture::of(&cpu.done(WAIT).unwrap());
        let pictures: Vec<_> = sources.iter().map(Picture::of).collect();
        let known = averaged(&target, expected(&request, &pictures, &old));
        let most = 1.6 + layers.len() as f64;
        for (i, (a, b)) in known.iter().zip(&got.codes).enumerate() {
            for k in 0..4 {
                let seen = if place(&target, k, 0, 0).is_some() { (a[k] - b[k]).abs() } else { 0.0 };
                let (x, y) = (i as u32 % w, i as u32 / w);
                prop_assert!(seen <= most, "component {} at {},{}: {:?}, expected {:?}", k, x, y, b, a);
            }
        }
    }
}
