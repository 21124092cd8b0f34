//! Regression tests for defects that a review found.

use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraEvent, FrameSource};
use framelease::dmabuf::Allocator;
use framelease::format::FrameInterval;
use framelease::frame::Frame;
use framelease::v4l2::{ControlId, Device, Direction, Event, EventKind, FormatRequest, Queue};
use framelease::ErrorKind;
use framelease::{Received, Station};

use crate::devices::*;

const SECOND: Duration = Duration::from_secs(1);

/// Receives until the camera reports the loss of its device.
fn until_lost(camera: &mut Camera) {
    let e = told(camera, lost);
    assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}");
}

/// Every buffer of a camera.
fn all_leased(camera: &mut Camera) -> Vec<Frame> {
    (0..camera.buffers().unwrap().slots()).map(|_| frame(camera)).collect()
}

/// vivid's HDMI input.
fn hdmi(device: &Device) -> u32 {
    let inputs = device.inputs().unwrap();
    inputs.iter().find(|i| i.name.starts_with("HDMI")).expect("vivid has an HDMI input").index
}

#[test]
fn reopen_forgets_the_errors_before_it() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").open().unwrap();
    let held = frame(&mut camera);
    press(&device, "Inject Fatal Streaming Error");
    until_lost(&mut camera);
    // Returning the buffer fails too.
    drop(held);
    camera.reopen().unwrap();
    frame(&mut camera);
}

#[test]
fn lost_device_is_reported_while_every_buffer_is_leased() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").buffers(3).open().unwrap();
    let held = all_leased(&mut camera);
    press(&device, "Disconnect");
    until_lost(&mut camera);
    // It cannot be opened again, and the answer stays the same.
    for _ in 0..2 {
        let e = camera.reopen().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    }
    assert!(held.iter().all(|f| !pixels(f).is_empty()));
    drop(held);
}

#[test]
fn subscribe_delivers_the_user_s_own_events() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").open().unwrap();
    frame(&mut camera);
    camera.device().subscribe(EventKind::Control(ControlId::CONTRAST)).unwrap();
    // By another handle: a handle does not get events for its own changes.
    let other = Device::open(&device.info().path).unwrap();
    other.set_control(ControlId::CONTRAST, 42).unwrap();
    for _ in 0..20 {
        if let Received::Item(CameraEvent::Device(Event::Control { id, .. })) = camera.recv(SECOND).unwrap() {
            assert_eq!(id, ControlId::CONTRAST);
            return;
        }
    }
    panic!("the event does not come");
}

#[test]
fn reconfigure_that_cannot_start_leaves_no_buffers() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").open().unwrap();
    frame(&mut camera);
    press(&device, "Inject VIDIOC_STREAMON Error");
    camera.reconfigure(fourcc("YUYV"), SMALL).unwrap_err();
    assert_eq!(camera.buffers().unwrap_err().kind(), ErrorKind::State);
    let other = Device::open(&device.info().path).unwrap();
    other
        .set_format(Direction::Capture, &FormatRequest::new(fourcc("NV12"), SMALL))
        .expect("buffers are still allocated");
    // The reconfiguration can be repeated.
    camera.reconfigure(fourcc("YUYV"), SMALL).unwrap();
    frame(&mut camera);
}

#[test]
fn allocator_gives_as_many_buffers_as_the_driver_requires() {
    let Some(device) = vivid(Planar::Single) else { return };
    let slots = |builder: framelease::capture::CameraBuilder| builder.open().unwrap().buffers().unwrap().slots();
    let own = slots(camera(&device, "NV12").buffers(1));
    assert_eq!(slots(camera(&device, "NV12").buffers(1).allocator(Allocator::Udmabuf)), own);
}

#[test]
fn dequeue_waits_its_timeout_if_no_buffer_is_queued() {
    let Some(output) = vivid_output(Planar::Single) else { return };
    output.set_format(Direction::Output, &FormatRequest::new(fourcc("YUYV"), SMALL)).unwrap();
    let mut queue = Queue::new(&output, Direction::Output).unwrap();
    queue.import(3).unwrap();
    queue.start().unwrap();
    let start = Instant::now();
    assert!(queue.dequeue(SECOND / 10).unwrap().is_nothing());
    assert!(start.elapsed() >= SECOND / 10, "neither a spin nor an error");
}

#[test]
fn signal_loss_and_return_are_reported() {
    let Some(device) = vivid(Planar::Single) else { return };
    let builder = Camera::builder().device(device.clone()).input(hdmi(&device)).formats([fourcc("YUYV")]);
    let mut camera = builder.open().unwrap();
    frame(&mut camera);
    set(&device, "DV Timings Signal Mode", 1);
    assert_eq!(told(&mut camera, lost).kind(), ErrorKind::NotFound);
    set(&device, "DV Timings Signal Mode", 0);
    told(&mut camera, |event| matches!(event, CameraEvent::Returned).then_some(()));
    told(&mut camera, |event| matches!(event, CameraEvent::Changed(_)).then_some(()));
    frame(&mut camera);
}

#[test]
fn change_of_the_source_is_reported_before_the_error_that_it_made() {
    for waits in [true, false] {
        let Some(device) = vivid(Planar::Single) else { return };
        set_hdmi(&device);
        let builder = Camera::builder().device(device.clone()).input(hdmi(&device)).formats([fourcc("YUYV")]);
        let mut camera = builder.open().unwrap();
        frame(&mut camera);
        press(&device, "Inject Fatal Streaming Error");
        set(&device, "DV Timings Signal Mode", 1);
        let start = Instant::now();
        let lost = loop {
            let got = if waits { camera.recv(SECOND) } else { camera.try_recv() };
            match got.unwrap() {
                Received::Item(CameraEvent::Lost(e)) => break e,
                got => assert!(start.elapsed() < 10 * SECOND, "{got:?}"),
            }
        };
        // The input has no signal. The device is not lost.
        assert_eq!(lost.kind(), ErrorKind::NotFound, "recv {waits}: {lost}");
        set(&device, "DV Timings Signal Mode", 0);
        told(&mut camera, |event| matches!(event, CameraEvent::Returned).then_some(()));
    }
}

#[test]
fn qbuf_error_is_retried_by_the_next_call() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").buffers(3).open().unwrap();
    let mut held = all_leased(&mut camera);
    press(&device, "Inject VIDIOC_QBUF Error");
    held.pop();
    assert!(is_readable(&camera), "the driver refused the buffer, and the descriptor is not readable");
    // The return is repeated, and one refusal is not worth a report.
    frame(&mut camera);
}

#[test]
fn leases_may_end_on_any_thread_while_the_camera_changes() {
    let Some(device) = vivid(Planar::Single) else { return };
    leaving_nothing(|| {
        let builder = camera(&device, "NV12").buffers(6).interval(FrameInterval::from_fps(120));
        let mut camera = builder.open().unwrap();
        let (give, take) = mpsc::channel::<Frame>();
        let take = Arc::new(Mutex::new(take));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let take = Arc::clone(&take);
                std::thread::spawn(move || loop {
                    let got = take.lock().unwrap().recv();
                    if got.is_err() {
                        return;
                    }
                })
            })
            .collect();
        let (start, mut round) = (Instant::now(), 0u32);
        while start.elapsed() < Duration::from_secs(5) {
            for _ in 0..5 {
                let frame = frame(&mut camera);
                give.send(frame.clone()).unwrap();
                give.send(frame).unwrap();
            }
            round += 1;
            match round % 3 {
                0 => camera.reconfigure(fourcc(if round % 2 == 0 { "NV12" } else { "YUYV" }), SMALL).unwrap(),
                _ => camera.reopen().unwrap(),
            }
        }
        drop(give);
        threads.into_iter().for_each(|t| t.join().unwrap());
        drop(frame(&mut camera));
        assert_eq!((camera.stats().queued, camera.stats().leased), (6, 0));
    });
}
