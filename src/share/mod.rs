//! Fan-out: one source's frames to other processes, by file descriptor and without a copy.
//!
//! A [`Publisher`] lends its source's buffers, a [`Subscriber`] holds leases on them. `docs/protocol.md` has the bytes.

mod policy;
mod publisher;
mod subscriber;
#[cfg(feature = "unixfd")]
mod unixfd;
mod wire;

pub use policy::{Policy, Rate};
#[cfg(feature = "unixfd")]
pub use publisher::UnixfdTerms;
pub use publisher::{PeerInfo, Publisher, PublisherBuilder, PublisherEvent, PublisherStats, SubscriberStats};
pub use subscriber::{ReceiverStats, Reconnect, Subscriber, SubscriberBuilder, SubscriberEvent};
#[cfg(feature = "unixfd")]
pub use subscriber::{UnixfdSubscriber, UnixfdSubscriberBuilder};
#[cfg(fuzzing)]
pub use wire::reads_as_written;
