//! Frames for other processes: descriptors once, then slot numbers; quotas, policies, deadlines.
//!
//! A [`Publisher`] lends the frames of one source; each [`Subscriber`], in its own process, gets them as the same type
//! [`Frame`](crate::frame::Frame) and may map them, hand them to its own devices, or share them on. Ownership lives in
//! the publisher alone (`docs/protocol.md`).

mod connection;
mod lease;
mod ledger;
mod publisher;
mod receive;
mod reconnect;
mod serve;
mod settings;
mod subscriber;
#[cfg(feature = "unixfd")]
mod unixfd;
mod wire;

pub use connection::PeerInfo;
pub use publisher::{Offer, Publisher, PublisherStats, SubscriberStats};
pub use reconnect::Reconnect;
pub use settings::PublisherBuilder;
pub use subscriber::{Event, ReceiverStats, Subscriber, SubscriberBuilder};
#[cfg(feature = "unixfd")]
pub use unixfd::{UnixfdSubscriber, UnixfdSubscriberBuilder, UnixfdTerms};
#[doc(hidden)]
pub use wire::reads_as_written;
pub use wire::{Policy, Rate, Reason};
