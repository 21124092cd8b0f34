//! The contract for `TestPattern`, paced and unpaced. Its items are frames in buffers that are free again.

use std::time::Duration;

use framelease::capture::{CameraEvent, TestPattern};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FrameInterval, Size};
use framelease::frame::Frame;
use framelease::Station;

use crate::scene::{Description, Kind, Scene};
use crate::support::SOON;

/// A source whose buffers are all held.
struct Pattern<const PACED: bool> {
    source: TestPattern,
    held: Vec<Frame>,
}

const INTERVAL: FrameInterval = FrameInterval::from_fps(100);

const BUFFERS: usize = 4;

impl<const PACED: bool> Scene for Pattern<PACED> {
    type Station = TestPattern;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| drop(scene.held.remove(0)),
        most_waiting: BUFFERS,
        many: if PACED { 50 } else { 200 },
        // It finds no free buffer when the next frame is due. If it is paced, it also sees the end of a lease before
        // that.
        extra_wakes: if PACED { 2 } else { 1 },
        most_ignored: None,
        // Its only errors are errors of memory.
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
        let builder = TestPattern::builder(Size::new(64, 48)).buffers(BUFFERS).allocator(Allocator::Memfd);
        let builder = if PACED { builder.interval(INTERVAL) } else { builder.unpaced() };
        let mut source = builder.start().unwrap();
        let held = (0..BUFFERS).map(|_| source.recv(SOON).unwrap().frame().unwrap()).collect();
        // It finds no free buffer when the next frame is due.
        assert!(source.recv(Duration::from_millis(50)).unwrap().is_nothing());
        Self { source, held }
    }

    fn station(&mut self) -> &mut TestPattern {
        &mut self.source
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

mod unpaced {
    crate::contract!(super::Pattern<false>);
}

mod paced {
    crate::contract!(super::Pattern<true>);
}
