//! Crop and compose rectangles (`VIDIOC_G_SELECTION`, `VIDIOC_S_SELECTION`).

use std::os::fd::AsFd;

use super::device::{Device, Direction};
use crate::error::Result;
use crate::format::{Rect, Size};
use crate::sys::v4l2::{Plain, Selection};
use crate::sys::v4l2_calls as calls;

/// The two rectangles of a device: crop is cut from the source, compose is where it lands in the buffer. An encoder
/// crops on its output queue (1080 of 1088 rows).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectionTarget {
    /// Of the source.
    Crop,
    /// In the destination.
    Compose,
}

/// A rectangle with what is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// The rectangle now.
    pub active: Rect,
    /// What the driver starts with.
    pub default: Rect,
    /// What encloses every possible rectangle.
    pub bounds: Rect,
    /// What the device writes beside a compose rectangle; `None` if the driver does not say.
    pub padded: Option<Rect>,
}

impl Device {
    /// Crop or compose with default and bounds. Ioctl: `VIDIOC_G_SELECTION`, three or four times.
    ///
    /// # Errors
    /// `Unsupported` or `InvalidArgument` if the device does not do this now.
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

    /// Sets crop or compose and returns the rectangle that the driver took. Ioctl: `VIDIOC_S_SELECTION`.
    ///
    /// # Errors
    /// As [`Device::region`]; `Busy` where streaming forbids it. The text has the bounds.
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
        // Selections know only the single-planar types; the kernel takes the others since 4.13 only.
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
