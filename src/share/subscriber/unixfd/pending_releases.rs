//! What is owed to a `unixfdsink`: RELEASE_BUFFER for each buffer, from any thread.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use crate::frame::BufferOwner;
use crate::share::unixfd::wire::RELEASE_BUFFER;
use crate::sys::signal::Signal;
use crate::sys::socket;

/// Bytes of releases that a sink may leave unread, beside what its socket holds: some four thousand.
pub(super) const MAX_UNSENT: usize = 64 << 10;

/// A connection to a sink, shared by the subscriber and the homes of its frames.
pub(super) struct PendingReleases {
    socket: OwnedFd,
    /// Frames that the subscriber's user has at a time.
    hold: usize,
    /// Set when a release has changed what the subscriber can do.
    signal: Signal,
    /// The connection is over, and with it every lease.
    closed: AtomicBool,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Buffers that are not given back. Room for them is made at the start.
    out: Vec<Out>,
    /// Releases that the socket had no room for.
    unsent: Vec<u8>,
    /// The subscriber has a frame that waits for another to be released.
    is_starving: bool,
    is_signalled: bool,
}

#[derive(Debug)]
struct Out {
    set: u32,
    slot: usize,
    id: u64,
}

impl PendingReleases {
    /// `waiting`: buffers that are out beside those that the user holds.
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

    /// Ends the connection. Not by closing: frames that are held have the socket, and nobody would read it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        socket::hang_up(self.socket.as_fd());
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.ledger().out.iter().any(|o| o.id == id)
    }

    /// Whether a slot is to be released yet. Only then it may be lent: its frame's lease ends a moment earlier.
    pub(super) fn is_out(&self, set: u32, slot: usize) -> bool {
        self.ledger().out.iter().any(|o| (o.set, o.slot) == (set, slot))
    }

    pub(super) fn lend(&self, set: u32, slot: usize, id: u64) {
        self.ledger().out.push(Out { set, slot, id });
    }

    /// Whether another frame may go to the user while so many of those that are out wait here. If not, the signal tells
    /// when.
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
        // A socket that was full is tried again by the subscriber.
        let is_left = ledger.unsent.len() > 16 || !self.send(&mut ledger.unsent);
        if is_left || ledger.is_starving {
            self.set(&mut ledger);
        }
    }

    /// Sets the signal: the subscriber has more to do than it did.
    pub(super) fn wake(&self) {
        self.set(&mut self.ledger());
    }

    /// Under the lock: it must not be set behind the `clear` that the flag caused.
    fn set(&self, ledger: &mut Ledger) {
        if !std::mem::replace(&mut ledger.is_signalled, true) {
            self.signal.set();
        }
    }

    /// Sends what could not be sent before; how many bytes are left. Clears the signal: the subscriber is at work.
    pub(super) fn flush(&self) -> usize {
        let mut ledger = self.ledger();
        ledger.is_starving = false;
        if std::mem::take(&mut ledger.is_signalled) {
            self.signal.clear();
        }
        self.send(&mut ledger.unsent);
        ledger.unsent.len()
    }

    /// `true` if nothing is left. A sink that is gone, which who reads finds out, is owed nothing.
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

/// What the frames of one set call when their last clone is dropped.
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
        !self.owed.closed.load(Ordering::Acquire)
    }
}
