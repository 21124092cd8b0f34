//! The contract for `share::Aligned` over two subscribers, each with its own publisher. Its items are pairs of frames.

use std::time::Duration;

use framelease::capture::FrameSource;
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::share::{Aligned, AlignedEvent, Policy, Subscriber, SubscriberEvent};
use framelease::Station;

use crate::scene::{Description, Kind, Scene, Task};
use crate::support::{source, Stage, SOON};

struct Pairs {
    aligned: Aligned<Subscriber, 2>,
    stages: Vec<Stage>,
    time_ns: u64,
}

/// Publishes a frame of this time.
fn publish(stage: &mut Stage, time_ns: u64) {
    let frame = stage.source.recv(SOON).unwrap().frame().expect("the source has a free buffer");
    let mut meta = *frame.meta();
    meta.timestamp_ns = time_ns;
    assert!(stage.publisher.publish(frame.with_meta(meta), SOON).unwrap().is_taken());
}

impl Pairs {
    fn give(&mut self) {
        self.time_ns += 33_000_000;
        for (offset, stage) in (0..).zip(&mut self.stages) {
            publish(stage, self.time_ns + offset);
        }
    }

    fn last_lease(&mut self) -> Task {
        self.give();
        loop {
            if let Some(AlignedEvent::Frames(frames)) = self.aligned.recv(SOON).unwrap().item() {
                return Box::new(move || frames.iter().for_each(|frame| drop(frame.read(DEFAULT_WAIT).unwrap())));
            }
        }
    }
}

impl Scene for Pairs {
    type Station = Aligned<Subscriber, 2>;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| scene.give(),
        // The publishers keep the frames beyond those that the subscribers may hold.
        most_waiting: 4,
        many: 300,
        // The first frame of a pair also makes it readable.
        extra_wakes: 2,
        most_ignored: None,
        // The pool has too few buffers for the subscriber, so one of the publishers refuses it.
        fail: Some(|scene| {
            let publisher = &mut scene.stages[1].publisher;
            publisher.announce(source(3).buffers().unwrap()).unwrap();
            publisher.dispatch().unwrap();
        }),
        end: Some(|scene| drop(scene.stages.remove(1))),
        gives_before_end: true,
        // It takes no items.
        fill: None,
        make_room: None,
        elsewhere: Some(|scene| {
            let (mut stages, time_ns) = (std::mem::take(&mut scene.stages), scene.time_ns + 33_000_000);
            Box::new(move || {
                stages.iter_mut().for_each(|stage| publish(stage, time_ns));
                std::mem::forget(stages);
            })
        }),
        // Its subscribers do not connect again.
        restart: None,
        last_lease: Some(|scene| scene.last_lease()),
        // It has no clients.
        crowd: None,
        drop_is_seen: Some(|scene| {
            let Self { aligned, stages, .. } = scene;
            drop(aligned);
            for mut stage in stages {
                stage.until("the subscriber is gone", |publisher| publisher.subscribers().count() == 0);
            }
        }),
    };

    fn new() -> Self {
        let mut stages = vec![Stage::new(20), Stage::new(20)];
        let mut join = |i: usize| {
            let stage: &mut Stage = &mut stages[i];
            stage.join(stage.subscriber().hold(4).policy(Policy::Fifo(8)))
        };
        let subscribers = [join(0), join(1)];
        let mut aligned = Aligned::new(subscribers, Duration::from_millis(1)).unwrap();
        // The formats.
        while aligned.try_recv().unwrap().item().is_some() {}
        Self { aligned, stages, time_ns: 0 }
    }

    fn station(&mut self) -> &mut Aligned<Subscriber, 2> {
        &mut self.aligned
    }

    fn kind(event: &AlignedEvent<SubscriberEvent, 2>) -> Kind {
        match event {
            AlignedEvent::Frames(_) => Kind::Item,
            _ => Kind::Other,
        }
    }
}

crate::contract!(Pairs);
