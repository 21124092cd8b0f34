//! Tests of DMABUF import on capture and output queues, and of the driver's own buffers on an output queue.

use std::collections::HashSet;
use std::time::Duration;

use framelease::capture::FrameSource;
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::{CpuReads, Frame, FrameFlags, Pool};
use framelease::v4l2::{Device, Direction, FormatRequest, Queue};
use framelease::ErrorKind;
use framelease::Received;
use nix::errno::Errno;

use crate::devices::*;
use crate::ioctls;

const WAIT: Duration = Duration::from_secs(5);

fn dequeued(queue: &mut Queue) -> Frame {
    match queue.dequeue(WAIT) {
        Ok(Received::Item(frame)) => frame,
        other => panic!("{other:?} instead of a frame"),
    }
}

/// Allocators of this machine whose buffers devices can import.
fn allocators() -> Vec<Allocator> {
    let mut all = Vec::new();
    if needed_path("udmabuf", "/dev/udmabuf").is_some() {
        all.push(Allocator::Udmabuf);
    }
    if needed_path("dma-heap", "/dev/dma_heap/system").is_some() {
        all.push(Allocator::Heap("/dev/dma_heap/system".into()));
    }
    all
}

#[test]
fn camera_fills_buffers_of_an_allocator() {
    for (planar, format) in [(Planar::Single, "NV12"), (Planar::Multi, "NV12M")] {
        let Some(device) = vivid(planar) else { return };
        freeze_pattern(&device);
        let own = pixels(&frame(&mut camera(&device, format).open().unwrap()));
        for allocator in allocators() {
            leaving_nothing(|| {
                let mut camera = camera(&device, format).allocator(allocator.clone()).buffers(4).open().unwrap();
                assert_eq!(camera.buffers().unwrap().cpu_reads(), CpuReads::Cached);
                for _ in 0..10 {
                    let frame = frame(&mut camera);
                    assert!(pixels(&frame) == own, "{allocator} {format}");
                    assert!(!frame.memory()[0].is_read_only(), "allocated by this process");
                }
                // A frame outlives the camera here as well.
                let held = frame(&mut camera);
                drop(camera);
                assert!(pixels(&held) == own);
            });
        }
        let e = camera(&device, format).allocator(Allocator::Memfd).open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        frame(&mut camera(&device, format).open().unwrap());
    }
}

#[test]
fn capture_queue_fills_a_pool_of_other_memory() {
    let Some(device) = vivid(Planar::Multi) else { return };
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    leaving_nothing(|| {
        let layout = device.set_format(Direction::Capture, &FormatRequest::new(fourcc("NV12M"), SMALL)).unwrap();
        let pool = Pool::new(&Allocator::Udmabuf, layout, 4).unwrap();
        let mut queue = Queue::new(&device, Direction::Capture).unwrap();
        queue.import(3).unwrap();
        for _ in 0..3 {
            queue.queue_empty(pool.try_acquire().unwrap()).taken();
        }
        assert!(!queue.queue_empty(pool.try_acquire().unwrap()).unwrap().is_taken());
        assert_eq!(queue.free_slots(), 0);
        queue.start().unwrap();
        for _ in 0..20 {
            let frame = dequeued(&mut queue);
            assert!(pixels(&frame).iter().any(|&b| b > 16));
            drop(frame);
            queue.queue_empty(pool.try_acquire().unwrap()).taken();
        }
        assert_eq!((queue.queued(), pool.buffers().leased()), (3, 3));
        // A capture queue does not take frames.
        let frame = pool.try_acquire().unwrap().freeze_full(0, 0);
        assert_eq!(queue.queue(frame).unwrap_err().error.kind(), ErrorKind::State);
        queue.stop().unwrap();
        assert_eq!((queue.queued(), pool.buffers().leased()), (0, 0), "the leases have ended");
    });
}

/// Shows frames of a camera on an output node, in the same memory.
fn show(planar: Planar, format: &str) {
    let Some(output) = vivid_output(planar) else { return };
    let Some(device) = vivid_as_is(planar) else { return };
    leaving_nothing(|| {
        let mut camera = camera(&device, format).buffers(5).open().unwrap();
        let layout = *camera.layout().unwrap();
        let mut queue = Queue::new(&output, Direction::Output).unwrap();
        output.set_format_exact(Direction::Output, &layout).unwrap();
        queue.import(3).unwrap();
        let room = queue.free_slots();
        (0..2).for_each(|_| queue.queue(frame(&mut camera)).taken());
        assert_eq!(camera.stats().leased, 2, "the queue holds the leases");
        queue.start().unwrap();
        let mut shown = HashSet::new();
        for _ in 0..25 {
            queue.queue(frame(&mut camera)).taken();
            let back = dequeued(&mut queue);
            assert!(!back.meta().flags.contains(FrameFlags::ERROR));
            shown.insert(back.slot());
        }
        assert!(shown.len() >= 3, "{shown:?}");
        assert_eq!((queue.queued(), queue.free_slots()), (2, room - 2));
        queue.free();
        assert_eq!(camera.stats().leased, 0);
        frame(&mut camera);
    });
}

#[test]
fn output_queue_shows_a_camera_s_frames_single_planar() {
    ["NV12", "YUYV"].into_iter().for_each(|f| show(Planar::Single, f));
}

#[test]
fn output_queue_shows_a_camera_s_frames_multi_planar() {
    // NV16M has a data offset on this driver.
    ["NV12", "NV12M", "NV16M"].into_iter().for_each(|f| show(Planar::Multi, f));
}

fn yuyv_output() -> Option<(Device, Queue)> {
    let output = vivid_output(Planar::Single)?;
    output.set_format(Direction::Output, &FormatRequest::new(fourcc("YUYV"), SMALL)).unwrap();
    let queue = Queue::new(&output, Direction::Output).unwrap();
    Some((output, queue))
}

#[test]
fn queue_refuses_unfit_frames_before_the_kernel_leaks_them() {
    let Some((_, mut queue)) = yuyv_output() else { return };
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    leaving_nothing(|| {
        queue.import(2).unwrap();
        for (layout, kind) in [
            (packed("YUYV", Size::new(640, 352)), ErrorKind::Mismatch), // fits the picture, too few bytes
            (packed("YUYV", Size::new(320, 180)), ErrorKind::Mismatch),
            (packed("UYVY", SMALL), ErrorKind::Mismatch),
            (packed("NV12M", SMALL), ErrorKind::Mismatch),
        ] {
            let pool = Pool::new(&Allocator::Udmabuf, layout, 1).unwrap();
            let rejected = queue.queue(pool.try_acquire().unwrap().freeze_full(0, 0)).unwrap_err();
            assert_eq!(rejected.error.kind(), kind, "{}", rejected.error);
            assert_eq!(rejected.item.layout(), &layout);
        }
        let pool = Pool::new(&Allocator::Memfd, packed("YUYV", SMALL), 1).unwrap();
        let rejected = queue.queue(pool.try_acquire().unwrap().freeze_full(0, 0)).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::WrongFile, "{}", rejected.error);
        // Data that are not there, and an offset that the API does not have.
        let pool = Pool::new(&Allocator::Udmabuf, packed("YUYV", SMALL), 1).unwrap();
        for (offset_bytes, bytes) in [(0, 0), (0, u32::MAX), (u32::MAX, 2), (64, 1000)] {
            let frame = pool.try_acquire().unwrap().freeze_full(0, 0);
            let mut meta = *frame.meta();
            (meta.payload[0].offset_bytes, meta.payload[0].bytes) = (offset_bytes, bytes);
            let rejected = queue.queue(frame.with_meta(meta)).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::Mismatch, "{}", rejected.error);
        }
        // A frame that the driver refuses (too little data) also comes back.
        let frame = pool.try_acquire().unwrap().freeze_full(0, 0);
        let mut meta = *frame.meta();
        meta.payload[0].bytes = 100;
        let rejected = queue.queue(frame.with_meta(meta)).unwrap_err();
        assert_eq!(rejected.error.op(), "VIDIOC_QBUF", "{}", rejected.error);
        drop(rejected);
        queue.queue(pool.try_acquire().unwrap().freeze_full(0, 0)).taken();
        drop(queue);
    });
}

#[test]
fn queue_is_not_used_up_by_refused_buffers() {
    for planar in [Planar::Single, Planar::Multi] {
        let Some(output) = vivid_output(planar) else { return };
        let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
        leaving_nothing(|| {
            output.set_format(Direction::Output, &FormatRequest::new(fourcc("YUYV"), SMALL)).unwrap();
            let mut queue = Queue::new(&output, Direction::Output).unwrap();
            queue.import(2).unwrap();
            let room = queue.free_slots();
            let pool = Pool::new(&Allocator::Udmabuf, packed("YUYV", SMALL), 1).unwrap();
            let frame = |bytes| {
                let frame = pool.try_acquire().unwrap().freeze_full(0, 0);
                let mut meta = *frame.meta();
                meta.payload[0].bytes = bytes;
                frame.with_meta(meta)
            };
            for _ in 0..2 {
                queue.queue(frame(460_800)).taken();
                queue.stop().unwrap();
                // vivid refuses a picture that is incomplete, and videobuf2 then spoils the index.
                for _ in 0..3 * room {
                    let rejected = queue.queue(frame(460_799)).unwrap_err();
                    assert_eq!(rejected.error.kind(), ErrorKind::InvalidArgument, "{}", rejected.error);
                    assert_eq!(queue.free_slots(), room);
                }
                queue.start().unwrap();
            }
            drop((queue, pool));
        });
    }
}

#[test]
fn memory_capabilities_are_those_of_vivid() {
    let Some((output, mut queue)) = yuyv_output() else { return };
    let memory = output.memory_capabilities(Direction::Output).unwrap().expect("vb2 tells");
    assert!(memory.exports && memory.imports, "{memory}");
    assert!(memory.max_buffers.unwrap() >= 32);
    queue.import(2).unwrap();
    assert!(queue.import(2).unwrap_err().kind() == ErrorKind::State);
}

#[test]
fn buffer_is_attached_once() {
    let Some(output) = vivid_output(Planar::Single) else { return };
    let Some(device) = vivid_as_is(Planar::Single) else { return };
    let mut camera = camera(&device, "YUYV").buffers(4).open().unwrap();
    output.set_format_exact(Direction::Output, camera.layout().unwrap()).unwrap();
    let mut queue = Queue::new(&output, Direction::Output).unwrap();
    let slots = camera.buffers().unwrap().slots();
    queue.import(slots).unwrap();
    let mut shown = HashSet::new();
    let attached = calls_of(ATTACH, || {
        (0..2).for_each(|_| queue.queue(frame(&mut camera)).taken());
        queue.start().unwrap();
        for _ in 0..40 {
            queue.queue(frame(&mut camera)).taken();
            shown.insert(dequeued(&mut queue).slot());
        }
    });
    let Some(attached) = attached else { return };
    // The driver may have two more.
    assert!((shown.len() as u64..=slots as u64).contains(&attached), "{attached} of {slots}");
}

#[test]
fn output_queue_shows_its_own_buffers() {
    let Some((_, mut queue)) = yuyv_output() else { return };
    leaving_nothing(|| {
        let slots = queue.allocate(3, Default::default()).unwrap().slots();
        let empty: Vec<_> = (0..slots).map(|_| queue.try_acquire().unwrap()).collect();
        assert!(queue.try_acquire().is_none());
        for (i, frame) in empty.into_iter().enumerate() {
            // Exported read-only: the CPU cannot write to them, a device can.
            queue.queue(frame.freeze_full(i as u64, 0)).taken();
        }
        assert_eq!(queue.queued(), slots);
        queue.start().unwrap();
        for _ in 0..10 {
            let back = dequeued(&mut queue);
            drop(back);
            let next = queue.try_acquire().unwrap();
            queue.queue(next.freeze_full(0, 0)).taken();
        }
        queue.stop().unwrap();
        assert_eq!(queue.queued(), 0);
        assert!(queue.try_acquire().is_some(), "the stop returns the buffers");
        drop(queue);
    });
}

#[test]
fn free_keeps_the_buffers_of_a_driver_that_does_not_stop() {
    const STREAMOFF: u8 = 19;
    let Some(device) = vivid(Planar::Single) else { return };
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    device.set_format(Direction::Capture, &FormatRequest::new(fourcc("YUYV"), SMALL)).unwrap();
    let pool = Pool::new(&Allocator::Udmabuf, packed("YUYV", SMALL), 3).unwrap();
    // REQBUFS frees the buffers of a queue that was not started, and only those.
    for (starts, kept) in [(false, 0), (true, 3)] {
        let device = Device::open(&device.info().path).unwrap();
        let mut queue = Queue::new(&device, Direction::Capture).unwrap();
        queue.import(3).unwrap();
        for _ in 0..3 {
            assert!(queue.queue_empty(pool.try_acquire().unwrap()).unwrap().is_taken());
        }
        if starts {
            queue.start().unwrap();
        }
        ioctls::refusing([STREAMOFF; 2], Errno::EBUSY, || queue.free());
        assert_eq!(pool.buffers().leased(), kept, "the driver may still write to these");
        drop((queue, device));
        assert_eq!(pool.buffers().leased(), 0, "the file is closed");
    }
}
