//! Tests of converters on dma-bufs, also with a camera as the source.

use std::sync::Arc;
use std::time::Duration;

use crate::conformance::converting::Jobs;
use framelease::capture::FrameSource;
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::format::{Rotation, Size};
use framelease::frame::{Frame, Pool};
use framelease::share::{Publisher, Subscriber, SubscriberEvent};
use framelease::stats::cpu_bytes;
use framelease::{Received, Station};

use crate::conformance::{self, allocator, rgb, WAIT};
use crate::devices::*;

#[test]
fn cpu_draws_the_suite_in_dma_bufs() {
    leaving_nothing(|| {
        let (allocator, _) = allocator();
        let report = conformance::suite(&mut Cpu::new().unwrap(), &allocator, 4, 35.0);
        assert!(report.refused.is_empty(), "{:#?}", report.refused);
    });
}

/// Camera, converter and publisher in a row: the subscriber gets the camera's picture, rotated. Only the converter
/// touches a pixel.
pub fn camera_to_convert_to_share(
    converter: &mut dyn Converter,
    from: &str,
    to: &str,
    rotation: Rotation,
) -> Option<u64> {
    let device = vivid(Planar::Multi)?;
    let mut camera = camera(&device, from).open().unwrap();
    freeze_pattern(camera.device());
    let source = *camera.layout().unwrap();
    let size = if rotation.is_quarter() { Size::new(SMALL.height, SMALL.width) } else { SMALL };
    let target = converter.target_layout(fourcc(to), size).unwrap();
    let request = Request::convert(Layer::default().rotation(rotation));
    let plan = Arc::new(Plan::new(&request, &[source], &target).unwrap());
    converter.check(&plan).unwrap();
    let (allocator, _) = allocator();
    let pool = Pool::new(&allocator, target, 6).unwrap();

    let folder = std::env::temp_dir().join(format!("framelease-convert-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut publisher = Publisher::builder(folder.join("socket")).reserve(2).bind().unwrap();
    publisher.announce(pool.buffers()).unwrap();
    let path = folder.join("socket");
    let thread = std::thread::spawn(move || Subscriber::builder(path).connect(WAIT).unwrap());
    while !thread.is_finished() {
        drop(publisher.recv(Duration::from_millis(1)).unwrap());
    }
    let mut subscriber = thread.join().unwrap();
    while publisher.active() == 0 {
        let _ = subscriber.try_recv().unwrap();
        drop(publisher.recv(Duration::from_millis(1)).unwrap());
    }

    let before = cpu_bytes();
    let mut pair: Option<(Frame, Frame)> = None;
    for _ in 0..20 {
        drop(pair.take());
        let captured = frame(&mut camera);
        let free = pool.acquire(WAIT).unwrap();
        converter.begin(&plan, std::slice::from_ref(&captured), free).unwrap();
        let done = converter.done(WAIT).unwrap();
        assert_eq!(done.meta().sequence, captured.meta().sequence);
        assert!(publisher.publish(done, WAIT).unwrap().is_taken());
        publisher.dispatch().unwrap();
        let received = loop {
            match subscriber.recv(WAIT).unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => break frame,
                Received::Item(SubscriberEvent::Format(_)) => {}
                other => panic!("{other:?} instead of a frame"),
            }
        };
        assert_eq!(received.meta().timestamp_ns, captured.meta().timestamp_ns);
        pair = Some((captured, received));
    }
    let after = cpu_bytes();
    let touched = after.read + after.written - before.read - before.written;
    let (captured, received) = pair.unwrap();
    let turned = turned(&rgb::rgb(&captured).unwrap(), SMALL, rotation);
    let db = conformance::picture::psnr(&turned, &rgb::rgb(&received).unwrap(), |_| true);
    assert!(db > 30.0, "{from} to {to}: {db:.1} dB");
    let _ = std::fs::remove_dir_all(&folder);
    Some(touched)
}

/// Rotates RGB pixels by code of the test's own.
fn turned(rgb: &[u8], size: Size, rotation: Rotation) -> Vec<u8> {
    let (w, h) = (size.width as usize, size.height as usize);
    let (ow, oh) = if rotation.is_quarter() { (h, w) } else { (w, h) };
    let mut out = Vec::with_capacity(rgb.len());
    for y in 0..oh {
        for x in 0..ow {
            let (sx, sy) = match rotation {
                Rotation::None => (x, y),
                Rotation::Clockwise90 => (y, h - 1 - x),
                Rotation::Half => (w - 1 - x, h - 1 - y),
                Rotation::Clockwise270 => (w - 1 - y, x),
            };
            out.extend_from_slice(&rgb[(sy * w + sx) * 3..][..3]);
        }
    }
    out
}

#[test]
fn camera_frames_are_touched_by_the_converter_alone() {
    leaving_nothing(|| {
        for (from, to, rotation) in [
            ("NV12", "RGBA32", Rotation::None),
            ("NV12M", "NV12", Rotation::Clockwise90),
            ("YUYV", "NV12", Rotation::Half),
        ] {
            let mut cpu = Cpu::new().unwrap();
            let Some(touched) = camera_to_convert_to_share(&mut cpu, from, to, rotation) else { return };
            let stats = cpu.stats();
            assert_eq!(touched, stats.bytes_read + stats.bytes_written, "{from} to {to}");
            assert_eq!(stats.frames, 20);
        }
    });
}
