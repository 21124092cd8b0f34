//! Matroska files and live streams (RFC 9559): one video track, written as it comes.
//!
//! A file is playable at every moment: what was cut off in the middle, by a crash or a full disk, plays up to there.
//! The end brings index, duration and sizes. Coded bytes go to the kernel from where they are, by `writev`.

mod codec;
mod ebml;
mod output;
mod recorder;
mod writer;

pub use recorder::{FileRotation, Recorded, Recorder, RecorderStats};
pub use writer::{Fsync, Summary, Writer, WriterOptions, Written};
