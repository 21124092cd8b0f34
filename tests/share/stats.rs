//! What a publisher reports: figures and refusals.

use framelease::share::{Policy, PublisherEvent};
use framelease::{Received, Station};

use crate::support::{frame, Stage, SOON};

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
