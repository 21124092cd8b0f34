//! Vulkan: its loader, devices, and one compute shader over imported buffers. The crate does not link the loader.
//!
//! A call of [`Device::run`] waits for the GPU. So no buffer is destroyed while the GPU uses it, and no two jobs of a
//! device overlap. Robust buffer access is on: a shader that reads or writes beyond a buffer harms no other memory.

mod buffer;
mod device;
mod instance;

pub(crate) use buffer::Buffer;
pub(crate) use device::{Device, Job, Pass, Planes};
pub(crate) use instance::{Instance, Physical};

/// A call that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) call: &'static str,
    result: ash::vk::Result,
}

impl Failure {
    fn of(call: &'static str) -> impl Fn(ash::vk::Result) -> Self {
        move |result| Self { call, result }
    }

    pub(crate) fn is_lost(self) -> bool {
        self.result == ash::vk::Result::ERROR_DEVICE_LOST
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VK_{:?}", self.result)
    }
}
