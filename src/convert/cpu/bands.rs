//! Carries a plan out band by band: composes each band of the target in private memory and writes it once.

use std::sync::Arc;

use crate::convert::{Draw, Fill, Plan, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Layout, Rect};
use crate::frame::{FrameRead, FrameWrite};

use super::blend::Mix;
use super::color::{codes, Conversion, Space};
use super::fetch::fetch;
use super::resample::{halve, horizontal, vertical, Taps};
use super::samples::{groups, Group, Samples, COMPONENTS};

/// The most samples of one component in a band's sources. Four such components fit a second-level cache.
const BAND_SAMPLES: usize = 64 * 1024;
/// The fewest rows of a band. Even, for 4:2:0.
const MIN_ROWS: usize = 2;
const MAX_ROWS: usize = 64;
/// The fewest rows of a band of a rotated source. A row is then a column of the source, and fewer columns would be read
/// in single bytes.
const MIN_ROWS_TURNED: usize = 32;

/// A source's components, prepared for one draw.
#[derive(Debug)]
struct Part {
    group: Group,
    /// Pixels of the place per sample, after rotation and scaling.
    across: usize,
    down: usize,
    columns: Taps,
    rows: Taps,
}

#[derive(Debug)]
struct Layer {
    draw: Draw,
    parts: Vec<Part>,
    conversion: Option<Conversion>,
    has_alpha: bool,
}

#[derive(Debug)]
enum Work {
    Fill { rect: Rect, codes: [u8; COMPONENTS] },
    Draw(Layer),
}

/// A plan that is prepared for this backend.
#[derive(Debug)]
pub(super) struct Prepared {
    plan: Arc<Plan>,
    work: Vec<Work>,
    target: Vec<Group>,
    /// The codes of black without color. Premultiplied codes are counted from these.
    zero: [i32; 3],
    has_alpha: bool,
    rows: usize,
}

/// Private memory of a band, reused by the next conversion.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The target's components of one band, each with its own subsampling.
    band: [Samples; COMPONENTS],
    bytes: Vec<u8>,
    fetched: [Samples; COMPONENTS],
    wide: Samples,
    sums: Vec<i32>,
    /// The source's components at the size of the place.
    placed: [Samples; COMPONENTS],
    /// The same, in the target's colors at full resolution.
    converted: [Samples; 3],
    lines: [Vec<u8>; 3],
    /// One component with the target's subsampling.
    ready: Samples,
    alphas: Samples,
    pub(super) read: u64,
    pub(super) written: u64,
}

impl Prepared {
    pub(super) fn new(plan: &Arc<Plan>) -> Result<Self> {
        let target = plan.target();
        let space = Space::of(target);
        let has_alpha = target.fourcc().info().is_some_and(|info| info.has_alpha());
        let (mut work, mut rows) = (Vec::with_capacity(plan.steps().len()), MAX_ROWS);
        for step in plan.steps() {
            match *step {
                Step::Fill(Fill { rect, color }) => {
                    let [a, b, c] = codes(color, space);
                    work.push(Work::Fill { rect, codes: [a, b, c, if has_alpha { color.alpha } else { 255 }] });
                }
                Step::Draw(draw) => {
                    let upright = draw.upright();
                    let least = if draw.rotation.is_quarter() { MIN_ROWS_TURNED } else { MIN_ROWS };
                    let reduced = (upright.height / draw.place.size.height).max(1) as usize;
                    let fit = BAND_SAMPLES / (upright.width as usize * reduced).max(1);
                    rows = rows.min(fit.max(least) / 2 * 2);
                    work.push(Work::Draw(Layer::new(draw, &plan.sources()[draw.source], target)?));
                }
            }
        }
        let (target, zero) = (known_groups(target)?, space.zero());
        Ok(Self { plan: Arc::clone(plan), work, target, zero, has_alpha, rows })
    }

    pub(super) fn rows_per_band(&self) -> usize {
        self.rows
    }

    /// Composes and writes the target's rows `top..bottom`.
    pub(super) fn band(
        &self,
        scratch: &mut Scratch,
        reads: &[FrameRead<'_>],
        write: &mut FrameWrite<'_>,
        (top, bottom): (usize, usize),
    ) -> Result<()> {
        let size = self.plan.target().size();
        let width = size.width as usize;
        for group in &self.target {
            for component in group.components() {
                let rows = (bottom - top).div_ceil(group.down);
                let samples = &mut scratch.band[component.index];
                samples.reshape(width.div_ceil(group.across), rows);
                if component.index == 3 {
                    samples.data.fill(255);
                }
            }
        }
        if self.plan.keeps_old() {
            self.load(scratch, write, (top, bottom))?;
        }
        for work in &self.work {
            let place = match work {
                Work::Fill { rect, .. } => *rect,
                Work::Draw(layer) => layer.draw.place,
            };
            let first = place.top as usize;
            let (begin, end) = (top.max(first), bottom.min(first + place.size.height as usize));
            if begin >= end {
                continue;
            }
            match work {
                Work::Fill { codes, .. } => self.fill(scratch, place, codes, (begin, end), top),
                Work::Draw(layer) => {
                    layer.place(scratch, &reads[layer.draw.source], (begin - first, end - first))?;
                    self.lay(scratch, layer, (begin, end), top);
                }
            }
        }
        self.store(scratch, write, (top, bottom))
    }

    fn fill(&self, scratch: &mut Scratch, rect: Rect, codes: &[u8], (begin, end): (usize, usize), top: usize) {
        let (left, right) = (rect.left as usize, rect.left as usize + rect.size.width as usize);
        for group in &self.target {
            for component in group.components() {
                for row in (begin - top) / group.down..(end - top).div_ceil(group.down) {
                    let samples = &mut scratch.band[component.index];
                    samples.row_mut(row)[left / group.across..right.div_ceil(group.across)]
                        .fill(codes[component.index]);
                }
            }
        }
    }

    /// Blends the rows that [`Layer::place`] left in the scratch over the band.
    fn lay(&self, scratch: &mut Scratch, layer: &Layer, (begin, end): (usize, usize), top: usize) {
        let place = layer.draw.place;
        let first = begin - place.top as usize;
        let (rows, width) = (end - begin, place.size.width as usize);
        if let Some(conversion) = &layer.conversion {
            layer.convert(scratch, conversion, (first, rows), width);
        }
        let mix = Mix::of(&layer.draw);
        for group in &self.target {
            let target = (group.across, group.down);
            // Alpha has full resolution. Subsampled components use its average.
            if layer.has_alpha {
                reduce(&scratch.placed[3], (1, 1), first, (first, rows), width, target, &mut scratch.alphas);
            }
            for component in group.components() {
                let index = component.index;
                let missing = index < 3 && layer.conversion.is_none() && layer.part(index).is_none();
                if index == 3 || missing {
                    let (count, height) = (width.div_ceil(group.across), rows.div_ceil(group.down));
                    scratch.ready.reshape(count, height);
                    // Gray formats have neutral chroma.
                    scratch.ready.data.fill(128);
                } else if layer.conversion.is_some() {
                    let from = &scratch.converted[index];
                    reduce(from, (1, 1), first, (first, rows), width, target, &mut scratch.ready);
                } else if let Some(part) = layer.part(index) {
                    let (from, own) = (&scratch.placed[index], (part.across, part.down));
                    reduce(from, own, first / part.down * part.down, (first, rows), width, target, &mut scratch.ready);
                }
                let left = place.left as usize / group.across;
                for row in 0..scratch.ready.height {
                    let alphas = layer.has_alpha.then(|| scratch.alphas.row(row));
                    let to = scratch.band[index].row_mut((begin - top) / group.down + row);
                    let to = &mut to[left..left + scratch.ready.width];
                    match index {
                        3 if self.has_alpha => mix.alpha_row(alphas, to),
                        3 => (),
                        _ => mix.row(scratch.ready.row(row), alphas, self.zero[index], to),
                    }
                }
            }
        }
    }

    fn store(&self, scratch: &mut Scratch, write: &mut FrameWrite<'_>, (top, bottom): (usize, usize)) -> Result<()> {
        self.rows(scratch, (top, bottom), |scratch, plane, row, in_band| {
            for group in self.target.iter().filter(|g| g.plane == plane) {
                for (which, component) in group.components().iter().enumerate() {
                    group.pack(scratch.band[component.index].row(in_band), which, &mut scratch.bytes);
                }
            }
            scratch.written += scratch.bytes.len() as u64;
            write.copy_row(plane, row as u32, &scratch.bytes)
        })
    }

    fn load(&self, scratch: &mut Scratch, write: &mut FrameWrite<'_>, (top, bottom): (usize, usize)) -> Result<()> {
        self.rows(scratch, (top, bottom), |scratch, plane, row, in_band| {
            write.copy_row_out(plane, row as u32, &mut scratch.bytes)?;
            scratch.read += scratch.bytes.len() as u64;
            for group in self.target.iter().filter(|g| g.plane == plane) {
                for (which, component) in group.components().iter().enumerate() {
                    if component.index < 3 || self.has_alpha {
                        group.unpack(&scratch.bytes, which, scratch.band[component.index].row_mut(in_band));
                    }
                }
            }
            Ok(())
        })
    }

    /// Calls `each` with plane, row and row of the band, for the target's rows of a band. `scratch.bytes` has the
    /// length of the row.
    fn rows(
        &self,
        scratch: &mut Scratch,
        (top, bottom): (usize, usize),
        mut each: impl FnMut(&mut Scratch, usize, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let target = self.plan.target();
        for plane in 0..target.planes().len() {
            let Some(group) = self.target.iter().find(|g| g.plane == plane) else { continue };
            scratch.bytes.clear();
            scratch.bytes.resize(target.row_bytes(plane) as usize, 0);
            for row in top / group.down..bottom.div_ceil(group.down) {
                each(scratch, plane, row, row - top / group.down)?;
            }
        }
        Ok(())
    }
}

impl Layer {
    fn new(draw: Draw, source: &Layout, target: &Layout) -> Result<Self> {
        let place = draw.place.size;
        let of_target = target.fourcc().info().map_or((1, 1), |info| info.subsampling());
        let upright = draw.upright();
        let parts = known_groups(source)?.into_iter().map(|group| {
            let turn = |a, b| if draw.rotation.is_quarter() { (b, a) } else { (a, b) };
            let (own_across, own_down) = turn(group.across, group.down);
            let (across, columns) = axis(upright.width, own_across, place.width, of_target.0);
            let (down, rows) = axis(upright.height, own_down, place.height, of_target.1);
            Part { group, across, down, columns, rows }
        });
        let has_alpha = source.fourcc().info().is_some_and(|info| info.has_alpha());
        let conversion = Conversion::between(Space::of(source), Space::of(target));
        Ok(Self { draw, parts: parts.collect(), conversion, has_alpha })
    }

    fn part(&self, component: usize) -> Option<&Part> {
        self.parts.iter().find(|p| p.group.components().iter().any(|c| c.index == component))
    }

    /// Scales the rows `begin..end` of the place into `scratch.placed`.
    fn place(&self, scratch: &mut Scratch, read: &FrameRead<'_>, (begin, end): (usize, usize)) -> Result<()> {
        for part in &self.parts {
            let outputs = (begin / part.down, end.div_ceil(part.down));
            let inputs = part.rows.inputs(outputs.0, outputs.1);
            scratch.read += fetch(read, &self.draw, &part.group, inputs, &mut scratch.bytes, &mut scratch.fetched)?;
            for (which, component) in part.group.components().iter().enumerate() {
                let (fetched, placed) = (&mut scratch.fetched[which], &mut scratch.placed[component.index]);
                if part.columns.is_half() && part.rows.is_half() {
                    placed.reshape(part.columns.outputs(), outputs.1 - outputs.0);
                    for row in 0..placed.height {
                        halve::<1>(fetched.row(2 * row), fetched.row(2 * row + 1), placed.row_mut(row));
                    }
                    continue;
                }
                match (part.columns.is_identity(), part.rows.is_identity()) {
                    (true, true) => std::mem::swap(fetched, placed),
                    (false, true) => horizontal(fetched, &part.columns, placed),
                    (true, false) => vertical(fetched, inputs.0, &part.rows, outputs, &mut scratch.sums, placed),
                    (false, false) => {
                        horizontal(fetched, &part.columns, &mut scratch.wide);
                        vertical(&scratch.wide, inputs.0, &part.rows, outputs, &mut scratch.sums, placed);
                    }
                }
            }
        }
        Ok(())
    }

    /// Converts the placed components to the target's colors, at full resolution.
    fn convert(&self, scratch: &mut Scratch, conversion: &Conversion, (first, rows): (usize, usize), width: usize) {
        for converted in &mut scratch.converted {
            converted.reshape(width, rows);
        }
        for row in 0..rows {
            for (index, line) in scratch.lines.iter_mut().enumerate() {
                line.resize(width, 128);
                match self.part(index) {
                    Some(part) => {
                        let samples = &scratch.placed[index];
                        widen(samples.row((first + row) / part.down - first / part.down), part.across, line);
                    }
                    None => line.fill(128),
                }
            }
            let [a, b, c] = &mut scratch.converted;
            let [y, u, v] = &scratch.lines;
            conversion.row([y, u, v], [a.row_mut(row), b.row_mut(row), c.row_mut(row)]);
        }
    }
}

/// Returns, for one axis of a component with `own` pixels per sample, the pixels of the place per sample, and the
/// scaling.
fn axis(crop: u32, own: usize, place: u32, of_target: u32) -> (usize, Taps) {
    let samples = (crop as usize).div_ceil(own);
    // If the picture is reduced, subsampled chroma may have a sample for each pixel of the target.
    let placed = if of_target == 1 && samples >= place as usize { 1 } else { own };
    let scale = (f64::from(crop) / own as f64) / (f64::from(place) / placed as f64);
    (placed, Taps::new(samples, (place as usize).div_ceil(placed), scale))
}

/// Repeats each sample for its pixels.
fn widen(from: &[u8], across: usize, to: &mut [u8]) {
    match across {
        1 => to.copy_from_slice(&from[..to.len()]),
        _ => to.chunks_mut(across).zip(from).for_each(|(to, &from)| to.fill(from)),
    }
}

/// Changes the subsampling, over rows `first..first + rows` of a place that is `width` pixels wide. Each sample of the
/// target is the mean of its pixels. `from` begins with the sample of pixel row `origin`.
fn reduce(
    from: &Samples,
    (own_across, own_down): (usize, usize),
    origin: usize,
    (first, rows): (usize, usize),
    width: usize,
    (across, down): (usize, usize),
    to: &mut Samples,
) {
    to.reshape(width.div_ceil(across), rows.div_ceil(down));
    let source_row = |row: usize| from.row((first + row - origin) / own_down);
    if (own_across, own_down) == (across, down) {
        for row in 0..to.height {
            to.row_mut(row).copy_from_slice(&source_row(row * down)[..width.div_ceil(across)]);
        }
        return;
    }
    for row in 0..to.height {
        let lines = row * down..(row * down + down).min(rows);
        for (x, to) in to.row_mut(row).iter_mut().enumerate() {
            let columns = x * across..(x * across + across).min(width);
            let count = (lines.len() * columns.len()) as u32;
            let sum: u32 = lines
                .clone()
                .map(|line| {
                    let line = source_row(line);
                    columns.clone().map(|column| u32::from(line[column / own_across])).sum::<u32>()
                })
                .sum();
            *to = ((sum + count / 2) / count) as u8;
        }
    }
}

fn known_groups(layout: &Layout) -> Result<Vec<Group>> {
    groups(layout).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "convert", format!("this backend does not support {}", layout.fourcc()))
            .on("cpu")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{draw, frame, noise};
    use super::super::{Cpu, Way};
    use super::*;
    use crate::convert::{Converter, Layer as Asked, Request};
    use crate::format::{Flip, Rotation, Size, FORMATS};
    use proptest::prelude::*;

    fn format() -> impl Strategy<Value = &'static str> {
        let raw = FORMATS.iter().filter(|i| i.has_colors());
        prop::sample::select(raw.map(|i| i.name).collect::<Vec<_>>())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn bands_meet(
            from in format(), to in format(), (w, h) in (1u32..150, 1u32..150), (tw, th) in (1u32..150, 1u32..150),
            rotation in prop::sample::select(vec![Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270]),
            flip in prop::sample::select(vec![Flip::None, Flip::Horizontal, Flip::Vertical]),
            (left, top) in (0i32..5, 0i32..5), rows in 1usize..40,
        ) {
            let layout = |name: &str, w: u32, h: u32| Layout::aligned(name.parse().unwrap(), Size::new(w, h), 4).unwrap();
            let (source, target) = (layout(from, w, h), layout(to, tw + 8, th + 8));
            let (across, down) = target.fourcc().info().unwrap().subsampling();
            let on = |n: i32, unit: u32| n / unit as i32 * unit as i32;
            let (left, top) = (on(left, across), on(top, down));
            let size = Size::new(tw.div_ceil(across) * across, th.div_ceil(down) * down);
            let asked = Asked::default().rotation(rotation).flip(flip).place(Rect::new(left, top, size));
            let plan = Arc::new(Plan::new(&Request::convert(asked), &[source], &target).unwrap());
            prop_assume!(Cpu::new().unwrap().check(&plan).is_ok());
            let way = |rows| Way::Plain(Prepared { rows, ..Prepared::new(&plan).unwrap() });
            let source = frame(source, noise);
            prop_assert!(draw(&plan, way(2 * rows), &source) == draw(&plan, way(1 << 20), &source));
        }
    }
}
