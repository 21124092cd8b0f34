//! Tests of driver errors: missing devices, refused formats, injected errors, unplugged devices.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraEvent, FrameSource};
use framelease::format::Size;
use framelease::frame::FrameFlags;
use framelease::v4l2::{Device, Direction, FormatRequest, Queue};
use framelease::ErrorKind;
use framelease::{Received, Station};
use nix::errno::Errno;

use crate::devices::*;
use crate::ioctls;

#[test]
fn open_error_names_the_path_and_kind() {
    for (path, kind) in [
        ("/dev/video999", ErrorKind::NotFound),
        ("/dev/null", ErrorKind::WrongFile),
        ("/dev", ErrorKind::WrongFile),
        ("/proc/self/exe", ErrorKind::WrongFile),
    ] {
        let e = Camera::builder().path(path).open().unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(path), "{e}");
    }
    if vivid(Planar::Single).is_some() {
        let e = Device::find(|d| d.driver == "no such driver").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(e.to_string().contains("(vivid) is a capture device"), "{e}");
    }
}

#[test]
fn open_without_permission_is_an_error() {
    const CHILD: &str = "FRAMELEASE_TEST_WITHOUT_RIGHTS";
    if let Ok(path) = std::env::var(CHILD) {
        let e = Device::open(path).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
        return;
    }
    let Some(device) = vivid(Planar::Single) else { return };
    let mut child = Command::new("/proc/self/exe");
    child
        .args(["--exact", "driver_errors::open_without_permission_is_an_error"])
        .env(CHILD, &device.info().path)
        .uid(65534)
        .gid(65534);
    let out = match child.output() {
        Ok(out) => out,
        // The test does not run as root, or other users cannot read the test binary.
        Err(e) => {
            needed::<()>("privileges", Err(format!("cannot run as another user: {e}")));
            return;
        }
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[test]
fn busy_device_is_an_error() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut first = camera(&device, "NV12").open().unwrap();
    let second = Device::open(&device.info().path).unwrap();
    let e = camera(&second, "YUYV").open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    // The same format is accepted, but the buffers are in use.
    let mut queue = Queue::new(&second, Direction::Capture).unwrap();
    let e = queue.allocate(2, Default::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    // For the kernel, a clone of the handle is the same owner, and it would replace the buffers. So the library does
    // not ask it.
    let e = Queue::new(&device, Direction::Capture).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    frame(&mut first);
    drop(first);
    Queue::new(&device, Direction::Capture).unwrap();
}

#[test]
fn set_format_refuses_impossible_formats_and_sizes() {
    let Some(device) = vivid(Planar::Single) else { return };
    for (format, size, kind) in [
        ("H264", SMALL, ErrorKind::Unsupported),
        ("NV12M", SMALL, ErrorKind::Unsupported),
        ("NV12", Size::new(0, 360), ErrorKind::InvalidArgument),
        ("NV12", Size::new(640, 0), ErrorKind::InvalidArgument),
    ] {
        let e = device.set_format(Direction::Capture, &FormatRequest::new(fourcc(format), size)).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().starts_with("VIDIOC_S_FMT on /dev/video"), "{e}");
        for word in [format!("asked {} {size}", fourcc(format)), "(vivid)".into(), "YUYV".into(), "NV12".into()] {
            assert!(e.to_string().contains(&word), "{word} in {e}");
        }
    }
    let e = camera(&device, "H264").open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    for words in ["asked H264 640x360 at ", "; the device offers YUYV"] {
        assert!(e.to_string().contains(words), "{words:?} in {e}");
    }
    let e = device.set_format(Direction::Output, &FormatRequest::new(fourcc("NV12"), SMALL)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    // Absurd sizes become sizes that the device has.
    for size in [Size::new(1, 1), Size::new(u32::MAX, u32::MAX), Size::new(1 << 31, 7)] {
        let got = device.try_format(Direction::Capture, &FormatRequest::new(fourcc("NV12"), size)).unwrap();
        assert!(got.size().width <= 3840 && got.size().width >= 320, "{got}");
    }
    let mut queue = Queue::new(&device, Direction::Capture).unwrap();
    for count in [0, 65, usize::MAX] {
        assert_eq!(queue.allocate(count, Default::default()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(queue.start().unwrap_err().kind(), ErrorKind::State);
    assert_eq!(queue.try_dequeue().unwrap_err().kind(), ErrorKind::State);
    assert_eq!(queue.dequeue(Duration::ZERO).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn set_format_follows_a_driver_that_aligns() {
    let found = Device::find(|d| d.driver == "vicodec" && d.is_m2m()).map_err(|e| e.to_string());
    let Some(encoder) = needed("vicodec", found) else { return };
    let Some(camera) = vivid(Planar::Single) else { return };
    let picture = camera.set_format(Direction::Capture, &FormatRequest::new(fourcc("NV12"), SMALL)).unwrap();
    let request = FormatRequest::new(fourcc("NV12"), SMALL);
    let given = encoder.set_format(Direction::Output, &request).unwrap();
    assert_eq!(given.size(), Size::new(640, 368), "vicodec's macroblocks");
    let e = encoder.set_format_exact(Direction::Output, &picture).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Mismatch);
    for word in ["640x360", "640x368", "230400/640", "235520/640"] {
        assert!(e.to_string().contains(word), "{word} in {e}");
    }
    // In the other direction the two agree.
    let given = camera.set_format_exact(Direction::Capture, &packed("NV12", Size::new(1280, 720))).unwrap();
    assert_eq!(encoder.set_format_exact(Direction::Output, &given).unwrap().planes(), given.planes());
    // The driver uses a stride that the user requests, or the library reports another one.
    let mut wide = FormatRequest::new(fourcc("YUYV"), SMALL);
    wide.stride_bytes[0] = 1536;
    let given = camera.set_format(Direction::Capture, &wide).unwrap();
    assert_eq!(given.planes()[0].stride_bytes, 1536);
}

#[test]
fn pixels_leave_out_the_padding_of_rows() {
    let Some(device) = vivid(Planar::Single) else { return };
    freeze_pattern(&device);
    let tight = pixels(&frame(&mut camera(&device, "YUYV").open().unwrap()));
    let mut wide = FormatRequest::new(fourcc("YUYV"), SMALL);
    wide.stride_bytes[0] = 1536;
    device.set_format(Direction::Capture, &wide).unwrap();
    let mut queue = Queue::new(&device, Direction::Capture).unwrap();
    queue.allocate(3, Default::default()).unwrap();
    queue.start().unwrap();
    match queue.dequeue(Duration::from_secs(5)).unwrap() {
        Received::Item(frame) => {
            assert_eq!(frame.layout().planes()[0].stride_bytes, 1536);
            assert!(pixels(&frame) == tight);
        }
        other => panic!("{other:?}"),
    };
}

#[test]
fn errors_that_are_injected_are_typed_and_leave_nothing() {
    let Some(device) = vivid(Planar::Single) else { return };
    leaving_nothing(|| {
        for (button, op) in [
            ("Inject VIDIOC_REQBUFS Error", "VIDIOC_REQBUFS"),
            ("Inject VIDIOC_QBUF Error", "VIDIOC_QBUF"),
            ("Inject VIDIOC_STREAMON Error", "VIDIOC_STREAMON"),
        ] {
            press(&device, button);
            let e = camera(&device, "NV12").open().unwrap_err();
            assert_eq!((e.op(), e.kind()), (op, ErrorKind::InvalidArgument), "{e}");
            // The failure leaves neither buffers nor state.
            frame(&mut camera(&device, "YUYV").open().unwrap());
        }
    });
}

#[test]
fn qbuf_error_is_retried_and_costs_no_buffer_and_no_frame() {
    const QBUF: u8 = 15;
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").buffers(4).open().unwrap();
    let slots = camera.buffers().unwrap().slots();
    let frame_held = frame(&mut camera);
    press(&device, "Inject VIDIOC_QBUF Error");
    std::thread::spawn(move || drop(frame_held)).join().unwrap();
    (0..8).for_each(|_| drop(frame(&mut camera)));
    assert_eq!(camera.stats().queued, slots, "no buffer is lost");

    // A driver that refuses again and again is reported once. The other buffers bring frames.
    let frame_held = frame(&mut camera);
    let others = ioctls::refusing([QBUF; 2], Errno::ENOMEM, || {
        drop(frame_held);
        let e = camera.recv(Duration::from_secs(5)).unwrap_err();
        assert_eq!((e.op(), e.kind()), ("VIDIOC_QBUF", ErrorKind::Exhausted), "{e}");
        (1..slots).map(|_| frame(&mut camera)).collect::<Vec<_>>()
    });
    drop(others);
    (0..8).for_each(|_| drop(frame(&mut camera)));
    assert_eq!(camera.stats().queued, slots, "no buffer is lost");

    // The same while the driver has no buffer: the retry wakes the wait.
    let mut frames: Vec<_> = (0..slots).map(|_| frame(&mut camera)).collect();
    press(&device, "Inject VIDIOC_QBUF Error");
    let last = frames.pop();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(last);
        });
        assert!(camera.recv(Duration::from_secs(20)).unwrap().frame().is_some());
    });
    assert!(start.elapsed() < Duration::from_secs(10));
    frame(&mut camera);
}

#[test]
fn damaged_and_lost_frames_do_not_end_the_stream() {
    let Some(device) = vivid(Planar::Multi) else { return };
    let mut camera = camera(&device, "NV12M").open().unwrap();
    frame(&mut camera);
    press(&device, "Inject V4L2_BUF_FLAG_ERROR");
    let damaged = (0..20).filter(|_| frame(&mut camera).meta().flags.contains(FrameFlags::ERROR)).count();
    assert_eq!((damaged, camera.stats().errors), (1, 1));
    let lost = camera.stats().lost;
    set(&device, "Percentage of Dropped Buffers", 60);
    let told: u64 = (0..30).map(|_| u64::from(frame(&mut camera).meta().lost)).sum();
    assert!(told > 10, "{told} of about 75 lost frames were reported");
    assert_eq!(camera.stats().lost - lost, told);
}

#[test]
fn sequence_continues_when_it_wraps() {
    let Some(device) = vivid(Planar::Single) else { return };
    set(&device, "Wrap Sequence Number", true);
    let mut camera = camera(&device, "NV12").open().unwrap();
    let mut last = frame(&mut camera).meta().sequence;
    assert!(last > 0xffff_0000, "{last:#x}");
    while last < 1 << 32 {
        let meta = *frame(&mut camera).meta();
        assert_eq!(meta.sequence, last + 1 + u64::from(meta.lost));
        last = meta.sequence;
    }
}

#[test]
fn fatal_error_is_reported_once_and_reopen_recovers() {
    let Some(device) = vivid(Planar::Single) else { return };
    leaving_nothing(|| {
        let mut camera = camera(&device, "NV12").open().unwrap();
        let held = frame(&mut camera);
        let bytes = pixels(&held);
        press(&device, "Inject Fatal Streaming Error");
        lost(&mut camera);
        assert!(pixels(&held) == bytes);
        camera.reopen().unwrap();
        drop(held);
        (0..10).for_each(|_| drop(frame(&mut camera)));
        assert_eq!(camera.stats().queued, camera.buffers().unwrap().slots());
    });
}

#[test]
fn lost_device_is_reported_once_and_leases_stay() {
    for planar in [Planar::Single, Planar::Multi] {
        let Some(device) = vivid(planar) else { return };
        leaving_nothing(|| {
            let mut camera = camera(&device, "NV12").open().unwrap();
            let held = frame(&mut camera);
            let bytes = pixels(&held);
            press(&device, "Disconnect");
            lost(&mut camera);
            assert!(!bytes.is_empty() && pixels(&held) == bytes);
            assert!(camera.reopen().is_err());
            assert_eq!(camera.reconfigure(fourcc("YUYV"), SMALL).unwrap_err().kind(), ErrorKind::DeviceLost);
            assert_eq!(camera.buffers().unwrap_err().kind(), ErrorKind::State);
            drop(camera);
            assert!(pixels(&held) == bytes);
        });
    }
}

/// Asserts that the loss is reported within a second, once.
fn lost(camera: &mut Camera) {
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < Duration::from_secs(2), "the loss is not reported");
        match camera.recv(Duration::from_secs(1)).unwrap() {
            // Frames that were captured before.
            Received::Item(CameraEvent::Frame(_)) => {}
            Received::Item(CameraEvent::Lost(e)) => break e,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    for _ in 0..5 {
        // The device may be found again at once: vivid's node stays.
        let got = camera.try_recv().unwrap();
        assert!(matches!(got, Received::Nothing | Received::Item(CameraEvent::Returned)), "{got:?} after the loss");
    }
}
