//! A writeback connector and its properties.

use ::drm::control::{connector, from_u32, Device as _};

use super::framebuffer::drm_code;
use super::objects::{code, Connector};
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FourCc;
use crate::sys::drm::{Commit, FenceProp, ValueProp};

/// A writeback connector that takes the picture of a CRTC.
#[derive(Clone, Debug)]
pub(super) struct WriteBackPort {
    pub(super) id: u32,
    crtc: ValueProp,
    framebuffer: ValueProp,
    fence: FenceProp,
    formats: Vec<u32>,
}

impl WriteBackPort {
    /// Finds the first writeback connector that takes the picture of the output's CRTC.
    pub(super) fn find(output: &Output) -> Result<Self> {
        let device = &output.device;
        let own = output.connector.writeback.then_some(output.connector.id);
        let usable = |c: &Connector| c.writeback && own.map_or(true, |id| id == c.id);
        for connector in device.connectors()?.into_iter().filter(usable) {
            if !device.crtcs_of(&connector)?.iter().any(|(id, _)| *id == output.crtc) {
                continue;
            }
            let Some(handle) = from_u32::<connector::Handle>(connector.id) else { continue };
            let props = device.props(handle)?;
            let formats = props.current("WRITEBACK_PIXEL_FORMATS").filter(|&b| b != 0);
            let blob = formats.and_then(|b| device.0.node.get_property_blob(b).ok()).unwrap_or_default();
            let words = blob.chunks_exact(4).filter_map(|b| b.try_into().ok().map(u32::from_ne_bytes));
            if let (Some(crtc), Some(framebuffer), Some(fence)) =
                (props.value("CRTC_ID"), props.value("WRITEBACK_FB_ID"), props.fence("WRITEBACK_OUT_FENCE_PTR"))
            {
                return Ok(Self { id: connector.id, crtc, framebuffer, fence, formats: words.collect() });
            }
        }
        let text = "no writeback connector takes the picture of this CRTC";
        Err(Error::new(ErrorKind::Unsupported, "WRITEBACK_FB_ID", text).on(device))
    }

    /// Refuses a format that the connector does not write.
    pub(super) fn check_format(&self, output: &Output, fourcc: FourCc) -> Result<()> {
        let wanted = drm_code(fourcc)?;
        if self.formats.contains(&wanted) {
            return Ok(());
        }
        let offered: Vec<_> = self.formats.iter().map(|&f| code(f)).collect();
        let text = format!("asked {}; the connector writes {}", code(wanted), offered.join(", "));
        Err(Error::new(ErrorKind::Unsupported, "WRITEBACK_FB_ID", text).on(&output.device))
    }

    /// Adds to a commit that it writes to a framebuffer.
    pub(super) fn attach(&self, commit: &mut Commit, crtc: u32, framebuffer: u32) {
        commit.object(self.id);
        commit.set(self.crtc, crtc.into());
        commit.set(self.framebuffer, framebuffer.into());
        commit.ask_fence(self.fence);
    }

    /// Adds to a commit that it leaves its CRTC.
    pub(super) fn detach(&self, commit: &mut Commit) {
        commit.object(self.id);
        commit.set(self.crtc, 0);
    }
}
