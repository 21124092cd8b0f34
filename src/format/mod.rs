//! Formats, layouts and geometry. This module only calculates. It uses no file descriptors and makes no system calls.
//!
//! A [`FourCc`] names a pixel format. A [`Layout`] says where each row of each plane lies in memory.
//!
//! ```
//! use framelease::format::{FourCc, Layout, Size};
//!
//! let layout = Layout::packed(FourCc::NV12, Size::new(640, 480))?;
//! assert_eq!(layout.planes().len(), 2); // Y, and CbCr with half the rows.
//! assert_eq!((layout.planes()[1].offset_bytes, layout.planes()[1].stride_bytes), (640 * 480, 640));
//! assert_eq!(layout.memory_bytes(), [640 * 480 * 3 / 2]); // Both lie in one buffer.
//! # Ok::<(), framelease::Error>(())
//! ```

mod colorimetry;
mod fourcc;
mod fourcc_text;
mod geometry;
mod layout;
mod table;

pub use colorimetry::{ColorSpace, Colorimetry, Encoding, Range, Transfer};
pub use fourcc::FourCc;
pub use geometry::{Flip, FrameInterval, Rect, Rotation, Size};
pub use layout::{Layout, Plane, MAX_PLANES, MAX_SIDE};
pub use table::{FormatInfo, FormatKind};
#[doc(hidden)] // For this project's tests.
pub use table::{PlaneInfo, FORMATS};
