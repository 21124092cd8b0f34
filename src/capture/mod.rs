//! Sources of frames: cameras.

mod camera;

pub use camera::{Camera, CameraBuilder, CameraStats, Captured, Fit};
