//! Tests `convert::Vulkan` with a fake Vulkan loader: devices that lack something, calls that fail, a device that is
//! lost. Every frame comes back, and every object of the device is destroyed.

#[path = "../converting/mod.rs"]
mod converting;
mod failing;
mod fake;
mod importing;
mod losing;
mod opening;
