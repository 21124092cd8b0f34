//! The buffers of one queue generation: which of them the driver has, and the way back from the last lease.

use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::dmabuf::DmaBuf;
use crate::error::{Error, Result};
use crate::frame::BufferOwner;
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
    returned: Condvar,
}

struct State {
    device: Option<Device>,
    slots: Vec<Place>,
    queued: usize,
    /// The first error of a return, for the queue's next call.
    error: Option<Error>,
    /// A return failed: its slot waits at home.
    stranded: bool,
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
        };
        Arc::new(Self { kind, memory, imported, planes, state: Mutex::new(state), returned: Condvar::new() })
    }

    pub(super) fn memory(&self) -> u32 {
        self.memory
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in this crate panics under the lock; if a driver of panics ever does, the marks are still whole.
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
        Ok(())
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

    /// Waits until the driver has a buffer to fill or a return failed. `false` if the deadline passed.
    pub(super) fn wait_returned(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.queued == 0 && state.error.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
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
            state.queued = 0;
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
        if !mmap.kind.is_output() {
            if let Err(e) = mmap.queue_empty(state, slot) {
                state.error.get_or_insert(e);
            }
        }
        mmap.returned.notify_one();
    }
}
