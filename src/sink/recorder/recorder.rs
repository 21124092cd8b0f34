//! A recording in several files.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::EpollFlags;

use super::names::Names;
use super::options::{Container, RecorderOptions};
use super::retention::Kept;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::Packet;
use crate::sink::container::{
    begins_file, captured_at, read_up_to, ContainerFile, FileWriter, Repaired, Summary, Written,
};
use crate::sink::{matroska, mp4};
use crate::station::{ended, sealed, Received, Station, Submit, Submitted};
use crate::sys::event_queue::EventQueue;
use crate::sys::lock::LockedFile;
use crate::sys::readiness::Readiness;
use crate::sys::wait;

/// An event of a [`Recorder`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RecorderEvent {
    /// A file is finished.
    File {
        /// The path of the file.
        path: PathBuf,
        /// Counts of its content.
        summary: Summary,
    },
    /// A file could not be finished, repaired or deleted. A file that could not be finished lacks its index and
    /// duration, and can still be played. The text names the file.
    Error(Error),
    /// A file that a crash had left without an end was repaired.
    Repaired {
        /// The path of the file.
        path: PathBuf,
        /// What the repair removed and wrote.
        repaired: Repaired,
    },
    /// The oldest file was deleted, because the recording is beyond a limit of its [`Retention`](super::Retention), or
    /// because the disk is full.
    Deleted {
        /// The path of the file.
        path: PathBuf,
    },
}

/// Counts of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecorderStats {
    /// Files that contain at least one packet.
    pub files: u64,
    /// Packets that were written to files.
    pub packets: u64,
    /// Packets that were not written to any file.
    pub skipped: u64,
}

/// The most files that a call deletes, so that it does not block for long.
const MOST_DELETED: usize = 8;

/// The most events that wait. The oldest are dropped.
const MOST_EVENTS: usize = 64;

/// How long after an error [`Recorder::awaits_key`] is `false`, so that a full disk does not make the encoder produce
/// key frames only.
const PAUSE: Duration = Duration::from_secs(1);

/// Records packets to `NAME-00001.EXT`, `NAME-00002.EXT` and so on, in Matroska or MP4.
///
/// A new file begins at a [`FileRotation`](super::FileRotation), when the stream changes, when the timestamps go back
/// because the source has restarted, and after an error. Each file begins with a key frame that is not damaged
/// ([`FrameFlags::ERROR`](crate::frame::FrameFlags::ERROR)). The recorder never overwrites an existing file. If no
/// packet could be stored in a new file, the recorder removes the file and uses its number again. Frames of an open GOP
/// that need frames of two files are lost between these files.
///
/// If `path` is a pipe or a device, the recorder writes one live stream to it. The recorder then adds nothing to the
/// path, repairs and deletes nothing, and does not divide the stream.
///
/// A recorder is a [`Station`] that takes packets ([`Submit`]) and reports each finished file. For regular files the
/// recorder is never full, but a call may block on the disk. To avoid that, run the recorder in a thread with a
/// [`PacketReceiver`](crate::frame::PacketReceiver). For a pipe the recorder is full until the reader has taken the
/// previous packet. The recorder keeps a copy of that packet. A reader that closes the pipe causes `Disconnected`, and
/// no SIGPIPE.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::sink::recorder::{FileNames, FileRotation, Recorder, RecorderEvent, RecorderOptions, Retention};
/// use framelease::{Received, Station, Submit};
/// # fn packets() -> Vec<framelease::frame::Packet> { Vec::new() }
///
/// let options = RecorderOptions::default()
///     .rotation(FileRotation::default().duration(Duration::from_secs(600)).aligned(true))
///     .names(FileNames::WallClock)
///     .retention(Retention::default().bytes(100 << 30)); // 100 GiB.
/// let mut recorder = Recorder::new("/var/lib/camera/front.mkv", options)?;
/// for packet in packets() {
///     let _ = recorder.try_submit(packet)?;
///     if recorder.awaits_key() { /* encoder.force_key() */ }
/// }
/// recorder.finish();
/// while let Received::Item(event) = recorder.try_recv()? {
///     match event {
///         RecorderEvent::File { path, summary } => println!("{}: {} packets", path.display(), summary.packets),
///         RecorderEvent::Error(error) => eprintln!("{error}"),
///         _ => {}
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    options: RecorderOptions,
    container: Container,
    names: Names,
    kept: Kept,
    now: Option<Current>,
    events: EventQueue<RecorderEvent>,
    /// The path is that of a pipe or device.
    is_pipe: bool,
    /// Has the events, and the pipe while bytes wait for its reader.
    readiness: Readiness,
    is_watching: bool,
    /// `finish` was called.
    is_finished: bool,
    /// When files beyond a limit were last looked for.
    looked: Instant,
    /// When a packet could not be stored, until one is.
    failed: Option<Instant>,
    /// The end was returned.
    is_over: bool,
    stats: RecorderStats,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    writer: Box<dyn FileWriter>,
    /// When it has the duration of a file.
    duration: Option<Duration>,
}

impl Recorder {
    /// Creates a recorder for files with the name of `path` and a number or a time. The first key frame creates the
    /// first file. Repairs the latest file of an earlier run, if [`RecorderOptions::repair`] is set.
    ///
    /// # Errors
    /// `Exhausted` if no descriptor is left.
    pub fn new(path: impl AsRef<Path>, options: RecorderOptions) -> Result<Self> {
        let path = path.as_ref();
        let is_other = |meta: fs::Metadata| meta.file_type().is_fifo() || meta.file_type().is_char_device();
        let readiness = Readiness::new().map_err(|e| Error::os("epoll_create1", e))?;
        let events = EventQueue::new(MOST_EVENTS).map_err(|e| Error::os("eventfd", e))?;
        readiness.add(&events, EpollFlags::EPOLLIN, 0).map_err(|e| Error::os("epoll_ctl", e))?;
        let mut recorder = Self {
            is_pipe: path.metadata().is_ok_and(is_other),
            path: path.to_owned(),
            options,
            container: options.container.unwrap_or_else(|| Container::of(path)),
            names: Names::new(path, options.names),
            kept: Kept::default(),
            now: None,
            events,
            readiness,
            is_watching: false,
            is_finished: false,
            looked: Instant::now(),
            failed: None,
            is_over: false,
            stats: RecorderStats::default(),
        };
        recorder.look_for_files();
        Ok(recorder)
    }

    /// Repairs the latest file of an earlier run.
    fn look_for_files(&mut self) {
        if self.is_pipe {
            return;
        }
        // A folder that cannot be read is reported when a file cannot be created.
        let files = self.names.existing().unwrap_or_default();
        if let Some(latest) = files.last().filter(|_| self.options.repair) {
            let repaired = match self.container {
                Container::Matroska => matroska::repair(&latest.path),
                Container::Mp4 => mp4::repair(&latest.path),
            };
            match repaired {
                Ok(Some(repaired)) => {
                    self.events.push(RecorderEvent::Repaired { path: latest.path.clone(), repaired });
                }
                // Not a file of this kind.
                Err(e) if e.kind() == ErrorKind::WrongFile => {}
                Ok(None) => {}
                Err(error) => self.events.push(RecorderEvent::Error(error)),
            }
        }
        self.kept.list(files, None);
        self.delete_surplus();
    }

    /// Deletes files beyond the limits of the recording.
    fn delete_surplus(&mut self) {
        if !self.options.retention.has_limit() || self.is_pipe {
            return;
        }
        let bytes = self.now.as_ref().map_or(0, |now| now.writer.file().bytes());
        let time = SystemTime::now();
        self.looked = Instant::now();
        for _ in 0..MOST_DELETED {
            let Some(path) = self.kept.take_surplus(self.options.retention, bytes, time) else { break };
            self.delete(path);
        }
    }

    /// Deletes files that have become too old, also while nothing is recorded.
    fn delete_old(&mut self) {
        if self.options.retention.age.is_some() && self.looked.elapsed() >= PAUSE {
            self.delete_surplus();
        }
    }

    fn delete(&mut self, path: PathBuf) {
        if !may_delete(&path) {
            return;
        }
        match fs::remove_file(&path) {
            Ok(()) => self.events.push(RecorderEvent::Deleted { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.events.push(RecorderEvent::Error(Error::io("unlink", &e).on(path.display()))),
        }
    }

    /// Deletes the oldest file if the disk is full, so that the next file has room.
    fn make_room(&mut self, error: &Error) {
        let is_full = [libc::ENOSPC, libc::EDQUOT].map(Some).contains(&error.errno());
        if !is_full || !self.options.retention.has_limit() || self.is_pipe {
            return;
        }
        // The file that has filled the disk is one of them now.
        let files = self.names.existing().unwrap_or_default();
        self.kept.list(files, None);
        if let Some(path) = self.kept.take_oldest() {
            self.delete(path);
        }
    }

    /// Returns the path of the current file. `None` while no file is open.
    pub fn path(&self) -> Option<&Path> {
        self.now.as_ref().map(|now| &*now.path)
    }

    /// Returns counts of files and packets.
    pub fn stats(&self) -> RecorderStats {
        self.stats
    }

    /// Returns `true` while the recording waits for a key frame to begin a file, for example because a rotation is due.
    /// Force a key frame then. For a second after an error this method returns `false`, so that a full disk does not
    /// cause key frames all the time. A key frame that comes earlier also begins a file.
    pub fn awaits_key(&self) -> bool {
        let waits = self.now.as_ref().map_or(true, |now| self.is_due(now, None));
        waits && !self.is_finished && self.failed.map_or(true, |at| at.elapsed() >= PAUSE)
    }

    /// Finishes the last file. The recorder then returns the waiting events, and ends. For a pipe, this call waits
    /// until the pipe's reader has taken the rest of the stream, for at most
    /// [`WriterOptions::write_timeout`](crate::sink::WriterOptions::write_timeout).
    pub fn finish(&mut self) {
        self.end_file();
        if !std::mem::replace(&mut self.is_finished, true) {
            self.events.found();
        }
    }

    /// Returns `true` if a file has reached a limit, or reaches its duration with the packet that comes next.
    fn is_due(&self, now: &Current, next: Option<&Packet>) -> bool {
        let file = now.writer.file();
        let duration = || next.map_or_else(|| file.times.duration(), |packet| file.times.duration_before(packet));
        let is_full = self.options.rotation.bytes.is_some_and(|most| file.bytes() >= most);
        !self.is_pipe && (is_full || now.duration.is_some_and(|most| duration() >= most))
    }

    fn write(&mut self, packet: &Packet) -> Result<bool> {
        let begins = begins_file(packet);
        let is_due = self.now.as_ref().is_some_and(|now| self.is_due(now, Some(packet)));
        if let Some(now) = &mut self.now {
            if !begins || !(now.writer.file().times.is_behind(packet) || is_due) {
                match now.writer.write(packet)? {
                    Written::Stored => return Ok(true),
                    Written::Skipped => return Ok(false),
                    Written::OtherStream => {}
                }
            }
        }
        self.end_file();
        if begins {
            self.begin_file(packet)?;
        }
        Ok(begins)
    }

    pub(in crate::sink) fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    pub(in crate::sink) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Finishes the current file. The next key frame begins another.
    pub(in crate::sink) fn end_file(&mut self) {
        self.watch(false);
        let Some(Current { path, writer, .. }) = self.now.take() else { return };
        self.events.push(match writer.finish() {
            Ok(summary) => RecorderEvent::File { path, summary },
            Err(error) => RecorderEvent::Error(error),
        });
    }

    /// Writes waiting bytes for the reader of a pipe. Returns `true` if none remain.
    fn write_waiting(&mut self) -> bool {
        let Some(now) = self.now.as_mut().filter(|_| self.is_pipe) else { return true };
        let file = now.writer.file_mut();
        let written = file.write_waiting();
        let waits = file.pipe().is_some_and(|pipe| pipe.has_waiting());
        if let Err(error) = written {
            self.watch(false);
            self.now = None;
            self.events.push(RecorderEvent::Error(error));
            return true;
        }
        self.watch(waits);
        !waits
    }

    /// Watches the pipe, to write waiting bytes when its reader has taken some.
    fn watch(&mut self, is_wanted: bool) {
        if self.is_watching == is_wanted {
            return;
        }
        let Some(pipe) = self.now.as_mut().and_then(|now| now.writer.file_mut().pipe()) else { return };
        match is_wanted {
            true => self.is_watching = self.readiness.add(&*pipe, EpollFlags::EPOLLOUT, 1).is_ok(),
            false => {
                self.readiness.remove(&*pipe);
                self.is_watching = false;
            }
        }
    }

    /// Returns the writer of a file of this recording's container.
    fn writer(&self, file: ContainerFile) -> Box<dyn FileWriter> {
        match self.container {
            Container::Matroska => Box::new(matroska::Writer::new(file)),
            Container::Mp4 => Box::new(mp4::Writer::new(file)),
        }
    }

    fn begin_file(&mut self, packet: &Packet) -> Result<()> {
        if self.is_pipe {
            let mut writer = self.writer(ContainerFile::of_pipe(&self.path, self.options.writer)?);
            writer.write(packet)?;
            self.stats.files += 1;
            self.now = Some(Current { path: self.path.clone(), writer, duration: None });
            return Ok(());
        }
        let time = captured_at(packet);
        let (path, file) = self.names.create(time)?;
        let begun = ContainerFile::of_file(file, &path, self.options.writer).and_then(|file| {
            let mut writer = self.writer(file);
            writer.write(packet).map(|_| writer)
        });
        // The file is ours and empty. If it cannot be removed, its number stays in use.
        let writer = begun.map_err(|e| {
            self.names.remove(&path);
            e
        })?;
        self.stats.files += 1;
        if self.options.retention.has_limit() {
            let files = self.names.existing().unwrap_or_default();
            self.kept.list(files, Some(&path));
        }
        self.now = Some(Current { path, writer, duration: self.options.rotation.duration_from(time) });
        Ok(())
    }
}

/// Returns `true` for a file of this library that is not being written, and for an empty one. A crash may leave zeros.
fn may_delete(path: &Path) -> bool {
    let Some(file) = File::open(path).ok().and_then(LockedFile::lock) else { return false };
    let mut head = [0; 1024];
    let read = read_up_to(&file, 0, &mut head).unwrap_or(0);
    let name = b"framelease";
    head[..read].iter().all(|&byte| byte == 0) || head[..read].windows(name.len()).any(|window| window == name)
}

impl sealed::Sealed for Recorder {}

impl Station for Recorder {
    type Event = RecorderEvent;

    /// Writes waiting bytes for the reader of a pipe.
    fn dispatch(&mut self) -> Result<()> {
        self.write_waiting();
        self.delete_old();
        self.events.looked();
        Ok(())
    }

    /// Returns the next event. Ends after [`Recorder::finish`].
    fn try_recv(&mut self) -> Result<Received<RecorderEvent>> {
        self.write_waiting();
        self.delete_old();
        let got = match self.events.pop() {
            Some(event) => Received::Item(event),
            None if self.is_over => return Err(ended("recv")),
            None if self.is_finished => {
                self.is_over = true;
                Received::Ended
            }
            None => Received::Nothing,
        };
        self.events.given(self.is_finished && !self.is_over);
        Ok(got)
    }
}

impl Submit for Recorder {
    type Item = Packet;

    /// Records a packet. A regular file always takes it, and the call may block on the disk. A pipe takes it if its
    /// reader has taken the previous packet. A packet that arrives while the recorder waits for a key frame counts as
    /// skipped. That is not an error: while [`Recorder::path`] is `None`, nothing is recorded.
    ///
    /// # Errors
    /// After an error the packet comes back and is not in any file. The recorder finishes the file as far as possible,
    /// and begins another file at the next key frame. So it continues when the disk has room again. `Exhausted` on a
    /// full disk, `NotFound` and `PermissionDenied` if no file can be created, `Disconnected` for a pipe without a
    /// reader, `NotFound` and `WrongFile` for a pipe that was removed or replaced, `Unsupported` if the
    /// container cannot hold the stream, `State` after [`Recorder::finish`].
    fn try_submit(&mut self, packet: Packet) -> std::result::Result<Submitted<Packet>, Rejected<Packet>> {
        if self.is_finished {
            let error = Error::new(ErrorKind::State, "submit", "the recording is finished");
            return Err(Rejected { error, item: packet });
        }
        if !self.write_waiting() {
            return Ok(Submitted::Full(packet));
        }
        let written = self.write(&packet);
        match &written {
            Ok(true) => {
                self.stats.packets += 1;
                self.failed = None;
                self.delete_surplus();
            }
            Ok(false) => self.stats.skipped += 1,
            Err(error) => {
                self.stats.skipped += 1;
                self.failed = Some(Instant::now());
                self.end_file();
                self.make_room(error);
            }
        }
        self.write_waiting();
        match written {
            Ok(_) => Ok(Submitted::Taken),
            Err(error) => Err(Rejected { error, item: packet }),
        }
    }

    // Does not wait for the descriptor alone: it is readable for events, too, which would end each wait at once.
    fn submit(
        &mut self,
        packet: Packet,
        timeout: Duration,
    ) -> std::result::Result<Submitted<Packet>, Rejected<Packet>> {
        let deadline = wait::deadline(timeout);
        let mut packet = packet;
        loop {
            match self.try_submit(packet)? {
                Submitted::Taken => return Ok(Submitted::Taken),
                Submitted::Full(back) => packet = back,
            }
            let Some(pipe) = self.now.as_mut().and_then(|now| now.writer.file_mut().pipe()) else { continue };
            match wait::events(pipe.as_fd(), PollFlags::POLLOUT, deadline) {
                // The clock is compared: a device may report that it is ready and then take nothing.
                Ok(ready) if !ready.is_empty() && Instant::now() < deadline => {}
                Ok(_) | Err(Errno::EINTR) => return Ok(Submitted::Full(packet)),
                Err(e) => return Err(Rejected { error: Error::os("poll", e), item: packet }),
            }
        }
    }
}

/// Readable while a new event waits, and when the reader of a pipe has taken bytes.
impl AsFd for Recorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.watch(false);
        self.readiness.remove(&self.events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::Codec;
    use crate::error::ErrorKind;
    use crate::format::Size;
    use crate::frame::PacketMeta;
    use crate::sink::container::{Output, Pipe, WriterOptions};

    #[test]
    fn awaits_key_is_false_for_a_while_after_an_error() {
        let path = "/nonexistent/camera.mkv";
        let mut recorder = Recorder::new(path, RecorderOptions::default()).unwrap();
        assert!(recorder.awaits_key());
        let key = Packet::new(PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, 0), [0x10, 0, 0], None);
        assert_eq!(recorder.try_submit(key).unwrap_err().error.kind(), ErrorKind::NotFound);
        assert!(!recorder.awaits_key(), "a full disk would make the encoder produce key frames only");
        recorder.failed = recorder.failed.and_then(|at| at.checked_sub(PAUSE));
        assert!(recorder.awaits_key());
    }

    fn key() -> Packet {
        Packet::new(PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, 0), [0x10, 0, 0], None)
    }

    /// A folder that is removed when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("framelease-recorder-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn recorder_keeps_the_bytes_of_a_name_that_is_not_utf_8() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let folder = Folder::new("name");
        let path = folder.0.join(OsStr::from_bytes(b"gate\xe9.mk\xff"));
        let mut recorder = Recorder::new(path, RecorderOptions::default()).unwrap();
        assert!(recorder.try_submit(key()).unwrap().is_taken());
        assert_eq!(recorder.path(), Some(&*folder.0.join(OsStr::from_bytes(b"gate\xe9-00001.mk\xff"))));
    }

    #[test]
    fn submit_ends_at_its_timeout_if_a_device_is_ready_and_takes_nothing() {
        use std::os::fd::OwnedFd;
        // An eventfd with room for 1 is writable, but does not take a 2.
        let device = nix::sys::eventfd::EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).unwrap();
        device.write(u64::MAX - 2).unwrap();
        let mut pipe = Pipe::new(File::from(OwnedFd::from(device))).keeping();
        assert_eq!(pipe.write(&[io::IoSlice::new(&2u64.to_ne_bytes())]).unwrap(), 8);
        let folder = Folder::new("device");
        let mut recorder = Recorder::new(&folder.0, RecorderOptions::default()).unwrap();
        recorder.is_pipe = true;
        let file = ContainerFile::new(Output::Pipe(pipe), "device".into(), WriterOptions::default());
        let writer = recorder.writer(file);
        recorder.now = Some(Current { path: folder.0.clone(), writer, duration: None });
        assert!(recorder.submit(key(), Duration::from_millis(20)).unwrap().full().is_some());
    }

    #[test]
    fn recorder_of_a_pipe_neither_creates_nor_overwrites_a_file() {
        let folder = Folder::new("pipe");
        let path = folder.0.join("live");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut recorder = Recorder::new(&path, RecorderOptions::default()).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(recorder.try_submit(key()).unwrap_err().error.kind(), ErrorKind::NotFound);
        assert!(!path.exists());
        fs::write(&path, "another recording").unwrap();
        assert_eq!(recorder.try_submit(key()).unwrap_err().error.kind(), ErrorKind::WrongFile);
        assert_eq!(fs::read(&path).unwrap(), b"another recording");
    }
}
