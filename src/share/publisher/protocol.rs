//! The protocol that a peer speaks: the library's own, or GStreamer's `unixfd`.

use std::os::fd::BorrowedFd;

use super::native::NativePeer;
use super::outcome::{Announced, Fault, Incoming};
use super::peer_socket::PeerSocket;
use super::shared_pool::SharedPool;
#[cfg(feature = "unixfd")]
use super::unixfd::UnixfdPeer;
use crate::frame::{Frame, FrameMeta};
use crate::share::wire::{LeaseId, SlotId, ToSubscriber};

/// The protocol of one connection, and its state.
#[derive(Debug)]
pub(super) enum Protocol {
    Native(NativePeer),
    #[cfg(feature = "unixfd")]
    Unixfd(UnixfdPeer),
}

impl Protocol {
    /// Sends a message without descriptors. `Ok(false)`: the peer's queue is full.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, message: &ToSubscriber) -> Result<bool, Fault> {
        match self {
            Self::Native(peer) => peer.send(socket, message),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(peer) => peer.say(socket, message),
        }
    }

    /// Sends a frame. `Ok(false)`: the peer's queue is full.
    pub(super) fn send_frame(
        &mut self,
        socket: BorrowedFd<'_>,
        id: LeaseId,
        frame: &Frame,
        meta: FrameMeta,
    ) -> Result<bool, Fault> {
        let _ = frame;
        match self {
            Self::Native(peer) => peer.send(socket, &ToSubscriber::Frame(id, meta)),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(peer) => peer.send_frame(socket, id, frame, &meta),
        }
    }

    /// Sends the rest of a message that was sent in part. `Ok(false)`: some of it still remains.
    pub(super) fn finish(&mut self, socket: BorrowedFd<'_>) -> Result<bool, Fault> {
        let _ = socket;
        match self {
            Self::Native(_) => Ok(true),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(peer) => peer.finish(socket),
        }
    }

    /// Reads one message.
    pub(super) fn receive(&mut self, socket: &mut PeerSocket) -> Result<Incoming, Fault> {
        match self {
            Self::Native(peer) => peer.receive(socket),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(peer) => peer.receive(socket),
        }
    }

    /// Announces the current pool, as far as the peer's queue has room and the peer answers.
    pub(super) fn announce(&mut self, socket: BorrowedFd<'_>, pool: &SharedPool) -> Result<Announced, Fault> {
        match self {
            Self::Native(peer) => peer.announce(socket, pool),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(peer) => peer.announce(socket, pool.buffers.layout()),
        }
    }

    /// Returns `true` if the peer has every buffer of the pool, or if its protocol announces none.
    pub(super) fn is_ready_for(&self, pool: &SharedPool) -> bool {
        match self {
            Self::Native(peer) => peer.is_ready_for(pool),
            // Its descriptors come with every frame.
            #[cfg(feature = "unixfd")]
            Self::Unixfd(_) => true,
        }
    }

    /// Returns `true` if a frame in this buffer can be sent to the peer.
    pub(super) fn has_buffer(&self, id: LeaseId) -> bool {
        match self {
            Self::Native(peer) => peer.has_buffer(id),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(_) => true,
        }
    }

    /// Returns `true` if the peer understands NEWER.
    pub(super) fn drops_stale(&self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// Notes the answer to a BUFFER. `Ok(true)` if every BUFFER is now answered.
    pub(super) fn answered(&mut self, id: SlotId, ok: bool) -> Result<bool, Fault> {
        match self {
            Self::Native(peer) => peer.answered(id, ok),
            // GStreamer's protocol does not have this message.
            #[cfg(feature = "unixfd")]
            Self::Unixfd(_) => Ok(false),
        }
    }

    /// Notes a RETIRED.
    pub(super) fn retired(&mut self) -> Result<(), Fault> {
        match self {
            Self::Native(peer) => peer.retired(),
            #[cfg(feature = "unixfd")]
            Self::Unixfd(_) => Ok(()),
        }
    }
}
