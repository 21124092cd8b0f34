//! A pool of allocated buffers, for software sources, converters, and cameras that import.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer_set::{BufferOwner, BufferSet, CpuReads};
use super::frame::FrameMut;
use crate::dmabuf::{Allocator, DmaBuf};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::sys::signal::Signal;

/// The largest number of slots. V4L2 queues have no more.
const MAX_SLOTS: usize = 64;

/// A fixed number of equal buffers from one allocator.
///
/// Dropping the pool does not free buffers that are still leased.
///
/// ```
/// use std::time::Duration;
/// use framelease::dmabuf::Allocator;
/// use framelease::format::{FourCc, Layout, Size};
/// use framelease::frame::Pool;
///
/// let layout = Layout::packed(FourCc::NV12, Size::new(640, 480))?;
/// let pool = Pool::new(&Allocator::for_cpu_source(), layout, 4)?;
/// if let Some(mut frame) = pool.acquire(Duration::from_millis(10)) {
///     let mut pixels = frame.write(Duration::from_millis(10))?;
///     pixels.copy_row(0, 0, &[128; 640])?;
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    buffers: BufferSet,
    free: Arc<FreeList>,
}

#[derive(Debug, Default)]
struct FreeList {
    state: Mutex<FreeState>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct FreeState {
    // In the order of return, so that all buffers take turns and a reader that is too late shows early.
    slots: VecDeque<usize>,
    /// Threads in [`Pool::acquire`]. Without one, no notification is sent, which would be a system call.
    waiting: usize,
    /// Is set, once, when a slot is free again.
    signal: Option<Arc<Signal>>,
}

impl FreeList {
    fn lock(&self) -> MutexGuard<'_, FreeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FreeListOwner(Arc<FreeList>);

impl BufferOwner for FreeListOwner {
    fn release(&self, slot: usize) {
        let mut free = self.0.lock();
        free.slots.push_back(slot);
        let signal = free.signal.take();
        let waits = free.waiting > 0;
        drop(free);
        if waits {
            self.0.returned.notify_one();
        }
        if let Some(signal) = signal {
            signal.set();
        }
    }
}

impl Pool {
    /// Allocates `count` buffers of `layout`, with one allocation per memory plane. If an allocation fails, the call
    /// frees the buffers that it has already allocated.
    ///
    /// # Errors
    /// `InvalidArgument` for a count of 0 or above 64. `NotFound` or `PermissionDenied` if the allocator's device
    /// cannot be opened. `Exhausted` if memory is not available. Other errors are those of the kernel.
    pub fn new(allocator: &Allocator, layout: Layout, count: usize) -> Result<Self> {
        check_count(count)?;
        let name = format!("framelease {}", layout.fourcc());
        let allocate = |&bytes: &u32| allocator.allocate(bytes as usize, &name);
        let memory = (0..count)
            .map(|_| layout.memory_bytes().iter().map(allocate).collect())
            .collect::<Result<Vec<Vec<_>>>>()?;
        Ok(Self::of(layout, CpuReads::of(allocator), memory))
    }

    /// Creates a pool of buffers that were allocated elsewhere, for example by another library or a graphics driver.
    /// `memory[slot][plane]` is the buffer of memory plane `plane` of slot `slot`. While a buffer is leased from the
    /// pool, the caller must not let anyone else write it.
    ///
    /// If the other library chooses which buffer it fills next, hold the [`FrameMut`] of each slot that the library
    /// has, and freeze it when the library reports its buffer. [`Pool::try_acquire`] returns the slot after its last
    /// lease has ended. Then the library may have the buffer again.
    ///
    /// # Errors
    /// `InvalidArgument` for 0 or more than 64 buffers. `Mismatch` if a slot does not have the layout's number of
    /// memory planes, or if a memory plane is too small.
    pub fn from_memory(layout: Layout, memory: Vec<Vec<DmaBuf>>) -> Result<Self> {
        check_count(memory.len())?;
        for (slot, planes) in memory.iter().enumerate() {
            let has: Vec<usize> = planes.iter().map(DmaBuf::size_bytes).collect();
            let fits = |(&has, &needs): (&usize, &u32)| has >= needs as usize;
            if has.len() != layout.memory_bytes().len() || !has.iter().zip(layout.memory_bytes()).all(fits) {
                let text = format!("slot {slot} has {has:?} bytes, {layout} needs {:?}", layout.memory_bytes());
                return Err(Error::new(ErrorKind::Mismatch, "pool", text));
            }
        }
        Ok(Self::of(layout, CpuReads::Unknown, memory))
    }

    fn of(layout: Layout, cpu_reads: CpuReads, memory: Vec<Vec<DmaBuf>>) -> Self {
        let free = Arc::new(FreeList {
            state: Mutex::new(FreeState { slots: (0..memory.len()).collect(), waiting: 0, signal: None }),
            returned: Condvar::new(),
        });
        let buffers = BufferSet::new(layout, cpu_reads, memory, Box::new(FreeListOwner(Arc::clone(&free))));
        Self { buffers, free }
    }

    /// Returns the buffers, to announce or import them before the first frame.
    pub fn buffers(&self) -> &BufferSet {
        &self.buffers
    }

    /// Leases a free slot. Returns `None` if all slots are leased. Needs no system call and no allocation.
    pub fn try_acquire(&self) -> Option<FrameMut> {
        let slot = self.free.lock().slots.pop_front()?;
        self.buffers.lend(slot)
    }

    /// Leases a free slot. If all are leased, sets `signal` when a slot is free again.
    pub(crate) fn try_acquire_or_signal(&self, signal: &Arc<Signal>) -> Option<FrameMut> {
        let mut free = self.free.lock();
        let slot = free.slots.pop_front();
        free.signal = slot.is_none().then(|| Arc::clone(signal));
        drop(free);
        self.buffers.lend(slot?)
    }

    /// Leases a free slot. If all slots are leased, waits at most `timeout` for a slot. Returns `None` if no slot
    /// becomes free in this time.
    pub fn acquire(&self, timeout: Duration) -> Option<FrameMut> {
        let deadline = Instant::now().checked_add(timeout);
        let mut free = self.free.lock();
        loop {
            if let Some(slot) = free.slots.pop_front() {
                drop(free);
                return self.buffers.lend(slot);
            }
            let left = deadline.map_or(timeout, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            free.waiting += 1;
            free = self.free.returned.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
            free.waiting -= 1;
        }
    }
}

fn check_count(count: usize) -> Result<()> {
    if (1..=MAX_SLOTS).contains(&count) {
        return Ok(());
    }
    let text = format!("a pool of {count} buffers; 1 to {MAX_SLOTS} are possible");
    Err(Error::new(ErrorKind::InvalidArgument, "pool", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::DEFAULT_WAIT;
    use crate::format::{Colorimetry, Encoding, Range, Size};
    use crate::stats::cpu_bytes;

    fn pool(count: usize) -> Pool {
        let layout = Layout::aligned("NV12".parse().unwrap(), Size::new(6, 4), 16).unwrap();
        Pool::new(&Allocator::Memfd, layout, count).unwrap()
    }

    #[test]
    fn pool_gets_a_slot_back_with_the_last_clone_from_any_thread() {
        let pool = pool(2);
        let a = pool.try_acquire().unwrap().freeze_full(1, 0);
        let b = pool.try_acquire().unwrap();
        assert!(pool.try_acquire().is_none());
        assert_eq!(pool.buffers().leased(), 2);
        let clone = a.clone();
        drop(a);
        assert!(pool.try_acquire().is_none());
        std::thread::spawn(move || drop(clone)).join().unwrap();
        assert_eq!(pool.try_acquire().unwrap().slot(), 0);
        drop(b);
        assert_eq!(pool.buffers().leased(), 0);
    }

    #[test]
    fn acquire_ends_with_a_returned_slot_or_the_timeout() {
        let pool = pool(1);
        let frame = pool.try_acquire().unwrap();
        assert!(pool.acquire(Duration::from_millis(5)).is_none());
        std::thread::scope(|s| {
            let waiter = s.spawn(|| pool.acquire(Duration::from_secs(60)).map(|f| f.slot()));
            drop(frame);
            assert_eq!(waiter.join().unwrap(), Some(0));
        });
    }

    #[test]
    fn pool_can_be_dropped_before_its_frames() {
        let mut frame = pool(1).try_acquire().unwrap();
        frame.write(DEFAULT_WAIT).unwrap().copy_row(1, 1, b"chroma").unwrap();
        let frame = frame.freeze_full(7, 0);
        let mut row = [0; 6];
        frame.read(DEFAULT_WAIT).unwrap().copy_row(1, 1, &mut row).unwrap();
        assert_eq!(&row, b"chroma");
        assert!(frame.is_valid());
    }

    #[test]
    fn copy_frame_names_a_difference_that_display_does_not_show() {
        let from = pool(1).try_acquire().unwrap().freeze_full(0, 0);
        let refused = |layout: Layout| {
            let mut to = Pool::new(&Allocator::Memfd, layout, 1).unwrap().try_acquire().unwrap();
            let read = from.read(DEFAULT_WAIT).unwrap();
            let done = to.write(DEFAULT_WAIT).unwrap().copy_frame(&read);
            done.unwrap_err().to_string()
        };
        let same = *from.layout();
        let colors = Colorimetry { range: Range::Full, encoding: Encoding::Bt709, ..Colorimetry::default() };
        let text = refused(same.with_colorimetry(colors));
        assert!(text.ends_with("; encoding Default into Bt709; range Default into Full"), "{text}");
        let larger = Layout::from_strides(same.fourcc(), same.size(), &[16], &[same.memory_bytes()[0] + 16]).unwrap();
        let text = refused(larger);
        assert!(text.ends_with("; memory planes of [96] bytes into [112] bytes"), "{text}");
        // The layouts' own texts already show this difference.
        let text = refused(Layout::aligned(same.fourcc(), same.size(), 32).unwrap());
        assert!(text.ends_with("stride 16 into NV12 6x4 stride 32"), "{text}");
    }

    #[test]
    fn copy_row_refuses_rows_outside_and_skips_padding() {
        let pool = pool(1);
        let mut frame = pool.try_acquire().unwrap();
        {
            let mut w = frame.write(DEFAULT_WAIT).unwrap();
            assert!(w.copy_row(0, 4, b"").is_err());
            assert!(w.copy_row(2, 0, b"").is_err());
            assert!(w.copy_row(0, 0, b"seven b").is_err());
            for row in 0..4 {
                w.copy_row(0, row, b"luma..").unwrap();
            }
        }
        let frame = frame.freeze_full(0, 0);
        let mut out = Vec::new();
        frame.read(DEFAULT_WAIT).unwrap().write_to(&mut out).unwrap();
        assert_eq!(out.len() as u64, frame.layout().pixel_bytes());
        assert!(out.starts_with(b"luma..luma.."));
        // Reading stops at the end of a payload that is shorter than the layout.
        let mut short = *frame.meta();
        short.payload[0].bytes = 20;
        let frame = frame.with_meta(short);
        let e = frame.read(DEFAULT_WAIT).unwrap().copy_row(0, 1, &mut [0; 6]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch);
        assert!(cpu_bytes().written > 0);
    }

    #[test]
    fn copy_row_reads_uncached_buffers() {
        let layout = Layout::aligned("GREY".parse().unwrap(), Size::new(300, 3), 37).unwrap();
        let buffer = Allocator::Memfd.allocate(4096, "test").unwrap();
        let pool = Pool::of(layout, CpuReads::Uncached, vec![vec![buffer]]);
        let mut frame = pool.try_acquire().unwrap();
        let rows = [0, 1, 2].map(|y| (0..300).map(|x| (x * 7 + y) as u8).collect::<Vec<u8>>());
        for (y, row) in (0..).zip(&rows) {
            frame.write(DEFAULT_WAIT).unwrap().copy_row(0, y, row).unwrap();
        }
        let frame = frame.freeze_full(0, 0);
        let mut copied = Vec::new();
        frame.read(DEFAULT_WAIT).unwrap().write_to(&mut copied).unwrap();
        assert_eq!(copied, rows.concat());
    }

    #[test]
    fn from_memory_checks_the_buffers() {
        let layout = *pool(1).buffers().layout();
        let buffer = |bytes| Allocator::Memfd.allocate(bytes, "test").unwrap();
        assert!(Pool::from_memory(layout, vec![vec![buffer(4096)]]).unwrap().try_acquire().is_some());
        let large = Layout::packed("NV12".parse().unwrap(), Size::new(640, 480)).unwrap();
        for (layout, memory, kind) in [
            (layout, vec![], ErrorKind::InvalidArgument),
            (layout, vec![vec![buffer(4096)], vec![]], ErrorKind::Mismatch),
            (layout, vec![vec![buffer(4096), buffer(4096)]], ErrorKind::Mismatch),
            (large, vec![vec![buffer(4096)]], ErrorKind::Mismatch),
        ] {
            assert_eq!(Pool::from_memory(layout, memory).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn pool_refuses_counts_that_are_impossible() {
        for count in [0, 65, usize::MAX] {
            let layout = *pool(1).buffers().layout();
            assert_eq!(Pool::new(&Allocator::Memfd, layout, count).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
