//! The inverse discrete cosine transform (A.3.3), in integers.

use std::num::Wrapping;

/// Fractional bits of the factors.
const BITS: usize = 13;
/// Fractional bits that are kept between the columns and the rows.
const KEPT: usize = 2;

/// A number that wraps, because damaged data may have coefficients of any size.
type Number = Wrapping<i32>;

/// The cosine of `n` sixteenths of pi times the square root of 2, with [`BITS`] fractional bits.
const C1: Number = Wrapping(11363);
const C2: Number = Wrapping(10703);
const C3: Number = Wrapping(9633);
const C5: Number = Wrapping(6436);
const C6: Number = Wrapping(4433);
const C7: Number = Wrapping(2260);

/// Transforms eight coefficients. The results have [`BITS`] more fractional bits, and are larger by the square root
/// of 8.
fn transform(c: [Number; 8]) -> [Number; 8] {
    // Even coefficients.
    let (sum, difference) = ((c[0] + c[4]) << BITS, (c[0] - c[4]) << BITS);
    let (low, high) = (c[2] * C2 + c[6] * C6, c[2] * C6 - c[6] * C2);
    let even = [sum + low, difference + high, difference - high, sum - low];
    // Odd coefficients.
    let odd = [
        c[1] * C1 + c[3] * C3 + c[5] * C5 + c[7] * C7,
        c[1] * C3 - c[3] * C7 - c[5] * C1 - c[7] * C5,
        c[1] * C5 - c[3] * C1 + c[5] * C7 + c[7] * C3,
        c[1] * C7 - c[3] * C5 + c[5] * C3 - c[7] * C1,
    ];
    let mut out = [Wrapping(0); 8];
    for i in 0..4 {
        out[i] = even[i] + odd[i];
        out[7 - i] = even[i] - odd[i];
    }
    out
}

/// Transforms a block of dequantized coefficients, in the order of rows, into samples from 0 to 255. `out` has the
/// block's first sample first, and a row each `stride` samples.
pub(super) fn block(coefficients: &[i32; 64], is_flat: bool, out: &mut [u8], stride: usize) {
    let sample =
        |value: Number, bits: usize| (((value + (Wrapping(1i32) << (bits - 1))) >> bits).0 + 128).clamp(0, 255) as u8;
    let rows = || (0..8).map(|row| row * stride);
    if is_flat {
        let value = sample(Wrapping(coefficients[0]), 3);
        for start in rows() {
            if let Some(row) = out.get_mut(start..start + 8) {
                row.fill(value);
            }
        }
        return;
    }
    let mut kept = [Wrapping(0); 64];
    for column in 0..8 {
        let all = std::array::from_fn(|row| Wrapping(coefficients[row * 8 + column]));
        if all[1..].iter().all(|c| c.0 == 0) {
            (0..8).for_each(|row| kept[row * 8 + column] = all[0] << KEPT);
            continue;
        }
        let half = Wrapping(1) << (BITS - KEPT - 1);
        for (row, value) in transform(all).into_iter().enumerate() {
            kept[row * 8 + column] = (value + half) >> (BITS - KEPT);
        }
    }
    for (row, start) in rows().enumerate() {
        let Some(to) = out.get_mut(start..start + 8) else { return };
        let values = transform(std::array::from_fn(|column| kept[row * 8 + column]));
        // Both transforms together are larger by 8.
        to.iter_mut().zip(values).for_each(|(to, value)| *to = sample(value, BITS + KEPT + 3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition (A.3.3).
    fn exact(coefficients: &[i32; 64]) -> [f64; 64] {
        let cosine = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        let scale = |u: usize| if u == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        std::array::from_fn(|i| {
            let (x, y) = (i % 8, i / 8);
            let term = |k: usize| {
                let (u, v) = (k % 8, k / 8);
                scale(u) * scale(v) * f64::from(coefficients[k]) * cosine(x, u) * cosine(y, v)
            };
            128.0 + (0..64).map(term).sum::<f64>() / 4.0
        })
    }

    proptest! {
        #[test]
        fn idct_is_exact_to_half_a_step_and_rounding(
            some in proptest::collection::vec((0usize..64, -300i32..300), 1..20),
        ) {
            let mut coefficients = [0; 64];
            some.iter().for_each(|&(at, value)| coefficients[at] = value);
            let mut out = [0; 8 * 11];
            block(&coefficients, coefficients[1..].iter().all(|&c| c == 0), &mut out, 11);
            for (i, exact) in exact(&coefficients).into_iter().enumerate() {
                let got = f64::from(out[i / 8 * 11 + i % 8]);
                prop_assert!((got - exact.clamp(0.0, 255.0)).abs() < 0.75, "{got} instead of {exact} at {i}");
            }
        }

        #[test]
        fn idct_takes_coefficients_of_any_size(coefficients in proptest::collection::vec(any::<i32>(), 64)) {
            block(&coefficients.try_into().unwrap(), false, &mut [0; 64], 8);
        }
    }
}
