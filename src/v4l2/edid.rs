//! The EDID of an HDMI or DisplayPort input: what it tells its source about itself.

use super::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::v4l2_calls as calls;

use std::os::fd::AsFd;

use nix::errno::Errno;

/// The bytes of a block.
const BLOCK: usize = 128;
/// The number of blocks that an EDID has at most.
const MOST: usize = 256;

impl Device {
    /// Returns the EDID of an input, which its source reads. The result is empty if the input has none. Ioctl:
    /// `VIDIOC_G_EDID`.
    ///
    /// # Errors
    /// `InvalidArgument` if the input does not exist. `Unsupported` if the device does not have digital inputs.
    #[doc(alias = "VIDIOC_G_EDID")]
    pub fn edid(&self, input: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; MOST * BLOCK];
        match calls::edid(self.as_fd(), calls::EdidCall::Get, input, &mut bytes) {
            Ok(blocks) => {
                bytes.truncate(blocks as usize * BLOCK);
                Ok(bytes)
            }
            Err(Errno::ENODATA) => Ok(Vec::new()),
            Err(e) => Err(self.failed("VIDIOC_G_EDID", e)),
        }
    }

    /// Sets the EDID of an input. Receivers have none after the start, and most sources give no signal without one. An
    /// empty slice removes the EDID. The source sees a hot-plug. Ioctl: `VIDIOC_S_EDID`.
    ///
    /// # Errors
    /// `InvalidArgument` if the length is not a multiple of 128 bytes, if it is more than the device stores, or if the
    /// driver refuses the content. `Unsupported` if the device does not have digital inputs.
    #[doc(alias = "VIDIOC_S_EDID")]
    pub fn set_edid(&self, input: u32, edid: &[u8]) -> Result<()> {
        const OP: &str = "VIDIOC_S_EDID";
        if edid.len() % BLOCK != 0 || edid.len() > MOST * BLOCK {
            let text = format!("{} bytes; an EDID has up to {MOST} blocks of {BLOCK} bytes", edid.len());
            return Err(Error::new(ErrorKind::InvalidArgument, OP, text).on(self));
        }
        calls::edid(self.as_fd(), calls::EdidCall::Set, input, &mut edid.to_vec()).map(drop).map_err(|e| match e {
            Errno::E2BIG => {
                let text = format!("the device does not store {} blocks", edid.len() / BLOCK);
                Error::new(ErrorKind::InvalidArgument, OP, text).on(self)
            }
            e => self.failed(OP, e),
        })
    }
}
