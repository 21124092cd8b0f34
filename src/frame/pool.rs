//! A pool of allocated buffers: for software sources, converters, and cameras that import.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer_set::{BufferOwner, BufferSet, CpuReads};
use super::frame::FrameMut;
use crate::dmabuf::{Allocator, DmaBuf};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Layout;
use crate::sys::signal::Signal;

/// The most slots of a pool: V4L2 queues have no more.
const MAX_SLOTS: usize = 64;

/// A fixed number of equal buffers from one allocator.
///
/// Dropping the pool leaves the buffers to whoever leases them.
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
    // In order of return, so that memory rotates and a late reader of a freed slot is found out early.
    slots: VecDeque<usize>,
    /// Threads in [`Pool::acquire`]. A notification is a system call even if no thread waits.
    waiting: usize,
    /// Set once, when a slot is free again.
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
    /// Allocates `count` buffers of `layout`, one allocation per memory plane.
    ///
    /// # Errors
    /// `InvalidArgument` for a count of 0 or above 64, and as [`Allocator::allocate`]: then nothing stays allocated.
    pub fn new(allocator: &Allocator, layout: Layout, count: usize) -> Result<Self> {
        check_count(count)?;
        let name = format!("framelease {}", layout.fourcc());
        let allocate = |&bytes: &u32| allocator.allocate(bytes as usize, &name);
        let memory = (0..count)
            .map(|_| layout.memory_bytes().iter().map(allocate).collect())
            .collect::<Result<Vec<Vec<_>>>>()?;
        Ok(Self::of(layout, CpuReads::of(allocator), memory))
    }

    /// A pool over buffers from elsewhere, `memory[slot][memory plane]`: another library's allocator, a graphics
    /// driver's buffers. The caller lets nobody else write them while a frame of the pool is leased.
    ///
    /// # Errors
    /// `InvalidArgument` for no buffers or more than 64, `Mismatch` if a slot has not the layout's memory planes or
    /// one of them is too small.
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

    /// The buffers, to announce or import them before the first frame.
    pub fn buffers(&self) -> &BufferSet {
        &self.buffers
    }

    /// Leases a free slot; `None` if all are leased. No system call, no allocation.
    pub fn try_acquire(&self) -> Option<FrameMut> {
        let slot = self.free.lock().slots.pop_front()?;
        self.buffers.lend(slot)
    }

    /// Leases a free slot. If all are leased, `signal` is set when one is free again.
    pub(crate) fn try_acquire_or_signal(&self, signal: &Arc<Signal>) -> Option<FrameMut> {
        let mut free = self.free.lock();
        let slot = free.slots.pop_front();
        free.signal = slot.is_none().then(|| Arc::clone(signal));
        drop(free);
        self.buffers.lend(slot?)
    }

    /// Leases a free slot, waiting at most `timeout` for one; `None` if none came back in time.
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
    fn the_last_clone_returns_the_slot_from_any_thread() {
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
    fn waiting_ends_with_a_return_or_the_timeout() {
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
    fn frames_outlive_their_pool() {
        let mut frame = pool(1).try_acquire().unwrap();
        frame.write(DEFAULT_WAIT).unwrap().copy_row(1, 1, b"chroma").unwrap();
        let frame = frame.freeze_full(7, 0);
        let mut row = [0; 6];
        frame.read(DEFAULT_WAIT).unwrap().copy_row(1, 1, &mut row).unwrap();
        assert_eq!(&row, b"chroma");
        assert!(frame.is_valid());
    }

    #[test]
    fn a_copy_between_layouts_that_look_the_same_says_what_differs() {
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
        // What the layouts say themselves is not said twice.
        let text = refused(Layout::aligned(same.fourcc(), same.size(), 32).unwrap());
        assert!(text.ends_with("stride 16 into NV12 6x4 stride 32"), "{text}");
    }

    #[test]
    fn rows_outside_are_refused_and_pixels_come_without_padding() {
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
        // A frame that brought less data than its layout has is not read beyond it.
        let mut short = *frame.meta();
        short.payload[0].bytes = 20;
        let frame = frame.with_meta(short);
        let e = frame.read(DEFAULT_WAIT).unwrap().copy_row(0, 1, &mut [0; 6]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch);
        assert!(cpu_bytes().written > 0);
    }

    #[test]
    fn buffers_from_elsewhere_are_checked() {
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
    fn absurd_counts_are_refused() {
        for count in [0, 65, usize::MAX] {
            let layout = *pool(1).buffers().layout();
            assert_eq!(Pool::new(&Allocator::Memfd, layout, count).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
