//! The position of a picture in the memories that a `unixfdsink` sends.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Layout, Plane, MAX_PLANES};
use crate::frame::Payload;
use crate::share::unixfd::caps::Caps;
use crate::share::unixfd::from_sink::{NewBuffer, VideoMeta};

/// Returns a buffer's layout and data. A bitstream's layout has as many bytes as there are data: its buffer can hold
/// more.
///
/// # Errors
/// `Protocol` if planes exceed their memory, `Unsupported` if no format has its planes divided in this way.
pub(super) fn of(caps: &Caps, buffer: &NewBuffer) -> Result<(Layout, [Payload; MAX_PLANES])> {
    let violation = |what: String| Error::new(ErrorKind::Protocol, "NEW_BUFFER", what);
    let other = |what: String| Error::new(ErrorKind::Unsupported, "NEW_BUFFER", what);
    let size = caps.size;
    let mut payload = [Payload::default(); MAX_PLANES];
    for (to, memory) in payload.iter_mut().zip(buffer.memory()) {
        let narrow = |n: u64| u32::try_from(n).map_err(|_| violation(format!("a memory of {memory:?}")));
        *to = Payload { offset_bytes: narrow(memory.offset_bytes)?, bytes: narrow(memory.bytes)? };
    }
    let memories = buffer.memory().len();
    let info = caps.fourcc.info().ok_or_else(|| other(format!("{} is not known", caps.fourcc)))?;
    let divided = || other(format!("{} in {memories} memories", caps.fourcc));
    if info.planes.is_empty() {
        if memories != 1 {
            return Err(divided());
        }
        let layout = Layout::from_strides(caps.fourcc, size, &[], &[payload[0].bytes])?;
        return Ok((layout.with_colorimetry(caps.colorimetry), payload));
    }
    let fourcc = match memories {
        1 => caps.fourcc,
        n if n == info.planes.len() => caps.fourcc.split().ok_or_else(divided)?,
        _ => return Err(divided()),
    };
    let told = buffer.meta.unwrap_or_else(|| usual(caps));
    if told.planes != info.planes.len() {
        return Err(violation(format!("{} planes of {}", told.planes, caps.fourcc)));
    }
    let mut planes = [Plane::default(); MAX_PLANES];
    let mut needs = [0u64; MAX_PLANES];
    for (i, plane) in planes.iter_mut().enumerate().take(told.planes) {
        let memory = if memories == 1 { 0 } else { i };
        // The offsets count through all memories.
        let before: u64 = payload[..memory].iter().map(|p| u64::from(p.bytes)).sum();
        let offset = told.offsets[i].checked_sub(before).and_then(|at| u32::try_from(at).ok());
        let offset =
            offset.ok_or_else(|| violation(format!("plane {i} at byte {} of {memories} memories", told.offsets[i])))?;
        *plane = Plane { memory: memory as u32, offset_bytes: offset, stride_bytes: told.strides[i] };
        let rows = u64::from(size.height.div_ceil(info.planes[i].vertical));
        needs[memory] = needs[memory].max(u64::from(offset) + u64::from(told.strides[i]) * rows);
    }
    // Memories have whole rows, or end with the last pixel.
    let bytes: [u32; MAX_PLANES] = std::array::from_fn(|i| needs[i].min(payload[i].bytes.into()) as u32);
    let layout = Layout::from_planes(fourcc, size, &bytes[..memories], &planes[..told.planes])
        .map_err(|e| violation(format!("{e}; {:?}", buffer.memory())))?;
    Ok((layout.with_colorimetry(caps.colorimetry), payload))
}

/// GStreamer's layout of a picture without a video meta: strides are multiples of four, planes follow each other, and
/// planes above subsampled ones have an even number of rows. (Observed in 1.26, for each format of the table.)
fn usual(caps: &Caps) -> VideoMeta {
    let mut meta = VideoMeta { planes: 0, offsets: [0; MAX_PLANES], strides: [0; MAX_PLANES] };
    let Some(info) = caps.fourcc.info() else { return meta };
    let (_, vertical) = info.subsampling();
    let mut end = 0;
    for (i, plane) in info.planes.iter().enumerate() {
        let row = caps.size.width.div_ceil(plane.horizontal) * plane.bytes;
        let stride = row.next_multiple_of(4);
        let rows = caps.size.height.next_multiple_of(vertical) / plane.vertical;
        (meta.offsets[i], meta.strides[i], meta.planes) = (end, stride, i + 1);
        end += u64::from(stride) * u64::from(rows);
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Colorimetry, FourCc, Size, FORMATS};
    use crate::share::unixfd::caps::Fields;
    use proptest::prelude::*;

    fn caps(code: &[u8; 4], size: Size) -> Caps {
        Caps { fourcc: FourCc::new(code), size, colorimetry: Colorimetry::default(), fields: Fields::default() }
    }

    fn buffer(memory: &[(u64, u64)], planes: &[(u64, u32)]) -> NewBuffer {
        let mut meta = VideoMeta { planes: planes.len(), offsets: [0; MAX_PLANES], strides: [0; MAX_PLANES] };
        for (i, &(offset, stride)) in planes.iter().enumerate() {
            (meta.offsets[i], meta.strides[i]) = (offset, stride);
        }
        NewBuffer::of(memory, (!planes.is_empty()).then_some(meta))
    }

    /// Sizes and offsets of buffers that GStreamer 1.26 made.
    #[test]
    fn layout_without_a_meta_is_gstreamers() {
        let size = Size::new(321, 241);
        for (code, bytes, planes) in [
            (b"NV12", 117_612, &[(0, 324), (78_408, 324)][..]),
            (b"YU12", 118_096, &[(0, 324), (78_408, 164), (98_252, 164)]),
            (b"422P", 157_132, &[(0, 324), (78_084, 164), (117_608, 164)]),
            (b"NV16", 156_168, &[(0, 324), (78_084, 324)]),
            (b"YUYV", 155_204, &[(0, 644)]),
            (b"GREY", 78_084, &[(0, 324)]),
            (b"RGBP", 155_204, &[(0, 644)]),
            (b"RGB3", 232_324, &[(0, 964)]),
            (b"XB24", 309_444, &[(0, 1_284)]),
        ] {
            let (layout, payload) = of(&caps(code, size), &buffer(&[(bytes, 0)], &[])).unwrap();
            let got: Vec<_> = layout.planes().iter().map(|p| (u64::from(p.offset_bytes), p.stride_bytes)).collect();
            assert_eq!((got.as_slice(), layout.memory_bytes()), (planes, &[bytes as u32][..]), "{layout}");
            assert_eq!(payload[0], Payload { offset_bytes: 0, bytes: bytes as u32 });
            // A meta with the same values gives the same layout.
            assert_eq!(of(&caps(code, size), &buffer(&[(bytes, 0)], planes)).unwrap().0, layout);
            // The last row needs no padding, but all its pixels.
            let last = layout.planes().len() - 1;
            let end = layout.plane_end(last);
            assert!(of(&caps(code, size), &buffer(&[(end, 0)], &[])).is_ok());
            let e = of(&caps(code, size), &buffer(&[(end - 1, 0)], &[])).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Protocol, "{e}");
        }
    }

    #[test]
    fn planes_lie_where_the_meta_says() {
        let nv12 = caps(b"NV12", Size::new(64, 48));
        let (layout, payload) = of(&nv12, &buffer(&[(128 * 100, 4096)], &[(0, 128), (128 * 64, 128)])).unwrap();
        assert_eq!(layout.planes()[1], Plane { memory: 0, offset_bytes: 128 * 64, stride_bytes: 128 });
        assert_eq!(layout.memory_bytes(), [128 * (64 + 24)]);
        assert_eq!(payload[0], Payload { offset_bytes: 4096, bytes: 12_800 });
        // A plane in its own memory: the offset counts through both.
        let split = buffer(&[(64 * 50, 0), (64 * 24, 512)], &[(0, 64), (64 * 50, 64)]);
        let (layout, payload) = of(&nv12, &split).unwrap();
        assert_eq!((layout.fourcc(), layout.memory_bytes()), (FourCc::NV12M, &[64 * 48, 64 * 24][..]));
        assert_eq!(layout.planes()[1], Plane { memory: 1, offset_bytes: 0, stride_bytes: 64 });
        assert_eq!(payload[1], Payload { offset_bytes: 512, bytes: 64 * 24 });
        for (memory, planes, kind) in [
            (&[(4608, 0)][..], &[(0, 64)][..], ErrorKind::Protocol),
            (&[(4608, 0)], &[(0, 64), (3072, 63)], ErrorKind::Protocol),
            (&[(4608, 0)], &[(0, 64), (u64::MAX, 64)], ErrorKind::Protocol),
            (&[(4608, 0)], &[(0, u32::MAX), (0, 64)], ErrorKind::Protocol),
            (&[(4608, 0)], &[(0, 64), (4608, 64)], ErrorKind::Protocol),
            (&[(u64::MAX, 0)], &[], ErrorKind::Protocol),
            (&[(4608, u64::MAX)], &[], ErrorKind::Protocol),
            (&[(3072, 0), (1536, 0)], &[(0, 64), (64, 64)], ErrorKind::Protocol),
            (&[(3072, 0), (1536, 0), (1, 0)], &[], ErrorKind::Unsupported),
        ] {
            assert_eq!(of(&nv12, &buffer(memory, planes)).unwrap_err().kind(), kind, "{memory:?} {planes:?}");
        }
        let packed = caps(b"YUYV", Size::new(64, 48));
        let e = of(&packed, &buffer(&[(3072, 0), (3072, 0)], &[])).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "V4L2 has no name for it in two memories");
    }

    #[test]
    fn bitstream_is_one_memory() {
        let jpeg = caps(b"MJPG", Size::new(64, 48));
        let (layout, payload) = of(&jpeg, &buffer(&[(1000, 16)], &[])).unwrap();
        assert!(layout.is_compressed() && payload[0] == Payload { offset_bytes: 16, bytes: 1000 });
        assert_eq!(of(&jpeg, &buffer(&[(1000, 0), (1000, 0)], &[])).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    proptest! {
        #[test]
        fn planes_stay_within_their_memory(
            format in 0..FORMATS.len(), width in 1u32..5_000, height in 1u32..5_000,
            memory in proptest::collection::vec((prop_oneof![0..20_000_000u64, any::<u64>()], prop_oneof![0..10_000u64, any::<u64>()]), 1..5),
            planes in proptest::collection::vec((prop_oneof![0..20_000_000u64, any::<u64>()], prop_oneof![0..20_000u32, any::<u32>()]), 0..5),
        ) {
            let caps = Caps { fourcc: FORMATS[format].fourcc, size: Size::new(width, height), colorimetry: Colorimetry::default(), fields: Fields::default() };
            if let Ok((layout, payload)) = of(&caps, &buffer(&memory, &planes)) {
                prop_assert_eq!(layout.memory_bytes().len(), memory.len());
                for (i, p) in layout.planes().iter().enumerate() {
                    prop_assert!(layout.plane_end(i) <= u64::from(payload[p.memory as usize].bytes));
                }
                for (bytes, p) in layout.memory_bytes().iter().zip(&payload) {
                    prop_assert!(*bytes <= p.bytes);
                }
            }
        }
    }
}
