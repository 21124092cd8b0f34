//! Buffers that the device may still use after the drop of their owner.

use crate::dmabuf::SyncFile;
use crate::frame::{Frame, FrameMut};

/// The event after which the device has finished with what is retained. The close of the file ends all of it, too.
#[derive(Debug)]
pub(super) enum Until {
    /// The commit with this mark has completed.
    Flip(u64),
    /// The fence has signaled.
    Fence(SyncFile),
    /// The file is closed.
    Closed,
}

/// Leases and framebuffers whose owner could not wait for the device.
///
/// The device keeps them. It removes the framebuffers first and then ends the leases. If it is closed before that, the
/// kernel removes the framebuffers with the file.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) until: Until,
    /// KMS object ids.
    pub(super) framebuffers: Vec<u32>,
    pub(super) _frames: Vec<Frame>,
    /// A picture that the device writes.
    pub(super) _target: Option<FrameMut>,
    /// The CRTC and the planes that stay taken until then.
    pub(super) crtc: Option<u32>,
    pub(super) planes: Vec<u32>,
}
