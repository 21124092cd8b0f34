//! The library's own protocol at one connection: which buffers were sent to the peer and acknowledged.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::outcome::{Announced, Fault, Incoming};
use super::peer_socket::PeerSocket;
use super::shared_pool::SharedPool;
use crate::share::wire::{LeaseId, SlotId, ToPublisher, ToSubscriber, MAX_MESSAGE, MAX_SLOTS};
use crate::sys::socket::{self, Received};

/// How many BUFFERs may be unanswered. Their descriptors stay in flight until the peer reads them, and the kernel
/// limits how many a user has in flight (RLIMIT_NOFILE): peers that send HELLO and then do not read would keep new ones
/// out.
const MAX_UNANSWERED: usize = 8;

/// What a native peer was sent and has answered.
#[derive(Debug, Default)]
pub(super) struct NativePeer {
    /// The pool whose FORMAT was sent, and how many of its BUFFERs were sent.
    known: Option<u32>,
    announced: usize,
    acknowledged: u64,
    failed: u64,
    /// FORMATs sent less RETIREDs received: a peer cannot retire more pools than it was sent.
    unretired: u32,
}

impl NativePeer {
    /// Sends a message without descriptors. `Ok(false)`: the peer's queue is full.
    pub(super) fn send(&self, socket: BorrowedFd<'_>, message: &ToSubscriber) -> Result<bool, Fault> {
        socket::send(socket, message.encode().as_bytes(), &[]).map_err(|_| Fault::Gone)
    }

    /// Reads one message.
    pub(super) fn receive(&self, socket: &mut PeerSocket) -> Result<Incoming, Fault> {
        let mut buffer = [0; MAX_MESSAGE];
        let len = match socket.receive(&mut buffer) {
            Ok(Received::Message(len)) => len,
            Ok(Received::WouldBlock | Received::Interrupted) => return Ok(Incoming::Nothing),
            Ok(Received::Closed) | Err(_) => return Err(Fault::Gone),
            Ok(Received::Truncated) => return Err(Fault::Protocol("a message is too long".into())),
            Ok(Received::FdsLost(_)) => {
                return Err(Fault::Protocol("descriptors, which a subscriber does not send".into()))
            }
        };
        match ToPublisher::decode(&buffer[..len]) {
            Ok(Some(message)) => Ok(Incoming::Message(message)),
            Ok(None) => Ok(Incoming::Skipped),
            Err(e) => Err(Fault::Protocol(e.to_string())),
        }
    }

    /// Sends RETIRE of the old pool, FORMAT, and every BUFFER, as far as the peer's queue has room and the peer
    /// answers. At most one announcement and [`MAX_UNANSWERED`] of its BUFFERs are unanswered at a time.
    pub(super) fn announce(&mut self, socket: BorrowedFd<'_>, pool: &SharedPool) -> Result<Announced, Fault> {
        if let Some(old) = self.known.filter(|&old| old != pool.number) {
            if !self.is_answered() {
                return Ok(Announced::Unanswered);
            }
            if !self.send(socket, &ToSubscriber::Retire { pool: old })? {
                return Ok(Announced::Full);
            }
            self.known = None;
        }
        if self.known.is_none() {
            if !self.send(socket, &ToSubscriber::Format(pool.format()))? {
                return Ok(Announced::Full);
            }
            self.known = Some(pool.number);
            self.unretired += 1;
            (self.announced, self.acknowledged, self.failed) = (0, 0, 0);
        }
        while self.announced < pool.filled {
            if self.announced - self.answers() == MAX_UNANSWERED {
                return Ok(Announced::Unanswered);
            }
            let memory = pool.buffers.memory(self.announced);
            let mut fds = [socket; socket::MAX_FDS];
            for (fd, buffer) in fds.iter_mut().zip(memory) {
                *fd = buffer.as_fd();
            }
            let id = SlotId { pool: pool.number, slot: self.announced as u32 };
            let fds = &fds[..memory.len().min(socket::MAX_FDS)];
            match socket::send(socket, ToSubscriber::Buffer(id).encode().as_bytes(), fds) {
                Ok(true) => self.announced += 1,
                Ok(false) => return Ok(Announced::Full),
                // EPERM: the peer refuses descriptors (SO_PASSRIGHTS), so it cannot get frames.
                Err(Errno::EPERM) => return Err(Fault::Protocol("the peer accepts no descriptors".into())),
                Err(_) => return Err(Fault::Gone),
            }
        }
        Ok(Announced::All)
    }

    fn answers(&self) -> usize {
        (self.acknowledged | self.failed).count_ones() as usize
    }

    /// Returns `true` if every BUFFER that was sent is answered.
    fn is_answered(&self) -> bool {
        self.answers() == self.announced
    }

    /// Returns `true` if every BUFFER of the pool was sent and answered.
    pub(super) fn is_ready_for(&self, pool: &SharedPool) -> bool {
        self.known == Some(pool.number) && self.announced == pool.filled && self.is_answered()
    }

    /// Notes the answer to a BUFFER. `Ok(true)` if every BUFFER is now answered.
    pub(super) fn answered(&mut self, id: SlotId, ok: bool) -> Result<bool, Fault> {
        let bit = 1u64 << (id.slot as usize % MAX_SLOTS);
        let asked = Some(id.pool) == self.known && (id.slot as usize) < self.announced;
        if !asked || (self.acknowledged | self.failed) & bit != 0 {
            return Err(Fault::Protocol(format!("the answer about slot {} is out of turn", id.slot)));
        }
        *(if ok { &mut self.acknowledged } else { &mut self.failed }) |= bit;
        Ok(self.is_answered())
    }

    /// Notes a RETIRED.
    pub(super) fn retired(&mut self) -> Result<(), Fault> {
        self.unretired =
            self.unretired.checked_sub(1).ok_or_else(|| Fault::Protocol("a pool is retired twice".into()))?;
        Ok(())
    }

    /// Returns `true` if the peer has the buffer of this frame.
    pub(super) fn has_buffer(&self, id: LeaseId) -> bool {
        Some(id.pool) == self.known && self.acknowledged & (1 << (id.slot as usize % MAX_SLOTS)) != 0
    }
}
