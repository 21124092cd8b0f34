//! Sources of frames: the camera, and a test pattern that needs none.

mod pattern;

pub use pattern::{TestPattern, TestPatternBuilder};
