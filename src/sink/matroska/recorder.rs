//! A recording over several files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::writer::begins_file;
use super::{Summary, Writer, WriterOptions, Written};
use crate::error::{Error, Result};
use crate::frame::Packet;

/// When a recording goes on in another file: at the first key frame behind a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileRotation {
    /// Bytes of a file.
    pub bytes: Option<u64>,
    /// Time in a file.
    pub duration: Option<Duration>,
}

impl FileRotation {
    /// After so many bytes.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// After so much time.
    pub fn duration(self, duration: Duration) -> Self {
        Self { duration: Some(duration), ..self }
    }

    fn is_due(self, writer: &Writer) -> bool {
        self.bytes.is_some_and(|most| writer.bytes() >= most)
            || self.duration.is_some_and(|most| writer.duration() >= most)
    }
}

/// What became of a packet.
#[derive(Debug)]
#[non_exhaustive]
pub enum Recorded {
    /// It is in the file.
    Stored,
    /// It is the first of a new file; with what became of the file before it, if there was one. An error there is of
    /// [`Writer::finish`] and names the file, whose packets play all the same.
    NewFile(Option<Result<(PathBuf, Summary)>>),
    /// It is in no file, because none can begin with it: a key frame that is not damaged must come.
    Skipped,
}

/// Counts of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderStats {
    /// Files that were begun and hold something.
    pub files: u64,
    /// Packets in them.
    pub packets: u64,
    /// Packets in none.
    pub skipped: u64,
}

/// Records packets to `NAME-00001.EXT`, `NAME-00002.EXT` and so on: a new file at a [`FileRotation`], when the stream
/// changes or its timestamps go back (the source has started again), and after an error. Each begins with a key frame
/// that is not damaged ([`FrameFlags::ERROR`](crate::frame::FrameFlags::ERROR)). Files that are there are never
/// written over: numbers go on behind them. A file in which nothing could be stored is removed, and its number used
/// again.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    options: WriterOptions,
    rotation: FileRotation,
    number: u64,
    now: Option<(PathBuf, Writer)>,
    /// What became of the last file, until it is told.
    before: Option<Result<(PathBuf, Summary)>>,
    stats: RecorderStats,
}

impl Recorder {
    /// A recording by the name of `path`, whose files get numbers. The first is created with the first key frame.
    pub fn new(path: impl AsRef<Path>, options: WriterOptions, rotation: FileRotation) -> Self {
        let path = path.as_ref().to_owned();
        Self { path, options, rotation, number: 0, now: None, before: None, stats: RecorderStats::default() }
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
    /// As [`Writer::write`] and [`Writer::create`]: the packet is in no file, the file is finished as far as it can
    /// be, and the recording goes on in another one at the next key frame, so that a disk that has room again is used
    /// again. A file that cannot be finished is no error here: [`Recorded::NewFile`] or [`Recorder::finish`] tells of
    /// it.
    pub fn write(&mut self, packet: &Packet) -> Result<Recorded> {
        let done = self.try_write(packet);
        match &done {
            Ok(Recorded::Stored | Recorded::NewFile(_)) => self.stats.packets += 1,
            Ok(Recorded::Skipped) => self.stats.skipped += 1,
            Err(_) => {
                self.stats.skipped += 1;
                self.end_file();
            }
        }
        done
    }

    fn try_write(&mut self, packet: &Packet) -> Result<Recorded> {
        let begins = begins_file(packet);
        let rotation = self.rotation;
        if let Some((_, writer)) = &mut self.now {
            if !begins || !(writer.is_behind(packet) || rotation.is_due(writer)) {
                match writer.write(packet)? {
                    Written::Stored => return Ok(Recorded::Stored),
                    Written::Skipped => return Ok(Recorded::Skipped),
                    Written::OtherStream => {}
                }
            }
        }
        self.end_file();
        if !begins {
            return Ok(Recorded::Skipped);
        }
        self.begin_file(packet)?;
        Ok(Recorded::NewFile(self.before.take()))
    }

    fn end_file(&mut self) {
        if let Some((path, writer)) = self.now.take() {
            self.before = Some(writer.finish().map(|summary| (path, summary)));
        }
    }

    fn begin_file(&mut self, packet: &Packet) -> Result<()> {
        let (path, file) = self.next_file()?;
        let begun = Writer::of_file(file, &path, self.options);
        let begun = begun.and_then(|mut writer| writer.write(packet).map(|_| writer)).map_err(|e| {
            // It is ours, and nothing is in it. One that cannot be removed keeps its number.
            let _ = fs::remove_file(&path);
            e
        })?;
        self.number += 1;
        self.stats.files += 1;
        self.now = Some((path, begun));
        Ok(())
    }

    /// Creates the file of the next number of which there is none.
    fn next_file(&mut self) -> Result<(PathBuf, File)> {
        loop {
            let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
            let mut name = format!("{stem}-{:05}", self.number + 1);
            if let Some(extension) = self.path.extension() {
                name = format!("{name}.{}", extension.to_string_lossy());
            }
            let path = self.path.with_file_name(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.number += 1,
                Err(e) => return Err(Error::io("open", &e).on(path.display())),
            }
        }
    }

    /// Ends the recording: what became of its last file, if there was one that [`Recorded::NewFile`] did not tell.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish(mut self) -> Result<Option<(PathBuf, Summary)>> {
        self.end_file();
        self.before.transpose()
    }
}
