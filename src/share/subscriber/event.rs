//! Events and counts of a subscriber.

use crate::error::Error;
use crate::frame::{BufferSet, Frame};
use crate::station::{sealed, FrameEvent};

/// What a subscriber gives: frames, and changes of the stream or the connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscriberEvent {
    /// A frame. Its lease returns to the publisher when the last clone is dropped.
    Frame(Frame),
    /// The next frames are in these buffers and have the [layout](BufferSet::layout) of the buffers. Frames that were
    /// received earlier do not change.
    ///
    /// Comes before the first frame of every pool: after the first connection, after each `Returned`, and when the
    /// publisher's source has new buffers, even if the layout is the same. Import the buffers here.
    Format(BufferSet),
    /// The publisher paused the stream. The next frame continues it.
    Paused,
    /// The connection was lost, because the publisher closed, died, or disconnected this subscriber. [`Error::reason`]
    /// returns the publisher's reason, if the publisher sent one. The subscriber tries to connect again, and reports
    /// `Returned` when it succeeds. The leases of frames that the program still holds have ended. Reported only with
    /// [`Reconnect::Always`](super::Reconnect::Always).
    Lost(Error),
    /// A publisher refused an attempt to connect again. [`Error::reason`] returns the publisher's reason. Each reason
    /// is reported once. The subscriber continues to try. Other attempts that fail, for instance because no publisher
    /// listens, are not reported.
    Refused(Error),
    /// The subscriber is connected again, perhaps to another publisher. So sequence numbers may start again.
    Returned,
}

impl sealed::Sealed for SubscriberEvent {}

impl FrameEvent for SubscriberEvent {
    fn frame_or_event(self) -> std::result::Result<Frame, Self> {
        match self {
            Self::Frame(frame) => Ok(frame),
            event => Err(event),
        }
    }
}

/// Counts of a subscriber since it first connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverStats {
    /// Frames that the program received from the subscriber.
    pub received: u64,
    /// Frames that the subscriber released unseen because a newer frame was there. Only under
    /// [`Policy::Latest`](crate::share::Policy).
    pub skipped: u64,
    /// Frames that the subscriber wanted and that the publisher did not send, over all connections. Together with
    /// `skipped`, these are the frames that the program missed.
    pub dropped: u64,
    /// Frames that the source itself lost: the sum of [`FrameMeta::lost`] over all frames that arrived.
    ///
    /// [`FrameMeta::lost`]: crate::frame::FrameMeta::lost
    pub lost: u64,
    /// Leases that the publisher revoked.
    pub revoked: u64,
    /// How often the subscriber connected again.
    pub reconnects: u64,
    /// `true` while the subscriber watches the publisher's process (pidfd). Otherwise, the end of the process shows
    /// only when its socket closes, which a forked child can delay. Always `false` with a
    /// [`UnixfdSubscriber`](super::UnixfdSubscriber).
    pub watches_process: bool,
}
