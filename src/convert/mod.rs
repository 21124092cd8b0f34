//! Scales, rotates, converts and composes frames, in hardware if the machine can.
//!
//! A [`Request`] says what to draw. A [`Plan`] resolves the request once, for the layouts of the sources and of the
//! target. A [`Converter`] takes the plan, the source frames and a free buffer of any pool, and gives the finished
//! frame:
//!
//! ```text
//! Request ─► Plan ──┐
//! Frame(s) ─────────┼─► Converter::try_submit ─► (poll) ─► Station::try_recv ─► Frame
//! FrameMut ─────────┘
//! ```
//!
//! [`auto`] picks the first backend that can carry out a plan: `G2d` (feature `g2d`), a V4L2 mem-to-mem device
//! ([`M2m`]), a GPU (`Vulkan`, feature `vulkan`), or the CPU ([`Cpu`]). [`first_of`] does the same, but makes a
//! separate plan for each backend.
//!
//! [`tensor`] makes the input of a model from a frame.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
//! use framelease::dmabuf::Allocator;
//! use framelease::format::{FourCc, Layout, Size};
//! use framelease::frame::Pool;
//! use framelease::Station;
//!
//! // A picture, scaled to half its size and converted to RGB.
//! let source = Pool::new(&Allocator::Memfd, Layout::packed(FourCc::NV12, Size::new(64, 48))?, 1)?;
//! let picture = source.try_acquire().expect("a free buffer").freeze_full(0, 0);
//! let mut converter = Cpu::new()?;
//! let target = Pool::new(&Allocator::Memfd, converter.target_layout(FourCc::RGB24, Size::new(32, 24))?, 1)?;
//! let plan = Plan::new(&Request::convert(Layer::default()), &[*picture.layout()], target.buffers().layout())?;
//! let free = target.try_acquire().expect("a free buffer");
//! let _ = converter.try_submit(&Arc::new(plan), &[picture], free)?;
//! let converted = converter.recv(Duration::from_secs(1))?.frame().expect("a frame");
//! assert_eq!(converted.layout().size(), Size::new(32, 24));
//! # Ok::<(), framelease::Error>(())
//! ```

mod auto;
mod converter;
mod cpu;
mod finished;
mod frame_rate;
#[cfg(feature = "g2d")]
pub mod g2d;
#[cfg(any(feature = "g2d", feature = "vulkan"))]
mod jobs;
mod m2m;
mod plan;
mod request;
pub mod tensor;
#[cfg(feature = "vulkan")]
pub mod vulkan;

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
pub use tensor::Tensor;
#[cfg(feature = "vulkan")]
pub use vulkan::Vulkan;
