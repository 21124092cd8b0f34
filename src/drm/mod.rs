//! DRM/KMS: frames on a screen without a copy, and DRM devices as importers and allocators of dma-bufs (feature `drm`).
//!
//! ```text
//! Frame ─► Framebuffer (PRIME import + ADDFB2, once per buffer) ─► plane ─► CRTC ─► connector ─► screen
//!   └── its lease ends when the flip that replaces it has completed
//! ```
//!
//! [`Device`] opens a node, counts GEM handles, and exports and allocates buffers. [`Scanout`] drives one connector
//! and is a [`Station`](crate::Station). The terms are those of the kernel's [KMS
//! documentation](https://docs.kernel.org/gpu/drm-kms.html).
//!
//! ```no_run
//! use std::time::Duration;
//! use framelease::drm::{LayerRequirements, Scanout};
//!
//! let mut screen = Scanout::builder().open()?;
//! let formats = [framelease::format::FourCc::XBGR32];
//! let layer = screen.add_layer(&LayerRequirements::new(formats, screen.size()))?;
//! # let frames: Vec<framelease::frame::Frame> = Vec::new();
//! // A camera, a test pattern or a subscriber gives frames in `layer.fourcc()`.
//! for frame in frames {
//!     let _ = screen.present_frame(layer, frame, Duration::from_millis(100))?;
//! }
//! # Ok::<(), framelease::Error>(())
//! ```

mod builder;
mod color_properties;
mod commit;
mod device;
mod event;
mod framebuffer;
mod gem;
mod layer;
mod monitor;
mod negotiate;
mod objects;
mod output;
mod present;
mod retained;
mod saved_crtc;
mod scanout;
mod scanout_event;
mod syncobj;
mod wake;
mod writeback;
mod writeback_port;

pub use builder::ScanoutBuilder;
pub use device::{Device, DeviceInfo, NodeKind};
#[doc(hidden)] // For this project's tests.
pub use framebuffer::Framebuffer;
#[doc(hidden)] // For this project's tests.
pub use gem::Gem;
pub use layer::{LayerRequirements, PlaneLayer};
pub use objects::{Connection, Connector, Mode, Modifier, PlaneKind};
#[doc(hidden)] // For this project's tests.
pub use objects::{Plane, PlaneFormat};
#[doc(hidden)] // For this project's tests.
pub use output::Api;
pub use scanout::Scanout;
pub use scanout_event::{Flipped, ScanoutEvent, ScanoutStats};
#[doc(hidden)] // For this project's tests.
pub use syncobj::Syncobj;
pub use writeback::WriteBack;
