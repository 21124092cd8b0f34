//! Tests on real kernel drivers. `cargo lab test` runs them in a guest, as root and one at a time. Plain `cargo test`
//! uses the devices of the machine, and prints each skip.

// This test program has its own copies of modules that the examples share.
#![allow(clippy::duplicate_mod)]

#[path = "../contract/checks.rs"]
mod checks;
#[path = "../sink/client.rs"]
mod client;
#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../conformance/mod.rs"]
mod conformance;
#[allow(unused_imports)] // Of the g2d cases.
use conformance::converting;
#[cfg(feature = "unixfd")]
#[path = "../peers/crc32.rs"]
mod crc32;
#[path = "../contract/forked_child.rs"]
mod forked_child;
#[path = "../contract/jobs.rs"]
mod jobs;
#[path = "../../examples/common/picture.rs"]
mod picture;
#[path = "../random/mod.rs"]
mod random;
#[allow(dead_code)] // Not all of it is used here.
#[path = "../share/raw.rs"]
mod raw;
#[path = "../sink/receive.rs"]
mod receive;
#[path = "../contract/scene.rs"]
mod scene;
#[cfg(feature = "drm")]
#[path = "../sink/station.rs"]
mod station;
#[allow(dead_code, unused_imports)] // Not all of it is used here.
#[cfg(feature = "tls")]
#[path = "../sink/tls_relay.rs"]
mod tls_relay;
#[path = "../contract/watch.rs"]
mod watch;

mod aligned;
mod allocations;
mod boards;
mod camera;
mod camera_usb;
mod capi;
mod chain_contract;
mod coding;
mod compliance;
mod contract;
mod controls;
mod convert;
#[cfg(feature = "g2d")]
mod convert_g2d;
mod convert_m2m;
mod convert_scaler;
#[cfg(feature = "vulkan")]
mod convert_vulkan;
mod decode;
#[cfg(feature = "g2d")]
mod delegate;
mod devices;
#[cfg(feature = "drm")]
mod display;
#[cfg(feature = "drm")]
mod display_chain;
#[cfg(feature = "drm")]
mod display_chain_contract;
#[cfg(feature = "drm")]
mod display_contract;
#[cfg(feature = "drm")]
mod display_example;
#[cfg(feature = "drm")]
mod display_faults;
#[cfg(feature = "drm")]
mod display_gpu;
#[cfg(feature = "drm")]
mod display_station;
mod dmabuf;
#[cfg(all(feature = "drm", feature = "g2d"))]
mod doctor;
mod driver_errors;
mod encode;
mod encode_faults;
mod encode_negotiate;
mod epoll_ctl;
#[cfg(feature = "drm")]
mod fences;
mod formats;
#[cfg(feature = "g2d")]
#[path = "../g2d/cases/mod.rs"]
mod g2d;
#[cfg(all(feature = "drm", feature = "vulkan"))]
mod gpu_view;
mod imports;
mod ioctl_errors;
mod ioctls;
#[cfg(feature = "mjpeg")]
mod jpeg_decoder;
mod media_graph;
mod media_setup;
#[cfg(target_arch = "aarch64")]
mod narrow;
mod negotiate;
mod node;
mod peers_c;
#[cfg(feature = "unixfd")]
mod peers_mixed;
mod prepare;
mod raw_gadget;
#[cfg(feature = "tokio")]
mod reactor;
mod regressions;
mod share;
mod soak;
mod uvc;
mod uvc_descriptors;
mod v4l2_mem_to_mem;
#[cfg(feature = "drm")]
mod vgem;
#[cfg(feature = "vulkan")]
#[path = "../vulkan/cases/mod.rs"]
mod vulkan;
#[cfg(feature = "vulkan")]
mod vulkan_driver;
