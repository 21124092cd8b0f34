//! V4L2 devices: discovery, negotiation, and queues whose buffers are exported and imported as dma-bufs.
//!
//! Single- and multi-planar devices take one path: a [`Layout`](crate::format::Layout) tells memory planes from colour
//! planes, and [`Queue`] speaks whichever of the two APIs the driver has.
//!
//! The kernel has no `VIDIOC_EXPBUFDMABUF` and no `VIDIOC_IMPBUFDMABUF`, although blog posts name them: export is
//! `VIDIOC_EXPBUF`, import is `VIDIOC_QBUF` with `V4L2_MEMORY_DMABUF`. [`Queue::allocate`] does the one,
//! [`Queue::import`] the other.

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

pub use codec_cmd::CodecCommand;
pub use controls::{Control, ControlFlags, ControlId, ControlKind, ControlValue, MenuItem};
pub use device::{devices, Capabilities, Device, DeviceInfo, Direction};
pub use events::{Event, EventKind};
pub(crate) use formats::{geometry, holds, splits};
pub use formats::{FormatOffer, FormatRequest, Intervals, Sizes};
pub use hotplug::{Hotplug, NodeEvent};
pub use inputs::{Input, Timings};
pub use media::media_path;
pub use mem_to_mem::{MemToMem, Processed, Resumed};
pub use mem_to_mem_info::{mem_to_mem_devices, MemToMemInfo};
pub use memory::MemoryCapabilities;
pub(crate) use queue::watch;
pub use queue::{CacheHint, Queue, Reclaimed};
pub(crate) use readiness::{DeviceReadiness, Ready};
pub use selection::{Region, SelectionTarget};
