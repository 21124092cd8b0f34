//! What a camera and a test pattern have in common.

use std::fmt;

use crate::error::{Error, Result};
use crate::format::{FrameInterval, Layout};
use crate::frame::{BufferSet, Frame};
use crate::station::{sealed, FrameEvent, Station};
use crate::v4l2::{self, Device};

/// What a camera gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum CameraEvent {
    /// A frame. Its buffer returns to the camera with the last clone.
    ///
    /// Look at [`FrameMeta::flags`](crate::frame::FrameMeta::flags) for `ERROR` (the driver doubts the content) and at
    /// `lost` for a gap before it: neither ends the stream.
    Frame(Frame),
    /// The device was unplugged, its driver gave up, or the input lost its signal. Frames that are out stay valid.
    Lost(Error),
    /// The device or the signal is back. With [`Reopen::Always`](super::Reopen::Always), and after a signal, the camera
    /// streams already; else call [`Camera::reopen`](super::Camera::reopen).
    Returned,
    /// The frames that follow have this layout and lie in new buffers: the source changed, or the device came back with
    /// another format.
    Changed(Layout),
    /// An event that was subscribed to on [`Camera::device`](super::Camera::device).
    Device(v4l2::Event),
}

impl sealed::Sealed for CameraEvent {}

impl FrameEvent for CameraEvent {
    fn into_frame(self) -> Option<Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            _ => None,
        }
    }
}

/// A [`Camera`](super::Camera) or a [`TestPattern`](super::TestPattern), so that a program runs without a camera.
/// Sealed.
pub trait FrameSource: Station<Event = CameraEvent> + fmt::Debug + Send {
    /// Returns the buffers of the present generation, to import or announce each once.
    ///
    /// # Errors
    /// `State` while the source has none: after it was lost, or a change of format failed.
    fn buffers(&self) -> Result<&BufferSet>;

    /// Returns the exact layout of the frames.
    ///
    /// # Errors
    /// As [`FrameSource::buffers`].
    fn layout(&self) -> Result<&Layout> {
        self.buffers().map(BufferSet::layout)
    }

    /// Returns the time between frames, if the source has one.
    fn interval(&self) -> Option<FrameInterval>;

    /// Returns counts since the source was opened.
    fn stats(&self) -> CameraStats;

    /// Returns the device, if there is one.
    fn device(&self) -> Option<&Device>;

    /// Opens the device again and goes on. The descriptor stays. A source without a device has nothing to do.
    ///
    /// # Errors
    /// As [`Camera::reopen`](super::Camera::reopen).
    fn reopen(&mut self) -> Result<()>;
}

/// Counts of a source since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraStats {
    /// Frames given out.
    pub frames: u64,
    /// Frames that the driver lost: gaps in its sequence.
    pub lost: u64,
    /// Frames flagged `ERROR`, which are among `frames`.
    pub errors: u64,
    /// Buffers that are leased now.
    pub leased: usize,
    /// Buffers that the driver has now.
    pub queued: usize,
}
