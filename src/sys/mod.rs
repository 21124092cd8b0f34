//! All unsafe code of the crate: safe functions for system calls, mappings and foreign structs.
//!
//! Functions return the bare [`Errno`](nix::errno::Errno). The layer that knows the device converts it to an
//! [`Error`](crate::Error).

#![allow(unsafe_code)]

pub(crate) mod bytes;
pub(crate) mod clock;
pub(crate) mod dma_buf;
#[cfg(feature = "drm")]
pub(crate) mod drm;
#[cfg(feature = "v4l")]
pub(crate) mod dup;
pub(crate) mod event_queue;
pub(crate) mod from_kernel;
#[cfg(feature = "g2d")]
pub(crate) mod g2d;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod media;
pub(crate) mod peer;
pub(crate) mod pipe;
pub(crate) mod random;
pub(crate) mod readiness;
pub(crate) mod shared_bytes;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod syscall_count;
pub(crate) mod tcp;
pub(crate) mod udp;
mod uncached;
pub(crate) mod v4l2;
pub(crate) mod v4l2_calls;
pub(crate) mod vector;
#[cfg(feature = "vulkan")]
pub(crate) mod vulkan;
pub(crate) mod wait;
