//! V4L2 devices: discovery, formats, controls, inputs, regions, events.
//!
//! ```no_run
//! use framelease::v4l2::{ControlId, Device, Direction};
//!
//! let device = Device::find(|info| info.is_capture())?;
//! println!("{}", device.info());
//! for offer in device.formats(Direction::Capture)? {
//!     println!("{}: {}", offer.fourcc, device.sizes(offer.fourcc)?);
//! }
//! device.set_control(ControlId::BRIGHTNESS, 128)?;
//! # Ok::<(), framelease::Error>(())
//! ```
//!
//! [`Camera`](crate::capture::Camera), [`Encoder`](crate::codec::Encoder), [`Decoder`](crate::codec::Decoder) and
//! [`M2m`](crate::convert::M2m) own the queues of a device. Each of these four types takes an open [`Device`]. They
//! export buffers with `VIDIOC_EXPBUF`, and import buffers with `VIDIOC_QBUF` and `V4L2_MEMORY_DMABUF`. The kernel does
//! not have the `VIDIOC_EXPBUFDMABUF` and `VIDIOC_IMPBUFDMABUF` that blog posts mention. Single- and multi-planar
//! devices have the same API in this crate. A [`Layout`](crate::format::Layout) distinguishes memory planes from color
//! planes.

mod analog;
mod codec_cmd;
mod controls;
mod device;
mod edid;
mod events;
mod formats;
mod hotplug;
mod identity;
mod inputs;
mod media;
mod mem_to_mem;
mod mem_to_mem_info;
mod memory;
mod overrule;
mod queue;
mod rate;
mod readiness;
mod selection;
mod subdevices;
mod sysfs;
mod timestamps;
mod users;
#[cfg(feature = "v4l")]
mod v4l_compat;

pub use analog::Standard;
#[doc(hidden)] // For this project's tests.
pub use codec_cmd::CodecCommand;
pub use controls::{Control, ControlId, ControlKind, ControlValue, MenuItem};
pub use device::{devices, Device, DeviceInfo, Direction};
pub(crate) use device::{nodes, Condition};
pub use events::{Event, EventKind};
#[doc(hidden)] // For this project's tests.
pub use formats::FormatRequest;
pub(crate) use formats::{geometry, holds, splits};
pub use formats::{FormatOffer, Intervals, Sizes};
pub use hotplug::{Hotplug, NodeEvent};
pub use inputs::{Input, Timings};
pub use media::{media_path, BusFormat, MediaEntity, MediaGraph, MediaLink, MediaPad, Pipeline};
pub(crate) use media::{planned, prepare, Prepared, Wish as PipelineWish};
pub use mem_to_mem::Resumed;
#[doc(hidden)] // For this project's tests.
pub use mem_to_mem::{MemToMem, Processed};
#[doc(hidden)] // For this project's tests.
pub use mem_to_mem_info::{mem_to_mem_devices, MemToMemInfo};
pub use memory::MemoryCapabilities;
pub(crate) use overrule::Overrule;
pub(crate) use queue::watch;
pub use queue::CacheHint;
#[doc(hidden)] // For this project's tests.
pub use queue::{Queue, Reclaimed};
pub(crate) use rate::{is_same_rate, nearest_rate};
pub(crate) use readiness::{DeviceReadiness, Ready};
pub use selection::{Region, SelectionTarget};
