//! What the drivers of a graph answer. The kernel's drivers are in `subdevices.rs`; tests have models of them.

use nix::errno::Errno;

use super::bus_format::BusFormat;
use super::graph::{End, Entity, Hop};
use crate::format::{FourCc, FrameInterval, Rect, Size};
use crate::sys::media::Route;
use crate::v4l2::Intervals;

/// Which state of a subdevice a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// A state for trials, which belongs to an open file.
    Try = 0,
    /// The state of the device.
    Active = 1,
}

/// A rectangle of a pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Crop = 0,
    Compose = 0x100,
}

/// The calls that a pipeline needs. Lists are empty, and answers `None`, where a driver does not know them.
pub(super) trait Drivers {
    /// Lists the codes of a pad.
    fn codes(&self, at: End<'_>) -> Vec<u32>;
    /// Lists the smallest and the largest picture of a pad. They are equal for a single size.
    fn sizes(&self, at: End<'_>, code: u32) -> Vec<(Size, Size)>;
    /// Lists the frame intervals of a sensor's pad.
    fn intervals(&self, at: End<'_>, format: BusFormat) -> Intervals;

    fn format(&self, which: Which, at: End<'_>) -> Option<BusFormat>;
    /// Returns the format that the driver chose.
    fn set_format(&self, which: Which, at: End<'_>, format: BusFormat) -> Result<BusFormat, Errno>;

    fn rect(&self, which: Which, at: End<'_>, target: Target) -> Option<Rect>;
    /// Returns the rectangle that the driver chose.
    fn set_rect(&self, which: Which, at: End<'_>, target: Target, rect: Rect) -> Result<Rect, Errno>;

    /// Returns the interval of a sensor that has a call for it.
    fn interval(&self, at: End<'_>) -> Option<FrameInterval>;
    /// Returns the interval that the driver chose.
    fn set_interval(&self, at: End<'_>, interval: FrameInterval) -> Result<FrameInterval, Errno>;

    /// Returns `true` if a program captures from a video node, or is about to.
    fn is_busy(&self, entity: &Entity) -> bool;
    /// Returns the format of a video node.
    fn node(&self, entity: &Entity) -> Option<(FourCc, Size)>;
    /// Lists the formats of a video node for a code of its pad.
    fn offers(&self, entity: &Entity, code: u32) -> Vec<FourCc>;
    /// Returns the format that the driver chose.
    fn set_node(&self, entity: &Entity, fourcc: FourCc, size: Size) -> Result<(FourCc, Size), Errno>;

    fn set_link(&self, hop: &Hop<'_>, enabled: bool) -> Result<(), Errno>;
    fn set_routes(&self, which: Which, entity: &Entity, routes: &[Route]) -> Result<(), Errno>;
}
