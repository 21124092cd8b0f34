//! Scaling, rotating, converting and composing frames: in hardware where there is some.
//!
//! A [`Request`] says what is to become of the sources; [`Plan::new`] resolves it for given layouts, once. A
//! [`Converter`] takes the plan with frames and a [`FrameMut`] of any pool, and hands the finished [`Frame`] out:
//!
//! ```text
//! Request ─► Plan ──┐
//! Frame(s) ─────────┼─► Converter::submit ─► (poll) ─► Converter::try_done ─► Frame
//! FrameMut ─────────┘
//! ```
//!
//! [`auto`] picks the first backend that can carry a plan out: `G2d` (feature `g2d`), a V4L2 mem-to-mem device
//! ([`M2m`]), the CPU ([`Cpu`]).

mod auto;
mod cpu;
mod finished;
mod frame_rate;
#[cfg(feature = "g2d")]
pub mod g2d;
mod m2m;
mod plan;
mod request;

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::PollFlags;

use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FourCc, Layout, Size};
use crate::frame::{Frame, FrameMut};
use crate::sys;

pub use auto::{auto, candidates, first_of, Candidate, Choice, Refusal};
pub use cpu::{Cpu, CpuStats};
pub use frame_rate::{Decimated, FrameRateConverter};
#[cfg(feature = "g2d")]
pub use g2d::G2d;
pub use m2m::M2m;
pub use plan::{Draw, Fill, Plan, Step};
pub use request::{Blend, Color, Layer, Request, Scaling, MAX_LAYERS};

/// What [`Converter::try_done`] gives: a finished frame, `None` while nothing is finished, or an error with the target
/// of the job that failed (none if the error is of no job).
pub type Done = std::result::Result<Option<Frame>, Rejected<Option<FrameMut>>>;

/// A backend that draws frames into frames.
///
/// Jobs finish in the order in which they were submitted. A job in flight holds a lease on each of its sources and on
/// its target, so no camera and no pool reuses them; the leases of the sources end when the job is taken by
/// [`Converter::try_done`] at the latest.
///
/// Its descriptor ([`AsFd`]) is readable while a finished job waits to be taken. Poll it only while
/// [`Converter::in_flight`] is above 0: the descriptor of an idle V4L2 device reports an error condition for ever.
pub trait Converter: AsFd + fmt::Debug + Send {
    /// The backend and its device or library, for reports: `g2d (libg2d.so.2)`, `m2m (/dev/video3)`, `cpu`.
    fn name(&self) -> &str;

    /// Whether this backend carries the plan out without an extra copy. No frame is touched.
    ///
    /// # Errors
    /// `Unsupported`, with the rule that the plan breaks: this is the backend's answer in [`auto`]'s report.
    fn check(&self, plan: &Plan) -> Result<()>;

    /// The layout that a target of this format and size should have for this backend: its alignment of strides.
    ///
    /// # Errors
    /// As [`Layout::aligned`].
    fn target_layout(&self, fourcc: FourCc, size: Size) -> Result<Layout>;

    /// Begins a job: draws `sources` into `target` as `plan` says. Does not wait for the device.
    ///
    /// The sources are leased until the job is done; `target` comes back as a [`Frame`] with the sequence number and
    /// time of the first source.
    ///
    /// # Errors
    /// As [`Plan::check_frames`] and [`Converter::check`]; `Exhausted` while too many jobs are in flight (take one);
    /// what the device or library reports. `target` comes back.
    fn submit(
        &mut self,
        plan: &Arc<Plan>,
        sources: &[Frame],
        target: FrameMut,
    ) -> std::result::Result<(), Rejected<FrameMut>>;

    /// Takes the oldest job if it is finished. Does not wait.
    ///
    /// # Errors
    /// What the device reported for this job; its target comes back. `DeviceLost` ends all jobs in flight: each comes
    /// back by a call of its own.
    fn try_done(&mut self) -> Done;

    /// Jobs submitted and not yet taken.
    fn in_flight(&self) -> usize;

    /// [`Converter::try_done`], waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`Converter::try_done`]; `Timeout`, the job stays in flight; `State` if nothing is in flight.
    fn done(&mut self, timeout: Duration) -> std::result::Result<Frame, Rejected<Option<FrameMut>>> {
        let none = |error: Error| Rejected { error: error.on(self.name()), item: None };
        if self.in_flight() == 0 {
            return Err(none(Error::new(ErrorKind::State, "convert", "nothing was submitted")));
        }
        let deadline = sys::wait::deadline(timeout);
        loop {
            if let Some(frame) = self.try_done()? {
                return Ok(frame);
            }
            let none = |error: Error| Rejected { error: error.on(self.name()), item: None };
            let ready =
                sys::wait::until(self.as_fd(), PollFlags::POLLIN, deadline).map_err(|e| none(Error::os("poll", e)))?;
            if ready.is_empty() {
                return Err(none(Error::new(ErrorKind::Timeout, "poll", format!("not done after {timeout:?}"))));
            }
        }
    }
}
