//! A camera in a tokio reactor: whatever happens to the device wakes the task.

use std::future::Future;
use std::time::Duration;

use framelease::capture::{Camera, CameraEvent, FrameSource};
use framelease::frame::Frame;
use framelease::reactor::Ready;
use framelease::v4l2::{Device, Direction, FormatRequest};
use framelease::{ErrorKind, Received};

use crate::devices::*;

/// Runs a task in a reactor of one thread, for at most 20 seconds.
fn in_reactor<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), task).await.expect("woken") })
}

/// Awaits an event that is not a frame.
async fn event(camera: &mut Ready<Camera>) -> CameraEvent {
    loop {
        match camera.recv().await.unwrap() {
            Received::Item(CameraEvent::Frame(_)) => {}
            Received::Item(event) => return event,
            other => panic!("{other:?}"),
        }
    }
}

async fn frame(camera: &mut Ready<Camera>) -> Frame {
    let Received::Item(CameraEvent::Frame(frame)) = camera.recv().await.unwrap() else { panic!("not a frame") };
    frame
}

/// Does something to the device soon, when the task waits.
fn soon(device: &Device, what: impl FnOnce(&Device) + Send + 'static) {
    let device = device.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        what(&device);
    });
}

#[test]
fn ready_wakes_for_a_fatal_error_while_frames_come_and_while_all_are_leased() {
    let Some(device) = vivid(Planar::Single) else { return };
    for holds in [false, true] {
        let camera = camera(&device, "NV12").buffers(3).open().unwrap();
        let mut camera = in_reactor(async {
            let slots = camera.buffers().unwrap().slots();
            let mut ready = Ready::new(camera).unwrap();
            let mut held = Vec::new();
            while holds && held.len() < slots {
                held.push(frame(&mut ready).await);
            }
            soon(&device, |device| press(device, "Inject Fatal Streaming Error"));
            let lost = event(&mut ready).await;
            assert!(matches!(&lost, CameraEvent::Lost(e) if e.kind() == ErrorKind::DeviceLost), "{lost:?}");
            ready.into_inner()
        });
        camera.reopen().unwrap();
    }
}

#[test]
fn ready_wakes_for_changes_of_the_source_without_frames_and_without_buffers() {
    let Some(device) = vivid(Planar::Single) else { return };
    set_hdmi(&device);
    let input = device.input().unwrap();
    let camera = Camera::builder().device(device.clone()).input(input).formats([fourcc("YUYV")]).buffers(3);
    let camera = camera.open().unwrap();
    in_reactor(async {
        let slots = camera.buffers().unwrap().slots();
        let mut ready = Ready::new(camera).unwrap();
        let mut held = Vec::new();
        while held.len() < slots {
            held.push(frame(&mut ready).await);
        }
        soon(&device, |device| set(device, "DV Timings Signal Mode", 1));
        let lost = event(&mut ready).await;
        assert!(matches!(&lost, CameraEvent::Lost(e) if e.kind() == ErrorKind::NotFound), "{lost:?}");
        drop(held);
        // Polled for frames now, the driver would allocate buffers for read().
        let wait = tokio::time::timeout(Duration::from_millis(300), ready.recv()).await;
        assert!(wait.is_err(), "{wait:?} without a signal");
        let other = Device::open(&device.info().path).unwrap();
        other.set_format(Direction::Capture, &FormatRequest::new(fourcc("YUYV"), SMALL)).expect("no buffers");
        soon(&device, |device| set(device, "DV Timings Signal Mode", 0));
        let back = event(&mut ready).await;
        assert!(matches!(back, CameraEvent::Returned), "{back:?}");
        let changed = event(&mut ready).await;
        assert!(matches!(changed, CameraEvent::Changed(_)), "{changed:?}");
        drop(frame(&mut ready).await);
    });
}
