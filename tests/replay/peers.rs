//! A replay in the place of a camera.

use std::time::Duration;

use framelease::capture::{CameraEvent, FrameSource};
use framelease::format::Size;
use framelease::frame::FrameFlags;
use framelease::share::{Policy, Publisher, Subscriber, SubscriberEvent};
use framelease::{wait, Received, Station};

use crate::support::Folder;
use crate::{builder, bytes, facts, frames, layout, store, wanted, Wanted, SOON};

#[test]
fn subscriber_of_a_replay_gets_gaps_flags_and_times() {
    let folder = Folder::new("replay-peers");
    let (path, socket) = (folder.path("store"), folder.path("socket"));
    let all: Vec<Wanted> = [(5, 0, 0), (6, 20, 0), (9, 80, 2), (10, 100, 0)]
        .map(|(number, ms, lost)| {
            let flags = if lost > 0 { FrameFlags::ERROR } else { FrameFlags::INTERLACED };
            wanted(number, ms * 1_000_000, lost, flags)
        })
        .into();
    let stored = frames(layout("NV12", Size::new(64, 32), 64), &all);
    store(&path, &stored);
    let mut replay = builder(&path).buffers(16).open().unwrap();
    let mut publisher = Publisher::builder(&socket).bind().unwrap();
    publisher.announce(replay.buffers().unwrap()).unwrap();
    let subscriber = std::thread::spawn(move || {
        let mut subscriber = Subscriber::builder(&socket).policy(Policy::Fifo(4)).hold(4).connect(SOON).unwrap();
        let mut got = Vec::new();
        while got.len() < 4 {
            match subscriber.recv(SOON).unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => got.push(frame),
                Received::Item(_) => {}
                other => panic!("{other:?}"),
            }
        }
        (facts(&got), got.iter().map(bytes).collect::<Vec<_>>(), subscriber.stats().lost)
    });
    while publisher.active() == 0 && !subscriber.is_finished() {
        let _ = publisher.recv(Duration::from_millis(100)).unwrap();
    }
    let mut is_over = false;
    while !subscriber.is_finished() {
        wait(&[&replay, &publisher], Duration::from_millis(100)).unwrap();
        let _ = publisher.try_recv().unwrap();
        if is_over {
            continue;
        }
        match replay.try_recv().unwrap() {
            Received::Item(CameraEvent::Frame(frame)) => assert!(publisher.try_publish(frame).unwrap().is_taken()),
            Received::Ended => is_over = true,
            _ => {}
        }
    }
    let (got, pixels, lost) = subscriber.join().unwrap();
    assert_eq!(got, facts(&stored));
    assert_eq!(pixels, stored.iter().map(bytes).collect::<Vec<_>>());
    assert_eq!(lost, 2);
}
