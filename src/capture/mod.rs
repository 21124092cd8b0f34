//! Sources of frames: the camera, and a test pattern that needs none.

mod camera;
mod pattern;

pub use camera::{Camera, CameraBuilder, CameraStats, Captured, SizeFit};
pub use pattern::{TestPattern, TestPatternBuilder};
