//! A V4L2 camera whose frames are the driver's own buffers, leased.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::PollFlags;

use crate::dmabuf::Allocator;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatKind, FourCc, FrameInterval, Layout, Size};
use crate::frame::{BufferSet, Frame, FrameFlags};
use crate::sys::wait;
use crate::v4l2::{CacheHint, Dequeued, Device, Direction, Event, EventKind, FormatRequest, Queue};

/// What a camera gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Captured {
    /// A frame. Its buffer returns to the camera with the last clone.
    ///
    /// Look at [`FrameMeta::flags`](crate::frame::FrameMeta::flags) for `ERROR` (the driver doubts the content) and at
    /// `lost` for a gap before it: neither ends the stream.
    Frame(Frame),
    /// The source's resolution or format changed. Frames of the old format may follow; call
    /// [`Camera::follow_source`] or [`Camera::reconfigure`] to take the new one.
    SourceChanged,
    /// An event that the camera's user subscribed to on [`Camera::device`].
    Event(Event),
    /// The driver says that the stream is over. Cameras hardly do. An unplug is `ErrorKind::DeviceLost` instead.
    Ended,
}

/// What to do with a size that the driver does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SizeFit {
    /// Take the driver's choice; [`Camera::layout`] tells it.
    #[default]
    Nearest,
    /// Refuse another size.
    Exact,
}

/// Chooses a camera and how it captures. Everything has a default: the first camera, in the format and size that it
/// has now, in 6 buffers of its driver's.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CameraBuilder {
    path: Option<PathBuf>,
    device: Option<Device>,
    input: Option<u32>,
    formats: Vec<FourCc>,
    size: Option<Size>,
    layout: Option<Layout>,
    fit: SizeFit,
    interval: Option<FrameInterval>,
    buffers: Option<usize>,
    cache: CacheHint,
    allocator: Option<Allocator>,
}

impl CameraBuilder {
    /// The node to open.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// A device that is open already, such as one of [`Device::find`].
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The input to select; see [`Device::inputs`].
    pub fn input(mut self, index: u32) -> Self {
        self.input = Some(index);
        self
    }

    /// The acceptable formats, best first.
    pub fn formats(mut self, formats: impl IntoIterator<Item = FourCc>) -> Self {
        self.formats = formats.into_iter().collect();
        self
    }

    /// The picture's size.
    pub fn size(mut self, size: Size) -> Self {
        self.size = Some(size);
        self
    }

    /// The exact layout of the frames: what a device that imports them needs. Where the driver's own buffers may be
    /// smaller, [`CameraBuilder::allocator`] brings buffers of this layout's size.
    pub fn layout(mut self, layout: &Layout) -> Self {
        (self.formats, self.size) = (vec![layout.fourcc()], Some(layout.size()));
        (self.layout, self.fit) = (Some(*layout), SizeFit::Exact);
        self
    }

    /// What to do if the driver does not have that size.
    pub fn fit(mut self, fit: SizeFit) -> Self {
        self.fit = fit;
        self
    }

    /// The wished frame interval; the driver takes its nearest, or its own if it cannot be set.
    pub fn interval(mut self, interval: FrameInterval) -> Self {
        self.interval = Some(interval);
        self
    }

    /// How many buffers to ask for: what all holders together may lease, and two or three for the driver.
    pub fn buffers(mut self, count: usize) -> Self {
        self.buffers = Some(count);
        self
    }

    /// Which memory to ask the driver for; see [`BufferSet::cpu_reads`] for what it gave.
    pub fn cache(mut self, wish: CacheHint) -> Self {
        self.cache = wish;
        self
    }

    /// Has the driver fill buffers of this allocator instead of its own.
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = Some(allocator);
        self
    }

    /// Opens the camera and starts it.
    ///
    /// # Errors
    /// `Unsupported` for a device that captures nothing. As [`Device::open`], [`Device::set_format`], [`Queue::allocate`], [`Queue::allocate_from`] and
    /// [`Queue::start`]. Texts list what the device offers. Nothing stays allocated then.
    pub fn open(self) -> Result<Camera> {
        let device = match (&self.device, &self.path) {
            (Some(device), _) => device.clone(),
            (None, Some(path)) => Device::open(path)?,
            (None, None) => Device::find(|d| d.is_capture())?,
        };
        if !device.info().is_capture() {
            // Mem-to-mem devices have a capture queue, too, and nothing would ever come from it.
            let text = "it is no capture device";
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_QUERYCAP", text).on(&device));
        }
        if let Some(index) = self.input {
            device.set_input(index)?;
        }
        let queue = Queue::new(&device, Direction::Capture)?;
        // The event is of one input; drivers without inputs have number 0.
        let input = device.input().unwrap_or(0);
        // Not every driver has sources that change.
        let _ = device.subscribe(EventKind::SourceChange(input));
        let interval = None;
        let mut camera = Camera { queue, wishes: self, interval, buffers: None, stats: CameraStats::default() };
        camera.set_up()?;
        Ok(camera)
    }
}

/// Counts of a camera since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraStats {
    /// Frames given out.
    pub frames: u64,
    /// Frames that the driver lost: gaps in its sequence.
    pub lost: u64,
    /// Frames flagged `ERROR`, which are among `frames`.
    pub errors: u64,
    /// Buffers that somebody leases now.
    pub held: usize,
    /// Buffers that the driver has now.
    pub queued: usize,
}

/// A capturing camera. Dropping it stops the device; frames that are out keep their memory.
///
/// In steady state a frame costs DQBUF here, QBUF when its last clone is dropped (on that thread), and a `poll` where
/// [`Camera::next`] waits: no memory is copied, allocated, mapped or exported.
///
/// In an event loop, register [`AsFd`] for POLLIN and POLLPRI, level-triggered, while [`Camera::is_pollable`], and
/// call [`Camera::try_next`] until `None`.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::capture::{Camera, Captured};
/// use framelease::format::{FourCc, FrameInterval, Size};
///
/// let mut camera = Camera::builder()
///     .formats([FourCc::new(b"NV12"), FourCc::new(b"YUYV")])
///     .size(Size::new(1920, 1080))
///     .interval(FrameInterval::from_fps(30))
///     .open()?;
/// while let Some(got) = camera.next(Duration::from_secs(2))? {
///     if let Captured::Frame(frame) = got {
///         println!("{frame:?}"); // and the drop gives the buffer back
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Camera {
    queue: Queue,
    wishes: CameraBuilder,
    interval: Option<FrameInterval>,
    /// The present generation; `None` after a reconfiguration failed.
    buffers: Option<BufferSet>,
    stats: CameraStats,
}

impl Camera {
    /// Chooses a camera.
    pub fn builder() -> CameraBuilder {
        CameraBuilder::default()
    }

    fn set_up(&mut self) -> Result<()> {
        let device = self.queue.device().clone();
        let (fourcc, size) = self.choose(&device)?;
        let exact = self.wishes.layout.filter(|l| l.fourcc() == fourcc && l.size() == size);
        let given = match &exact {
            Some(layout) => device.set_format_exact(Direction::Capture, layout)?,
            None => device.set_format(Direction::Capture, &FormatRequest::new(fourcc, size))?,
        };
        if self.wishes.fit == SizeFit::Exact && given.size() != size {
            let sizes = device.sizes(fourcc)?;
            let text = format!("asked {fourcc} {size}; the device gives {given} and offers {fourcc} {sizes}");
            return Err(Error::new(ErrorKind::Mismatch, "VIDIOC_S_FMT", text).on(&device));
        }
        self.interval = match self.wishes.interval {
            // A wish: sensors whose rate is set elsewhere go at that rate.
            Some(wish) => match device.set_frame_interval(Direction::Capture, wish) {
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidArgument) => None,
                done => Some(done?),
            },
            None => device.frame_interval(Direction::Capture).unwrap_or(None),
        };
        let count = self.wishes.buffers.unwrap_or(6);
        let buffers = match &self.wishes.allocator {
            Some(allocator) => {
                let least = exact.as_ref().map_or(&[][..], Layout::memory_bytes);
                self.queue.allocate_from(allocator, count, least)?
            }
            None => self.queue.allocate(count, self.wishes.cache)?,
        };
        self.buffers = Some(buffers.clone());
        let started = self.queue.start();
        if started.is_err() {
            self.tear_down();
        }
        started
    }

    /// The best acceptable format, and the size to ask for.
    fn choose(&self, device: &Device) -> Result<(FourCc, Size)> {
        let now = device.format(Direction::Capture).ok();
        let size = self.wishes.size.or(now.map(|l| l.size())).unwrap_or(Size::new(640, 480));
        let offered: Vec<FourCc> = device.formats(Direction::Capture)?.iter().map(|o| o.fourcc).collect();
        let usable = |f: &FourCc| f.info().is_some_and(|i| i.kind != FormatKind::Compressed);
        let choice = match &self.wishes.formats[..] {
            [] => now.map(|l| l.fourcc()).filter(usable).or_else(|| offered.iter().copied().find(usable)),
            wished => wished.iter().copied().find(|f| offered.contains(f)),
        };
        choice.map(|fourcc| (fourcc, size)).ok_or_else(|| {
            let list = |all: &[FourCc]| all.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ");
            let asked = match &self.wishes.formats[..] {
                [] => "a pixel format that can be laid out".into(),
                wished => list(wished),
            };
            let text = format!("asked {asked} {size}; the device offers {}", list(&offered));
            Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(device)
        })
    }

    /// The device, for controls, events and regions.
    pub fn device(&self) -> &Device {
        self.queue.device()
    }

    /// The buffers of the present generation, to import or announce each once. A reconfiguration begins a new one.
    ///
    /// # Errors
    /// `State` after a reconfiguration failed.
    pub fn buffers(&self) -> Result<&BufferSet> {
        self.buffers.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::State, "buffers", "the last reconfiguration failed").on(self.queue.device())
        })
    }

    /// The exact layout of the frames.
    ///
    /// # Errors
    /// As [`Camera::buffers`].
    pub fn layout(&self) -> Result<&Layout> {
        self.buffers().map(BufferSet::layout)
    }

    /// The frame interval that the driver took, if it tells one.
    pub fn interval(&self) -> Option<FrameInterval> {
        self.interval
    }

    /// Counts until now.
    pub fn stats(&self) -> CameraStats {
        let held = self.buffers.as_ref().map_or(0, BufferSet::leased);
        CameraStats { held, queued: self.queue.queued(), ..self.stats }
    }

    /// `true` while the driver has a buffer to fill, so that polling makes sense. `false` while all are leased: the
    /// drop of a frame, on whatever thread, makes it `true` again. While it is `false`, poll for POLLPRI alone and call
    /// [`Camera::try_next`] at every wake-up nevertheless: a buffer whose return failed is told and retried there.
    pub fn is_pollable(&self) -> bool {
        self.queue.is_pollable()
    }

    /// The next frame or event, waiting at most `timeout`; `None` if it passed. Two system calls a frame, and the
    /// third when the frame is dropped.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug or a fatal error of the driver, at every call: frames that are out stay valid.
    /// The error of an earlier return of a buffer: the next call tries the return again.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        let deadline = wait::deadline(timeout);
        loop {
            let ready = match self.buffers {
                Some(_) => self.queue.wait(PollFlags::POLLPRI, deadline)?,
                // After a reconfiguration that failed, a change of the source is what can come.
                None => wait::until(self.as_fd(), PollFlags::POLLPRI, deadline)
                    .map_err(|e| self.queue.device().failed("poll", e))?,
            };
            if ready.is_empty() {
                return Ok(None);
            }
            if ready.contains(PollFlags::POLLPRI) {
                if let Some(got) = self.try_event()? {
                    return Ok(Some(got));
                }
            }
            if let Some(got) = self.try_frame()? {
                return Ok(Some(got));
            }
            if self.buffers.is_none() && ready.contains(PollFlags::POLLPRI) {
                continue;
            }
            if ready.contains(PollFlags::POLLERR) {
                let text = "the device reports an error condition and has no frame";
                return Err(Error::new(ErrorKind::DeviceLost, "poll", text).on(self.queue.device()));
            }
        }
    }

    /// The next frame or event if there is one. One system call a frame; one more where there is none.
    ///
    /// # Errors
    /// As [`Camera::next`].
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_next(&mut self) -> Result<Option<Captured>> {
        match self.try_frame()? {
            None => self.try_event(),
            got => Ok(got),
        }
    }

    fn try_frame(&mut self) -> Result<Option<Captured>> {
        if self.buffers.is_none() {
            return Ok(None);
        }
        Ok(self.queue.try_dequeue()?.map(|got| match got {
            Dequeued::Frame(frame) => {
                self.stats.frames += 1;
                self.stats.lost += u64::from(frame.meta().lost);
                self.stats.errors += u64::from(frame.meta().flags.contains(FrameFlags::ERROR));
                Captured::Frame(frame)
            }
            Dequeued::Ended => Captured::Ended,
        }))
    }

    fn try_event(&mut self) -> Result<Option<Captured>> {
        Ok(self.queue.device().try_event()?.map(|event| match event {
            Event::SourceChange { .. } => Captured::SourceChanged,
            event => Captured::Event(event),
        }))
    }

    /// Stops, takes another format, and starts with new buffers. Frames of the old ones stay valid and unchanged as
    /// long as they are held; their memory is freed with the last.
    ///
    /// # Errors
    /// As [`CameraBuilder::open`]. The camera then has no buffers and can be reconfigured again.
    pub fn reconfigure(&mut self, fourcc: FourCc, size: Size) -> Result<()> {
        self.tear_down();
        (self.wishes.formats, self.wishes.size, self.wishes.layout) = (vec![fourcc], Some(size), None);
        self.set_up()
    }

    /// Reconfigures to what the source is now: detected timings (HDMI, SDI), else the format that the driver has.
    ///
    /// # Errors
    /// `NotFound` without a stable signal, else as [`Camera::reconfigure`]. The camera then has no buffers, and
    /// [`Camera::next`] (in an event loop: POLLPRI alone, then [`Camera::try_next`]) tells of the next change.
    pub fn follow_source(&mut self) -> Result<()> {
        self.tear_down();
        let device = self.queue.device().clone();
        // Drivers tell of the change that setting the timings makes, too: look again until nothing is told.
        for _ in 0..4 {
            while self.try_event()?.is_some() {}
            match device.detect_timings() {
                Ok(Some(timings)) => device.set_timings(&timings)?,
                Ok(None) => {
                    let text = "the input has no stable signal";
                    return Err(Error::new(ErrorKind::NotFound, "VIDIOC_QUERY_DV_TIMINGS", text).on(&device));
                }
                // No timings on this kind of input.
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                Err(e) => return Err(e),
            }
            if self.try_event()?.is_none() {
                break;
            }
        }
        (self.wishes.size, self.wishes.layout) = (None, None);
        self.set_up()
    }

    fn tear_down(&mut self) {
        self.buffers = None;
        self.queue.free();
    }

    /// Stops and starts again with the same buffers: what to try after a fatal error of a driver that is still there.
    ///
    /// # Errors
    /// As [`Queue::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.queue.stop()?;
        self.queue.start()
    }
}

impl AsFd for Camera {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.device().as_fd()
    }
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Camera({}, {:?}, {:?})", self.queue.device(), self.buffers, self.stats())
    }
}
