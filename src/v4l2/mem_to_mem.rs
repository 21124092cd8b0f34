//! The two queues of a mem-to-mem device. Encoders, decoders and converters are built on it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::codec_cmd::CodecCommand;
use super::device::{Device, Direction};
use super::events::{Event, EventKind};
use super::queue::{self, state, Queue, Reclaimed};
use super::readiness::DeviceReadiness;
use super::timestamps::TimestampMap;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::Flags;
use crate::frame::{Frame, FrameFlags, FrameMeta, FrameMut};
use crate::station::{ended, sealed, Received, Station, SubmitResult, Submitted};
use crate::sys::wait;

/// The time between two looks for an end that the device does not announce.
const SLICE: Duration = Duration::from_millis(20);

/// An event of a mem-to-mem device.
#[derive(Debug)]
#[non_exhaustive]
pub enum Processed {
    /// A result of the device. It has the `timestamp_ns` and the `MONOTONIC` flag of its source frame.
    Result {
        /// The picture or bitstream. A frame flagged [`LAST`](FrameFlags::LAST) ends a drain and may be empty. A
        /// frame flagged [`ERROR`](FrameFlags::ERROR) is damaged, and the stream continues.
        frame: Frame,
        /// The source frame of the result. `None` if the driver did not copy the timestamp, if 128 more source frames
        /// were queued since, or if the buffer is empty.
        source: Option<FrameMeta>,
    },
    /// A source frame that the device has read: the lease that [`MemToMem::queue`] took. It is flagged
    /// [`ERROR`](FrameFlags::ERROR) if the device could not use it.
    Source(Frame),
    /// A subscribed event of the device.
    Event(Event),
    /// The device was unplugged, or its driver failed. [`MemToMem::stop`] returns the frames that the device had.
    Lost(Error),
    /// The device is back. Call [`MemToMem::reopen`].
    Returned,
}

/// The way in which an encoder or a decoder resumed its stream after a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resumed {
    /// The stream continues where it was.
    Continued,
    /// The driver cannot resume, so this crate stopped and started the capture queue. An encoder begins a new stream,
    /// with headers and a key frame. A decoder waits for a key frame.
    Restarted,
}

/// A mem-to-mem device. Source frames go to its output queue. Results come from its capture queue. Both queues share
/// one file descriptor.
///
/// For the driver, every open of the node is a separate device with its own formats, controls and buffers. Set formats
/// by [`Device::set_format`] before buffers exist. Set the capture format of an encoder first, because it determines
/// the output formats. Set the output format of a decoder first, because it determines the capture formats
/// (`dev-encoder.rst`, `dev-decoder.rst`).
///
/// Results are matched to their sources by the timestamp that the driver copies. The driver gets the source's timestamp
/// in microseconds. If two frames have the same timestamp, the second gets the next free microsecond.
///
/// It is a [`Station`]. [`Received::Ended`] means the end of a drain. To continue, call [`MemToMem::resume`] or
/// [`MemToMem::restart_capture`]. In steady state a frame costs two QBUF, two DQBUF and one `epoll_wait`. Dropping the
/// `MemToMem` stops both queues. Results that are still leased keep their memory.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::frame::Frame;
/// use framelease::v4l2::{CacheHint, Device, MemToMem, Processed};
/// use framelease::{Received, Station};
///
/// fn convert(frame: Frame) -> framelease::Result<()> {
///     let mut pair = MemToMem::new(&Device::find_mem_to_mem("scaler", |d| d.converts())?)?;
///     pair.output_mut().import(4)?;
///     pair.capture_mut().allocate(4, CacheHint::Driver)?;
///     pair.start()?;
///     let _ = pair.queue(frame)?;
///     if let Received::Item(Processed::Result { frame, .. }) = pair.recv(Duration::from_secs(1))? {
///         println!("{frame:?}");
///     }
///     Ok(())
/// }
/// ```
pub struct MemToMem {
    /// Declared first: it keeps a handle of the device.
    readiness: DeviceReadiness,
    output: Queue,
    capture: Queue,
    timestamps: TimestampMap,
    subscribed: bool,
    /// Events of the last wait that are not handled yet.
    ready: EpollFlags,
    /// A result that was dequeued while looking for something else.
    early: Option<Frame>,
    /// The error of a call that failed because the device is gone, until the loss is reported. A device whose queues
    /// are not started is not watched.
    gone: Option<Error>,
    /// The device reported a fatal error. It is not watched until it is started again.
    is_broken: bool,
    /// A restart stopped the capture queue and could not start it.
    is_halted: bool,
}

impl MemToMem {
    /// Takes both queues of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if the device is not a mem-to-mem device, `Busy` if a queue of this handle is in use.
    pub fn new(device: &Device) -> Result<Self> {
        if !device.info().is_m2m() {
            return Err(Error::new(ErrorKind::Unsupported, "queue", "not a mem-to-mem device").on(device));
        }
        Ok(Self {
            readiness: DeviceReadiness::new()?,
            output: Queue::new(device, Direction::Output)?,
            capture: Queue::new(device, Direction::Capture)?,
            timestamps: TimestampMap::default(),
            subscribed: false,
            ready: EpollFlags::empty(),
            early: None,
            gone: None,
            is_broken: false,
            is_halted: false,
        })
    }

    /// Returns the device, for formats, controls and regions.
    pub fn device(&self) -> &Device {
        self.output.device()
    }

    /// Returns the queue of source frames.
    pub fn output(&self) -> &Queue {
        &self.output
    }

    /// Returns the queue of source frames, to allocate, import, start, stop and free. Frames that are queued and
    /// dequeued directly on it are not matched to results.
    pub fn output_mut(&mut self) -> &mut Queue {
        &mut self.output
    }

    /// Returns the queue of results.
    pub fn capture(&self) -> &Queue {
        &self.capture
    }

    /// Returns the queue of results, to allocate, import, start, stop and free.
    pub fn capture_mut(&mut self) -> &mut Queue {
        &mut self.capture
    }

    /// Subscribes to events of the device, which [`Station::recv`] then returns. A decoder needs
    /// [`EventKind::SourceChange`]. Ioctl: `VIDIOC_SUBSCRIBE_EVENT`.
    ///
    /// # Errors
    /// `InvalidArgument` or `Unsupported` if the driver does not have the event.
    pub fn subscribe(&mut self, kind: EventKind) -> Result<()> {
        self.device().subscribe(kind)?;
        self.subscribed = true;
        self.arm()
    }

    /// Starts both queues, the output queue first. Ioctls: `VIDIOC_QBUF` of the driver's own capture buffers,
    /// `VIDIOC_STREAMON` twice.
    ///
    /// # Errors
    /// The errors of [`Queue::start`]. Queued frames stay queued; [`MemToMem::stop`] returns them.
    #[doc(alias = "VIDIOC_STREAMON")]
    pub fn start(&mut self) -> Result<()> {
        (self.is_broken, self.is_halted) = (false, false);
        let started = self.output.start().and_then(|()| self.capture.start());
        self.noted(started)?;
        self.arm()
    }

    /// Returns the result of a call. Schedules the report of a lost device, if the call failed because of it.
    pub(crate) fn noted<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(error) = &done {
            self.refused(error);
        }
        done
    }

    /// Schedules the report of a lost device, if a call failed because of it and it was not reported.
    pub(crate) fn refused(&mut self, error: &Error) {
        if error.kind() == ErrorKind::DeviceLost && !self.is_broken && !self.readiness.is_lost() {
            self.gone = Some(error.clone());
            self.wake();
        }
    }

    /// Watches the device for the events that are possible now. Call it after anything that queues, dequeues, starts
    /// or stops.
    pub(crate) fn arm(&mut self) -> Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.capture.signal_by(self.readiness.signal());
        queue::watch(&mut self.readiness, Some(&self.output), Some(&self.capture), self.subscribed)
    }

    /// Finds the device again, by its path, driver, bus and node. Opens it without buffers, as [`MemToMem::new`] does.
    /// The file descriptor stays the same. Returns the frames that the device had.
    ///
    /// # Errors
    /// `NotFound` until the device is back. The frames stay, and the call can be repeated.
    pub fn reopen(&mut self) -> Result<Reclaimed> {
        let opened = self
            .device()
            .find_again()
            .and_then(|device| Ok((Queue::new(&device, Direction::Output)?, Queue::new(&device, Direction::Capture)?)));
        let (output, capture) = match opened {
            Ok(queues) => queues,
            Err(e) => {
                match self.readiness.is_lost() {
                    true => self.readiness.search_again(),
                    // The caller noticed the loss before the station did.
                    false => self.search_again(),
                }
                return Err(e);
            }
        };
        let reclaimed = self.free();
        self.readiness.unwatch();
        self.readiness.found();
        (self.output, self.capture, self.subscribed) = (output, capture, false);
        self.timestamps = TimestampMap::default();
        Ok(reclaimed)
    }

    /// Stops both queues and returns the source frames and empty buffers that they had, in the order of queuing.
    /// Results that were not dequeued are lost. Waits for the picture that the device works on. Ioctl:
    /// `VIDIOC_STREAMOFF` twice.
    ///
    /// # Errors
    /// The errors of [`Queue::reclaim`]. If only one queue fails, the frames of the other queue are dropped, which
    /// returns them to their owners.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn stop(&mut self) -> Result<Reclaimed> {
        self.forget();
        let output = self.output.reclaim();
        let capture = self.capture.reclaim();
        self.arm()?;
        Ok(Reclaimed { frames: output?.frames, empty: capture?.empty })
    }

    /// Stops both queues, frees their buffers, and returns the frames that they had. The device can then take other
    /// formats. Ioctls: `VIDIOC_STREAMOFF` and `VIDIOC_REQBUFS` with 0, twice.
    pub fn free(&mut self) -> Reclaimed {
        self.forget();
        let (output, capture) = (self.output.free_and_reclaim(), self.capture.free_and_reclaim());
        let _ = self.arm();
        Reclaimed { frames: output.frames, empty: capture.empty }
    }

    /// Stops the capture queue and frees its buffers, so that it can take another format while the output queue
    /// continues. For a decoder whose stream has changed. Leased frames keep their memory. Ioctls:
    /// `VIDIOC_STREAMOFF`, `VIDIOC_REQBUFS` with 0.
    pub fn free_capture(&mut self) {
        self.forget();
        self.capture.free();
        let _ = self.arm();
    }

    fn forget(&mut self) {
        self.ready = EpollFlags::empty();
        self.early = None;
        self.gone = None;
        (self.is_broken, self.is_halted) = (false, false);
    }

    /// Gives a source frame to the device. The device holds the lease until [`Processed::Source`] returns it. Ioctl:
    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// The errors of [`Queue::queue`], with the frame. [`Processed::Lost`] follows after `DeviceLost`.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue(&mut self, frame: Frame) -> SubmitResult<Frame> {
        let stamp = self.timestamps.add(frame.meta());
        let done = self.output.queue_at(frame, stamp);
        match &done {
            Ok(Submitted::Taken) => drop(self.arm()),
            Ok(Submitted::Full(_)) => self.timestamps.undo(),
            Err(rejected) => {
                self.timestamps.undo();
                self.refused(&rejected.error);
            }
        }
        done
    }

    /// Gives a buffer to a capture queue of imports, to be filled. [`Processed::Result`] returns it. Ioctl:
    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// The errors of [`Queue::queue_empty`], with the buffer. [`Processed::Lost`] follows after `DeviceLost`.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue_empty(&mut self, frame: FrameMut) -> SubmitResult<FrameMut> {
        let done = self.capture.queue_empty(frame);
        let _ = self.arm();
        if let Err(rejected) = &done {
            self.refused(&rejected.error);
        }
        done
    }

    /// Ends the stream. The device processes everything that is queued. The last result is flagged
    /// [`LAST`](FrameFlags::LAST). [`Received::Ended`] follows. Continue to serve both queues until it comes. Source
    /// frames that are queued during the drain wait for [`MemToMem::resume`]. Ioctl: `VIDIOC_ENCODER_CMD` or
    /// `VIDIOC_DECODER_CMD`.
    ///
    /// # Errors
    /// `Unsupported` for a device whose two sides are both raw, or whose driver cannot drain; `State` unless both
    /// queues stream (the kernel would ignore the command, and the stream would not end); `Busy` during a drain.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn drain(&mut self) -> Result<()> {
        if !self.output.is_streaming() || !self.capture.is_streaming() {
            return Err(state("drain", "both queues must be started").on(self.device()));
        }
        let drains = self.command(CodecCommand::Stop);
        self.noted(drains)?;
        self.capture.set_drains(true);
        Ok(())
    }

    fn command(&self, command: CodecCommand) -> Result<()> {
        let coded = |queue: &Queue| queue.layout().is_some_and(|l| l.is_compressed());
        if coded(&self.capture) {
            self.device().encoder_command(command)
        } else if coded(&self.output) {
            self.device().decoder_command(command)
        } else {
            let text = "neither side is a bitstream: the device is neither an encoder nor a decoder";
            Err(Error::new(ErrorKind::Unsupported, "drain", text).on(self.device()))
        }
    }

    /// Resumes after [`Received::Ended`]. If the driver cannot resume, stops and starts the capture queue. The capture
    /// queue then gives up its imported buffers: queue them again. Ioctls: `VIDIOC_ENCODER_CMD` or
    /// `VIDIOC_DECODER_CMD`, `VIDIOC_DQBUF`, and for a restart `VIDIOC_STREAMOFF` and `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` before [`Received::Ended`]. `DeviceLost` after an unplug. Other errors are those of the driver; the call
    /// can be repeated.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn resume(&mut self) -> Result<Resumed> {
        if self.is_halted {
            self.restart_capture()?;
            return Ok(Resumed::Restarted);
        }
        if self.try_resume()? {
            return Ok(Resumed::Continued);
        }
        self.restart_capture()?;
        Ok(Resumed::Restarted)
    }

    /// Resumes by the command alone. Returns `false` if the driver needs a restart.
    pub(crate) fn try_resume(&mut self) -> Result<bool> {
        if !self.capture.has_ended() {
            return Err(state("resume", "the stream has not ended").on(self.device()));
        }
        self.forget();
        let resumed = self.resume_now();
        self.noted(resumed)
    }

    fn resume_now(&mut self) -> Result<bool> {
        let resumes = match self.command(CodecCommand::Start) {
            Ok(()) => {
                self.capture.go_on();
                // vicodec of Linux 6.12 accepts the command and still returns EPIPE.
                match self.capture.try_dequeue()? {
                    Received::Ended => false,
                    early => {
                        self.capture.set_drains(false);
                        self.early = early.item();
                        if self.early.is_some() {
                            self.readiness.signal().set();
                        }
                        true
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => false,
            Err(e) => return Err(e),
        };
        self.arm()?;
        Ok(resumes)
    }

    /// Stops and starts the capture queue. An encoder begins a new stream; a decoder waits for a key frame. Results
    /// that were not dequeued are lost, and imported buffers are given up. Ioctls: `VIDIOC_STREAMOFF`,
    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` unless the queue is started, `DeviceLost` after an unplug. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn restart_capture(&mut self) -> Result<()> {
        if !self.capture.is_streaming() && !self.is_halted {
            return Err(state("VIDIOC_STREAMOFF", "the capture queue is not started").on(self.device()));
        }
        self.forget();
        let restarted = self.capture.stop().and_then(|()| self.capture.start());
        self.is_halted = restarted.is_err();
        self.noted(restarted)?;
        self.arm()
    }

    /// Takes back the source frames that the device has not read, in order, and continues. Ioctls: `VIDIOC_STREAMOFF`
    /// and `VIDIOC_STREAMON` on the output queue.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn restart_output(&mut self) -> Result<Vec<Frame>> {
        let reclaimed = self.output.reclaim();
        let back = self.noted(reclaimed)?.frames;
        let started = self.output.start();
        self.noted(started)?;
        self.arm()?;
        Ok(back)
    }

    /// Returns the next result or the end of a drain, if there is one. Returns [`Received::Nothing`] for a queue that
    /// is not started or has ended. Costs one system call. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug or a fatal error of the driver, and the error of an earlier return of a buffer,
    /// once.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_result(&mut self) -> Result<Received<Processed>> {
        if let Some(early) = self.early.take() {
            return Ok(Received::Item(self.result(early)));
        }
        if !self.capture.is_streaming() || self.capture.has_ended() {
            return Ok(Received::Nothing);
        }
        let got = self.capture.try_dequeue()?;
        self.arm()?;
        Ok(got.map(|frame| self.result(frame)))
    }

    /// Returns the next source frame that the device has read, if there is one. Costs one system call, or none if
    /// nothing is queued. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug or a fatal error of the driver.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_source(&mut self) -> Result<Option<Frame>> {
        if !self.output.is_busy() {
            return Ok(None);
        }
        let got = self.output.try_dequeue()?.item();
        self.arm()?;
        Ok(got)
    }

    /// Returns one of the events that `ready` announces. Asks each queue once per wait.
    fn take_ready(&mut self) -> Result<Received<Processed>> {
        if self.is_broken {
            return Ok(Received::Nothing);
        }
        if self.early.is_some() || self.take_readiness(EpollFlags::EPOLLIN) {
            match self.try_result()? {
                Received::Nothing => {}
                got => return Ok(got),
            }
        }
        if self.take_readiness(EpollFlags::EPOLLOUT) {
            if let Some(frame) = self.try_source()? {
                return Ok(Received::Item(Processed::Source(frame)));
            }
        }
        if self.take_readiness(EpollFlags::EPOLLPRI) && self.subscribed {
            return Ok(self.device().try_event()?.map(Processed::Event).into());
        }
        Ok(Received::Nothing)
    }

    fn take_readiness(&mut self, of: EpollFlags) -> bool {
        let was = self.ready.contains(of);
        self.ready.remove(of);
        was
    }

    fn result(&self, frame: Frame) -> Processed {
        // A buffer that only ends a drain has the timestamp of its earlier content.
        let is_empty = frame.meta().payload.iter().all(|p| p.bytes == 0);
        let source = self.timestamps.find(frame.meta().timestamp_ns).filter(|_| !is_empty).copied();
        let mut meta = *frame.meta();
        if let Some(source) = source {
            meta.timestamp_ns = source.timestamp_ns;
            meta.flags.set(FrameFlags::MONOTONIC, source.flags.contains(FrameFlags::MONOTONIC));
        }
        Processed::Result { frame: frame.with_meta(meta), source }
    }

    /// Reports that the return of a capture buffer failed, once. After a loss nothing can be returned, and the loss
    /// was reported.
    fn settle(&self) -> Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.capture.settle()
    }

    /// Handles what was announced before, else asks the kernel and waits until the deadline. Also returns whether
    /// anything was announced. If not, the time has passed or a signal handler ran.
    fn look(&mut self, deadline: Instant) -> Result<(Received<Processed>, bool)> {
        self.settle()?;
        if let Some(error) = self.gone.take() {
            return Err(error);
        }
        match self.take_ready()? {
            Received::Nothing => {}
            got => return Ok((got, true)),
        }
        if self.capture.has_ended() && !self.is_broken {
            return match self.try_source()? {
                Some(frame) => Ok((Received::Item(Processed::Source(frame)), true)),
                None => Err(ended("VIDIOC_DQBUF").on(self.device())),
            };
        }
        // The caller may have started or stopped a queue.
        self.arm()?;
        if self.capture.may_end_empty() && !self.is_broken {
            match self.try_result()? {
                Received::Nothing => {}
                got => return Ok((got, true)),
            }
        }
        // No event announces such an end.
        let is_unannounced = self.capture.may_end_empty() && !self.is_broken;
        let until = if is_unannounced { deadline.min(Instant::now() + SLICE) } else { deadline };
        let ready = self.readiness.wait(until)?;
        if ready.is_empty() && is_unannounced {
            return Ok((Received::Nothing, true));
        }
        if ready.search && self.readiness.has_returned()? {
            return Ok((Received::Item(Processed::Returned), true));
        }
        if ready.signal {
            // A lease ended on another thread, or the return of its buffer failed.
            self.settle()?;
            self.arm()?;
        }
        let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLPRI;
        self.ready = if ready.is_broken() { all } else { ready.device & all };
        match self.take_ready()? {
            Received::Nothing if ready.is_broken() => Err(self.device().broken()),
            got => Ok((got, !ready.is_empty())),
        }
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Received<Processed>> {
        loop {
            match self.look(deadline) {
                Ok((Received::Nothing, true)) if Instant::now() < deadline => {}
                Ok((got, _)) => return Ok(got),
                Err(e) if e.kind() == ErrorKind::DeviceLost && !self.is_broken => {
                    self.search_again();
                    return Ok(Received::Item(Processed::Lost(e)));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Makes the descriptor readable until the next look at the device, because the caller has more to give.
    pub(crate) fn wake(&self) {
        self.readiness.signal().set();
    }

    /// Stops watching the device, and begins to watch for its return: after a loss, and for a device that was opened
    /// again but could not be set up.
    pub(crate) fn search_again(&mut self) {
        self.is_broken = true;
        self.ready = EpollFlags::empty();
        let device = self.device().clone();
        self.readiness.lost(&device);
    }
}

impl sealed::Sealed for MemToMem {}

/// `try_recv` costs one `epoll_wait` and one DQBUF for each event that it returns. `Nothing` costs only the
/// `epoll_wait`. `try_recv` fails if an earlier return of a capture buffer failed. It reports each such error once.
impl Station for MemToMem {
    type Event = Processed;

    fn dispatch(&mut self) -> Result<()> {
        self.arm()
    }

    fn try_recv(&mut self) -> Result<Received<Processed>> {
        self.next_until(Instant::now())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<Processed>> {
        self.next_until(wait::deadline(timeout))
    }
}

impl AsFd for MemToMem {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for MemToMem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemToMem({:?}, {:?})", self.output, self.capture)
    }
}
