//! Tensors in plain `f64`, by another way than the library's: every pixel of the picture is converted, then scaled.

use framelease::convert::tensor::{Filter, Placement};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::{FormatKind, Range, Rect};
use framelease::frame::Frame;

/// A picture whose pixels are red, green and blue from 0 to 255, not rounded.
pub struct Picture {
    pub pixels: Vec<Vec<[f64; 3]>>,
}

impl Picture {
    /// Converts a whole frame by the published matrices. In a grey picture, all components are luma.
    pub fn of(frame: &Frame, is_grey: bool) -> Self {
        let layout = frame.layout();
        let read = frame.read(DEFAULT_WAIT).unwrap();
        let planes: Vec<Vec<Vec<u8>>> = (0..layout.planes().len())
            .map(|plane| {
                let row = |y| {
                    let mut row = vec![0; layout.row_bytes(plane) as usize];
                    read.copy_row(plane, y, &mut row).unwrap();
                    row
                };
                (0..layout.rows(plane)).map(row).collect()
            })
            .collect();
        let info = layout.fourcc().info().unwrap();
        let codes = |x: usize, y: usize| -> [u8; 3] {
            let at = |plane: usize, x: usize, y: usize| planes[plane][y][x];
            let (x2, y2) = (x / 2, y / 2);
            match info.name.trim_end_matches('M') {
                "NV12" => [at(0, x, y), at(1, 2 * x2, y2), at(1, 2 * x2 + 1, y2)],
                "NV21" => [at(0, x, y), at(1, 2 * x2 + 1, y2), at(1, 2 * x2, y2)],
                "P010" => [at(0, 2 * x + 1, y), at(1, 4 * x2 + 1, y2), at(1, 4 * x2 + 3, y2)],
                "NV16" => [at(0, x, y), at(1, 2 * x2, y), at(1, 2 * x2 + 1, y)],
                "NV24" => [at(0, x, y), at(1, 2 * x, y), at(1, 2 * x + 1, y)],
                "YUV420" => [at(0, x, y), at(1, x2, y2), at(2, x2, y2)],
                "YVU420" => [at(0, x, y), at(2, x2, y2), at(1, x2, y2)],
                "YUYV" => [at(0, 2 * x, y), at(0, 4 * x2 + 1, y), at(0, 4 * x2 + 3, y)],
                "UYVY" => [at(0, 2 * x + 1, y), at(0, 4 * x2, y), at(0, 4 * x2 + 2, y)],
                "GREY" => [at(0, x, y), 128, 128],
                "RGB24" => [at(0, 3 * x, y), at(0, 3 * x + 1, y), at(0, 3 * x + 2, y)],
                "BGR24" => [at(0, 3 * x + 2, y), at(0, 3 * x + 1, y), at(0, 3 * x, y)],
                "RGBA32" | "RGBX32" => [at(0, 4 * x, y), at(0, 4 * x + 1, y), at(0, 4 * x + 2, y)],
                "ABGR32" | "XBGR32" => [at(0, 4 * x + 2, y), at(0, 4 * x + 1, y), at(0, 4 * x, y)],
                "ARGB32" => [at(0, 4 * x + 1, y), at(0, 4 * x + 2, y), at(0, 4 * x + 3, y)],
                name => panic!("{name}"),
            }
        };
        let color = layout.colorimetry();
        let (kr, kb) = color.matrix().luma_weights();
        let (kr, kb) = (f64::from(kr), f64::from(kb));
        let is_full = color.quantization(info.kind) == Range::Full;
        let (black, luma, chroma) = if is_full { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        let rgb = |codes: [u8; 3]| {
            let codes = codes.map(f64::from);
            let mut values = if info.kind == FormatKind::Rgb {
                codes.map(|code| (code - black) / luma)
            } else {
                let (y, u, v) =
                    ((codes[0] - black).max(0.0) / luma, (codes[1] - 128.0) / chroma, (codes[2] - 128.0) / chroma);
                let (u, v) = if is_grey { (0.0, 0.0) } else { (u, v) };
                let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
                [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b]
            };
            if is_grey {
                values = [kr * values[0] + (1.0 - kr - kb) * values[1] + kb * values[2]; 3];
            }
            values.map(|value| (value * 255.0).clamp(0.0, 255.0))
        };
        let (width, height) = (layout.size().width as usize, layout.size().height as usize);
        Self { pixels: (0..height).map(|y| (0..width).map(|x| rgb(codes(x, y))).collect()).collect() }
    }

    /// Scales the crop of a placement to its place.
    pub fn scaled(&self, placement: &Placement, filter: Filter) -> Vec<Vec<[f64; 3]>> {
        let (Rect { left, top, size: from }, to) = (placement.crop, placement.place.size);
        let is_reduced = to.width <= from.width && to.height <= from.height;
        let weights = match filter {
            Filter::Area if is_reduced => area,
            _ => bilinear,
        };
        let (columns, rows) = (weights(from.width, to.width), weights(from.height, to.height));
        let pixel = |row: &[(usize, f64)], column: &[(usize, f64)]| {
            let mut sum = [0.0; 3];
            for (y, wy) in row {
                for (x, wx) in column {
                    let pixel = self.pixels[top as usize + y][left as usize + x];
                    (0..3).for_each(|c| sum[c] += wy * wx * pixel[c]);
                }
            }
            sum
        };
        rows.iter().map(|row| columns.iter().map(|column| pixel(row, column)).collect()).collect()
    }
}

type Weights = Vec<Vec<(usize, f64)>>;

fn bilinear(from: u32, to: u32) -> Weights {
    let last = f64::from(from - 1);
    let weights = |i: u32| {
        let at = (f64::from(i) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
        let (near, part) = (at.floor(), at - at.floor());
        let pixel = |at: f64| at.clamp(0.0, last) as usize;
        vec![(pixel(near), 1.0 - part), (pixel(near + 1.0), part)]
    };
    (0..to).map(weights).collect()
}

fn area(from: u32, to: u32) -> Weights {
    let scale = f64::from(from) / f64::from(to);
    let weights = |i: u32| {
        let (begin, end) = (f64::from(i) * scale, f64::from(i + 1) * scale);
        let part = |x: u32| (end.min(f64::from(x + 1)) - begin.max(f64::from(x))).max(0.0) / scale;
        (0..from).map(|x| (x as usize, part(x))).filter(|(_, part)| *part > 0.0).collect()
    };
    (0..to).map(weights).collect()
}
