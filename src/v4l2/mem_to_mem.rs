//! The two queues of a mem-to-mem device, which encoders, decoders and converters share.

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

/// What a mem-to-mem device gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Processed {
    /// What the device made. Its `timestamp_ns` and `MONOTONIC` flag are those of the source.
    Result {
        /// The picture or bitstream. Flagged [`LAST`](FrameFlags::LAST), it ends a drain and may be empty; flagged
        /// [`ERROR`](FrameFlags::ERROR), it is damaged, and the stream goes on.
        frame: Frame,
        /// The source frame that it was made of; `None` if the driver did not copy the timestamp, if more than 128
        /// frames were queued since, or for an empty buffer.
        source: Option<FrameMeta>,
    },
    /// A source frame that the device has read: the lease of [`MemToMem::queue`]. Flagged
    /// [`ERROR`](FrameFlags::ERROR) if the device could not use it.
    Source(Frame),
    /// An event that was subscribed to.
    Event(Event),
    /// The device was unplugged, or its driver gave up. [`MemToMem::stop`] hands back what it had.
    Lost(Error),
    /// The device is back: call [`MemToMem::reopen`].
    Returned,
}

/// What [`MemToMem::resume`] could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resumed {
    /// The stream goes on where it was.
    Continued,
    /// The driver does not resume; its capture queue was stopped and started: an encoder begins a new stream, with
    /// headers and a key frame, a decoder waits for a key frame.
    Restarted,
}

/// A mem-to-mem device: frames go to its output queue, results come from its capture queue, on one file descriptor.
///
/// Every open of the node is a device of its own to the driver, with its own formats, controls and buffers. Formats are
/// set by [`Device::set_format`] before buffers exist; which of the two first is the user's knowledge: an encoder's
/// capture format governs its output formats, a decoder's the other way round (`dev-encoder.rst`, `dev-decoder.rst`).
///
/// Results are matched to their sources by the timestamp that the driver copies. The driver is told the source's own, to
/// the microsecond, moved on where two frames have the same.
///
/// A [`Station`]. [`Received::Ended`] is the end of a drain; [`MemToMem::resume`] or a restart of the capture queue
/// begins again. In steady state a frame costs QBUF twice, DQBUF twice, and one `epoll_wait`. Dropping it stops both
/// queues; results that are out keep their memory.
pub struct MemToMem {
    /// Declared first: it keeps a handle of the device.
    readiness: DeviceReadiness,
    output: Queue,
    capture: Queue,
    timestamps: TimestampMap,
    subscribed: bool,
    /// What the last wait said and was not looked at yet.
    ready: EpollFlags,
    /// A result that was found while looking for something else.
    early: Option<Frame>,
    /// A call failed because the device is gone, and the loss was not reported. A device whose queues are not started is
    /// not watched.
    gone: Option<Error>,
    /// The device reported a fatal error, and is not watched until it is started again.
    is_broken: bool,
}

impl MemToMem {
    /// Both queues of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if it is no mem-to-mem device, `Busy` if a queue of this handle is in use.
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
        })
    }

    /// The device, for formats, controls and regions.
    pub fn device(&self) -> &Device {
        self.output.device()
    }

    /// The queue of source frames.
    pub fn output(&self) -> &Queue {
        &self.output
    }

    /// The queue of source frames, to allocate, import, start, stop and free. Frames that are queued and dequeued there
    /// and not here are not matched.
    pub fn output_mut(&mut self) -> &mut Queue {
        &mut self.output
    }

    /// The queue of results.
    pub fn capture(&self) -> &Queue {
        &self.capture
    }

    /// The queue of results, to allocate, import, start, stop and free.
    pub fn capture_mut(&mut self) -> &mut Queue {
        &mut self.capture
    }

    /// Subscribes to events of the device, which [`Station::recv`] then gives: a decoder needs
    /// [`EventKind::SourceChange`]. Ioctl: `VIDIOC_SUBSCRIBE_EVENT`.
    ///
    /// # Errors
    /// As [`Device::subscribe`].
    pub fn subscribe(&mut self, kind: EventKind) -> Result<()> {
        self.device().subscribe(kind)?;
        self.subscribed = true;
        self.arm()
    }

    /// Starts both queues, the output queue first. Ioctls: `VIDIOC_QBUF` of the driver's own capture buffers,
    /// `VIDIOC_STREAMON` twice.
    ///
    /// # Errors
    /// As [`Queue::start`]. What was queued stays queued: [`MemToMem::stop`] hands it back.
    #[doc(alias = "VIDIOC_STREAMON")]
    pub fn start(&mut self) -> Result<()> {
        self.is_broken = false;
        let started = self.output.start().and_then(|()| self.capture.start());
        if let Err(error) = &started {
            self.refused(error);
        }
        started?;
        self.arm()
    }

    /// Reports the loss of the device, if a call failed by it and it was not reported.
    pub(crate) fn refused(&mut self, error: &Error) {
        if error.kind() == ErrorKind::DeviceLost && !self.is_broken && !self.readiness.is_lost() {
            self.gone = Some(error.clone());
            self.wake();
        }
    }

    /// Watches the device for what can come now. To be called after anything that queues, dequeues, starts or stops.
    pub(crate) fn arm(&mut self) -> Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.capture.signal_by(self.readiness.signal());
        queue::watch(&mut self.readiness, Some(&self.output), Some(&self.capture), self.subscribed)
    }

    /// Finds the device again, by its path, driver, bus and node, and opens it without buffers, as [`MemToMem::new`] does.
    /// The descriptor stays. What the device had comes back.
    ///
    /// # Errors
    /// `NotFound` until the device is back; it can be tried again. What it had stays where it is.
    pub fn reopen(&mut self) -> Result<Reclaimed> {
        let opened = self
            .device()
            .find_again()
            .and_then(|device| Ok((Queue::new(&device, Direction::Output)?, Queue::new(&device, Direction::Capture)?)));
        let (output, capture) = match opened {
            Ok(queues) => queues,
            Err(e) => {
                self.readiness.search_again();
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

    /// Stops both queues and hands back what they had, source frames and empty buffers in the order of queueing.
    /// Results that were not dequeued are lost. Waits for the picture that the device works on. Ioctl:
    /// `VIDIOC_STREAMOFF` twice.
    ///
    /// # Errors
    /// As [`Queue::reclaim`]; what the other queue had is dropped then, which gives it back to its owner.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn stop(&mut self) -> Result<Reclaimed> {
        self.forget();
        let output = self.output.reclaim();
        let capture = self.capture.reclaim();
        self.arm()?;
        Ok(Reclaimed { frames: output?.frames, empty: capture?.empty })
    }

    /// Stops both queues, frees their buffers, and hands back what they had: the device can take other formats. Ioctls:
    /// `VIDIOC_STREAMOFF` and `VIDIOC_REQBUFS` with 0, twice.
    pub fn free(&mut self) -> Reclaimed {
        self.forget();
        let (output, capture) = (self.output.free_and_reclaim(), self.capture.free_and_reclaim());
        let _ = self.arm();
        Reclaimed { frames: output.frames, empty: capture.empty }
    }

    /// Stops the capture queue and frees its buffers, so that it can take another format while the output queue goes on: a
    /// decoder whose stream has changed. Frames that are out keep their memory. Ioctls: `VIDIOC_STREAMOFF`,
    /// `VIDIOC_REQBUFS` with 0.
    pub fn free_capture(&mut self) {
        self.forget();
        self.capture.free();
        let _ = self.arm();
    }

    fn forget(&mut self) {
        self.ready = EpollFlags::empty();
        self.early = None;
        self.gone = None;
        self.is_broken = false;
    }

    /// Gives a source frame to the device, which holds the lease until it comes back as [`Processed::Source`]. Ioctl:
    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// As [`Queue::queue`], with the frame. [`Processed::Lost`] comes after `DeviceLost`.
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

    /// Gives a buffer to be filled to a capture queue of imports. It comes back as [`Processed::Result`]. Ioctl:
    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// As [`Queue::queue_empty`], with the buffer.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue_empty(&mut self, frame: FrameMut) -> SubmitResult<FrameMut> {
        let done = self.capture.queue_empty(frame);
        let _ = self.arm();
        done
    }

    /// Ends the stream: everything queued until now is processed, then comes a result flagged
    /// [`LAST`](FrameFlags::LAST), then [`Received::Ended`]. Keep serving both queues until then; source frames that
    /// are queued meanwhile wait for [`MemToMem::resume`]. Ioctl: `VIDIOC_ENCODER_CMD` or `VIDIOC_DECODER_CMD`.
    ///
    /// # Errors
    /// `Unsupported` for a device whose both sides are raw, or whose driver cannot drain; `State` unless both queues
    /// stream (the kernel would do nothing, and no end would come); `Busy` during a drain.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn drain(&mut self) -> Result<()> {
        if !self.output.is_streaming() || !self.capture.is_streaming() {
            return Err(state("drain", "both queues must be started").on(self.device()));
        }
        self.command(CodecCommand::Stop)
    }

    fn command(&self, command: CodecCommand) -> Result<()> {
        let coded = |queue: &Queue| queue.layout().is_some_and(|l| l.is_compressed());
        if coded(&self.capture) {
            self.device().encoder_command(command)
        } else if coded(&self.output) {
            self.device().decoder_command(command)
        } else {
            let text = "neither side is a bitstream: it is neither encoder nor decoder";
            Err(Error::new(ErrorKind::Unsupported, "drain", text).on(self.device()))
        }
    }

    /// Goes on after [`Received::Ended`], where the driver can; else stops and starts the capture queue, whose imported
    /// buffers are then given up and must be queued again. Ioctls: `VIDIOC_ENCODER_CMD` or `VIDIOC_DECODER_CMD`,
    /// `VIDIOC_DQBUF`, perhaps `VIDIOC_STREAMOFF` and `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` before the end was told; as [`Queue::stop`] and [`Queue::start`].
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn resume(&mut self) -> Result<Resumed> {
        if !self.capture.has_ended() {
            return Err(state("resume", "the stream has not ended").on(self.device()));
        }
        self.forget();
        let restarts = match self.command(CodecCommand::Start) {
            Ok(()) => {
                self.capture.go_on();
                // vicodec of Linux 6.12 takes the command and goes on answering EPIPE.
                match self.capture.try_dequeue()? {
                    Received::Ended => true,
                    early => {
                        self.early = early.item();
                        if self.early.is_some() {
                            self.readiness.signal().set();
                        }
                        false
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => true,
            Err(e) => return Err(e),
        };
        if !restarts {
            self.arm()?;
            return Ok(Resumed::Continued);
        }
        self.restart_capture()?;
        Ok(Resumed::Restarted)
    }

    /// Stops and starts the capture queue: an encoder begins a new stream, a decoder waits for a key frame. Results that
    /// were not dequeued are lost, imported buffers given up. Ioctls: `VIDIOC_STREAMOFF`, `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` unless it is started; as [`Queue::stop`] and [`Queue::start`].
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn restart_capture(&mut self) -> Result<()> {
        if !self.capture.is_streaming() {
            return Err(state("VIDIOC_STREAMOFF", "the capture queue is not started").on(self.device()));
        }
        self.forget();
        self.capture.stop()?;
        self.capture.start()?;
        self.arm()
    }

    /// Takes the source frames back that the device has not read, in order, and goes on. Ioctls: `VIDIOC_STREAMOFF` and
    /// `VIDIOC_STREAMON` on the output queue.
    ///
    /// # Errors
    /// As [`Queue::reclaim`] and [`Queue::start`].
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn restart_output(&mut self) -> Result<Vec<Frame>> {
        let back = self.output.reclaim()?.frames;
        self.output.start()?;
        self.arm()?;
        Ok(back)
    }

    /// Returns the next result or the end of a drain, if there is one. One system call. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// As [`Queue::try_dequeue`]. A queue that is not started, or has ended, has nothing.
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

    /// Returns the next source frame that the device is done with, if there is one. One system call, none if nothing is
    /// queued. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// As [`Queue::try_dequeue`].
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_source(&mut self) -> Result<Option<Frame>> {
        if !self.output.is_busy() {
            return Ok(None);
        }
        let got = self.output.try_dequeue()?.item();
        self.arm()?;
        Ok(got)
    }

    /// One thing of what `ready` announces. Each queue is asked once per wait.
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
        // A buffer that only ends a drain has the timestamp of what it held before.
        let is_empty = frame.meta().payload.iter().all(|p| p.bytes == 0);
        let source = self.timestamps.find(frame.meta().timestamp_ns).filter(|_| !is_empty).copied();
        let mut meta = *frame.meta();
        if let Some(source) = source {
            meta.timestamp_ns = source.timestamp_ns;
            meta.flags.set(FrameFlags::MONOTONIC, source.flags.contains(FrameFlags::MONOTONIC));
        }
        Processed::Result { frame: frame.with_meta(meta), source }
    }

    /// Reports that the return of a capture buffer failed, once. A lost device takes no buffers, and its loss was reported.
    fn settle(&self) -> Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.capture.settle()
    }

    /// Looks at what was announced before, else asks the kernel, waiting until the deadline. Also whether there was
    /// anything to look at: if not, the time has passed or a signal handler ran.
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
        // The user may have started or stopped a queue.
        self.arm()?;
        let ready = self.readiness.wait(deadline)?;
        if ready.search && self.readiness.has_returned()? {
            return Ok((Received::Item(Processed::Returned), true));
        }
        if ready.signal {
            // A lease has ended on another thread, or its return has failed.
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
                    return self.lose(e).map(Received::Item);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Makes the descriptor readable until the next look at the device: the caller has more to give.
    pub(crate) fn wake(&self) {
        self.readiness.signal().set();
    }

    /// Stops watching the device, and watches for its return.
    pub(crate) fn lose(&mut self, error: Error) -> Result<Processed> {
        self.search_again()?;
        Ok(Processed::Lost(error))
    }

    /// As after a loss: for a device that was opened again and could not be set up.
    pub(crate) fn search_again(&mut self) -> Result<()> {
        self.is_broken = true;
        self.ready = EpollFlags::empty();
        let device = self.device().clone();
        self.readiness.lost(&device)
    }
}

impl sealed::Sealed for MemToMem {}

/// `try_recv` costs one `epoll_wait` and a DQBUF for each thing that it gives; `Nothing` costs the `epoll_wait` alone.
/// Its error is that of an earlier return of a capture buffer, once.
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
