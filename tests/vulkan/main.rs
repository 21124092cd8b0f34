//! Tests `convert::Vulkan` with the drivers of this machine. The guest runs the same cases with lavapipe.

#[path = "../conformance/mod.rs"]
mod conformance;
use conformance::converting;
#[path = "cases/mod.rs"]
mod vulkan;

/// The drivers of this machine are installed already.
mod vulkan_driver {
    pub fn install() {}
}
mod shader;
