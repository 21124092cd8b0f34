//! Rows of the source in private memory that stays in the first-level cache.

use std::fmt;

use crate::error::Result;
use crate::format::{MAX_PLANES, MAX_SIDE};
use crate::frame::FrameRead;

/// Bytes of the longest row: four bytes for each pixel. A power of two, so that masked offsets need no check.
pub(super) const ROOM: usize = 4 * MAX_SIDE as usize;

/// The part of each row of a color plane that is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first_byte: usize,
    pub(super) end: usize,
    /// Picture rows for each row of the plane. 0 if no byte is needed.
    pub(super) down: u32,
}

impl Span {
    /// Extends the span by another one of the same plane.
    pub(super) fn add(&mut self, other: Self) {
        *self = match self.down {
            0 => other,
            _ => Self { first_byte: self.first_byte.min(other.first_byte), end: self.end.max(other.end), ..other },
        };
    }
}

/// The bytes of one row, and as many more as a word at the last byte needs.
pub(super) type Row = [u8; ROOM + 4];

/// One row of each color plane.
#[derive(Default)]
pub(super) struct Rows {
    buffers: Vec<Box<Row>>,
    /// The rows that the buffers have.
    held: [Option<u32>; MAX_PLANES],
}

impl Rows {
    /// Makes room for this many planes.
    pub(super) fn prepare(&mut self, planes: usize) {
        // By a vector: an array would need as much of the stack.
        let row = || vec![0; ROOM + 4].into_boxed_slice().try_into().ok();
        self.buffers.extend((self.buffers.len()..planes).filter_map(|_| row()));
    }

    /// Forgets the rows of an earlier frame.
    pub(super) fn begin(&mut self) {
        self.held = Default::default();
    }

    /// Gets a picture row of the planes that have a span. This is the only place that reads shared memory.
    pub(super) fn fetch(&mut self, frame: &FrameRead<'_>, spans: &[Span], y: u32) -> Result<()> {
        for (plane, ((span, row), held)) in spans.iter().zip(&mut self.buffers).zip(&mut self.held).enumerate() {
            let Some(wanted) = y.checked_div(span.down).filter(|wanted| *held != Some(*wanted)) else { continue };
            *held = None;
            frame.copy_span(plane, wanted, span.first_byte, &mut row[..span.end - span.first_byte])?;
            *held = Some(wanted);
        }
        Ok(())
    }

    pub(super) fn row(&self, plane: usize) -> &Row {
        &self.buffers[plane]
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("held", &self.held).finish_non_exhaustive()
    }
}
