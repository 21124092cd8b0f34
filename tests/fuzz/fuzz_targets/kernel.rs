//! Any answers of a V4L2 driver: a camera, a scaler and an encoder on a device whose ioctls the input answers.
//!
//! Input: the kind of device; then for each ioctl a byte that says how it ends, and changes of what a friendly driver
//! would say. When the input is over, the device is gone.

#![no_main]

mod driver;

use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraEvent, FrameSource};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::codec::{Encoder, Params};
use framelease::format::{FourCc, FrameInterval, Layout, Size};
use framelease::frame::Pool;
use framelease::v4l2::{CacheHint, Device, Direction, FormatRequest, MemToMem};
use framelease::{Received, Station, Submit};
use libfuzzer_sys::fuzz_target;

const SIZE: Size = Size::new(64, 48);
const NV12: FourCc = FourCc::NV12;

fuzz_target!(|input: &[u8]| {
    let &[kind, ref answers @ ..] = input else { return };
    let (device, _answering) = driver::device(kind, answers);
    let Ok(device) = Device::made_up(device) else { return };
    match kind % 3 {
        0 => look(&device),
        1 => capture(&device),
        _ if kind & 0x80 == 0 => convert(&device),
        _ => encode(device),
    }
});

fn look(device: &Device) {
    for direction in [Direction::Capture, Direction::Output] {
        let formats = device.formats(direction).unwrap_or_default();
        assert!(formats.len() <= 1000, "a driver that makes them up");
        let _ = device.format(direction);
    }
    let _ = (device.sizes(NV12), device.intervals(NV12, SIZE));
    for control in device.controls().unwrap_or_default() {
        let _ = control.to_string();
        let _ = device.control_value(control.id);
        let _ = device.set_control(control.id, control.default);
    }
}

fn capture(device: &Device) {
    let builder = Camera::builder().device(device.clone()).formats([NV12, FourCc::YUYV]).size(SIZE);
    let Ok(mut camera) = builder.interval(FrameInterval::from_fps(30)).buffers(4).open() else { return };
    let mut held = Vec::new();
    for round in 0..12 {
        match camera.try_recv() {
            Ok(Received::Item(CameraEvent::Frame(frame))) => {
                // What a driver says of the data must lie in the buffer.
                let read = frame.read(DEFAULT_WAIT);
                drop(read.map(|pixels| pixels.write_to(&mut std::io::sink())));
                held.push(frame);
            }
            Ok(Received::Item(CameraEvent::Lost(_))) | Err(_) => drop(camera.reopen()),
            Ok(_) => {}
        }
        if round % 3 == 2 {
            held.clear();
        }
        let stats = camera.stats();
        assert!(stats.leased + stats.queued <= 64);
    }
}

fn pool() -> Pool {
    let layout = Layout::packed(NV12, SIZE).expect("a picture");
    Pool::new(&Allocator::Memfd, layout, 3).expect("memory")
}

fn convert(device: &Device) {
    let Ok(mut m2m) = MemToMem::new(device) else { return };
    let request = FormatRequest::new(NV12, SIZE);
    for direction in [Direction::Output, Direction::Capture] {
        let _ = device.set_format(direction, &request);
    }
    let sources = pool();
    if m2m.output_mut().import(3).is_err() || m2m.capture_mut().allocate(3, CacheHint::default()).is_err() {
        return;
    }
    if m2m.start().is_err() {
        return;
    }
    for sequence in 0..8 {
        if let Some(frame) = sources.try_acquire() {
            let _ = m2m.queue(frame.freeze_full(sequence, sequence * 33_333_000));
        }
        let _ = m2m.try_recv();
        if sequence == 5 {
            let _ = m2m.drain();
        }
    }
    let _ = m2m.stop();
    drop(m2m);
    assert_eq!(sources.buffers().leased(), 0, "sources come home");
}

fn encode(device: Device) {
    let sources = pool();
    let params = Params::new(Codec::H264, SIZE).interval(FrameInterval::from_fps(30));
    let Ok(mut encoder) = Encoder::builder(params).device(device).open(sources.buffers()) else { return };
    for sequence in 0..8 {
        if let Some(frame) = sources.try_acquire() {
            let _ = encoder.try_submit(frame.freeze_full(sequence, sequence * 33_333_000));
        }
        if let Ok(Received::Item(encoded)) = encoder.try_recv() {
            let _ = format!("{encoded:?}");
        }
        match sequence {
            3 => drop(encoder.force_key()),
            5 => drop(encoder.drain()),
            6 => drop(encoder.recv(Duration::ZERO)),
            _ => {}
        }
    }
    drop(encoder);
    assert_eq!(sources.buffers().leased(), 0, "sources come home");
}
