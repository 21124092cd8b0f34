//! Fan-out: one source's frames to other processes, by file descriptor and without a copy.
//!
//! A [`Publisher`] lends its source's buffers, a [`Subscriber`] holds leases on them. `docs/protocol.md` has the bytes.

mod policy;
mod publisher;
mod reason;
mod subscriber;
#[cfg(feature = "unixfd")]
mod unixfd;
mod wire;

pub use policy::{Policy, Rate};
#[cfg(feature = "unixfd")]
pub use publisher::UnixfdTerms;
pub use publisher::{Offer, PeerInfo, Publisher, PublisherBuilder, PublisherStats, SubscriberStats};
pub use reason::Reason;
pub use subscriber::{Event, ReceiverStats, Reconnect, Subscriber, SubscriberBuilder};
#[cfg(feature = "unixfd")]
pub use subscriber::{UnixfdSubscriber, UnixfdSubscriberBuilder};
#[cfg(fuzzing)]
pub use wire::reads_as_written;
