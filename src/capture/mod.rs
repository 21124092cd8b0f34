//! Sources of frames: V4L2 cameras, and a test pattern for machines without a camera.
//!
//! ```no_run
//! use framelease::capture::{Camera, Reopen};
//! use framelease::Station;
//!
//! let mut camera = Camera::builder().path("/dev/video0").reopen(Reopen::Always).open()?;
//! for frame in camera.frames() {
//!     println!("{:?}", frame?);
//! }
//! # Ok::<(), framelease::Error>(())
//! ```

mod builder;
mod camera;
mod choice;
mod pattern;
mod setup;
mod source;
mod stall;

pub use builder::{CameraBuilder, Fit, Reopen};
pub use camera::Camera;
pub use pattern::{TestPattern, TestPatternBuilder};
pub use source::{CameraEvent, CameraStats, FrameSource};
