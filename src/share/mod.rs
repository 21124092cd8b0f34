//! Lends a source's frames to other processes, by file descriptor and without a copy.
//!
//! A [`Publisher`] lends the buffers of a camera or another source. A [`Subscriber`] in another process receives the
//! frames and holds leases on them. Each subscriber has a quota of buffers, so a subscriber that stops does not stop
//! the others. A subscriber's [`Policy`] decides what happens to frames for which the subscriber has no room.
//!
//! The publisher, with a test pattern instead of a camera:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use framelease::capture::{FrameSource, TestPattern};
//! use framelease::format::Size;
//! use framelease::share::Publisher;
//! use framelease::{wait, Station};
//!
//! let mut source = TestPattern::builder(Size::new(640, 480)).start()?;
//! let mut publisher = Publisher::builder("/run/camera/socket").bind()?;
//! publisher.announce(source.buffers()?)?;
//! loop {
//!     wait(&[&source, &publisher], Duration::from_secs(10))?;
//!     publisher.dispatch()?; // Subscribers come and go here.
//!     if let Some(frame) = source.try_recv()?.frame() {
//!         let _ = publisher.try_publish(frame)?;
//!     }
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), framelease::Error>(())
//! ```
//!
//! [`Subscriber`] shows the other side. [`Aligned`] receives from several publishers, and gives frames that were taken
//! at the same time. [`guide::protocol`](crate::guide::protocol) describes the messages, for peers in other languages.

mod aligned;
mod peer_info;
mod policy;
mod publisher;
mod subscriber;
#[cfg(feature = "unixfd")]
mod unixfd;
mod wire;

pub use aligned::{Aligned, AlignedEvent, AlignedStats};
pub use peer_info::PeerInfo;
pub use policy::{Policy, Rate};
#[cfg(feature = "unixfd")]
pub use publisher::UnixfdTerms;
pub use publisher::{Publisher, PublisherBuilder, PublisherEvent, PublisherStats, SubscriberStats};
pub use subscriber::{ReceiverStats, Reconnect, Subscriber, SubscriberBuilder, SubscriberEvent};
#[cfg(feature = "unixfd")]
pub use subscriber::{UnixfdSubscriber, UnixfdSubscriberBuilder};
#[cfg(fuzzing)]
pub use wire::reads_as_written;
