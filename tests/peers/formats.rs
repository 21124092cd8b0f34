//! Every pixel format of the library with the same pixels in every language: their tables agree.

use framelease::format::{FormatKind, FourCc, Layout, Size, FORMATS};

use crate::crc32::crc32;
use crate::golden::{self, Descriptor, Session, Step};
use crate::peer::{self, Peer, SANITIZED};
use crate::raw::{self, message};

const BYTES: usize = 16384;

/// A frame in an odd size with padded rows. Byte k of its buffer is k mod 251 (golden.rs).
fn session(layout: &Layout) -> Session {
    let (fourcc, size) = (layout.fourcc(), layout.size());
    let memories = layout.memory_bytes().len() as u32;
    let mut words = vec![1, 1, u32::from(fourcc), size.width, size.height, 0, 0, 0, 0, 0, 0];
    words.push(memories | (layout.planes().len() as u32) << 16);
    words.extend((0..4).map(|i| layout.memory_bytes().get(i).copied().unwrap_or(0)));
    let planes = (0..4).map(|i| layout.planes().get(i).copied().unwrap_or_default());
    words.extend(planes.flat_map(|p| [p.memory, p.offset_bytes, p.stride_bytes]));

    let mut frame = vec![1, 0, 1, 0];
    frame.extend([0; 10]);
    frame.extend((0..4).flat_map(|i| [0, layout.memory_bytes().get(i).copied().unwrap_or(0)]));

    let mut crc = 0;
    let byte = |memory: usize, at: usize| ((at + 13 * memory) % 251) as u8;
    for (i, p) in layout.planes().iter().enumerate() {
        for row in 0..layout.rows(i) {
            let start = p.offset_bytes as usize + row as usize * p.stride_bytes as usize;
            let row: Vec<u8> =
                (start..start + layout.row_bytes(i) as usize).map(|k| byte(p.memory as usize, k)).collect();
            crc = crc32(crc, &row);
        }
    }
    if layout.pixel_bytes() == 0 {
        for (memory, &bytes) in layout.memory_bytes().iter().enumerate() {
            crc = crc32(crc, &(0..bytes as usize).map(|k| byte(memory, k)).collect::<Vec<_>>());
        }
    }
    let data: Vec<_> = layout.memory_bytes().iter().map(|bytes| format!("0+{bytes}")).collect();
    let code = String::from_utf8_lossy(&u32::from(fourcc).to_le_bytes()).into_owned();

    let mut steps = golden::sessions(golden::COMMON).into_iter().find(|(name, _)| name == "greeted").unwrap().1;
    let next = || Step::Order("next".into());
    steps.extend([next(), Step::Say(message(raw::FORMAT, &words)), Step::Answer(format!("format {code} {size}"))]);
    steps.push(next());
    steps.extend((0..memories).map(|_| Step::With(Descriptor::Memfd { bytes: BYTES, sealed: true })));
    steps.push(Step::Say(message(raw::BUFFER, &[1, 0])));
    steps.push(Step::Hear(message(raw::BUFFER_OK, &[1, 0])));
    steps.push(Step::Say(message(raw::FRAME, &frame)));
    let answer =
        format!("frame slot 0 sequence 0 time 0 sent 0 dropped 0 lost 0 flags 0 data {} crc {crc:08x}", data.join(" "));
    steps.push(Step::Answer(answer));
    (fourcc.to_string(), steps)
}

fn every_format(mut peer: Peer) {
    let size = Size::new(29, 17);
    let layouts = FORMATS.iter().map(|info| match info.kind {
        FormatKind::Compressed => Layout::from_planes(info.fourcc, size, &[1000], &[]).unwrap(),
        _ => Layout::aligned(info.fourcc, size, 16).unwrap(),
    });
    // Formats without an entry are opaque: with a stride, with two memory planes, and as V4L2 has bitstreams.
    let opaque = [&[192][..], &[192, 384], &[0]];
    let opaque = opaque.map(|strides| {
        let sizes: Vec<u32> = strides.iter().map(|stride| 1000 + stride).collect();
        Layout::from_strides(FourCc::new(b"HSV3"), size, strides, &sizes).unwrap()
    });
    golden::play(&mut peer, &layouts.chain(opaque).map(|l| session(&l)).collect::<Vec<_>>());
    peer.finish();
}

#[test]
fn formats_rust() {
    every_format(peer::rust());
}

#[test]
fn formats_c() {
    peer::c("C-sanitized", SANITIZED).into_iter().for_each(every_format);
}

#[test]
fn formats_python() {
    peer::python_peer().into_iter().for_each(every_format);
}
