//! Writes rows of values from 0 to 255 as elements of the tensor.

use super::element::{f16_bits, ElementType};
use super::options::Axes;
use crate::format::Size;

/// The elements of all 256 values of each channel.
type Table<const BYTES: usize> = [[[u8; BYTES]; 256]; 3];

/// The shape of a tensor, and the elements that stand for values.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) axes: Axes,
    pub(super) size: Size,
    pub(super) channels: usize,
    mean: [f32; 3],
    scale: [f32; 3],
    u8: Table<1>,
    i8: Table<1>,
    f16: Table<2>,
}

impl Output {
    /// An element is `(value - mean) * scale`.
    pub(super) fn new(axes: Axes, size: Size, channels: usize, mean: [f32; 3], scale: [f32; 3]) -> Box<Self> {
        let element = |c: usize, value: usize| (value as f32 - mean[c]) * scale[c];
        fn table<const BYTES: usize>(bytes: impl Fn(usize, usize) -> [u8; BYTES]) -> Table<BYTES> {
            std::array::from_fn(|c| std::array::from_fn(|value| bytes(c, value)))
        }
        Box::new(Self {
            axes,
            size,
            channels,
            mean,
            scale,
            // Casts saturate.
            u8: table(|c, value| [nearest(element(c, value)) as u8]),
            i8: table(|c, value| (nearest(element(c, value)) as i8).to_ne_bytes()),
            f16: table(|c, value| f16_bits(element(c, value)).to_ne_bytes()),
        })
    }

    /// Returns the number of elements, or `None` if it exceeds the address space.
    pub(super) fn elements(&self) -> Option<usize> {
        (self.size.width as usize).checked_mul(self.size.height as usize)?.checked_mul(self.channels)
    }

    /// Writes a part of row `y`, from column `left` on. The rows are those of the channels, all of one length.
    pub(super) fn row(&self, element: ElementType, rows: [&[u8]; 3], (left, y): (usize, usize), into: &mut [u8]) {
        match element {
            ElementType::U8 => self.put(|c, value| self.u8[c][usize::from(value)], rows, (left, y), into),
            ElementType::I8 => self.put(|c, value| self.i8[c][usize::from(value)], rows, (left, y), into),
            ElementType::F16 => self.put(|c, value| self.f16[c][usize::from(value)], rows, (left, y), into),
            ElementType::F32 => {
                let (mean, scale) = (self.mean, self.scale);
                let element = |c: usize, value: u8| ((f32::from(value) - mean[c]) * scale[c]).to_ne_bytes();
                self.put(element, rows, (left, y), into);
            }
        }
    }

    fn put<const BYTES: usize>(
        &self,
        element: impl Fn(usize, u8) -> [u8; BYTES] + Copy,
        rows: [&[u8]; 3],
        (left, y): (usize, usize),
        into: &mut [u8],
    ) {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        match (self.axes, self.channels) {
            (Axes::Hwc, 3) => {
                let pixels = rows[0].iter().zip(rows[1]).zip(rows[2]);
                let to = &mut into[(y * width + left) * 3 * BYTES..];
                for (((&a, &b), &c), to) in pixels.zip(to.chunks_exact_mut(3 * BYTES)) {
                    to[..BYTES].copy_from_slice(&element(0, a));
                    to[BYTES..2 * BYTES].copy_from_slice(&element(1, b));
                    to[2 * BYTES..].copy_from_slice(&element(2, c));
                }
            }
            // With one channel, both orders are the same.
            _ => {
                for (c, row) in rows.iter().enumerate().take(self.channels) {
                    let to = &mut into[((c * height + y) * width + left) * BYTES..];
                    for (&value, to) in row.iter().zip(to.chunks_exact_mut(BYTES)) {
                        to.copy_from_slice(&element(c, value));
                    }
                }
            }
        }
    }
}

/// Rounds to the nearest integer, halves to even.
fn nearest(value: f32) -> f32 {
    let rounded = value.round();
    let is_half = (value - value.trunc()).abs() == 0.5;
    if is_half && rounded % 2.0 != 0.0 {
        rounded - value.signum()
    } else {
        rounded
    }
}
