//! share
mod connection;
mod lease;
mod ledger;
mod publisher;
mod subscriber;
mod wire;

pub use connection::PeerInfo;
pub use publisher::{Offer, Publisher, PublisherBuilder, PublisherStats, SubscriberStats};
pub use subscriber::{Event, ReceiverStats, Reconnect, Subscriber, SubscriberBuilder};
pub use wire::{Policy, Rate, Reason};
