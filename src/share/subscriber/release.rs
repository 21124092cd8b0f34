//! Releases: return each lease to the publisher, from any thread.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::reconnect::{Alarm, SHORTEST};
use crate::frame::BufferOwner;
use crate::share::wire::{LeaseId, Releases, ToPublisher, MAX_RELEASES};
use crate::sys::{socket, wait};

/// The longest time that one receive waits.
pub(super) const SLICE: Duration = Duration::from_secs(1);

/// A connection to a publisher, shared by the subscriber and the owners of its frames' buffers.
pub(super) struct Link {
    socket: OwnedFd,
    /// Readable when the publisher's process is gone, even if a forked child keeps the socket open. Empty until the
    /// process is known.
    pidfd: OnceLock<OwnedFd>,
    /// How many frames this process leases at a time.
    hold: usize,
    owed: Mutex<Owed>,
    /// The subscriber's alarm, set while releases are unsent. Not used after the connection is closed.
    alarm: Arc<Alarm>,
    /// The connection is closed, so no lease is valid: the source may fill the buffers again.
    closed: AtomicBool,
}

/// Runs when the subscriber and its frames have dropped the link. Shuts the socket down, because a forked child may
/// still have it open.
impl Drop for Link {
    fn drop(&mut self) {
        socket::hang_up(self.socket.as_fd());
    }
}

/// Leases that the publisher counts as ours. `held` and `unsent` together never exceed `hold`.
struct Owed {
    held: usize,
    /// Releases for which the socket had no room. Allocated at the start.
    unsent: Vec<LeaseId>,
    /// Set while releases are collected to go in one message.
    is_corked: bool,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, hold: u16, alarm: &Arc<Alarm>) -> Arc<Self> {
        let hold = usize::from(hold);
        let owed = Mutex::new(Owed { held: 0, unsent: Vec::with_capacity(hold), is_corked: false });
        let (pidfd, alarm, closed) = (OnceLock::new(), Arc::clone(alarm), AtomicBool::new(false));
        Arc::new(Self { socket, pidfd, hold, owed, alarm, closed })
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if the publisher may send another frame.
    pub(super) fn has_credit(&self) -> bool {
        let owed = self.owed();
        owed.held + owed.unsent.len() < self.hold
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.get()
    }

    /// Notes which process the publisher is. Returns its pidfd.
    pub(super) fn set_pidfd(&self, pidfd: OwnedFd) -> &OwnedFd {
        self.pidfd.get_or_init(|| pidfd)
    }

    /// Returns `true` after the connection has ended, also if nothing has read that yet. One system call.
    fn is_over(&self) -> bool {
        self.is_closed() || wait::is_hung_up(self.socket.as_fd(), self.pidfd().map(AsFd::as_fd))
    }

    /// Closes the link. Later releases are still sent, because a disconnected subscriber's leases end only by them.
    pub(super) fn close(&self) {
        let _owed = self.owed();
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends a message. `false`: the socket is full, or the publisher is gone.
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
            // A closed link has no alarm that would retry later.
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

    /// Collects releases from now on, until [`Link::flush`].
    pub(super) fn cork(&self) {
        self.owed().is_corked = true;
    }

    /// Sends the releases that found no room, several to a message. If some remain, the alarm makes the subscriber's
    /// descriptor readable later. Returns how long a receive may wait before the next call. Without unsent releases
    /// this costs no system call.
    pub(super) fn flush(&self) -> Option<Duration> {
        let mut owed = self.owed();
        owed.is_corked = false;
        let is_done = self.send_unsent(&mut owed);
        if !self.is_closed() {
            self.alarm.set_owing(!is_done);
        }
        match (is_done, owed.held) {
            (false, _) => Some(SHORTEST),
            // Another thread may drop frames while the receive waits, and find no room.
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

/// The leases of one pool of the publisher.
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

    /// Returns `true` if the slot's last lease had this generation.
    pub(super) fn had(&self, id: LeaseId) -> bool {
        let had =
            |s: &RemoteSlot| s.used.load(Ordering::Relaxed) && s.generation.load(Ordering::Relaxed) == id.generation;
        self.slots.get(id.slot as usize).is_some_and(had)
    }

    /// Notes a new lease of a free slot.
    pub(super) fn leased(&self, id: LeaseId) {
        self.link.owed().held += 1;
        if let Some(slot) = self.slots.get(id.slot as usize) {
            slot.used.store(true, Ordering::Relaxed);
            slot.revoked.store(false, Ordering::Relaxed);
            slot.generation.store(id.generation, Ordering::Release);
        }
    }

    /// Revokes a lease.
    pub(super) fn revoke(&self, id: LeaseId) {
        if let Some(slot) = self.slots.get(id.slot as usize) {
            if slot.generation.load(Ordering::Acquire) == id.generation {
                slot.revoked.store(true, Ordering::Release);
            }
        }
    }
}

/// The owner of a remote pool's buffers: sends RELEASE when the last clone of a frame is dropped.
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
        !self.0.slots.get(slot).map_or(true, revoked) && !self.0.link.is_over()
    }
}

/// Runs when the subscriber and its last frame have dropped the pool: none of it is mapped any more.
impl Drop for RemoteOwner {
    fn drop(&mut self) {
        // RETIRED ends the pool's leases. A RELEASE after it would be a protocol violation.
        if self.0.link.send_unsent(&mut self.0.link.owed()) {
            self.0.link.send(&ToPublisher::Retired { pool: self.0.number });
        }
    }
}
