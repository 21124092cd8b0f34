//! Scales the rows of a frame, one row of the target at a time.

use super::colors::{FRACTION, LANES};
use super::line::{mix, Gathered, Line};
use super::plan::{Plan, Scaling};
use super::rows::Rows;
use super::taps::{Cover, Tap};
use crate::error::Result;
use crate::frame::FrameRead;
use crate::sys::vector::{widest, Kernel};

/// The private memory of a tensor's scaling. A new plan enlarges it, a frame does not.
#[derive(Debug, Default)]
pub(super) struct Scaler {
    rows: Rows,
    words: Gathered,
    lines: [Line; 2],
    /// Weighted sums of source rows.
    sums: [Vec<f32>; 3],
    /// A row of the target: red, green and blue, or luma alone.
    scaled: [Vec<u8>; 3],
}

impl Scaler {
    /// Makes room for a plan.
    pub(super) fn prepare(&mut self, plan: &Plan) {
        let lanes = plan.columns.len();
        self.rows.prepare(plan.layout.planes().len());
        self.words.prepare(lanes);
        self.lines.iter_mut().for_each(|line| line.prepare(lanes));
        self.scaled.iter_mut().for_each(|row| row.resize(lanes * LANES, 0));
        if let Scaling::Area { .. } = plan.scaling {
            self.sums.iter_mut().for_each(|sums| sums.resize(lanes * LANES, 0.0));
        }
    }

    /// Passes each row of the target to `each`, with its values from 0 to 255.
    pub(super) fn scale(
        &mut self,
        plan: &Plan,
        frame: &FrameRead<'_>,
        mut each: impl FnMut(usize, [&[u8]; 3]),
    ) -> Result<()> {
        self.rows.begin();
        self.lines.iter_mut().for_each(|line| line.row = None);
        let (width, values) = (plan.placement.place.size.width as usize, plan.colors.counts().1);
        let height = plan.placement.place.size.height as usize;
        for y in 0..height {
            match &plan.scaling {
                Scaling::Bilinear { rows } => self.mix_rows(plan, frame, &rows[y], values)?,
                Scaling::Area { columns, rows } => {
                    self.add_rows(plan, frame, &rows[y], values)?;
                    let area = columns[0].area() * rows[y].area();
                    for (sums, scaled) in self.sums.iter().zip(&mut self.scaled).take(values) {
                        reduce(sums, columns, 1.0 / (area * (1 << FRACTION) as f32), scaled);
                    }
                }
            }
            // Of luma alone, all channels are made.
            each(y, std::array::from_fn(|c| &self.scaled[c % values][..width]));
        }
        Ok(())
    }

    /// Returns which line has a row of the source. Replaces a line, but not line `kept`, if none has it.
    fn line(&mut self, plan: &Plan, frame: &FrameRead<'_>, row: u32, kept: usize) -> Result<usize> {
        if let Some(found) = self.lines.iter().position(|line| line.row == Some(row)) {
            return Ok(found);
        }
        let replaced = 1 - kept;
        self.lines[replaced].row = None;
        self.rows.fetch(frame, &plan.spans, row)?;
        self.lines[replaced].sample(&self.rows, &plan.columns, &plan.colors, &mut self.words);
        self.lines[replaced].row = Some(row);
        Ok(replaced)
    }

    fn mix_rows(&mut self, plan: &Plan, frame: &FrameRead<'_>, tap: &Tap, values: usize) -> Result<()> {
        let near = self.line(plan, frame, tap.near, 1)?;
        let far = self.line(plan, frame, tap.far, near)?;
        for (c, scaled) in self.scaled.iter_mut().enumerate().take(values) {
            let (near, far) = (&self.lines[near].values[c], &self.lines[far].values[c]);
            widest(MixRow { near, far, weight: tap.weight, to: scaled });
        }
        Ok(())
    }

    fn add_rows(&mut self, plan: &Plan, frame: &FrameRead<'_>, cover: &Cover, values: usize) -> Result<()> {
        self.sums.iter_mut().take(values).for_each(|sums| sums.fill(0.0));
        for i in 0..cover.count {
            // The next target row may begin with the last source row of this one.
            let line = self.line(plan, frame, cover.first + i, 1)?;
            let weight = cover.weight(i);
            for (sums, values) in self.sums.iter_mut().zip(&self.lines[line].values).take(values) {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += weight * f32::from(value);
                }
            }
        }
        Ok(())
    }
}

/// Mixes two rows and rounds them.
struct MixRow<'a> {
    near: &'a [i16],
    far: &'a [i16],
    weight: i16,
    to: &'a mut [u8],
}

impl Kernel for MixRow<'_> {
    #[inline(always)]
    fn run(self) {
        for ((&near, &far), to) in self.near.iter().zip(self.far).zip(self.to) {
            *to = ((mix(near, far, self.weight) + (1 << (FRACTION - 1))) >> FRACTION) as u8;
        }
    }
}

/// Sums what each target pixel covers.
fn reduce(sums: &[f32], columns: &[Cover], factor: f32, to: &mut [u8]) {
    for (cover, to) in columns.iter().zip(to) {
        let covered = &sums[cover.first as usize..][..cover.count as usize];
        let sum: f32 = covered.iter().enumerate().map(|(i, sum)| cover.weight(i as u32) * sum).sum();
        *to = (sum * factor + 0.5) as u8;
    }
}
