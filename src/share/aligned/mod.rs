//! Frames of several sources that were taken at the same time.

mod event;
mod matcher;
mod station;

pub use event::{AlignedEvent, AlignedStats};
pub use station::Aligned;
