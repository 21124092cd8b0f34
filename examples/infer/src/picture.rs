//! A frame as a PNG, with boxes.

use std::fs::File;
use std::path::Path;

use framelease::convert::tensor::{Axes, Tensor};
use framelease::format::Size;
use framelease::frame::Frame;

use crate::common::Result;
use crate::detector::Bar;

/// The width of a box's lines in pixels.
const LINE: u32 = 6;

/// A copy of a frame's pixels.
pub struct Picture {
    size: Size,
    rgb: Vec<u8>,
}

/// Copies the pixels of a frame, as RGB.
pub fn read(frame: &Frame) -> Result<Picture> {
    let size = frame.layout().size();
    let mut tensor = Tensor::builder(size).axes(Axes::Hwc).build()?;
    let mut rgb = vec![0; tensor.elements()];
    tensor.write(frame, &mut rgb)?;
    Ok(Picture { size, rgb })
}

impl Picture {
    /// Draws a box for each bar, and writes the file.
    pub fn write(mut self, path: &Path, found: &[Bar]) -> Result<()> {
        for bar in found {
            self.draw(bar);
        }
        let mut encoder = png::Encoder::new(File::create(path)?, self.size.width, self.size.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&self.rgb)?;
        Ok(())
    }

    fn draw(&mut self, bar: &Bar) {
        let [left, top, right, bottom] = bar.edges.map(|edge| edge as u32);
        for (y, x) in (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))) {
            let depth = (x - left).min(right - 1 - x).min(y - top).min(bottom - 1 - y);
            if depth < LINE {
                // A gray rim, so that a line can be seen on its own color.
                let color = if depth == 0 || depth == LINE - 1 { [128; 3] } else { bar.color() };
                let at = (y * self.size.width + x) as usize * 3;
                self.rgb[at..at + 3].copy_from_slice(&color);
            }
        }
    }
}
