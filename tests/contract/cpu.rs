//! The contract for `convert::Cpu`.

use framelease::convert::{ConverterEvent, Cpu};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::Station;

use crate::jobs::{kind, Jobs};
use crate::scene::{Description, Kind, Scene};

impl Scene for Jobs<Cpu> {
    type Station = Cpu;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| assert!(scene.submit()),
        most_waiting: 20,
        many: 200,
        extra_wakes: 0,
        most_ignored: None,
        // It draws in `try_submit`, which returns the errors.
        fail: None,
        // A converter has no end.
        end: None,
        gives_before_end: false,
        fill: Some(|scene| while scene.submit() {}),
        // `try_recv` makes room.
        make_room: None,
        // Another thread cannot make anything possible.
        elsewhere: None,
        // It does not use a device.
        restart: None,
        last_lease: Some(|scene| {
            assert!(scene.submit());
            let frame = scene.converter.try_recv().unwrap().frame().unwrap();
            Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
        }),
        // A converter has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let layout = Layout::aligned(FourCc::RGBA32, Size::new(16, 16), 64).unwrap();
        // More than the 64 frames that it keeps.
        Self::new(Cpu::new().unwrap(), layout, &Allocator::Memfd, &[60, 10])
    }

    fn station(&mut self) -> &mut Cpu {
        &mut self.converter
    }

    fn kind(event: &ConverterEvent) -> Kind {
        kind(event)
    }
}

crate::contract!(Jobs<Cpu>);
