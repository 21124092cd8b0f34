//! Regression tests for defects that a review found.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::capture::TestPattern;
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::share::{Policy, Rate, Reconnect, Subscriber, SubscriberEvent};
use framelease::stats::syscalls;
use framelease::ErrorKind;
use framelease::{Received, Station, Submitted};

use crate::hostile::admitted;
use crate::raw::{self, hello, message, Raw};
use crate::support::{frame, pixels, publisher_at, Folder, Stage, SOON};

fn wider() -> TestPattern {
    TestPattern::builder(Size::new(128, 32)).allocator(Allocator::Memfd).unpaced().buffers(8).start().unwrap()
}

fn dropped(s: &Stage) -> Vec<u64> {
    s.publisher.subscribers().map(|f| f.dropped).collect()
}

#[test]
fn publish_reads_a_release_and_sends_the_waiting_frame() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber().policy(Policy::Block));
    s.publish();
    s.publish();
    // The RELEASE is in the socket when the next publish begins.
    drop(frame(&mut a));
    let third = s.source.recv(SOON).unwrap().frame().unwrap();
    assert!(s.publisher.publish(third, Duration::from_secs(3)).unwrap().is_taken());
    assert_eq!(frame(&mut a).meta().sequence, 1);
    s.publisher.dispatch().unwrap();
    assert_eq!(frame(&mut a).meta().sequence, 2);
}

#[test]
fn publish_is_not_held_up_by_a_flood_of_messages() {
    let mut optional = message(99, &[1]);
    optional[2] = 0;
    for (what, flood) in [("RETIRED", message(raw::RETIRED, &[999])), ("an optional message", optional)] {
        let mut s = Stage::new(8);
        let mut sibling = s.join(s.subscriber());
        let peer = admitted(&mut s, 1);
        s.publish();
        drop(frame(&mut sibling));
        let stop = Arc::new(AtomicBool::new(false));
        let flooder = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    peer.send(&flood);
                }
            })
        };
        let mut counts = [0; 20].map(|_: u64| {
            let next = s.source.recv(SOON).unwrap().frame().unwrap();
            let before = syscalls();
            assert!(s.publisher.publish(next, SOON).unwrap().is_taken());
            let calls = syscalls() - before;
            drop(frame(&mut sibling));
            calls
        });
        // 64 messages of a subscriber. The count is of all threads, and other tests run at the same time, so it need
        // not hold for each publish, but for most.
        counts.sort_unstable();
        assert!(counts[10] < 64 + 20, "{what}: {counts:?} system calls in a publish");
        stop.store(true, Ordering::Relaxed);
        s.until("the flood ends", |_| flooder.is_finished());
        assert_eq!(sibling.stats().dropped, 0);
    }
}

#[test]
fn publish_reads_a_subscriber_once() {
    let mut optional = message(99, &[1]);
    optional[2] = 0;
    // The count is of all threads, and other tests run at the same time, so it need not hold for each publish, but for
    // most.
    let mut counts = [0; 7].map(|_: u64| {
        let mut s = Stage::new(8);
        let peer = admitted(&mut s, 1);
        // It holds one frame and has no room for another, so its messages wake the publisher.
        for _ in 0..3 {
            s.publish();
        }
        (0..150).for_each(|_| peer.send(&optional));
        let next = s.source.recv(SOON).unwrap().frame().unwrap();
        let before = syscalls();
        assert!(s.publisher.publish(next, SOON).unwrap().is_taken());
        syscalls() - before
    });
    counts.sort_unstable();
    assert!(counts[3] < 64 + 20, "{counts:?} system calls in a publish");
}

#[test]
fn frame_is_valid_until_the_publisher_is_gone() {
    let mut s = Stage::new(6);
    let mut a = s.join(s.subscriber());
    s.publish();
    let held = frame(&mut a);
    let Stage { publisher, mut source, folder } = s;
    drop(publisher);
    assert!(matches!(a.recv(SOON).unwrap(), Received::Ended));
    // The source still exists and may fill the buffer again.
    let mut publisher = publisher_at(folder.socket()).bind().unwrap();
    for _ in 0..12 {
        assert!(publisher.publish(source.recv(SOON).unwrap().frame().unwrap(), SOON).unwrap().is_taken());
    }
    assert!(!held.is_valid());
    assert!(!pixels(&held).is_empty(), "it stays mapped");
}

#[test]
fn pause_comes_after_the_frames_that_wait() {
    let mut s = Stage::new(12);
    let a = s.join(s.subscriber().policy(Policy::Block));
    let b = s.join(s.subscriber().policy(Policy::Fifo(3)));
    s.publish();
    s.publish();
    assert!(!s.publisher.pause(Duration::ZERO).unwrap(), "a frame waits for each subscriber");
    let readers: Vec<_> = [a, b]
        .into_iter()
        .map(|mut x| {
            std::thread::spawn(move || {
                let got: Vec<_> = (0..2).map(|_| frame(&mut x).meta().sequence).collect();
                assert!(matches!(x.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Paused)));
                got
            })
        })
        .collect();
    assert!(s.publisher.pause(SOON).unwrap());
    // No publish follows, so releases are read as they come.
    s.until("every lease has ended", |p| p.subscribers().all(|f| f.held == 0));
    for reader in readers {
        assert_eq!(reader.join().unwrap(), [0, 1]);
    }
}

#[test]
fn pause_comes_after_the_frames_that_wait_for_a_new_pool() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber().policy(Policy::Fifo(2)));
    s.source = wider();
    s.publish();
    s.publish();
    assert!(!s.publisher.pause(Duration::ZERO).unwrap(), "two frames wait");
    let reader = std::thread::spawn(move || {
        let got = [0, 1].map(|_| frame(&mut a).meta().sequence);
        assert!(matches!(a.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Paused)));
        got
    });
    assert!(s.publisher.pause(SOON).unwrap());
    drop(s);
    assert_eq!(reader.join().unwrap(), [0, 1]);
}

#[test]
fn pause_does_not_wait_for_subscribers_without_frames() {
    let mut s = Stage::new(8);
    let mute = Raw::connect(&s.folder.socket());
    mute.send(&hello(1, 1, 1));
    s.until("the subscriber is admitted", |p| p.subscribers().count() == 1);
    assert!(s.publisher.pause(Duration::ZERO).unwrap(), "no stream was announced to it");
}

#[test]
fn policy_block_misses_nothing_after_its_first_frame() {
    let mut s = Stage::new(8);
    // The pool is announced to it. It does not answer yet, and the publisher does not wait for it.
    let mut a = s.connect(s.subscriber().policy(Policy::Block)).unwrap();
    for _ in 0..3 {
        s.publish();
    }
    s.until("it has the pool", |p| {
        let event = a.try_recv().unwrap();
        assert!(
            !matches!(event, Received::Item(SubscriberEvent::Frame(_))),
            "{event:?}, and the frames after it are lost"
        );
        p.active() == 1
    });
    let got = [0, 1].map(|_| {
        s.publish();
        let frame = frame(&mut a);
        (frame.meta().sequence, frame.meta().dropped)
    });
    assert_eq!(got, [(3, 3), (4, 3)]);
}

#[test]
fn policy_block_loses_nothing_at_a_format_change() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber().policy(Policy::Block));
    s.publish();
    s.publish();
    s.source = wider();
    let first = s.source.recv(SOON).unwrap().frame().unwrap();
    let Submitted::Full(first) = s.publisher.try_publish(first).unwrap() else { panic!("an old frame waits") };
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        while got.len() < 5 {
            if let Received::Item(SubscriberEvent::Frame(f)) = a.recv(SOON).unwrap() {
                assert_eq!(f.meta().dropped, 0);
                got.push((f.layout().size().width, f.meta().sequence));
            }
        }
        got
    });
    assert!(s.publisher.publish(first, SOON).unwrap().is_taken());
    s.publish();
    s.publish();
    s.until("it has every frame", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap(), [(64, 0), (64, 1), (128, 0), (128, 1), (128, 2)]);
}

#[test]
fn rate_excludes_frames_without_a_drop_while_a_pool_is_announced() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber().rate(Rate::EveryNth(10)));
    s.source = wider();
    for _ in 0..30 {
        s.publish();
    }
    let mut got = Vec::new();
    s.until("the newest of the new pool has come", |_| {
        while let Received::Item(event) = a.try_recv().unwrap() {
            if let SubscriberEvent::Frame(frame) = event {
                got.push((frame.meta().sequence, frame.meta().dropped));
            }
        }
        !got.is_empty()
    });
    assert_eq!((&got[..], &dropped(&s)[..]), (&[(20, 2)][..], &[2][..]));
}

#[test]
fn reconnect_pauses_after_a_listener_that_hangs_up() {
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let connections = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        let first = listener.accept();
        first.receive();
        first.send(&message(raw::WELCOME, &[1 | 2 << 16, 0, 7, 7]));
        drop(first);
        loop {
            drop(listener.accept());
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let builder = Subscriber::builder(folder.socket()).reconnect(Reconnect::Always);
    let mut a = builder.connect(SOON).unwrap();
    let (start, mut lost) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(1) {
        if let Ok(Received::Item(SubscriberEvent::Lost(_))) = a.recv(Duration::from_millis(100)) {
            lost += 1;
        }
    }
    // 10, 20, 40 … 500 ms: seven or so.
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections <= 10, "{connections} connections in a second");
    assert_eq!(lost, 1, "the loss is reported once, not for each attempt");
}

#[test]
fn connect_asks_a_full_publisher_twice_a_second() {
    let mut s = Stage::new(6);
    let _first = s.join(s.subscriber());
    let builder = s.subscriber().hold(6).reconnect(Reconnect::Always);
    let second = std::thread::spawn(move || builder.connect(Duration::from_millis(1200)));
    while !second.is_finished() {
        drop(s.publisher.recv(Duration::from_millis(10)).unwrap());
    }
    let error = second.join().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(framelease::Reason::Capacity), "{error}");
    let refused = s.publisher.stats().refused;
    assert!((2..=4).contains(&refused), "{refused} refusals in 1.2 s");
}

#[test]
fn connect_pauses_after_a_listener_that_hangs_up() {
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let connections = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || loop {
        drop(listener.accept());
        count.fetch_add(1, Ordering::Relaxed);
    });
    let builder = Subscriber::builder(folder.socket()).reconnect(Reconnect::Always);
    let e = builder.connect(Duration::from_millis(300)).unwrap_err();
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections <= 31, "{connections} connections, 10 ms apart, in 300 ms");
    assert_eq!(e.kind(), ErrorKind::Disconnected, "{e}");
}

#[test]
fn policy_latest_of_a_busy_subscriber_stays_in_the_budget() {
    const FRAMES: u64 = 200;
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    s.publish();
    let mut held = frame(&mut a);
    let before = syscalls();
    let mut own = 0;
    for _ in 0..FRAMES {
        // A frame comes while it works on the last one. Then it takes the frame that waits.
        s.publish();
        let start = syscalls();
        drop(held);
        own += syscalls() - start;
        s.publisher.dispatch().unwrap();
        let start = syscalls();
        held = frame(&mut a);
        own += syscalls() - start;
    }
    let calls = (syscalls() - before - own) as f64 / FRAMES as f64;
    assert!(calls <= 4.05, "{calls} system calls of the publisher for each frame, budget 2 C + 2");
    assert_eq!(dropped(&s), [0]);
}

#[test]
fn recv_times_out_on_time() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    for (asked, most) in [(4, 60), (0, 40), (150, 260), (130, 240), (40, 140)] {
        let start = Instant::now();
        assert!(a.recv(Duration::from_millis(asked)).unwrap().is_nothing());
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(asked), "{asked} ms took {took:?}");
        // Generous for a loaded machine. An error of an eighth of a long timeout, which a defect caused, would still be
        // found.
        assert!(took < Duration::from_millis(most + 500), "{asked} ms took {took:?}");
    }
}

#[test]
fn test_pattern_unpaced_without_buffers_neither_spins_nor_hangs() {
    use nix::poll::{poll, PollFd, PollFlags};
    use std::os::fd::AsFd;
    let mut source = wider();
    let mut held: Vec<_> = std::iter::from_fn(|| source.try_recv().unwrap().frame()).collect();
    let (start, mut woken) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(100) {
        let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, 100u8).unwrap();
        woken += 1;
        assert!(source.try_recv().unwrap().is_nothing());
    }
    assert!((1..200).contains(&woken), "woken {woken} times in 100 ms");
    held.pop();
    let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 1000u16), Ok(1));
    assert!(source.try_recv().unwrap().item().is_some());
}

#[test]
fn quota_of_a_subscriber_that_does_not_answer_is_freed() {
    let mut s = Stage::with(8, |b| b.handshake_timeout(Duration::from_millis(300)));
    let mute = Raw::connect(&s.folder.socket());
    mute.send(&hello(1, 1, 4));
    s.until("the subscriber is admitted", |p| p.subscribers().count() == 1);
    assert_eq!(s.connect(s.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
    s.until("the subscriber is removed", |p| p.subscribers().count() == 0);
    assert!(s.connect(s.subscriber()).is_ok());
}

#[test]
fn quota_of_the_whole_pool_is_refused() {
    let mut s = Stage::with(64, |b| b.max_hold(2));
    assert_eq!(s.connect(s.subscriber().hold(3)).unwrap_err().kind(), ErrorKind::Refused);
    assert!(s.connect(s.subscriber().hold(2)).is_ok());
}

#[test]
fn welcome_of_another_version_is_refused() {
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let publisher = std::thread::spawn(move || {
        let peer = listener.accept();
        peer.receive();
        peer.send(&message(raw::WELCOME, &[9 | 2 << 16, 0, 7, 7]));
        while !peer.receive().is_empty() {}
    });
    let e = Subscriber::builder(folder.socket()).connect(SOON).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Protocol);
    publisher.join().unwrap();
}

#[test]
fn retired_more_often_than_announced_ends_the_connection() {
    let mut s = Stage::new(8);
    let mut sibling = s.join(s.subscriber());
    let peer = admitted(&mut s, 1);
    s.publish();
    drop(frame(&mut sibling));
    for _ in 0..2 {
        peer.send(&message(raw::RETIRED, &[1]));
    }
    // The first RETIRED ends its lease. The second is read when it has another lease.
    for _ in 0..2 {
        s.publish();
        drop(frame(&mut sibling));
    }
    assert_eq!((s.publisher.stats().violations, dropped(&s)), (1, vec![0]));
}

#[test]
fn events_that_are_not_received_keep_no_publisher_readable() {
    let mut s = Stage::new(8);
    drop(s.join(s.subscriber()));
    let start = Instant::now();
    while s.publisher.active() > 0 && start.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(1));
        s.publisher.dispatch().unwrap();
    }
    // A loop that only calls dispatch does not spin.
    assert!(!is_readable(&s.publisher));
    // The events were kept.
    assert!(s.publisher.try_recv().unwrap().item().is_some());
}

fn is_readable(station: &impl std::os::fd::AsFd) -> bool {
    let mut fds = [nix::poll::PollFd::new(station.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 0u8).unwrap() == 1
}

#[test]
fn impossible_wishes_are_the_caller_s_own_error() {
    let mut s = Stage::new(12);
    for builder in [
        s.subscriber().policy(Policy::Fifo(0)),
        s.subscriber().policy(Policy::Fifo(1000)),
        s.subscriber().rate(Rate::EveryNth(0)),
        s.subscriber().rate(Rate::MilliFps(0)),
        s.subscriber().hold(0),
    ] {
        let error = s.connect(builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let mut subscriber = s.join(s.subscriber());
    let lying = s.source.recv(SOON).unwrap().frame().unwrap();
    let mut meta = *lying.meta();
    meta.payload[0].bytes = 1 << 30;
    let rejected = s.publisher.try_publish(lying.with_meta(meta)).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Mismatch, "{}", rejected.error);
    drop(rejected.item);
    let sequence = s.publish();
    assert_eq!(frame(&mut subscriber).meta().sequence, sequence);
    assert_eq!((s.publisher.stats().refused, s.publisher.stats().violations), (0, 0));
}
