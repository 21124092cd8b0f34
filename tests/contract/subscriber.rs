//! The contract for `share::Subscriber`: two that stay disconnected, and one that connects again.

use framelease::capture::FrameSource;
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::share::{Policy, Reconnect, Subscriber, SubscriberEvent};
use framelease::Station;

use crate::scene::{Description, Kind, Scene, Task};
use crate::support::{frame, publisher_at, source, Stage, SOON};

/// Classifies a subscriber's event.
pub fn kind(event: &SubscriberEvent) -> Kind {
    match event {
        SubscriberEvent::Frame(_) => Kind::Item,
        _ => Kind::Other,
    }
}

struct Joined {
    subscriber: Subscriber,
    stage: Option<Stage>,
}

impl Joined {
    fn new(policy: Policy, reconnect: Reconnect) -> Self {
        let mut stage = Stage::new(20);
        let builder = stage.subscriber().hold(4).policy(policy).reconnect(reconnect);
        let mut subscriber = stage.join(builder);
        while subscriber.try_recv().unwrap().item().is_some() {}
        Self { subscriber, stage: Some(stage) }
    }

    fn give(&mut self) {
        self.stage.as_mut().unwrap().publish();
    }

    fn elsewhere(&mut self) -> Task {
        let mut stage = self.stage.take().unwrap();
        Box::new(move || {
            stage.publish();
            std::mem::forget(stage);
        })
    }

    fn last_lease(&mut self) -> Task {
        self.give();
        let frame = frame(&mut self.subscriber);
        Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
    }

    /// Asserts that the publisher sees that the subscriber is dropped.
    fn drop_is_seen(self) {
        let Self { subscriber, stage } = self;
        drop(subscriber);
        stage.unwrap().until("the subscriber is gone", |publisher| publisher.subscribers().count() == 0);
    }
}

mod once {
    use super::*;

    struct Once(Joined);

    impl Scene for Once {
        type Station = Subscriber;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| scene.0.give(),
            // The publisher keeps the frames beyond those that the subscriber may hold.
            most_waiting: 4,
            many: 300,
            extra_wakes: 1,
            most_ignored: None,
            // The pool has too few buffers for the subscriber, so the publisher refuses it.
            fail: Some(|scene| {
                let publisher = &mut scene.0.stage.as_mut().unwrap().publisher;
                publisher.announce(source(3).buffers().unwrap()).unwrap();
                publisher.dispatch().unwrap();
            }),
            end: Some(|scene| scene.0.stage = None),
            gives_before_end: true,
            // It takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            // It does not connect again.
            restart: None,
            last_lease: Some(|scene| scene.0.last_lease()),
            // It has no clients.
            crowd: None,
            drop_is_seen: Some(|scene| scene.0.drop_is_seen()),
        };

        fn new() -> Self {
            Self(Joined::new(Policy::Fifo(8), Reconnect::Never))
        }

        fn station(&mut self) -> &mut Subscriber {
            &mut self.0.subscriber
        }

        fn kind(event: &SubscriberEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Once);
}

/// It reads several messages at a time.
mod latest {
    use super::*;

    struct Latest(Joined);

    impl Scene for Latest {
        type Station = Subscriber;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| scene.0.give(),
            // It gives the newest of several frames.
            most_waiting: 1,
            many: 300,
            extra_wakes: 1,
            most_ignored: None,
            // The pool has too few buffers for the subscriber, so the publisher refuses it.
            fail: Some(|scene| {
                let publisher = &mut scene.0.stage.as_mut().unwrap().publisher;
                publisher.announce(source(3).buffers().unwrap()).unwrap();
                publisher.dispatch().unwrap();
            }),
            end: Some(|scene| scene.0.stage = None),
            gives_before_end: true,
            // It takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            // It does not connect again.
            restart: None,
            last_lease: Some(|scene| scene.0.last_lease()),
            // It has no clients.
            crowd: None,
            drop_is_seen: Some(|scene| scene.0.drop_is_seen()),
        };

        fn new() -> Self {
            Self(Joined::new(Policy::Latest, Reconnect::Never))
        }

        fn station(&mut self) -> &mut Subscriber {
            &mut self.0.subscriber
        }

        fn kind(event: &SubscriberEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Latest);
}

mod always {
    use super::*;

    struct Always(Joined);

    impl Scene for Always {
        type Station = Subscriber;

        const DESCRIPTION: Description<Self> = Description {
            give: |scene| scene.0.give(),
            // The publisher keeps the frames beyond those that the subscriber may hold.
            most_waiting: 4,
            many: 300,
            extra_wakes: 1,
            most_ignored: None,
            // Each error is an event of a lost connection.
            fail: None,
            // It has no end.
            end: None,
            gives_before_end: false,
            // It takes no items.
            fill: None,
            make_room: None,
            elsewhere: Some(|scene| scene.0.elsewhere()),
            restart: Some(|scene| {
                let Joined { subscriber, stage } = &mut scene.0;
                let Stage { publisher, source, folder } = stage.take().unwrap();
                drop(publisher);
                let lost = subscriber.recv(SOON).unwrap().item();
                assert!(matches!(lost, Some(SubscriberEvent::Lost(_))), "{lost:?}");
                let mut publisher = publisher_at(folder.socket()).bind().unwrap();
                publisher.announce(source.buffers().unwrap()).unwrap();
                let mut back = Stage { publisher, source, folder };
                let mut has_returned = false;
                back.until("the subscriber is back", |publisher| {
                    if let Some(event) = subscriber.try_recv().unwrap().item() {
                        assert_eq!(kind(&event), Kind::Other, "{event:?}");
                        has_returned |= matches!(event, SubscriberEvent::Returned);
                    }
                    has_returned && publisher.active() == 1
                });
                *stage = Some(back);
            }),
            last_lease: Some(|scene| scene.0.last_lease()),
            // It has no clients.
            crowd: None,
            drop_is_seen: Some(|scene| scene.0.drop_is_seen()),
        };

        fn new() -> Self {
            Self(Joined::new(Policy::Fifo(8), Reconnect::Always))
        }

        fn station(&mut self) -> &mut Subscriber {
            &mut self.0.subscriber
        }

        fn kind(event: &SubscriberEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Always);
}
