//! `Frame::is_valid` answers what is true now, also if no call has read it from the connection.

use framelease::capture::FrameSource;
use framelease::share::{Reconnect, SubscriberEvent};
use framelease::{Received, Station};

use crate::support::{frame, Stage, SOON};

#[test]
fn frame_is_invalid_as_soon_as_the_publisher_is_gone() {
    let mut s = Stage::new(8);
    let mut reads = s.join(s.subscriber());
    let mut dropped = s.join(s.subscriber());
    s.publish();
    let held = [frame(&mut reads), frame(&mut dropped)];
    drop(dropped);
    assert!(held.iter().all(|frame| frame.is_valid()), "frames outlive their subscriber");
    let Stage { publisher, source, folder } = s;
    drop(publisher);
    // Without a call of the subscriber: one of them no longer exists.
    assert_eq!(held.map(|frame| frame.is_valid()), [false, false]);
    drop((source, folder, reads));
}

#[test]
fn frame_stays_invalid_after_a_reconnect() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber().reconnect(Reconnect::Always));
    s.publish();
    let held = frame(&mut a);
    let Stage { publisher, source, folder } = s;
    drop(publisher);
    let publisher = crate::support::publisher_at(folder.socket()).bind().unwrap();
    let mut s = Stage { publisher, source, folder };
    s.publisher.announce(s.source.buffers().unwrap()).unwrap();
    assert!(matches!(a.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Lost(_))));
    let start = std::time::Instant::now();
    while s.publisher.active() == 0 {
        assert!(start.elapsed() < SOON, "the subscriber does not come back");
        drop(s.publisher.recv(std::time::Duration::from_millis(1)).unwrap());
        drop(a.try_recv().unwrap());
    }
    s.publish();
    let fresh = frame(&mut a);
    assert!(fresh.is_valid() && !held.is_valid());
}

#[test]
fn frame_is_valid_costs_one_system_call() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    s.publish();
    let held = frame(&mut a);
    let before = framelease::stats::syscalls();
    assert!(held.is_valid());
    assert_eq!(framelease::stats::syscalls() - before, 1);
}
