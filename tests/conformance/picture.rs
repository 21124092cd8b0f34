//! Pictures that are known at every point. They are smooth functions, so the scaling filter does not matter, only the
//! positions. The tests write them into frames, and compare frames with them, by their own code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FormatKind, FourCc, Layout, Range};
use framelease::frame::{Frame, FrameMut, Pool};

/// Red, green, blue and straight alpha, 0 to 1.
pub type Rgba = [f64; 4];

/// Picture `which` at a point of the unit square. It is neither symmetric nor periodic in any orientation.
pub fn point(which: usize, u: f64, v: f64) -> Rgba {
    let wave = |x: f64| 0.5 + 0.4 * (x * std::f64::consts::TAU).sin();
    match which % 3 {
        0 => [0.1 + 0.8 * u, 0.9 - 0.8 * v, wave(0.7 * u + 0.4 * v), 0.3 + 0.6 * u],
        1 => [wave(0.6 * v + 0.2), 0.2 + 0.6 * (u * 0.7 + v * 0.3), 0.9 - 0.7 * u, 0.9 - 0.5 * v],
        _ => [0.8 - 0.6 * v, wave(0.5 * u - 0.3 * v), 0.15 + 0.7 * v, 0.5 + 0.3 * v],
    }
}

/// Y, U, V codes in the layout's color space, not rounded.
fn yuv(layout: &Layout, [r, g, b, _]: Rgba) -> [f64; 3] {
    let color = layout.colorimetry();
    let (kr, kb) = color.matrix().luma_weights();
    let (kr, kb) = (f64::from(kr), f64::from(kb));
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (u, v) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
    match color.quantization(FormatKind::Yuv) {
        Range::Full => [255.0 * y, 128.0 + 255.0 * u, 128.0 + 255.0 * v],
        _ => [16.0 + 219.0 * y, 128.0 + 224.0 * u, 128.0 + 224.0 * v],
    }
}

fn byte(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// The bytes of one row of a color plane of picture `which`. `premultiplied` multiplies colors by alpha.
fn row(layout: &Layout, which: usize, premultiplied: bool, plane: usize, y: u32) -> Vec<u8> {
    let info = layout.fourcc().info().unwrap();
    let (width, height) = (f64::from(layout.size().width), f64::from(layout.size().height));
    let at = |x: f64, y: f64| {
        let [r, g, b, a] = point(which, x / width, y / height);
        if premultiplied {
            [r * a, g * a, b * a, a]
        } else {
            [r, g, b, a]
        }
    };
    // The middle of `across` x `down` pixels, within the picture.
    let middle = |x: u32, across: u32, down: u32| {
        let mid = |i: u32, n: u32, side: f64| (f64::from(i * n) + f64::from((i + 1) * n).min(side)) / 2.0;
        at(mid(x, across, width), mid(y, down, height))
    };
    let name = info.name.trim_end_matches('M');
    let (across, down) = (info.planes[plane].horizontal, info.planes[plane].vertical);
    let count = layout.size().width.div_ceil(across);
    let mut out = Vec::new();
    for x in 0..count {
        let pixel = middle(x, across, down);
        let [_, u, v] = yuv(layout, pixel).map(byte);
        let luma = |x: u32| byte(yuv(layout, middle(x, 1, 1))[0]);
        let [r, g, b, a] = pixel.map(|c| byte(c * 255.0));
        match (name, plane) {
            ("YUYV", _) => out.extend([luma(2 * x), u, luma(2 * x + 1), v]),
            ("YVYU", _) => out.extend([luma(2 * x), v, luma(2 * x + 1), u]),
            ("UYVY", _) => out.extend([u, luma(2 * x), v, luma(2 * x + 1)]),
            ("VYUY", _) => out.extend([v, luma(2 * x), u, luma(2 * x + 1)]),
            ("GREY", _) => out.push(luma(x)),
            ("P010" | "P012", _) => {
                let bits = if name == "P010" { 10 } else { 12 };
                let word = |code: f64| ((code * f64::from(1 << (bits - 8))).round() as u16) << (16 - bits);
                let [y, u, v] = yuv(layout, if plane == 0 { middle(x, 1, 1) } else { pixel }).map(word);
                let words = if plane == 0 { vec![y] } else { vec![u, v] };
                out.extend(words.into_iter().flat_map(u16::to_le_bytes));
            }
            (_, 0) if info.planes.len() > 1 => out.push(luma(x)),
            ("NV12" | "NV16" | "NV24", _) => out.extend([u, v]),
            ("NV21" | "NV61" | "NV42", _) => out.extend([v, u]),
            ("YVU420" | "YVU422" | "YVU444", 2) => out.push(u),
            ("YVU420" | "YVU422" | "YVU444", _) => out.push(v),
            ("YUV420" | "YUV422P" | "YUV422" | "YUV444", 1) => out.push(u),
            ("YUV420" | "YUV422P" | "YUV422" | "YUV444", _) => out.push(v),
            ("RGB565", _) => {
                let part = |c: f64, most: f64| (c * most).round() as u16;
                let word = part(pixel[0], 31.0) << 11 | part(pixel[1], 63.0) << 5 | part(pixel[2], 31.0);
                out.extend(word.to_le_bytes());
            }
            ("RGB24", _) => out.extend([r, g, b]),
            ("BGR24", _) => out.extend([b, g, r]),
            ("RGBA32" | "RGBX32", _) => out.extend([r, g, b, a]),
            ("ABGR32" | "XBGR32" | "BGR32", _) => out.extend([b, g, r, a]),
            ("ARGB32" | "XRGB32" | "RGB32", _) => out.extend([a, r, g, b]),
            ("BGRA32" | "BGRX32", _) => out.extend([a, b, g, r]),
            (name, _) => panic!("no test picture for {name}"),
        }
    }
    out
}

type Planes = Rc<Vec<Vec<Vec<u8>>>>;

/// All rows of all color planes of picture `which`. They are cached, because all backends get the same pictures.
fn planes(layout: &Layout, which: usize, premultiplied: bool) -> Planes {
    type Key = (Layout, usize, bool);
    thread_local!(static KNOWN: RefCell<HashMap<Key, Planes>> = RefCell::default());
    let make = || {
        let rows = |plane: usize| (0..layout.rows(plane)).map(move |y| row(layout, which, premultiplied, plane, y));
        Rc::new((0..layout.planes().len()).map(|plane| rows(plane).collect()).collect())
    };
    KNOWN.with(|k| Rc::clone(k.borrow_mut().entry((*layout, which, premultiplied)).or_insert_with(make)))
}

/// Writes NV12 in tiles of 8 bytes by 128 rows, which follow each other from left to right.
fn write_tiles(frame: &mut FrameMut, which: usize, premultiplied: bool) {
    let layout = *frame.layout();
    let stride = layout.planes()[0].stride_bytes;
    let rows = Layout::from_strides(FourCc::NV12, layout.size(), &[stride], &[]).unwrap();
    let rows = planes(&rows.with_colorimetry(layout.colorimetry()), which, premultiplied);
    let mut memory: Vec<Vec<u8>> = layout.memory_bytes().iter().map(|&bytes| vec![0; bytes as usize]).collect();
    for (plane, rows) in layout.planes().iter().zip(rows.iter()) {
        for (y, row) in rows.iter().enumerate() {
            for (x, &byte) in row.iter().enumerate() {
                let at = y / 128 * 128 * stride as usize + x / 8 * 1024 + y % 128 * 8 + x % 8;
                memory[plane.memory as usize][plane.offset_bytes as usize + at] = byte;
            }
        }
    }
    for (buffer, bytes) in frame.memory().to_vec().iter_mut().zip(&memory) {
        buffer.write(DEFAULT_WAIT).unwrap().copy_from(0, bytes).unwrap();
    }
}

/// A frame that shows picture `which`, from its own pool.
pub fn frame(allocator: &Allocator, layout: &Layout, which: usize, premultiplied: bool) -> Frame {
    let pool = Pool::new(allocator, *layout, 1).unwrap();
    let mut frame = pool.try_acquire().unwrap();
    if layout.fourcc().info().unwrap().kind == FormatKind::Opaque {
        write_tiles(&mut frame, which, premultiplied);
    } else {
        let mut write = frame.write(DEFAULT_WAIT).unwrap();
        for (plane, rows) in planes(layout, which, premultiplied).iter().enumerate() {
            for (y, bytes) in (0..).zip(rows) {
                write.copy_row(plane, y, bytes).unwrap();
            }
        }
    }
    frame.freeze_full(which as u64 + 7, 1_000_000 * which as u64)
}

/// Peak signal-to-noise ratio in dB over the pixels that `count` accepts; both as RGB, three bytes a pixel.
pub fn psnr(expected: &[u8], got: &[u8], count: impl Fn(usize) -> bool) -> f64 {
    assert_eq!(expected.len(), got.len());
    // Plain loops: a debug build spends most of the suite's time here.
    let (mut sum, mut n, mut at) = (0u64, 0u32, 0);
    while at < got.len() {
        if count(at / 3) {
            for i in at..at + 3 {
                let d = u64::from(expected[i].abs_diff(got[i]));
                sum += d * d;
            }
            n += 3;
        }
        at += 3;
    }
    assert!(n > 0, "nothing to compare");
    if sum == 0 {
        99.0
    } else {
        10.0 * (255.0f64.powi(2) * f64::from(n) / sum as f64).log10()
    }
}
