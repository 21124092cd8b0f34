//! Matroska files and live streams (RFC 9559) with one video track, written packet by packet.
//!
//! A file can be played while it is written. After a crash or on a full disk, the file plays up to the last packet.
//! Index, duration and sizes are written at the end; [`repair`] writes them into a file that a crash has left. `writev`
//! writes the coded bytes without a copy.
//!
//! [`Writer`] writes one file or live stream. A [`Recorder`](super::recorder::Recorder) writes several files.

mod ebml;
mod header;
pub(crate) mod read;
mod repair;
mod writer;

pub use repair::repair;
pub use writer::Writer;
