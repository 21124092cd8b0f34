//! Releases: the return of each lease to the publisher, from any thread.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::reconnect::{Alarm, SHORTEST};
use crate::frame::BufferOwner;
use crate::share::wire::{LeaseId, Releases, ToPublisher, MAX_RELEASES};
use crate::sys::socket;

/// The longest that a receive waits at a time.
pub(super) const SLICE: Duration = Duration::from_secs(1);

/// A connection to a publisher, shared by the subscriber and the homes of its frames.
pub(super) struct Link {
    socket: OwnedFd,
    /// Frames that this process leases at a time.
    hold: usize,
    owed: Mutex<Owed>,
    /// The subscriber's, for what is owed. Not touched when the connection is gone.
    alarm: Arc<Alarm>,
    /// The connection is gone, and with it every lease: the source may fill the buffers again.
    closed: AtomicBool,
}

/// The subscriber and its frames have let the connection go. A forked child may still have the socket.
impl Drop for Link {
    fn drop(&mut self) {
        socket::hang_up(self.socket.as_fd());
    }
}

/// Leases that the publisher counts as ours. Together never more than `hold`.
struct Owed {
    held: usize,
    /// Releases that the socket had no room for. Room for them is made at the start.
    unsent: Vec<LeaseId>,
    /// Releases are collected, to go in one message.
    is_corked: bool,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, hold: u16, alarm: &Arc<Alarm>) -> Arc<Self> {
        let hold = usize::from(hold);
        let owed = Mutex::new(Owed { held: 0, unsent: Vec::with_capacity(hold), is_corked: false });
        Arc::new(Self { socket, hold, owed, alarm: Arc::clone(alarm), closed: AtomicBool::new(false) })
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the publisher may give us another frame.
    pub(super) fn has_credit(&self) -> bool {
        let owed = self.owed();
        owed.held + owed.unsent.len() < self.hold
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Releases are still sent: who was expelled is rid of what it holds by them.
    pub(super) fn close(&self) {
        let _owed = self.owed();
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// `false`: no room, or the publisher is gone.
    pub(super) fn send(&self, message: &ToPublisher) -> bool {
        socket::send(self.socket.as_fd(), message.encode().as_bytes(), &[]).unwrap_or(false)
    }

    fn release(&self, id: LeaseId) {
        let mut owed = self.owed();
        owed.held -= 1;
        if owed.is_corked {
            owed.unsent.push(id);
            return;
        }
        let is_first = owed.unsent.is_empty();
        if is_first && self.send(&ToPublisher::Release(Releases::of(&[id]))) {
            return;
        }
        owed.unsent.push(id);
        if self.is_closed() {
            // It is not tried again.
            self.send_unsent(&mut owed);
        } else if is_first {
            self.alarm.set_owing(true);
        }
    }

    fn send_unsent(&self, owed: &mut Owed) -> bool {
        while !owed.unsent.is_empty() {
            let first = owed.unsent.len().min(MAX_RELEASES);
            if !self.send(&ToPublisher::Release(Releases::of(&owed.unsent[..first]))) {
                return false;
            }
            owed.unsent.drain(..first);
        }
        true
    }

    /// From here on releases are collected, until [`Link::flush`].
    pub(super) fn cork(&self) {
        self.owed().is_corked = true;
    }

    /// Sends what could not be sent before, several to a message; if some is left, the subscriber's descriptor becomes
    /// readable in a while. Returns how long a receive may wait before this is called again. Nothing to do costs no
    /// system call.
    pub(super) fn flush(&self) -> Option<Duration> {
        let mut owed = self.owed();
        owed.is_corked = false;
        let is_done = self.send_unsent(&mut owed);
        if !self.is_closed() {
            self.alarm.set_owing(!is_done);
        }
        match (is_done, owed.held) {
            (false, _) => Some(SHORTEST),
            // Another thread may drop them and find no room.
            (true, 1..) => Some(SLICE),
            (true, 0) => None,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:?})", self.socket)
    }
}

/// The leases of one pool of the publisher's.
#[derive(Debug)]
pub(super) struct RemotePool {
    link: Arc<Link>,
    number: u32,
    slots: Box<[RemoteSlot]>,
}

#[derive(Debug, Default)]
struct RemoteSlot {
    used: AtomicBool,
    generation: AtomicU64,
    revoked: AtomicBool,
}

impl RemotePool {
    pub(super) fn new(link: &Arc<Link>, number: u32, slots: usize) -> Arc<Self> {
        let slots = (0..slots).map(|_| RemoteSlot::default()).collect();
        Arc::new(Self { link: Arc::clone(link), number, slots })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the slot's last lease had this generation.
    pub(super) fn had(&self, id: LeaseId) -> bool {
        let had =
            |s: &RemoteSlot| s.used.load(Ordering::Relaxed) && s.generation.load(Ordering::Relaxed) == id.generation;
        self.slots.get(id.slot as usize).is_some_and(had)
    }

    /// A new lease of a slot that is at home.
    pub(super) fn leased(&self, id: LeaseId) {
        self.link.owed().held += 1;
        if let Some(slot) = self.slots.get(id.slot as usize) {
            slot.used.store(true, Ordering::Relaxed);
            slot.revoked.store(false, Ordering::Relaxed);
            slot.generation.store(id.generation, Ordering::Release);
        }
    }

    /// The publisher takes a lease away.
    pub(super) fn revoke(&self, id: LeaseId) {
        if let Some(slot) = self.slots.get(id.slot as usize) {
            if slot.generation.load(Ordering::Acquire) == id.generation {
                slot.revoked.store(true, Ordering::Release);
            }
        }
    }
}

/// What the frames of a remote pool call when their last clone is dropped.
pub(super) struct RemoteOwner(pub(super) Arc<RemotePool>);

impl BufferOwner for RemoteOwner {
    fn release(&self, slot: usize) {
        if let Some(s) = self.0.slots.get(slot) {
            let generation = s.generation.load(Ordering::Acquire);
            self.0.link.release(LeaseId { pool: self.0.number, slot: slot as u32, generation });
        }
    }

    fn max_leases(&self) -> Option<usize> {
        Some(self.0.link.hold)
    }

    fn is_valid(&self, slot: usize) -> bool {
        let revoked = |s: &RemoteSlot| s.revoked.load(Ordering::Acquire);
        !self.0.link.is_closed() && !self.0.slots.get(slot).map_or(true, revoked)
    }
}

/// The last frame and the subscriber have let the pool go: nothing of it is mapped any more.
impl Drop for RemoteOwner {
    fn drop(&mut self) {
        // RETIRED ends the pool's leases: a RELEASE behind it would be one too many.
        if self.0.link.send_unsent(&mut self.0.link.owed()) {
            self.0.link.send(&ToPublisher::Retired { pool: self.0.number });
        }
    }
}
