//! Dewarping tables for hardware that supports them: the DPU of 8QM and 8QXP.

use crate::dmabuf::DmaBuf;
use crate::format::Size;
use crate::sys::g2d::Warp as RawWarp;

/// How a table stores source positions (`enum g2d_warp_map_format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarpFormat {
    /// Positions in the source.
    Points,
    /// Differences from the previous position.
    Deltas,
    /// Differences from the previous difference.
    DoubleDeltas,
}

/// A table that maps target pixels to source positions (`struct g2d_warp_coordinates`, header 2.1).
///
/// The hardware defines the table's bytes. This crate passes them on and does not read them.
///
/// ```no_run
/// use framelease::convert::g2d::{WarpFormat, WarpMap};
/// use framelease::convert::G2d;
/// use framelease::dmabuf::Allocator;
/// use framelease::format::Size;
///
/// let table = Allocator::Heap("/dev/dma_heap/linux,cma".into()).allocate(64 * 48 * 4, "warp")?;
/// let map = WarpMap::new(table, WarpFormat::Points, 32, Size::new(64, 48));
/// G2d::open()?.set_warp(Some(map))?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WarpMap {
    table: DmaBuf,
    format: WarpFormat,
    bits_per_point: u8,
    size: Size,
    start: [u32; 2],
    delta: [u32; 4],
}

impl WarpMap {
    /// Describes a table in contiguous memory. It has `size` points of `bits_per_point` bits each.
    pub fn new(table: DmaBuf, format: WarpFormat, bits_per_point: u8, size: Size) -> Self {
        Self { table, format, bits_per_point, size, start: [0; 2], delta: [0; 4] }
    }

    /// Sets the first position, x and y, in 16.5 fixed point. For [`WarpFormat::Deltas`] and
    /// [`WarpFormat::DoubleDeltas`].
    pub fn start(mut self, x: u32, y: u32) -> Self {
        self.start = [x, y];
        self
    }

    /// Sets the first differences xx, xy, yx, yy in 3.5 fixed point. For [`WarpFormat::DoubleDeltas`].
    pub fn delta(mut self, delta: [u32; 4]) -> Self {
        self.delta = delta;
        self
    }

    /// Returns the memory of the table.
    pub fn table(&self) -> &DmaBuf {
        &self.table
    }

    /// Returns how many bytes the points take; 0 for an empty table.
    pub(super) fn bytes(&self) -> u128 {
        let points = u64::from(self.size.width) * u64::from(self.size.height);
        (u128::from(points) * u128::from(self.bits_per_point)).div_ceil(8)
    }

    pub(super) fn raw(&self, address: u64) -> RawWarp {
        RawWarp {
            address,
            format: match self.format {
                WarpFormat::Points => 0,
                WarpFormat::Deltas => 1,
                WarpFormat::DoubleDeltas => 2,
            },
            bits_per_point: i32::from(self.bits_per_point),
            width: i32::try_from(self.size.width).unwrap_or(i32::MAX),
            height: i32::try_from(self.size.height).unwrap_or(i32::MAX),
            start: self.start,
            delta: self.delta,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::Allocator;

    #[test]
    fn absurd_tables_have_a_size() {
        let table = Allocator::Memfd.allocate(4096, "table").unwrap();
        let map = |w, h, bits| WarpMap::new(table.clone(), WarpFormat::Points, bits, Size::new(w, h)).bytes();
        assert_eq!([map(64, 64, 32), map(3, 1, 3), map(0, 9, 32)], [16_384, 2, 0]);
        assert!(map(u32::MAX, u32::MAX, u8::MAX) > u128::from(u64::MAX));
    }
}
