//! The picture that a CRTC showed before a scanout took it, usually the console.

use ::drm::control::{connector, crtc, framebuffer, from_u32, Device as _, Mode};

use super::device::Device;

/// A CRTC's picture and mode, and the connectors that it drove.
#[derive(Debug)]
pub(super) struct SavedCrtc {
    connectors: Vec<connector::Handle>,
    crtc: crtc::Handle,
    framebuffer: framebuffer::Handle,
    position: (u32, u32),
    mode: Mode,
}

impl SavedCrtc {
    /// Returns the state of a CRTC, or `None` if it was dark.
    pub(super) fn of(device: &Device, crtc: u32) -> Option<Self> {
        let (node, crtc) = (&device.0.node, from_u32::<crtc::Handle>(crtc)?);
        let info = node.get_crtc(crtc).ok()?;
        let (framebuffer, position, mode) = (info.framebuffer()?, info.position(), info.mode()?);
        let driven = |&connector: &connector::Handle| {
            let encoder = node.get_connector(connector, false).ok()?.current_encoder()?;
            (node.get_encoder(encoder).ok()?.crtc()? == crtc).then_some(connector)
        };
        let connectors = device.resources().ok()?.connectors().iter().filter_map(driven).collect();
        Some(Self { connectors, crtc, framebuffer, position, mode })
    }

    /// Shows the picture again, if its owner still has it.
    pub(super) fn restore(&self, device: &Device) {
        let Self { connectors, crtc, framebuffer, position, mode } = self;
        let set = device.0.node.set_crtc(*crtc, Some(*framebuffer), *position, connectors, Some(*mode));
        if let Err(e) = set {
            crate::log::event!("{device}: cannot restore the earlier picture: {e}");
        }
    }
}
