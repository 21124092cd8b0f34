//! Scaling, rotating, converting and composing frames: in hardware where there is some.
//!
//! A [`Request`] says what is to become of the sources; [`Plan::new`] resolves it for given layouts, once. A
//! [`Converter`] takes the plan with frames and a [`FrameMut`](crate::frame::FrameMut) of any pool, and gives the finished
//! [`Frame`](crate::frame::Frame):
//!
//! ```text
//! Request ─► Plan ──┐
//! Frame(s) ─────────┼─► Converter::try_submit ─► (poll) ─► Station::try_recv ─► Frame
//! FrameMut ─────────┘
//! ```
//!
//! [`auto`] picks the first backend that can carry a plan out: `G2d` (feature `g2d`), a V4L2 mem-to-mem device
//! ([`M2m`]), the CPU ([`Cpu`]).

mod auto;
mod converter;
mod cpu;
mod finished;
mod frame_rate;
#[cfg(feature = "g2d")]
pub mod g2d;
mod m2m;
mod plan;
mod request;

pub use auto::{auto, candidates, first_of, Choice};
pub use converter::{Candidate, Converter, ConverterEvent, Refusal};
pub use cpu::{Cpu, CpuStats};
pub use frame_rate::FrameRateConverter;
#[cfg(feature = "g2d")]
pub use g2d::station::G2d;
pub use m2m::M2m;
#[cfg(feature = "drm")]
pub(crate) use plan::keep_ratio;
pub use plan::Plan;
pub(crate) use plan::{Draw, Fill, Step};
#[doc(hidden)] // For this project's tests.
pub use request::MAX_LAYERS;
pub use request::{Blend, Color, Layer, Request, Scaling};
