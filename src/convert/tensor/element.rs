//! The types of a tensor's elements.

use std::fmt;

use crate::sys::bytes::bytes_of;

/// The type of a tensor's elements, for [`Tensor::write_bytes`](super::Tensor::write_bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// Unsigned integers of 8 bits.
    U8,
    /// Signed integers of 8 bits.
    I8,
    /// Floating point, 16 bits: `binary16` of IEEE 754.
    F16,
    /// Floating point, 32 bits.
    F32,
}

impl ElementType {
    /// Returns the bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

/// A number that can be an element of a tensor: `u8`, `i8`, `f32`, and `u16` for the bits of an `f16`. Sealed.
pub trait Element: sealed::Number {}

impl<T: sealed::Number> Element for T {}

pub(super) mod sealed {
    use super::ElementType;

    /// A number that stands for an element.
    pub trait Number: Copy {
        /// The type that the numbers stand for.
        const TYPE: ElementType;

        /// Returns the memory of the numbers.
        fn bytes(numbers: &mut [Self]) -> &mut [u8];
    }
}

macro_rules! elements {
    ($($number:ty => $variant:ident,)*) => {
        $(impl sealed::Number for $number {
            const TYPE: ElementType = ElementType::$variant;

            fn bytes(numbers: &mut [Self]) -> &mut [u8] {
                bytes_of(numbers)
            }
        })*
    };
}

elements! {
    u8 => U8,
    i8 => I8,
    u16 => F16,
    f32 => F32,
}

/// Converts to the bits of the nearest `f16`, or of infinity. Halves round to even.
pub(super) fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = |mantissa: u32, shift: u32| {
        let (kept, rest, half) = (mantissa >> shift, mantissa & ((1 << shift) - 1), 1 << (shift - 1));
        kept + u32::from(rest > half || rest == half && kept & 1 == 1)
    };
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00,
        // From 65520 on, the nearest is infinity.
        0x477f_f000.. => 0x7c00,
        // A carry out of the mantissa increments the exponent, as it should.
        0x3880_0000.. => rounded(magnitude - (112 << 23), 13),
        // Subnormal: units of 2^-24.
        0x3300_0000.. => rounded(magnitude & 0x007f_ffff | 0x0080_0000, 126 - (magnitude >> 23)),
        _ => 0,
    };
    sign | half as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the value of the bits of an `f16`, by its definition.
    fn value(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
        };
        if bits >> 15 == 0 {
            magnitude
        } else {
            -magnitude
        }
    }

    #[test]
    fn f16_bits_are_those_of_the_nearest_value() {
        for bits in 0..0x7c00u16 {
            for sign in [0, 0x8000] {
                let exact = value(bits | sign) as f32;
                assert_eq!(f16_bits(exact), bits | sign);
                // Halfway to the next value, which for the largest is infinity: to the even one.
                let next = value((bits + 1) | sign);
                let half = ((f64::from(exact) + next) / 2.0) as f32;
                let even = bits + (bits & 1);
                assert_eq!(f16_bits(half), even | sign, "{half}");
                assert_eq!(f16_bits(f32::from_bits(half.to_bits() - 1)), bits | sign, "below {half}");
                assert_eq!(f16_bits(f32::from_bits(half.to_bits() + 1)), (bits + 1) | sign, "above {half}");
            }
        }
        assert_eq!((f16_bits(f32::INFINITY), f16_bits(-1e9), f16_bits(1e-30)), (0x7c00, 0xfc00, 0));
        assert!(f16_bits(f32::NAN) > 0x7c00);
    }
}
