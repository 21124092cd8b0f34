//! One row of the source, sampled and converted.

use super::colors::{high, Colors, Convert, Lanes, LANES};
use super::rows::{Row, Rows, ROOM};
use super::taps::Tap;

/// Byte offsets of one component's samples in the row of its plane. Filled up to whole lanes.
#[derive(Debug)]
struct Samples {
    plane: usize,
    near: Vec<[u32; LANES]>,
    far: Vec<[u32; LANES]>,
}

/// Where the samples of a row are.
#[derive(Debug)]
pub(super) struct Columns {
    samples: Vec<Samples>,
    weights: Vec<Lanes>,
    /// `false` if no sample is mixed of two.
    is_mixed: bool,
}

/// Where the samples of a component are in the row of its plane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Component {
    pub(super) plane: usize,
    /// Pixels per sample.
    pub(super) across: u32,
    pub(super) step_bytes: u32,
    /// Bytes of the row that are not copied.
    pub(super) skipped_bytes: u32,
    /// The place of the sample in its step.
    pub(super) first_byte: u32,
}

impl Component {
    fn offset(&self, x: u32) -> u32 {
        x / self.across * self.step_bytes + self.first_byte - self.skipped_bytes
    }
}

fn lanes<T: Copy + Default>(values: impl Iterator<Item = T>) -> Vec<[T; LANES]> {
    let mut out = Vec::new();
    for (i, value) in values.enumerate() {
        if i % LANES == 0 {
            // What fills the last lanes up is a valid offset.
            out.push([value; LANES]);
        }
        if let Some(last) = out.last_mut() {
            last[i % LANES] = value;
        }
    }
    out
}

impl Columns {
    pub(super) fn new(taps: &[Tap], components: &[Component]) -> Self {
        let samples = |c: &Component| Samples {
            plane: c.plane,
            near: lanes(taps.iter().map(|tap| c.offset(tap.near))),
            far: lanes(taps.iter().map(|tap| c.offset(tap.far))),
        };
        Self {
            samples: components.iter().map(samples).collect(),
            weights: lanes(taps.iter().map(|tap| tap.weight)),
            is_mixed: taps.iter().any(|tap| tap.weight != 0),
        }
    }

    /// Returns the number of lanes of a row.
    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }
}

/// A sampled row: red, green and blue, or luma alone.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) values: [Vec<Lanes>; 3],
    /// The source's row, if it is of the current frame.
    pub(super) row: Option<u32>,
}

impl Line {
    pub(super) fn prepare(&mut self, lanes: usize) {
        self.values.iter_mut().for_each(|values| values.resize(lanes, [0; LANES]));
    }

    /// Samples the rows that `rows` has.
    pub(super) fn sample(&mut self, rows: &Rows, columns: &Columns, colors: &Colors) {
        match colors {
            Colors::Yuv(colors) => self.convert(rows, columns, colors),
            Colors::Rgb(colors) => self.convert(rows, columns, colors),
            Colors::RgbToLuma(colors) => self.convert(rows, columns, colors),
            Colors::Luma(colors) => self.convert(rows, columns, colors),
        }
    }

    fn convert<C: Convert>(&mut self, rows: &Rows, columns: &Columns, colors: &C) {
        let row: [&Row; 3] = std::array::from_fn(|c| rows.row(columns.samples[c % C::CODES].plane));
        let codes = |offsets: fn(&Samples) -> &[[u32; LANES]], at: usize| {
            let mut codes = [[0; LANES]; 3];
            for c in 0..C::CODES {
                let offsets = &offsets(&columns.samples[c])[at];
                codes[c] = offsets.map(|offset| i16::from(row[c][offset as usize & (ROOM - 1)]));
            }
            codes
        };
        for (at, weights) in columns.weights.iter().enumerate() {
            let mut values = colors.values(codes(|s| &s.near, at));
            if columns.is_mixed {
                let far = colors.values(codes(|s| &s.far, at));
                for (near, far) in values.iter_mut().zip(&far).take(C::VALUES) {
                    mix(near, far, weights);
                }
            }
            for (to, values) in self.values.iter_mut().zip(values).take(C::VALUES) {
                to[at] = values;
            }
        }
    }
}

/// Mixes `far` into `near` by weights in units of 2^-15.
#[inline(always)]
pub(super) fn mix(near: &mut Lanes, far: &Lanes, weights: &Lanes) {
    for i in 0..LANES {
        // Both are values from 0 to 255 with 6 fractional bits, so twice their difference has 16 bits.
        near[i] += high((far[i] - near[i]) << 1, weights[i]);
    }
}
