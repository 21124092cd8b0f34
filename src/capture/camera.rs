//! A V4L2 camera. Its frames are leases on the driver's own buffers.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::builder::{CameraBuilder, Fit, Reopen};
use super::choice::{choose, is_same_rate, Candidate, Choice, Misfit, Wish};
use super::source::{CameraEvent, CameraStats, FrameSource};
use super::stall::StallWatch;
use crate::bitstream::{Codec, Coded, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, FrameInterval, Layout, Size};
use crate::frame::{BufferBudget, BufferSet, Frame, FrameFlags, Packet, PacketMeta};
use crate::station::{ended, sealed, Received, Station};
use crate::sys::wait;
use crate::v4l2::{
    nodes, watch, Device, DeviceReadiness, Direction, Event, EventKind, FormatRequest, Overrule, Queue, Ready,
};

/// The formats of a camera that gives packets, unless the user names others.
const BITSTREAMS: [FourCc; 4] = [FourCc::H264, FourCc::HEVC, FourCc::MJPEG, FourCc::JPEG];

impl CameraBuilder {
    /// Opens the camera and starts streaming. Without a path and a device, opens the first camera that fits the wish
    /// and can be opened, in the order of the nodes. A camera that is busy is passed over.
    ///
    /// # Errors
    /// `NotFound` if the machine does not have a camera. `Unsupported` if the device does not capture or does not have
    /// the format, or if packets are wanted in a format that is not a bitstream. `Mismatch` if a size or layout must be
    /// exact and the device does not support it. `Busy` while another program streams. `Pipeline` if the formats along
    /// the media graph do not fit each other. `Exhausted` if memory is not available. The text of the error lists what
    /// the device offers. If the call fails, nothing stays allocated.
    pub fn open(self) -> Result<Camera> {
        let mut refused = Vec::new();
        for device in self.devices()? {
            match self.clone().open_device(&device) {
                Ok(camera) => return Ok(camera),
                Err(e) => refused.push(e),
            }
        }
        let others: Vec<String> = refused.iter().skip(1).map(Error::to_string).collect();
        match (refused.into_iter().next(), &others[..]) {
            (Some(first), []) => Err(first),
            (Some(first), _) => {
                let text = format!("{first}; {}", others.join("; "));
                Err(Error::new(first.kind(), "open", text))
            }
            (None, _) => Err(Error::new(ErrorKind::NotFound, "open", "no camera")),
        }
    }

    fn open_device(self, device: &Device) -> Result<Camera> {
        if self.stall_after == Some(Duration::ZERO) {
            let text = "stall_after is 0";
            return Err(Error::new(ErrorKind::InvalidArgument, "open", text).on(device));
        }
        let queue = self.queue(device)?;
        let mut camera = Camera {
            readiness: DeviceReadiness::new()?,
            queue,
            wishes: self,
            interval: None,
            buffers: None,
            stream: None,
            state: State::Stopped,
            next: None,
            stall: None,
            stats: CameraStats::default(),
        };
        camera.set_up()?;
        Ok(camera)
    }

    /// Returns the requested device, else the cameras of the machine. Those that fit the wish better come first, and
    /// otherwise the order is that of the nodes.
    pub(crate) fn devices(&self) -> Result<Vec<Device>> {
        match (&self.device, &self.path) {
            (Some(device), _) => return Ok(vec![device.clone()]),
            (None, Some(path)) => return Ok(vec![Device::open(path)?]),
            (None, None) => {}
        }
        let opened = nodes().into_iter().filter_map(|path| Device::open(path).ok());
        let mut cameras: Vec<Device> = opened.filter(|device| device.info().is_capture()).collect();
        if cameras.is_empty() {
            // Its error names every node.
            cameras.push(Device::find(|d| d.is_capture())?);
        }
        if cameras.len() > 1 {
            cameras.sort_by_cached_key(|device| self.misfit(device));
        }
        Ok(cameras)
    }

    /// Returns the first of [`CameraBuilder::devices`].
    pub(crate) fn best_device(&self) -> Result<Device> {
        let first = self.devices()?.into_iter().next();
        first.ok_or_else(|| Error::new(ErrorKind::NotFound, "open", "no camera"))
    }

    /// Returns how far the device is from the wish, by its lists. `None` if it lists nothing acceptable.
    fn misfit(&self, device: &Device) -> (bool, Option<Misfit>) {
        let choice = choose(&self.wish(device), device).unwrap_or_default();
        let best = choice.candidates.first().map(|candidate| candidate.misfit);
        (best.is_none(), best)
    }

    /// Returns the wish for a device. What the device has now is kept where nothing else is requested.
    fn wish(&self, device: &Device) -> Wish<'_> {
        let present = device.present_format(Direction::Capture).ok();
        Wish {
            formats: if self.packets && self.formats.is_empty() { &BITSTREAMS } else { &self.formats },
            size: self.size.or(present.map(|(_, size)| size)).unwrap_or(Size::new(640, 480)),
            size_fit: self.fit,
            interval: self.interval,
            interval_fit: self.interval_fit,
            present: present.map(|(fourcc, _)| fourcc),
        }
    }

    /// Makes the device say what the user says of its pictures.
    pub(crate) fn overrule(&self, device: &Device) {
        device.overrule(Overrule { stride_bytes: self.stride_bytes, colorimetry: self.colorimetry });
    }

    /// Selects the input of a device and takes its queue.
    fn queue(&self, device: &Device) -> Result<Queue> {
        if !device.info().is_capture() {
            // Mem-to-mem devices have a capture queue as well, but would not give a frame.
            let text = "not a capture device";
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_QUERYCAP", text).on(device));
        }
        if let Some(index) = self.input {
            device.set_input(index)?;
        }
        let queue = Queue::new(device, Direction::Capture)?;
        // The event belongs to one input. Drivers without inputs use the number 0.
        let input = device.input().unwrap_or(0);
        // A failure is ignored: not every driver has sources that change.
        let _ = device.subscribe(EventKind::SourceChange(input));
        Ok(queue)
    }
}

/// The state of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Streaming,
    /// The driver's stream has ended, and the end was reported.
    Ended,
    /// Without buffers: a change of format failed, or the input has no signal. Events of the device are watched.
    Stopped,
    /// The device is lost, and its return is watched.
    Lost,
}

/// A capturing camera. Dropping it stops the device. Leased frames keep their memory.
///
/// In steady state a frame costs one DQBUF and one QBUF. The thread that drops the last clone of the frame makes the
/// QBUF. [`Station::recv`] adds one `epoll_wait`. No memory is copied, allocated, mapped or exported.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::capture::{Camera, CameraEvent};
/// use framelease::format::{FourCc, FrameInterval, Size};
/// use framelease::{Received, Station};
///
/// let mut camera = Camera::builder()
///     .formats([FourCc::NV12, FourCc::YUYV])
///     .size(Size::new(1920, 1080))
///     .interval(FrameInterval::from_fps(30))
///     .open()?;
/// loop {
///     match camera.recv(Duration::from_secs(2))? {
///         Received::Item(CameraEvent::Frame(frame)) => println!("{frame:?}"), // The drop returns the buffer.
///         Received::Item(event) => println!("{event:?}"),
///         Received::Nothing => println!("no frame for two seconds"),
///         Received::Ended => break,
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Camera {
    /// Declared first: it keeps a handle of the device.
    readiness: DeviceReadiness,
    queue: Queue,
    wishes: CameraBuilder,
    interval: Option<FrameInterval>,
    /// The present buffer generation.
    buffers: Option<BufferSet>,
    /// The bitstream, if the camera gives packets.
    stream: Option<Stream>,
    state: State,
    /// An event to return directly after the last one.
    next: Option<CameraEvent>,
    stall: Option<StallWatch>,
    stats: CameraStats,
}

impl Camera {
    /// Creates a builder, which chooses a camera and sets it up.
    pub fn builder() -> CameraBuilder {
        CameraBuilder::default()
    }

    fn set_up(&mut self) -> Result<()> {
        let device = self.queue.device().clone();
        let exact = self.wishes.layout;
        self.wishes.overrule(&device);
        match &exact {
            Some(layout) => {
                device.set_format_exact(Direction::Capture, layout)?;
                self.interval = self.set_interval(&device, None)?;
            }
            None => self.set_format(&device)?,
        }
        let count = self.wishes.buffers.unwrap_or(BufferBudget::default().total());
        let buffers = match &self.wishes.allocator {
            Some(allocator) => {
                let least = exact.as_ref().map_or(&[][..], Layout::memory_bytes);
                self.queue.allocate_from(allocator, count, least)?
            }
            None => self.queue.allocate(count, self.wishes.cache)?,
        };
        let slots = buffers.slots();
        self.buffers = Some(buffers.clone());
        if self.wishes.packets {
            let fourcc = self.layout()?.fourcc();
            let Some(codec) = Codec::of(fourcc) else {
                self.tear_down();
                let text = format!("the camera gives {fourcc}, which is not a bitstream, so it cannot give packets");
                return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_S_FMT", text).on(&device));
            };
            self.stream = Some(Stream::new(codec));
        }
        self.queue.signal_by(self.readiness.signal());
        self.state = State::Streaming;
        let started = self.queue.start().and_then(|()| self.arm());
        if started.is_err() {
            self.tear_down();
            return started;
        }
        // Ends the search of a camera that was lost.
        self.readiness.found();
        let watch = |limit| StallWatch::new(limit, slots, Instant::now());
        self.stall = self.wishes.stall_after.map(watch);
        self.watch_for_stall();
        Ok(())
    }

    /// Sets the first candidate that the driver gives as it was requested.
    fn set_format(&mut self, device: &Device) -> Result<()> {
        let wish = self.wishes.wish(device);
        let choice = choose(&wish, device)?;
        let present = device.present_format(Direction::Capture).ok();
        let interval = device.frame_interval(Direction::Capture).unwrap_or(None);
        let mut refused = None;
        for candidate in &choice.candidates {
            let kept = interval.filter(|_| present == Some((candidate.fourcc, candidate.size)));
            match self.try_candidate(device, candidate, wish.size, kept) {
                Ok(interval) => {
                    self.interval = interval;
                    return Ok(());
                }
                Err(e) if is_refusal(&e) => refused = refused.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        Err(refused.unwrap_or_else(|| refusal(device, &wish, &choice)))
    }

    /// Sets a candidate. `kept` is the present frame interval, if the candidate is the present format and size.
    fn try_candidate(
        &self,
        device: &Device,
        candidate: &Candidate,
        size: Size,
        kept: Option<FrameInterval>,
    ) -> Result<Option<FrameInterval>> {
        let given = device.set_format(Direction::Capture, &FormatRequest::new(candidate.fourcc, candidate.size))?;
        if self.wishes.fit == Fit::Exact && given.size() != size {
            let sizes = device.sizes(candidate.fourcc)?;
            let fourcc = candidate.fourcc;
            let text = format!("asked {fourcc} {size}; the device gives {given} and offers {fourcc} {sizes}");
            return Err(Error::new(ErrorKind::Mismatch, "VIDIOC_S_FMT", text).on(device));
        }
        self.set_interval(device, kept)
    }

    /// Sets the frame interval. Returns the present one if it cannot be set: some sensors have it set elsewhere.
    /// Without a wish, sets the one to keep: uvcvideo's S_FMT resets the interval.
    fn set_interval(&self, device: &Device, kept: Option<FrameInterval>) -> Result<Option<FrameInterval>> {
        let present = || device.frame_interval(Direction::Capture).unwrap_or(None);
        let Some(wish) = self.wishes.interval else {
            let now = present();
            let lost = kept.filter(|kept| now.is_some_and(|now| !is_same_rate(now, *kept)));
            let again = lost.and_then(|kept| device.set_frame_interval(Direction::Capture, kept).ok());
            return Ok(again.or(now));
        };
        let given = match device.set_frame_interval(Direction::Capture, wish) {
            Ok(given) => Some(given),
            Err(e) if e.kind() == ErrorKind::DeviceLost || self.wishes.interval_fit == Fit::Exact => return Err(e),
            Err(_) => present(),
        };
        match given {
            Some(given) if self.wishes.interval_fit == Fit::Exact && !is_same_rate(given, wish) => {
                let text = format!("asked {:.3} fps; the device gives {:.3} fps", wish.fps(), given.fps());
                Err(Error::new(ErrorKind::Mismatch, "VIDIOC_S_PARM", text).on(device))
            }
            given => Ok(given),
        }
    }

    /// Returns the device, for controls, events and selections.
    pub fn device(&self) -> &Device {
        self.queue.device()
    }

    /// Watches the device for the events that are possible now.
    fn arm(&mut self) -> Result<()> {
        match self.state {
            State::Lost => Ok(()),
            State::Streaming | State::Stopped | State::Ended => {
                watch(&mut self.readiness, None, Some(&self.queue), true)
            }
        }
    }

    /// Returns the next frame, if one is ready.
    fn try_frame(&mut self) -> Result<Received<CameraEvent>> {
        match self.state {
            State::Streaming => {}
            State::Ended => return Err(ended("VIDIOC_DQBUF").on(self.queue.device())),
            State::Stopped | State::Lost => return Ok(Received::Nothing),
        }
        match self.queue.try_dequeue() {
            Ok(Received::Item(frame)) => {
                self.stats.frames += 1;
                self.stats.lost += u64::from(frame.meta().lost);
                self.stats.errors += u64::from(frame.meta().flags.contains(FrameFlags::ERROR));
                if let Some(stall) = &mut self.stall {
                    stall.on_frame(self.queue.queued(), Instant::now());
                }
                self.readiness.works();
                self.on_frame(frame)
            }
            Ok(Received::Nothing) => Ok(Received::Nothing),
            Ok(Received::Ended) => {
                self.state = State::Ended;
                self.arm()?;
                Ok(Received::Ended)
            }
            Err(e) if e.kind() == ErrorKind::DeviceLost => self.fatal(e),
            Err(e) => Err(e),
        }
    }

    /// Returns a frame as the caller wants it. A buffer without a picture is not an event.
    fn on_frame(&mut self, frame: Frame) -> Result<Received<CameraEvent>> {
        let Some(stream) = &mut self.stream else { return Ok(Received::Item(CameraEvent::Frame(frame))) };
        let meta = *frame.meta();
        let mut about = PacketMeta::new(stream.codec(), frame.layout().size(), meta.sequence, meta.timestamp_ns);
        about.flags = meta.flags & (FrameFlags::ERROR | FrameFlags::MONOTONIC);
        about.source = Some(meta.sequence);
        let packet = Packet::leased(frame, about)?;
        match stream.next(packet.bytes(), meta.flags.contains(FrameFlags::ERROR)) {
            Coded::Picture { head, parameters, .. } => {
                let packet = packet.with_head(&head, meta.sequence, parameters);
                Ok(Received::Item(CameraEvent::Packet(packet)))
            }
            Coded::Headers | Coded::Empty => Ok(Received::Nothing),
        }
    }

    /// Handles a fatal error of the driver. If the source changed at the same time, the change is the cause.
    fn fatal(&mut self, error: Error) -> Result<Received<CameraEvent>> {
        match self.device().try_event() {
            Ok(Some(event)) => self.on_event(event).map(Received::Item),
            Ok(None) | Err(_) => Ok(Received::Item(self.lose(error))),
        }
    }

    fn lose(&mut self, error: Error) -> CameraEvent {
        self.state = State::Lost;
        let device = self.device().clone();
        self.readiness.lost(&device);
        CameraEvent::Lost(error)
    }

    fn on_event(&mut self, event: Event) -> Result<CameraEvent> {
        let Event::SourceChange { .. } = event else { return Ok(CameraEvent::Device(event)) };
        let was_stopped = self.state == State::Stopped;
        match self.follow_source() {
            Ok(()) => {
                let changed = CameraEvent::Changed(*self.layout()?);
                if !was_stopped {
                    return Ok(changed);
                }
                self.give_next(changed);
                Ok(CameraEvent::Returned)
            }
            // The next change of the source is an event again.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.arm()?;
                Ok(CameraEvent::Lost(e))
            }
            Err(e) => Ok(self.lose(e)),
        }
    }

    /// Returns another event directly after the present one.
    fn give_next(&mut self, event: CameraEvent) {
        self.next = Some(event);
        self.readiness.signal().set();
    }

    /// Handles what is ready besides frames.
    fn on_ready(&mut self, ready: Ready) -> Result<Received<CameraEvent>> {
        if ready.signal {
            // A buffer returned on another thread, or its return failed.
            self.arm()?;
        }
        if ready.search {
            return self.on_search();
        }
        if ready.device.contains(EpollFlags::EPOLLPRI) {
            match self.device().try_event() {
                Ok(Some(event)) => return self.on_event(event).map(Received::Item),
                Ok(None) => {}
                Err(e) if e.kind() == ErrorKind::DeviceLost => return Ok(Received::Item(self.lose(e))),
                Err(e) => return Err(e),
            }
        }
        if ready.is_broken() {
            return match self.try_frame()? {
                Received::Nothing if self.state != State::Lost => {
                    let error = self.device().broken();
                    self.fatal(error)
                }
                got => Ok(got),
            };
        }
        self.try_frame()
    }

    /// Wakes the camera when a stall could be noticed.
    fn watch_for_stall(&mut self) {
        let stall = self.stall.as_ref().filter(|_| self.state == State::Streaming);
        if let Some(due) = stall.and_then(StallWatch::due) {
            self.readiness.wake_at(due);
        }
    }

    /// Looks whether frames come. Those that are ready come first: the program may have been busy.
    fn on_stall_alarm(&mut self) -> Result<Received<CameraEvent>> {
        let got = self.try_frame()?;
        let queued = self.queue.queued();
        let stall = self.stall.as_mut().filter(|_| got.is_nothing() && self.state == State::Streaming);
        if stall.is_some_and(|stall| stall.has_stalled(queued, Instant::now())) {
            let limit = self.wishes.stall_after.unwrap_or_default();
            let text = format!("no frame for {limit:?}, although the driver has {queued} buffers");
            let error = Error::new(ErrorKind::Timeout, "VIDIOC_DQBUF", text).on(self.device());
            return Ok(Received::Item(self.lose(error)));
        }
        self.watch_for_stall();
        Ok(got)
    }

    /// Searches for the lost device, which may be back. While the device works, looks whether frames come.
    fn on_search(&mut self) -> Result<Received<CameraEvent>> {
        if self.state == State::Streaming {
            return self.on_stall_alarm();
        }
        if !self.readiness.has_returned()? {
            return Ok(Received::Nothing);
        }
        if self.wishes.reopen == Reopen::Never {
            return Ok(Received::Item(CameraEvent::Returned));
        }
        let before = self.buffers.as_ref().map(|b| *b.layout());
        if self.reopen().is_err() {
            // The device is not ready yet, or another program took it.
            return Ok(Received::Nothing);
        }
        let now = *self.layout()?;
        if before != Some(now) {
            self.give_next(CameraEvent::Changed(now));
        }
        Ok(Received::Item(CameraEvent::Returned))
    }

    /// Changes the format. The camera stops, and starts again with new buffers. Frames of the old buffers stay valid
    /// and unchanged while they are leased. Their memory is freed when their last lease ends.
    ///
    /// # Errors
    /// The errors of [`CameraBuilder::open`]. After an error the camera has no buffers. The call can be repeated.
    pub fn reconfigure(&mut self, fourcc: FourCc, size: Size) -> Result<()> {
        self.tear_down();
        (self.wishes.formats, self.wishes.size, self.wishes.layout) = (vec![fourcc], Some(size), None);
        self.set_up()
    }

    /// Reconfigures to the present source: the detected timings (HDMI, SDI), else the driver's format. Returns
    /// `NotFound` without a stable signal.
    fn follow_source(&mut self) -> Result<()> {
        self.tear_down();
        let device = self.queue.device().clone();
        // Setting the timings is reported as a change, too. Repeats until no change is reported.
        for _ in 0..4 {
            while device.try_event()?.is_some() {}
            match device.detect_timings() {
                Ok(Some(timings)) => device.set_timings(&timings)?,
                Ok(None) => {
                    let text = "the input has no stable signal";
                    return Err(Error::new(ErrorKind::NotFound, "VIDIOC_QUERY_DV_TIMINGS", text).on(&device));
                }
                // This kind of input does not have timings.
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                Err(e) => return Err(e),
            }
            if device.try_event()?.is_none() {
                break;
            }
        }
        (self.wishes.size, self.wishes.layout) = (None, None);
        self.set_up()
    }

    fn tear_down(&mut self) {
        self.buffers = None;
        self.queue.free();
        self.state = State::Stopped;
        // Only events are left to watch.
        let _ = self.arm();
    }

    /// Finds the device again by its path, driver, bus and node. Then opens the device with the same settings and
    /// starts with new buffers. The file descriptor stays the same. Frames of the old buffers stay valid while they are
    /// leased. The call opens the camera again even if the camera was not lost.
    ///
    /// The sequence numbers of the frames begin again.
    ///
    /// # Errors
    /// `NotFound` until the device is back. Other errors are those of [`CameraBuilder::open`]. After an error the
    /// camera counts as lost. The call can be repeated.
    pub fn reopen(&mut self) -> Result<()> {
        let was_lost = self.state == State::Lost;
        let reopened = self.open_again();
        if reopened.is_err() {
            if was_lost {
                self.state = State::Lost;
                self.readiness.search_again();
            } else {
                let device = self.device().clone();
                self.state = State::Lost;
                self.readiness.lost(&device);
            }
        }
        reopened
    }

    fn open_again(&mut self) -> Result<()> {
        let device = self.device().find_again()?;
        self.tear_down();
        self.readiness.unwatch();
        self.queue = self.wishes.queue(&device)?;
        self.set_up()
    }
}

/// Returns `true` if the driver refused a format or a rate, so that another candidate may do.
fn is_refusal(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported | ErrorKind::InvalidArgument)
}

/// Returns the error of a camera that lists nothing acceptable.
fn refusal(device: &Device, wish: &Wish<'_>, choice: &Choice) -> Error {
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let formats = match wish.formats {
        [] => "a format with pixels".into(),
        formats => list(&mut formats.iter().map(FourCc::to_string)),
    };
    let rate = wish.interval.map_or(String::new(), |interval| format!(" at {:.3} fps", interval.fps()));
    let asked = format!("asked {formats} {}{rate}", wish.size);
    if choice.nearest.is_empty() {
        let offered = device.formats(Direction::Capture).unwrap_or_default();
        let offered = list(&mut offered.iter().map(|offer| offer.fourcc.to_string()));
        let text = format!("{asked}; the device offers {offered}");
        return Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(device);
    }
    let nearest = list(&mut choice.nearest.iter().take(4).map(Candidate::to_string));
    Error::new(ErrorKind::Mismatch, "VIDIOC_ENUM_FRAMEINTERVALS", format!("{asked}; nearest: {nearest}")).on(device)
}

impl Camera {
    fn present_buffers(&self) -> Result<&BufferSet> {
        self.buffers.as_ref().ok_or_else(|| {
            let text = "the camera has no buffers: it was lost, or its last change of format failed";
            Error::new(ErrorKind::State, "buffers", text).on(self.queue.device())
        })
    }
}

impl FrameSource for Camera {
    fn buffers(&self) -> Result<&BufferSet> {
        if self.wishes.packets {
            // A packet lends its bytes as a slice. A program with the buffers could let a device write them.
            let text = "the camera gives packets, and does not give out its buffers";
            return Err(Error::new(ErrorKind::Unsupported, "buffers", text).on(self.queue.device()));
        }
        self.present_buffers()
    }

    fn layout(&self) -> Result<&Layout> {
        self.present_buffers().map(BufferSet::layout)
    }

    fn interval(&self) -> Option<FrameInterval> {
        self.interval
    }

    fn stats(&self) -> CameraStats {
        let leased = self.buffers.as_ref().map_or(0, BufferSet::leased);
        CameraStats { leased, queued: self.queue.queued(), ..self.stats }
    }

    fn device(&self) -> Option<&Device> {
        Some(self.queue.device())
    }

    fn reopen(&mut self) -> Result<()> {
        Self::reopen(self)
    }
}

impl sealed::Sealed for Camera {}

/// With `try_recv`, a frame costs one DQBUF. With `recv`, a frame costs one more `epoll_wait`.
///
/// If a frame could not be queued again when it was dropped, the next calls try again. If the driver refuses it again,
/// one call reports that, and the other buffers go on. Other errors come from the camera's own file descriptors. An
/// unplug or a fatal error of the driver is not an error of the call. The loss is reported once, as the event
/// [`CameraEvent::Lost`].
impl Station for Camera {
    type Event = CameraEvent;

    fn dispatch(&mut self) -> Result<()> {
        self.arm()
    }

    fn try_recv(&mut self) -> Result<Received<CameraEvent>> {
        if let Some(event) = self.next.take() {
            return Ok(Received::Item(event));
        }
        match self.try_frame()? {
            Received::Nothing => {}
            got => return Ok(got),
        }
        let ready = self.readiness.pending()?;
        self.on_ready(ready)
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<CameraEvent>> {
        let deadline = wait::deadline(timeout);
        loop {
            if let Some(event) = self.next.take() {
                return Ok(Received::Item(event));
            }
            if self.state == State::Ended {
                return self.try_frame();
            }
            let ready = self.readiness.wait(deadline)?;
            if ready.is_empty() {
                return Ok(Received::Nothing);
            }
            match self.on_ready(ready)? {
                Received::Nothing if Instant::now() < deadline => {}
                got => return Ok(got),
            }
        }
    }
}

impl AsFd for Camera {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Camera({}, {:?}, {:?})", self.queue.device(), self.buffers, self.state)
    }
}
