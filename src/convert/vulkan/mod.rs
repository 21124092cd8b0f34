//! GPUs through Vulkan, whose loader is opened at run time (feature `vulkan`).
//!
//! A compute shader reads the sources and writes the target in place: the dma-bufs are imported as storage buffers. The
//! arithmetic is that of [`Cpu`](super::Cpu), with its matrices, ranges and chroma siting. So both give the same bytes
//! if nothing is scaled, and codes that differ by rounding otherwise.
//!
//! No real GPU has run this yet. It is tested with Mesa's lavapipe, a driver that works on the CPU.

mod builder;
mod imports;
mod program;
mod station;

pub use builder::VulkanBuilder;
pub use station::Vulkan;
