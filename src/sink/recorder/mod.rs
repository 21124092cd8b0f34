//! Recordings in several files, Matroska or MP4.
//!
//! [`Recorder`] is a [`Station`](crate::Station). It divides the stream at key frames, by size or time
//! ([`FileRotation`]), names the files by numbers or by the clock ([`FileNames`]), deletes the oldest ([`Retention`]),
//! and repairs the file that a crash has left.

mod names;
mod options;
#[allow(clippy::module_inception)] // Named after the type.
mod recorder;
mod retention;
mod rotation;

pub use names::FileNames;
pub use options::{Container, RecorderOptions};
pub use recorder::{Recorder, RecorderEvent, RecorderStats};
pub use retention::Retention;
pub use rotation::FileRotation;
