//! Matroska files and live streams (RFC 9559) with one video track, written packet by packet.
//!
//! A file can be played while it is written. After a crash or on a full disk, the file plays up to the last packet.
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
