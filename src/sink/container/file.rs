//! A file or stream of one container, while it is written.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::options::{Fsync, Summary, WriterOptions, Written};
use super::output::{Output, Pipe};
use super::sample::Sample;
use super::timeline::Timeline;
use super::track::{begins_file, Track};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FrameInterval;
use crate::frame::Packet;
use crate::sys::lock::LockedFile;

/// The output, the track and the times of a file. Every container's writer has one.
pub(in crate::sink) struct ContainerFile {
    out: Output,
    pub(in crate::sink) name: String,
    pub(in crate::sink) options: WriterOptions,
    pub(in crate::sink) track: Option<Track>,
    pub(in crate::sink) times: Timeline,
    /// The bytes of complete elements.
    end: u64,
    /// What stands before a packet, in memory that is used again.
    head: Vec<u8>,
    /// The output ends with half an element: a stream, or a file that could not be cut.
    is_broken: bool,
}

impl ContainerFile {
    /// Creates a file, or overwrites an existing one. Does not block on a pipe or a device.
    pub(in crate::sink) fn create(path: &Path, options: WriterOptions) -> Result<Self> {
        let file = open(path, OpenOptions::new().create(true))?;
        // Cut after it is locked: another program may write to it.
        let created = Self::of_file(file, path, options)?;
        if let Output::File(file) = &created.out {
            file.set_len(0).map_err(|e| Error::io("ftruncate", &e).on(path.display()))?;
        }
        Ok(created)
    }

    /// Writes to `file`, which must be an empty file or not block. `path` is for error texts.
    pub(in crate::sink) fn of_file(file: File, path: &Path, options: WriterOptions) -> Result<Self> {
        let meta = file.metadata().map_err(|e| Error::io("fstat", &e).on(path.display()))?;
        if !meta.is_file() {
            return Ok(Self::new(Output::Pipe(Pipe::new(file)), path.display().to_string(), options));
        }
        Ok(Self::new(Output::File(lock(file, path)?), path.display().to_string(), options))
    }

    /// Writes to a pipe or device, and keeps the bytes that its reader has not taken. Neither creates nor overwrites a
    /// file that is there instead.
    pub(in crate::sink) fn of_pipe(path: &Path, options: WriterOptions) -> Result<Self> {
        let file = Self::of_file(open(path, &mut OpenOptions::new())?, path, options)?;
        match file.out {
            Output::Pipe(pipe) => Ok(Self { out: Output::Pipe(pipe.keeping()), ..file }),
            _ => {
                let text = "a file has replaced the pipe or device that the recorder was made for";
                Err(Error::new(ErrorKind::WrongFile, "open", text).on(path.display()))
            }
        }
    }

    pub(in crate::sink) fn live(out: impl Write + Send + 'static, options: WriterOptions) -> Self {
        Self::new(Output::Stream(Box::new(out)), "live stream".into(), options)
    }

    pub(in crate::sink) fn new(out: Output, name: String, options: WriterOptions) -> Self {
        let times = Timeline::new(1000);
        Self { out, name, options, track: None, times, end: 0, head: Vec::new(), is_broken: false }
    }

    /// Sets the unit of the times.
    pub(in crate::sink) fn with_ticks(self, ticks_per_second: u64) -> Self {
        Self { times: Timeline::new(ticks_per_second), ..self }
    }

    /// The bytes that were written.
    pub(in crate::sink) fn bytes(&self) -> u64 {
        self.end
    }

    /// Returns `true` for a regular file, which can be patched.
    pub(in crate::sink) fn is_file(&self) -> bool {
        self.out.is_file()
    }

    pub(in crate::sink) fn pipe(&mut self) -> Option<&mut Pipe> {
        self.out.pipe()
    }

    /// Writes waiting bytes for the reader of a pipe, as far as it takes them.
    pub(in crate::sink) fn write_waiting(&mut self) -> Result<()> {
        let done = self.out.pipe().map_or(Ok(()), Pipe::write_waiting);
        done.map_err(|e| self.failed("write", &e))
    }

    /// Returns why a packet is not written, if so. Without a track, the packet begins the file.
    pub(in crate::sink) fn refuses(&mut self, packet: &Packet) -> Result<Option<Written>> {
        if self.is_broken {
            return Err(self.broken("write"));
        }
        if packet.picture().is_empty() {
            return Ok(Some(Written::Skipped));
        }
        self.out.within(self.options.write_timeout);
        // Not decided by the header: the write after it may have failed.
        if self.times.packets() == 0 && !begins_file(packet) {
            return Ok(Some(Written::Skipped));
        }
        if self.track.as_ref().is_some_and(|track| !track.is_of(packet)) {
            return Ok(Some(Written::OtherStream));
        }
        Ok(self.times.leads(packet).then_some(Written::Skipped))
    }

    /// Writes a packet after what `head` gives for a sample of this many bytes. Returns that number.
    pub(in crate::sink) fn append_packet(
        &mut self,
        packet: &Packet,
        keeps_sets: bool,
        head: impl FnOnce(&mut Vec<u8>, u64),
    ) -> Result<u64> {
        let Some(track) = &mut self.track else { return Err(self.broken("write")) };
        let sample = Sample::new(track, packet, keeps_sets);
        self.head.clear();
        head(&mut self.head, sample.bytes());
        let all = std::iter::once(&self.head[..]).chain(sample.slices());
        let (head_bytes, bytes) = (self.head.len() as u64, sample.bytes());
        if let Err(e) = self.out.write(all) {
            return Err(self.cut_at_end(&e));
        }
        self.end += head_bytes + bytes;
        track.stored(packet);
        Ok(bytes)
    }

    /// Writes complete elements, or nothing.
    pub(in crate::sink) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_broken {
            return Err(self.broken("write"));
        }
        if let Err(e) = self.out.write(std::iter::once(bytes)) {
            return Err(self.cut_at_end(&e));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn cut_at_end(&mut self, e: &io::Error) -> Error {
        self.is_broken = !self.out.cut(self.end);
        self.failed("write", e)
    }

    /// Removes everything after `end` of a file.
    pub(in crate::sink) fn cut(&mut self, end: u64) {
        if self.out.cut(end) {
            self.end = end;
        }
    }

    /// Overwrites bytes of a file. Does nothing for a stream.
    pub(in crate::sink) fn patch(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.out.patch(at, bytes).map_err(|e| self.failed("pwrite", &e))
    }

    /// Writes the data to the disk, if the options say so for this moment.
    pub(in crate::sink) fn sync(&self) -> Result<()> {
        match self.options.fsync {
            Fsync::Never => Ok(()),
            Fsync::Clusters => self.out.sync().map_err(|e| self.failed("fdatasync", &e)),
        }
    }

    /// Waits until the reader of a pipe has taken everything.
    pub(in crate::sink) fn flush(&mut self) -> Result<()> {
        self.out.within(self.options.write_timeout);
        self.out.flush().map_err(|e| self.failed("write", &e))
    }

    /// The usual time between frames, if it is known.
    pub(in crate::sink) fn interval(&self) -> Option<Duration> {
        self.options.interval.and_then(FrameInterval::duration).filter(|interval| !interval.is_zero())
    }

    /// The time from the first frame to the end of the last frame.
    pub(in crate::sink) fn whole_duration(&self) -> Duration {
        if self.times.packets() == 0 {
            return Duration::ZERO;
        }
        self.times.duration() + self.interval().unwrap_or_default()
    }

    fn broken(&self, op: &'static str) -> Error {
        Error::new(ErrorKind::State, op, "an earlier write failed in the middle").on(&self.name)
    }

    fn failed(&self, op: &'static str, e: &io::Error) -> Error {
        Error::io(op, e).on(&self.name)
    }

    pub(in crate::sink) fn unsupported(&self, text: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, "write", text.into()).on(&self.name)
    }
}

impl fmt::Debug for ContainerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} packets, {} bytes", self.name, self.times.packets(), self.end)
    }
}

/// What a recorder needs of the writer of any container.
pub(in crate::sink) trait FileWriter: fmt::Debug + Send {
    fn file(&self) -> &ContainerFile;

    fn file_mut(&mut self) -> &mut ContainerFile;

    fn write(&mut self, packet: &Packet) -> Result<Written>;

    fn finish(self: Box<Self>) -> Result<Summary>;
}

/// Opens a file to repair it.
pub(in crate::sink) fn reopen(path: &Path) -> Result<LockedFile> {
    let file = open(path, OpenOptions::new().read(true))?;
    let meta = file.metadata().map_err(|e| Error::io("fstat", &e).on(path.display()))?;
    if !meta.is_file() {
        return Err(Error::new(ErrorKind::WrongFile, "open", "not a regular file").on(path.display()));
    }
    lock(file, path)
}

/// Locks a file, so that it is not repaired while it is written.
fn lock(file: File, path: &Path) -> Result<LockedFile> {
    LockedFile::lock(file).ok_or_else(|| {
        let text = "another writer has locked this file, or another program repairs it";
        Error::new(ErrorKind::Busy, "flock", text).on(path.display())
    })
}

fn open(path: &Path, how: &mut OpenOptions) -> Result<File> {
    let failed = |e: io::Error| {
        let is_pipe = || path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
        let error = Error::io("open", &e).on(path.display());
        if e.raw_os_error() == Some(libc::ENXIO) && is_pipe() {
            return error.kind_is(ErrorKind::Disconnected).detail("no process reads from this pipe");
        }
        error
    };
    how.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed)
}
