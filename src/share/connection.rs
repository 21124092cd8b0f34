//! One connection of a publisher: its socket, how far the handshake is, which buffers the peer acknowledged.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

#[cfg(feature = "unixfd")]
use super::unixfd::Face;
use super::wire::{Format, LeaseId, Reason, SlotId, ToPublisher, ToSubscriber, MAX_MESSAGE, MAX_SLOTS};
use crate::dmabuf::DmaBuf;
use crate::frame::{BufferSet, Frame, FrameMeta};
use crate::sys::socket::{self, Block, Credentials, Received};

/// BUFFERs that a peer may owe an answer. Their descriptors stay on their way until it reads them, and the kernel
/// limits how many a user has there (RLIMIT_NOFILE): peers that greet and read nothing would keep newcomers out.
const MAX_UNANSWERED: usize = 8;

/// Who is at the other end of a connection, as the kernel saw it at `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Process id, in the publisher's pid namespace; 0 if it has none there.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// HELLO is awaited, until this time.
    Greeting { deadline_ns: u64 },
    /// Admitted; waits for a pool, or for its buffers to be sent and acknowledged. The first time it must answer
    /// within a time.
    Announcing { deadline_ns: Option<u64> },
    /// Takes frames.
    Active,
    /// Told to go, as soon as there is room for it; stays until its leases are back.
    Expelled { untold: Option<Reason> },
}

/// A pool as the peers know it.
#[derive(Debug)]
pub(super) struct SharedPool {
    pub(super) number: u32,
    pub(super) buffers: BufferSet,
    /// Slots that have memory, and are announced.
    pub(super) filled: usize,
}

impl SharedPool {
    pub(super) fn is_writable(&self) -> bool {
        self.buffers.memory(0).iter().any(DmaBuf::is_writable_by_others)
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// Readable when the peer's process is gone, also while a forked child keeps the socket open.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) info: PeerInfo,
    pub(super) stage: Stage,
    /// The peer's number in the ledger, once admitted.
    pub(super) peer: Option<usize>,
    pub(super) interest: EpollFlags,
    /// A lease is to be revoked, and there was no room to say so.
    pub(super) owes_revoke: bool,
    /// END is to be said when nothing waits for the peer any more; until the next frame, releases wake us.
    pub(super) ending: Ending,
    /// The pool whose FORMAT was sent, and how many of its BUFFERs.
    known: Option<u32>,
    announced: usize,
    acknowledged: u64,
    failed: u64,
    /// FORMATs sent less RETIREDs received: a peer cannot retire more than it was given.
    unretired: u32,
    /// It is a GStreamer `unixfdsrc`.
    #[cfg(feature = "unixfd")]
    unixfd: Option<Face>,
}

/// How far the end of the stream is told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    Due,
    Told,
}

/// How far [`Connection::announce`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// All is said.
    All,
    /// The peer's queue is full: try again later.
    Full,
    /// The peer has not answered what it was told before. A stopped one must not pile up descriptors in its queue.
    Unanswered,
}

/// What [`Connection::receive`] found.
pub(super) enum Incoming {
    Nothing,
    /// A message of a later version, to be skipped.
    Skipped,
    Message(ToPublisher),
    /// A `unixfdsrc` gives back the lease of this generation.
    #[cfg(feature = "unixfd")]
    Released(u64),
}

/// What the peer did that ends its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It hung up, or its socket broke.
    Gone,
    /// It broke the protocol.
    Protocol(String),
    /// Not its fault: its protocol has no word for the source's format.
    #[cfg(feature = "unixfd")]
    Unspeakable(String),
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, credentials: Credentials, deadline_ns: u64) -> Self {
        let Credentials { pid, uid, gid } = credentials;
        Self {
            pidfd: socket::peer_pidfd(socket.as_fd(), pid),
            socket,
            info: PeerInfo { pid, uid, gid },
            stage: Stage::Greeting { deadline_ns },
            peer: None,
            interest: EpollFlags::empty(),
            owes_revoke: false,
            ending: Ending::No,
            unretired: 0,
            known: None,
            announced: 0,
            acknowledged: 0,
            failed: 0,
            #[cfg(feature = "unixfd")]
            unixfd: None,
        }
    }

    /// From here on GStreamer's protocol is spoken.
    #[cfg(feature = "unixfd")]
    pub(super) fn speak_unixfd(&mut self) {
        self.unixfd = Some(Face::default());
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends a message without descriptors. `Ok(false)`: the peer's queue is full.
    pub(super) fn send(&mut self, message: &ToSubscriber) -> Result<bool, Fault> {
        #[cfg(feature = "unixfd")]
        if let Some(face) = &mut self.unixfd {
            return face.say(self.socket.as_fd(), message);
        }
        socket::send(self.socket.as_fd(), message.encode().as_bytes(), &[]).map_err(|_| Fault::Gone)
    }

    /// Sends a frame. `Ok(false)`: the peer's queue is full.
    pub(super) fn send_frame(&mut self, id: LeaseId, frame: &Frame, meta: FrameMeta) -> Result<bool, Fault> {
        #[cfg(feature = "unixfd")]
        if let Some(face) = &mut self.unixfd {
            return face.send_frame(self.socket.as_fd(), id, frame, &meta);
        }
        let _ = frame;
        self.send(&ToSubscriber::Frame(id, meta))
    }

    /// Sends what is left of a message that went in part. `Ok(false)`: something still is.
    pub(super) fn finish(&mut self) -> Result<bool, Fault> {
        #[cfg(feature = "unixfd")]
        if let Some(face) = &mut self.unixfd {
            return face.finish(self.socket.as_fd());
        }
        Ok(true)
    }

    /// Reads one message.
    pub(super) fn receive(&mut self) -> Result<Incoming, Fault> {
        #[cfg(feature = "unixfd")]
        if let Some(face) = &mut self.unixfd {
            return face.receive(self.socket.as_fd());
        }
        let mut buffer = [0; MAX_MESSAGE];
        let len = match socket::receive(self.socket.as_fd(), &mut buffer, Block::DontWait) {
            Ok(Received::Message(len)) => len,
            Ok(Received::WouldBlock) => return Ok(Incoming::Nothing),
            Ok(Received::Closed) | Err(_) => return Err(Fault::Gone),
            Ok(Received::Truncated) => return Err(Fault::Protocol("a message is too long".into())),
            Ok(Received::FdsLost(_)) => return Err(Fault::Protocol("a subscriber sends no descriptors".into())),
        };
        match ToPublisher::decode(&buffer[..len]) {
            Ok(Some(message)) => Ok(Incoming::Message(message)),
            Ok(None) => Ok(Incoming::Skipped),
            Err(e) => Err(Fault::Protocol(e.to_string())),
        }
    }

    /// Tells the peer about the current pool as far as its queue has room and it answers: RETIRE of the old one,
    /// FORMAT, every BUFFER. At most one announcement is unanswered at a time, and a few of its BUFFERs.
    pub(super) fn announce(&mut self, pool: &SharedPool) -> Result<Announced, Fault> {
        #[cfg(feature = "unixfd")]
        if let Some(face) = &mut self.unixfd {
            return face.announce(self.socket.as_fd(), pool.buffers.layout());
        }
        if let Some(old) = self.known.filter(|&old| old != pool.number) {
            if !self.is_answered() {
                return Ok(Announced::Unanswered);
            }
            if !self.send(&ToSubscriber::Retire { pool: old })? {
                return Ok(Announced::Full);
            }
            self.known = None;
        }
        if self.known.is_none() {
            if !self.send(&ToSubscriber::Format(format(pool)))? {
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
            let mut fds = [self.socket.as_fd(); socket::MAX_FDS];
            for (fd, buffer) in fds.iter_mut().zip(memory) {
                *fd = buffer.as_fd();
            }
            let id = SlotId { pool: pool.number, slot: self.announced as u32 };
            let fds = &fds[..memory.len().min(socket::MAX_FDS)];
            match socket::send(self.socket.as_fd(), ToSubscriber::Buffer(id).encode().as_bytes(), fds) {
                Ok(true) => self.announced += 1,
                Ok(false) => return Ok(Announced::Full),
                // EPERM: the peer refuses descriptors (SO_PASSRIGHTS). It cannot be served.
                Err(Errno::EPERM) => return Err(Fault::Protocol("the peer accepts no descriptors".into())),
                Err(_) => return Err(Fault::Gone),
            }
        }
        Ok(Announced::All)
    }

    fn answers(&self) -> usize {
        (self.acknowledged | self.failed).count_ones() as usize
    }

    /// Every BUFFER that was sent is answered.
    fn is_answered(&self) -> bool {
        self.answers() == self.announced
    }

    /// Every BUFFER of the pool is sent and answered.
    pub(super) fn is_ready_for(&self, pool: &SharedPool) -> bool {
        if self.needs_no_announcement() {
            return true;
        }
        self.known == Some(pool.number) && self.announced == pool.filled && self.is_answered()
    }

    /// Notes the answer to a BUFFER. `Ok(true)` when none is owed any more.
    pub(super) fn answered(&mut self, id: SlotId, ok: bool) -> Result<bool, Fault> {
        let bit = 1u64 << (id.slot as usize % MAX_SLOTS);
        let asked = Some(id.pool) == self.known && (id.slot as usize) < self.announced;
        if !asked || (self.acknowledged | self.failed) & bit != 0 {
            return Err(Fault::Protocol(format!("slot {} is answered out of turn", id.slot)));
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

    /// Whether the peer has the buffer that a frame is in.
    pub(super) fn has_buffer(&self, id: LeaseId) -> bool {
        self.needs_no_announcement()
            || Some(id.pool) == self.known && self.acknowledged & (1 << (id.slot as usize % MAX_SLOTS)) != 0
    }

    /// Descriptors go with every frame.
    fn needs_no_announcement(&self) -> bool {
        #[cfg(feature = "unixfd")]
        return self.unixfd.is_some();
        #[cfg(not(feature = "unixfd"))]
        false
    }

    /// Says why, before the caller drops the connection or lets its leases come in. `false`: the peer's queue is full.
    pub(super) fn say_bye(&mut self, reason: Reason) -> bool {
        self.send(&ToSubscriber::Bye(reason)) != Ok(false)
    }
}

fn format(pool: &SharedPool) -> Format {
    let buffers = &pool.buffers;
    Format {
        pool: pool.number,
        slots: pool.filled as u16,
        cpu_reads: buffers.cpu_reads(),
        writable: pool.is_writable(),
        layout: *buffers.layout(),
    }
}
