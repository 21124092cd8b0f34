//! What a subscriber gives, and its counts.

use crate::error::Error;
use crate::frame::{BufferSet, Frame};
use crate::station::{sealed, FrameEvent};

/// What a subscriber gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscriberEvent {
    /// A frame. Its lease goes back to the publisher when the last clone is dropped.
    Frame(Frame),
    /// The frames that follow lie in these buffers and have their [layout](BufferSet::layout). Old frames stay as they are.
    Format(BufferSet),
    /// The publisher paused the stream. The next frame continues it.
    Paused,
    /// The connection was lost, and is retried: the publisher closed it, died, or refused this subscriber
    /// ([`Error::reason`]). Frames that are still held have lost their leases. Only with
    /// [`Reconnect::Always`](super::Reconnect::Always).
    Lost(Error),
    /// The connection is up again, perhaps to another publisher: sequence numbers may begin again.
    Returned,
}

impl sealed::Sealed for SubscriberEvent {}

impl FrameEvent for SubscriberEvent {
    fn into_frame(self) -> Option<Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            _ => None,
        }
    }
}

/// A subscriber's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverStats {
    /// Frames given to the user.
    pub received: u64,
    /// Frames that came and were released unseen, because a newer one was there: [`Policy::Latest`](crate::share::Policy).
    pub skipped: u64,
    /// Frames that were wanted and not given, by the publisher's count, all connections together.
    pub dropped: u64,
    /// Frames that the source itself lost, as far as it reported.
    pub lost: u64,
    /// Leases that the publisher took away.
    pub revoked: u64,
    /// Times the connection came up after the first.
    pub reconnects: u64,
}
