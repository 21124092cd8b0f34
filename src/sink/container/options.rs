//! Options and results of writers.

use std::time::Duration;

use crate::format::{Colorimetry, FrameInterval};

/// When a file's data is written to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fsync {
    /// The data is not synchronized: the kernel writes it later. This is the default.
    #[default]
    Never,
    /// The data is synchronized at the end of every cluster (Matroska) or fragment (MP4), usually before a key frame.
    /// The writer then calls `fdatasync`, which waits for the disk.
    Clusters,
}

/// Options of a [`matroska::Writer`](crate::sink::matroska::Writer) and an [`mp4::Writer`](crate::sink::mp4::Writer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterOptions {
    /// The usual time between frames. Players use it to show the frame rate. It is also the duration of the last frame.
    /// The real intervals may vary, because every packet has its own timestamp. Default: none.
    pub interval: Option<FrameInterval>,
    /// The colorimetry of the pictures. Default: none is stored.
    pub colorimetry: Option<Colorimetry>,
    /// When the data is written to the disk. Default: [`Fsync::Never`].
    pub fsync: Fsync,
    /// The longest time that one call may block on a pipe or device. Default 5 s. Ignored for regular files and
    /// live streams.
    pub write_timeout: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { interval: None, colorimetry: None, fsync: Fsync::default(), write_timeout: Duration::from_secs(5) }
    }
}

impl WriterOptions {
    /// Sets the frame interval.
    pub fn interval(self, interval: FrameInterval) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// Sets the colorimetry of the pictures.
    pub fn colorimetry(self, colorimetry: Colorimetry) -> Self {
        Self { colorimetry: Some(colorimetry), ..self }
    }

    /// Sets when data must be on the disk.
    pub fn fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Sets the longest time that one call may block on a pipe or device.
    pub fn write_timeout(self, write_timeout: Duration) -> Self {
        Self { write_timeout, ..self }
    }
}

/// Whether a packet was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// The packet is in the file.
    Stored,
    /// The packet was not written, because it is empty, because the file still waits for its first undamaged key frame,
    /// or because it is shown before that frame. Such a frame of an open GOP needs frames before the file.
    Skipped,
    /// The packet was not written, because its codec, size or parameter sets differ from those of the file. The packet
    /// needs another file. Other picture parameter sets (PPS) need none if the packet contains them.
    OtherStream,
}

/// The counts of a finished file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Packets in the file.
    pub packets: u64,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The time from the first frame to the end of the last frame.
    pub duration: Duration,
}

/// A file that a crash had left without its end, and that is complete now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The bytes that were removed from the end of the file, because they were half a packet or a fragment without its
    /// header.
    pub removed_bytes: u64,
    /// The time from the first frame to the end of the last frame.
    pub duration: Duration,
}
