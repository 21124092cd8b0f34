//! One connection of a publisher: its socket, the stage of the handshake, the buffers that the peer acknowledged.

use std::os::fd::AsFd;

use nix::sys::epoll::EpollFlags;

use super::native::NativePeer;
use super::outcome::{Announced, Fault, Incoming};
use super::peer_socket::PeerSocket;
use super::protocol::Protocol;
use super::shared_pool::SharedPool;
#[cfg(feature = "unixfd")]
use super::unixfd::UnixfdPeer;
use crate::error::Reason;
use crate::frame::{Frame, FrameMeta};
use crate::share::peer_info::PeerInfo;
use crate::share::wire::{Bye, LeaseId, SlotId, ToSubscriber};
use crate::sys::socket;

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for HELLO, until this time.
    Greeting { deadline_ns: u64 },
    /// Admitted. Waits for a pool, or for the pool's buffers to be sent and acknowledged. The first pool must be
    /// acknowledged before the deadline.
    Announcing { deadline_ns: Option<u64> },
    /// Takes frames.
    Active,
    /// To be disconnected. `untold` is the reason, until there was room to send it. Stays until its leases are back.
    Expelled { untold: Option<Reason> },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: PeerSocket,
    pub(super) info: PeerInfo,
    pub(super) stage: Stage,
    /// The peer's number in the ledger, once admitted.
    pub(super) peer: Option<usize>,
    pub(super) interest: EpollFlags,
    /// The [`Publisher::round`](super::Publisher) in which its socket was last read.
    pub(super) read_in: u64,
    /// A lease must be revoked, and there was no room to send REVOKE.
    pub(super) owes_revoke: bool,
    /// Whether END is due, once no frame waits for the peer. Until the next frame, releases wake the publisher.
    pub(super) ending: Ending,
    /// A released frame's lease ends when the devices that use its buffer have finished.
    pub(super) waits_for_fences: bool,
    protocol: Protocol,
}

/// Whether a peer was notified of the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    Due,
    Told,
}

impl Connection {
    pub(super) fn new(socket: PeerSocket, info: PeerInfo, deadline_ns: u64) -> Self {
        Self {
            socket,
            info,
            stage: Stage::Greeting { deadline_ns },
            peer: None,
            interest: EpollFlags::empty(),
            read_in: 0,
            owes_revoke: false,
            ending: Ending::No,
            waits_for_fences: false,
            protocol: Protocol::Native(NativePeer::default()),
        }
    }

    /// Switches the connection to GStreamer's protocol.
    #[cfg(feature = "unixfd")]
    pub(super) fn speak_unixfd(&mut self) {
        self.protocol = Protocol::Unixfd(UnixfdPeer::default());
    }

    /// Sends a message without descriptors. `Ok(false)`: the peer's queue is full.
    pub(super) fn send(&mut self, message: &ToSubscriber) -> Result<bool, Fault> {
        self.protocol.send(self.socket.as_fd(), message)
    }

    /// Sends a frame. `Ok(false)`: the peer's queue is full.
    pub(super) fn send_frame(&mut self, id: LeaseId, frame: &Frame, meta: FrameMeta) -> Result<bool, Fault> {
        self.protocol.send_frame(self.socket.as_fd(), id, frame, meta)
    }

    /// Sends the rest of a message that was sent in part. `Ok(false)`: some of it still remains.
    pub(super) fn finish(&mut self) -> Result<bool, Fault> {
        self.protocol.finish(self.socket.as_fd())
    }

    /// Reads one message.
    pub(super) fn receive(&mut self) -> Result<Incoming, Fault> {
        self.protocol.receive(&mut self.socket)
    }

    /// Announces the current pool, as far as the peer's queue has room and the peer answers.
    pub(super) fn announce(&mut self, pool: &SharedPool) -> Result<Announced, Fault> {
        self.protocol.announce(self.socket.as_fd(), pool)
    }

    pub(super) fn is_ready_for(&self, pool: &SharedPool) -> bool {
        self.protocol.is_ready_for(pool)
    }

    pub(super) fn has_buffer(&self, id: LeaseId) -> bool {
        self.protocol.has_buffer(id)
    }

    /// Notes the answer to a BUFFER. `Ok(true)` if every BUFFER is now answered.
    pub(super) fn answered(&mut self, id: SlotId, ok: bool) -> Result<bool, Fault> {
        self.protocol.answered(id, ok)
    }

    /// Notes a RETIRED.
    pub(super) fn retired(&mut self) -> Result<(), Fault> {
        self.protocol.retired()
    }

    /// Notifies a peer whose last frame is unread that newer ones wait. Costs one system call if it has read
    /// everything.
    pub(super) fn say_newer(&mut self, generation: u64) -> Result<bool, Fault> {
        if !self.protocol.drops_stale() || socket::is_read(self.socket.as_fd()) {
            return Ok(true);
        }
        self.send(&ToSubscriber::Newer { generation })
    }

    /// Sends BYE with the reason, before the caller drops the connection or waits for its leases. `false`: the queue is
    /// full.
    pub(super) fn say_bye(&mut self, bye: Bye) -> bool {
        self.send(&ToSubscriber::Bye(bye)) != Ok(false)
    }
}
