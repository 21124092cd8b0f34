//! DRM/KMS: frames on a screen without a copy, and DRM devices as importers and allocators of dma-bufs (feature `drm`).
//!
//! ```text
//! Frame ─► Framebuffer (PRIME import + ADDFB2, once per buffer) ─► plane ─► CRTC ─► connector ─► screen
//!   └── its lease ends when the flip that replaces it has completed
//! ```
//!
//! [`Device`] opens a node, counts GEM handles, exports and allocates; [`Scanout`] drives one connector. The words are
//! those of the kernel's [KMS documentation](https://docs.kernel.org/gpu/drm-kms.html).

mod builder;
mod color_properties;
mod commit;
mod device;
mod event;
mod framebuffer;
mod gem;
mod hotplug;
mod layer;
mod negotiate;
mod objects;

mod saved_crtc;
mod scanout;
mod syncobj;
mod writeback;

pub use builder::{Api, ScanoutBuilder};
pub use device::{Device, DeviceInfo, NodeKind};
pub use framebuffer::{Framebuffer, Modifier};
pub use gem::Gem;
pub use layer::{LayerRequirements, PlaneLayer};
pub use objects::{Connection, Connector, Mode, Plane, PlaneFormat, PlaneKind};
pub use scanout::{FlipResult, Flipped, Scanout, ScanoutStats};
pub use syncobj::Syncobj;
pub use writeback::WriteBack;
