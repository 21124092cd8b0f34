//! Results of an exchange with a peer, in either protocol.

use crate::share::wire::ToPublisher;

/// How much of a pool [`Protocol::announce`](super::protocol::Protocol::announce) has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// Everything was sent.
    All,
    /// The peer's queue is full: try again later.
    Full,
    /// The peer has not answered earlier messages. Descriptors must not pile up in the queue of a stopped peer.
    Unanswered,
}

/// What [`Protocol::receive`](super::protocol::Protocol::receive) has read.
pub(super) enum Incoming {
    Nothing,
    /// A message of a later version, which is skipped.
    Skipped,
    Message(ToPublisher),
    /// A `unixfdsrc` released the lease of this generation.
    #[cfg(feature = "unixfd")]
    Released(u64),
}

impl Incoming {
    /// Returns `true` if the peer has sent this after it received something. It may have sent HELLO before this
    /// publisher accepted the connection.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Message(message) => !matches!(message, ToPublisher::Hello(_)),
            #[cfg(feature = "unixfd")]
            Self::Released(_) => true,
            Self::Nothing | Self::Skipped => false,
        }
    }
}

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The peer hung up, or its socket failed.
    Gone,
    /// The peer broke the protocol.
    Protocol(String),
    /// Not the peer's fault: its protocol cannot describe the source's format.
    #[cfg(feature = "unixfd")]
    Unspeakable(String),
}
