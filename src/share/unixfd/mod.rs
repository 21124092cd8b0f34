//! The bytes of GStreamer's `unixfd` protocol (1.24 to 1.28), in both directions, without descriptors.

pub(super) mod caps;
pub(super) mod from_sink;
mod text;
pub(super) mod wire;
