//! Fences of a subscriber's device on a camera's buffers.

use std::time::{Duration, Instant};

use framelease::capture::{Camera, FrameSource};
use framelease::dmabuf::DmaBuf;
use framelease::drm::Device;
use framelease::share::{Publisher, PublisherBuilder};
use framelease::Station;

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
