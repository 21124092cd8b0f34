//! A plan as the shader reads it: a structure for each step.

use std::sync::{Arc, OnceLock};

use crate::convert::cpu::color::{codes, Conversion, Space};
use crate::convert::cpu::samples::{groups, target_groups, Group, COMPONENTS};
use crate::convert::plan::Plan;
use crate::convert::{Blend, Draw, Fill, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Flip, Layout, Rect, Rotation};
use crate::sys::vulkan::{Buffer, Pass};

/// The sides of the shader's workgroups, in cells.
const GROUP: u32 = 8;
/// The memory planes that the shader knows.
const PLANES: usize = 3;
/// The size of the shader's `Step`.
const STEP_BYTES: usize = 2 * COMPONENTS * COMPONENT_WORDS * 4 + 4 * 4 + 5 * 16 + 4 * 4;
const COMPONENT_WORDS: usize = 11;

pub(super) struct Program {
    pub(super) plan: Arc<Plan>,
    pub(super) passes: Vec<Pass>,
    pub(super) steps: Vec<u8>,
    /// The steps in memory of the device. The worker makes it at the first job.
    pub(super) uploaded: OnceLock<Buffer>,
}

/// Limits of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most bytes of a buffer that a shader can use.
    pub(super) most_bytes: u32,
}

fn unsupported(text: String) -> Error {
    Error::new(ErrorKind::Unsupported, "convert", text)
}

/// Checks formats and sizes.
pub(super) fn check(plan: &Plan, limits: Limits) -> Result<()> {
    if target_groups(plan.target()).is_none() {
        return Err(unsupported(format!("this backend does not write {}", plan.target().fourcc())));
    }
    for layout in plan.sources().iter().chain([plan.target()]) {
        if groups(layout).is_none() || layout.memory_bytes().len() > PLANES {
            return Err(unsupported(format!("this backend does not support {}", layout.fourcc())));
        }
        // Offsets are signed in the shader.
        let most = u64::from(limits.most_bytes.min(i32::MAX as u32));
        if let Some(bytes) = layout.memory_bytes().iter().find(|bytes| u64::from(**bytes) > most) {
            return Err(unsupported(format!("{layout}: the device takes buffers of {most} bytes, not of {bytes}")));
        }
    }
    Ok(())
}

impl Program {
    pub(super) fn new(plan: &Arc<Plan>, limits: Limits) -> Result<Self> {
        check(plan, limits)?;
        let mut steps = Vec::with_capacity(plan.steps().len() * STEP_BYTES);
        let mut passes = Vec::with_capacity(plan.steps().len());
        for step in plan.steps() {
            let mut words = Words(&mut steps);
            let (source, place) = match step {
                Step::Fill(fill) => (0, words.fill(fill, plan.target())),
                Step::Draw(draw) => (draw.source, words.draw(draw, &plan.sources()[draw.source], plan.target())),
            };
            let (across, down) = cell(plan.target());
            let count = |side: u32, unit: u32| side.div_ceil(unit).div_ceil(GROUP);
            passes.push(Pass { source, groups: (count(place.size.width, across), count(place.size.height, down)) });
        }
        // A device makes no empty buffer.
        steps.resize(steps.len().max(STEP_BYTES), 0);
        Ok(Self { plan: Arc::clone(plan), passes, steps, uploaded: OnceLock::new() })
    }
}

/// Returns the pixels of one chroma sample.
fn cell(layout: &Layout) -> (u32, u32) {
    layout.fourcc().info().map_or((1, 1), |info| info.subsampling())
}

fn has_alpha(layout: &Layout) -> bool {
    layout.fourcc().info().is_some_and(|info| info.has_alpha())
}

/// How samples of an axis make pixels of the place.
#[derive(Clone, Copy)]
struct Axis {
    samples: u32,
    /// Pixels of the place for each sample.
    pixels: u32,
    scale: f32,
}

impl Axis {
    const TARGET: Self = Self { samples: 0, pixels: 0, scale: 1.0 };
}

/// The words of the shader's structures, in its order.
struct Words<'a>(&'a mut Vec<u8>);

impl Words<'_> {
    fn word(&mut self, word: i32) {
        self.0.extend(word.to_ne_bytes());
    }

    fn fill(&mut self, fill: &Fill, target: &Layout) -> Rect {
        (0..COMPONENTS * COMPONENT_WORDS).for_each(|_| self.word(0));
        self.target(fill.rect, target);
        let [a, b, c] = codes(fill.color, Space::of(target)).map(i32::from);
        let alpha = if has_alpha(target) { i32::from(fill.color.alpha) } else { 255 };
        // The matrix and the codes of black, which a fill does not use.
        (0..16).for_each(|_| self.word(0));
        [a, b, c, alpha, 0, 255, 0, 0].into_iter().for_each(|word| self.word(word));
        fill.rect
    }

    fn draw(&mut self, draw: &Draw, source: &Layout, target: &Layout) -> Rect {
        self.source(draw, source, target);
        self.target(draw.place, target);
        let same = ([[1 << 14, 0, 0], [0, 1 << 14, 0], [0, 0, 1 << 14]], [1 << 13; 3]);
        let between = Conversion::between(Space::of(source), Space::of(target));
        let (factors, offsets) = between.map_or(same, |conversion| conversion.fixed());
        for (row, offset) in factors.into_iter().zip(offsets) {
            row.into_iter().chain([offset]).for_each(|word| self.word(word));
        }
        let alphas = i32::from(has_alpha(source)) | i32::from(has_alpha(target)) << 1;
        Space::of(target).zero().into_iter().chain([alphas]).for_each(|word| self.word(word));
        let mode = match draw.blend {
            Blend::Replace => 1,
            Blend::Straight => 2,
            Blend::Premultiplied => 3,
        };
        [0, 0, 0, 0, mode, i32::from(draw.alpha), 0, 0].into_iter().for_each(|word| self.word(word));
        draw.place
    }

    /// The source's components, upright.
    fn source(&mut self, draw: &Draw, layout: &Layout, target: &Layout) {
        let known = groups(layout).unwrap_or_default();
        let (upright, place, of_target) = (draw.upright(), draw.place.size, cell(target));
        for index in 0..COMPONENTS {
            let Some((group, kind, byte)) = component(&known, index) else {
                (0..COMPONENT_WORDS).for_each(|_| self.word(0));
                continue;
            };
            let plane = &layout.planes()[group.plane];
            let (left, top) = (draw.crop.left as u32 / group.across as u32, draw.crop.top as u32 / group.down as u32);
            let columns = draw.crop.size.width.div_ceil(group.across as u32) as i32;
            let rows = draw.crop.size.height.div_ceil(group.down as u32) as i32;
            let (step, stride) = (group.step_bytes as i32, plane.stride_bytes as i32);
            // As `fetch` of the CPU: first the reflection, then the rotation.
            let turns_columns = matches!(draw.rotation, Rotation::Half | Rotation::Clockwise270);
            let turns_rows = matches!(draw.rotation, Rotation::Half | Rotation::Clockwise90);
            let is_reversed_x = (draw.flip == Flip::Horizontal) != turns_columns;
            let is_reversed_y = (draw.flip == Flip::Vertical) != turns_rows;
            let mut first = plane.offset_bytes as i32 + byte as i32 + left as i32 * step + top as i32 * stride;
            let (mut step_x, mut step_y) = (step, stride);
            if is_reversed_x {
                (first, step_x) = (first + (columns - 1) * step, -step);
            }
            if is_reversed_y {
                (first, step_y) = (first + (rows - 1) * stride, -stride);
            }
            let (mut own_across, mut own_down) = (group.across as u32, group.down as u32);
            if draw.rotation.is_quarter() {
                (step_x, step_y) = (step_y, step_x);
                (own_across, own_down) = (own_down, own_across);
            }
            let across = axis(upright.width, own_across, place.width, of_target.0);
            let down = axis(upright.height, own_down, place.height, of_target.1);
            self.component(kind, plane.memory, (first, step_x, step_y), across, down);
        }
    }

    /// The target's components, from the first sample of the place on, and the place.
    fn target(&mut self, place: Rect, layout: &Layout) {
        let known = groups(layout).unwrap_or_default();
        for index in 0..COMPONENTS {
            let Some((group, kind, byte)) = component(&known, index) else {
                (0..COMPONENT_WORDS).for_each(|_| self.word(0));
                continue;
            };
            let plane = &layout.planes()[group.plane];
            let (step, stride) = (group.step_bytes as i32, plane.stride_bytes as i32);
            let (left, top) = (place.left / group.across as i32, place.top / group.down as i32);
            let first = plane.offset_bytes as i32 + byte as i32 + left * step + top * stride;
            let axis = |pixels: usize| Axis { pixels: pixels as u32, ..Axis::TARGET };
            self.component(kind, plane.memory, (first, step, stride), axis(group.across), axis(group.down));
        }
        let (across, down) = cell(layout);
        [place.size.width, place.size.height, across, down].into_iter().for_each(|word| self.word(word as i32));
    }

    fn component(
        &mut self,
        kind: u32,
        memory: u32,
        (first, step_x, step_y): (i32, i32, i32),
        across: Axis,
        down: Axis,
    ) {
        let sides = [across.samples, down.samples, across.pixels, down.pixels].map(|word| word as i32);
        [kind as i32, memory as i32, first, step_x, step_y].into_iter().chain(sides).for_each(|w| self.word(w));
        [across.scale, down.scale].into_iter().for_each(|scale| self.0.extend(scale.to_ne_bytes()));
    }
}

/// Returns the group of a component, the shader's kind, and its first byte in the group.
fn component(groups: &[Group], index: usize) -> Option<(&Group, u32, usize)> {
    groups.iter().find_map(|group| {
        let part = group.components().iter().find(|c| c.index == index)?;
        Some((group, if group.is_565 { 2 + index as u32 } else { 1 }, part.first_byte))
    })
}

/// As the CPU's `axis`: if the picture is reduced, subsampled chroma may have a sample for each pixel of the target.
fn axis(crop: u32, own: u32, place: u32, of_target: u32) -> Axis {
    let samples = crop.div_ceil(own);
    let pixels = if of_target == 1 && samples >= place { 1 } else { own };
    let scale = (f64::from(crop) / f64::from(own)) / (f64::from(place) / f64::from(pixels));
    Axis { samples, pixels, scale: scale as f32 }
}
