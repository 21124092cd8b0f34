//! The interface that a camera, a test pattern and a replay share.

use std::fmt;

use crate::error::{Error, Result};
use crate::format::{FrameInterval, Layout};
use crate::frame::{BufferSet, Frame, Packet};
use crate::station::{sealed, FrameEvent, Station};
use crate::v4l2::{self, Device};

/// An event of a frame source.
#[derive(Debug)]
#[non_exhaustive]
pub enum CameraEvent {
    /// A frame. Its buffer returns to the camera when the last clone is dropped.
    ///
    /// If [`FrameMeta::flags`](crate::frame::FrameMeta::flags) contain `ERROR`, the content may be damaged. If
    /// `FrameMeta::lost` is not 0, frames are missing before this one. The stream continues in both cases.
    Frame(Frame),
    /// A coded frame of a camera that was opened with [`CameraBuilder::packets`](super::CameraBuilder::packets). Its
    /// buffer returns to the camera when the last clone is dropped. Its sequence number is that of the camera's frame.
    /// A gap means that frames were lost.
    Packet(Packet),
    /// The device was unplugged, its driver failed, or the input lost its signal. Leased frames stay valid.
    Lost(Error),
    /// The device or the signal is back. The camera already streams again if only the signal was lost, or if
    /// [`Reopen::Always`](super::Reopen::Always) is set. Otherwise, call [`Camera::reopen`](super::Camera::reopen).
    Returned,
    /// The source changed, or the device came back with another format. The frames that follow have this layout and are
    /// in new buffers.
    Changed(Layout),
    /// An event of the [device](super::Camera::device), of a kind that the caller [subscribed](v4l2::Device::subscribe)
    /// to.
    Device(v4l2::Event),
}

impl sealed::Sealed for CameraEvent {}

impl FrameEvent for CameraEvent {
    fn frame_or_event(self) -> std::result::Result<Frame, Self> {
        match self {
            Self::Frame(frame) => Ok(frame),
            event => Err(event),
        }
    }
}

/// The common interface of [`Camera`](super::Camera), [`TestPattern`](super::TestPattern) and
/// [`FrameReplay`](crate::replay::FrameReplay). A program that uses this trait can also run without a camera. Types
/// outside of this crate cannot implement it.
///
/// ```no_run
/// use framelease::capture::{Camera, FrameSource, TestPattern};
/// use framelease::format::Size;
/// use framelease::ErrorKind;
///
/// fn open() -> framelease::Result<Box<dyn FrameSource>> {
///     match Camera::builder().open() {
///         Ok(camera) => Ok(Box::new(camera)),
///         Err(error) if error.kind() == ErrorKind::NotFound => {
///             eprintln!("{error}; using the test pattern");
///             Ok(Box::new(TestPattern::builder(Size::new(1280, 720)).start()?))
///         }
///         Err(error) => Err(error),
///     }
/// }
/// # open()?;
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// A function that takes a camera or a test pattern:
///
/// ```
/// use std::time::Duration;
/// use framelease::capture::{FrameSource, TestPattern};
/// use framelease::format::Size;
/// use framelease::Received;
///
/// fn first_frame(source: &mut dyn FrameSource) -> framelease::Result<()> {
///     println!("{} buffers of {}", source.buffers()?.slots(), source.layout()?);
///     if let Received::Item(event) = source.recv(Duration::from_secs(1))? {
///         println!("{event:?}");
///     }
///     Ok(())
/// }
/// first_frame(&mut TestPattern::builder(Size::new(64, 48)).start()?)?;
/// # Ok::<(), framelease::Error>(())
/// ```
pub trait FrameSource: Station<Event = CameraEvent> + fmt::Debug + Send {
    /// Returns the present buffers of the source, to import or announce each buffer once.
    ///
    /// # Errors
    /// `State` while the source has no buffers: after it was lost, or after a failed change of format. `Unsupported`
    /// for a camera that gives [packets](super::CameraBuilder::packets).
    fn buffers(&self) -> Result<&BufferSet>;

    /// Returns the exact layout of the frames.
    ///
    /// # Errors
    /// `State` while the source has no buffers.
    fn layout(&self) -> Result<&Layout> {
        self.buffers().map(BufferSet::layout)
    }

    /// Returns the time between frames, if it is known.
    fn interval(&self) -> Option<FrameInterval>;

    /// Returns the counts since the source was opened.
    fn stats(&self) -> CameraStats;

    /// Returns the V4L2 device, or `None` for a source without a device.
    fn device(&self) -> Option<&Device>;

    /// Opens the device again and continues. The file descriptor stays the same. Does nothing for a source without
    /// a device.
    ///
    /// # Errors
    /// `NotFound` until the device is back. Other errors are those of
    /// [`CameraBuilder::open`](super::CameraBuilder::open).
    fn reopen(&mut self) -> Result<()>;
}

/// Counts of a source since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CameraStats {
    /// Frames that the source gave.
    pub frames: u64,
    /// Frames that the driver lost, counted from the gaps in its sequence numbers.
    pub lost: u64,
    /// Frames with the flag `ERROR`. The count `frames` includes these frames.
    pub errors: u64,
    /// Bytes that the CPU copied, if [`CameraBuilder::allow_copy`](super::CameraBuilder::allow_copy) was needed.
    pub copied_bytes: u64,
    /// Buffers that are leased now, by this process or by a publisher for its subscribers.
    pub leased: usize,
    /// Buffers that the driver has now.
    pub queued: usize,
}
