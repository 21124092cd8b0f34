//! `TestPattern`. It makes frames as fast as buffers are free: its items are frames in buffers that are free again.

use framelease::capture::{CameraEvent, TestPattern};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::frame::Frame;
use framelease::Station;

use crate::scene::{Description, Kind, Scene};
use crate::support::source;

struct Pattern {
    source: TestPattern,
    held: Vec<Frame>,
}

const BUFFERS: usize = 4;

impl Scene for Pattern {
    type Station = TestPattern;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| drop(scene.held.remove(0)),
        most_waiting: BUFFERS,
        many: 200,
        extra_wakes: 0,
        // Its errors are those of memory.
        fail: None,
        // It has no end.
        end: None,
        gives_before_end: false,
        // It takes nothing.
        fill: None,
        make_room: None,
        elsewhere: Some(|scene| {
            let frame = scene.held.remove(0);
            Box::new(move || drop(frame))
        }),
        // It has no device.
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
        let mut source = source(BUFFERS);
        let held = (0..BUFFERS).map(|_| source.try_recv().unwrap().frame().unwrap()).collect();
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

crate::contract!(Pattern);
