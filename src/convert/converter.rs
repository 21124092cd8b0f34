//! The interface of all backends.

use std::fmt;
use std::sync::Arc;

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameMut};
use crate::station::{sealed, FrameEvent, Station, SubmitResult};

/// What a converter gives: finished jobs, failed jobs, and the loss and return of its device.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConverterEvent {
    /// A job has finished. The frame is the job's target, with the sequence number and timestamp of the first source.
    Frame(Frame),
    /// The device or library could not finish a job.
    Failed {
        /// The error that the device or library reported.
        error: Error,
        /// The job's target; `None` if the device did not give it back.
        target: Option<FrameMut>,
    },
    /// The device was unplugged, or its driver or library failed. Each job in flight was reported as
    /// [`Failed`](Self::Failed) before this event.
    Lost(Error),
    /// The device has returned: call [`Converter::reopen`].
    Returned,
}

impl sealed::Sealed for ConverterEvent {}

impl FrameEvent for ConverterEvent {
    fn frame_or_event(self) -> std::result::Result<Frame, Self> {
        match self {
            Self::Frame(frame) => Ok(frame),
            event => Err(event),
        }
    }
}

/// A backend that draws frames into frames. Sealed.
///
/// Jobs finish in the order in which they were submitted. A job in flight holds a lease on each of its sources and on
/// its target. So no camera and no pool reuses these buffers. The leases of the sources end, at the latest, when
/// [`Station::try_recv`] returns the job.
pub trait Converter: Station<Event = ConverterEvent> + fmt::Debug + Send {
    /// Returns the name of the backend and its device or library, for reports: `g2d (libg2d.so.2)`, `m2m
    /// (/dev/video3)`, `vulkan (V3D 7.1.7)`, `cpu`.
    fn name(&self) -> &str;

    /// Checks whether this backend can carry out the plan without an extra copy. Does not touch any frame.
    ///
    /// # Errors
    /// `Unsupported`, with the rule that the plan breaks. The errors of [`auto`](super::auto) contain this text.
    fn check(&self, plan: &Plan) -> Result<()>;

    /// Returns the best layout for a target of this format and size. The strides have the alignment that this backend
    /// needs.
    ///
    /// # Errors
    /// `Unsupported` for an unknown format or a bitstream. `InvalidArgument` for a side that is 0, too large, or not a
    /// multiple of the chroma subsampling.
    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout>;

    /// Begins a job: draws `sources` into `target` as `plan` says. Does not wait for the device.
    ///
    /// The sources are leased until the job is done. `target` comes back as a [`Frame`] of the finished job. If too
    /// many jobs are in flight, the call returns `target` in [`Submitted::Full`](crate::Submitted::Full): call
    /// [`Station::try_recv`] first.
    ///
    /// # Errors
    /// Every error gives `target` back. `InvalidArgument` or `Mismatch` if a frame does not fit the plan. `Revoked` if
    /// a source's lease has ended. `Unsupported` if [`Converter::check`] refuses the plan. Otherwise errors of the
    /// device or library.
    fn try_submit(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> SubmitResult<FrameMut>;

    /// Returns how many submitted jobs the converter has not returned yet.
    fn in_flight(&self) -> usize;

    /// Opens the device or library again after [`ConverterEvent::Lost`]. The descriptor stays the same.
    ///
    /// # Errors
    /// `NotFound` until the device or library is back. The call can be repeated.
    fn reopen(&mut self) -> Result<()>;
}

/// A backend that cannot carry out a plan, and the reason.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The backend and its device or library.
    pub backend: String,
    /// The reason: the rule that the plan breaks, or the error of opening the backend.
    pub error: Error,
}

/// An open backend, or the name of a backend that could not be opened and the reason.
pub type Candidate = std::result::Result<Box<dyn Converter>, Refusal>;

/// Makes a candidate of a backend.
pub(super) fn opened<C: Converter + 'static>(name: &str, opened: Result<C>) -> Candidate {
    match opened {
        Ok(converter) => Ok(Box::new(converter)),
        Err(error) => Err(Refusal { backend: name.to_owned(), error }),
    }
}
