//! One row of the source, sampled and converted.

use super::colors::{high, Colors, Convert, Lanes, LANES};
use super::rows::{Row, Rows, Span, ROOM};
use super::taps::Tap;
use crate::convert::cpu::samples::Group;
use crate::sys::vector::{widest, Kernel};

/// Four bytes of a row for each pixel: a sample of a group of components, and what follows it.
type Words = [u32; LANES];

/// Where the samples of one group of components are in the row of their plane. Filled up to whole lanes.
#[derive(Debug)]
struct Samples {
    plane: usize,
    /// Byte offsets of the near samples.
    near: Vec<Words>,
    far: Far,
}

/// Where the far samples are.
#[derive(Debug)]
enum Far {
    /// In the same word, this many bits further. The masks are 0 where near and far pixel share a sample.
    SameWord { bits: u32, masks: Vec<Words> },
    /// At other byte offsets.
    Elsewhere(Vec<Words>),
}

/// Where the samples of a row are.
#[derive(Debug)]
pub(super) struct Columns {
    groups: Vec<Samples>,
    /// The group of each component, and the lowest of its bits in a word.
    components: [(usize, u32); 3],
    weights: Vec<Lanes>,
    /// `false` if no sample is mixed of two.
    is_mixed: bool,
}

fn lanes<T: Copy>(values: impl Iterator<Item = T>) -> Vec<[T; LANES]> {
    let mut out: Vec<[T; LANES]> = Vec::new();
    for (i, value) in values.enumerate() {
        match out.last_mut() {
            Some(last) if i % LANES > 0 => last[i % LANES] = value,
            // What fills the last lanes up is a valid offset.
            _ => out.push([value; LANES]),
        }
    }
    out
}

impl Columns {
    /// Prepares the first `needed` components of a format.
    pub(super) fn new(taps: &[Tap], groups: &[Group], needed: usize, spans: &[Span]) -> Self {
        let mut components = [(0, 0); 3];
        let is_needed = |group: &&Group| group.components().iter().any(|c| c.index < needed);
        let samples = |(number, group): (usize, &Group)| {
            for component in group.components().iter().filter(|c| c.index < needed) {
                components[component.index] = (number, component.first_byte as u32 * 8);
            }
            let (across, step, skipped) = (group.across as u32, group.step_bytes as u32, spans[group.plane].first_byte);
            let offsets =
                |pixel: fn(&Tap) -> u32| lanes(taps.iter().map(|tap| pixel(tap) / across * step - skipped as u32));
            let far = if step <= 2 {
                let mask = |tap: &Tap| if tap.far / across > tap.near / across { u32::MAX } else { 0 };
                Far::SameWord { bits: step * 8, masks: lanes(taps.iter().map(mask)) }
            } else {
                Far::Elsewhere(offsets(|tap| tap.far))
            };
            Samples { plane: group.plane, near: offsets(|tap| tap.near), far }
        };
        let groups = groups.iter().filter(is_needed).enumerate().map(samples).collect();
        let is_mixed = taps.iter().any(|tap| tap.weight != 0);
        Self { groups, components, weights: lanes(taps.iter().map(|tap| tap.weight)), is_mixed }
    }

    /// Returns the number of lanes of a row.
    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }
}

/// A sampled row: red, green and blue, or luma alone.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) values: [Vec<i16>; 3],
    /// The source's row, if it is of the current frame.
    pub(super) row: Option<u32>,
}

impl Line {
    pub(super) fn prepare(&mut self, lanes: usize) {
        self.values.iter_mut().for_each(|values| values.resize(lanes * LANES, 0));
    }

    /// Samples the rows that `rows` has.
    pub(super) fn sample(&mut self, rows: &Rows, columns: &Columns, colors: &Colors, words: &mut Gathered) {
        for ((group, near), far) in columns.groups.iter().zip(&mut words.near).zip(&mut words.far) {
            let row = rows.row(group.plane);
            gather(row, &group.near, near);
            if let Far::Elsewhere(offsets) = &group.far {
                gather(row, offsets, far);
            }
        }
        let values = &mut self.values;
        match colors {
            Colors::Yuv(colors) => widest(Sample { words, columns, colors, values }),
            Colors::Rgb(colors) => widest(Sample { words, columns, colors, values }),
            Colors::RgbToLuma(colors) => widest(Sample { words, columns, colors, values }),
            Colors::Luma(colors) => widest(Sample { words, columns, colors, values }),
        }
    }
}

/// The words of one row, for each group.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    near: [Vec<Words>; 3],
    far: [Vec<Words>; 3],
}

impl Gathered {
    pub(super) fn prepare(&mut self, lanes: usize) {
        self.near.iter_mut().chain(&mut self.far).for_each(|words| words.resize(lanes, [0; LANES]));
    }
}

/// Not a kernel: with AVX2 the compiler would mask offsets in vectors and take each out again.
fn gather(row: &Row, offsets: &[Words], words: &mut [Words]) {
    for (words, offsets) in words.iter_mut().zip(offsets) {
        for (word, offset) in words.iter_mut().zip(offsets) {
            // The mask proves that the offset is within the row.
            let at = *offset as usize & (ROOM - 1);
            *word = u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        }
    }
}

struct Sample<'a, C> {
    words: &'a Gathered,
    columns: &'a Columns,
    colors: &'a C,
    values: &'a mut [Vec<i16>; 3],
}

impl<C: Convert> Kernel for Sample<'_, C> {
    #[inline(always)]
    fn run(self) {
        let Self { words, columns, colors, values } = self;
        for (at, weights) in columns.weights.iter().enumerate() {
            let near: [Words; 3] = std::array::from_fn(|group| words.near[group][at]);
            let mut mixed = colors.values(codes::<C>(&near, columns));
            if columns.is_mixed {
                let mut far = near;
                for (g, (far, group)) in far.iter_mut().zip(&columns.groups).enumerate() {
                    match &group.far {
                        Far::SameWord { bits, masks } => {
                            for (far, mask) in far.iter_mut().zip(masks[at]) {
                                *far = *far >> bits & mask | *far & !mask;
                            }
                        }
                        Far::Elsewhere(_) => *far = words.far[g][at],
                    }
                }
                let far = colors.values(codes::<C>(&far, columns));
                for (near, far) in mixed.iter_mut().zip(&far).take(C::VALUES) {
                    for i in 0..LANES {
                        near[i] = mix(near[i], far[i], weights[i]);
                    }
                }
            }
            for (to, mixed) in values.iter_mut().zip(mixed).take(C::VALUES) {
                to[at * LANES..][..LANES].copy_from_slice(&mixed);
            }
        }
    }
}

/// Takes the components out of the words of their groups.
#[inline(always)]
fn codes<C: Convert>(words: &[Words; 3], columns: &Columns) -> [Lanes; 3] {
    let mut codes = [[0; LANES]; 3];
    for (codes, (group, bits)) in codes.iter_mut().zip(columns.components).take(C::CODES) {
        for (code, word) in codes.iter_mut().zip(&words[group]) {
            *code = (word >> bits & 0xff) as i16;
        }
    }
    codes
}

/// Mixes two values by the weight of the second, in units of 2^-15.
#[inline(always)]
pub(super) fn mix(near: i16, far: i16, weight: i16) -> i16 {
    // Both are from 0 to 255 with 6 fractional bits, so twice their difference has 16 bits.
    near + high((far - near) << 1, weight)
}
