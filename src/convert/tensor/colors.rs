//! Converts codes of a source to red, green and blue or to luma, 16 pixels at a time, in 16 bits.

use crate::convert::cpu::color::{Matrix3, Space};
use crate::format::{FormatKind, Layout};

use super::options::Channels;

/// How many pixels one step of a loop handles: as many as fit a vector register of most processors, or two of them.
pub(super) const LANES: usize = 16;

/// One component of some pixels: codes, or values from 0 to 255 with [`FRACTION`] fractional bits.
pub(super) type Lanes = [i16; LANES];

/// Fractional bits of a value.
pub(super) const FRACTION: u32 = 6;

const MOST: i16 = 255 << FRACTION;

/// Multiplies, and keeps the upper half of the product.
#[inline(always)]
pub(super) fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// Multiplies the distance of a code from its zero by a factor between -2.5 and 2.5.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    zero: i16,
    whole: i16,
    /// The rest of the factor, in units of 2^-15.
    part: i16,
}

impl Term {
    fn new(zero: i32, factor: f64) -> Self {
        let whole = factor.round();
        let part = ((factor - whole) * 32768.0).round().clamp(-32768.0, 32767.0);
        Self { zero: zero as i16, whole: whole as i16, part: part as i16 }
    }

    /// A distance has at most 8 bits and a sign, so nothing overflows.
    #[inline(always)]
    fn of(self, code: i16) -> i16 {
        let distance = code.wrapping_sub(self.zero);
        (distance << FRACTION).wrapping_mul(self.whole).wrapping_add(high(distance << 7, self.part))
    }
}

/// A conversion of codes to values.
pub(super) trait Convert {
    /// How many components the source has.
    const CODES: usize;
    /// How many of the returned components count.
    const VALUES: usize;

    fn values(&self, codes: [Lanes; 3]) -> [Lanes; 3];
}

/// Y'CbCr to R'G'B'.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yuv {
    y: Term,
    v_red: Term,
    u_green: Term,
    v_green: Term,
    u_blue: Term,
}

impl Convert for Yuv {
    const CODES: usize = 3;
    const VALUES: usize = 3;

    #[inline(always)]
    fn values(&self, [y, u, v]: [Lanes; 3]) -> [Lanes; 3] {
        let mut out = [[0; LANES]; 3];
        for i in 0..LANES {
            // Luma below black is black, as in OpenCV.
            let luma = self.y.of(y[i].max(self.y.zero));
            let green = self.u_green.of(u[i]).wrapping_add(self.v_green.of(v[i]));
            out[0][i] = luma.saturating_add(self.v_red.of(v[i])).clamp(0, MOST);
            out[1][i] = luma.saturating_add(green).clamp(0, MOST);
            out[2][i] = luma.saturating_add(self.u_blue.of(u[i])).clamp(0, MOST);
        }
        out
    }
}

/// R'G'B' to R'G'B', or luma to luma: each component by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Same<const N: usize>(Term);

impl<const N: usize> Convert for Same<N> {
    const CODES: usize = N;
    const VALUES: usize = N;

    #[inline(always)]
    fn values(&self, codes: [Lanes; 3]) -> [Lanes; 3] {
        let mut out = [[0; LANES]; 3];
        for (out, codes) in out.iter_mut().zip(&codes).take(N) {
            for i in 0..LANES {
                out[i] = self.0.of(codes[i]).clamp(0, MOST);
            }
        }
        out
    }
}

/// R'G'B' to luma.
#[derive(Clone, Copy, Debug)]
pub(super) struct Luma([Term; 3]);

impl Convert for Luma {
    const CODES: usize = 3;
    const VALUES: usize = 1;

    #[inline(always)]
    fn values(&self, [r, g, b]: [Lanes; 3]) -> [Lanes; 3] {
        let mut out = [[0; LANES]; 3];
        for i in 0..LANES {
            let sum = self.0[0].of(r[i]).saturating_add(self.0[1].of(g[i])).saturating_add(self.0[2].of(b[i]));
            out[0][i] = sum.clamp(0, MOST);
        }
        out
    }
}

/// The conversion of one source to one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colors {
    Yuv(Yuv),
    Rgb(Same<3>),
    RgbToLuma(Luma),
    Luma(Same<1>),
}

impl Colors {
    /// Returns the conversion for a source with this many components, besides alpha.
    pub(super) fn new(source: &Layout, components: usize, channels: Channels) -> Self {
        let space = Space::of(source);
        let (factors, zero): (Matrix3, _) = (space.factors_to_rgb(), space.zero());
        let term = |i: usize, j: usize| Term::new(zero[j], factors[i][j]);
        let is_yuv = source.fourcc().info().is_some_and(|info| info.kind == FormatKind::Yuv);
        match (is_yuv, components, channels) {
            (true, 3, Channels::Rgb | Channels::Bgr) => Self::Yuv(Yuv {
                y: term(0, 0),
                v_red: term(0, 2),
                u_green: term(1, 1),
                v_green: term(1, 2),
                u_blue: term(2, 1),
            }),
            (true, ..) => Self::Luma(Same(term(0, 0))),
            (false, _, Channels::Grey) => {
                let (red, blue) = source.colorimetry().matrix().luma_weights();
                let weights = [f64::from(red), 1.0 - f64::from(red) - f64::from(blue), f64::from(blue)];
                Self::RgbToLuma(Luma(std::array::from_fn(|i| Term::new(zero[i], factors[i][i] * weights[i]))))
            }
            (false, ..) => Self::Rgb(Same(term(0, 0))),
        }
    }

    /// Returns how many components of the source and of the result count.
    pub(super) fn counts(&self) -> (usize, usize) {
        match self {
            Self::Yuv(_) => (Yuv::CODES, Yuv::VALUES),
            Self::Rgb(_) => (Same::<3>::CODES, Same::<3>::VALUES),
            Self::RgbToLuma(_) => (Luma::CODES, Luma::VALUES),
            Self::Luma(_) => (Same::<1>::CODES, Same::<1>::VALUES),
        }
    }
}
