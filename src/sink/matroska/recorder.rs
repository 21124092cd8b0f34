//! A recording over several files.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Options, Summary, Writer, Written};
use crate::error::{Error, Result};
use crate::frame::Packet;

/// When a recording goes on in another file: at the first key frame behind a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// Bytes of a file.
    pub bytes: Option<u64>,
    /// Time in a file.
    pub duration: Option<Duration>,
}

impl Rotation {
    /// After so many bytes.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// After so much time.
    pub fn duration(self, duration: Duration) -> Self {
        Self { duration: Some(duration), ..self }
    }
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// It is in the file.
    Stored,
    /// It is the first of a new file; with the file before it, if one was finished.
    NewFile(Option<(PathBuf, Summary)>),
    /// It is in no file, because none can begin with it: a key frame must come.
    Skipped,
}

/// Counts of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderStats {
    /// Files that were begun.
    pub files: u64,
    /// Packets in them.
    pub packets: u64,
    /// Packets in none.
    pub skipped: u64,
}

/// Records packets to `NAME-00001.EXT`, `NAME-00002.EXT` and so on: a new file at a [`Rotation`], when the stream changes,
/// and after an error. Files that are there are never written over: numbers go on behind them.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    options: Options,
    rotation: Rotation,
    number: u64,
    now: Option<(PathBuf, Writer)>,
    stats: RecorderStats,
}

impl Recorder {
    /// A recording by the name of `path`, whose files get numbers. The first is created with the first key frame.
    pub fn new(path: impl AsRef<Path>, options: Options, rotation: Rotation) -> Self {
        let path = path.as_ref().to_owned();
        Self { path, options, rotation, number: 0, now: None, stats: RecorderStats::default() }
    }

    /// The file that is written now.
    pub fn path(&self) -> Option<&Path> {
        self.now.as_ref().map(|(path, _)| &**path)
    }

    /// Counts until now.
    pub fn stats(&self) -> RecorderStats {
        self.stats
    }

    /// Records a packet.
    ///
    /// # Errors
    /// As [`Writer::write`] and [`Writer::create`]: the packet is in no file, the file is finished as far as it can be, and
    /// the recording goes on in another one at the next key frame, so that a disk that has room again is used again.
    pub fn write(&mut self, packet: &Packet) -> Result<Recorded> {
        let done = self.try_write(packet);
        match &done {
            Ok(Recorded::Stored | Recorded::NewFile(_)) => self.stats.packets += 1,
            Ok(Recorded::Skipped) => self.stats.skipped += 1,
            Err(_) => {
                self.stats.skipped += 1;
                if let Some((_, writer)) = self.now.take() {
                    // The first error is the one to tell.
                    let _ = writer.finish();
                }
            }
        }
        done
    }

    fn try_write(&mut self, packet: &Packet) -> Result<Recorded> {
        let is_due = packet.is_key() && self.now.as_ref().is_some_and(|(_, w)| self.is_over(w));
        if !is_due {
            if let Some((_, writer)) = &mut self.now {
                match writer.write(packet)? {
                    Written::Stored => return Ok(Recorded::Stored),
                    Written::Skipped => return Ok(Recorded::Skipped),
                    Written::OtherStream => {}
                }
            }
        }
        let before = self.finish_file()?;
        if !packet.is_key() {
            return Ok(Recorded::Skipped);
        }
        let (path, mut writer) = self.next_file()?;
        let written = writer.write(packet);
        self.now = Some((path, writer));
        match written? {
            Written::Stored => Ok(Recorded::NewFile(before)),
            _ => Ok(Recorded::Skipped),
        }
    }

    fn is_over(&self, writer: &Writer) -> bool {
        self.rotation.bytes.is_some_and(|most| writer.bytes() >= most)
            || self.rotation.duration.is_some_and(|most| writer.duration() >= most)
    }

    fn finish_file(&mut self) -> Result<Option<(PathBuf, Summary)>> {
        match self.now.take() {
            Some((path, writer)) => Ok(Some((path, writer.finish()?))),
            None => Ok(None),
        }
    }

    /// The next number of which there is no file.
    fn next_file(&mut self) -> Result<(PathBuf, Writer)> {
        loop {
            let number = self.number + 1;
            let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
            let mut name = format!("{stem}-{number:05}");
            if let Some(extension) = self.path.extension() {
                name = format!("{name}.{}", extension.to_string_lossy());
            }
            let path = self.path.with_file_name(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    self.number = number;
                    self.stats.files += 1;
                    let writer = Writer::of_file(file, &path, self.options)?;
                    return Ok((path, writer));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.number = number,
                Err(e) => return Err(Error::io("open", &e).on(path.display())),
            }
        }
    }

    /// Ends the recording, with its last file.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish(mut self) -> Result<Option<(PathBuf, Summary)>> {
        self.finish_file()
    }
}
