//! The contract for `convert::Vulkan`, with a fake Vulkan loader.

#[path = "../vulkan_faults/fake.rs"]
mod fake;

use framelease::convert::{Converter, ConverterEvent, Vulkan};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::Station;

use self::fake::{Fake, Pictures, LOST, NO_MEMORY, WAIT};
use crate::jobs::{kind, Jobs};
use crate::scene::{Description, Kind, Scene};

struct Device {
    jobs: Jobs<Vulkan>,
    fake: Fake,
}

impl Scene for Device {
    type Station = Vulkan;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| assert!(scene.jobs.submit()),
        most_waiting: 4,
        many: 200,
        extra_wakes: 0,
        most_ignored: None,
        fail: Some(|scene| {
            scene.fake.fail("vkQueueSubmit", 1, NO_MEMORY);
            assert!(scene.jobs.submit());
        }),
        // A converter has no end.
        end: None,
        gives_before_end: false,
        fill: Some(|scene| while scene.jobs.submit() {}),
        // `try_recv` makes room.
        make_room: None,
        elsewhere: Some(|scene| {
            scene.fake.set("hangs", 1);
            assert!(scene.jobs.submit());
            let fake = scene.fake;
            Box::new(move || {
                fake.set("hangs", 0);
            })
        }),
        restart: Some(|scene| {
            scene.fake.fail("vkWaitForFences", 1, LOST);
            assert!(scene.jobs.submit());
            loop {
                match scene.jobs.converter.recv(WAIT).unwrap().item().expect("the loss is reported") {
                    ConverterEvent::Lost(_) => break,
                    event => assert!(matches!(event, ConverterEvent::Failed { .. }), "{event:?}"),
                }
            }
            scene.jobs.converter.reopen().unwrap();
        }),
        last_lease: Some(|scene| {
            assert!(scene.jobs.submit());
            let frame = scene.jobs.converter.recv(WAIT).unwrap().frame().unwrap();
            Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
        }),
        // A converter has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        let fake = Fake::new();
        let jobs = Jobs::new(fake.open(), *Pictures::new(1).targets.buffers().layout(), &Allocator::Memfd, &[30]);
        Self { jobs, fake }
    }

    fn station(&mut self) -> &mut Vulkan {
        &mut self.jobs.converter
    }

    fn kind(event: &ConverterEvent) -> Kind {
        kind(event)
    }
}

crate::contract!(Device);
