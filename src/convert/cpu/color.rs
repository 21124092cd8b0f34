//! Converts codes between color spaces, by one matrix in fixed point.

use crate::convert::Color;
use crate::format::{FormatKind, Layout, Range};

use super::samples::is_yuv;

/// The meaning of codes: Y'CbCr by a matrix, or R'G'B', and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::convert) struct Space {
    yuv: Option<(f32, f32)>,
    full: bool,
}

pub(in crate::convert) type Matrix3 = [[f64; 3]; 3];

impl Space {
    /// Full-range R'G'B', the space of [`Color`].
    const RGB: Self = Self { yuv: None, full: true };

    pub(in crate::convert) fn of(layout: &Layout) -> Self {
        let (color, yuv) = (layout.colorimetry(), is_yuv(layout));
        let kind = if yuv { FormatKind::Yuv } else { FormatKind::Rgb };
        Self { yuv: yuv.then(|| color.matrix().luma_weights()), full: color.quantization(kind) == Range::Full }
    }

    /// Returns the codes of black, without color difference.
    pub(in crate::convert) fn zero(&self) -> [i32; 3] {
        let black = if self.full { 0 } else { 16 };
        if self.yuv.is_some() {
            [black, 128, 128]
        } else {
            [black; 3]
        }
    }

    /// Returns the factors from codes, counted from [`Space::zero`], to full-range R'G'B'.
    pub(in crate::convert) fn factors_to_rgb(self) -> Matrix3 {
        let scales = self.scales();
        self.signal_to_rgb().map(|row| std::array::from_fn(|j| row[j] * 255.0 / scales[j]))
    }

    /// Returns the codes per unit of the signal.
    fn scales(&self) -> [f64; 3] {
        match (self.full, self.yuv.is_some()) {
            (true, _) => [255.0; 3],
            (false, true) => [219.0, 224.0, 224.0],
            (false, false) => [219.0; 3],
        }
    }

    /// Returns the matrix from R'G'B' (0 to 1) to the signal, without offsets.
    fn signal_from_rgb(self) -> Matrix3 {
        let Some((kr, kb)) = self.yuv else { return [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] };
        let (kr, kb) = (f64::from(kr), f64::from(kb));
        let kg = 1.0 - kr - kb;
        let (u, v) = (0.5 / (1.0 - kb), 0.5 / (1.0 - kr));
        [[kr, kg, kb], [-kr * u, -kg * u, (1.0 - kb) * u], [(1.0 - kr) * v, -kg * v, -kb * v]]
    }

    fn signal_to_rgb(self) -> Matrix3 {
        let Some((kr, kb)) = self.yuv else { return self.signal_from_rgb() };
        let (kr, kb) = (f64::from(kr), f64::from(kb));
        let kg = 1.0 - kr - kb;
        let (b, r) = (2.0 * (1.0 - kb), 2.0 * (1.0 - kr));
        [[1.0, 0.0, r], [1.0, -kb * b / kg, -kr * r / kg], [1.0, b, 0.0]]
    }
}

/// Fractional bits of the matrix.
const BITS: u32 = 14;

/// A conversion between two spaces.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Conversion {
    factors: [[i32; 3]; 3],
    offsets: [i32; 3],
}

impl Conversion {
    /// Returns the conversion, or `None` if codes mean the same in both spaces.
    pub(in crate::convert) fn between(from: Space, to: Space) -> Option<Self> {
        if from == to {
            return None;
        }
        let (a, b, from_scale, to_scale) = (to.signal_from_rgb(), from.signal_to_rgb(), from.scales(), to.scales());
        let (from_zero, to_zero) = (from.zero(), to.zero());
        let mut conversion = Self { factors: [[0; 3]; 3], offsets: [0; 3] };
        for i in 0..3 {
            let mut offset = f64::from(to_zero[i]);
            for j in 0..3 {
                let product: f64 = (0..3).map(|k| a[i][k] * b[k][j]).sum();
                let factor = product * to_scale[i] / from_scale[j];
                conversion.factors[i][j] = (factor * f64::from(1 << BITS)).round() as i32;
                offset -= factor * f64::from(from_zero[j]);
            }
            conversion.offsets[i] = (offset * f64::from(1 << BITS)).round() as i32 + (1 << (BITS - 1));
        }
        Some(conversion)
    }

    /// Returns the factors and offsets, with 14 fractional bits. The offsets round.
    #[cfg(feature = "vulkan")]
    pub(in crate::convert) fn fixed(&self) -> ([[i32; 3]; 3], [i32; 3]) {
        (self.factors, self.offsets)
    }

    pub(super) fn pixel(&self, codes: [u8; 3]) -> [u8; 3] {
        let [a, b, c] = codes.map(i32::from);
        let code = |i: usize| {
            let f = &self.factors[i];
            ((f[0] * a + f[1] * b + f[2] * c + self.offsets[i]) >> BITS).clamp(0, 255) as u8
        };
        [code(0), code(1), code(2)]
    }

    /// Converts a row. All slices have the same length.
    pub(super) fn row(&self, from: [&[u8]; 3], to: [&mut [u8]; 3]) {
        for (i, to) in to.into_iter().enumerate() {
            let (f, offset) = (self.factors[i], self.offsets[i]);
            for (((to, &a), &b), &c) in to.iter_mut().zip(from[0]).zip(from[1]).zip(from[2]) {
                let sum = f[0] * i32::from(a) + f[1] * i32::from(b) + f[2] * i32::from(c) + offset;
                *to = (sum >> BITS).clamp(0, 255) as u8;
            }
        }
    }
}

/// Converts a color to the codes of `space`.
pub(in crate::convert) fn codes(color: Color, space: Space) -> [u8; 3] {
    let rgb = [color.red, color.green, color.blue];
    Conversion::between(Space::RGB, space).map_or(rgb, |c| c.pixel(rgb))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Colorimetry, Encoding, Size};
    use proptest::prelude::*;

    fn space(fourcc: &str, encoding: Encoding, range: Range) -> Space {
        let color = Colorimetry { encoding, range, ..Colorimetry::default() };
        Space::of(&Layout::packed(fourcc.parse().unwrap(), Size::new(2, 2)).unwrap().with_colorimetry(color))
    }

    /// The color bars of ITU-R BT.601 and BT.709 at 100 %, limited range, with their published values.
    #[test]
    fn known_colors() {
        let limited = |encoding| space("NV12", encoding, Range::Limited);
        for (encoding, rgb, yuv) in [
            (Encoding::Bt601, Color::rgb(255, 255, 255), [235, 128, 128]),
            (Encoding::Bt601, Color::rgb(0, 0, 0), [16, 128, 128]),
            (Encoding::Bt601, Color::rgb(255, 0, 0), [81, 90, 240]),
            (Encoding::Bt601, Color::rgb(0, 255, 0), [145, 54, 34]),
            (Encoding::Bt601, Color::rgb(0, 0, 255), [41, 240, 110]),
            (Encoding::Bt709, Color::rgb(255, 0, 0), [63, 102, 240]),
            (Encoding::Bt709, Color::rgb(0, 255, 0), [173, 42, 26]),
            (Encoding::Bt709, Color::rgb(0, 0, 255), [32, 240, 118]),
        ] {
            assert_eq!(codes(rgb, limited(encoding)), yuv, "{encoding:?} {rgb}");
        }
        assert_eq!(codes(Color::rgb(255, 0, 0), space("NV12", Encoding::Bt601, Range::Full)), [76, 85, 255]);
    }

    proptest! {
        #[test]
        fn rgb_survives_the_way_to_yuv_and_back(r: u8, g: u8, b: u8, full: bool) {
            let range = if full { Range::Full } else { Range::Limited };
            for encoding in [Encoding::Bt601, Encoding::Bt709, Encoding::Bt2020, Encoding::Smpte240m] {
                let yuv = space("NV12", encoding, range);
                let there = codes(Color::rgb(r, g, b), yuv);
                let back = Conversion::between(yuv, Space::RGB).unwrap().pixel(there);
                for (a, b) in [r, g, b].into_iter().zip(back) {
                    prop_assert!(a.abs_diff(b) <= 3, "{:?} {:?} {:?}", [r, g, b], there, back);
                }
            }
        }
    }
}
