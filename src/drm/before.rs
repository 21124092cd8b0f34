//! What a screen showed before a scanout took it: the console, as a rule.

use ::drm::control::{connector, crtc, framebuffer, from_u32, Device as _, Mode};

use super::device::Device;

/// A CRTC's picture and mode.
#[derive(Debug)]
pub(super) struct Before {
    connector: connector::Handle,
    crtc: crtc::Handle,
    framebuffer: framebuffer::Handle,
    position: (u32, u32),
    mode: Mode,
}

impl Before {
    /// `None` if the CRTC was dark, or drove another connector.
    pub(super) fn of(device: &Device, connector: u32, crtc: u32) -> Option<Self> {
        let (connector, crtc) = (from_u32::<connector::Handle>(connector)?, from_u32::<crtc::Handle>(crtc)?);
        let node = &device.0.node;
        let encoder = node.get_connector(connector, false).ok()?.current_encoder()?;
        if node.get_encoder(encoder).ok()?.crtc() != Some(crtc) {
            return None;
        }
        let info = node.get_crtc(crtc).ok()?;
        Some(Self { connector, crtc, framebuffer: info.framebuffer()?, position: info.position(), mode: info.mode()? })
    }

    /// Shows it again, if its owner still has it.
    pub(super) fn restore(&self, device: &Device) {
        let Self { connector, crtc, framebuffer, position, mode } = *self;
        let set = device.0.node.set_crtc(crtc, Some(framebuffer), position, &[connector], Some(mode));
        if let Err(e) = set {
            crate::log::event!("{device}: the picture from before is gone: {e}");
        }
    }
}
