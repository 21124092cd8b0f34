//! Conversions from and to types of the `v4l` crate (feature `v4l`), for programs that migrate step by step.

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

/// Duplicates the device's descriptor. Both are the same open file, with one format and one set of queues.
///
/// The file becomes non-blocking for both, as this crate requires. Streams of `v4l` continue to work, because they
/// poll before they dequeue from a capture queue. Do not stream through both at the same time: the kernel returns
/// EBUSY.
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

/// Converts a format of `v4l`. It is single-planar and has one stride and one size.
///
/// # Errors
/// `Unsupported` for an unknown format, `InvalidArgument` for an impossible size, `Mismatch` if the stride is shorter
/// than a row or the size smaller than the rows.
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

/// Converts the part of a layout that `v4l` can express: the first memory plane. The driver chooses the colorimetry.
impl From<&Layout> for ::v4l::Format {
    fn from(layout: &Layout) -> Self {
        let mut format = Self::new(layout.size().width, layout.size().height, layout.fourcc().into());
        format.stride = layout.planes().first().map_or(0, |p| p.stride_bytes);
        format.size = layout.memory_bytes().first().copied().unwrap_or(0);
        format
    }
}
