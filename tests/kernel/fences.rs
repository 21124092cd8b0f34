//! Fences of a subscriber's device on a camera's buffers.

use std::time::{Duration, Instant};

use framelease::capture::{Camera, FrameSource, TestPattern};
use framelease::dmabuf::DmaBuf;
use framelease::drm::Device;
use framelease::format::Size;
use framelease::frame::Frame;
use framelease::share::{Publisher, PublisherBuilder, Subscriber, SubscriberBuilder, SubscriberEvent};
use framelease::{Received, Station};

use crate::devices::*;
use crate::display::vgem;
use crate::raw::{self, hello, kind, word, Raw};
use crate::vgem::Fence;

const SECOND: Duration = Duration::from_secs(1);

/// A camera that is published.
struct Scene {
    camera: Camera,
    publisher: Publisher,
    gpu: Device,
    folder: std::path::PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Scene {
    fn new(settings: impl FnOnce(PublisherBuilder) -> PublisherBuilder) -> Option<Self> {
        let (device, gpu) = (vivid(Planar::Single)?, vgem()?);
        let folder = std::env::temp_dir().join(format!("framelease-fences-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let camera = camera(&device, "NV12").buffers(6).open().unwrap();
        let builder = Publisher::builder(folder.join("socket")).reserve(2);
        let mut publisher = settings(builder).bind().unwrap();
        publisher.announce(camera.buffers().unwrap()).unwrap();
        Some(Self { camera, publisher, gpu, folder })
    }

    /// A subscriber takes a frame, its device begins to read that frame, and the subscriber is gone. Returns the
    /// device's fence, the slot, and the frame's memory.
    fn abandoned(&mut self) -> (Fence, usize, DmaBuf) {
        let peer = Raw::connect(&self.folder.join("socket"));
        peer.send(&hello(1, 1, 1));
        let mut leased = None;
        while leased.is_none() {
            self.publish();
            while let Some((message, _)) = peer.try_receive() {
                match kind(&message) {
                    raw::BUFFER => peer.send(&raw::message(raw::BUFFER_OK, &[word(&message, 0), word(&message, 1)])),
                    raw::FRAME => leased = leased.or(Some(word(&message, 1) as usize)),
                    _ => {}
                }
            }
        }
        let slot = leased.unwrap();
        let memory = self.camera.buffers().unwrap().memory(slot)[0].clone();
        let fence = Fence::reading(&self.gpu, &memory);
        drop(peer);
        let start = Instant::now();
        while self.publisher.subscribers().count() > 0 {
            assert!(start.elapsed() < 10 * SECOND);
            drop(self.publisher.recv(Duration::from_millis(5)).unwrap());
        }
        (fence, slot, memory)
    }

    /// Publishes one frame. Returns its slot.
    fn publish(&mut self) -> usize {
        let frame = frame(&mut self.camera);
        let slot = frame.slot();
        assert!(self.publisher.publish(frame, SECOND).unwrap().is_taken());
        slot
    }

    /// A subscriber that takes frames.
    fn join(&mut self, settings: impl FnOnce(SubscriberBuilder) -> SubscriberBuilder) -> Subscriber {
        let builder = settings(Subscriber::builder(self.folder.join("socket")));
        let thread = std::thread::spawn(move || builder.connect(10 * SECOND).unwrap());
        while !thread.is_finished() {
            drop(self.publisher.recv(Duration::from_millis(5)).unwrap());
        }
        thread.join().unwrap()
    }

    /// Serves the publisher until the subscriber has a frame, at most for `timeout`.
    fn receive(&mut self, subscriber: &mut Subscriber, timeout: Duration) -> Option<Frame> {
        let start = Instant::now();
        while start.elapsed() < timeout {
            self.publisher.dispatch().unwrap();
            match subscriber.recv(Duration::from_millis(5)).unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => return Some(frame),
                Received::Item(_) | Received::Nothing => {}
                Received::Ended => panic!("the publisher is gone"),
            }
        }
        None
    }

    /// A subscriber's device begins to read a frame, and the subscriber releases that frame. Returns the fence and the
    /// slot.
    fn released_early(&mut self, subscriber: &mut Subscriber) -> (Fence, usize) {
        self.publish();
        let frame = self.receive(subscriber, 10 * SECOND).unwrap();
        let slot = frame.slot();
        let fence = Fence::reading(&self.gpu, &frame.memory()[0]);
        drop(frame);
        self.publisher.dispatch().unwrap();
        (fence, slot)
    }

    /// The slots of the next frames.
    fn slots(&mut self) -> Vec<usize> {
        (0..18).map(|_| self.publish()).collect()
    }
}

#[test]
fn camera_does_not_wait_for_the_device_of_a_dead_subscriber_by_default() {
    let Some(mut scene) = Scene::new(|b| b) else { return };
    let (fence, slot, _memory) = scene.abandoned();
    assert!(scene.slots().contains(&slot), "the documented behavior");
    fence.signal();
}

#[test]
fn fence_timeout_keeps_a_buffer_until_its_readers_fence_has_signaled() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(60 * SECOND)) else { return };
    let (fence, slot, memory) = scene.abandoned();
    let held = {
        let mut bytes = vec![0; memory.size_bytes()];
        memory.read(SECOND).unwrap().copy_to(0, &mut bytes).unwrap();
        bytes
    };
    assert!(!scene.slots().contains(&slot));
    let mut bytes = vec![0; memory.size_bytes()];
    memory.read(SECOND).unwrap().copy_to(0, &mut bytes).unwrap();
    assert!(bytes == held, "the picture under the device has changed");
    while scene.publisher.recv(Duration::ZERO).unwrap().item().is_some() {}
    assert!(!is_readable(&scene.publisher));
    fence.signal();
    assert!(framelease::wait(&[&scene.publisher], 5 * SECOND).unwrap(), "the fence wakes the publisher");
    scene.publisher.dispatch().unwrap();
    assert!(scene.slots().contains(&slot));
}

#[test]
fn fence_timeout_ends_the_wait_for_a_device_that_hangs() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(SECOND)) else { return };
    let (fence, slot, _memory) = scene.abandoned();
    let start = Instant::now();
    while !scene.slots().contains(&slot) {
        assert!(start.elapsed() < 10 * SECOND);
    }
    fence.signal();
}

#[test]
fn lease_counts_until_fences_of_a_released_frame_have_signaled() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(60 * SECOND)) else { return };
    let mut subscriber = scene.join(|b| b.fences());
    let (fence, slot) = scene.released_early(&mut subscriber);
    assert!(!scene.slots().contains(&slot), "the camera fills the buffer under the device");
    assert_eq!(scene.publisher.subscribers().next().unwrap().held, 1);
    assert!(scene.receive(&mut subscriber, SECOND / 5).is_none(), "`hold` is 1, and the device has the frame");
    fence.signal();
    assert!(framelease::wait(&[&scene.publisher], 5 * SECOND).unwrap(), "the fence wakes the publisher");
    let next = scene.receive(&mut subscriber, 10 * SECOND).expect("the frame that waits, without another publish");
    assert_ne!(next.slot(), slot);
    drop(next);
    assert!(scene.slots().contains(&slot));
    assert_eq!(scene.publisher.stats().violations, 0);
}

#[test]
fn lease_ends_after_fence_timeout_although_its_device_hangs() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(SECOND)) else { return };
    let mut subscriber = scene.join(|b| b.fences());
    let (fence, slot) = scene.released_early(&mut subscriber);
    assert!((0..6).map(|_| scene.publish()).all(|other| other != slot));
    assert!(scene.receive(&mut subscriber, 10 * SECOND).is_some(), "the timeout wakes the publisher");
    assert!(scene.slots().contains(&slot));
    fence.signal();
}

#[test]
fn subscriber_without_fences_releases_at_once() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(60 * SECOND)) else { return };
    let mut subscriber = scene.join(|b| b);
    let (fence, slot) = scene.released_early(&mut subscriber);
    assert!(scene.slots().contains(&slot), "the documented behavior");
    fence.signal();
}

#[test]
fn fences_outlive_their_pool_and_their_subscriber() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(60 * SECOND)) else { return };
    let mut subscriber = scene.join(|b| b.fences().hold(2));
    let (fence, slot) = scene.released_early(&mut subscriber);
    // Another pool: the subscriber holds nothing of the camera's, and sends RETIRED.
    let mut other = TestPattern::builder(Size::new(64, 48)).buffers(8).start().unwrap();
    let first = other.recv(SECOND).unwrap().frame().unwrap();
    assert!(scene.publisher.publish(first, SECOND).unwrap().is_taken());
    assert!(scene.receive(&mut subscriber, 5 * SECOND).is_some());
    scene.publisher.dispatch().unwrap();
    let slots = |scene: &mut Scene| (0..18).map(|_| frame(&mut scene.camera).slot()).collect::<Vec<_>>();
    assert!(!slots(&mut scene).contains(&slot), "after RETIRED");
    drop(subscriber);
    let start = Instant::now();
    while scene.publisher.subscribers().count() > 0 {
        assert!(start.elapsed() < 10 * SECOND);
        drop(scene.publisher.recv(Duration::from_millis(5)).unwrap());
    }
    assert!(!slots(&mut scene).contains(&slot), "after the end of its subscriber");
    fence.signal();
    assert!(framelease::wait(&[&scene.publisher], 5 * SECOND).unwrap());
    scene.publisher.dispatch().unwrap();
    assert!(slots(&mut scene).contains(&slot));
}

#[test]
fn releasing_twice_is_a_violation_while_the_device_reads() {
    let Some(mut scene) = Scene::new(|b| b.fence_timeout(60 * SECOND)) else { return };
    let peer = Raw::connect(&scene.folder.join("socket"));
    let mut ask = hello(1, 1, 1);
    ask[22] = 1;
    peer.send(&ask);
    let mut fence = None;
    let start = Instant::now();
    while fence.is_none() {
        assert!(start.elapsed() < 10 * SECOND);
        scene.publish();
        while let Some((message, _)) = peer.try_receive() {
            match kind(&message) {
                raw::WELCOME => assert_eq!((message.len(), message[24]), (28, 1)),
                raw::BUFFER => peer.send(&raw::message(raw::BUFFER_OK, &[word(&message, 0), word(&message, 1)])),
                raw::FRAME => {
                    let memory = scene.camera.buffers().unwrap().memory(word(&message, 1) as usize)[0].clone();
                    fence = Some(Fence::reading(&scene.gpu, &memory));
                    let release = raw::message(raw::RELEASE, &[0, 1, 2, 3].map(|i| word(&message, i)));
                    peer.send(&release);
                    scene.publisher.dispatch().unwrap();
                    assert_eq!(scene.publisher.subscribers().next().unwrap().held, 1);
                    peer.send(&release);
                }
                _ => {}
            }
        }
    }
    while scene.publisher.subscribers().count() > 0 {
        assert!(start.elapsed() < 20 * SECOND);
        drop(scene.publisher.recv(Duration::from_millis(5)).unwrap());
    }
    assert_eq!(scene.publisher.stats().violations, 1);
    fence.unwrap().signal();
}
