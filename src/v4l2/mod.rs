//! V4L2 devices: discovery, negotiation, and queues whose buffers are exported and imported as dma-bufs.
//!
//! Single- and multi-planar devices take one path: a [`Layout`](crate::format::Layout) tells memory planes from colour
//! planes, and [`Queue`] speaks whichever of the two APIs the driver has.
//!
//! The kernel has no `VIDIOC_EXPBUFDMABUF` and no `VIDIOC_IMPBUFDMABUF`, although blog posts name them: export is
//! `VIDIOC_EXPBUF`, import is `VIDIOC_QBUF` with `V4L2_MEMORY_DMABUF`. [`Queue::allocate`] does the one,
//! [`Queue::import`] the other.

mod codec;
mod controls;
mod device;
mod events;
mod formats;
mod graph;
mod imports;
mod m2m;
mod marks;
mod media;
mod memory;
mod payload;
mod queue;
mod ring;
mod roles;
mod sequence;
mod source;
mod submit;
#[cfg(feature = "v4l")]
mod v4l;

pub use codec::CodecCommand;
pub use controls::{Control, ControlFlags, ControlId, ControlKind, ControlValue, MenuItem};
pub use device::{devices, Capabilities, Device, DeviceInfo, Direction};
pub use events::{Event, EventKind};
pub(crate) use formats::{geometry, holds, splits};
pub use formats::{FormatOffer, FormatRequest, Intervals, Sizes};
pub use m2m::{Interest, MemToMem, Processed, Resumed};
pub use media::media_path;
pub use memory::{CacheWish, MemoryCapabilities};
pub use queue::{Dequeued, Queue, Reclaimed};
pub use roles::{mem_to_mem_devices, MemToMemInfo};
pub use source::{Input, Region, SelectionTarget, Timings};
