//! The buffers of one queue generation: which of them the driver has, and their return after the last lease.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dmabuf::DmaBuf;
use crate::error::Result;
use crate::frame::BufferOwner;
use crate::sys::signal::Signal;
use crate::sys::v4l2::BufType;
use crate::sys::v4l2::MEMORY_DMABUF;
use crate::sys::v4l2_calls::{qbuf, streamoff, Buffer, BufferPlane};
use crate::v4l2::device::Device;

/// State that the queue shares with the leases of its buffers.
///
/// QBUF runs under the mutex, so that the queue and a lease that ends on another thread always agree on who has a
/// buffer. DQBUF does not need it, because no other thread knows the buffer yet. When the queue gives up the
/// generation, `device` is removed. Later returns then do nothing, and the memory exists as long as its leases.
pub(super) struct MmapBuffers {
    kind: BufType,
    memory: u32,
    /// Imported buffers per slot, for `MEMORY_DMABUF`.
    imported: Vec<Vec<DmaBuf>>,
    planes: usize,
    state: Mutex<State>,
}

struct State {
    device: Option<Device>,
    slots: Vec<Place>,
    queued: usize,
    /// The free slots of copies, if each frame is copied. The driver has at most that many buffers, so that it stops
    /// while all copies are leased.
    free_copies: Option<VecDeque<usize>>,
    /// A return failed. Its slot is idle, and the return is retried.
    stranded: bool,
    /// The queue has reported that returns fail, and none has succeeded since.
    is_reported: bool,
    /// A buffer was queued since the last STREAMON, so polling the device is safe.
    was_queued: bool,
    /// Makes the station's descriptor readable for events on other threads.
    signal: Option<Arc<Signal>>,
    /// The station does not watch the device until a buffer is queued.
    awaits_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Idle,
    Queued,
    Leased,
}

impl MmapBuffers {
    /// Creates idle slots, with imported buffers or the driver's own (`MEMORY_MMAP`).
    pub(super) fn new(
        device: &Device,
        kind: BufType,
        memory: u32,
        count: usize,
        planes: usize,
        imported: Vec<Vec<DmaBuf>>,
    ) -> Arc<Self> {
        let state = State {
            device: Some(device.clone()),
            slots: vec![Place::Idle; count],
            queued: 0,
            free_copies: None,
            stranded: false,
            is_reported: false,
            was_queued: false,
            signal: None,
            awaits_queued: false,
        };
        Arc::new(Self { kind, memory, imported, planes, state: Mutex::new(state) })
    }

    pub(super) fn memory(&self) -> u32 {
        self.memory
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is harmless: the state is consistent at every place that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an empty buffer on a capture queue.
    fn queue_empty(&self, state: &mut State, slot: usize) -> Result<()> {
        let Some(device) = &state.device else { return Ok(()) };
        let mut buffer = Buffer::new(self.kind, self.memory, slot as u32, self.planes);
        if self.memory == MEMORY_DMABUF {
            for (i, memory) in self.imported.get(slot).into_iter().flatten().enumerate() {
                let length = u32::try_from(memory.size_bytes()).unwrap_or(u32::MAX);
                buffer.set_plane(i, BufferPlane { length, ..BufferPlane::default() }, Some(memory.as_fd()));
            }
        }
        if let Err(e) = qbuf(device.as_fd(), &mut buffer) {
            state.stranded = true;
            return Err(device.failed("VIDIOC_QBUF", e).detail(format!("{}; buffer {slot}", e.desc())));
        }
        state.slots[slot] = Place::Queued;
        state.queued += 1;
        state.was_queued = true;
        Ok(())
    }

    /// Sets `signal` from now on, when a lease that ends on another thread concerns the station.
    pub(super) fn signal_by(&self, signal: &Arc<Signal>) {
        self.lock().signal = Some(Arc::clone(signal));
    }

    /// Returns `true` if a buffer is queued. If not, the signal is set when the end of a lease queues one.
    pub(super) fn is_queued_or_signal(&self) -> bool {
        let mut state = self.lock();
        state.awaits_queued = state.queued == 0;
        state.queued > 0
    }

    /// Returns `true` if a buffer was queued since STREAMON. If not, the signal is set when the end of a lease queues
    /// one.
    pub(super) fn was_queued_or_signal(&self) -> bool {
        let mut state = self.lock();
        state.awaits_queued = !state.was_queued;
        state.was_queued
    }

    /// Queues every idle capture buffer. Returns the first error.
    pub(super) fn queue_all(&self) -> Result<()> {
        self.queue_idle(&mut self.lock())
    }

    fn queue_idle(&self, state: &mut State) -> Result<()> {
        state.stranded = false;
        let mut done = Ok(());
        for slot in 0..state.slots.len() {
            let has_room = state.free_copies.as_ref().map_or(true, |free| state.queued < free.len());
            if state.slots[slot] == Place::Idle && has_room {
                done = done.and(self.queue_empty(state, slot));
            }
        }
        done
    }

    /// Retries returns that failed. Returns the error if they fail again, and only once until one succeeds: the other
    /// buffers of the stream are not held up.
    pub(super) fn settle(&self) -> Result<()> {
        let state = &mut *self.lock();
        if !state.stranded {
            return Ok(());
        }
        let retried = self.queue_idle(state);
        if retried.is_err() {
            if std::mem::replace(&mut state.is_reported, true) {
                return Ok(());
            }
            // The signal triggers the next call, which tries once more.
            if let Some(signal) = &state.signal {
                signal.set();
            }
        } else {
            state.is_reported = false;
        }
        retried
    }

    /// Marks a slot of an output queue as queued. The caller has made the ioctl.
    pub(super) fn mark_queued(&self, slot: usize) {
        let mut state = self.lock();
        if let Some(place) = state.slots.get_mut(slot) {
            *place = Place::Queued;
            state.queued += 1;
        }
    }

    /// Marks a slot that DQBUF returned as leased. Returns `false` if the driver did not have it.
    pub(super) fn mark_dequeued(&self, slot: usize) -> bool {
        let mut state = self.lock();
        match state.slots.get_mut(slot) {
            Some(place) if *place == Place::Queued => *place = Place::Leased,
            _ => return false,
        }
        state.queued -= 1;
        true
    }

    /// Makes the frames copies, in this many slots.
    pub(super) fn copy_into(&self, count: usize) {
        self.lock().free_copies = Some((0..count).collect());
    }

    /// Takes a free slot for a copy.
    pub(super) fn take_copy(&self) -> Option<usize> {
        self.lock().free_copies.as_mut()?.pop_front()
    }

    /// Takes a buffer back that was copied, and queues it if there is room for another copy. A failure is kept for the
    /// next call.
    pub(super) fn give_back(&self, slot: usize) {
        let state = &mut *self.lock();
        if let Some(place) = state.slots.get_mut(slot) {
            *place = Place::Idle;
        }
        let queued = self.queue_idle(state);
        state.note_return(queued);
    }

    /// Takes an idle slot, for the caller of an output queue to fill.
    pub(super) fn take(&self) -> Option<usize> {
        let mut state = self.lock();
        let slot = state.slots.iter().position(|&p| p == Place::Idle)?;
        state.slots[slot] = Place::Leased;
        Some(slot)
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().queued
    }

    /// Stops the queue (STREAMOFF). The buffers that the driver had are idle then.
    pub(super) fn stop(&self) -> std::result::Result<(), nix::errno::Errno> {
        let mut state = self.lock();
        let Some(device) = &state.device else { return Ok(()) };
        let done = streamoff(device.as_fd(), self.kind);
        if done.is_ok() {
            // Capture buffers become idle. The queue holds the leases of output buffers, and ends them.
            let place = if self.kind.is_output() { Place::Leased } else { Place::Idle };
            state.slots.iter_mut().filter(|p| **p == Place::Queued).for_each(|p| *p = place);
            // The next start queues a buffer whose return failed.
            (state.queued, state.was_queued, state.stranded, state.is_reported) = (0, false, false, false);
        }
        done
    }

    /// Detaches the generation from its device.
    pub(super) fn orphan(&self) {
        self.lock().device = None;
    }
}

/// The end of a lease: QBUF on a capture queue, the free list of an output queue.
pub(super) struct MmapOwner(pub(super) Arc<MmapBuffers>);

impl BufferOwner for MmapOwner {
    fn release(&self, slot: usize) {
        let mmap = &*self.0;
        let state = &mut *mmap.lock();
        let Some(place) = state.slots.get_mut(slot) else { return };
        *place = Place::Idle;
        if mmap.kind.is_output() {
            return;
        }
        let queued = mmap.queue_empty(state, slot);
        state.note_return(queued);
    }
}

impl State {
    /// Notes that the end of a lease has queued a buffer, or failed to.
    fn note_return(&mut self, queued: Result<()>) {
        let is_news = match queued {
            Ok(()) => self.was_queued && std::mem::take(&mut self.awaits_queued),
            // The next call tries again.
            Err(_) => true,
        };
        if let Some(signal) = self.signal.as_ref().filter(|_| is_news) {
            signal.set();
        }
    }
}

/// The end of a lease on a copy: the driver gets a buffer that waited for room.
pub(super) struct CopyOwner(pub(super) Arc<MmapBuffers>);

impl BufferOwner for CopyOwner {
    fn release(&self, slot: usize) {
        let state = &mut *self.0.lock();
        if let Some(free) = &mut state.free_copies {
            free.push_back(slot);
        }
        let queued = self.0.queue_idle(state);
        state.note_return(queued);
    }
}
