//! Drawing by the CPU: slow, plain, and with the meaning that the headers and samples give the numbers.

use std::sync::Arc;

use super::abi::Surface;
use super::control::violation;
use super::memory::Region;

/// A surface with the memory of its planes.
#[derive(Clone)]
pub struct Picture {
    pub s: Surface,
    pub planes: [Option<(Arc<Region>, usize)>; 3],
    /// In tiles of 8 bytes by 128 rows, which follow each other from left to right.
    pub is_tiled: bool,
}

/// Caps that were on when the call was made.
#[derive(Clone, Copy, Default)]
pub struct Caps {
    pub blend: bool,
    pub global_alpha: bool,
    /// Of `enum g2d_cap_mode`.
    pub matrix: u32,
}

pub enum Command {
    Blit { from: Picture, to: Picture, caps: Caps, clip: Option<[i32; 4]> },
    Clear { area: Picture, color: [u8; 4] },
    Copy { from: Arc<Region>, to: Arc<Region>, bytes: usize },
}

/// How a format lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Rgb565 {
        swapped: bool,
    },
    /// Bytes per pixel and where red, green, blue and alpha are.
    Rgb {
        bytes: usize,
        at: [usize; 3],
        alpha: Option<usize>,
    },
    /// Whether U and V change places, and how many rows a chroma row has.
    Semi {
        swapped: bool,
        rows: i32,
    },
    Planar {
        swapped: bool,
    },
    /// Where the first luma, U and V are in four bytes.
    Packed {
        y: usize,
        u: usize,
        v: usize,
    },
}

pub fn form(format: u32) -> Option<Form> {
    let rgb = |bytes, at, alpha| Form::Rgb { bytes, at, alpha };
    Some(match format {
        0 => Form::Rgb565 { swapped: false },
        5 => Form::Rgb565 { swapped: true },
        1 => rgb(4, [0, 1, 2], Some(3)),
        2 => rgb(4, [0, 1, 2], None),
        3 => rgb(4, [2, 1, 0], Some(3)),
        4 => rgb(4, [2, 1, 0], None),
        6 => rgb(4, [1, 2, 3], Some(0)),
        7 => rgb(4, [3, 2, 1], Some(0)),
        8 => rgb(4, [1, 2, 3], None),
        9 => rgb(4, [3, 2, 1], None),
        10 => rgb(3, [0, 1, 2], None),
        11 => rgb(3, [2, 1, 0], None),
        20 => Form::Semi { swapped: false, rows: 2 },
        23 => Form::Semi { swapped: true, rows: 2 },
        28 => Form::Semi { swapped: false, rows: 1 },
        29 => Form::Semi { swapped: true, rows: 1 },
        21 => Form::Planar { swapped: false },
        22 => Form::Planar { swapped: true },
        24 => Form::Packed { y: 0, u: 1, v: 3 },
        25 => Form::Packed { y: 0, u: 3, v: 1 },
        26 => Form::Packed { y: 1, u: 0, v: 2 },
        27 => Form::Packed { y: 1, u: 2, v: 0 },
        _ => return None,
    })
}

impl Form {
    pub fn is_yuv(self) -> bool {
        !matches!(self, Self::Rgb565 { .. } | Self::Rgb { .. })
    }

    pub fn planes(self) -> usize {
        match self {
            Self::Semi { .. } => 2,
            Self::Planar { .. } => 3,
            _ => 1,
        }
    }
}

/// Where the byte at a place in rows is in tiles.
fn tiled(at: usize, stride: usize) -> usize {
    let (x, y) = (at % stride, at / stride);
    y / 128 * stride * 128 + x / 8 * 8 * 128 + y % 128 * 8 + x % 8
}

/// Three components in the picture's own space and alpha, 0 to 255.
type Pixel = [f32; 4];

impl Picture {
    fn byte(&self, plane: usize, at: usize) -> u8 {
        let Some((region, offset)) = &self.planes[plane] else { return 0 };
        let at = if self.is_tiled { tiled(at, self.s.stride as usize) } else { at };
        if offset + at >= region.len() {
            violation(format!("read at byte {} of {}", offset + at, region.len()));
            return 0;
        }
        // SAFETY: inside the region, which is mapped as long as the picture holds it. Others may write it meanwhile:
        // volatile, and any byte will do.
        unsafe { region.as_ptr().add(offset + at).read_volatile() }
    }

    fn put(&self, plane: usize, at: usize, value: f32) {
        let Some((region, offset)) = &self.planes[plane] else { return };
        if offset + at >= region.len() {
            return violation(format!("write at byte {} of {}", offset + at, region.len()));
        }
        let value = value.round().clamp(0.0, 255.0) as u8;
        let Some(memory) = region.writable() else { return };
        // SAFETY: as in `byte`; the mapping is writable.
        unsafe { memory.add(offset + at).write_volatile(value) };
    }

    /// Whether all planes can be written. A camera's buffers cannot.
    pub fn is_writable(&self) -> bool {
        self.planes.iter().flatten().all(|(region, _)| region.writable().is_some())
    }

    fn form(&self) -> Form {
        form(self.s.format).unwrap_or(Form::Rgb565 { swapped: false })
    }

    /// Byte of plane 0 where a pixel begins; of the pair for packed YUV.
    fn at(&self, x: i32, y: i32) -> usize {
        let (x, row) = (x as usize, y as usize * self.s.stride as usize);
        match self.form() {
            Form::Rgb565 { .. } => (row + x) * 2,
            Form::Rgb { bytes, .. } => (row + x) * bytes,
            Form::Packed { .. } => row * 2 + x / 2 * 4,
            Form::Semi { .. } | Form::Planar { .. } => row + x,
        }
    }

    fn pixel(&self, x: i32, y: i32) -> Pixel {
        let get = |plane, at| f32::from(self.byte(plane, at));
        let (at, stride) = (self.at(x, y), self.s.stride as usize);
        match self.form() {
            Form::Rgb565 { swapped } => {
                let word = u16::from_le_bytes([self.byte(0, at), self.byte(0, at + 1)]);
                let part = |shift: u32, bits: u32| {
                    let most = (1u32 << bits) - 1;
                    (u32::from(word >> shift) & most) as f32 * 255.0 / most as f32
                };
                let (high, low) = (part(11, 5), part(0, 5));
                let (r, b) = if swapped { (low, high) } else { (high, low) };
                [r, part(5, 6), b, 255.0]
            }
            Form::Rgb { at: [r, g, b], alpha, .. } => {
                let a = alpha.map_or(255.0, |a| get(0, at + a));
                [get(0, at + r), get(0, at + g), get(0, at + b), a]
            }
            Form::Semi { swapped, rows } => {
                let c = y as usize / rows as usize * stride + x as usize / 2 * 2;
                let (u, v) = (get(1, c), get(1, c + 1));
                if swapped {
                    [get(0, at), v, u, 255.0]
                } else {
                    [get(0, at), u, v, 255.0]
                }
            }
            Form::Planar { swapped } => {
                let c = y as usize / 2 * (stride / 2) + x as usize / 2;
                let (u, v) = (get(1, c), get(2, c));
                if swapped {
                    [get(0, at), v, u, 255.0]
                } else {
                    [get(0, at), u, v, 255.0]
                }
            }
            Form::Packed { y: luma, u, v } => {
                [get(0, at + luma + 2 * (x as usize & 1)), get(0, at + u), get(0, at + v), 255.0]
            }
        }
    }

    /// Writes a rectangle of pixels; chroma is the mean of the pixels that share it.
    fn store(&self, [left, top, right, bottom]: [i32; 4], pixels: &[Pixel]) {
        let width = (right - left) as usize;
        let pixel = |x: i32, y: i32| pixels[(y - top) as usize * width + (x - left) as usize];
        let form = self.form();
        let stride = self.s.stride as usize;
        for y in top..bottom {
            for x in left..right {
                let (p, at) = (pixel(x, y), self.at(x, y));
                match form {
                    Form::Rgb565 { swapped } => {
                        let part = |v: f32, bits: u32| (v * ((1 << bits) - 1) as f32 / 255.0).round() as u16;
                        let (high, low) = if swapped { (p[2], p[0]) } else { (p[0], p[2]) };
                        let word = part(high, 5) << 11 | part(p[1], 6) << 5 | part(low, 5);
                        let [a, b] = word.to_le_bytes();
                        self.put(0, at, f32::from(a));
                        self.put(0, at + 1, f32::from(b));
                    }
                    Form::Rgb { bytes, at: order, alpha } => {
                        for (component, place) in order.into_iter().enumerate() {
                            self.put(0, at + place, p[component]);
                        }
                        match alpha {
                            Some(a) => self.put(0, at + a, p[3]),
                            None if bytes == 4 => {
                                let unused = 6 - order.iter().sum::<usize>();
                                self.put(0, at + unused, 255.0);
                            }
                            None => {}
                        }
                    }
                    Form::Packed { y: luma, .. } => self.put(0, at + luma + 2 * (x as usize & 1), p[0]),
                    Form::Semi { .. } | Form::Planar { .. } => self.put(0, at, p[0]),
                }
            }
        }
        let rows = match form {
            Form::Semi { rows, .. } => rows,
            Form::Planar { .. } => 2,
            Form::Packed { .. } => 1,
            _ => return,
        };
        for y in (top..bottom).filter(|y| y % rows == 0 || *y == top) {
            for x in (left..right).filter(|x| x % 2 == 0 || *x == left) {
                let mut sum = [0.0f32; 3];
                for cy in (y..bottom).take(rows as usize) {
                    for cx in (x..right).take(2) {
                        let p = pixel(cx, cy);
                        sum = [sum[0] + p[1], sum[1] + p[2], sum[2] + 1.0];
                    }
                }
                let (u, v) = (sum[0] / sum[2], sum[1] / sum[2]);
                match form {
                    Form::Semi { swapped, rows } => {
                        let c = y as usize / rows as usize * stride + x as usize / 2 * 2;
                        let (first, second) = if swapped { (v, u) } else { (u, v) };
                        self.put(1, c, first);
                        self.put(1, c + 1, second);
                    }
                    Form::Planar { swapped } => {
                        let c = y as usize / 2 * (stride / 2) + x as usize / 2;
                        let (first, second) = if swapped { (v, u) } else { (u, v) };
                        self.put(1, c, first);
                        self.put(2, c, second);
                    }
                    Form::Packed { u: at_u, v: at_v, .. } => {
                        let at = self.at(x, y);
                        self.put(0, at + at_u, u);
                        self.put(0, at + at_v, v);
                    }
                    _ => {}
                }
            }
        }
    }

    fn rect(&self) -> [i32; 4] {
        [self.s.left, self.s.top, self.s.right, self.s.bottom]
    }

    /// Between the pixels around a point, edges repeated.
    fn sample(&self, x: f32, y: f32) -> Pixel {
        let [left, top, right, bottom] = self.rect();
        let (x, y) = (x - 0.5, y - 0.5);
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let get = |dx: i32, dy: i32| {
            self.pixel((x0 as i32 + dx).clamp(left, right - 1), (y0 as i32 + dy).clamp(top, bottom - 1))
        };
        if fx == 0.0 && fy == 0.0 {
            return get(0, 0);
        }
        let (a, b, c, d) = (get(0, 0), get(1, 0), get(0, 1), get(1, 1));
        std::array::from_fn(|i| {
            let (upper, lower) = (a[i] + (b[i] - a[i]) * fx, c[i] + (d[i] - c[i]) * fx);
            upper + (lower - upper) * fy
        })
    }
}

/// Where in the upright picture a point (0 to 1) of the turned one comes from.
fn unturn(rot: u32, u: f32, v: f32) -> (f32, f32) {
    match rot {
        1 => (v, 1.0 - u),
        2 => (1.0 - u, 1.0 - v),
        3 => (1.0 - v, u),
        4 => (1.0 - u, v),
        5 => (u, 1.0 - v),
        _ => (u, v),
    }
}

fn weights(matrix: u32) -> (f32, f32, bool) {
    let (kr, kb) = if matrix == 6 || matrix == 8 { (0.2126, 0.0722) } else { (0.299, 0.114) };
    (kr, kb, matrix >= 7)
}

fn yuv_to_rgb(p: Pixel, matrix: u32) -> Pixel {
    let (kr, kb, full) = weights(matrix);
    let (black, range, chroma) = if full { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
    let y = (p[0] - black) * 255.0 / range;
    let (u, v) = ((p[1] - 128.0) * 255.0 / chroma, (p[2] - 128.0) * 255.0 / chroma);
    let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r.clamp(0.0, 255.0), g.clamp(0.0, 255.0), b.clamp(0.0, 255.0), p[3]]
}

fn rgb_to_yuv(p: Pixel, matrix: u32) -> Pixel {
    let (kr, kb, full) = weights(matrix);
    let (black, range, chroma) = if full { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
    let y = kr * p[0] + (1.0 - kr - kb) * p[1] + kb * p[2];
    let (u, v) = ((p[2] - y) / (2.0 * (1.0 - kb)), (p[0] - y) / (2.0 * (1.0 - kr)));
    [black + y * range / 255.0, 128.0 + u * chroma / 255.0, 128.0 + v * chroma / 255.0, p[3]]
}

/// The factor of a `g2d_blend_func`, by which components are multiplied.
fn factor(func: u32, source_alpha: f32, target_alpha: f32) -> f32 {
    match func & 0xf {
        0 => 0.0,
        1 => 1.0,
        2 => source_alpha,
        3 => 1.0 - source_alpha,
        4 => target_alpha,
        5 => 1.0 - target_alpha,
        _ => 1.0,
    }
}

pub fn execute(command: &Command) {
    match command {
        Command::Blit { from, to, caps, clip } => blit(from, to, caps, *clip),
        Command::Clear { area, color } => {
            let [left, top, right, bottom] = area.rect();
            let count = ((right - left) * (bottom - top)) as usize;
            // Alpha is not looked at.
            let color = [f32::from(color[0]), f32::from(color[1]), f32::from(color[2]), 0.0];
            let color = if area.form().is_yuv() { rgb_to_yuv(color, 5) } else { color };
            area.store(area.rect(), &vec![color; count]);
        }
        Command::Copy { from, to, bytes } => {
            let bytes = (*bytes).min(from.len()).min(to.len());
            let Some(memory) = to.writable() else { return };
            // SAFETY: both regions are mapped and this long; they are different mappings.
            unsafe { std::ptr::copy(from.as_ptr(), memory, bytes) };
        }
    }
}

fn blit(from: &Picture, to: &Picture, caps: &Caps, clip: Option<[i32; 4]>) {
    let [left, top, right, bottom] = to.rect();
    let [clip_left, clip_top, clip_right, clip_bottom] = clip.unwrap_or([left, top, right, bottom]);
    let shown = [left.max(clip_left), top.max(clip_top), right.min(clip_right), bottom.min(clip_bottom)];
    if shown[0] >= shown[2] || shown[1] >= shown[3] {
        return;
    }
    let (width, height) = ((right - left) as f32, (bottom - top) as f32);
    let (from_width, from_height) = ((from.s.right - from.s.left) as f32, (from.s.bottom - from.s.top) as f32);
    let convert = (from.form().is_yuv(), to.form().is_yuv());
    let mut pixels = Vec::with_capacity(((shown[2] - shown[0]) * (shown[3] - shown[1])) as usize);
    for y in shown[1]..shown[3] {
        for x in shown[0]..shown[2] {
            let (u, v) = (((x - left) as f32 + 0.5) / width, ((y - top) as f32 + 0.5) / height);
            let (u, v) = unturn(to.s.rot, u, v);
            let (u, v) = unturn(from.s.rot, u, v);
            let x_from = from.s.left as f32 + snap(u * from_width);
            let y_from = from.s.top as f32 + snap(v * from_height);
            let p = from.sample(x_from, y_from);
            let p = match convert {
                (true, false) => yuv_to_rgb(p, caps.matrix),
                (false, true) => rgb_to_yuv(p, caps.matrix),
                _ => p,
            };
            pixels.push(if caps.blend { mix(p, to.pixel(x, y), from, to, caps) } else { p });
        }
    }
    to.store(shown, &pixels);
}

/// Rounding must not move a sample off the middle of its pixel.
fn snap(at: f32) -> f32 {
    let near = (at * 2.0).round() / 2.0;
    if (near - at).abs() < 1e-3 {
        near
    } else {
        at
    }
}

fn mix(p: Pixel, below: Pixel, from: &Picture, to: &Picture, caps: &Caps) -> Pixel {
    let global = if caps.global_alpha { from.s.global_alpha as f32 / 255.0 } else { 1.0 };
    let source_alpha = p[3] / 255.0 * global;
    let target_alpha = below[3] / 255.0;
    let multiplied = if from.s.blendfunc & 0x10 != 0 { source_alpha } else { 1.0 };
    let (over, under) =
        (factor(from.s.blendfunc, source_alpha, target_alpha), factor(to.s.blendfunc, source_alpha, target_alpha));
    let color = |i: usize| p[i] * multiplied * over + below[i] * under;
    let alpha = (source_alpha * over + target_alpha * under) * 255.0;
    [color(0), color(1), color(2), alpha]
}
