//! Matroska files and live streams (RFC 9559): one video track, written as it comes.
//!
//! A file can be played at any moment. A file that was cut off, by a crash or a full disk, plays up to that point.
//! Index, duration and sizes are written at the end. `writev` writes the coded bytes without a copy.
//!
//! [`Recorder`] writes numbered files and is a [`Station`](crate::Station). [`Writer`] writes one file or live stream.

mod codec;
mod ebml;
mod output;
mod recorder;
mod writer;

pub use recorder::{FileRotation, Recorder, RecorderEvent, RecorderStats};
pub use writer::{Fsync, Summary, Writer, WriterOptions, Written};
