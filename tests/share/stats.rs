//! Figures of publishers and subscribers.

use framelease::share::Policy;

use crate::support::{frame, Stage};

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
