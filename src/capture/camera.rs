//! A V4L2 camera. Its frames are leases on the driver's own buffers.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::builder::{CameraBuilder, Reopen};
use super::source::{CameraEvent, CameraStats, FrameSource};
use super::stall::StallWatch;
use crate::bitstream::{Coded, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, FrameInterval, Layout, Size};
use crate::frame::{BufferSet, Frame, FrameFlags, Packet, PacketMeta};
use crate::station::{ended, sealed, Received, Station};
use crate::sys::wait;
use crate::v4l2::{watch, Device, DeviceReadiness, Event, Queue, Ready};

/// The state of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
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
    pub(super) readiness: DeviceReadiness,
    pub(super) queue: Queue,
    pub(super) wishes: CameraBuilder,
    pub(super) interval: Option<FrameInterval>,
    /// The present buffer generation.
    pub(super) buffers: Option<BufferSet>,
    /// The bitstream, if the camera gives packets.
    pub(super) stream: Option<Stream>,
    pub(super) state: State,
    /// An event to return directly after the last one.
    pub(super) next: Option<CameraEvent>,
    pub(super) stall: Option<StallWatch>,
    pub(super) stats: CameraStats,
}

impl Camera {
    /// Creates a builder, which chooses a camera and sets it up.
    pub fn builder() -> CameraBuilder {
        CameraBuilder::default()
    }

    /// Returns the device, for controls, events and selections.
    pub fn device(&self) -> &Device {
        self.queue.device()
    }

    /// Watches the device for the events that are possible now.
    pub(super) fn arm(&mut self) -> Result<()> {
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
                if self.queue.is_copying() {
                    let bytes = frame.meta().payload.iter().map(|payload| u64::from(payload.bytes));
                    self.stats.copied_bytes += bytes.sum::<u64>();
                }
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
    pub(super) fn watch_for_stall(&mut self) {
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

    pub(super) fn tear_down(&mut self) {
        self.buffers = None;
        self.queue.free();
        self.state = State::Stopped;
        // Only events are left to watch.
        let _ = self.arm();
    }

    /// Finds the device again by its path, driver, bus and node, else by [`CameraBuilder::select`]. Then opens the
    /// device with the same settings and starts with new buffers. The file descriptor stays the same. Frames of the old
    /// buffers stay valid while they are leased. The call opens the camera again even if the camera was not lost.
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
