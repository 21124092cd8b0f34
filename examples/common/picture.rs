//! Writes a captured frame as a PNG, with the CPU. Speed does not matter for one picture.

#![allow(dead_code)] // The tests use a part.

use std::io::Write;

use framelease::format::{ColorSpace, Encoding, FormatKind, Layout, Range};
use framelease::frame::Frame;

use super::common::Result;

/// The pixels of a frame as RGB, three bytes each.
pub fn rgb(frame: &Frame) -> Result<Vec<u8>> {
    let layout = frame.layout();
    let info = layout.fourcc().info().filter(|i| i.kind != FormatKind::Compressed);
    let info = info.ok_or_else(|| format!("{} cannot be drawn", layout.fourcc()))?;
    let planes = rows(frame)?;
    let name = info.name.trim_end_matches('M');
    let pixel = |x: usize, y: usize| -> Option<[u8; 3]> {
        let at = |plane: usize, row: usize, byte: usize| planes[plane].get(row)?.get(byte).copied();
        let yuv = |y, u, v| Some(to_rgb(layout, y?, u?, v?));
        match name {
            "NV12" => yuv(at(0, y, x), at(1, y / 2, x & !1), at(1, y / 2, x | 1)),
            "NV21" => yuv(at(0, y, x), at(1, y / 2, x | 1), at(1, y / 2, x & !1)),
            "NV16" => yuv(at(0, y, x), at(1, y, x & !1), at(1, y, x | 1)),
            "NV61" => yuv(at(0, y, x), at(1, y, x | 1), at(1, y, x & !1)),
            "YUV420" => yuv(at(0, y, x), at(1, y / 2, x / 2), at(2, y / 2, x / 2)),
            "YVU420" => yuv(at(0, y, x), at(2, y / 2, x / 2), at(1, y / 2, x / 2)),
            "NV24" => yuv(at(0, y, x), at(1, y, 2 * x), at(1, y, 2 * x + 1)),
            "NV42" => yuv(at(0, y, x), at(1, y, 2 * x + 1), at(1, y, 2 * x)),
            "YUV422P" | "YUV422" => yuv(at(0, y, x), at(1, y, x / 2), at(2, y, x / 2)),
            "YVU422" => yuv(at(0, y, x), at(2, y, x / 2), at(1, y, x / 2)),
            "YUV444" if info.planes.len() == 3 => yuv(at(0, y, x), at(1, y, x), at(2, y, x)),
            "YVU444" => yuv(at(0, y, x), at(2, y, x), at(1, y, x)),
            "YUYV" => yuv(at(0, y, 2 * x), at(0, y, x / 2 * 4 + 1), at(0, y, x / 2 * 4 + 3)),
            "YVYU" => yuv(at(0, y, 2 * x), at(0, y, x / 2 * 4 + 3), at(0, y, x / 2 * 4 + 1)),
            "UYVY" => yuv(at(0, y, 2 * x + 1), at(0, y, x / 2 * 4), at(0, y, x / 2 * 4 + 2)),
            "VYUY" => yuv(at(0, y, 2 * x + 1), at(0, y, x / 2 * 4 + 2), at(0, y, x / 2 * 4)),
            "GREY" => yuv(at(0, y, x), Some(128), Some(128)),
            "RGB565" => {
                let word = u16::from_le_bytes([at(0, y, 2 * x)?, at(0, y, 2 * x + 1)?]);
                let part =
                    |shift: u32, bits: u32| (u32::from(word >> shift) % (1 << bits) * 255 / ((1 << bits) - 1)) as u8;
                Some([part(11, 5), part(5, 6), part(0, 5)])
            }
            _ => {
                // The name has the order of bytes in memory.
                let bytes = info.planes[0].bytes as usize;
                let order = match name {
                    "RGB24" | "RGBA32" | "RGBX32" => [0, 1, 2],
                    "BGR24" | "ABGR32" | "XBGR32" | "BGR32" => [2, 1, 0],
                    "ARGB32" | "XRGB32" | "RGB32" => [1, 2, 3],
                    "BGRA32" | "BGRX32" => [3, 2, 1],
                    _ => return None,
                };
                Some([
                    at(0, y, bytes * x + order[0])?,
                    at(0, y, bytes * x + order[1])?,
                    at(0, y, bytes * x + order[2])?,
                ])
            }
        }
    };
    let size = layout.size();
    let mut out = Vec::with_capacity(size.width as usize * size.height as usize * 3);
    for y in 0..size.height as usize {
        for x in 0..size.width as usize {
            out.extend(pixel(x, y).ok_or_else(|| format!("{} cannot be drawn", layout.fourcc()))?);
        }
    }
    Ok(out)
}

/// The rows of each color plane, without padding.
fn rows(frame: &Frame) -> Result<Vec<Vec<Vec<u8>>>> {
    let (layout, read) = (frame.layout(), frame.read(framelease::dmabuf::DEFAULT_WAIT)?);
    let mut planes = Vec::new();
    for plane in 0..layout.planes().len() {
        let mut rows = vec![vec![0; layout.row_bytes(plane) as usize]; layout.rows(plane) as usize];
        for (row, bytes) in (0..).zip(&mut rows) {
            read.copy_row(plane, row, bytes)?;
        }
        planes.push(rows);
    }
    Ok(planes)
}

fn to_rgb(layout: &Layout, y: u8, u: u8, v: u8) -> [u8; 3] {
    let color = layout.colorimetry();
    let wide = matches!(color.encoding, Encoding::Bt709 | Encoding::XvYcc709)
        || (color.encoding == Encoding::Default && matches!(color.space, ColorSpace::Rec709 | ColorSpace::DciP3));
    let (kr, kb) = if wide { (0.2126, 0.0722) } else { (0.299, 0.114) };
    let full = color.range == Range::Full || (color.range == Range::Default && color.space == ColorSpace::Jpeg);
    let (y, scale) = if full { (f32::from(y), 255.0) } else { ((f32::from(y) - 16.0) * 255.0 / 219.0, 224.0) };
    let (u, v) = ((f32::from(u) - 128.0) * 255.0 / scale, (f32::from(v) - 128.0) * 255.0 / scale);
    let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|c| c.round().clamp(0.0, 255.0) as u8)
}

/// Writes RGB pixels as a PNG.
pub fn write_png(out: impl Write, width: u32, height: u32, rgb: &[u8]) -> Result<()> {
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(rgb)?;
    Ok(())
}
