//! Tests of replays: what was stored or recorded comes back, at the same times. Files are also read and written by
//! ffmpeg. If it is missing, the test prints a skip.

mod cut;
mod frames;
#[path = "../sink/limits.rs"]
#[allow(dead_code)] // Not all of it is used here.
mod limits;
mod packets;
mod peers;
#[path = "../sink/support.rs"]
#[allow(dead_code)] // Not all of it is used here.
mod support;

use std::time::Duration;

use framelease::capture::CameraEvent;
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{ColorSpace, Colorimetry, FourCc, Layout, Range, Size};
use framelease::frame::{Frame, FrameFlags, FrameMeta, Pool};
use framelease::replay::{FrameReplay, FrameReplayBuilder, FrameStore};
use framelease::{Received, Station};

const SOON: Duration = Duration::from_secs(20);

/// A frame for a store.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    sequence: u64,
    timestamp_ns: u64,
    lost: u32,
    flags: FrameFlags,
}

fn wanted(sequence: u64, timestamp_ns: u64, lost: u32, flags: FrameFlags) -> Wanted {
    Wanted { sequence, timestamp_ns, lost, flags }
}

/// Returns frames of a layout with bytes that depend on their number.
fn frames(layout: Layout, wanted: &[Wanted]) -> Vec<Frame> {
    let pool = Pool::new(&Allocator::Memfd, layout, wanted.len()).unwrap();
    let frame = |w: &Wanted| {
        let mut frame = pool.try_acquire().unwrap();
        let mut pixels = frame.write(DEFAULT_WAIT).unwrap();
        for plane in 0..layout.planes().len() {
            for row in 0..layout.rows(plane) {
                let byte =
                    |i: u32| ((w.sequence as u32).wrapping_mul(31) % 1000 + plane as u32 * 7 + row * 3 + i) as u8;
                let row_bytes: Vec<u8> = (0..layout.row_bytes(plane)).map(byte).collect();
                pixels.copy_row(plane, row, &row_bytes).unwrap();
            }
        }
        drop(pixels);
        let frame = frame.freeze_full(w.sequence, w.timestamp_ns);
        let mut meta = *frame.meta();
        (meta.lost, meta.flags) = (w.lost, w.flags);
        frame.with_meta(meta)
    };
    wanted.iter().map(frame).collect()
}

fn layout(format: &str, size: Size, align: u32) -> Layout {
    let colors = Colorimetry { space: ColorSpace::Rec709, range: Range::Full, ..Colorimetry::default() };
    Layout::aligned(format.parse::<FourCc>().unwrap(), size, align).unwrap().with_colorimetry(colors)
}

fn store<'a>(path: &std::path::Path, frames: impl IntoIterator<Item = &'a Frame>) {
    let mut store = FrameStore::create(path).unwrap();
    for frame in frames {
        store.write(frame).unwrap();
    }
    store.finish().unwrap();
}

/// The bytes of all memory planes.
fn bytes(frame: &Frame) -> Vec<Vec<u8>> {
    let read = frame.read(DEFAULT_WAIT).unwrap();
    let plane = |i: usize| {
        let mut bytes = vec![0; frame.meta().payload[i].bytes as usize];
        read.copy_payload(i, 0, &mut bytes).unwrap();
        bytes
    };
    (0..frame.layout().memory_bytes().len()).map(plane).collect()
}

/// The frames of a replay, up to its end. The layouts of its changes.
fn played(builder: FrameReplayBuilder) -> (Vec<Frame>, Vec<Layout>) {
    let mut replay = builder.open().unwrap();
    let (mut frames, mut layouts) = (Vec::new(), Vec::new());
    loop {
        match replay.recv(SOON).unwrap() {
            Received::Item(CameraEvent::Frame(frame)) => frames.push(frame),
            Received::Item(CameraEvent::Changed(layout)) => layouts.push(layout),
            Received::Ended => return (frames, layouts),
            other => panic!("{other:?}"),
        }
    }
}

/// Sequence number, time since the first frame, lost frames and flags.
fn facts(frames: &[Frame]) -> Vec<(u64, u64, u32, FrameFlags)> {
    let first = frames[0].meta().timestamp_ns;
    let fact =
        |meta: &FrameMeta| (meta.sequence, meta.timestamp_ns - first, meta.lost, meta.flags | FrameFlags::MONOTONIC);
    frames.iter().map(|frame| fact(frame.meta())).collect()
}

fn builder(path: &std::path::Path) -> FrameReplayBuilder {
    FrameReplay::builder(path)
}
