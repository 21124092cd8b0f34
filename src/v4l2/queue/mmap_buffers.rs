//! The buffers of one queue generation: which of them the driver has, and the way back from the last lease.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dmabuf::DmaBuf;
use crate::error::{Error, Result};
use crate::frame::BufferOwner;
use crate::sys::signal::Signal;
use crate::sys::v4l2::BufType;
use crate::sys::v4l2::MEMORY_DMABUF;
use crate::sys::v4l2_calls::{qbuf, streamoff, Buffer, BufferPlane};
use crate::v4l2::device::Device;

/// Shared by the queue and the leases of its buffers.
///
/// QBUF is made under the mutex, so that a lease that ends on another thread and the queue never disagree about who
/// has a buffer; DQBUF is not, since it hands out what nobody else knows yet. Once the queue gives the generation up,
/// `device` is gone: later returns do nothing, and the memory lives as long as its leases.
pub(super) struct MmapBuffers {
    kind: BufType,
    memory: u32,
    /// Per slot, for `MEMORY_DMABUF`.
    imported: Vec<Vec<DmaBuf>>,
    planes: usize,
    state: Mutex<State>,
}

struct State {
    device: Option<Device>,
    slots: Vec<Place>,
    queued: usize,
    /// The first error of a return, for the queue's next call.
    error: Option<Error>,
    /// A return failed: its slot is idle, and is tried again.
    stranded: bool,
    /// A buffer was queued since the last STREAMON: polling the device is safe.
    was_queued: bool,
    /// Makes the station's descriptor readable, for what happens on other threads.
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
    /// Slots at home: with `memory` imported, or of the driver's own (`MEMORY_MMAP`).
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
            error: None,
            stranded: false,
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

    /// QBUF of an empty buffer on a capture queue.
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

    /// From here on `signal` is set when a lease that ends on another thread is something for the station to know.
    pub(super) fn signal_by(&self, signal: &Arc<Signal>) {
        self.lock().signal = Some(Arc::clone(signal));
    }

    /// `true` if a buffer is queued. If none is, the signal is set when the end of a lease queues one.
    pub(super) fn is_queued_or_signal(&self) -> bool {
        let mut state = self.lock();
        state.awaits_queued = state.queued == 0;
        state.queued > 0
    }

    /// `true` if a buffer was queued since STREAMON. If none was, the signal is set when the end of a lease queues one.
    pub(super) fn was_queued_or_signal(&self) -> bool {
        let mut state = self.lock();
        state.awaits_queued = !state.was_queued;
        state.was_queued
    }

    /// Queues every capture buffer that is at home.
    pub(super) fn queue_all(&self) -> Result<()> {
        let state = &mut *self.lock();
        state.stranded = false;
        for slot in 0..state.slots.len() {
            if state.slots[slot] == Place::Idle {
                self.queue_empty(state, slot)?;
            }
        }
        Ok(())
    }

    /// The kept error of an earlier return, if any; else brings buffers back to the driver whose return failed.
    pub(super) fn settle(&self) -> Result<()> {
        let mut state = self.lock();
        if let Some(error) = state.error.take() {
            // The return is tried again by the next call, which this brings about.
            if let Some(signal) = state.signal.as_ref().filter(|_| state.stranded) {
                signal.set();
            }
            return Err(error);
        }
        if !state.stranded {
            return Ok(());
        }
        drop(state);
        self.queue_all()
    }

    /// Marks a slot of an output queue as queued; the caller has made the ioctl.
    pub(super) fn mark_queued(&self, slot: usize) {
        let mut state = self.lock();
        if let Some(place) = state.slots.get_mut(slot) {
            *place = Place::Queued;
            state.queued += 1;
        }
    }

    /// Marks a slot that DQBUF returned as lent. `false` if the driver did not have it.
    pub(super) fn mark_dequeued(&self, slot: usize) -> bool {
        let mut state = self.lock();
        match state.slots.get_mut(slot) {
            Some(place) if *place == Place::Queued => *place = Place::Leased,
            _ => return false,
        }
        state.queued -= 1;
        true
    }

    /// Takes a slot that is at home, for an output queue's user to fill.
    pub(super) fn take(&self) -> Option<usize> {
        let mut state = self.lock();
        let slot = state.slots.iter().position(|&p| p == Place::Idle)?;
        state.slots[slot] = Place::Leased;
        Some(slot)
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().queued
    }

    /// STREAMOFF: what the driver had is at home again.
    pub(super) fn stop(&self) -> std::result::Result<(), nix::errno::Errno> {
        let mut state = self.lock();
        let Some(device) = &state.device else { return Ok(()) };
        let done = streamoff(device.as_fd(), self.kind);
        if done.is_ok() {
            // A capture buffer is nobody's now; an output buffer's lease is held by the queue, which ends it.
            let place = if self.kind.is_output() { Place::Leased } else { Place::Idle };
            state.slots.iter_mut().filter(|p| **p == Place::Queued).for_each(|p| *p = place);
            (state.queued, state.was_queued) = (0, false);
            // A return that failed before is made good by the next start.
            state.error = None;
        }
        done
    }

    /// Cuts the generation loose from its device.
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
        let is_news = match mmap.queue_empty(state, slot) {
            Ok(()) => std::mem::take(&mut state.awaits_queued),
            Err(e) => {
                state.error.get_or_insert(e);
                true
            }
        };
        if let Some(signal) = state.signal.as_ref().filter(|_| is_news) {
            signal.set();
        }
    }
}
