//! Crop and compose rectangles (`VIDIOC_G_SELECTION`, `VIDIOC_S_SELECTION`).

use std::os::fd::AsFd;

use super::device::{Device, Direction};
use crate::error::Result;
use crate::format::{Rect, Size};
use crate::sys::v4l2::{Plain, Selection};
use crate::sys::v4l2_calls as calls;

/// The kind of a selection rectangle. The device reads the crop rectangle of the source and writes this part to the
/// compose rectangle of the buffer. An encoder has its crop rectangle on the output queue, for example 1080 of 1088
/// rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectionTarget {
    /// The part of the source that is read.
    Crop,
    /// The part of the destination that is written.
    Compose,
}

/// A crop or compose rectangle, with its default and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// The present rectangle of the device.
    pub active: Rect,
    /// The rectangle that the driver starts with.
    pub default: Rect,
    /// The rectangle that encloses every possible rectangle.
    pub bounds: Rect,
    /// The rectangle that the device writes, including its padding; `None` if the driver does not report this
    /// rectangle.
    pub padded: Option<Rect>,
}

impl Device {
    /// Returns the present crop or compose rectangle, and its default and bounds. Ioctl: `VIDIOC_G_SELECTION`, three or
    /// four times.
    ///
    /// # Errors
    /// `Unsupported` or `InvalidArgument` if the device does not support the rectangle in its present state.
    #[doc(alias = "VIDIOC_G_SELECTION")]
    pub fn region(&self, direction: Direction, target: SelectionTarget) -> Result<Region> {
        const OP: &str = "VIDIOC_G_SELECTION";
        let get = |which: u32| -> Result<Rect> {
            let mut raw = self.selection(direction, target, OP)?;
            raw.target += which;
            calls::g_selection(self.as_fd(), &mut raw).map_err(|e| self.failed(OP, e))?;
            Ok(rect(&raw))
        };
        let padded = if target == SelectionTarget::Compose { get(3).ok() } else { None };
        Ok(Region { active: get(0)?, default: get(1)?, bounds: get(2)?, padded })
    }

    /// Sets the crop or compose rectangle and returns the rectangle that the driver chose. Ioctl: `VIDIOC_S_SELECTION`.
    ///
    /// # Errors
    /// `Unsupported` or `InvalidArgument` if the device does not support the rectangle in its present state. `Busy` if
    /// the rectangle cannot change during streaming. The text has the bounds.
    #[doc(alias = "VIDIOC_S_SELECTION")]
    pub fn set_region(&self, direction: Direction, target: SelectionTarget, wanted: Rect) -> Result<Rect> {
        const OP: &str = "VIDIOC_S_SELECTION";
        let mut raw = self.selection(direction, target, OP)?;
        (raw.left, raw.top) = (wanted.left, wanted.top);
        (raw.width, raw.height) = (wanted.size.width, wanted.size.height);
        calls::s_selection(self.as_fd(), &mut raw).map_err(|e| {
            let offer = self.region(direction, target).map_or(String::new(), |r| format!("; bounds {}", r.bounds));
            self.failed(OP, e).detail(format!("{}; asked {target:?} {wanted}{offer}", e.desc()))
        })?;
        Ok(rect(&raw))
    }

    fn selection(&self, direction: Direction, target: SelectionTarget, op: &'static str) -> Result<Selection> {
        // Selections use the single-planar types. The kernel accepts the multi-planar ones since 4.13 only.
        let kind = if self.buf_type(direction, op)?.is_output() { 2 } else { 1 };
        let target = match target {
            SelectionTarget::Crop => 0,
            SelectionTarget::Compose => 0x100,
        };
        Ok(Selection { kind, target, ..Selection::zeroed() })
    }
}

fn rect(raw: &Selection) -> Rect {
    Rect { left: raw.left, top: raw.top, size: Size::new(raw.width, raw.height) }
}
