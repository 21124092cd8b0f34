//! What all backends have in common.

use std::fmt;
use std::sync::Arc;

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameMut};
use crate::station::{sealed, FrameEvent, Station, SubmitResult};

/// What a converter gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConverterEvent {
    /// A finished job: its target, with the sequence number and time of its first source.
    Frame(Frame),
    /// A job failed.
    Failed {
        /// What the device or library reported.
        error: Error,
        /// The job's target; `None` if the device did not give it back.
        target: Option<FrameMut>,
    },
    /// The device was unplugged, or its driver or library gave up. Each job in flight has failed before this.
    Lost(Error),
    /// The device is back: call [`Converter::reopen`].
    Returned,
}

impl sealed::Sealed for ConverterEvent {}

impl FrameEvent for ConverterEvent {
    fn into_frame(self) -> Option<Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            _ => None,
        }
    }
}

/// A backend that draws frames into frames. Sealed.
///
/// Jobs finish in the order in which they were submitted. A job in flight holds a lease on each of its sources and on
/// its target, so no camera and no pool reuses them. The leases of the sources end when the job is taken by
/// [`Station::try_recv`] at the latest.
pub trait Converter: Station<Event = ConverterEvent> + fmt::Debug + Send {
    /// Returns the backend and its device or library, for reports: `g2d (libg2d.so.2)`, `m2m (/dev/video3)`, `cpu`.
    fn name(&self) -> &str;

    /// Checks whether this backend carries the plan out without an extra copy. No frame is touched.
    ///
    /// # Errors
    /// `Unsupported`, with the rule that the plan breaks: this is the backend's answer in [`auto`](super::auto)'s report.
    fn check(&self, plan: &Plan) -> Result<()>;

    /// Returns the layout that a target of this format and size should have for this backend: its alignment of strides.
    ///
    /// # Errors
    /// As [`Layout::aligned`].
    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout>;

    /// Begins a job: draws `sources` into `target` as `plan` says. Does not wait for the device.
    ///
    /// The sources are leased until the job is done. `target` comes back as a [`Frame`], or at once if too many jobs are
    /// in flight: take one first.
    ///
    /// # Errors
    /// With the target: if a frame does not have the plan's layout; as [`Converter::check`]; what the device or library reports.
    fn try_submit(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> SubmitResult<FrameMut>;

    /// Returns how many jobs were submitted and not yet taken.
    fn in_flight(&self) -> usize;

    /// Opens the device or library again after [`ConverterEvent::Lost`]. The descriptor stays.
    ///
    /// # Errors
    /// `NotFound` until it is back. It can be tried again.
    fn reopen(&mut self) -> Result<()>;
}

/// A backend that will not do, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The backend and its device or library.
    pub backend: String,
    /// The rule that the plan breaks, or why the backend is not there.
    pub error: Error,
}

/// One candidate: a backend, or the name of one that could not be opened and why.
pub type Candidate = std::result::Result<Box<dyn Converter>, Refusal>;

/// A backend as a candidate.
pub(super) fn opened<C: Converter + 'static>(name: &str, opened: Result<C>) -> Candidate {
    match opened {
        Ok(converter) => Ok(Box::new(converter)),
        Err(error) => Err(Refusal { backend: name.to_owned(), error }),
    }
}
