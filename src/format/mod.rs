//! Formats, layouts and geometry: numbers only, no file descriptor and no system call.

mod colorimetry;
mod fourcc;
mod geometry;
mod layout;

pub use colorimetry::{ColorSpace, Colorimetry, Encoding, Range, Transfer};
pub use fourcc::{FormatInfo, FormatKind, FourCc};
#[doc(hidden)] // For this project's tests.
pub use fourcc::{PlaneInfo, FORMATS};
pub use geometry::{Flip, FrameInterval, Rect, Rotation, Size};
pub use layout::{Layout, Plane, MAX_PLANES, MAX_SIDE};
