//! The data of a buffer for QBUF, checked, and from DQBUF.

use super::capture_clock::CaptureClock;
use super::sequence::Sequence;
use crate::bitstream::{self, Codec, TAIL_BYTES};
use crate::dmabuf::DmaBuf;
use crate::flags::Flags;
use crate::format::{Layout, MAX_PLANES};
use crate::frame::{Frame, FrameFlags, FrameMeta, Payload};
use crate::sys::v4l2::flag;
use crate::sys::v4l2_calls::{Buffer, BufferPlane};
use crate::v4l2::formats::geometry;

/// Returns the part of a shared buffer that each plane of a queue reads. See [`splits`](super::formats::splits).
pub(super) fn split(
    picture: &Layout,
    queue: &Layout,
    size: usize,
    whole: Payload,
) -> Result<[Payload; MAX_PLANES], String> {
    let mut parts = [Payload::default(); MAX_PLANES];
    for (i, (part, &needed)) in parts.iter_mut().zip(queue.memory_bytes()).enumerate() {
        let inside = u64::from(whole.bytes);
        if picture.plane_end(i) > inside {
            return Err(format!("plane {i} ends at {}, after the frame's {inside} bytes", picture.plane_end(i)));
        }
        let offset = u64::from(whole.offset_bytes) + u64::from(picture.planes()[i].offset_bytes);
        // Drivers check the whole plane, including padding.
        if offset + u64::from(needed) > size as u64 {
            return Err(format!("plane {i} needs {needed} bytes at {offset} of a buffer of {size}"));
        }
        *part = Payload { offset_bytes: u32::try_from(offset).unwrap_or(u32::MAX), bytes: needed };
    }
    Ok(parts)
}

/// Returns the planes for a QBUF, checked here because kernels do not check everything. `bytesused` includes the
/// offset. `length` is that of the whole dma-buf. A capture queue has no `data`.
pub(super) fn planes(
    picture: &Layout,
    queue: &Layout,
    sizes: impl Iterator<Item = usize> + Clone,
    data: Option<&[Payload; MAX_PLANES]>,
    multi_planar: bool,
) -> std::result::Result<[BufferPlane; MAX_PLANES], String> {
    let needed = queue.memory_bytes();
    let count = sizes.clone().count();
    if count != needed.len() {
        return Err(format!("{count} memory planes; the queue's {queue} has {}", needed.len()));
    }
    let mut planes = [BufferPlane::default(); MAX_PLANES];
    for (i, (size, &needed)) in sizes.zip(needed).enumerate() {
        if size < needed as usize {
            let at = geometry(queue);
            return Err(format!("memory plane {i} is a buffer of {size} bytes; {at} needs {needed}"));
        }
        planes[i].length = u32::try_from(size).unwrap_or(u32::MAX);
        let Some(data) = data else { continue };
        let Payload { offset_bytes, mut bytes } = data[i];
        // A whole picture in a queue that has more rows: drivers count those rows, too.
        let is_whole = !queue.is_compressed() && picture.memory_bytes().get(i).is_some_and(|&own| bytes >= own);
        if is_whole && u64::from(offset_bytes) + u64::from(needed) <= size as u64 {
            bytes = bytes.max(needed);
        }
        if offset_bytes != 0 && !multi_planar {
            return Err(format!(
                "data at offset {offset_bytes}: the device's single-planar API does not support offsets"
            ));
        }
        planes[i].data_offset = offset_bytes;
        planes[i].bytesused = match offset_bytes.checked_add(bytes) {
            Some(end) if bytes > 0 && end as usize <= size => end,
            _ => return Err(format!("memory plane {i}: {bytes} bytes at {offset_bytes} of a buffer of {size}")),
        };
        // The single-planar API refuses more bytes than the queue's own buffers hold. For a picture, the excess is
        // padding.
        if !multi_planar && bytes > needed {
            if queue.is_compressed() {
                return Err(format!("{bytes} bytes of bitstream do not fit the queue's {queue}"));
            }
            planes[i].bytesused = needed;
        }
    }
    Ok(planes)
}

/// Returns the metadata of a filled buffer. Impossible numbers make it a frame with the flag `ERROR` and without
/// data. A camera's picture has the flag, too, if its data ends before its last row, as from analog grabbers, or if a
/// marker is missing at an end of its JPEG picture.
pub(super) fn meta(
    sequence: &mut Sequence,
    clock: &mut CaptureClock,
    buffer: &Buffer,
    memory: &[DmaBuf],
    picture: Option<&Layout>,
    field_order: impl FnOnce() -> FieldOrder,
) -> FrameMeta {
    let fields = interlacing(buffer.field(), field_order);
    let (count, lost) = sequence.next(buffer.sequence(), fields & FrameFlags::ONE_FIELD);
    let mut meta = FrameMeta { sequence: count, lost, timestamp_ns: buffer.timestamp_ns(), ..FrameMeta::default() };
    meta.flags = flags(buffer) | fields;
    if meta.flags.contains(FrameFlags::MONOTONIC) && !clock.accepts(meta.timestamp_ns) {
        meta.flags.set(FrameFlags::MONOTONIC, false);
    }
    for (i, (payload, memory)) in meta.payload.iter_mut().zip(memory).enumerate() {
        let plane = buffer.plane(i);
        match plane.bytesused.checked_sub(plane.data_offset) {
            Some(bytes) if plane.bytesused as usize <= memory.size_bytes() => {
                *payload = Payload { offset_bytes: plane.data_offset, bytes };
            }
            _ => meta.flags |= FrameFlags::ERROR,
        }
    }
    if picture.is_some_and(|layout| is_short(layout, &meta.payload) || is_cut(layout, &meta.payload[0], memory)) {
        meta.flags |= FrameFlags::ERROR;
    }
    meta
}

/// Returns `true` if rows are missing.
fn is_short(layout: &Layout, payload: &[Payload; MAX_PLANES]) -> bool {
    layout.planes().iter().enumerate().any(|(i, plane)| {
        let has = payload.get(plane.memory as usize).map_or(0, |payload| payload.bytes);
        layout.row_bytes(i) > 0 && layout.plane_end(i) > u64::from(has)
    })
}

/// Returns `true` if the data is not a whole JPEG picture, although its format is JPEG. Reads the first 2 and the
/// last 256 bytes. Where the end marker is not in them, reads back until it is found: cameras may write other data
/// after the picture. A buffer that the CPU cannot read counts as whole.
fn is_cut(layout: &Layout, payload: &Payload, memory: &[DmaBuf]) -> bool {
    let (true, Some(memory)) = (Codec::of(layout.fourcc()) == Some(Codec::Mjpeg), memory.first()) else { return false };
    let (start, bytes) = (payload.offset_bytes as usize, payload.bytes as usize);
    let (mut head, mut tail) = ([0; 2], [0; TAIL_BYTES]);
    let (head, tail) = (&mut head[..bytes.min(2)], &mut tail[..bytes.min(TAIL_BYTES)]);
    let is_suspect = memory.copy_ends(start..start + bytes, head, tail).is_ok() && bitstream::is_cut(head, tail);
    is_suspect && !(bitstream::is_jpeg(head) && has_end(memory, start, bytes))
}

/// Returns `true` if the end marker of a JPEG picture is anywhere in the data.
fn has_end(memory: &DmaBuf, start: usize, bytes: usize) -> bool {
    const STEP: usize = 4096;
    let mut part = [0; STEP];
    let mut end = start + bytes;
    loop {
        let part = &mut part[..STEP.min(end - start)];
        match memory.copy_ends(start..end, &mut [], part) {
            Ok(()) if bitstream::has_end(part) => return true,
            // The parts overlap by a byte.
            Ok(()) if end - start > STEP => end -= STEP - 1,
            Ok(()) | Err(_) => return false,
        }
    }
}

/// Returns a frame that an output queue has finished, flagged if the device could not use it.
pub(super) fn returned(frame: Frame, buffer: &Buffer) -> Frame {
    let mut meta = *frame.meta();
    if buffer.flags() & flag::ERROR != 0 {
        meta.flags |= FrameFlags::ERROR;
    }
    frame.with_meta(meta)
}

/// The field of an interlaced picture that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldOrder {
    TopFirst,
    BottomFirst,
}

/// Returns the flags of a `v4l2_field`. `V4L2_FIELD_INTERLACED` leaves the order to the standard of the source.
fn interlacing(field: u32, by_standard: impl FnOnce() -> FieldOrder) -> FrameFlags {
    let order = match field {
        2 => return FrameFlags::TOP_FIELD,
        3 => return FrameFlags::BOTTOM_FIELD,
        4 => by_standard(),
        8 => FieldOrder::TopFirst,
        9 => FieldOrder::BottomFirst,
        _ => return FrameFlags::default(),
    };
    match order {
        FieldOrder::TopFirst => FrameFlags::INTERLACED,
        FieldOrder::BottomFirst => FrameFlags::INTERLACED | FrameFlags::BOTTOM_FIRST,
    }
}

fn flags(buffer: &Buffer) -> FrameFlags {
    let bits = buffer.flags();
    let mut flags = FrameFlags::default();
    flags.set(FrameFlags::ERROR, bits & flag::ERROR != 0);
    flags.set(FrameFlags::KEY, bits & flag::KEYFRAME != 0);
    flags.set(FrameFlags::LAST, bits & flag::LAST != 0);
    flags.set(FrameFlags::MONOTONIC, bits & flag::TIMESTAMP_MASK == flag::TIMESTAMP_MONOTONIC);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::{Allocator, DEFAULT_WAIT};
    use crate::format::Size;

    #[test]
    fn planes_refuses_data_outside_its_buffers() {
        let layout = Layout::packed("NV12M".parse().unwrap(), Size::new(64, 32)).unwrap();
        let at = |offset_bytes, bytes| Payload { offset_bytes, bytes };
        let data = [at(128, 2048), at(0, 1024), Payload::default(), Payload::default()];
        let good = planes(&layout, &layout, [4096, 4096].into_iter(), Some(&data), true).unwrap();
        assert_eq!(good[0], BufferPlane { length: 4096, bytesused: 2176, data_offset: 128 });
        assert_eq!(good[1], BufferPlane { length: 4096, bytesused: 1024, data_offset: 0 });
        for (sizes, data, multi) in [
            (vec![4096, 1000], data, true),
            (vec![4096], data, true),
            (vec![4096, 4096], data, false),
            (vec![4096, 4096], [at(4000, 200), data[1], data[2], data[3]], true),
            (vec![4096, 4096], [at(u32::MAX, 2), data[1], data[2], data[3]], true),
            (vec![4096, 4096], [at(0, 0), data[1], data[2], data[3]], true),
        ] {
            assert!(planes(&layout, &layout, sizes.into_iter(), Some(&data), multi).is_err());
        }
        // Padding below the picture, and a bitstream that is too long.
        let yuyv = Layout::packed("YUYV".parse().unwrap(), Size::new(64, 32)).unwrap();
        let long = [at(0, 5000), Payload::default(), Payload::default(), Payload::default()];
        let used =
            |layout, multi| planes(layout, layout, [8192].into_iter(), Some(&long), multi).map(|p| p[0].bytesused);
        assert_eq!((used(&yuyv, false), used(&yuyv, true)), (Ok(4096), Ok(5000)));
        let coded = Layout::from_strides("H264".parse().unwrap(), Size::new(64, 32), &[], &[4096]).unwrap();
        assert!(used(&coded, false).is_err() && used(&coded, true).is_ok());
        let empty = planes(&layout, &layout, [4096, 4096].into_iter(), None, true).unwrap();
        assert_eq!(empty[1], BufferPlane { length: 4096, bytesused: 0, data_offset: 0 });
    }

    #[test]
    fn planes_fills_a_larger_queue_with_a_whole_picture() {
        let at = |offset_bytes, bytes| Payload { offset_bytes, bytes };
        let yuyv = |height| Layout::packed("YUYV".parse().unwrap(), Size::new(64, height)).unwrap();
        let used = |bytes, size| {
            let data = [at(0, bytes), Payload::default(), Payload::default(), Payload::default()];
            planes(&yuyv(30), &yuyv(32), [size].into_iter(), Some(&data), true).map(|p| p[0].bytesused)
        };
        assert_eq!(used(30 * 128, 4096), Ok(4096));
        assert_eq!(used(100, 4096), Ok(100), "a partial frame keeps its length");
        assert!(used(30 * 128, 4000).is_err());
    }

    #[test]
    fn picture_is_short_if_rows_are_missing() {
        let of = |format: &str| Layout::packed(format.parse().unwrap(), Size::new(64, 30)).unwrap();
        let bytes = |all: [u32; 2]| {
            let mut payload = [Payload::default(); MAX_PLANES];
            payload.iter_mut().zip(all).for_each(|(payload, bytes)| payload.bytes = bytes);
            payload
        };
        assert!(!is_short(&of("NV12"), &bytes([64 * 45, 0])) && is_short(&of("NV12"), &bytes([64 * 45 - 1, 0])));
        assert!(!is_short(&of("NV12M"), &bytes([64 * 30, 64 * 15])) && is_short(&of("NV12M"), &bytes([64 * 30, 0])));
        let coded = Layout::from_strides("MJPG".parse().unwrap(), Size::new(64, 30), &[], &[4096]).unwrap();
        assert!(!is_short(&coded, &bytes([1, 0])));
        // Padding after the last row may be missing.
        let padded = Layout::from_strides("YUYV".parse().unwrap(), Size::new(64, 30), &[256], &[]).unwrap();
        assert!(!is_short(&padded, &bytes([256 * 29 + 128, 0])));
    }

    #[test]
    fn jpeg_is_cut_if_a_marker_is_missing_at_an_end_of_its_data() {
        let mut memory = Allocator::Memfd.allocate(8192, "test").unwrap();
        let jpeg = [&[0xff, 0xd8], &[7; 500][..], &[0xff, 0xd9]].concat();
        memory.write(DEFAULT_WAIT).unwrap().copy_from(1000, &jpeg).unwrap();
        let coded =
            |format: &str| Layout::from_strides(format.parse().unwrap(), Size::new(64, 30), &[], &[8192]).unwrap();
        let of = |memory: &DmaBuf, format: &str, offset_bytes, bytes| {
            is_cut(&coded(format), &Payload { offset_bytes, bytes }, std::slice::from_ref(memory))
        };
        let is = |format: &str, offset, bytes| of(&memory, format, offset, bytes);
        let whole = jpeg.len() as u32;
        assert!(!is("MJPG", 1000, whole) && !is("JPEG", 1000, whole) && !is("MJPG", 1000, whole + 2000));
        for (offset, bytes) in [(1000, whole - 1), (1001, whole - 1), (1000, 1), (1000, 0), (0, whole)] {
            assert!(is("MJPG", offset, bytes) && !is("H264", offset, bytes), "{bytes} bytes at {offset}");
        }
        // Other data after the picture, of more than one part.
        memory.write(DEFAULT_WAIT).unwrap().copy_from(1000 + jpeg.len(), &[5, 6].repeat(3000)).unwrap();
        assert!(!of(&memory, "MJPG", 1000, whole + 300) && !of(&memory, "MJPG", 1000, whole + 6000));
        memory.write(DEFAULT_WAIT).unwrap().copy_from(1000 + jpeg.len() - 1, &[0]).unwrap();
        assert!(of(&memory, "MJPG", 1000, whole + 300) && of(&memory, "MJPG", 1000, whole + 6000));
    }

    #[test]
    fn split_gives_each_plane_its_offset() {
        let one = Layout::packed("NV12".parse().unwrap(), Size::new(64, 30)).unwrap();
        let two = Layout::packed("NV12M".parse().unwrap(), Size::new(64, 32)).unwrap();
        let whole = Payload { offset_bytes: 0, bytes: 64 * 45 };
        let parts = split(&one, &two, 4096, whole).unwrap();
        assert_eq!(parts[..2], [Payload { offset_bytes: 0, bytes: 2048 }, Payload { offset_bytes: 1920, bytes: 1024 }]);
        assert!(split(&one, &two, 2900, whole).is_err(), "the buffer ends before the queue's last rows");
        assert!(split(&one, &two, 4096, Payload { bytes: 2000, ..whole }).is_err());
    }
}
