//! What a GPU must know to import a picture: one image for each color plane. Nothing here is of Vulkan except the names
//! of formats, which are those of `wgpu`.

use framelease::dmabuf::DmaBuf;
use framelease::format::{FormatKind, FourCc, Layout, Size};
use framelease::frame::{Frame, FrameMut};
use wgpu::TextureFormat;

use crate::common::Result;

/// One color plane as an image.
pub struct Plane<'a> {
    pub format: TextureFormat,
    /// In samples.
    pub size: Size,
    /// `DRM_FORMAT_MOD_*`.
    pub modifier: u64,
    pub stride_bytes: u64,
    /// From the begin of the buffer.
    pub offset_bytes: u64,
    pub memory: &'a DmaBuf,
}

/// The images of a frame.
pub fn of_frame(frame: &Frame) -> Result<Vec<Plane<'_>>> {
    let payload = frame.meta().payload;
    // Where a driver puts a header before the pixels, planes begin after it.
    let begins: Vec<u32> = payload.iter().map(|payload| payload.offset_bytes).collect();
    images(frame.layout(), frame.memory(), &begins)
}

/// The image of a target, which has no payload yet.
pub fn of_target(target: &FrameMut) -> Result<Plane<'_>> {
    let mut all = images(target.layout(), target.memory(), &[0; 4])?;
    all.pop().filter(|_| all.is_empty()).ok_or_else(|| format!("{} is not one image", target.layout()).into())
}

/// `memory` and `begins` have an entry for each memory plane.
fn images<'a>(layout: &Layout, memory: &'a [DmaBuf], begins: &[u32]) -> Result<Vec<Plane<'a>>> {
    let fourcc = layout.fourcc();
    let refused =
        || format!("{layout} cannot be drawn: planes of 8 bits, or RGB of 32 bits; put a converter before it");
    let info = fourcc.info().filter(|info| !info.planes.is_empty()).ok_or_else(refused)?;
    let mut images = Vec::new();
    for (i, (plane, samples)) in layout.planes().iter().zip(info.planes).enumerate() {
        let format = match (info.kind, samples.bytes, fourcc) {
            (FormatKind::Yuv, 1, _) => TextureFormat::R8Unorm,
            // The chroma plane of NV12 and its like. A first plane of two bytes has wider samples.
            (FormatKind::Yuv, 2, _) if i > 0 => TextureFormat::Rg8Unorm,
            (_, _, FourCc::RGBA32 | FourCc::RGBX32) => TextureFormat::Rgba8Unorm,
            (_, _, FourCc::ABGR32 | FourCc::XBGR32) => TextureFormat::Bgra8Unorm,
            _ => return Err(refused().into()),
        };
        let at = plane.memory as usize;
        let (memory, begin) = memory.get(at).zip(begins.get(at)).ok_or_else(refused)?;
        images.push(Plane {
            format,
            size: Size::new(layout.size().width.div_ceil(samples.horizontal), layout.rows(i)),
            modifier: fourcc.modifier().unwrap_or(0),
            stride_bytes: plane.stride_bytes.into(),
            offset_bytes: u64::from(*begin) + u64::from(plane.offset_bytes),
            memory,
        });
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framelease::dmabuf::Allocator;

    fn described(fourcc: FourCc, begin: u32) -> Vec<(TextureFormat, String, u64, u64)> {
        let layout = Layout::aligned(fourcc, Size::new(35, 21), 64).unwrap();
        let memory: Vec<DmaBuf> =
            layout.memory_bytes().iter().map(|&n| Allocator::Memfd.allocate(n as usize, "test").unwrap()).collect();
        let all = images(&layout, &memory, &[begin; 4]).unwrap();
        all.iter().map(|p| (p.format, p.size.to_string(), p.stride_bytes, p.offset_bytes)).collect()
    }

    #[test]
    fn planes_have_sizes_in_samples_and_offsets_in_buffers() {
        let (r, rg) = (TextureFormat::R8Unorm, TextureFormat::Rg8Unorm);
        let text = |size: &str| size.to_owned();
        for fourcc in [FourCc::NV12, FourCc::NV21] {
            assert_eq!(described(fourcc, 16), [(r, text("35x21"), 64, 16), (rg, text("18x11"), 64, 16 + 64 * 21)]);
        }
        // Each plane has a buffer of its own.
        assert_eq!(described(FourCc::NV12M, 16), [(r, text("35x21"), 64, 16), (rg, text("18x11"), 64, 16)]);
        assert_eq!(described(FourCc::GREY, 0), [(r, text("35x21"), 64, 0)]);
        let planar = described(FourCc::YUV420, 0);
        assert!(planar.len() == 3 && planar.iter().all(|p| p.0 == r), "{planar:?}");
        assert_eq!(described(FourCc::RGBX32, 0), [(TextureFormat::Rgba8Unorm, text("35x21"), 192, 0)]);
        assert_eq!(described(FourCc::XBGR32, 0)[0].0, TextureFormat::Bgra8Unorm);
    }

    #[test]
    fn planes_of_other_formats_are_refused() {
        for fourcc in [FourCc::YUYV, FourCc::RGB24, FourCc::RGB565, FourCc::ARGB32, FourCc::new(b"P010")] {
            let layout = Layout::packed(fourcc, Size::new(32, 16)).unwrap();
            let memory = [Allocator::Memfd.allocate(layout.memory_bytes()[0] as usize, "test").unwrap()];
            let error = images(&layout, &memory, &[0; 4]).err().unwrap().to_string();
            assert!(error.contains("32x16") && error.contains("converter"), "{error}");
        }
    }
}
