//! One queue of a device, its buffers and its frames.

mod capture_clock;
mod copies;
mod imports;
mod mmap_buffers;
mod planes;
mod qbuf;
mod reqbufs;
mod sequence;

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use self::capture_clock::CaptureClock;
use self::copies::Copies;
use self::imports::Imports;
use self::mmap_buffers::MmapBuffers;
use self::planes::{meta, returned, FieldOrder};
use self::sequence::Sequence;

pub use self::reqbufs::CacheHint;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::frame::{BufferSet, Frame, FrameMut};
use crate::station::{ended, Received};
use crate::sys::signal::Signal;
use crate::sys::v4l2::flag;
use crate::sys::v4l2::BufType;
use crate::sys::v4l2_calls as calls;
use crate::sys::wait;
use crate::v4l2::device::{Device, Direction};
use crate::v4l2::media;
use crate::v4l2::readiness::DeviceReadiness;

/// One queue of a device. Methods take `&mut self`; its frames may be sent to other threads.
///
/// `try_dequeue` costs one system call. The drop of a captured frame's last clone costs another. No memory is
/// allocated, mapped or exported per frame. Dropping the queue stops it; leased buffers stay allocated until their
/// leases end.
///
/// An event loop has to poll the device itself. [`MemToMem`](super::MemToMem) and the stations have a descriptor that
/// polls the device only when that is safe.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::v4l2::{CacheHint, Device, Direction, Queue};
/// use framelease::Received;
///
/// let mut queue = Queue::new(&Device::find(|d| d.is_capture())?, Direction::Capture)?;
/// queue.allocate(4, CacheHint::Driver)?;
/// queue.start()?;
/// if let Received::Item(frame) = queue.dequeue(Duration::from_secs(1))? {
///     println!("{frame:?}");
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Queue {
    /// For [`Queue::dequeue`]. Declared first: it keeps a handle of the device.
    waiter: Option<DeviceReadiness>,
    device: Device,
    direction: Direction,
    kind: BufType,
    memory: Memory,
    /// Leases that the driver has, by index: of output queues, and of imports. Declared after the device: see `drop`.
    held: Vec<Option<Held>>,
    /// Leases that the driver may still use, because it refused to stop. They end when the device is closed.
    unstopped: Vec<Lease>,
    sequence: Sequence,
    clock: CaptureClock,
    streaming: bool,
    /// A drain was requested since the start.
    drains: bool,
    /// The driver gives no buffer back before another is queued: an output queue of vsi_v4l2enc after a drain or a
    /// stop.
    rests: bool,
    end: End,
    /// The number of leases taken so far.
    taken: u64,
    /// Splits planes. See [`Queue::split_planes`].
    splits: bool,
    /// Buffers of a capture queue are exported for writing too.
    exports_writable: bool,
    /// What the standard of the source says, since the start of the stream.
    field_order: Option<FieldOrder>,
}

/// Returns which field comes first by the present analog standard: the bottom field with 525 lines, else the top field.
fn field_order(device: &Device) -> FieldOrder {
    match device.standard() {
        Ok(Some(standard)) if standard.has_525_lines() => FieldOrder::BottomFirst,
        _ => FieldOrder::TopFirst,
    }
}

/// How near a drained stream is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// The last buffer was dequeued. The kernel will return EPIPE.
    Near,
    /// EPIPE was returned. The kernel reports POLLIN from then on.
    Told,
}

enum Memory {
    None,
    /// Buffers whose slot equals the queue's index: the driver's own, or allocated for this queue. Or copies.
    Mmap {
        mmap: Arc<MmapBuffers>,
        buffers: BufferSet,
        /// `buffers` are copies of the driver's own.
        copies: Option<Copies>,
    },
    /// Buffers of other devices or pools.
    Imports {
        imports: Imports,
        layout: Layout,
    },
}

/// A lease that the driver has, with its number in order of queuing.
struct Held {
    number: u64,
    lease: Lease,
}

enum Lease {
    Shared(Frame),
    Unique(FrameMut),
}

/// The leases that a stopped queue had, in the order of queuing.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The frames of an output queue.
    pub frames: Vec<Frame>,
    /// The buffers of a capture queue of imports. The device may have written to them.
    pub empty: Vec<FrameMut>,
}

impl Reclaimed {
    fn leases(self) -> impl Iterator<Item = Lease> {
        self.frames.into_iter().map(Lease::Shared).chain(self.empty.into_iter().map(Lease::Unique))
    }
}

impl Queue {
    /// Takes the capture or output queue of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the queue, `Busy` if the queue of that direction is in use through
    /// this handle.
    pub fn new(device: &Device, direction: Direction) -> Result<Self> {
        let kind = device.buf_type(direction, "queue")?;
        device.take_queue(direction)?;
        Ok(Self {
            waiter: None,
            device: device.clone(),
            direction,
            kind,
            memory: Memory::None,
            held: Vec::new(),
            unstopped: Vec::new(),
            sequence: Sequence::default(),
            clock: CaptureClock::default(),
            streaming: false,
            drains: false,
            rests: false,
            end: End::No,
            taken: 0,
            splits: false,
            exports_writable: false,
            field_order: None,
        })
    }

    /// Returns the device of the queue.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Makes [`Queue::allocate`] export the buffers of a capture queue for writing too.
    pub(crate) fn export_writable(&mut self, is_writable: bool) {
        self.exports_writable = is_writable;
    }

    /// Returns the buffers of [`Queue::allocate`] or [`Queue::allocate_from`].
    pub fn buffers(&self) -> Option<&BufferSet> {
        match &self.memory {
            Memory::Mmap { buffers, .. } => Some(buffers),
            _ => None,
        }
    }

    /// Returns the layout of its buffers, or `None` without buffers.
    pub fn layout(&self) -> Option<&Layout> {
        match &self.memory {
            Memory::Mmap { buffers, .. } => Some(buffers.layout()),
            Memory::Imports { layout, .. } => Some(layout),
            Memory::None => None,
        }
    }

    /// Returns `true` between [`Queue::start`] and [`Queue::stop`].
    pub fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Starts streaming. First queues every buffer of a capture queue that is not leased. Ioctls: `VIDIOC_QBUF`,
    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` without buffers; `Pipeline` if formats along the media graph do not fit, or do not fit the node's own
    /// (the text has the pads and a `media-ctl` line that corrects them); `Busy` while another program streams; other
    /// errors of the driver. The queue can be started again.
    #[doc(alias = "VIDIOC_STREAMON")]
    pub fn start(&mut self) -> Result<()> {
        const OP: &str = "VIDIOC_STREAMON";
        match &self.memory {
            Memory::None => return Err(state(OP, "no buffers are allocated").on(&self.device)),
            Memory::Mmap { mmap, .. } if self.direction == Direction::Capture => mmap.queue_all()?,
            _ => {}
        }
        self.clock.start();
        self.field_order = None;
        calls::streamon(self.device.as_fd(), self.kind).map_err(|e| self.not_started(OP, e))?;
        (self.streaming, self.drains, self.rests, self.end) = (true, false, false, End::No);
        Ok(())
    }

    /// Creates the error of a failed start. Drivers report a media graph that does not fit as EPIPE or ENOLINK. mxc-isi
    /// reports EINVAL if the node's own format does not fit.
    fn not_started(&self, op: &'static str, errno: Errno) -> Error {
        let error = self.device.failed(op, errno);
        if errno == Errno::EBUSY {
            return error.detail(format!("{}{}", errno.desc(), self.device.open_in()));
        }
        if errno == Errno::ENOSPC {
            let text = "the bus has no bandwidth left for this stream; request a smaller size, a lower rate or a \
                        bitstream, or use another port";
            return error.detail(text);
        }
        let is_pipeline = matches!(errno, Errno::EPIPE | Errno::ENOLINK);
        if !(is_pipeline || errno == Errno::EINVAL && self.device.info().is_routed_by_graph()) {
            return error;
        }
        let why = media::diagnose(&self.device);
        let is_found = why.as_ref().is_some_and(|why| why.is_fault);
        let error = if is_pipeline || is_found { error.kind_is(ErrorKind::Pipeline) } else { error };
        error.detail(why.map_or_else(|| errno.desc().into(), |why| why.text))
    }

    /// Stops streaming. The driver's own buffers wait for the next start. Leases that the driver had are dropped.
    /// Waits for the picture that a mem-to-mem device works on. Ioctl: `VIDIOC_STREAMOFF`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug, and other errors of the driver.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn stop(&mut self) -> Result<()> {
        self.reclaim().map(drop)
    }

    /// Stops streaming and returns the leases that the driver had. Ioctl: `VIDIOC_STREAMOFF`.
    ///
    /// The call also works for an unplugged device. Its driver may still write to the returned buffers until the file
    /// is closed. The file is closed when the last clone of the [`Device`] and its queues are dropped.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug, and other errors of the driver. The leases then stay in the queue.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn reclaim(&mut self) -> Result<Reclaimed> {
        let done = match &mut self.memory {
            Memory::None => Ok(()),
            Memory::Mmap { mmap, .. } => mmap.stop(),
            Memory::Imports { .. } => calls::streamoff(self.device.as_fd(), self.kind),
        };
        // An unplugged device has given up all buffers.
        if let Err(e) = done.or_else(|e| if e == Errno::ENODEV { Ok(()) } else { Err(e) }) {
            return Err(self.device.failed("VIDIOC_STREAMOFF", e));
        }
        Ok(self.halted())
    }

    /// Marks all buffers as given up by the driver, and takes the leases that it had.
    fn halted(&mut self) -> Reclaimed {
        (self.streaming, self.end) = (false, End::No);
        self.sequence.restart();
        if let Memory::Imports { imports, .. } = &mut self.memory {
            (0..imports.len()).for_each(|i| imports.give_back(i));
        }
        // After the marks above: the end of a lease may call back into the mmap buffers.
        let mut held: Vec<Held> = self.held.iter_mut().filter_map(Option::take).collect();
        held.sort_by_key(|h| h.number);
        let mut reclaimed = Reclaimed::default();
        for held in held {
            match held.lease {
                Lease::Shared(frame) => reclaimed.frames.push(frame),
                Lease::Unique(frame) => reclaimed.empty.push(frame),
            }
        }
        reclaimed
    }

    /// Stops the queue and frees its buffers, so that it can take another format. Leased frames keep their memory;
    /// their return does nothing. Ioctls: `VIDIOC_STREAMOFF`, `VIDIOC_REQBUFS` with 0.
    pub fn free(&mut self) {
        drop(self.free_and_reclaim());
    }

    /// Does the same as [`Queue::free`], and returns the leases that the driver had.
    pub(super) fn free_and_reclaim(&mut self) -> Reclaimed {
        let stopped = self.reclaim();
        if let Memory::Mmap { mmap, copies, .. } = &mut self.memory {
            mmap.orphan();
            // Some drivers free no buffer that is mapped.
            *copies = None;
        }
        let is_freed = matches!(self.memory, Memory::None) || self.release(self.memory_type());
        let mut reclaimed = stopped.or_else(|_| {
            let reclaimed = self.halted();
            // The kernel frees the buffers only if the driver does not have them.
            if is_freed {
                Ok(reclaimed)
            } else {
                Err(reclaimed)
            }
        });
        self.memory = Memory::None;
        self.held.clear();
        if let Err(unstopped) = &mut reclaimed {
            self.unstopped.extend(std::mem::take(unstopped).leases());
        }
        reclaimed.unwrap_or_default()
    }

    /// Returns the number of buffers that the driver has.
    pub fn queued(&self) -> usize {
        match &self.memory {
            Memory::Mmap { mmap, .. } => mmap.queued(),
            Memory::None | Memory::Imports { .. } => self.held.iter().filter(|h| h.is_some()).count(),
        }
    }

    /// Returns `true` after the end of a drain was received, until the queue is started again.
    pub(crate) fn has_ended(&self) -> bool {
        self.end == End::Told
    }

    /// Returns `true` if the driver has a buffer that it will return.
    pub(super) fn is_busy(&self) -> bool {
        self.streaming && !self.rests && self.queued() > 0
    }

    /// Returns `true` if polling the device for this queue will succeed sooner or later. If every buffer is leased it
    /// would not; then the signal is set when one returns. The kernel reports `POLLERR` for a capture queue without
    /// buffers: a mem-to-mem device while none is queued, other devices while none was queued since the stop.
    pub(super) fn gives(&self) -> bool {
        if !self.streaming || self.end == End::Told {
            return false;
        }
        match &self.memory {
            Memory::Mmap { mmap, .. } if self.end == End::No && self.direction == Direction::Capture => {
                if self.device.info().is_m2m() {
                    mmap.is_queued_or_signal()
                } else {
                    mmap.was_queued_or_signal()
                }
            }
            _ => self.end == End::Near || self.queued() > 0,
        }
    }

    /// Sets `signal` from now on, when a lease that ends on another thread concerns the station.
    pub(crate) fn signal_by(&self, signal: &Arc<Signal>) {
        if let Memory::Mmap { mmap, .. } = &self.memory {
            mmap.signal_by(signal);
        }
    }

    /// Returns `true` if the stream may end although the driver has no buffer: amphion ends a drain so.
    pub(super) fn may_end_empty(&self) -> bool {
        self.streaming && self.drains && self.end == End::No && self.queued() == 0
    }

    /// Notes whether a drain was requested: the stream may end.
    pub(super) fn set_drains(&mut self, drains: bool) {
        self.drains = drains;
    }

    /// Notes that the driver may resume after a drain.
    pub(super) fn go_on(&mut self) {
        self.end = End::No;
    }

    /// Handles EPIPE of DQBUF. It is the end of a capture queue, but vsi_v4l2enc also gives it to an output queue, and
    /// to both queues while it does not run.
    fn end(&mut self) -> Received<Frame> {
        let is_coded = self.layout().is_some_and(Layout::is_compressed);
        match self.direction {
            Direction::Output => self.rests = true,
            // A decoder's stream also ends at a change of the source.
            Direction::Capture if self.drains || self.end == End::Near || !is_coded => {
                self.end = End::Told;
                return Received::Ended;
            }
            Direction::Capture => {}
        }
        Received::Nothing
    }

    /// Returns the next buffer that the driver has finished: the next frame of a capture queue, or a frame that was
    /// queued on an output queue. One system call. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// [`Received::Ended`] follows after the frame flagged [`FrameFlags::LAST`](crate::frame::FrameFlags::LAST).
    /// Restart the queue then.
    ///
    /// # Errors
    /// The error of an earlier return of a buffer, once, if it fails again. `DeviceLost` after an unplug or a fatal
    /// error of the driver; leases stay valid. `State` if the queue is not started, or after [`Received::Ended`].
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn try_dequeue(&mut self) -> Result<Received<Frame>> {
        const OP: &str = "VIDIOC_DQBUF";
        if !self.streaming {
            return Err(state(OP, "the queue is not started").on(&self.device));
        }
        if self.end == End::Told {
            return Err(ended(OP).on(&self.device));
        }
        self.settle()?;
        let buffer = match calls::dqbuf(self.device.as_fd(), self.kind, self.memory_type()) {
            Ok(buffer) => buffer,
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(Errno::EPIPE) => return Ok(self.end()),
            Err(e) => return Err(self.device.failed(OP, e)),
        };
        if buffer.flags() & flag::LAST != 0 {
            self.end = End::Near;
        }
        let index = buffer.index();
        let known = match &mut self.memory {
            Memory::Mmap { mmap, .. } => mmap.mark_dequeued(index),
            Memory::Imports { imports, .. } => {
                imports.give_back(index);
                true
            }
            Memory::None => false,
        };
        let held = self.held.get_mut(index).and_then(Option::take).map(|h| h.lease);
        // Codecs and converters may give empty buffers, and count bytes in their own ways.
        let is_camera = !self.device.info().is_m2m();
        let filled = match (held, self.buffers()) {
            (Some(Lease::Shared(frame)), _) => return Ok(Received::Item(returned(frame, &buffer))),
            (Some(Lease::Unique(frame)), _) => Some(frame),
            (None, Some(_)) if known && self.is_copying() => self.copied(&buffer)?,
            (None, Some(buffers)) if known => buffers.lend(index),
            (None, _) => None,
        };
        let frame = filled.map(|frame| {
            let picture = is_camera.then(|| frame.layout());
            let order = || *self.field_order.get_or_insert_with(|| field_order(&self.device));
            let meta = meta(&mut self.sequence, &mut self.clock, &buffer, frame.memory(), picture, order);
            frame.freeze(meta)
        });
        frame.map(Received::Item).ok_or_else(|| {
            let text = format!("the driver returned buffer {index}, which was not queued");
            Error::new(ErrorKind::Os, OP, text).on(&self.device)
        })
    }

    /// Returns `true` if the CPU copies each frame.
    pub(crate) fn is_copying(&self) -> bool {
        matches!(&self.memory, Memory::Mmap { copies: Some(_), .. })
    }

    /// Returns a copy of a frame that the driver has filled, and queues the driver's buffer again. `None` without
    /// room, which the driver's number of buffers excludes.
    fn copied(&self, buffer: &calls::Buffer) -> Result<Option<FrameMut>> {
        let Memory::Mmap { mmap, buffers, copies: Some(copies) } = &self.memory else { return Ok(None) };
        let mut frame = mmap.take_copy().and_then(|slot| buffers.lend(slot));
        let done = frame.as_mut().map_or(Ok(()), |frame| copies.copy(buffer, frame));
        mmap.give_back(buffer.index());
        done.map(|()| frame)
    }

    /// Waits at most `timeout` for the next buffer that the driver has finished. A wait costs two more system calls.
    ///
    /// # Errors
    /// The error of an earlier return of a buffer, once, if it fails again. `DeviceLost` after an unplug or a fatal
    /// error of the driver; leases stay valid. `State` if the queue is not started, or after [`Received::Ended`].
    #[doc(alias = "VIDIOC_DQBUF")]
    pub fn dequeue(&mut self, timeout: Duration) -> Result<Received<Frame>> {
        let deadline = wait::deadline(timeout);
        loop {
            match self.try_dequeue()? {
                Received::Nothing => {}
                got => return Ok(got),
            }
            let mut waiter = match self.waiter.take() {
                Some(waiter) => waiter,
                None => DeviceReadiness::new()?,
            };
            self.signal_by(waiter.signal());
            let (output, capture) = match self.direction {
                Direction::Output => (Some(&*self), None),
                Direction::Capture => (None, Some(&*self)),
            };
            let ready = watch(&mut waiter, output, capture, false).and_then(|()| waiter.wait(deadline));
            self.waiter = Some(waiter);
            let ready = ready?;
            if ready.is_empty() {
                return Ok(Received::Nothing);
            }
            if ready.is_broken() {
                // Frames that were filled before the error can still be dequeued.
                return match self.try_dequeue()? {
                    Received::Nothing => Err(self.device.broken()),
                    got => Ok(got),
                };
            }
        }
    }

    /// Returns the error of a failed return of a capture buffer, once. Otherwise retries failed returns.
    pub(super) fn settle(&self) -> Result<()> {
        match &self.memory {
            Memory::Mmap { mmap, .. } => mmap.settle(),
            _ => Ok(()),
        }
    }
}

/// Watches a station's device for the events that its queues can have now, and for device events if `has_events`.
/// Call it after each call that queues, dequeues, starts or stops.
pub(crate) fn watch(
    readiness: &mut DeviceReadiness,
    output: Option<&Queue>,
    capture: Option<&Queue>,
    has_events: bool,
) -> Result<()> {
    let Some(device) = output.or(capture).map(Queue::device) else { return Ok(()) };
    let mut wanted = EpollFlags::empty();
    wanted.set(EpollFlags::EPOLLPRI, has_events);
    // A mem-to-mem device reports only POLLERR while both of its queues are empty.
    if output.is_some_and(Queue::is_busy) || capture.is_some_and(Queue::gives) {
        wanted.set(EpollFlags::EPOLLOUT, output.is_some_and(Queue::is_streaming));
        // After the end of a drain, POLLIN stays set.
        wanted.set(EpollFlags::EPOLLIN, capture.is_some_and(|q| q.is_streaming() && !q.has_ended()));
    }
    let device = device.clone();
    readiness.watch(&device, wanted)
}

fn own_planes(memory: &Memory) -> usize {
    match memory {
        Memory::Mmap { buffers, .. } => buffers.layout().memory_bytes().len(),
        Memory::Imports { layout, .. } => layout.memory_bytes().len(),
        Memory::None => 0,
    }
}

pub(super) fn state(op: &'static str, text: &str) -> Error {
    Error::new(ErrorKind::State, op, text)
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.waiter = None;
        let leases = self.free_and_reclaim();
        self.device.leave_queue(self.direction);
        // Fields drop in order: first the device, which closes the file unless another handle exists, then the
        // leases. The driver of an unplugged device may write to them until then.
        self.unstopped.extend(leases.leases());
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = own_planes(&self.memory).min(1) * self.held.len();
        write!(f, "Queue({:?} of {}, {buffers} buffers, {} queued)", self.direction, self.device, self.queued())
    }
}
