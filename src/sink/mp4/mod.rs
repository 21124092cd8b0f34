//! Fragmented MP4 files and live streams (ISO/IEC 14496-12) with one video track, H.264 or H.265.
//!
//! A file is a header and fragments. A fragment has the frames of about a second, and is complete when its header is
//! written. So a file can be played while it is written, up to the last complete fragment, and after a crash. Index and
//! duration are written at the end; [`repair`] writes them into a file that a crash has left. `writev` writes the coded
//! bytes without a copy.
//!
//! In a live stream, each frame is a fragment. This is the form that browsers play (Media Source Extensions).
//!
//! [`Writer`] writes one file or live stream. A [`Recorder`](super::recorder::Recorder) writes several files.

mod boxes;
mod fragment;
mod header;
mod index;
pub(crate) mod read;
mod repair;
mod writer;

pub use repair::repair;
pub use writer::Writer;
