//! Options of a recorder.

use std::path::Path;

use super::names::FileNames;
use super::retention::Retention;
use super::rotation::FileRotation;
use crate::sink::container::WriterOptions;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// [Matroska](crate::sink::matroska): every codec of this crate. A crash loses no packet that was written.
    Matroska,
    /// Fragmented [MP4](crate::sink::mp4): H.264 and H.265. A crash loses the last second at most.
    Mp4,
}

impl Container {
    /// Returns MP4 for the extensions `mp4` and `m4v`, and Matroska for others.
    pub(super) fn of(path: &Path) -> Self {
        let is = |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
        if is("mp4") || is("m4v") {
            return Self::Mp4;
        }
        Self::Matroska
    }
}

/// Options of a [`Recorder`](super::Recorder).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderOptions {
    /// The format of the files. `None`, the default: MP4 if the path ends in `.mp4` or `.m4v`, else Matroska.
    pub container: Option<Container>,
    /// Options of each file.
    pub writer: WriterOptions,
    /// When the recording continues in another file. Default: never.
    pub rotation: FileRotation,
    /// The names of the files. Default: numbers.
    pub names: FileNames,
    /// Which files are deleted. Default: none.
    pub retention: Retention,
    /// The recorder repairs its latest file when it is created, if a crash has left it without an end
    /// ([`matroska::repair`](crate::sink::matroska::repair), [`mp4::repair`](crate::sink::mp4::repair)). Default:
    /// `true`.
    pub repair: bool,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            container: None,
            writer: WriterOptions::default(),
            rotation: FileRotation::default(),
            names: FileNames::default(),
            retention: Retention::default(),
            repair: true,
        }
    }
}

impl RecorderOptions {
    /// Sets the format of the files.
    pub fn container(self, container: Container) -> Self {
        Self { container: Some(container), ..self }
    }

    /// Sets the options of each file.
    pub fn writer(self, writer: WriterOptions) -> Self {
        Self { writer, ..self }
    }

    /// Sets when the recording continues in another file.
    pub fn rotation(self, rotation: FileRotation) -> Self {
        Self { rotation, ..self }
    }

    /// Sets how files are named.
    pub fn names(self, names: FileNames) -> Self {
        Self { names, ..self }
    }

    /// Sets which files are deleted.
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Sets whether the latest file is repaired.
    pub fn repair(self, repair: bool) -> Self {
        Self { repair, ..self }
    }
}
