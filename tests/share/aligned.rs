//! Pairs of frames from two publishers that stop, restart, run at other rates or have no clock.

use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::format::{FrameInterval, Size};
use framelease::frame::{Frame, FrameFlags};
use framelease::share::{Aligned, AlignedEvent, Policy, Reconnect, Subscriber, SubscriberBuilder, SubscriberEvent};
use framelease::{ErrorKind, Received, Station};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::support::{publisher_at, Stage, SOON};

const MS: u64 = 1_000_000;
const TOLERANCE: Duration = Duration::from_millis(5);

type Pair = Aligned<Subscriber, 2>;

fn subscribers(stages: &mut [Stage; 2], settings: impl Fn(SubscriberBuilder) -> SubscriberBuilder) -> [Subscriber; 2] {
    [0, 1].map(|i| {
        let builder = stages[i].subscriber();
        stages[i].join(settings(builder))
    })
}

fn join(stages: &mut [Stage; 2], settings: impl Fn(SubscriberBuilder) -> SubscriberBuilder) -> Pair {
    let mut pair = Aligned::new(subscribers(stages, settings), TOLERANCE).unwrap();
    while pair.try_recv().unwrap().item().is_some() {}
    pair
}

/// Publishes a frame of this time, in `CLOCK_MONOTONIC` or in no clock.
fn publish(stage: &mut Stage, time_ns: u64, flags: FrameFlags) {
    let frame = stage.source.recv(SOON).unwrap().frame().expect("the source has a free buffer");
    let mut meta = *frame.meta();
    (meta.timestamp_ns, meta.flags) = (time_ns, flags);
    assert!(stage.publisher.publish(frame.with_meta(meta), SOON).unwrap().is_taken());
}

fn times(frames: &[Frame; 2]) -> [u64; 2] {
    [0, 1].map(|i| frames[i].meta().timestamp_ns / MS)
}

/// Returns the times of all pairs that are there, in ms.
fn pairs(pair: &mut Pair) -> Vec<[u64; 2]> {
    let mut found = Vec::new();
    while let Received::Item(event) = pair.recv(Duration::from_millis(20)).unwrap() {
        match event {
            AlignedEvent::Frames(frames) => found.push(times(&frames)),
            event => panic!("{event:?}"),
        }
    }
    found
}

#[test]
fn aligned_pairs_frames_of_a_faster_publisher() {
    let mut stages = [Stage::new(20), Stage::new(20)];
    let mut pair = join(&mut stages, |b| b.hold(4).policy(Policy::Fifo(8)));
    let mut found = Vec::new();
    for i in 0..30 {
        publish(&mut stages[0], i * 10 * MS, FrameFlags::MONOTONIC);
        if i % 3 == 0 {
            publish(&mut stages[1], (i * 10 + 4) * MS, FrameFlags::MONOTONIC);
        }
        found.extend(pairs(&mut pair));
    }
    assert_eq!(found, (0..10).map(|i| [i * 30, i * 30 + 4]).collect::<Vec<_>>());
    let stats = pair.stats();
    assert_eq!((stats.sets, stats.unmatched[1], stats.overflowed[1]), (10, 0, 0));
    // Two frames after the last pair wait.
    assert_eq!(stats.unmatched[0] + stats.overflowed[0], 18);
}

#[test]
fn aligned_holds_few_leases_while_a_publisher_is_silent() {
    let mut stages = [Stage::new(20), Stage::new(20)];
    let mut pair = join(&mut stages, |b| b.hold(4).policy(Policy::Fifo(1)));
    let pool = stages[0].source.buffers().unwrap().clone();
    for i in 0..50 {
        publish(&mut stages[0], i * 10 * MS, FrameFlags::MONOTONIC);
        assert!(pairs(&mut pair).is_empty());
        stages[0].publisher.dispatch().unwrap();
        assert!(pool.leased() <= 4, "{} buffers are leased", pool.leased());
    }
    // Two wait for the other publisher.
    assert_eq!((pair.stats().overflowed, pair.stats().unmatched), ([48, 0], [0, 0]));
    publish(&mut stages[1], 491 * MS, FrameFlags::MONOTONIC);
    assert_eq!(pairs(&mut pair), [[490, 491]]);
}

#[test]
fn aligned_continues_with_a_publisher_that_restarts() {
    let mut stages = [Stage::new(20), Stage::new(20)];
    let mut pair = join(&mut stages, |b| b.hold(4).reconnect(Reconnect::Always));
    publish(&mut stages[0], 10 * MS, FrameFlags::MONOTONIC);
    assert!(pairs(&mut pair).is_empty());
    let [Stage { publisher, source, folder }, mut other] = stages;
    drop(publisher);
    let lost = pair.recv(SOON).unwrap().item();
    assert!(matches!(lost, Some(AlignedEvent::Source(0, SubscriberEvent::Lost(_)))), "{lost:?}");
    // The frame of the lost connection is not a part of a pair.
    publish(&mut other, 11 * MS, FrameFlags::MONOTONIC);
    assert!(pairs(&mut pair).is_empty());
    let mut publisher = publisher_at(folder.socket()).bind().unwrap();
    publisher.announce(source.buffers().unwrap()).unwrap();
    let mut back = Stage { publisher, source, folder };
    let mut has_returned = false;
    back.until("the subscriber is back", |publisher| {
        if let Some(event) = pair.try_recv().unwrap().item() {
            assert!(matches!(event, AlignedEvent::Source(0, _)), "{event:?}");
            has_returned |= matches!(event, AlignedEvent::Source(0, SubscriberEvent::Returned));
        }
        has_returned && publisher.active() == 1
    });
    publish(&mut back, 20 * MS, FrameFlags::MONOTONIC);
    publish(&mut other, 21 * MS, FrameFlags::MONOTONIC);
    assert_eq!(pairs(&mut pair), [[20, 21]]);
}

#[test]
fn aligned_pairs_frames_without_a_clock_by_the_time_of_publishing() {
    let mut stages = [Stage::new(20), Stage::new(20)];
    let mut pair = Aligned::new(subscribers(&mut stages, |b| b.hold(4)), Duration::from_secs(5)).unwrap();
    while pair.try_recv().unwrap().item().is_some() {}
    publish(&mut stages[0], 7 * MS, FrameFlags::default());
    publish(&mut stages[1], 900_000 * MS, FrameFlags::default());
    assert_eq!(pairs(&mut pair), [[7, 900_000]]);
    assert_eq!(pair.stats().undated, [1, 1]);
}

#[test]
fn aligned_ends_with_one_of_its_sources() {
    let mut stages = [Stage::new(20), Stage::new(20)];
    let mut pair = join(&mut stages, |b| b.hold(4));
    publish(&mut stages[0], 10 * MS, FrameFlags::MONOTONIC);
    assert!(pairs(&mut pair).is_empty());
    let [mut first, second] = stages;
    drop(second);
    assert!(pair.recv(SOON).unwrap().is_ended());
    assert_eq!(pair.try_recv().unwrap_err().kind(), ErrorKind::State);
    let pool = first.source.buffers().unwrap().clone();
    first.until("the waiting frame is released", |_| pool.leased() <= 1);
}

#[test]
fn aligned_refuses_a_single_source() {
    let mut stage = Stage::new(20);
    let builder = stage.subscriber();
    let alone = stage.join(builder);
    let error = Aligned::new([alone], TOLERANCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "align: 1 sources: 2 to 16 can be aligned");
}

/// A reactor such as tokio's hears of changes only. One source always has a frame, and the other one hardly ever.
#[test]
fn aligned_reports_again_what_one_call_leaves() {
    let pattern = |interval| {
        let builder = TestPattern::builder(Size::new(64, 48));
        match interval {
            Some(interval) => builder.interval(interval),
            None => builder.unpaced(),
        }
        .start()
        .unwrap()
    };
    let sources = [pattern(None), pattern(Some(FrameInterval::from_fps(1)))];
    let mut pair = Aligned::new(sources, Duration::ZERO).unwrap();
    let reactor = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    reactor.add(&pair, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).unwrap();
    let hears = || reactor.wait(&mut [EpollEvent::empty()], EpollTimeout::from(100u16)).unwrap() == 1;
    for call in 0..20 {
        assert!(hears(), "call {call}");
        while let Received::Item(event) = pair.try_recv().unwrap() {
            assert!(matches!(event, AlignedEvent::Frames(_)), "{event:?}");
        }
    }
}
