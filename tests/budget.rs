//! The budgets of sharing as counts: system calls, allocations, descriptors, mappings, bytes, memory.

#[path = "kernel/allocations.rs"]
mod allocations;

use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::Pool;
use framelease::share::{Publisher, Subscriber, SubscriberEvent};
use framelease::stats::{cpu_bytes, syscalls};
use framelease::{Received, Station};

fn lines(path: &str) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Scene {
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    folder: std::path::PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn scene(pool: &framelease::frame::BufferSet, consumers: usize) -> Scene {
    let folder = std::env::temp_dir().join(format!("framelease-budget-{}-{consumers}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let mut publisher = Publisher::builder(&path).reserve(2).bind().unwrap();
    publisher.announce(pool).unwrap();
    let mut subscribers = Vec::new();
    for i in 0..consumers {
        let path = path.clone();
        let thread = std::thread::spawn(move || Subscriber::builder(path).connect(Duration::from_secs(10)).unwrap());
        while !thread.is_finished() {
            drop(publisher.recv(Duration::from_millis(1)).unwrap());
        }
        let mut subscriber = thread.join().unwrap();
        while publisher.active() == i {
            let _ = subscriber.try_recv().unwrap();
            drop(publisher.recv(Duration::from_millis(1)).unwrap());
        }
        // The format event, if it was not received above.
        while subscriber.try_recv().unwrap().item().is_some() {}
        subscribers.push(subscriber);
    }
    Scene { publisher, subscribers, folder }
}

/// One test only: it looks at the descriptors and memory of the process, so no other test may run at the same time.
#[test]
fn frame_costs_what_the_design_allows() {
    const FRAMES: u64 = 1_000;
    // A million in .ci/deep.
    let more = std::env::var("FRAMELEASE_SOAK_FRAMES").map_or(9_000, |n| n.parse().unwrap());
    for consumers in [1usize, 3, 8] {
        let layout = framelease::format::Layout::packed("NV12".parse().unwrap(), Size::new(64, 48)).unwrap();
        let pool = Pool::new(&Allocator::Memfd, layout, consumers * 2 + 4).unwrap();
        let mut s = scene(pool.buffers(), consumers);
        let timeout = Duration::from_secs(10);
        // One frame at a time: the calls of the publisher's loop and of all subscribers.
        let mut sequence = 0;
        // The memory that each subscriber got for each slot: an import stays valid forever.
        let mut met = vec![[None; 20]; consumers];
        let mut round = || {
            let frame = pool.try_acquire().expect("a buffer is free").freeze_full(sequence, sequence);
            let start = syscalls();
            assert!(s.publisher.publish(frame, timeout).unwrap().is_taken());
            // A loop that also handles connections.
            s.publisher.dispatch().unwrap();
            let middle = syscalls();
            for (subscriber, met) in s.subscribers.iter_mut().zip(&mut met) {
                match subscriber.recv(timeout).unwrap() {
                    Received::Item(SubscriberEvent::Frame(f)) => {
                        assert_eq!(f.meta().sequence, sequence);
                        let id = f.memory()[0].id();
                        assert_eq!(*met[f.slot()].get_or_insert(id), id, "slot {}", f.slot());
                    }
                    other => panic!("{other:?}"),
                }
            }
            sequence += 1;
            (middle - start, syscalls() - middle)
        };
        for _ in 0..50 {
            round();
        }
        let (fds, maps) = (descriptors(), lines("/proc/self/maps"));
        let (bytes, memory) = (cpu_bytes(), resident_kib());
        let allocated = allocations::of_this_thread();
        let (mut publisher_calls, mut subscriber_calls) = (0, 0);
        for _ in 0..FRAMES {
            let (publisher, subscribers) = round();
            publisher_calls += publisher;
            subscriber_calls += subscribers;
        }
        // First, because the checks below allocate memory themselves.
        let allocated = allocations::of_this_thread() - allocated;
        let c = consumers as u64;
        let (publisher_calls, subscriber_calls) =
            (publisher_calls as f64 / FRAMES as f64, subscriber_calls as f64 / (FRAMES * c) as f64);
        println!(
            "{c} consumers: publisher {publisher_calls:.2}, subscriber {subscriber_calls:.2} system calls a frame"
        );
        assert!(publisher_calls <= (2 * c + 2) as f64, "publisher: {publisher_calls} > 2C + 2");
        assert!(subscriber_calls <= 2.05, "subscriber: {subscriber_calls} > 2");
        assert_eq!(allocated, 0, "allocations in {FRAMES} frames");
        assert_eq!((descriptors(), lines("/proc/self/maps")), (fds, maps), "descriptors, mappings");
        assert_eq!(cpu_bytes(), bytes, "the CPU touched pixels");
        for _ in 0..more {
            round();
        }
        assert!(resident_kib() <= memory + 64, "{memory} KiB resident, {} after {more} frames", resident_kib());
        assert_eq!((descriptors(), lines("/proc/self/maps")), (fds, maps), "after {more} frames");
    }
    // An event loop: poll, receive, release.
    let mut source = TestPattern::builder(Size::new(64, 48)).unpaced().allocator(Allocator::Memfd).start().unwrap();
    let mut s = scene(source.buffers().unwrap(), 1);
    let mut calls = 0;
    for _ in 0..FRAMES {
        assert!(s.publisher.publish(source.try_recv().unwrap().frame().unwrap(), Duration::ZERO).unwrap().is_taken());
        let before = syscalls();
        let mut fds =
            [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&s.subscribers[0]), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 1000u16), Ok(1));
        assert!(matches!(s.subscribers[0].try_recv().unwrap(), Received::Item(SubscriberEvent::Frame(_))));
        // The poll is a call of the test.
        calls += syscalls() - before + 1;
    }
    assert!(calls <= 3 * FRAMES, "{calls} calls for {FRAMES} frames in an event loop");
}
