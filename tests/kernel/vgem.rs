//! Fences that a test signals: those of vgem (`drm/vgem_drm.h`).

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use framelease::dmabuf::DmaBuf;
use framelease::drm::{Device, Gem};

/// `VGEM_FENCE_WRITE`.
const WRITE: u32 = 1;

#[repr(C)]
struct Attach {
    handle: u32,
    flags: u32,
    out_fence: u32,
    pad: u32,
}

#[repr(C)]
struct Signal {
    fence: u32,
    flags: u32,
}

nix::ioctl_readwrite!(attach, b'd', 0x41, Attach);
nix::ioctl_write_ptr!(signal, b'd', 0x42, Signal);

/// A fence on one of vgem's buffers, like that of a GPU that still draws. It signals by itself after 10 seconds.
pub struct Fence {
    device: Device,
    _gem: Gem,
    fence: u32,
}

impl Fence {
    /// Makes readers of the buffer wait from now on.
    pub fn on(device: &Device, buffer: &DmaBuf) -> Self {
        Self::attached(device, buffer, WRITE)
    }

    /// Makes writers of the buffer wait from now on, as a GPU that reads it.
    pub fn reading(device: &Device, buffer: &DmaBuf) -> Self {
        Self::attached(device, buffer, 0)
    }

    fn attached(device: &Device, buffer: &DmaBuf, flags: u32) -> Self {
        let gem = device.import(buffer).unwrap();
        let mut arg = Attach { handle: gem.handle(), flags, out_fence: 0, pad: 0 };
        // SAFETY: `arg` is a live, exclusively borrowed `struct drm_vgem_fence_attach`; the device is open.
        unsafe { attach(device.as_fd().as_raw_fd(), &mut arg) }.unwrap();
        Self { device: device.clone(), _gem: gem, fence: arg.out_fence }
    }

    /// Signals that the drawing is done.
    pub fn signal(self) {
        let arg = Signal { fence: self.fence, flags: 0 };
        // SAFETY: `arg` is a live `struct drm_vgem_fence_signal`, which the kernel only reads; the device is open.
        unsafe { signal(self.device.as_fd().as_raw_fd(), &arg) }.unwrap();
    }
}
