//! Plays raw frames of a file.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;

use super::due::DueTimer;
use super::records::{Records, StoredFrame};
use super::timeline::{Due, Next, Timeline};
use crate::capture::{CameraEvent, CameraStats, FrameSource};
use crate::dmabuf::Allocator;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FrameInterval, Layout};
use crate::frame::{BufferBudget, BufferSet, Frame, FrameFlags, FrameMut, Pool};
use crate::station::{ended, sealed, Received, Station};
use crate::sys::clock::monotonic_ns;
use crate::sys::readiness::Readiness;
use crate::sys::signal::Signal;
use crate::v4l2::Device;

/// The most frames that one call skips.
const MOST_SKIPPED: usize = 64;

/// Settings of a [`FrameReplay`].
///
/// ```no_run
/// use framelease::dmabuf::Allocator;
/// use framelease::replay::FrameReplay;
///
/// // Devices can import these buffers.
/// let replay = FrameReplay::builder("customer.frames").allocator(Allocator::for_devices()?).looped(true).open()?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FrameReplayBuilder {
    path: PathBuf,
    buffers: usize,
    allocator: Allocator,
    is_looped: bool,
}

impl FrameReplayBuilder {
    /// Sets the number of buffers. The default is 12, the total of the default [`BufferBudget`]. The limit is 64.
    pub fn buffers(mut self, count: usize) -> Self {
        self.buffers = count;
        self
    }

    /// Sets the allocator of the buffers. The default is [`Allocator::Memfd`], whose buffers devices cannot import.
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = allocator;
        self
    }

    /// Plays the file again from its start after its end. The first frame follows the last one after the usual interval
    /// of the recording. Sequence numbers continue to rise.
    pub fn looped(mut self, is_looped: bool) -> Self {
        self.is_looped = is_looped;
        self
    }

    /// Opens the file and allocates the buffers. The first frame is due at the first `try_recv`.
    ///
    /// # Errors
    /// `WrongFile` if the file is not a regular file of a [`FrameStore`](super::FrameStore). `Unsupported` for a newer
    /// version of the format, and for pixels that only devices can read. `Mismatch` if the file is damaged, or has no
    /// whole frame. Errors of `open`, of the reads, and of [`Pool::new`].
    pub fn open(self) -> Result<FrameReplay> {
        let mut records = Records::open(&self.path)?;
        let Some(first) = records.next()? else {
            return Err(records.error(ErrorKind::Mismatch, "the file has no whole frame".into()));
        };
        let pool = Pool::new(&self.allocator, first.layout, self.buffers)?;
        let failed = |e| Error::os("epoll", e);
        let (readiness, timer) = (Readiness::new().map_err(failed)?, DueTimer::new()?);
        let signal = Arc::new(Signal::new().map_err(failed)?);
        readiness.add(&timer, EpollFlags::EPOLLIN, 0).map_err(failed)?;
        readiness.add(&*signal, EpollFlags::EPOLLIN, 1).map_err(failed)?;
        Ok(FrameReplay {
            readiness,
            timer,
            signal,
            is_starved: false,
            pool,
            records,
            next: Next::Item((first, None)),
            timeline: Timeline::new(0),
            round: Round::default(),
            skipped: 0,
            stats: CameraStats::default(),
            scratch: Vec::new(),
            settings: self,
        })
    }
}

/// Sequence numbers of the recording, so that those of the next round continue.
#[derive(Debug, Default)]
struct Round {
    /// Added to each number.
    offset: u64,
    /// The largest number that was given or dropped.
    latest: Option<u64>,
    /// The next frame is the first of a later round.
    is_new: bool,
}

/// Plays a file of a [`FrameStore`](super::FrameStore) as a camera would give the frames: at the original intervals,
/// with the recorded gaps, losses and flags, and with the recorded bytes.
///
/// The first frame comes at once. [`FrameMeta::timestamp_ns`](crate::frame::FrameMeta::timestamp_ns) is the time of
/// `CLOCK_MONOTONIC` at which the frame is due, and has the original distance to the first frame. If the recorded time
/// goes back, the source's clock was set, and the frame follows the one before after the usual interval.
///
/// Where the layout changes, the replay allocates new buffers and gives [`CameraEvent::Changed`] before the first frame
/// in them. After the last frame it gives [`Received::Ended`], unless it is
/// [looped](FrameReplayBuilder::looped).
///
/// A frame that is due while every buffer is leased is dropped and counts as lost, and the next frame reports it. While
/// every buffer is leased, the descriptor is not readable, and the end of the file is reported later.
///
/// ```no_run
/// use framelease::capture::{Camera, FrameSource};
/// use framelease::replay::FrameReplay;
///
/// fn source(recording: Option<&str>) -> framelease::Result<Box<dyn FrameSource>> {
///     Ok(match recording {
///         Some(path) => Box::new(FrameReplay::builder(path).open()?),
///         None => Box::new(Camera::builder().open()?),
///     })
/// }
/// ```
#[derive(Debug)]
pub struct FrameReplay {
    readiness: Readiness,
    timer: DueTimer,
    /// Set when a buffer is free again after all were leased.
    signal: Arc<Signal>,
    /// Every buffer is leased. The timer is not set until one returns.
    is_starved: bool,
    pool: Pool,
    records: Records,
    /// The next frame, and when it is due once that is known.
    next: Next<(StoredFrame, Option<Due>)>,
    timeline: Timeline,
    round: Round,
    /// Frames that are missing before the next one, because they were dropped.
    skipped: u32,
    stats: CameraStats,
    scratch: Vec<u8>,
    settings: FrameReplayBuilder,
}

impl FrameReplay {
    /// Creates a builder for the replay of a file.
    pub fn builder(path: impl AsRef<Path>) -> FrameReplayBuilder {
        FrameReplayBuilder {
            path: path.as_ref().to_owned(),
            buffers: BufferBudget::default().total(),
            allocator: Allocator::Memfd,
            is_looped: false,
        }
    }

    /// Returns the next frame if it is due.
    fn due(&mut self) -> Option<(StoredFrame, Due)> {
        let Next::Item((frame, due)) = &mut self.next else { return None };
        let now = monotonic_ns();
        let due = *due.get_or_insert_with(|| self.timeline.next(frame.meta.timestamp_ns, now));
        (due.due_ns <= now).then_some((*frame, due))
    }

    /// Reads where the next frame is, and sets the timer for it.
    fn advance(&mut self) -> Result<()> {
        self.next = self.read_next().into();
        self.set_timer()
    }

    fn read_next(&mut self) -> Result<Option<(StoredFrame, Option<Due>)>> {
        let mut next = self.records.next()?;
        if next.is_none() && self.settings.is_looped {
            self.records.rewind()?;
            self.timeline.restart();
            self.round.is_new = true;
            next = self.records.next()?;
        }
        Ok(next.map(|frame| {
            let due = self.timeline.next(frame.meta.timestamp_ns, 0);
            (frame, Some(due))
        }))
    }

    fn set_timer(&self) -> Result<()> {
        match &self.next {
            Next::Item((_, due)) => self.timer.set(due.map_or(0, |due| due.due_ns)),
            Next::Failed(_) | Next::Ended => self.timer.set(0),
            Next::Over => self.timer.unset(),
        }
    }

    /// Numbers a frame that is given or dropped.
    fn number(&mut self, frame: &mut StoredFrame) {
        let recorded = frame.meta.sequence;
        if std::mem::take(&mut self.round.is_new) {
            let follows = self.round.latest.map_or(recorded, |latest| latest.wrapping_add(1));
            self.round.offset = follows.wrapping_sub(recorded);
            frame.meta.lost = 0;
        }
        frame.meta.sequence = recorded.wrapping_add(self.round.offset);
        self.round.latest = self.round.latest.max(Some(frame.meta.sequence));
    }

    /// Drops the next frame. The one after it reports that.
    fn skip(&mut self, mut frame: StoredFrame) -> Result<()> {
        self.number(&mut frame);
        self.skipped = self.skipped.saturating_add(1).saturating_add(frame.meta.lost);
        self.next = self.read_next().into();
        Ok(())
    }

    /// Drops the frames that were due while every buffer was leased. `false` if all are leased still, or more frames
    /// are to be dropped.
    fn recover(&mut self) -> Result<bool> {
        self.signal.clear();
        if self.pool.try_acquire_or_signal(&self.signal).is_none() {
            return Ok(false);
        }
        for _ in 0..MOST_SKIPPED {
            let Some((frame, _)) = self.due().filter(|(frame, _)| frame.layout == *self.pool.buffers().layout()) else {
                self.is_starved = false;
                self.set_timer()?;
                return Ok(true);
            };
            self.skip(frame)?;
        }
        self.signal.set();
        Ok(false)
    }

    /// Gives the next frame in this buffer. `None` if the file ends before it, because it was cut since it was opened.
    fn give(&mut self, mut frame: StoredFrame, due: Due, mut buffer: FrameMut) -> Result<Option<Frame>> {
        match self.records.copy(&frame, &mut buffer, &mut self.scratch) {
            Ok(true) => {}
            Ok(false) => {
                self.next = Next::Ended;
                return Ok(None);
            }
            Err(error) => {
                self.skip(frame)?;
                self.set_timer()?;
                return Err(error);
            }
        }
        self.number(&mut frame);
        let mut meta = frame.meta;
        meta.lost = meta.lost.saturating_add(std::mem::take(&mut self.skipped));
        meta.timestamp_ns = due.timestamp_ns;
        meta.flags |= FrameFlags::MONOTONIC;
        self.stats.frames += 1;
        self.stats.lost += u64::from(meta.lost);
        self.stats.errors += u64::from(meta.flags.contains(FrameFlags::ERROR));
        self.advance()?;
        Ok(Some(buffer.freeze(meta)))
    }

    /// Allocates buffers of another layout.
    fn change(&mut self, layout: Layout) -> Received<CameraEvent> {
        match Pool::new(&self.settings.allocator, layout, self.settings.buffers) {
            Ok(pool) => {
                self.pool = pool;
                Received::Item(CameraEvent::Changed(layout))
            }
            Err(error) => {
                self.next = Next::Failed(error);
                Received::Nothing
            }
        }
    }
}

impl FrameSource for FrameReplay {
    fn buffers(&self) -> Result<&BufferSet> {
        Ok(self.pool.buffers())
    }

    /// Returns `None`: the intervals are those of the recording.
    fn interval(&self) -> Option<FrameInterval> {
        None
    }

    fn stats(&self) -> CameraStats {
        let leased = self.pool.buffers().leased();
        CameraStats { leased, queued: self.pool.buffers().slots() - leased, ..self.stats }
    }

    fn device(&self) -> Option<&Device> {
        None
    }

    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
}

impl sealed::Sealed for FrameReplay {}

/// `try_recv`, `recv` and `frames` read the file, which may block on the disk, and write the pixels of each frame
/// before they return it. A damaged file is an error, after which the replay ends. After other errors, the
/// frame is missing, and the next one reports it.
impl Station for FrameReplay {
    type Event = CameraEvent;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<CameraEvent>> {
        if self.is_starved && !self.recover()? {
            return Ok(Received::Nothing);
        }
        if let Some((frame, due)) = self.due() {
            if frame.layout != *self.pool.buffers().layout() {
                if let Received::Item(event) = self.change(frame.layout) {
                    return Ok(Received::Item(event));
                }
            } else if let Some(buffer) = self.pool.try_acquire_or_signal(&self.signal) {
                if let Some(frame) = self.give(frame, due, buffer)? {
                    return Ok(Received::Item(CameraEvent::Frame(frame)));
                }
            } else {
                self.skip(frame)?;
                self.is_starved = true;
                self.timer.unset()?;
                return Ok(Received::Nothing);
            }
        }
        match std::mem::replace(&mut self.next, Next::Over) {
            Next::Item(item) => {
                self.next = Next::Item(item);
                Ok(Received::Nothing)
            }
            Next::Failed(error) => {
                self.next = Next::Ended;
                self.timer.set(0)?;
                Err(error)
            }
            Next::Ended => {
                self.timer.unset()?;
                Ok(Received::Ended)
            }
            Next::Over => Err(ended("recv")),
        }
    }
}

impl AsFd for FrameReplay {
    /// Returns a descriptor that is readable when the next frame is due and a buffer is free.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}
