//! Tests of peers that break the protocol: each loses its own connection, no other subscriber loses a frame, and
//! nothing leaks.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use framelease::convert::FrameRateConverter;
use framelease::format::{FrameInterval, Size};
use framelease::frame::Frame;
use framelease::share::{Policy, Publisher, Rate, Reconnect, Subscriber, SubscriberEvent};
use framelease::stats::syscalls;
use framelease::ErrorKind;
use framelease::{Reason, Received, Station};
use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::socket::{getsockname, setsockopt, sockopt, UnixAddr};

use crate::raw::{self, hello, kind, message, word, Raw};
use crate::support::{borrowed, frame, nothing, pixels, publisher_at, source, source_of, Folder, Stage, SOON};

/// Open descriptors of this process whose file has this name. Other tests run at the same time.
fn fds_of(name: &str) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|e| std::fs::read_link(e.path()).ok());
    links.filter(|l| l.to_string_lossy().contains(name)).count()
}

/// A raw peer that has completed the handshake and acknowledged every buffer.
pub fn admitted(s: &mut Stage, hold: u16) -> Raw {
    let peer = Raw::connect(&s.folder.socket());
    peer.send(&hello(1, 1, hold));
    let active = s.publisher.active();
    let start = Instant::now();
    while s.publisher.active() == active {
        assert!(start.elapsed() < SOON);
        drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
        while let Some((m, fds)) = peer.try_receive() {
            if kind(&m) == raw::BUFFER {
                assert_eq!(fds.len(), 1);
                peer.send(&message(raw::BUFFER_OK, &[word(&m, 0), word(&m, 1)]));
            }
        }
    }
    peer
}

/// The next FRAME: pool, slot, generation.
fn leased(peer: &Raw) -> [u32; 4] {
    let m = peer.receive();
    assert_eq!((kind(&m), m.len()), (raw::FRAME, 96));
    [0, 1, 2, 3].map(|i| word(&m, i))
}

/// Asserts that the sibling gets every frame, whatever the other peer does.
fn sibling_is_served(s: &mut Stage, sibling: &mut Subscriber) {
    for _ in 0..10 {
        let sequence = s.publish();
        assert_eq!(frame(sibling).meta().sequence, sequence);
        s.publisher.dispatch().unwrap();
    }
    assert_eq!(sibling.stats().dropped, 0);
}

#[test]
fn messages_that_are_invalid_cost_only_their_sender() {
    let mut garbage: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("noise", vec![vec![0xff; 64]]),
        ("half a HELLO", vec![hello(1, 1, 1)[..20].to_vec()]),
        ("one byte", vec![vec![1]]),
        ("wrong magic", vec![message(raw::HELLO, &[7, 0x0001_0001, 1, 1, 1, 0])]),
        ("versions upside down", vec![hello(2, 1, 1)]),
        ("hold nothing", vec![hello(1, 1, 0)]),
        ("hold everything", vec![hello(1, 1, 65)]),
        ("too long", vec![vec![0; 300]]),
        ("something before HELLO", vec![message(raw::RELEASE, &[1, 0, 1, 0])]),
        ("two HELLOs", vec![hello(1, 1, 1), hello(1, 1, 1)]),
        ("an unknown critical message", vec![hello(1, 1, 1), message(99, &[])]),
        ("a publisher's message", vec![hello(1, 1, 1), message(raw::FRAME, &[0; 22])]),
        ("an acknowledgement without a buffer", vec![hello(1, 1, 1), message(raw::BUFFER_OK, &[1, 63])]),
        ("an empty release", vec![hello(1, 1, 1), message(raw::RELEASE, &[])]),
        ("a release of what it never had", vec![hello(1, 1, 1), message(raw::RELEASE, &[1, 0, 1, 0])]),
    ];
    // Random bytes with a plausible header.
    let mut seed = 1u64;
    for _ in 0..200 {
        let mut m = Vec::new();
        for _ in 0..seed % 60 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            m.push((seed >> 56) as u8);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        m.splice(..m.len().min(4), [(seed >> 60) as u8, 0, 1, 0]);
        garbage.push(("random", vec![hello(1, 1, 1), m]));
    }
    let mut s = Stage::new(20);
    let mut sibling = s.join(s.subscriber());
    for (what, messages) in garbage {
        let before = s.publisher.stats().violations;
        let peer = Raw::connect(&s.folder.socket());
        messages.iter().for_each(|m| peer.send(m));
        if what == "random" {
            s.publisher.dispatch().unwrap();
        } else {
            s.until(what, |p| p.stats().violations == before + 1);
            let mut last = peer.receive();
            while kind(&last) != raw::BYE && !last.is_empty() {
                last = peer.receive();
            }
            assert_eq!((kind(&last), word(&last, 0)), (raw::BYE, 4), "{what}");
        }
        drop(peer);
        sibling_is_served(&mut s, &mut sibling);
    }
    s.until("only the sibling is left", |p| p.subscribers().count() == 1);
}

#[test]
fn message_of_unknown_type_is_skipped() {
    let mut s = Stage::new(8);
    let peer = admitted(&mut s, 1);
    let mut optional = message(99, &[1, 2, 3]);
    optional[2] = 0;
    peer.send(&optional);
    s.publish();
    let [pool, slot, low, high] = leased(&peer);
    peer.send(&message(raw::RELEASE, &[pool, slot, low, high]));
    s.publish();
    leased(&peer);
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn version_that_is_unknown_is_refused_with_a_reason() {
    let mut s = Stage::new(8);
    let peer = Raw::connect(&s.folder.socket());
    peer.send(&hello(2, 9, 1));
    s.until("the peer is refused", |p| p.stats().refused == 1);
    let m = peer.receive();
    assert_eq!((kind(&m), word(&m, 0)), (raw::BYE, 1));
    // A peer that also supports our version is admitted.
    let peer = Raw::connect(&s.folder.socket());
    peer.send(&hello(1, 9, 1));
    s.until("the peer is admitted", |p| p.stats().admitted == 1);
    assert_eq!(kind(&peer.receive()), raw::WELCOME);
}

#[test]
fn releases_that_are_double_stale_or_foreign_end_the_connection() {
    for case in ["double", "stale", "foreign"] {
        let mut s = Stage::new(12);
        let mut sibling = s.join(s.subscriber());
        let peer = admitted(&mut s, 2);
        s.publish();
        let [pool, slot, low, high] = leased(&peer);
        let held = frame(&mut sibling);
        let want = pixels(&held);
        let release = |slot, low| peer.send(&message(raw::RELEASE, &[pool, slot, low, high]));
        match case {
            "double" => {
                release(slot, low);
                release(slot, low);
            }
            "stale" => release(slot, low + 1000),
            _ => release(slot + 1, low),
        }
        // The publisher reads releases at the next publish. It reads the illegal second one with the first.
        for _ in 0..2 {
            s.publish();
        }
        s.until(case, |p| {
            let _ = peer.try_receive();
            p.stats().violations == 1
        });
        assert_eq!(pixels(&held), want, "{case}: the sibling's frame was touched");
        drop(held);
        assert_eq!(s.publisher.subscribers().count(), 1);
    }
}

#[test]
fn publisher_never_receives_descriptors() {
    let mut s = Stage::new(8);
    let file = std::fs::File::create(s.folder.socket().with_extension("rights")).unwrap();
    for _ in 0..5 {
        let peer = Raw::connect(&s.folder.socket());
        peer.send_with_fds(&hello(1, 1, 1), &[file.as_raw_fd(); 5]);
        let seen = s.publisher.stats().violations;
        s.until("the violation is counted", |p| p.stats().violations == seen + 1);
    }
    assert_eq!(fds_of("socket.rights"), 1, "only our own");
}

#[test]
fn connections_that_died_do_not_delay_new_ones() {
    let mut s = Stage::with(8, |b| b.max_per_user(3));
    // All of them connect and close before the publisher looks.
    (0..20).for_each(|_| drop(Raw::connect(&s.folder.socket())));
    let good = Raw::connect(&s.folder.socket());
    good.send(&hello(1, 1, 1));
    s.until("the peer is admitted", |p| p.stats().admitted == 1);
    assert_eq!(kind(&good.receive()), raw::WELCOME);
    // Open connections do delay new ones.
    let others: Vec<Raw> = (0..3).map(|_| Raw::connect(&s.folder.socket())).collect();
    s.until("one peer is refused", |p| p.stats().refused == 1);
    assert_eq!((kind(&others[2].receive()), s.publisher.subscribers().count()), (raw::BYE, 1));
}

#[test]
fn handshake_without_hello_is_ended_and_costs_the_others_nothing() {
    let mut s = Stage::with(8, |b| b.handshake_timeout(Duration::from_millis(50)));
    let mut sibling = s.join(s.subscriber());
    let silent: Vec<Raw> = (0..10).map(|_| Raw::connect(&s.folder.socket())).collect();
    s.publisher.dispatch().unwrap();
    sibling_is_served(&mut s, &mut sibling);
    s.until("the peers are refused", |p| p.stats().refused == 10);
    for peer in silent {
        let m = peer.receive();
        assert_eq!((kind(&m), word(&m, 0)), (raw::BYE, 7));
        assert!(peer.receive().is_empty());
    }
}

#[test]
fn subscriber_that_answers_no_buffer_gets_no_frame_and_costs_nothing() {
    let mut s = Stage::new(8);
    let mut sibling = s.join(s.subscriber());
    let mute = Raw::connect(&s.folder.socket());
    mute.send(&hello(1, 1, 1));
    s.until("the peer is admitted", |p| p.subscribers().count() == 2);
    for _ in 0..5 {
        sibling_is_served(&mut s, &mut sibling);
    }
    while let Some((m, _)) = mute.try_receive() {
        assert_ne!(kind(&m), raw::FRAME);
    }
    let dropped: Vec<_> = s.publisher.subscribers().map(|f| f.dropped).collect();
    assert_eq!(dropped, [0, 49], "one frame waits within the quota");
}

#[test]
fn lease_deadline_revokes_quarantines_and_ends_with_the_release() {
    let ms = Duration::from_millis;
    let mut s = Stage::with(12, |b| b.lease_deadline(ms(40), ms(80)));
    let mut sibling = s.join(s.subscriber());
    let hog = admitted(&mut s, 2);
    s.publish();
    let lease = leased(&hog);
    drop(frame(&mut sibling));
    s.publish();
    drop(frame(&mut sibling));
    leased(&hog);
    s.until("both leases are revoked", |p| p.stats().revoked == 2);
    assert_eq!(kind(&hog.receive()), raw::REVOKE);
    assert_eq!(kind(&hog.receive()), raw::REVOKE);
    s.until("the subscriber is expelled", |p| p.active() == 1);
    let m = hog.receive();
    assert_eq!((kind(&m), word(&m, 0)), (raw::BYE, 5));
    // Quarantine: its two slots are not used again while the pool turns. One of them was the newest until now.
    for _ in 0..30 {
        s.publish();
        let f = frame(&mut sibling);
        assert_ne!(f.slot() as u32, lease[1], "a slot was reused under its reader");
        s.publisher.dispatch().unwrap();
    }
    assert!(s.publisher.subscribers().any(|f| f.held == 2));
    assert!(hog.try_receive().is_none(), "no frame after BYE");
    // It may still release them. With the last release the connection ends.
    hog.send(&message(raw::RETIRED, &[lease[0]]));
    s.until("its connection has ended", |p| p.subscribers().count() == 1);
    let mut slots = std::collections::HashSet::new();
    for _ in 0..30 {
        s.publish();
        slots.insert(frame(&mut sibling).slot());
    }
    assert!(slots.contains(&(lease[1] as usize)), "the slot is in use again");
}

/// Makes the sockets that this process has accepted at a path hold only a few messages.
fn shrink_accepted(path: &Path) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let fd: RawFd = entry.file_name().to_str().unwrap().parse().unwrap();
        if getsockname::<UnixAddr>(fd).is_ok_and(|name| name.path() == Some(path)) {
            setsockopt(&borrowed(fd), sockopt::SndBuf, &1).unwrap();
        }
    }
}

/// Serves a publisher for a while. Returns how often it was readable.
fn turns_in(publisher: &mut Publisher, time: Duration) -> usize {
    let (start, mut turns) = (Instant::now(), 0);
    while start.elapsed() < time {
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(publisher), PollFlags::POLLIN)];
        if poll(&mut fds, 10u8).unwrap() == 1 {
            turns += 1;
            drop(publisher.try_recv().unwrap());
        }
    }
    turns
}

#[test]
fn revoke_to_a_full_socket_delays_no_other_and_ends_the_connection() {
    let ms = Duration::from_millis;
    let mut s = Stage::with(24, |b| b.lease_deadline(ms(40), ms(400)));
    let hog = admitted(&mut s, 12);
    shrink_accepted(&s.folder.socket());
    let other = admitted(&mut s, 1);
    (0..10).for_each(|_| _ = s.publish());
    assert!(
        s.publisher.subscribers().any(|f| f.dropped > 0 && f.held < 10 && f.held > 1),
        "the subscriber's socket is full"
    );
    s.until("the other gets REVOKE", |p| p.stats().revoked == 1);
    assert!(turns_in(&mut s.publisher, ms(100)) < 20, "no pauses between attempts");
    leased(&other);
    assert_eq!(kind(&other.receive()), raw::NEWER);
    assert_eq!(kind(&other.receive()), raw::REVOKE);
    s.until("both are expelled", |p| p.active() == 0);
    // When it reads again, it gets the messages that it missed.
    let start = Instant::now();
    let bye = loop {
        assert!(start.elapsed() < SOON, "no BYE comes");
        drop(s.publisher.recv(ms(1)).unwrap());
        match hog.try_receive() {
            Some((m, _)) if kind(&m) == raw::FRAME => {}
            Some((m, _)) => break m,
            None => {}
        }
    };
    assert_eq!((kind(&bye), word(&bye, 0)), (raw::BYE, 5));
}

/// A source that is itself a subscriber holds a limited number of frames, of any pool.
#[test]
fn quarantine_of_an_old_pool_counts_against_a_subscriber_as_source() {
    let ms = Duration::from_millis;
    let mut s = Stage::new(8);
    let mut relay = s.join(s.subscriber().hold(4));
    let folder = Folder::new();
    let builder = publisher_at(folder.socket()).reserve(1).lease_deadline(ms(20), ms(40));
    let mut second = Stage { publisher: builder.bind().unwrap(), source: source(1), folder };
    second.publisher.announce(relay.buffers().unwrap()).unwrap();
    let hog = admitted(&mut second, 1);
    s.publish();
    assert!(second.publisher.publish(frame(&mut relay), SOON).unwrap().is_taken());
    let lease = leased(&hog);
    second.until("the subscriber is expelled", |p| p.active() == 0);
    s.source = source_of(8, Size::new(128, 32));
    s.publish();
    let mut next = None;
    s.until("the relay has a frame of the new pool", |_| {
        if let Received::Item(SubscriberEvent::Frame(frame)) = relay.try_recv().unwrap() {
            next = Some(frame);
        }
        next.is_some()
    });
    assert!(second.publisher.publish(next.unwrap(), SOON).unwrap().is_taken());
    // Of 4 slots, one has the newest frame, one the frame in hand, one is in quarantine.
    assert_eq!(second.connect(second.subscriber()).unwrap_err().kind(), ErrorKind::Refused);
    hog.send(&message(raw::RETIRED, &[lease[0]]));
    second.until("its connection has ended", |p| p.subscribers().count() == 0);
    assert!(second.connect(second.subscriber()).is_ok());
}

#[test]
fn frame_is_valid_until_a_revocation() {
    let ms = Duration::from_millis;
    let mut s = Stage::with(12, |b| b.lease_deadline(ms(30), ms(5000)));
    let mut a = s.join(s.subscriber());
    s.publish();
    let held = frame(&mut a);
    assert!(held.is_valid());
    s.until("the lease is revoked", |p| p.stats().revoked == 1);
    assert!(a.try_recv().unwrap().is_nothing());
    assert!(!held.is_valid());
    assert_eq!(a.stats().revoked, 1);
    drop(held);
    // The release of a revoked lease is legal, and the next lease is valid.
    s.publish();
    assert!(frame(&mut a).is_valid());
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn frame_that_is_held_keeps_its_pixels() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    s.publish();
    let held = frame(&mut a);
    let want = pixels(&held);
    // Neither many publishes nor time overwrite it.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..500 {
            s.publish();
        }
    }
    assert_eq!(pixels(&held), want);
    assert!(held.is_valid());
}

/// A subscriber that reads late, with old frames in its socket.
#[test]
fn frames_read_late_have_their_own_pixels() {
    let hash = |frame: &Frame| {
        let mut hasher = DefaultHasher::new();
        pixels(frame).hash(&mut hasher);
        hasher.finish()
    };
    let mut s = Stage::new(12);
    let mut a = s.join(s.subscriber().policy(Policy::Fifo(4)).hold(3));
    let (mut published, mut received, mut held) = (Vec::new(), 0, VecDeque::new());
    while received < 10_000 {
        for _ in 0..9 {
            let frame = s.source.recv(SOON).unwrap().frame().expect("the source has a free buffer");
            assert_eq!(frame.meta().sequence, published.len() as u64);
            published.push(hash(&frame));
            assert!(s.publisher.publish(frame, SOON).unwrap().is_taken());
        }
        while let Received::Item(event) = a.try_recv().unwrap() {
            let SubscriberEvent::Frame(frame) = event else { panic!("{event:?}") };
            held.push_back(frame);
            if held.len() == 3 {
                let oldest = held.pop_front().unwrap();
                assert_eq!(hash(&oldest), published[oldest.meta().sequence as usize]);
                assert!(oldest.is_valid());
                received += 1;
            }
        }
        s.publisher.dispatch().unwrap();
    }
    assert_eq!(s.publisher.stats().violations, 0);
}

#[test]
fn quota_holds_for_a_subscriber_that_releases_nothing() {
    let ms = Duration::from_millis;
    let mut s = Stage::with(6, |b| b.reserve(1).lease_deadline(ms(40), ms(80)));
    let mut sibling = s.join(s.subscriber());
    let mut hog = s.join(s.subscriber());
    s.publish();
    let hogged = frame(&mut hog);
    drop(frame(&mut sibling));
    for _ in 0..300 {
        let sequence = s.publish();
        assert_eq!(frame(&mut sibling).meta().sequence, sequence);
        assert!(s.publisher.subscribers().all(|f| f.held <= f.quota as usize));
        drop(s.publisher.recv(ms(1)).unwrap());
    }
    assert_eq!(sibling.stats().dropped, 0);
    let error = loop {
        match hog.try_recv() {
            Ok(Received::Item(SubscriberEvent::Frame(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(&Reason::LeaseExpired.to_string()), "{error}");
    assert!(!hogged.is_valid());
}

/// A publisher that sends raw messages, and the subscriber's result.
fn against(script: impl FnOnce(&Raw) + Send) -> framelease::Result<Received<SubscriberEvent>> {
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    std::thread::scope(|scope| {
        let publisher = scope.spawn(move || {
            let peer = listener.accept();
            assert_eq!(kind(&peer.receive()), raw::HELLO);
            script(&peer);
            // Stay until the subscriber hangs up, and read its messages.
            while !peer.receive().is_empty() {}
        });
        let result = (|| {
            let mut subscriber = Subscriber::builder(folder.socket()).policy(Policy::Latest).connect(SOON)?;
            loop {
                match subscriber.recv(Duration::from_millis(500))? {
                    Received::Item(SubscriberEvent::Format(_)) => {}
                    other => return Ok(other),
                }
            }
        })();
        publisher.join().unwrap();
        result
    })
}

fn welcome() -> Vec<u8> {
    message(raw::WELCOME, &[1 | 2 << 16, 0, 7, 7])
}

/// FORMAT of a GREY picture in one memory plane.
fn grey(slots: u32, width: u32, height: u32, bytes: u32, stride: u32) -> Vec<u8> {
    let mut words = vec![5, slots, u32::from_le_bytes(*b"GREY"), width, height, 0, 0, 0, 0, 0, 0, 1 | 1 << 16];
    words.extend([bytes, 0, 0, 0]);
    words.extend([0, 0, stride]);
    words.extend([0; 9]);
    message(raw::FORMAT, &words)
}

#[test]
fn protocol_errors_of_a_publisher_are_typed() {
    let memory = framelease::dmabuf::Allocator::Memfd.allocate(4096, "lying-publisher").unwrap();
    let fd = std::os::fd::AsFd::as_fd(&memory).as_raw_fd();
    let null = std::fs::File::open("/dev/null").unwrap();
    let loose = nix::sys::memfd::memfd_create("loose", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let null = null.as_raw_fd();
    let loose = loose.as_raw_fd();
    let buffer = |slot| message(raw::BUFFER, &[5, slot]);
    let frame_of = |bytes: u32, slot: u32| {
        let mut words = vec![5, slot, 1, 0];
        words.extend([0; 10]);
        words.extend([0, bytes, 0, 0, 0, 0, 0, 0]);
        message(raw::FRAME, &words)
    };
    type Script<'a> = Box<dyn FnOnce(&Raw) + Send + 'a>;
    let scripts: Vec<(&str, Script<'_>)> = vec![
        ("no WELCOME", Box::new(|p: &Raw| p.send(&frame_of(0, 0)))),
        ("noise", Box::new(|p: &Raw| p.send(&[0xff; 40]))),
        ("a message that is too long", Box::new(|p: &Raw| p.send(&[0; 400]))),
        (
            "a stride shorter than a row",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 32));
            }),
        ),
        (
            "a picture larger than its memory",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 65, 4096, 64));
            }),
        ),
        (
            "a gigantic picture",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, u32::MAX, u32::MAX, u32::MAX, u32::MAX));
            }),
        ),
        (
            "no slots",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(0, 64, 64, 4096, 64));
            }),
        ),
        (
            "a layout larger than the descriptor's memory",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 128, 8192, 64));
                p.send_with_fds(&buffer(0), &[fd]);
            }),
        ),
        (
            "a descriptor of something else",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send_with_fds(&buffer(0), &[null]);
            }),
        ),
        (
            "a memfd that can be truncated",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send_with_fds(&buffer(0), &[loose]);
            }),
        ),
        (
            "no descriptor",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send(&buffer(0));
            }),
        ),
        (
            "too many descriptors",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send_with_fds(&buffer(0), &[fd; 3]);
            }),
        ),
        (
            "a buffer without a format",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send_with_fds(&buffer(0), &[fd]);
            }),
        ),
        (
            "a frame before its buffer",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send(&frame_of(4096, 0));
            }),
        ),
        (
            "a frame larger than its buffer",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send_with_fds(&buffer(0), &[fd]);
                p.send(&frame_of(5000, 0));
            }),
        ),
        (
            "a frame in a slot that is not there",
            Box::new(|p: &Raw| {
                p.send(&welcome());
                p.send(&grey(1, 64, 64, 4096, 64));
                p.send_with_fds(&buffer(0), &[fd]);
                p.send(&frame_of(4096, 1));
            }),
        ),
    ];
    for (what, script) in scripts {
        match against(script) {
            Err(e) => assert_eq!(e.kind(), ErrorKind::Protocol, "{what}: {e}"),
            Ok(event) => panic!("{what}: {event:?}"),
        }
    }
    assert_eq!(fds_of("lying-publisher"), 1, "only our own");
    // The same script without the error works.
    let event = against(|p| {
        p.send(&welcome());
        p.send(&grey(1, 64, 64, 4096, 64));
        p.send_with_fds(&buffer(0), &[fd]);
        p.send(&frame_of(4096, 0));
    });
    assert!(matches!(event, Ok(Received::Item(SubscriberEvent::Frame(_)))), "{event:?}");
}

#[test]
fn protocol_error_if_a_slot_is_leased_twice() {
    let memory = framelease::dmabuf::Allocator::Memfd.allocate(4096, "test").unwrap();
    let fd = std::os::fd::AsFd::as_fd(&memory).as_raw_fd();
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let publisher = std::thread::spawn(move || {
        let p = listener.accept();
        p.send(&welcome());
        p.send(&grey(1, 64, 64, 4096, 64));
        p.send_with_fds(&message(raw::BUFFER, &[5, 0]), &[fd]);
        for _ in 0..2 {
            p.send(&message(raw::FRAME, &[5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4096, 0, 0, 0, 0, 0, 0]));
        }
        while !p.receive().is_empty() {}
    });
    let mut subscriber = Subscriber::builder(folder.socket()).connect(SOON).unwrap();
    let held = frame(&mut subscriber);
    assert_eq!(subscriber.recv(SOON).unwrap_err().kind(), ErrorKind::Protocol);
    drop(held);
    drop(subscriber);
    publisher.join().unwrap();
    drop(memory);
}

/// Tests are built with overflow checks: a sum over what a peer says that does not saturate would panic.
#[test]
fn numbers_of_a_publisher_may_be_the_largest() {
    const CONNECTIONS: usize = 3;
    let memory = framelease::dmabuf::Allocator::Memfd.allocate(4096, "test").unwrap();
    let fd = std::os::fd::AsFd::as_fd(&memory).as_raw_fd();
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let publisher = std::thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            let p = listener.accept();
            p.send(&message(raw::WELCOME, &[1 | 0xffff << 16, u32::MAX, u32::MAX, u32::MAX]));
            p.send(&grey(1, 64, 64, 4096, 64));
            p.send_with_fds(&message(raw::BUFFER, &[5, 0]), &[fd]);
            p.send(&message(raw::NEWER, &[u32::MAX; 2]));
            // Generation, sequence, timestamp, time of publication, drops, losses and flags.
            let mut words = vec![5, 0];
            words.extend([u32::MAX; 12]);
            words.extend([0, 4096, 0, 0, 0, 0, 0, 0]);
            p.send(&message(raw::FRAME, &words));
            while !matches!(kind(&p.receive()), raw::BUFFER_OK | 0) {}
        }
    });
    let builder = Subscriber::builder(folder.socket()).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(SOON).unwrap();
    let mut onward = Stage::new(8);
    let mut sink = onward.join(onward.subscriber().policy(Policy::Latest).rate(Rate::MilliFps(1)));
    let mut repeater = FrameRateConverter::new(FrameInterval::from_fps(30)).unwrap().repeating();
    for _ in 0..CONNECTIONS {
        let lying = loop {
            if let Some(frame) = subscriber.recv(SOON).unwrap().frame() {
                break frame;
            }
        };
        let meta = *lying.meta();
        assert_eq!((meta.sequence, meta.lost, meta.dropped), (u64::MAX, u32::MAX, u64::MAX));
        assert_eq!((meta.timestamp_ns, meta.published_ns), (u64::MAX, u64::MAX));
        let stats = subscriber.stats();
        assert_eq!((stats.dropped, stats.lost > 0), (u64::MAX, true), "{stats:?}");
        let _ = (subscriber.latency(), repeater.push(lying.clone()).count());
        drop(lying);
        let onwards = onward.source.recv(SOON).unwrap().frame().unwrap();
        let mut said = meta;
        said.payload = onwards.meta().payload;
        assert!(onward.publisher.publish(onwards.with_meta(said), Duration::ZERO).unwrap().is_taken());
        let _ = (onward.publisher.stats(), sink.try_recv().unwrap(), sink.stats());
    }
    drop((sink, onward, repeater, subscriber));
    publisher.join().unwrap();
    drop(memory);
}

#[test]
fn try_recv_reads_a_bounded_number_of_messages() {
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let publisher = std::thread::spawn(move || {
        let p = listener.accept();
        p.send(&welcome());
        // Not critical, so it is skipped. The publisher sends without a pause until the subscriber hangs up.
        let mut unknown = message(999, &[]);
        unknown[2] = 0;
        while p.receive_nothing() {
            p.send(&unknown);
        }
    });
    let mut subscriber = Subscriber::builder(folder.socket()).connect(SOON).unwrap();
    for _ in 0..100 {
        let before = syscalls();
        assert!(subscriber.try_recv().unwrap().is_nothing());
        let made = syscalls() - before;
        assert!(made < 200, "{made} system calls in one call");
    }
    drop(subscriber);
    publisher.join().unwrap();
}

/// Releases to a publisher that reads late.
#[test]
fn releases_wait_for_space_in_the_socket() {
    let memory = framelease::dmabuf::Allocator::Memfd.allocate(4096, "test").unwrap();
    let fd = std::os::fd::AsFd::as_fd(&memory).as_raw_fd();
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let connecting = std::thread::spawn({
        let builder = Subscriber::builder(folder.socket());
        move || builder.connect(SOON).unwrap()
    });
    let p = listener.accept();
    p.send(&welcome());
    let mut subscriber = connecting.join().unwrap();
    p.send(&grey(1, 64, 64, 4096, 64));
    p.send_with_fds(&message(raw::BUFFER, &[5, 0]), &[fd]);
    let mut generation = 0;
    let mut send = |p: &Raw| {
        generation += 1;
        let data = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4096, 0, 0, 0, 0, 0, 0];
        p.send(&message(raw::FRAME, &[&[5, 0, generation, 0][..], &data[..]].concat()));
        generation
    };
    let read_until = |p: &Raw, generation: u32| loop {
        let m = p.receive();
        assert!(!m.is_empty(), "the release of {generation} does not come");
        if kind(&m) == raw::RELEASE && word(&m, 2) == generation {
            return;
        }
    };
    let mut fill = |p: &Raw, subscriber: &mut Subscriber| loop {
        let generation = send(p);
        drop(frame(subscriber));
        let calls = syscalls();
        nothing(subscriber);
        // More calls than the receive: the release is sent again.
        if syscalls() - calls > 1 {
            return generation;
        }
        assert!(generation < 10_000, "the socket is never full");
    };
    let first = fill(&p, &mut subscriber);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            read_until(&p, first);
            p.send(&message(raw::END, &[]));
        });
        // A subscriber that waits for the publisher's next message.
        assert!(matches!(subscriber.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Paused)));
    });
    let last = fill(&p, &mut subscriber);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&p, last));
        // A subscriber that waits until its descriptor is readable. The descriptor is not readable after the last
        // release was sent.
        let start = Instant::now();
        while poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(&subscriber), PollFlags::POLLIN)], 200u8) == Ok(1) {
            assert!(start.elapsed() < SOON, "readable forever");
            nothing(&mut subscriber);
        }
        reader.join().unwrap();
    });
    // Another thread drops a frame when the socket is full, while this one waits, in either way.
    let room = last - first;
    for polls in [false, true] {
        for _ in 1..room {
            send(&p);
            drop(frame(&mut subscriber));
        }
        let generation = send(&p);
        let held = frame(&mut subscriber);
        let calls = syscalls();
        nothing(&mut subscriber);
        assert_eq!(syscalls() - calls, 1, "a release is sent too early");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                drop(held);
                read_until(&p, generation);
                p.send(&message(raw::END, &[]));
            });
            if !polls {
                assert!(matches!(subscriber.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Paused)));
                return;
            }
            loop {
                let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&subscriber), PollFlags::POLLIN)];
                assert_eq!(poll(&mut fds, 10_000u16), Ok(1), "the descriptor does not become readable");
                match subscriber.try_recv().unwrap() {
                    Received::Item(SubscriberEvent::Paused) => return,
                    other => assert!(other.is_nothing(), "{other:?}"),
                }
            }
        });
    }
}

#[test]
fn end_and_silence_of_a_publisher_are_values() {
    let event = against(|p| {
        p.send(&welcome());
        p.send(&message(raw::END, &[]));
    });
    assert!(matches!(event, Ok(Received::Item(SubscriberEvent::Paused))), "{event:?}");
    let event = against(|p| p.send(&welcome()));
    assert!(matches!(event, Ok(Received::Nothing)), "{event:?}");
    // Without a WELCOME, connect itself ends in time.
    let folder = Folder::new();
    let listener = Raw::listen(&folder.socket());
    let e = Subscriber::builder(folder.socket()).connect(Duration::from_millis(100)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Timeout, "{e}");
    drop(listener);
}

#[test]
fn publisher_that_waits_for_releases_is_not_readable() {
    let mut s = Stage::new(8);
    let mut a = s.join(s.subscriber());
    let readable = |s: &Stage| {
        let fd = std::os::fd::AsFd::as_fd(&s.publisher);
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 0u8).unwrap() == 1
    };
    s.publish();
    drop(frame(&mut a));
    assert!(!readable(&s), "a release woke the publisher although nothing waits for it");
    s.publish();
    let held = frame(&mut a);
    s.publish();
    assert!(!readable(&s));
    drop(held);
    assert!(readable(&s), "the frame that waits must be sent");
    s.publisher.dispatch().unwrap();
    assert_eq!(frame(&mut a).meta().sequence, 2);
    // The subscriber that was waited for may wake us once more. Then the publisher is quiet again.
    s.publisher.dispatch().unwrap();
    assert!(!readable(&s));
    nothing(&mut a);
}
