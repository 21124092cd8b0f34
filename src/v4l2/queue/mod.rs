//! One queue of a device: its buffers, and the frames that come and go.

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

use self::imports::Imports;
use self::mmap_buffers::MmapBuffers;
use self::planes::{meta, returned};
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
/// `try_dequeue` costs one system call, the drop of a captured frame's last clone another. No memory is allocated,
/// mapped or exported per frame. Dropping the queue stops it and leaves the buffers to the leases that are out.
///
/// An event loop polls the device itself. [`MemToMem`](super::MemToMem) and the stations above have a descriptor that
/// knows when that is safe.
pub struct Queue {
    /// For [`Queue::dequeue`]. Declared first: it keeps a handle of the device.
    waiter: Option<DeviceReadiness>,
    device: Device,
    direction: Direction,
    kind: BufType,
    memory: Memory,
    /// Leases that the driver has, by index: of output queues, and of imports. Declared behind the device: see `drop`.
    held: Vec<Option<Held>>,
    sequence: Sequence,
    streaming: bool,
    end: End,
    /// Leases taken until now.
    taken: u64,
    /// See [`Queue::split_planes`].
    splits: bool,
}

/// How near the end of a drained stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// The last buffer was dequeued; the kernel will answer EPIPE.
    Near,
    /// EPIPE was seen. The kernel reports POLLIN for ever.
    Told,
}

enum Memory {
    None,
    /// Buffers whose slot is the queue's index: the driver's own, or allocated for it.
    Mmap {
        mmap: Arc<MmapBuffers>,
        buffers: BufferSet,
    },
    /// Buffers of others.
    Imports {
        imports: Imports,
        layout: Layout,
    },
}

/// A lease that the driver has, with its number in order of queueing.
struct Held {
    number: u64,
    lease: Lease,
}

enum Lease {
    Shared(Frame),
    Unique(FrameMut),
}

/// The leases that a stopped queue had, in the order in which they were queued.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Of an output queue.
    pub frames: Vec<Frame>,
    /// Of a capture queue of imports: what the device wrote until now may be in them.
    pub empty: Vec<FrameMut>,
}

impl Queue {
    /// The capture or output queue of a device, without buffers. No ioctl.
    ///
    /// # Errors
    /// `Unsupported` if the device has no such queue, `Busy` if this handle's queue of that direction is in use.
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
            sequence: Sequence::default(),
            streaming: false,
            end: End::No,
            taken: 0,
            splits: false,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The buffers of [`Queue::allocate`] or [`Queue::allocate_from`].
    pub fn buffers(&self) -> Option<&BufferSet> {
        match &self.memory {
            Memory::Mmap { buffers, .. } => Some(buffers),
            _ => None,
        }
    }

    /// The layout of its buffers; `None` without buffers.
    pub fn layout(&self) -> Option<&Layout> {
        match &self.memory {
            Memory::Mmap { buffers, .. } => Some(buffers.layout()),
            Memory::Imports { layout, .. } => Some(layout),
            Memory::None => None,
        }
    }

    /// `true` between [`Queue::start`] and [`Queue::stop`].
    pub fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Starts streaming; a capture queue first gets every buffer that nobody leases. Ioctls: `VIDIOC_QBUF`,
    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` without buffers; `Pipeline` if the media graph does not fit, with the pads and the `media-ctl` line
    /// that would mend it; `Busy`; what else the driver reports. The queue can be started again.
    #[doc(alias = "VIDIOC_STREAMON")]
    pub fn start(&mut self) -> Result<()> {
        const OP: &str = "VIDIOC_STREAMON";
        match &self.memory {
            Memory::None => return Err(state(OP, "no buffers are allocated").on(&self.device)),
            Memory::Mmap { mmap, .. } if self.direction == Direction::Capture => mmap.queue_all()?,
            _ => {}
        }
        calls::streamon(self.device.as_fd(), self.kind).map_err(|e| match e {
            Errno::EPIPE | Errno::ENOLINK => {
                let why = media::diagnose(&self.device).unwrap_or_else(|| e.desc().into());
                self.device.failed(OP, e).kind_is(ErrorKind::Pipeline).detail(why)
            }
            e => self.device.failed(OP, e),
        })?;
        (self.streaming, self.end) = (true, End::No);
        Ok(())
    }

    /// Stops streaming. What the driver had comes back: its own buffers for the next start, leases are given up.
    /// Waits for the picture that a mem-to-mem device works on. Ioctl: `VIDIOC_STREAMOFF`.
    ///
    /// # Errors
    /// What the driver reports (`DeviceLost` after an unplug).
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn stop(&mut self) -> Result<()> {
        self.reclaim().map(drop)
    }

    /// [`Queue::stop`], with the leases that the driver had handed back. Ioctl: `VIDIOC_STREAMOFF`.
    ///
    /// From a device that is gone they come back, too, though its driver may write to them until the file is closed,
    /// which is when the last clone of the [`Device`] and its queues are dropped.
    ///
    /// # Errors
    /// As [`Queue::stop`]: the leases stay where they are.
    #[doc(alias = "VIDIOC_STREAMOFF")]
    pub fn reclaim(&mut self) -> Result<Reclaimed> {
        let done = match &mut self.memory {
            Memory::None => Ok(()),
            Memory::Mmap { mmap, .. } => mmap.stop(),
            Memory::Imports { .. } => calls::streamoff(self.device.as_fd(), self.kind),
        };
        // A device that is gone has given everything up.
        if let Err(e) = done.or_else(|e| if e == Errno::ENODEV { Ok(()) } else { Err(e) }) {
            return Err(self.device.failed("VIDIOC_STREAMOFF", e));
        }
        Ok(self.halted())
    }

    /// Marks everything as given up by the driver, and takes the leases that it had.
    fn halted(&mut self) -> Reclaimed {
        (self.streaming, self.end) = (false, End::No);
        self.sequence.restart();
        if let Memory::Imports { imports, .. } = &mut self.memory {
            (0..imports.len()).for_each(|i| imports.give_back(i));
        }
        // After the marks: the end of a lease may call back into the mmap.
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

    /// Stops and frees: the queue can take another format. Frames that are out keep their memory; their return does
    /// nothing. Ioctls: `VIDIOC_STREAMOFF`, `VIDIOC_REQBUFS` with 0.
    pub fn free(&mut self) {
        drop(self.free_and_reclaim());
    }

    /// [`Queue::free`], with the leases that the driver had.
    pub(super) fn free_and_reclaim(&mut self) -> Reclaimed {
        // A device that fails to stop: all of this must happen anyway.
        let reclaimed = self.reclaim().unwrap_or_else(|_| self.halted());
        if let Memory::Mmap { mmap, .. } = &self.memory {
            mmap.orphan();
        }
        if !matches!(self.memory, Memory::None) {
            self.release();
        }
        self.memory = Memory::None;
        self.held.clear();
        reclaimed
    }

    /// Buffers that the driver has.
    pub fn queued(&self) -> usize {
        match &self.memory {
            Memory::Mmap { mmap, .. } => mmap.queued(),
            Memory::None | Memory::Imports { .. } => self.held.iter().filter(|h| h.is_some()).count(),
        }
    }

    /// Returns `true` once the end of a drain was given, until the queue is started again.
    pub(crate) fn has_ended(&self) -> bool {
        self.end == End::Told
    }

    /// The driver has something that it will give back.
    pub(super) fn is_busy(&self) -> bool {
        self.streaming && self.queued() > 0
    }

    /// Polling the device for this queue gives something sooner or later. If it does not now because every buffer is
    /// leased, the signal is set when one comes back. `POLLERR` is what a capture queue without buffers answers: a
    /// mem-to-mem device when none is queued, another when none was queued since it was stopped.
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

    /// From here on `signal` is set when the end of a lease on another thread is something to know.
    pub(crate) fn signal_by(&self, signal: &Arc<Signal>) {
        if let Memory::Mmap { mmap, .. } = &self.memory {
            mmap.signal_by(signal);
        }
    }

    /// The driver goes on after a drain.
    pub(super) fn go_on(&mut self) {
        self.end = End::No;
    }

    /// Returns what the driver is done with: of a capture queue the next frame, of an output queue a frame that was
    /// queued. One system call. Ioctl: `VIDIOC_DQBUF`.
    ///
    /// [`Received::Ended`] comes after the frame flagged [`FrameFlags::LAST`](crate::frame::FrameFlags::LAST): nothing
    /// comes until the queue is restarted.
    ///
    /// # Errors
    /// The error of an earlier return of a buffer, once. `DeviceLost` after an unplug or a fatal error of the driver;
    /// leases stay valid. `State` if the queue is not started, or after its end.
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
            Err(Errno::EPIPE) => {
                self.end = End::Told;
                return Ok(Received::Ended);
            }
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
        let frame = match (held, self.buffers()) {
            (Some(Lease::Shared(frame)), _) => Some(returned(frame, &buffer)),
            (Some(Lease::Unique(frame)), _) => {
                let meta = meta(&mut self.sequence, &buffer, frame.memory());
                Some(frame.freeze(meta))
            }
            (None, Some(buffers)) if known => buffers.lend(index).map(|frame| {
                let meta = meta(&mut self.sequence, &buffer, frame.memory());
                frame.freeze(meta)
            }),
            (None, _) => None,
        };
        frame.map(Received::Item).ok_or_else(|| {
            let text = format!("the driver returned buffer {index}, which it did not have");
            Error::new(ErrorKind::Os, OP, text).on(&self.device)
        })
    }

    /// Returns what the driver is done with, and waits at most `timeout` for it. Two system calls more where it waits.
    ///
    /// # Errors
    /// As [`Queue::try_dequeue`].
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
                // What was filled before is still there.
                return match self.try_dequeue()? {
                    Received::Nothing => Err(self.device.broken()),
                    got => Ok(got),
                };
            }
        }
    }

    /// The kept error of a capture buffer's return, once; else tries failed returns again.
    pub(super) fn settle(&self) -> Result<()> {
        match &self.memory {
            Memory::Mmap { mmap, .. } => mmap.settle(),
            _ => Ok(()),
        }
    }
}

/// Watches the device of a station for what its queues can give now, and for events if `has_events`. To be called after
/// each call that queues, dequeues, starts or stops.
pub(crate) fn watch(
    readiness: &mut DeviceReadiness,
    output: Option<&Queue>,
    capture: Option<&Queue>,
    has_events: bool,
) -> Result<()> {
    let Some(device) = output.or(capture).map(Queue::device) else { return Ok(()) };
    let mut wanted = EpollFlags::empty();
    wanted.set(EpollFlags::EPOLLPRI, has_events);
    // POLLERR is all that a mem-to-mem device answers while both of its queues are empty.
    if output.is_some_and(Queue::is_busy) || capture.is_some_and(Queue::gives) {
        wanted.set(EpollFlags::EPOLLOUT, output.is_some_and(Queue::is_streaming));
        // After the end of a drain POLLIN does not end.
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
        // Fields drop in order: the device first, which closes the file if nobody else has it, then the leases. The
        // driver of a device that is gone may write to them until then.
        let shared = leases.frames.into_iter().map(Lease::Shared);
        let unique = leases.empty.into_iter().map(Lease::Unique);
        self.held = shared.chain(unique).map(|lease| Some(Held { number: 0, lease })).collect();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers = own_planes(&self.memory).min(1) * self.held.len();
        write!(f, "Queue({:?} of {}, {buffers} buffers, {} queued)", self.direction, self.device, self.queued())
    }
}
