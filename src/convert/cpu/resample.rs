//! Separable scaling: enlarges by bilinear interpolation, reduces by the mean of the covered pixels.

use super::samples::Samples;

/// The weight 1 in fixed point.
const ONE: i32 = 1 << 14;

/// Which input samples make each output sample along one axis.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// The first input of each output.
    first: Vec<usize>,
    /// `count` weights for each output, whose sum is [`ONE`].
    weights: Vec<i16>,
    count: usize,
    identity: bool,
    half: bool,
}

impl Taps {
    /// Scales `input` samples to `output`; one output sample is as long as `scale` input samples. `scale` differs
    /// slightly from the ratio of the counts if the last chroma sample has fewer pixels than the others.
    pub(super) fn new(input: usize, output: usize, scale: f64) -> Self {
        let reach = match scale > 1.0 {
            // An output that begins between two inputs reaches one more.
            true => scale.ceil() as usize + usize::from(scale.fract() != 0.0),
            false => 2,
        };
        let count = reach.min(input);
        let (mut first, mut weights) = (Vec::with_capacity(output), Vec::with_capacity(output * count));
        for i in 0..output {
            let (from, center) = (i as f64 * scale, (i as f64 + 0.5) * scale - 0.5);
            let begin = if scale > 1.0 { from } else { center }.floor().clamp(0.0, (input - count) as f64) as usize;
            let weight = |sample: usize| {
                let at = sample as f64;
                if scale > 1.0 {
                    (at + 1.0).min(from + scale) - at.max(from)
                } else {
                    1.0 - (at - center).abs()
                }
            };
            let raw: Vec<f64> = (begin..begin + count).map(|sample| weight(sample).max(0.0)).collect();
            let sum: f64 = raw.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            let at = weights.len();
            weights.extend(raw.iter().map(|w| (w / sum * f64::from(ONE)).round() as i16));
            // Rounding must not change the brightness, so the largest weight takes the rest.
            let total: i32 = weights[at..].iter().map(|&w| i32::from(w)).sum();
            if let Some(largest) = weights[at..].iter_mut().max_by_key(|w| **w) {
                *largest = (i32::from(*largest) + ONE - total) as i16;
            }
            first.push(begin);
        }
        Self {
            first,
            weights,
            count,
            identity: scale == 1.0 && input == output,
            half: scale == 2.0 && input == 2 * output,
        }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.identity
    }

    /// Returns `true` if each output is the mean of two inputs that no other output uses.
    pub(super) fn is_half(&self) -> bool {
        self.half
    }

    pub(super) fn outputs(&self) -> usize {
        self.first.len()
    }

    /// Returns the range of inputs that outputs `from..to` need.
    pub(super) fn inputs(&self, from: usize, to: usize) -> (usize, usize) {
        if self.identity {
            return (from, to);
        }
        (self.first[from], self.first[to - 1] + self.count)
    }

    fn of(&self, output: usize) -> (usize, &[i16]) {
        (self.first[output], &self.weights[output * self.count..][..self.count])
    }
}

/// Scales all columns of `from` to `across.outputs()` columns of `to`.
pub(super) fn horizontal(from: &Samples, across: &Taps, to: &mut Samples) {
    to.reshape(across.outputs(), from.height);
    for y in 0..from.height {
        let row = from.row(y);
        for (x, out) in to.row_mut(y).iter_mut().enumerate() {
            let (first, weights) = across.of(x);
            let sum: i32 = weights.iter().zip(&row[first..]).map(|(&w, &s)| i32::from(w) * i32::from(s)).sum();
            *out = round(sum);
        }
    }
}

/// Scales rows. `from` begins with the input row `first_input`; outputs `begin..end` go to `to`.
pub(super) fn vertical(
    from: &Samples,
    first_input: usize,
    down: &Taps,
    (begin, end): (usize, usize),
    sums: &mut Vec<i32>,
    to: &mut Samples,
) {
    to.reshape(from.width, end - begin);
    for y in begin..end {
        let (first, weights) = down.of(y);
        sums.clear();
        sums.resize(from.width, 0);
        for (k, &weight) in weights.iter().enumerate().filter(|(_, &w)| w != 0) {
            let row = from.row(first - first_input + k);
            sums.iter_mut().zip(row).for_each(|(sum, &s)| *sum += i32::from(weight) * i32::from(s));
        }
        to.row_mut(y - begin).iter_mut().zip(&*sums).for_each(|(out, &sum)| *out = round(sum));
    }
}

/// Halves both sides of a picture: makes one output row from two input rows, of samples with `BYTES` (1 or 2)
/// components.
///
/// Works in blocks of a fixed size, which compilers turn into vector instructions.
pub(super) fn halve<const BYTES: usize>(above: &[u8], below: &[u8], to: &mut [u8]) {
    const BLOCK: usize = 32;
    let rest = to.len() / BLOCK * BLOCK;
    let blocks = above.chunks_exact(2 * BLOCK).zip(below.chunks_exact(2 * BLOCK));
    for ((a, b), to) in blocks.zip(to.chunks_exact_mut(BLOCK)) {
        let mut sums = [0u16; 2 * BLOCK];
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum = u16::from(a) + u16::from(b);
        }
        for (to, pair) in to.chunks_exact_mut(BYTES).zip(sums.chunks_exact(2 * BYTES)) {
            for i in 0..BYTES {
                to[i] = ((pair[i] + pair[i + BYTES] + 2) >> 2) as u8;
            }
        }
    }
    for (i, to) in to.iter_mut().enumerate().skip(rest) {
        let first = i / BYTES * 2 * BYTES + i % BYTES;
        let sum: u16 = [above, below].iter().map(|row| u16::from(row[first]) + u16::from(row[first + BYTES])).sum();
        *to = ((sum + 2) >> 2) as u8;
    }
}

fn round(sum: i32) -> u8 {
    ((sum + ONE / 2) >> 14).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halving_averages_and_doubling_interpolates() {
        let mut from = Samples::default();
        from.reshape(4, 1);
        from.data.copy_from_slice(&[0, 100, 200, 200]);
        let mut to = Samples::default();
        horizontal(&from, &Taps::new(4, 8, 0.5), &mut to);
        assert_eq!(to.data, [0, 25, 75, 125, 175, 200, 200, 200]);
        horizontal(&from, &Taps::new(4, 2, 2.0), &mut to);
        assert_eq!(to.data, [50, 200]);
        // A pixel that covers one sample and a third of the next.
        horizontal(&from, &Taps::new(4, 3, 4.0 / 3.0), &mut to);
        assert_eq!(to.data, [25, 150, 200]);
        let mut half = [0; 2];
        halve::<1>(&[0, 100, 200, 201], &[50, 50, 200, 201], &mut half);
        assert_eq!(half, [50, 201]);
        halve::<2>(&[0, 100, 200, 201], &[50, 50, 200, 201], &mut half);
        assert_eq!(half, [113, 138]);
    }

    proptest! {
        #[test]
        fn blocks_and_the_rest_of_a_row_are_halved_alike(rows in prop::collection::vec(any::<[u8; 2]>(), 4..400)) {
            let (above, below): (Vec<u8>, Vec<u8>) = rows.iter().map(|&[a, b]| (a, b)).unzip();
            let mean = |at: [usize; 2]| (at.iter().map(|&i| u32::from(above[i]) + u32::from(below[i])).sum::<u32>() + 2) / 4;
            let (mut one, mut two) = (vec![0; rows.len() / 2], vec![0; rows.len() / 4 * 2]);
            halve::<1>(&above, &below, &mut one);
            halve::<2>(&above, &below, &mut two);
            for (i, &got) in one.iter().enumerate() {
                prop_assert_eq!(u32::from(got), mean([2 * i, 2 * i + 1]));
            }
            for (i, &got) in two.iter().enumerate() {
                let first = i / 2 * 4 + i % 2;
                prop_assert_eq!(u32::from(got), mean([first, first + 2]));
            }
        }

        #[test]
        fn flat_pictures_stay_flat(input in 1usize..400, output in 1usize..400, value: u8) {
            let taps = Taps::new(input, output, input as f64 / output as f64);
            let (a, b) = taps.inputs(0, output);
            prop_assert!(b <= input && a == 0);
            let mut from = Samples::default();
            from.reshape(input, 1);
            from.data.fill(value);
            let mut to = Samples::default();
            horizontal(&from, &taps, &mut to);
            prop_assert!(to.data.iter().all(|&v| v == value));
            let mut column = Samples::default();
            column.reshape(1, input);
            column.data.fill(value);
            vertical(&column, 0, &taps, (0, output), &mut Vec::new(), &mut to);
            prop_assert!(to.data.iter().all(|&v| v == value));
        }

        #[test]
        fn band_has_the_inputs_of_each_of_its_outputs(input in 1usize..400, output in 1usize..400, band in any::<[u16; 2]>()) {
            let scale = input as f64 / output as f64;
            let taps = Taps::new(input, output, scale);
            let (from, to) = (usize::from(band[0].min(band[1])) % output, usize::from(band[0].max(band[1])) % output + 1);
            let (from, to) = (from.min(to - 1), to);
            let (first, end) = taps.inputs(from, to);
            prop_assert!(end <= input);
            for i in from..to {
                let (begin, weights) = taps.of(i);
                prop_assert!(taps.is_identity() || first <= begin && begin + weights.len() <= end, "{i} of {from}..{to}");
            }
            // In the same way as a call that lacks the other rows.
            let mut rows = Samples::default();
            rows.reshape(1, end - first);
            if !taps.is_identity() {
                vertical(&rows, first, &taps, (from, to), &mut Vec::new(), &mut Samples::default());
            }
        }

        #[test]
        fn half_is_the_same_by_bands(output in 1usize..200) {
            let taps = Taps::new(2 * output, output, 2.0);
            prop_assert!(taps.is_half());
            (0..output).for_each(|i| assert_eq!(taps.inputs(i, i + 1), (2 * i, 2 * i + 2)));
        }
    }
}
