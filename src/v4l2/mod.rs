//! V4L2 devices: discovery, negotiation, and queues whose buffers are exported and imported as dma-bufs.
//!
//! Single- and multi-planar devices take one path: a [`Layout`](crate::format::Layout) tells memory planes from color
//! planes, and a queue uses whichever of the two APIs the driver has.
//!
//! The queues themselves are not public: [`Camera`](crate::capture::Camera), [`Encoder`](crate::codec::Encoder),
//! [`Decoder`](crate::codec::Decoder) and [`M2m`](crate::convert::M2m) own them. Buffers are exported with
//! `VIDIOC_EXPBUF` and imported with `VIDIOC_QBUF` and `V4L2_MEMORY_DMABUF`. The kernel has no `VIDIOC_EXPBUFDMABUF`
//! and no `VIDIOC_IMPBUFDMABUF`, although blog posts name them.

mod codec_cmd;
mod controls;
mod device;
mod events;
mod formats;
mod hotplug;
mod identity;
mod inputs;
mod media;
mod mem_to_mem;
mod mem_to_mem_info;
mod memory;
mod queue;
mod readiness;
mod selection;
mod timestamps;
#[cfg(feature = "v4l")]
mod v4l_compat;

#[doc(hidden)] // For this project's tests.
pub use codec_cmd::CodecCommand;
pub use controls::{Control, ControlId, ControlKind, ControlValue, MenuItem};
pub use device::{devices, Device, DeviceInfo, Direction};
pub use events::{Event, EventKind};
#[doc(hidden)] // For this project's tests.
pub use formats::FormatRequest;
pub(crate) use formats::{geometry, holds, splits};
pub use formats::{FormatOffer, Intervals, Sizes};
pub use hotplug::{Hotplug, NodeEvent};
pub use inputs::{Input, Timings};
pub use media::media_path;
pub use mem_to_mem::Resumed;
#[doc(hidden)] // For this project's tests.
pub use mem_to_mem::{MemToMem, Processed};
#[doc(hidden)] // For this project's tests.
pub use mem_to_mem_info::{mem_to_mem_devices, MemToMemInfo};
pub use memory::MemoryCapabilities;
pub(crate) use queue::watch;
pub use queue::CacheHint;
#[doc(hidden)] // For this project's tests.
pub use queue::{Queue, Reclaimed};
pub(crate) use readiness::{DeviceReadiness, Ready};
pub use selection::{Region, SelectionTarget};
