//! Releases for a `unixfdsink`: one RELEASE_BUFFER for each buffer, from any thread.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use crate::frame::BufferOwner;
use crate::share::unixfd::wire::RELEASE_BUFFER;
use crate::sys::signal::Signal;
use crate::sys::{socket, wait};

/// The most bytes of releases that a sink may leave unread, besides those in its socket: about four thousand releases.
pub(super) const MAX_UNSENT: usize = 64 << 10;

/// A connection to a sink, shared by the subscriber and the owners of its frames' buffers.
pub(super) struct PendingReleases {
    socket: OwnedFd,
    /// How many frames the caller holds at a time.
    hold: usize,
    /// Set when a release has changed what the subscriber can do.
    signal: Signal,
    /// The connection is closed, so no lease is valid.
    closed: AtomicBool,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Buffers that were not given back. Allocated at the start.
    out: Vec<Out>,
    /// Releases for which the socket had no room.
    unsent: Vec<u8>,
    /// The subscriber has a frame that waits for another to be released.
    is_starving: bool,
    is_signaled: bool,
}

#[derive(Debug)]
struct Out {
    set: u32,
    slot: usize,
    id: u64,
}

impl PendingReleases {
    /// `waiting`: how many buffers are out besides those that the caller holds.
    pub(super) fn new(socket: OwnedFd, hold: usize, waiting: usize) -> Result<Arc<Self>, Errno> {
        let most = hold + waiting;
        let ledger =
            Ledger { out: Vec::with_capacity(most), unsent: Vec::with_capacity(16 * most), ..Ledger::default() };
        let signal = Signal::new()?;
        Ok(Arc::new(Self { socket, hold, signal, closed: AtomicBool::new(false), ledger: Mutex::new(ledger) }))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Ends the connection. Closing the descriptor would not: frames that are held keep the socket open, and the sink
    /// would wait for a reader.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        socket::hang_up(self.socket.as_fd());
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.ledger().out.iter().any(|o| o.id == id)
    }

    /// Returns `true` if the slot's release is still to come. The slot must not be lent until then: the frame's lease
    /// ends a moment earlier.
    pub(super) fn is_out(&self, set: u32, slot: usize) -> bool {
        self.ledger().out.iter().any(|o| (o.set, o.slot) == (set, slot))
    }

    pub(super) fn lend(&self, set: u32, slot: usize, id: u64) {
        self.ledger().out.push(Out { set, slot, id });
    }

    /// Returns `true` if the caller may get another frame, when `waiting` of the buffers that are out wait here. If
    /// not, the signal is set as soon as it may.
    pub(super) fn has_credit(&self, waiting: usize) -> bool {
        let mut ledger = self.ledger();
        let has = ledger.out.len() < self.hold + waiting;
        ledger.is_starving = !has;
        has
    }

    fn release(&self, set: u32, slot: usize) {
        let mut ledger = self.ledger();
        let Some(at) = ledger.out.iter().position(|o| (o.set, o.slot) == (set, slot)) else { return };
        let id = ledger.out.swap_remove(at).id;
        self.owe(ledger, id);
    }

    /// Releases a buffer that was never lent.
    pub(super) fn give_back(&self, id: u64) {
        self.owe(self.ledger(), id);
    }

    fn owe(&self, mut ledger: MutexGuard<'_, Ledger>, id: u64) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        ledger.unsent.extend_from_slice(&RELEASE_BUFFER.to_ne_bytes());
        ledger.unsent.extend_from_slice(&8u32.to_ne_bytes());
        ledger.unsent.extend_from_slice(&id.to_ne_bytes());
        // If the socket was full, the subscriber tries again.
        let is_left = ledger.unsent.len() > 16 || !self.send(&mut ledger.unsent);
        if is_left || ledger.is_starving {
            self.set(&mut ledger);
        }
    }

    /// Sets the signal: there is more work for the subscriber.
    pub(super) fn wake(&self) {
        self.set(&mut self.ledger());
    }

    /// Needs the lock: the signal must not be set after the `clear` that belongs to the flag.
    fn set(&self, ledger: &mut Ledger) {
        if !std::mem::replace(&mut ledger.is_signaled, true) {
            self.signal.set();
        }
    }

    /// Sends the releases that found no room. Returns how many bytes remain. Clears the signal, because the subscriber
    /// is now working.
    pub(super) fn flush(&self) -> usize {
        let mut ledger = self.ledger();
        ledger.is_starving = false;
        if std::mem::take(&mut ledger.is_signaled) {
            self.signal.clear();
        }
        self.send(&mut ledger.unsent);
        ledger.unsent.len()
    }

    /// Returns `true` if none remains. If the sink is gone, nothing is sent; the reader detects that.
    fn send(&self, unsent: &mut Vec<u8>) -> bool {
        while !unsent.is_empty() {
            match socket::send_some(self.socket.as_fd(), unsent, &[]) {
                Ok(Some(sent)) => drop(unsent.drain(..sent.min(unsent.len()))),
                Ok(None) => return false,
                Err(_) => unsent.clear(),
            }
        }
        true
    }
}

impl fmt::Debug for PendingReleases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PendingReleases({:?}, {:?})", self.socket, self.ledger())
    }
}

/// The owner of one set's buffers: sends RELEASE_BUFFER when the last clone of a frame is dropped.
#[derive(Debug)]
pub(super) struct SinkOwner {
    pub(super) owed: Arc<PendingReleases>,
    pub(super) set: u32,
}

impl BufferOwner for SinkOwner {
    fn release(&self, slot: usize) {
        self.owed.release(self.set, slot);
    }

    fn max_leases(&self) -> Option<usize> {
        Some(self.owed.hold)
    }

    fn is_valid(&self, _slot: usize) -> bool {
        !self.owed.closed.load(Ordering::Acquire) && !wait::is_hung_up(self.owed.socket.as_fd(), None)
    }
}
