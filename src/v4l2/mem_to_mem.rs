//! The two queues of a mem-to-mem device, which encoders, decoders and converters share.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bitflags::bitflags;
use nix::poll::PollFlags;

use super::codec_cmd::CodecCommand;
use super::device::{Device, Direction};
use super::events::{Event, EventKind};
use super::queue::{state, Dequeued, Queue, Reclaimed};
use super::timestamps::TimestampMap;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{Frame, FrameFlags, FrameMeta, FrameMut};
use crate::sys::wait;

/// How long a wait may miss the failed return of a capture buffer, or an event while nothing can be polled for.
const SLICE: Duration = Duration::from_millis(200);

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
    /// The drain is over; nothing comes until [`MemToMem::resume`] or a restart of the capture queue.
    Ended,
    /// An event that was subscribed to.
    Event(Event),
}

bitflags! {
    /// What an event loop should poll a mem-to-mem device for now.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Interest: u32 {
        /// POLLIN: a result, or the end of a drain.
        const READABLE = 1;
        /// POLLOUT: a source frame that was read.
        const WRITABLE = 4;
        /// POLLPRI: an event.
        const EVENT = 2;
    }
}

impl Interest {
    fn poll(self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, self.contains(Self::READABLE));
        flags.set(PollFlags::POLLOUT, self.contains(Self::WRITABLE));
        flags.set(PollFlags::POLLPRI, self.contains(Self::EVENT));
        flags
    }
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
/// In an event loop, register [`AsFd`] level-triggered for [`MemToMem::interest`], and not at all (or for POLLPRI alone)
/// while [`MemToMem::is_pollable`] is `false`: a mem-to-mem device reports POLLERR at once and for ever while nothing is
/// queued. Call [`MemToMem::try_next`] until `None` at every wake-up.
///
/// In steady state a frame costs QBUF twice, DQBUF twice, and a `poll` where [`MemToMem::next`] waits. Dropping it stops
/// both queues; results that are out keep their memory.
pub struct MemToMem {
    output: Queue,
    capture: Queue,
    timestamps: TimestampMap,
    subscribed: bool,
    /// What the last poll said and was not looked at yet.
    ready: PollFlags,
    /// A result that was found while looking for something else.
    early: Option<Dequeued>,
}

impl MemToMem {
    /// Both queues of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if it is no mem-to-mem device, `Busy` if a queue of this handle is in use.
    pub fn new(device: &Device) -> Result<Self> {
        if !device.info().is_m2m() {
            return Err(Error::new(ErrorKind::Unsupported, "queue", "it is no mem-to-mem device").on(device));
        }
        Ok(Self {
            output: Queue::new(device, Direction::Output)?,
            capture: Queue::new(device, Direction::Capture)?,
            timestamps: TimestampMap::default(),
            subscribed: false,
            ready: PollFlags::empty(),
            early: None,
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

    /// Subscribes to events of the device, which [`MemToMem::next`] then gives: a decoder needs
    /// [`EventKind::SourceChange`]. Ioctl: `VIDIOC_SUBSCRIBE_EVENT`.
    ///
    /// # Errors
    /// As [`Device::subscribe`].
    pub fn subscribe(&mut self, kind: EventKind) -> Result<()> {
        self.device().subscribe(kind)?;
        self.subscribed = true;
        Ok(())
    }

    /// Starts both queues, the output queue first. Ioctls: `VIDIOC_QBUF` of the driver's own capture buffers,
    /// `VIDIOC_STREAMON` twice.
    ///
    /// # Errors
    /// As [`Queue::start`]. What was queued stays queued: [`MemToMem::stop`] hands it back.
    #[doc(alias = "VIDIOC_STREAMON")]
    pub fn start(&mut self) -> Result<()> {
        self.output.start()?;
        self.capture.start()
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
        Ok(Reclaimed { frames: output?.frames, empty: capture?.empty })
    }

    /// Stops both queues, frees their buffers, and hands back what they had: the device can take other formats. Ioctls:
    /// `VIDIOC_STREAMOFF` and `VIDIOC_REQBUFS` with 0, twice.
    pub fn free(&mut self) -> Reclaimed {
        self.forget();
        let (output, capture) = (self.output.free_and_reclaim(), self.capture.free_and_reclaim());
        Reclaimed { frames: output.frames, empty: capture.empty }
    }

    /// Stops the capture queue and frees its buffers, so that it can take another format while the output queue goes on: a
    /// decoder whose stream has changed. Frames that are out keep their memory. Ioctls: `VIDIOC_STREAMOFF`,
    /// `VIDIOC_REQBUFS` with 0.
    pub fn free_capture(&mut self) {
        self.forget();
        self.capture.free();
    }

    fn forget(&mut self) {
        self.ready = PollFlags::empty();
        self.early = None;
    }

    /// Gives a source frame to the device, which holds the lease until it comes back as [`Processed::Source`]. Ioctl:
    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// As [`Queue::queue`], with the frame.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue(&mut self, frame: Frame) -> std::result::Result<(), Rejected<Frame>> {
        let stamp = self.timestamps.add(frame.meta());
        self.output.queue_at(frame, stamp).map_err(|rejected| {
            self.timestamps.undo();
            rejected
        })
    }

    /// Gives a buffer to be filled to a capture queue of imports. It comes back as [`Processed::Result`]. Ioctl:
    /// `VIDIOC_QBUF`.
    ///
    /// # Errors
    /// As [`Queue::queue_empty`], with the buffer.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn queue_empty(&mut self, frame: FrameMut) -> std::result::Result<(), Rejected<FrameMut>> {
        self.capture.queue_empty(frame)
    }

    /// Ends the stream: everything queued until now is processed, then comes a result flagged
    /// [`LAST`](FrameFlags::LAST), then [`Processed::Ended`]. Keep serving both queues until then; source frames that
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

    /// Goes on after [`Processed::Ended`], where the driver can; else stops and starts the capture queue, whose imported
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
                    Some(Dequeued::Ended) => true,
                    early => {
                        self.early = early;
                        false
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => true,
            Err(e) => return Err(e),
        };
        if !restarts {
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
        self.capture.start()
    }

    /// What to poll the descriptor for now. Changes with every call that queues or dequeues, and with the end of leases
    /// on the driver's own capture buffers.
    pub fn interest(&self) -> Interest {
        let sources = self.output.is_pollable();
        let results = self.capture.is_pollable();
        let mut interest = Interest::empty();
        interest.set(Interest::WRITABLE, sources);
        // While sources are queued, a capture buffer may be queued by the end of a lease at any time.
        let open = self.capture.is_streaming() && !self.capture.has_ended();
        interest.set(Interest::READABLE, results || open && sources);
        interest.set(Interest::EVENT, self.subscribed);
        interest
    }

    /// `true` while the descriptor can be polled for more than events: something is queued that can come back.
    pub fn is_pollable(&self) -> bool {
        self.interest().intersects(Interest::READABLE | Interest::WRITABLE)
    }

    /// What the device is done with, if anything: a result first, then a source frame, then an event. One system call
    /// for each queue that has something queued, and one for events where they are subscribed to. Ioctls: `VIDIOC_DQBUF`,
    /// `VIDIOC_DQEVENT`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug or a fatal error of the driver, at every call: [`MemToMem::stop`] hands back what the
    /// device had. The error of an earlier return of a capture buffer. `State` if nothing is started and no event is
    /// subscribed to.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_next(&mut self) -> Result<Option<Processed>> {
        self.check_started()?;
        self.ready = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
        let got = self.take_ready();
        self.ready = PollFlags::empty();
        got
    }

    /// The next result or the end of a drain, if there is one. One system call. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// As [`MemToMem::try_next`], but for `State`: a queue that is not started has nothing.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_result(&mut self) -> Result<Option<Processed>> {
        if let Some(early) = self.early.take() {
            return Ok(Some(self.result(early)));
        }
        if !self.capture.is_streaming() || self.capture.has_ended() {
            return Ok(None);
        }
        Ok(self.capture.try_dequeue()?.map(|got| self.result(got)))
    }

    /// The next source frame that the device is done with, if there is one. One system call, none if nothing is queued.
    /// Ioctl: `VIDIOC_DQBUF`.
    ///
    /// # Errors
    /// As [`MemToMem::try_result`].
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_source(&mut self) -> Result<Option<Frame>> {
        if !self.output.is_pollable() {
            return Ok(None);
        }
        Ok(self.output.try_dequeue()?.and_then(|got| match got {
            Dequeued::Frame(frame) => Some(frame),
            Dequeued::Ended => None,
        }))
    }

    /// [`MemToMem::try_next`], waiting at most `timeout`; `None` if it passed.
    ///
    /// # Errors
    /// As [`MemToMem::try_next`]; `State` also while nothing can come: nothing is queued, no lease is out whose end would
    /// queue something, and no event is subscribed to.
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Processed>> {
        let deadline = wait::deadline(timeout);
        self.check_started()?;
        loop {
            if let Some(got) = self.take_ready()? {
                return Ok(Some(got));
            }
            let ready = self.wait(deadline)?;
            if ready.is_empty() {
                return Ok(None);
            }
            self.ready = ready;
            if ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) {
                return self.broken();
            }
        }
    }

    fn check_started(&self) -> Result<()> {
        if self.output.is_streaming() || self.capture.is_streaming() || self.subscribed {
            return Ok(());
        }
        Err(state("VIDIOC_DQBUF", "neither queue is started").on(self.device()))
    }

    /// One thing of what `ready` announces. Each queue is asked once per poll.
    fn take_ready(&mut self) -> Result<Option<Processed>> {
        if self.early.is_some() || self.take_readiness(PollFlags::POLLIN) {
            if let Some(got) = self.try_result()? {
                return Ok(Some(got));
            }
        }
        if self.take_readiness(PollFlags::POLLOUT) {
            if let Some(frame) = self.try_source()? {
                return Ok(Some(Processed::Source(frame)));
            }
        }
        if self.take_readiness(PollFlags::POLLPRI) && self.subscribed {
            return Ok(self.device().try_event()?.map(Processed::Event));
        }
        Ok(None)
    }

    fn take_readiness(&mut self, of: PollFlags) -> bool {
        let was = self.ready.contains(of);
        self.ready.remove(of);
        was
    }

    fn result(&self, got: Dequeued) -> Processed {
        let Dequeued::Frame(frame) = got else { return Processed::Ended };
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

    /// The device reports an error condition: what it still has, else the error.
    fn broken(&mut self) -> Result<Option<Processed>> {
        self.ready = PollFlags::POLLIN | PollFlags::POLLOUT | PollFlags::POLLPRI;
        match self.take_ready()? {
            None => {
                let text = "the device reports an error condition and has no buffer";
                Err(Error::new(ErrorKind::DeviceLost, "poll", text).on(self.device()))
            }
            got => Ok(got),
        }
    }

    /// Polls for all that can come. Empty if the deadline passed.
    fn wait(&self, deadline: Instant) -> Result<PollFlags> {
        loop {
            self.capture.settle()?;
            let interest = self.interest();
            let pollable = interest.intersects(Interest::READABLE | Interest::WRITABLE);
            // Leases end without a word to us, or their return fails, which no poll tells: look again in slices.
            let lent = self.capture.waits_for_leases();
            let mut until = if lent { wait::deadline(SLICE).min(deadline) } else { deadline };
            if !pollable && lent {
                self.capture.wait_for_lease(until);
                until = Instant::now();
            } else if !pollable && !self.subscribed {
                return Err(state("poll", "nothing is queued, so nothing can come").on(self.device()));
            }
            let ready = wait::until(self.device().as_fd(), interest.poll(), until)
                .map_err(|e| self.device().failed("poll", e))?;
            if !ready.is_empty() || Instant::now() >= deadline {
                return Ok(ready);
            }
        }
    }
}

impl AsFd for MemToMem {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.device().as_fd()
    }
}

impl fmt::Debug for MemToMem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemToMem({:?}, {:?})", self.output, self.capture)
    }
}
