//! Rates of sources whose timestamps stand still.

use std::time::{Duration, Instant};

use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::Pool;
use framelease::share::{Policy, Rate, SubscriberEvent};
use framelease::{Received, Station};

use crate::support::Stage;

#[test]
fn rate_goes_by_arrival_where_timestamps_stand_still() {
    let mut s = Stage::new(12);
    let layout = Layout::packed(FourCc::GREY, Size::new(64, 48)).unwrap();
    let pool = Pool::new(&Allocator::Memfd, layout, 12).unwrap();
    s.publisher.announce(pool.buffers()).unwrap();
    let mut subscriber = s.join(s.subscriber().policy(Policy::Fifo(2)).rate(Rate::MilliFps(20_000)));
    let (start, mut got) = (Instant::now(), 0);
    for sequence in 0..50 {
        let frame = pool.try_acquire().expect("a free buffer").freeze_full(sequence, 0);
        assert!(s.publisher.publish(frame, Duration::ZERO).unwrap().is_taken());
        while let Received::Item(event) = subscriber.try_recv().unwrap() {
            got += u64::from(matches!(event, SubscriberEvent::Frame(_)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // 500 ms or more: ten frames or more, and never more than the rate.
    let most = start.elapsed().as_millis() as u64 / 50 + 2;
    assert!((9..=most).contains(&got), "{got} frames, at most {most}");
}
