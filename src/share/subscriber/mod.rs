//! Receives a publisher's frames in another process.

mod builder;
mod event;
mod native;
mod reconnect;
mod release;
mod session;
#[cfg(feature = "unixfd")]
mod unixfd;

pub use self::builder::SubscriberBuilder;
pub use self::event::{ReceiverStats, SubscriberEvent};
pub use self::native::Subscriber;
pub use self::reconnect::Reconnect;
#[cfg(feature = "unixfd")]
pub use self::unixfd::{UnixfdSubscriber, UnixfdSubscriberBuilder};
