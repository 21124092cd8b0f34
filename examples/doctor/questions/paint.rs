//! Test pictures: four colored quarters, written in the formats that converters take.

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{Encoding, FormatKind, Layout, Plane, Range};
use framelease::frame::{Frame, FrameMut, Pool};

use super::super::common::Result;

pub type Rgb = [u8; 3];

pub const RED: Rgb = [255, 0, 0];
pub const GREEN: Rgb = [0, 255, 0];
pub const BLUE: Rgb = [0, 0, 255];
pub const WHITE: Rgb = [255, 255, 255];

/// From left to right, then down.
pub type Quarters = [Rgb; 4];
pub const PICTURE: Quarters = [RED, GREEN, BLUE, WHITE];

pub fn buffer(layout: Layout) -> Result<FrameMut> {
    Ok(Pool::new(&Allocator::for_devices()?, layout, 1)?.try_acquire().ok_or("the buffer is leased")?)
}

/// The quarters as a frame.
pub fn painted(layout: Layout, quarters: Quarters) -> Result<Frame> {
    let mut frame = buffer(layout)?;
    fill(&mut frame, quarters)?;
    Ok(frame.freeze_full(0, 0))
}

/// Unused bytes before a picture.
pub const OFFSET: u32 = 4096;

/// The layout with the picture further back in its memory.
pub fn moved(plain: &Layout) -> Result<Layout> {
    let planes: Vec<Plane> =
        plain.planes().iter().map(|p| Plane { offset_bytes: p.offset_bytes + OFFSET, ..*p }).collect();
    let bytes: Vec<u32> = plain.memory_bytes().iter().map(|bytes| bytes + OFFSET).collect();
    let moved = Layout::from_planes(plain.fourcc(), plain.size(), &bytes, &planes)?;
    Ok(moved.with_colorimetry(plain.colorimetry()))
}

/// Writes the quarters into a frame. A color plane is written row by row.
pub fn fill(frame: &mut FrameMut, quarters: Quarters) -> Result<()> {
    let layout = *frame.layout();
    let (size, color) = (layout.size(), layout.colorimetry());
    let wide = color.matrix() == Encoding::Bt709;
    let full = color.quantization(FormatKind::Yuv) == Range::Full;
    let colors = quarters.map(|rgb| (rgb, yuv(rgb, wide, full)));
    let mut write = frame.write(DEFAULT_WAIT)?;
    for plane in 0..layout.planes().len() {
        let height = layout.rows(plane);
        for y in 0..height {
            let row_at = usize::from(y >= height / 2) * 2;
            let mut row = Vec::with_capacity(layout.row_bytes(plane) as usize);
            for x in 0..size.width {
                pixel(&layout, plane, x, colors[row_at + usize::from(x >= size.width / 2)], &mut row)?;
            }
            write.copy_row(plane, y, &row)?;
        }
    }
    Ok(())
}

/// The bytes that pixel `x` adds to a row.
fn pixel(layout: &Layout, plane: usize, x: u32, (rgb, yuv): (Rgb, Rgb), row: &mut Vec<u8>) -> Result<()> {
    let ([r, g, b], [luma, u, v]) = (rgb, yuv);
    let is_even = x % 2 == 0;
    let name = layout.fourcc().info().map_or("", |info| info.name);
    match (name.trim_end_matches('M'), plane) {
        ("NV12", 0) => row.push(luma),
        ("NV12", _) if is_even => row.extend([u, v]),
        ("NV12", _) => {}
        ("YUYV", _) => row.extend([luma, if is_even { u } else { v }]),
        ("UYVY", _) => row.extend([if is_even { u } else { v }, luma]),
        ("RGB24", _) => row.extend([r, g, b]),
        ("BGR24", _) => row.extend([b, g, r]),
        ("RGBA32" | "RGBX32", _) => row.extend([r, g, b, 255]),
        ("ABGR32" | "XBGR32", _) => row.extend([b, g, r, 255]),
        _ => return Err(format!("{} is not painted", layout.fourcc()).into()),
    }
    Ok(())
}

/// Luma and both chroma values of a color.
pub fn yuv(rgb: Rgb, wide: bool, full: bool) -> Rgb {
    let [r, g, b] = rgb.map(f64::from);
    let (kr, kb) = weights(wide);
    let luma = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (u, v) = ((b - luma) / (2.0 - 2.0 * kb), (r - luma) / (2.0 - 2.0 * kr));
    let (base, luma_scale, chroma_scale) = if full { (0.0, 1.0, 1.0) } else { (16.0, 219.0 / 255.0, 224.0 / 255.0) };
    [base + luma * luma_scale, 128.0 + u * chroma_scale, 128.0 + v * chroma_scale].map(|c| c.round() as u8)
}

/// The color of such values.
pub fn rgb(yuv: Rgb, wide: bool, full: bool) -> Rgb {
    let [luma, u, v] = yuv.map(f64::from);
    let (kr, kb) = weights(wide);
    let (base, luma_scale, chroma_scale) = if full { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
    let (luma, u, v) = ((luma - base) * luma_scale, (u - 128.0) * chroma_scale, (v - 128.0) * chroma_scale);
    let (r, b) = (luma + 2.0 * (1.0 - kr) * v, luma + 2.0 * (1.0 - kb) * u);
    let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|c| c.round() as u8)
}

fn weights(wide: bool) -> (f64, f64) {
    if wide {
        (0.2126, 0.0722)
    } else {
        (0.299, 0.114)
    }
}

/// The sum of the differences.
pub fn distance(a: Rgb, b: Rgb) -> u32 {
    a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum()
}
