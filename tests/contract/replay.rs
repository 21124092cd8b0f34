//! The contract for `FrameReplay` and `PacketReplay`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use framelease::capture::{CameraEvent, TestPattern};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Size;
use framelease::frame::{Frame, Packet};
use framelease::replay::{FrameReplay, FrameStore, PacketReplay};
use framelease::sink::matroska::Writer;
use framelease::sink::WriterOptions;
use framelease::Station;

use crate::packet_receiver::packet;
use crate::scene::{Description, Kind, Scene};
use crate::support::SOON;

const BUFFERS: usize = 4;

/// A file that nothing else has. It can be removed once it is open.
fn file() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("framelease-contract-{}-{number}", std::process::id()))
}

/// A replay without an end, whose buffers are all held.
struct Frames {
    replay: FrameReplay,
    held: Vec<Frame>,
}

impl Scene for Frames {
    type Station = FrameReplay;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| drop(scene.held.remove(0)),
        most_waiting: BUFFERS,
        many: 50,
        // It sees the end of a lease before a frame is due, and finds no free buffer when the next one is due.
        extra_wakes: 2,
        most_ignored: None,
        // Its errors are those of the file, which `tests/replay` has.
        fail: None,
        // It has no end.
        end: None,
        gives_before_end: false,
        // It takes no items.
        fill: None,
        make_room: None,
        elsewhere: Some(|scene| {
            let frame = scene.held.remove(0);
            Box::new(move || drop(frame))
        }),
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            let frames = std::mem::take(&mut scene.held);
            Box::new(move || frames.iter().for_each(|frame| drop(frame.read(DEFAULT_WAIT).unwrap())))
        }),
        // It has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let pattern = TestPattern::builder(Size::new(64, 48)).allocator(Allocator::Memfd).unpaced();
        let (mut pattern, path) = (pattern.start().unwrap(), file());
        let mut store = FrameStore::create(&path).unwrap();
        for number in 0..3 {
            let frame = pattern.recv(SOON).unwrap().frame().unwrap();
            let mut meta = *frame.meta();
            meta.timestamp_ns = number * 10_000_000;
            store.write(&frame.with_meta(meta)).unwrap();
        }
        store.finish().unwrap();
        let mut replay = FrameReplay::builder(&path).buffers(BUFFERS).looped(true).open().unwrap();
        std::fs::remove_file(path).unwrap();
        let held = (0..BUFFERS).map(|_| replay.recv(SOON).unwrap().frame().unwrap()).collect();
        // It finds no free buffer when the next frame is due.
        assert!(replay.recv(Duration::from_millis(50)).unwrap().is_nothing());
        Self { replay, held }
    }

    fn station(&mut self) -> &mut FrameReplay {
        &mut self.replay
    }

    fn kind(event: &CameraEvent) -> Kind {
        match event {
            CameraEvent::Frame(_) => Kind::Item,
            _ => Kind::Error,
        }
    }

    fn keep(&mut self, event: CameraEvent) {
        if let CameraEvent::Frame(frame) = event {
            self.held.push(frame);
        }
    }
}

/// A replay of two packets. The first one was received, and the second one is due later.
struct Packets(PacketReplay);

impl Scene for Packets {
    type Station = PacketReplay;

    const DESCRIPTION: Description<Self> = Description {
        // It comes by itself.
        give: |_| {},
        most_waiting: 1,
        many: 1,
        extra_wakes: 0,
        most_ignored: None,
        // Its errors are those of the file, which `tests/replay` has.
        fail: None,
        // It comes after the item.
        end: Some(|_| {}),
        gives_before_end: true,
        // It takes no items.
        fill: None,
        make_room: None,
        // Other threads cannot make anything possible.
        elsewhere: None,
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            let packet = scene.0.recv(SOON).unwrap().item().unwrap();
            Box::new(move || assert_eq!(packet.bytes().len(), 3))
        }),
        // It has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let path = file();
        let mut writer = Writer::create(&path, WriterOptions::default()).unwrap();
        // Later than the longest check of an idle station.
        for time in [0, 4_000_000_000] {
            let _ = writer.write(&packet(0, time, 3)).unwrap();
        }
        writer.finish().unwrap();
        let mut replay = PacketReplay::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(replay.try_recv().unwrap().item().is_some());
        Self(replay)
    }

    fn station(&mut self) -> &mut PacketReplay {
        &mut self.0
    }

    fn kind(_: &Packet) -> Kind {
        Kind::Item
    }
}

mod frames {
    crate::contract!(super::Frames);
}

mod packets {
    crate::contract!(super::Packets);
}
