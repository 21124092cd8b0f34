//! The contract for `convert::G2d`, with a libg2d that draws with the CPU.

#[allow(dead_code)] // Not all of it is used here.
#[path = "../g2d/cases/support.rs"]
mod support;

use std::sync::Arc;

use framelease::convert::g2d::Abi;
use framelease::convert::{Converter, ConverterEvent, G2d};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::Station;

use self::support::{layout, Fake, TIMEOUT};
use crate::jobs::{kind, Jobs};
use crate::scene::{Description, Kind, Scene};

struct Library {
    jobs: Jobs<G2d>,
    fake: Arc<Fake>,
}

impl Scene for Library {
    type Station = G2d;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| assert!(scene.jobs.submit()),
        most_waiting: 4,
        many: 200,
        extra_wakes: 0,
        most_ignored: None,
        fail: Some(|scene| {
            scene.fake.set("blit_result", -1).set("blit_fails_at", 1);
            assert!(scene.jobs.submit());
        }),
        // A converter has no end.
        end: None,
        gives_before_end: false,
        fill: Some(|scene| while scene.jobs.submit() {}),
        // `try_recv` makes room.
        make_room: None,
        elsewhere: Some(|scene| {
            scene.fake.set("finish_hangs", 1);
            assert!(scene.jobs.submit());
            let fake = Arc::clone(&scene.fake);
            Box::new(move || {
                fake.set("finish_hangs", 0);
            })
        }),
        restart: Some(|scene| {
            scene.fake.set("lost_at_finish", 1);
            assert!(scene.jobs.submit());
            loop {
                match scene.jobs.converter.recv(TIMEOUT).unwrap().item().expect("the loss is reported") {
                    ConverterEvent::Lost(_) => break,
                    event => assert!(matches!(event, ConverterEvent::Failed { .. }), "{event:?}"),
                }
            }
            scene.fake.set("lost_at_finish", 0);
            scene.jobs.converter.reopen().unwrap();
        }),
        last_lease: Some(|scene| {
            assert!(scene.jobs.submit());
            let frame = scene.jobs.converter.recv(TIMEOUT).unwrap().frame().unwrap();
            Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
        }),
        // A converter has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let fake = Fake::new(Abi::Modern);
        let jobs = Jobs::new(fake.open(), layout("RGBA32", 16, 16), &Allocator::Memfd, &[30]);
        Self { jobs, fake: Arc::new(fake) }
    }

    fn station(&mut self) -> &mut G2d {
        &mut self.jobs.converter
    }

    fn kind(event: &ConverterEvent) -> Kind {
        kind(event)
    }
}

crate::contract!(Library);
