//! Any bytes as messages of the share protocol, and any numbers as layouts.

#![no_main]

use framelease::format::{FourCc, Layout, Plane, Size};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = framelease::share::reads_as_written(input);
    let words: Vec<u32> = input.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let &[kind, width, height, align, ref rest @ ..] = &words[..] else { return };
    const KNOWN: [&[u8; 4]; 8] = [b"NV12", b"YUYV", b"XR24", b"YM12", b"NM12", b"GREY", b"H264", b"RGB3"];
    // One that is known, or any.
    let fourcc = match KNOWN.get(kind as usize % 16) {
        Some(name) => FourCc::new(name),
        None => FourCc::from(kind),
    };
    let size = Size::new(width, height);
    let (half, other) = rest.split_at(rest.len() / 2);
    check(Layout::packed(fourcc, size).ok());
    check(Layout::aligned(fourcc, size, align).ok());
    check(Layout::from_strides(fourcc, size, half, other).ok());
    let planes: Vec<Plane> =
        other.chunks_exact(3).map(|p| Plane { memory: p[0], offset_bytes: p[1], stride_bytes: p[2] }).collect();
    check(Layout::from_planes(fourcc, size, half, &planes).ok());
});

/// What a layout promises to all who read pixels by it.
fn check(layout: Option<Layout>) {
    let Some(layout) = layout else { return };
    for (i, plane) in layout.planes().iter().enumerate() {
        let memory = u64::from(layout.memory_bytes()[plane.memory as usize]);
        if layout.fourcc().info().map_or(true, |info| info.planes.is_empty()) {
            // The planes of tiles and of unknown formats have a place and no rows.
            assert!(layout.rows(i) == 0 && u64::from(plane.offset_bytes) <= memory, "{layout}");
            continue;
        }
        let rows = u64::from(layout.rows(i));
        assert!(rows > 0 && layout.row_bytes(i) <= plane.stride_bytes, "{layout}");
        let end =
            u64::from(plane.offset_bytes) + u64::from(plane.stride_bytes) * (rows - 1) + u64::from(layout.row_bytes(i));
        assert!(end <= memory, "{layout}");
    }
    let _ = layout.to_string();
}
