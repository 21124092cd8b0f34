//! A store and its replay.

use std::os::fd::AsFd;
use std::time::Duration;

use framelease::capture::{CameraEvent, FrameSource};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::FrameFlags;
use framelease::replay::{FrameReplay, FrameStore};
use framelease::{wait, ErrorKind, Received, Station};
use nix::sys::stat::Mode;

use crate::limits::file_limit;
use crate::support::{alone, Folder};
use crate::{builder, bytes, facts, frames, layout, played, store, wanted, Wanted, SOON};

const MS: u64 = 1_000_000;
const NONE: FrameFlags = FrameFlags::MONOTONIC;
const SMALL: Size = Size::new(16, 8);

/// Frames with a gap, a jitter, and flags.
fn eventful() -> [Wanted; 5] {
    [
        wanted(u64::MAX / 2, 7_000_000_123, 0, NONE),
        wanted(u64::MAX / 2 + 1, 7_000_000_123 + 3 * MS + 17, 0, FrameFlags::default()),
        wanted(u64::MAX / 2 + 4, 7_000_000_123 + 12 * MS, 2, NONE | FrameFlags::ERROR),
        wanted(u64::MAX / 2 + 5, 7_000_000_123 + 15 * MS, 0, FrameFlags::INTERLACED | FrameFlags::BOTTOM_FIRST),
        wanted(u64::MAX / 2 + 6, 7_000_000_123 + 60 * MS, 0, NONE | FrameFlags::BOTTOM_FIELD),
    ]
}

#[test]
fn frame_replay_gives_what_was_stored() {
    let folder = Folder::new("same");
    for (format, align) in [("NV12", 1), ("NV12", 64), ("YUV420M", 32), ("YUYV", 1), ("GREY", 1)] {
        let layout = layout(format, Size::new(62, 34), align);
        let stored = frames(layout, &eventful());
        let path = folder.path(format);
        store(&path, &stored);
        let (replayed, changes) = played(builder(&path));
        assert_eq!(facts(&replayed), facts(&stored), "{format}");
        assert!(replayed.iter().all(|frame| *frame.layout() == layout) && changes.is_empty(), "{format}");
        assert!(replayed.iter().zip(&stored).all(|(a, b)| bytes(a) == bytes(b)), "{format}");
        assert!(replayed.iter().all(|frame| frame.meta().flags.contains(FrameFlags::MONOTONIC)));
    }
}

#[test]
fn frame_replay_gives_short_payloads_and_bitstreams() {
    let folder = Folder::new("short");
    let jpeg = Layout::from_strides(FourCc::MJPEG, Size::new(640, 480), &[0], &[4096]).unwrap();
    for layout in [jpeg, layout("NV12", SMALL, 1)] {
        let mut stored = frames(layout, &eventful()[..2]);
        let mut meta = *stored[1].meta();
        // A camera's data may begin after the start of the buffer.
        (meta.payload[0].offset_bytes, meta.payload[0].bytes) = (8, 77);
        stored[1] = stored[1].clone().with_meta(meta);
        let path = folder.path("short");
        store(&path, &stored);
        let (replayed, _) = played(builder(&path));
        assert_eq!((bytes(&replayed[1]), replayed[1].meta().payload[0].bytes), (bytes(&stored[1]), 77));
        assert_eq!(bytes(&replayed[0]), bytes(&stored[0]));
        assert_eq!(replayed[1].layout(), &layout);
    }
}

#[test]
fn changed_comes_before_frames_of_another_layout() {
    let folder = Folder::new("changed");
    let (a, b) = (layout("NV12", SMALL, 1), layout("YUYV", SMALL, 64));
    let stored = [frames(a, &eventful()[..2]), frames(b, &eventful()[2..]), frames(a, &eventful()[4..])].concat();
    let path = folder.path("changed");
    store(&path, &stored);
    let (replayed, changes) = played(builder(&path));
    assert_eq!(changes, [b, a]);
    assert_eq!(replayed.iter().map(|frame| *frame.layout()).collect::<Vec<_>>(), [a, a, b, b, b, a]);
    assert!(replayed.iter().zip(&stored).all(|(a, b)| bytes(a) == bytes(b)));
    let mut replay = builder(&path).open().unwrap();
    while let Received::Item(event) = replay.recv(SOON).unwrap() {
        if let CameraEvent::Changed(layout) = event {
            assert_eq!((replay.layout().unwrap(), replay.buffers().unwrap().leased()), (&layout, 0));
        }
    }
}

#[test]
fn frame_replay_ends_once_and_is_quiet() {
    let folder = Folder::new("ended");
    let path = folder.path("ended");
    store(&path, &frames(layout("GREY", SMALL, 1), &eventful()[..2]));
    let mut replay = builder(&path).open().unwrap();
    let fd = replay.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(replay.frames().count(), 2);
    for _ in 0..3 {
        assert!(!wait(&[&fd], Duration::from_millis(20)).unwrap());
        assert_eq!(replay.try_recv().unwrap_err().kind(), ErrorKind::State);
    }
}

#[test]
fn frame_that_finds_no_buffer_counts_as_lost() {
    let folder = Folder::new("starved");
    let path = folder.path("starved");
    let all: Vec<Wanted> = (0..60).map(|i| wanted(100 + i, i * 25 * MS, u32::from(i == 7), NONE)).collect();
    let stored = frames(layout("GREY", SMALL, 1), &all);
    store(&path, &stored);
    let mut replay = builder(&path).buffers(2).open().unwrap();
    let held: Vec<_> = replay.frames().take(2).collect();
    // The third frame is dropped when it is due, and then nothing is announced.
    assert!(replay.recv(Duration::from_millis(300)).unwrap().is_nothing());
    assert!(!wait(&[&replay], Duration::from_millis(20)).unwrap());
    drop(held);
    assert!(wait(&[&replay], SOON).unwrap());
    let next = replay.recv(SOON).unwrap().frame().unwrap();
    let missing = next.meta().sequence - 102;
    // Frame 107 reports a frame that the source lost.
    assert!(missing > 5, "{missing} frames are missing");
    assert_eq!(u64::from(next.meta().lost), missing + 1);
    assert_eq!(replay.stats().lost, missing + 1);
    let after = replay.recv(SOON).unwrap().frame().unwrap();
    assert_eq!((after.meta().sequence, after.meta().lost), (next.meta().sequence + 1, 0));
    // Times are those of the recording, not those of the delay.
    assert_eq!(after.meta().timestamp_ns - next.meta().timestamp_ns, 25 * MS);
}

#[test]
fn frame_that_cannot_be_written_is_an_error_and_counts_as_lost() {
    let folder = Folder::new("busy");
    let path = folder.path("busy");
    store(&path, &frames(layout("GREY", SMALL, 1), &[0, 1, 2].map(|i| wanted(i, i, 0, NONE))));
    let mut replay = builder(&path).buffers(1).open().unwrap();
    let memory = replay.recv(SOON).unwrap().frame().unwrap().memory()[0].clone();
    let reads = memory.read(SOON).unwrap();
    assert_eq!(replay.recv(SOON).unwrap_err().kind(), ErrorKind::Busy);
    drop(reads);
    let next = replay.recv(SOON).unwrap().frame().unwrap();
    assert_eq!((next.meta().sequence, next.meta().lost), (2, 1));
    drop(next);
    assert!(replay.recv(SOON).unwrap().is_ended());
}

#[test]
fn looped_continues_numbers_and_times() {
    let folder = Folder::new("looped");
    let path = folder.path("looped");
    let times = [0, 4 * MS, 8 * MS, 20 * MS];
    let numbers = [3, 4, 5, 8];
    let all: Vec<Wanted> = (0..4).map(|i| wanted(numbers[i], times[i], u32::from(i == 3) * 2, NONE)).collect();
    store(&path, &frames(layout("GREY", SMALL, 1), &all));
    let mut replay = builder(&path).looped(true).open().unwrap();
    let frames: Vec<_> = replay.frames().take(10).collect::<framelease::Result<_>>().unwrap();
    let facts: Vec<_> = facts(&frames).iter().map(|(number, time, lost, _)| (*number, time / MS, *lost)).collect();
    let first = [(3, 0, 0), (4, 4, 0), (5, 8, 0), (8, 20, 2)];
    let second = [(9, 24, 0), (10, 28, 0), (11, 32, 0), (14, 44, 2)];
    assert_eq!(facts, [&first[..], &second, &[(15, 48, 0), (16, 52, 0)]].concat());
}

#[test]
fn frame_replay_waits_for_the_recorded_time() {
    let folder = Folder::new("paced");
    let path = folder.path("paced");
    store(&path, &frames(layout("GREY", SMALL, 1), &[wanted(0, 9, 0, NONE), wanted(1, 9 + 3_600_000 * MS, 0, NONE)]));
    let mut replay = builder(&path).open().unwrap();
    assert!(wait(&[&replay], SOON).unwrap());
    assert!(replay.try_recv().unwrap().frame().is_some(), "the first frame comes at once");
    assert!(replay.recv(Duration::from_millis(100)).unwrap().is_nothing(), "the second frame comes after an hour");
}

/// The module's documentation is for other programs.
#[test]
fn frame_store_writes_what_its_documentation_says() {
    let folder = Folder::new("bytes");
    let path = folder.path("bytes");
    let stored = frames(layout("GREY", Size::new(2, 1), 4), &[wanted(0x0102, 0x0304, 5, FrameFlags::ERROR)]);
    store(&path, &stored);
    let numbers = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let parts = [
        b"FLFRAMES".to_vec(),
        numbers(&[1, 0]),
        numbers(&[1, 0, 100, 0]),
        b"GREY".to_vec(),
        // Size, Rec. 709, no matrix, full range, no transfer function.
        numbers(&[2, 1, 3, 0, 1, 0]),
        numbers(&[1, 1]),
        numbers(&[4, 0, 0, 0]),
        numbers(&[0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        numbers(&[2, 0, 44, 0]),
        numbers(&[0x0102, 0, 0x0304, 0, 5, 1]),
        numbers(&[4, 0, 0, 0]),
        bytes(&stored[0]).concat(),
    ];
    assert_eq!(std::fs::read(&path).unwrap(), parts.concat());
}

#[test]
fn frame_store_continues_after_a_full_disk() {
    if !alone("frames::frame_store_continues_after_a_full_disk", &["env"]) {
        return;
    }
    let folder = Folder::new("full");
    let path = folder.path("full");
    let stored = frames(layout("GREY", Size::new(64, 64), 1), &eventful());
    let (limit, most) = file_limit();
    let mut store = FrameStore::create(&path).unwrap();
    store.write(&stored[0]).unwrap();
    limit(6000);
    let error = store.write(&stored[1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(error.to_string().contains("full"), "{error}");
    let left = std::fs::metadata(&path).unwrap().len();
    assert_eq!(left, 16 + 116 + 56 + 64 * 64, "half a frame would be read as the next record");
    limit(most);
    store.write(&stored[2]).unwrap();
    store.finish().unwrap();
    let (replayed, _) = played(builder(&path));
    assert_eq!(facts(&replayed), facts(&[stored[0].clone(), stored[2].clone()]));
    assert_eq!(bytes(&replayed[1]), bytes(&stored[2]));
}

#[test]
fn frame_store_and_replay_refuse_other_files() {
    let folder = Folder::new("refused");
    let pipe = folder.path("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let kind = |path: &std::path::Path| FrameReplay::builder(path).open().unwrap_err().kind();
    assert_eq!(kind(&pipe), ErrorKind::WrongFile);
    assert!(FrameStore::create(&pipe).is_err());
    assert_eq!(FrameStore::create("/dev/null").unwrap_err().kind(), ErrorKind::WrongFile);
    assert_eq!(kind(&folder.path("missing")), ErrorKind::NotFound);
    let path = folder.path("file");
    std::fs::write(&path, [0; 100]).unwrap();
    assert_eq!(kind(&path), ErrorKind::WrongFile);
    store(&path, &[]);
    assert_eq!(kind(&path), ErrorKind::Mismatch, "no frame");
    store(&path, &frames(layout("GREY", SMALL, 1), &eventful()));
    let mut newer = std::fs::read(&path).unwrap();
    newer[8] = 2;
    std::fs::write(&path, newer).unwrap();
    assert_eq!(kind(&path), ErrorKind::Unsupported);
}

#[test]
fn damaged_record_is_an_error_and_then_the_end() {
    let folder = Folder::new("damaged");
    let path = folder.path("damaged");
    let stored = frames(layout("GREY", SMALL, 1), &eventful()[..3]);
    store(&path, &stored);
    let mut file = std::fs::read(&path).unwrap();
    // The kind of the second frame.
    let at = 16 + 116 + 56 + 128;
    assert_eq!(file[at], 2);
    file[at] = 9;
    std::fs::write(&path, file).unwrap();
    let mut replay = builder(&path).looped(true).open().unwrap();
    assert!(replay.recv(SOON).unwrap().frame().is_some());
    let error = replay.recv(SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains(&format!("at byte {at}: a record has the unknown kind 9")), "{error}");
    assert!(replay.recv(SOON).unwrap().is_ended());
}

#[test]
fn frame_replay_allocates_no_more_than_the_file_justifies() {
    let folder = Folder::new("large");
    let path = folder.path("large");
    store(&path, &frames(layout("GREY", SMALL, 1), &eventful()[..2]));
    let mut file = std::fs::read(&path).unwrap();
    // The size of the memory plane.
    let at = 16 + 16 + 36;
    assert_eq!(file[at..at + 4], 128u32.to_le_bytes());
    file[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    std::fs::write(&path, file).unwrap();
    assert_eq!(builder(&path).open().unwrap_err().kind(), ErrorKind::Mismatch);
}
