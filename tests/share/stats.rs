//! What a publisher reports: figures and refusals.

use std::time::{Duration, Instant};

use framelease::capture::FrameSource;
use framelease::share::{Policy, PublisherEvent, Reconnect, SubscriberEvent};
use framelease::{Reason, Received, Station};

use crate::support::{frame, publisher_at, Stage, SOON};

#[test]
fn stats_count_drops_of_subscribers_that_have_left() {
    let mut s = Stage::new(12);
    let mut leaves = s.join(s.subscriber().policy(Policy::Fifo(1)));
    let mut stays = s.join(s.subscriber().policy(Policy::Fifo(1)));
    for _ in 0..10 {
        s.publish();
    }
    // One is sent to each, and one waits.
    assert_eq!(s.publisher.stats().dropped, 16);
    drop((frame(&mut leaves), leaves));
    s.until("one has left", |p| p.subscribers().count() == 1);
    assert_eq!(s.publisher.stats().dropped, 16);
    drop(frame(&mut stays));
}

#[test]
fn refused_names_the_setting_that_decided() {
    let refused = |s: &mut Stage, hold: u16| {
        let builder = s.subscriber().hold(hold);
        let thread = std::thread::spawn(move || builder.connect(SOON));
        let mut said = String::new();
        while said.is_empty() && !thread.is_finished() {
            if let Received::Item(PublisherEvent::Refused { detail, .. }) = s.publisher.recv(SOON).unwrap() {
                said = detail;
            }
        }
        assert!(thread.join().unwrap().is_err());
        said
    };
    let mut s = Stage::with(12, |b| b.max_hold(2));
    assert!(refused(&mut s, 3).contains("max_hold is 2, and it asks for 3"));
    let mut s = Stage::with(12, |b| b.max_subscribers(1));
    let _present = s.join(s.subscriber());
    assert!(refused(&mut s, 1).contains("max_subscribers is 1"));
    let mut s = Stage::with(12, |b| b.max_per_user(0));
    assert!(refused(&mut s, 1).contains("max_per_user is 0"));
    let mut s = Stage::with(12, |b| b.accept_if(|_| false));
    assert!(refused(&mut s, 1).contains("accept_if"));
    let mut s = Stage::new(6);
    assert!(refused(&mut s, 6).contains("the pool has 6 buffers"));
}

#[test]
fn refused_is_an_event_of_a_subscriber_that_reconnects() {
    let mut s = Stage::new(12);
    let mut a = s.join(s.subscriber().hold(3).reconnect(Reconnect::Always));
    let events = |s: &mut Stage, a: &mut framelease::share::Subscriber, enough: usize, time: Duration| {
        let (start, mut events) = (Instant::now(), Vec::new());
        while events.len() < enough && start.elapsed() < time {
            drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
            events.extend(a.try_recv().unwrap().item());
        }
        events
    };
    let next = |s: Stage, max_hold: u16| {
        let Stage { publisher, source, folder } = s;
        drop(publisher);
        let mut publisher = publisher_at(folder.socket()).max_hold(max_hold).bind().unwrap();
        publisher.announce(source.buffers().unwrap()).unwrap();
        Stage { publisher, source, folder }
    };
    s = next(s, 1);
    // Attempts go on twice a second, and the refusal is reported once.
    let seen = events(&mut s, &mut a, 3, Duration::from_millis(1500));
    let [SubscriberEvent::Lost(_), SubscriberEvent::Refused(error)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(error.reason(), Some(Reason::Denied));
    assert!(s.publisher.stats().refused > 1, "{:?}", s.publisher.stats());
    s = next(s, 4);
    let seen = events(&mut s, &mut a, 2, SOON);
    assert!(matches!(&seen[..], [SubscriberEvent::Returned, SubscriberEvent::Format(_)]), "{seen:?}");
}
