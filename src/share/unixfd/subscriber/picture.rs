//! Where a picture lies in the memories that a `unixfdsink` sends.

use super::super::caps::Caps;
use super::wire::{NewBuffer, VideoMeta};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Layout, Plane, MAX_PLANES};
use crate::frame::Payload;

/// A buffer's layout and data. A bitstream's layout has as many bytes as it has data: its buffer can hold more.
///
/// # Errors
/// `Protocol` if planes leave their memory, `Unsupported` if no format here has its planes so divided.
pub(super) fn of(caps: &Caps, buffer: &NewBuffer) -> Result<(Layout, [Payload; MAX_PLANES])> {
    let lie = |what: String| Error::new(ErrorKind::Protocol, "NEW_BUFFER", what);
    let other = |what: String| Error::new(ErrorKind::Unsupported, "NEW_BUFFER", what);
    let size = caps.size;
    let mut payload = [Payload::default(); MAX_PLANES];
    for (to, memory) in payload.iter_mut().zip(buffer.memory()) {
        let narrow = |n: u64| u32::try_from(n).map_err(|_| lie(format!("a memory of {memory:?}")));
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
        return Err(lie(format!("{} planes of {}", told.planes, caps.fourcc)));
    }
    let mut planes = [Plane::default(); MAX_PLANES];
    let mut needs = [0u64; MAX_PLANES];
    for (i, plane) in planes.iter_mut().enumerate().take(told.planes) {
        let memory = if memories == 1 { 0 } else { i };
        // The offsets count through all memories.
        let before: u64 = payload[..memory].iter().map(|p| u64::from(p.bytes)).sum();
        let offset = told.offsets[i].checked_sub(before).and_then(|at| u32::try_from(at).ok());
        let offset = offset.ok_or_else(|| lie(format!("plane {i} at byte {} of {memories} memories", told.offsets[i])))?;
        *plane = Plane { memory: memory as u32, offset_bytes: offset, stride_bytes: told.strides[i] };
        let rows = u64::from(size.height.div_ceil(info.planes[i].vertical));
        needs[memory] = needs[memory].max(u64::from(offset) + u64::from(told.strides[i]) * rows);
    }
    // Whole rows, unless the memory ends with the last pixel.
    let bytes: [u32; MAX_PLANES] = std::array::from_fn(|i| needs[i].min(payload[i].bytes.into()) as u32);
    let layout = Layout::from_planes(fourcc, size, &bytes[..memories], &planes[..told.planes])
        .map_err(|e| lie(format!("{e}; {:?}", buffer.memory())))?;
    Ok((layout.with_colorimetry(caps.colorimetry), payload))
}

/// How GStreamer lays out a picture that comes without a video meta: strides are multiples of four, planes follow each
/// other, above subsampled ones rows are even. (Seen in 1.26, for each format of the table.)
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
