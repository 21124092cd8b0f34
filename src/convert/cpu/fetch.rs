//! Copies shared memory into private samples. Crops, flips and rotates on the way.

use crate::error::Result;
use crate::format::{Flip, Rotation};
use crate::frame::FrameRead;

use crate::convert::Draw;

use super::samples::{Group, Samples, COMPONENTS};

/// Copies the upright rows `begin..end` of a group's components from a frame, one [`Samples`] for each. Returns how
/// many bytes it copied.
pub(super) fn fetch(
    frame: &FrameRead<'_>,
    draw: &Draw,
    group: &Group,
    (begin, end): (usize, usize),
    bytes: &mut Vec<u8>,
    out: &mut [Samples; COMPONENTS],
) -> Result<u64> {
    let (left, top) = (draw.crop.left as usize / group.across, draw.crop.top as usize / group.down);
    let columns = (draw.crop.size.width as usize).div_ceil(group.across);
    let rows = (draw.crop.size.height as usize).div_ceil(group.down);
    let quarter = draw.rotation.is_quarter();
    let reverse_columns =
        (draw.flip == Flip::Horizontal) != matches!(draw.rotation, Rotation::Half | Rotation::Clockwise270);
    let reverse_rows = (draw.flip == Flip::Vertical) != matches!(draw.rotation, Rotation::Half | Rotation::Clockwise90);
    let turned = |i: usize, count: usize, reverse: bool| if reverse { count - 1 - i } else { i };
    let count = end - begin;
    for samples in &mut out[..group.components().len()] {
        samples.reshape(if quarter { rows } else { columns }, count);
    }
    let copy = |row: usize, first: usize, samples: usize, bytes: &mut Vec<u8>| {
        bytes.resize(samples * group.step_bytes, 0);
        frame.copy_span(group.plane, (top + row) as u32, (left + first) * group.step_bytes, bytes)
    };
    if !quarter {
        for i in 0..count {
            copy(turned(begin + i, rows, reverse_rows), 0, columns, bytes)?;
            for (which, samples) in out.iter_mut().enumerate().take(group.components().len()) {
                group.unpack(bytes, which, samples.row_mut(i));
                if reverse_columns {
                    samples.row_mut(i).reverse();
                }
            }
        }
        return Ok((count * columns * group.step_bytes) as u64);
    }
    // An upright row is a column of the source.
    let first = if reverse_columns { columns - end } else { begin };
    let mut line = [0; MAX_COLUMNS];
    for row in 0..rows {
        copy(row, first, count, bytes)?;
        let x = turned(row, rows, reverse_rows);
        for (which, samples) in out.iter_mut().enumerate().take(group.components().len()) {
            for at in (0..count).step_by(MAX_COLUMNS) {
                let part = &mut line[..MAX_COLUMNS.min(count - at)];
                group.unpack(&bytes[at * group.step_bytes..], which, part);
                for (k, &value) in part.iter().enumerate() {
                    samples.row_mut(turned(at + k, count, reverse_columns))[x] = value;
                }
            }
        }
    }
    Ok((rows * count * group.step_bytes) as u64)
}

/// How many columns are copied at a time.
const MAX_COLUMNS: usize = 256;
