//! Conversions for users of the `v4l` crate (feature `v4l`), so that they can move over one step at a time.

use std::path::PathBuf;

use super::device::Device;
use crate::error::{Error, Result};
use crate::format::{ColorSpace, Colorimetry, Encoding, FourCc, Layout, Range, Size, Transfer};
use crate::sys;

impl From<::v4l::FourCC> for FourCc {
    fn from(code: ::v4l::FourCC) -> Self {
        Self::new(&code.repr)
    }
}

impl From<FourCc> for ::v4l::FourCC {
    fn from(code: FourCc) -> Self {
        Self { repr: u32::from(code).to_le_bytes() }
    }
}

/// A duplicate of the device's descriptor: both are the same open file, with one format and one set of queues.
///
/// The file becomes non-blocking for both, as this crate needs it; `v4l` polls before it dequeues from a capture
/// queue, so its streams go on working. Do not stream through both at once: the kernel answers EBUSY.
impl TryFrom<&::v4l::Device> for Device {
    type Error = Error;

    fn try_from(device: &::v4l::Device) -> Result<Self> {
        let raw = device.handle().fd();
        let fd = sys::dup::nonblocking(raw).map_err(|e| Error::os("dup", e).on("a v4l::Device"))?;
        let path =
            std::fs::read_link(format!("/proc/self/fd/{raw}")).unwrap_or_else(|_| PathBuf::from("a v4l::Device"));
        Self::from_fd(fd, &path)
    }
}

/// The format as `v4l` describes it: single-planar, so one stride and one size.
///
/// # Errors
/// As [`Layout::from_strides`].
impl TryFrom<&::v4l::Format> for Layout {
    type Error = Error;

    fn try_from(format: &::v4l::Format) -> Result<Self> {
        let size = Size::new(format.width, format.height);
        let colors = Colorimetry {
            space: ColorSpace::from_v4l2(format.colorspace as u32),
            range: Range::from_v4l2(format.quantization as u32),
            transfer: Transfer::from_v4l2(format.transfer as u32),
            encoding: Encoding::Default,
        };
        let layout = Self::from_strides(format.fourcc.into(), size, &[format.stride], &[format.size])?;
        Ok(layout.with_colorimetry(colors))
    }
}

/// What `v4l` can say of a layout: the first memory plane. Colors are left to the driver.
impl From<&Layout> for ::v4l::Format {
    fn from(layout: &Layout) -> Self {
        let mut format = Self::new(layout.size().width, layout.size().height, layout.fourcc().into());
        format.stride = layout.planes().first().map_or(0, |p| p.stride_bytes);
        format.size = layout.memory_bytes().first().copied().unwrap_or(0);
        format
    }
}
