//! What an exchange with a peer came to, in either protocol.

use crate::share::wire::ToPublisher;

/// How far [`Protocol::announce`](super::protocol::Protocol::announce) came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// All is said.
    All,
    /// The peer's queue is full: try again later.
    Full,
    /// The peer has not answered what it was told before. A stopped one must not pile up descriptors in its queue.
    Unanswered,
}

/// What [`Protocol::receive`](super::protocol::Protocol::receive) found.
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
