//! Tests of publishers and subscribers that behave well.

use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
use framelease::format::{FourCc, FrameInterval, Layout, Size};
use framelease::frame::Pool;
use framelease::share::{Policy, Rate, Reconnect, Subscriber, SubscriberEvent};
use framelease::ErrorKind;
use framelease::{Reason, Received, Station, Submitted};
use nix::sys::socket::SockType;

use crate::support::{dead_socket, frame, nothing, pixels, publisher_at, source, Folder, Stage, SOON};

#[test]
fn frame_arrives_as_the_same_memory_with_all_its_facts() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    let mut b = s.join(s.subscriber().hold(2));
    for _ in 0..20 {
        let published = s.source.recv(SOON).unwrap().frame().unwrap();
        let want = pixels(&published);
        let (meta, memory, layout) = (*published.meta(), published.memory().to_vec(), *published.layout());
        assert!(s.publisher.publish(published, SOON).unwrap().is_taken());
        for subscriber in [&mut a, &mut b] {
            let got = frame(subscriber);
            assert_eq!(pixels(&got), want);
            assert_eq!((got.meta().sequence, got.meta().timestamp_ns), (meta.sequence, meta.timestamp_ns));
            assert_eq!((got.meta().payload, got.meta().flags), (meta.payload, meta.flags));
            assert_eq!(*got.layout(), layout);
            // Not a copy: the kernel reports that it is the same memory.
            assert_eq!(got.memory(), memory);
        }
    }
    assert_eq!((a.stats().received, a.stats().dropped, b.quota()), (20, 0, 3));
    assert_eq!(a.latency().count(), 20);
    assert!(a.buffers().is_some_and(|set| set.slots() == 8));
}

#[test]
fn padded_and_split_pictures_arrive_byte_for_byte() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    for code in [b"NV12", b"NM12", b"NV16", b"NM16", b"YUYV"] {
        let layout = Layout::aligned(FourCc::new(code), Size::new(1936, 32), 256).unwrap();
        let pattern = TestPattern::builder(layout.size()).layout(layout).buffers(8).unpaced();
        s.source = pattern.allocator(Allocator::Memfd).start().unwrap();
        s.publisher.announce(s.source.buffers().unwrap()).unwrap();
        for _ in 0..3 {
            let published = s.source.recv(SOON).unwrap().frame().unwrap();
            let (want, layout) = (pixels(&published), *published.layout());
            assert_eq!(layout.planes()[0].stride_bytes % 256, 0);
            assert!(s.publisher.publish(published, SOON).unwrap().is_taken());
            let mut got = None;
            s.until("it arrives", |_| {
                if let Received::Item(SubscriberEvent::Frame(frame)) = a.try_recv().unwrap() {
                    got = Some(frame);
                }
                got.is_some()
            });
            let got = got.unwrap();
            assert_eq!(*got.layout(), layout);
            assert!(pixels(&got) == want, "{layout:?}");
        }
    }
}

#[test]
fn memory_cannot_be_written_or_resized_by_a_subscriber() {
    let mut s = Stage::new(6);
    let mut a = s.join(s.subscriber());
    s.publish();
    let got = frame(&mut a);
    assert_eq!(got.memory()[0].kind(), MemoryKind::Memfd);
    assert!(!a.is_writable());
    // Only our own mapping from before the seal can write. Here publisher and subscriber share the process, so the test
    // checks what a new handle of the descriptor allows.
    let fd = std::os::fd::AsFd::as_fd(&got.memory()[0]).try_clone_to_owned().unwrap();
    let mut fresh = framelease::dmabuf::DmaBuf::from_fd(fd).unwrap();
    assert_eq!(fresh.write(DEFAULT_WAIT).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn policy_latest_skips_fifo_keeps_and_both_count() {
    let mut s = Stage::new(16);
    let mut latest = s.join(s.subscriber());
    let mut fifo = s.join(s.subscriber().policy(Policy::Fifo(3)));
    for _ in 0..6 {
        s.publish();
    }
    // Frames that it did not read are out of date: they are released unread, and the newest comes.
    nothing(&mut latest);
    s.publisher.dispatch().unwrap();
    let first = (frame(&mut latest), frame(&mut fifo));
    assert_eq!((first.0.meta().sequence, first.1.meta().sequence), (5, 0));
    assert_eq!(first.0.meta().dropped, 4, "frames that were replaced before they were sent");
    assert_eq!((latest.stats().received, latest.stats().skipped), (1, 1));
    nothing(&mut latest);
    nothing(&mut fifo);
    drop(first);
    s.until("releases are read", |p| p.subscribers().all(|f| f.sent == 2));
    nothing(&mut latest);
    let mut got = vec![frame(&mut fifo).meta().sequence];
    for _ in 0..2 {
        drop(s.publisher.recv(Duration::from_millis(100)).unwrap());
        got.push(frame(&mut fifo).meta().sequence);
    }
    assert_eq!(got, [1, 2, 3], "in order, as many as may wait");
    assert_eq!(s.publisher.subscribers().map(|f| f.dropped).collect::<Vec<_>>(), [4, 2]);
}

#[test]
fn policy_block_returns_the_frame_and_loses_nothing() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber().policy(Policy::Block));
    s.publish();
    s.publish();
    let third = s.source.recv(SOON).unwrap().frame().unwrap();
    let Submitted::Full(third) = s.publisher.try_publish(third).unwrap() else { panic!("one is leased, one waits") };
    let Submitted::Full(third) = s.publisher.publish(third, Duration::from_millis(20)).unwrap() else {
        panic!("the publisher took a frame without room")
    };
    assert_eq!(third.meta().sequence, 2);
    let reader = std::thread::spawn(move || (0..3).map(|_| frame(&mut a).meta().sequence).collect::<Vec<_>>());
    assert!(s.publisher.publish(third, SOON).unwrap().is_taken());
    s.until("the reader has every frame", |p| p.subscribers().all(|f| f.sent == 3));
    assert_eq!(reader.join().unwrap(), [0, 1, 2]);
}

#[test]
fn rates_thin_the_stream_without_drops() {
    let mut s = Stage::new(8);
    let mut third = s.join(s.subscriber().rate(Rate::EveryNth(3)));
    let mut got = Vec::new();
    for _ in 0..9 {
        s.publish();
        if let Received::Item(SubscriberEvent::Frame(f)) = third.try_recv().unwrap() {
            got.push((f.meta().sequence, f.meta().dropped));
        }
    }
    assert_eq!(got, [(0, 0), (3, 0), (6, 0)]);
}

#[test]
fn subscriber_that_joins_late_gets_the_newest_frame() {
    let mut s = Stage::new(8);
    s.publish();
    let newest = s.publish();
    let (mut late, first) = s.join_late(s.subscriber());
    assert_eq!(first.expect("a frame").meta().sequence, newest);
    nothing(&mut late);
}

#[test]
fn format_changes_and_old_frames_stay_valid() {
    let mut s = Stage::new(6);
    let mut a = s.join(s.subscriber().hold(2));
    s.publish();
    let old = frame(&mut a);
    let before = pixels(&old);
    let builder = TestPatternWider::start();
    s.source = builder;
    s.publish();
    s.until("the new pool is acknowledged", |p| {
        while !matches!(a.try_recv().unwrap(), Received::Nothing | Received::Item(SubscriberEvent::Frame(_))) {}
        p.active() == 1
    });
    s.publish();
    let new = frame(&mut a);
    assert_eq!((new.layout().size(), old.layout().size()), (Size::new(128, 32), Size::new(64, 48)));
    assert_ne!(new.buffers().id(), old.buffers().id());
    assert_eq!(pixels(&old), before);
    assert!(old.is_valid());
    drop(old);
    drop(new);
    s.publish();
    frame(&mut a);
    assert_eq!(s.publisher.stats().violations, 0);
}

struct TestPatternWider;

impl TestPatternWider {
    fn start() -> framelease::capture::TestPattern {
        let builder = framelease::capture::TestPattern::builder(Size::new(128, 32)).fourcc("YUV420M".parse().unwrap());
        builder.allocator(Allocator::Memfd).unpaced().buffers(7).start().unwrap()
    }
}

#[test]
fn reconnect_finds_a_restarted_publisher() {
    let mut s = Stage::new(6);
    let builder = s.subscriber().reconnect(Reconnect::Always);
    let mut a = s.join(builder);
    s.publish();
    let held = frame(&mut a);
    let before = pixels(&held);
    let Stage { publisher, source: old_source, folder } = s;
    drop((publisher, old_source));
    assert!(!folder.socket().exists(), "the socket file is removed");
    assert!(matches!(a.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Lost(_))));
    // While the publisher is away, a wait sleeps: it does not make a call for each poll of the test.
    let calls = framelease::stats::syscalls();
    assert!(a.recv(Duration::from_millis(300)).unwrap().is_nothing());
    let calls = framelease::stats::syscalls() - calls;
    assert!(calls < 40, "{calls} system calls in 300 ms without a publisher");
    let mut publisher = publisher_at(folder.socket()).bind().unwrap();
    let mut new_source = source(6);
    publisher.announce(new_source.buffers().unwrap()).unwrap();
    let mut events = Vec::new();
    while publisher.active() == 0 {
        drop(publisher.recv(Duration::from_millis(5)).unwrap());
        events.extend(a.try_recv().unwrap().item());
    }
    assert!(matches!(events[..], [SubscriberEvent::Returned, SubscriberEvent::Format(_)]), "{events:?}");
    assert!(publisher.publish(new_source.recv(SOON).unwrap().frame().unwrap(), SOON).unwrap().is_taken());
    assert_eq!(frame(&mut a).meta().sequence, 0);
    assert_eq!(pixels(&held), before, "a frame of the old publisher has changed");
    assert_eq!(a.stats().reconnects, 1);
}

#[test]
fn pause_is_an_event_and_leases_outlive_it() {
    let mut s = Stage::new(6);
    let mut a = s.join(s.subscriber());
    s.publish();
    let held = frame(&mut a);
    assert!(s.publisher.pause(SOON).unwrap());
    assert!(matches!(a.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Paused)));
    let before = pixels(&held);
    drop(s);
    assert!(matches!(a.recv(SOON).unwrap(), Received::Ended));
    drop(a);
    assert_eq!(pixels(&held), before);
}

#[test]
fn publisher_shares_the_frames_of_a_subscriber() {
    let mut s = Stage::new(8);
    let mut relay = s.join(s.subscriber().hold(4));
    let folder = Folder::new();
    let mut second = publisher_at(folder.socket()).reserve(1).bind().unwrap();
    s.publish();
    let relayed = frame(&mut relay);
    let (want, slot) = (pixels(&relayed), relayed.slot());
    assert_eq!((relayed.buffers().slots(), relayed.buffers().max_leases()), (8, 4), "as many leases as it may hold");
    assert!(second.publish(relayed, SOON).unwrap().is_taken());
    let path = folder.socket();
    let leaf = std::thread::spawn(move || {
        let mut leaf = Subscriber::builder(path).connect(SOON).unwrap();
        let frame = frame(&mut leaf);
        (pixels(&frame), frame.memory().to_vec())
    });
    while !leaf.is_finished() {
        drop(second.recv(Duration::from_millis(1)).unwrap());
    }
    let (got, memory) = leaf.join().unwrap();
    assert_eq!(got, want);
    assert_eq!(memory, s.source.buffers().unwrap().memory(slot), "the first source's own memory");
    let path = folder.socket();
    let large = std::thread::spawn(move || Subscriber::builder(path).hold(2).connect(SOON).unwrap_err());
    while !large.is_finished() {
        drop(second.recv(Duration::from_millis(1)).unwrap());
    }
    let e = large.join().unwrap();
    assert!(
        e.to_string().contains(&Reason::Capacity.to_string()),
        "of 4 slots one has the newest frame, one the frame in hand: {e}"
    );
}

#[test]
fn quotas_are_admitted_only_while_the_source_keeps_its_reserve() {
    // 6 slots, 2 for the source, 1 for the newest frame: room for one quota of 3, or one of 2.
    let mut s = Stage::new(6);
    let e = s.connect(s.subscriber().hold(3)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains(&Reason::Capacity.to_string()), "{e}");
    let _a = s.join(s.subscriber());
    assert_eq!(s.connect(s.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(s.publisher.stats().refused, 2);
}

#[test]
fn accept_hook_and_limits_decide_who_connects() {
    let uid = nix::unistd::geteuid().as_raw();
    let mut s = Stage::with(16, |b| b.accept_if(move |peer| peer.uid != uid));
    assert_eq!(s.connect(s.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
    let mut s = Stage::with(16, |b| b.max_subscribers(1));
    let _a = s.join(s.subscriber());
    assert_eq!(s.connect(s.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
    let mut s = Stage::with(16, |b| b.max_per_user(1));
    let _a = s.join(s.subscriber());
    assert_eq!(s.connect(s.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn bind_checks_the_path() {
    let folder = Folder::new();
    let alive = publisher_at(folder.socket()).bind().unwrap();
    assert_eq!(publisher_at(folder.socket()).bind().unwrap_err().kind(), ErrorKind::Busy);
    drop(alive);
    std::fs::write(folder.socket(), "a file").unwrap();
    let e = publisher_at(folder.socket()).bind().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongFile, "{e}");
    std::fs::remove_file(folder.socket()).unwrap();
    let e = publisher_at("/nonexistent/socket").bind().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    assert!(publisher_at("x".repeat(200)).bind().is_err());
    assert!(publisher_at("").bind().is_err());
    // A path without a publisher.
    let e = Subscriber::builder(folder.socket()).connect(SOON).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    // A socket that a killed publisher left is replaced.
    dead_socket(&folder.socket(), SockType::SeqPacket);
    assert!(folder.socket().exists());
    let e = Subscriber::builder(folder.socket()).connect(SOON).unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::Os), "{e}");
    publisher_at(folder.socket()).bind().unwrap();
}

#[test]
fn pool_that_is_exhausted_is_a_value_and_recovers() {
    let mut s = Stage::new(5);
    let mut a = s.join(s.subscriber());
    let mut own = Vec::new();
    // The user's own code holds every buffer outside the subscriber's quota.
    s.publish();
    let held = frame(&mut a);
    while let Some(f) = s.source.try_recv().unwrap().frame() {
        own.push(f);
    }
    assert_eq!(own.len(), 4);
    assert!(s.source.recv(Duration::from_millis(5)).unwrap().is_nothing());
    own.clear();
    drop(held);
    for _ in 0..20 {
        s.publish();
        frame(&mut a);
    }
}

#[test]
fn reserve_beyond_the_pool_admits_no_subscriber() {
    for reserve in [10, usize::MAX] {
        let mut s = Stage::with(4, |b| b.reserve(reserve));
        assert_eq!(s.connect(s.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
        s.publish();
    }
}

#[test]
fn policy_block_keeps_up_with_a_paced_source() {
    let folder = Folder::new();
    let layout = Size::new(64, 48);
    let builder = framelease::capture::TestPattern::builder(layout).interval(FrameInterval::from_fps(500));
    let mut source = builder.allocator(Allocator::Memfd).start().unwrap();
    let mut publisher = publisher_at(folder.socket()).bind().unwrap();
    publisher.announce(source.buffers().unwrap()).unwrap();
    let path = folder.socket();
    let reader = std::thread::spawn(move || {
        let mut a = Subscriber::builder(path).policy(Policy::Fifo(3)).connect(SOON).unwrap();
        (0..50).map(|_| frame(&mut a).meta().sequence).collect::<Vec<_>>()
    });
    while !reader.is_finished() {
        publisher.dispatch().unwrap();
        if publisher.active() > 0 {
            if let Some(f) = source.recv(Duration::from_millis(20)).unwrap().frame() {
                assert!(publisher.publish(f, SOON).unwrap().is_taken());
            }
        }
    }
    let got = reader.join().unwrap();
    assert!(got.windows(2).all(|w| w[0] < w[1]), "{got:?}");
}

#[test]
fn allocated_pools_can_be_published_too() {
    let mut s = Stage::new(6);
    let mut a = s.join(s.subscriber());
    let pool = Pool::new(&Allocator::Memfd, *s.source.buffers().unwrap().layout(), 6).unwrap();
    for sequence in 0..3 {
        let frame = pool.try_acquire().unwrap().freeze_full(sequence, 0);
        assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
    }
    // The newest frame waits for subscribers that accept the new pool.
    s.until("the newest of the new pool arrives", |_| match a.try_recv().unwrap() {
        Received::Item(SubscriberEvent::Frame(f)) => {
            assert_eq!(f.meta().sequence, 2);
            true
        }
        _ => false,
    });
}
