//! Tests of a USB camera on uvcvideo: negotiation, damaged frames, refusals, unplug and replug.

use std::path::Path;
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraBuilder, CameraEvent, Fit, FrameSource, Reopen};
use framelease::dmabuf::Allocator;
use framelease::format::{FrameInterval, Size};
use framelease::frame::{Frame, FrameFlags};
use framelease::share::{Policy, Reconnect, Subscriber, SubscriberEvent};
use framelease::v4l2::{self, ControlId, Device, Direction, Hotplug, NodeEvent};
use framelease::{ErrorKind, Received, Station};
use nix::errno::Errno;

use crate::devices::*;
use crate::ioctls;
use crate::negotiate::running;
use crate::share::{example, Scene};
use crate::uvc::{is_whole, set_parameter, Damage, Refusal, Uvc};
use crate::uvc_descriptors::{format, Format};

const VGA: Size = Size::new(640, 480);
const HD: Size = Size::new(1280, 720);
const FULL_HD: Size = Size::new(1920, 1080);

/// The formats of most cameras: YUYV is slow at large sizes.
fn usual() -> [Format; 2] {
    [
        format("YUYV", &[(VGA, &[30, 15]), (HD, &[10]), (FULL_HD, &[5])]),
        format("MJPG", &[(VGA, &[30, 15]), (HD, &[30]), (FULL_HD, &[30])]),
    ]
}

/// A builder for the camera.
fn of(uvc: &Uvc) -> CameraBuilder {
    Camera::builder().device(uvc.device())
}

/// The format, the size and the frames a second of a camera.
fn settings(camera: &Camera) -> (String, Size, u32) {
    let layout = camera.layout().unwrap();
    (layout.fourcc().to_string(), layout.size(), camera.interval().unwrap().fps().round() as u32)
}

/// The bytes that the device wrote.
fn payload(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.meta().payload[0].bytes as usize];
    frame.read(Duration::from_secs(1)).unwrap().copy_payload(0, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn camera_negotiates_format_size_and_rate_in_one_call() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let formats = ["YUYV", "MJPG"].map(fourcc);
    let wish = |size| of(&uvc).formats(formats).size(size);
    let fps = FrameInterval::from_fps;
    for (builder, expected) in [
        (wish(FULL_HD).interval(fps(30)), ("MJPG", FULL_HD, 30)),
        (wish(FULL_HD).interval(fps(30)).fit(Fit::Exact).interval_fit(Fit::Exact), ("MJPG", FULL_HD, 30)),
        (wish(FULL_HD).interval(fps(5)), ("YUYV", FULL_HD, 5)),
        (wish(FULL_HD), ("YUYV", FULL_HD, 5)),
        (wish(VGA).interval(fps(30)), ("YUYV", VGA, 30)),
        (wish(HD).interval(fps(15)), ("YUYV", HD, 10)),
    ] {
        let mut camera = builder.open().unwrap();
        assert_eq!(settings(&camera), (expected.0.to_string(), expected.1, expected.2));
        assert!(is_whole(expected.0, expected.1, &payload(&frame(&mut camera))));
    }
    let exact = wish(FULL_HD).fit(Fit::Exact).interval_fit(Fit::Exact);
    let e = exact.formats([formats[0]]).interval(fps(30)).open().unwrap_err();
    assert!(e.kind() == ErrorKind::Mismatch && e.to_string().contains("YUYV 1920x1080 at 5 fps"), "{e}");
}

#[test]
fn camera_takes_the_format_that_has_the_size() {
    let formats = [format("YUYV", &[(VGA, &[30])]), format("MJPG", &[(VGA, &[30]), (FULL_HD, &[30])])];
    let Some(uvc) = Uvc::plug(&formats) else { return };
    for fit in [Fit::Exact, Fit::Nearest] {
        let camera = of(&uvc).formats(["YUYV", "MJPG"].map(fourcc)).size(FULL_HD).fit(fit).open().unwrap();
        assert_eq!(settings(&camera), ("MJPG".into(), FULL_HD, 30));
    }
}

#[test]
fn camera_without_a_wish_keeps_format_size_and_rate() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    for (code, size, fps) in [("MJPG", FULL_HD, 30), ("MJPG", VGA, 15), ("YUYV", HD, 10)] {
        // As another program left it.
        let wish = of(&uvc).formats([fourcc(code)]).size(size).interval(FrameInterval::from_fps(fps));
        drop(wish.fit(Fit::Exact).interval_fit(Fit::Exact).open().unwrap());
        let mut camera = of(&uvc).open().unwrap();
        assert_eq!(settings(&camera), (code.to_string(), size, fps));
        frame(&mut camera);
    }
}

#[test]
fn camera_captures_every_format_that_a_usb_camera_lists() {
    const THERMAL: Size = Size::new(160, 120);
    let listed = [
        format("MJPG", &[(VGA, &[30])]),
        format("YUYV", &[(VGA, &[30])]),
        format("H264", &[(VGA, &[30])]),
        format("GREY", &[(VGA, &[30])]),
        format("Y16 ", &[(THERMAL, &[9])]),
        format("Z16 ", &[(VGA, &[30])]),
    ];
    let Some(uvc) = Uvc::plug(&listed) else { return };
    let offered = uvc.device().formats(Direction::Capture).unwrap();
    assert_eq!(offered.iter().map(|o| o.fourcc).collect::<Vec<_>>(), listed.each_ref().map(|f| fourcc(f.code)));
    for listed in &listed {
        let mut camera = of(&uvc).formats([fourcc(listed.code)]).open().unwrap();
        let frame = frame(&mut camera);
        let (layout, bytes) = (*frame.layout(), payload(&frame));
        assert_eq!((layout.fourcc(), layout.size()), (fourcc(listed.code), listed.sizes[0].size));
        assert!(is_whole(listed.code, layout.size(), &bytes), "{} bytes of {}", bytes.len(), listed.code);
        assert_eq!(frame.meta().flags & (FrameFlags::ERROR | FrameFlags::MONOTONIC), FrameFlags::MONOTONIC);
        if !layout.is_compressed() {
            assert!(pixels(&frame) == bytes, "{}: rows without padding", listed.code);
        }
        // A bitstream is shorter than its buffer.
        assert_eq!(bytes.len() < layout.memory_bytes()[0] as usize, layout.is_compressed());
    }
}

/// What was seen of some frames.
#[derive(Debug, Default)]
struct Seen {
    whole: u64,
    flagged: u64,
    /// Neither whole nor flagged.
    unnoticed: u64,
    lost: u64,
}

fn see(uvc: &Uvc, code: &'static str, damage: Damage) -> Seen {
    let mut camera = of(uvc).formats([fourcc(code)]).size(VGA).open().unwrap();
    uvc.damage(move |number| (number % 4 == 3).then_some(damage));
    let mut seen = Seen::default();
    for _ in 0..16 {
        let frame = frame(&mut camera);
        let is_flagged = frame.meta().flags.contains(FrameFlags::ERROR);
        let is_whole = is_whole(code, VGA, &payload(&frame));
        seen.whole += u64::from(is_whole && !is_flagged);
        seen.flagged += u64::from(is_flagged);
        seen.unnoticed += u64::from(!is_whole && !is_flagged);
        seen.lost += u64::from(frame.meta().lost);
    }
    assert_eq!((camera.stats().frames, camera.stats().errors, camera.stats().lost), (16, seen.flagged, seen.lost));
    assert!(uvc.damaged() >= 3, "{} of the frames were damaged", uvc.damaged());
    uvc.damage(|_| None);
    seen
}

fn see_damaged_frames(gives_damaged: bool) {
    let Some(uvc) = Uvc::plug_with(&usual(), gives_damaged) else { return };
    for damage in [Damage::Short, Damage::ErrorBit, Damage::TooLong, Damage::Empty, Damage::NoEnd] {
        for code in ["YUYV", "MJPG"] {
            let seen = see(&uvc, code, damage);
            let what = format!("{damage:?} {code}: {seen:?}");
            match (damage, code) {
                // uvcvideo does not read JPEG, but the library looks at the end.
                (Damage::Short, "MJPG") => assert!(seen.flagged >= 3 && seen.unnoticed == 0, "{what}"),
                // The header of the next frame ends it. The sequence of Linux 6.12 then advances by two.
                (Damage::NoEnd, _) => assert!(seen.whole == 16, "{what}"),
                (Damage::Empty, _) => assert!(seen.whole == 16 && seen.lost >= 3, "{what}"),
                _ if gives_damaged => assert!(seen.flagged >= 3 && seen.unnoticed == 0, "{what}"),
                _ => assert!(seen.whole == 16 && seen.lost >= 3, "{what}"),
            }
        }
    }
}

#[test]
fn camera_counts_damaged_frames_that_uvcvideo_drops() {
    see_damaged_frames(false);
}

#[test]
fn camera_flags_damaged_frames_that_uvcvideo_gives() {
    see_damaged_frames(true);
}

#[test]
fn camera_without_damage_gives_every_frame_once() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let mut camera = of(&uvc).formats([fourcc("MJPG")]).size(VGA).open().unwrap();
    let numbers: Vec<u8> = (0..12).map(|_| payload(&frame(&mut camera))[2]).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!((camera.stats().frames, camera.stats().lost, camera.stats().errors), (12, 0, 0));
}

#[test]
fn camera_that_refuses_requests_fails_to_open_and_then_opens() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let wish = || of(&uvc).formats([fourcc("MJPG")]).size(VGA);
    leaving_nothing(|| {
        for (refusal, op) in [(Refusal::Probe, "VIDIOC_S_FMT"), (Refusal::Commit, "VIDIOC_STREAMON")] {
            uvc.refuse(Some(refusal));
            let e = wish().open().unwrap_err();
            assert_eq!((e.kind(), e.op(), e.errno()), (ErrorKind::Os, op, Some(Errno::EIO as i32)), "{e}");
            uvc.refuse(None);
            frame(&mut wish().open().unwrap());
        }
    });
}

#[test]
fn camera_that_refuses_a_rate_opens_with_its_own() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let wish = || of(&uvc).formats([fourcc("MJPG")]).size(VGA).interval(FrameInterval::from_fps(15));
    uvc.refuse(Some(Refusal::Rate));
    let mut camera = wish().open().unwrap();
    assert_eq!(settings(&camera), ("MJPG".into(), VGA, 30));
    frame(&mut camera);
    drop(camera);
    let e = wish().interval_fit(Fit::Exact).open().unwrap_err();
    assert_eq!(e.op(), "VIDIOC_S_PARM", "{e}");
    uvc.refuse(None);
    assert_eq!(settings(&wish().open().unwrap()), ("MJPG".into(), VGA, 15));
}

#[test]
fn camera_on_a_full_bus_names_the_cause_of_enospc() {
    const STREAMON: u8 = 18;
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let e = ioctls::refusing([STREAMON; 2], Errno::ENOSPC, || of(&uvc).open()).unwrap_err();
    assert!(e.kind() == ErrorKind::Exhausted && e.to_string().contains("the bus has no bandwidth left"), "{e}");
}

#[test]
fn camera_does_not_believe_a_timestamp_of_another_clock() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    for (clock, is_monotonic) in [("CLOCK_REALTIME", false), ("CLOCK_MONOTONIC", true)] {
        set_parameter("clock", clock);
        let frame = frame(&mut of(&uvc).open().unwrap());
        assert_eq!(frame.meta().flags.contains(FrameFlags::MONOTONIC), is_monotonic, "{clock}");
    }
}

#[test]
fn camera_in_use_is_busy_and_its_controls_can_be_set() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let mut camera = of(&uvc).formats([fourcc("MJPG")]).size(VGA).open().unwrap();
    for code in ["MJPG", "YUYV"] {
        let e = of(&uvc).formats([fourcc(code)]).open().unwrap_err();
        assert!(e.kind() == ErrorKind::Busy && e.to_string().contains("(uvcvideo)"), "{e}");
    }
    uvc.device().set_control(ControlId::BRIGHTNESS, 77).unwrap();
    assert_eq!(uvc.controls().0, 77);
    frame(&mut camera);
}

#[test]
fn control_of_the_exposure_is_refused_while_it_is_automatic() {
    const MANUAL: i32 = 1;
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let device = uvc.device();
    assert!(device.control(ControlId::EXPOSURE_ABSOLUTE).unwrap().is_inactive);
    let set = || device.set_control(ControlId::EXPOSURE_ABSOLUTE, 200);
    let e = set().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::State, "{e}");
    assert!(e.to_string().contains("another control sets this one, such as an automatic mode; asked 200"), "{e}");
    assert_eq!(uvc.controls().1, 100);
    device.set_control(ControlId::EXPOSURE_AUTO, MANUAL).unwrap();
    set().unwrap();
    assert_eq!(uvc.controls().1, 200);
}

#[test]
fn control_that_the_camera_refuses_is_an_error_of_that_call() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let device = uvc.device();
    let set = || device.set_control(ControlId::BRIGHTNESS, 10);
    uvc.refuse(Some(Refusal::Control));
    let e = set().unwrap_err();
    assert!(
        e.kind() != ErrorKind::DeviceLost && e.to_string().contains("asked 10; 'Brightness' takes 0 to 255"),
        "{e}"
    );
    uvc.refuse(None);
    set().unwrap();
    assert_eq!(uvc.controls().0, 10);
    let e = device.set_control(ControlId::BRIGHTNESS, 300).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
}

#[test]
fn find_skips_the_metadata_node_of_a_usb_camera() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let nodes = v4l2::devices().into_iter().filter(|d| d.driver == "uvcvideo");
    let (cameras, others): (Vec<_>, Vec<_>) = nodes.partition(|d| d.is_capture());
    assert_eq!((cameras.len(), others.len()), (1, 1));
    assert!(others[0].capabilities().contains(&"META_CAPTURE"));
    assert_eq!(uvc.device().info(), &cameras[0]);
    let e = Camera::builder().path(&others[0].path).open().unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("the node gives metadata"), "{e}");
}

#[test]
fn reconfigure_with_a_frame_held_leaves_no_descriptor_and_no_dma_buf() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    leaving_nothing(|| {
        let mut camera = of(&uvc).formats([fourcc("YUYV")]).size(VGA).open().unwrap();
        let (before, exported) = (descriptors(), dma_bufs());
        for (code, size) in [("MJPG", HD), ("YUYV", VGA)].into_iter().cycle().take(100) {
            let held = frame(&mut camera);
            let bytes = payload(&held);
            camera.reconfigure(fourcc(code), size).unwrap();
            assert!(payload(&held) == bytes);
        }
        frame(&mut camera);
        assert_eq!(descriptors(), before);
        if let (Some(now), Some(exported)) = (dma_bufs(), exported) {
            assert!(now <= exported, "{exported} dma-bufs, then {now}");
        }
    });
}

#[test]
fn allocator_s_buffers_are_filled_by_a_usb_camera() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let heap = "/dev/dma_heap/system";
    let heap = needed_path("dma-heap", heap).map(|()| Allocator::Heap(heap.into()));
    for allocator in [Some(Allocator::Udmabuf), heap].into_iter().flatten() {
        let wish = of(&uvc).formats([fourcc("YUYV")]).size(VGA);
        let mut camera = wish.allocator(allocator.clone()).open().unwrap_or_else(|e| panic!("{allocator:?}: {e}"));
        for _ in 0..5 {
            let frame = frame(&mut camera);
            assert!(!frame.memory()[0].is_read_only(), "{allocator:?}: allocated by this process");
            assert!(is_whole("YUYV", VGA, &payload(&frame)), "{allocator:?}");
        }
    }
}

/// Receives until the loss of the device, and returns the time since `start`. Each call must return soon.
fn until_lost(camera: &mut Camera, start: Instant) -> Duration {
    loop {
        match camera.recv(Duration::from_secs(5)).unwrap() {
            Received::Item(CameraEvent::Frame(_)) => {}
            Received::Item(CameraEvent::Lost(e)) => {
                assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}");
                return start.elapsed();
            }
            other => panic!("{other:?} after {:?}", start.elapsed()),
        }
    }
}

#[test]
fn unplug_is_reported_within_a_second_and_blocks_no_call() {
    let Some(mut uvc) = Uvc::plug(&usual()) else { return };
    leaving_nothing(|| {
        // While the camera waits for a frame, and while every buffer is leased.
        for holds_all in [false, true] {
            let mut camera = of(&uvc).formats([fourcc("MJPG")]).size(VGA).buffers(4).open().unwrap();
            let count = if holds_all { camera.buffers().unwrap().slots() } else { 1 };
            let held: Vec<Frame> = (0..count).map(|_| frame(&mut camera)).collect();
            let start = Instant::now();
            let unplugging = std::thread::spawn(move || uvc.unplug());
            let time = until_lost(&mut camera, start);
            assert!(time < Duration::from_secs(1), "{time:?}");
            unplugging.join().unwrap();
            assert!(held.iter().all(|frame| is_whole("MJPG", VGA, &payload(frame))));
            // It is reported once, and no call waits for the device.
            let start = Instant::now();
            assert!(camera.recv(Duration::from_millis(50)).unwrap().is_nothing());
            assert_eq!(camera.reopen().unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(
                camera.device().set_control(ControlId::BRIGHTNESS, 1).unwrap_err().kind(),
                ErrorKind::DeviceLost
            );
            drop((camera, held));
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
            uvc = Uvc::plug(&usual()).unwrap();
        }
    });
}

#[test]
fn reopen_follows_a_usb_camera_that_returns_and_subscribers_see_it() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let mut uvc = Some(uvc);
    leaving_nothing(|| {
        let wish = of(uvc.as_ref().unwrap()).formats(["YUYV", "MJPG"].map(fourcc)).size(VGA).reopen(Reopen::Always);
        let mut s = Scene::of(wish.buffers(8).open().unwrap());
        let mut subscriber = s.join_holding(Policy::Latest, 1);
        // The same camera, then one that has lost a format, then the first again.
        for (formats, code) in [(usual().to_vec(), "YUYV"), (usual()[1..].to_vec(), "MJPG"), (usual().to_vec(), "YUYV")]
        {
            let start = Instant::now();
            uvc.take().unwrap().unplug();
            until_lost(&mut s.camera, start);
            let _ = s.publisher.pause(Duration::ZERO).unwrap();
            uvc = Uvc::plug(&formats);
            told(&mut s.camera, |event| matches!(event, CameraEvent::Returned).then_some(()));
            assert_eq!(s.camera.layout().unwrap().fourcc(), fourcc(code));
            s.publisher.announce(s.camera.buffers().unwrap()).unwrap();
            let start = Instant::now();
            let shared = loop {
                assert!(start.elapsed() < Duration::from_secs(10), "the subscriber does not get a frame");
                if let Received::Item(CameraEvent::Frame(frame)) = s.camera.recv(Duration::from_secs(1)).unwrap() {
                    s.publisher.publish(frame, Duration::from_secs(1)).taken();
                }
                s.publisher.dispatch().unwrap();
                match subscriber.try_recv().unwrap() {
                    Received::Item(SubscriberEvent::Frame(frame)) if frame.layout().fourcc() == fourcc(code) => {
                        break frame
                    }
                    _ => {}
                }
            };
            assert!(is_whole(code, VGA, &payload(&shared)));
        }
        assert_eq!(s.publisher.active(), 1);
    });
}

/// Waits until the camera streams again, and returns the serial number of its device.
fn serial_after_return(camera: &mut Camera) -> Option<String> {
    told(camera, |event| matches!(event, CameraEvent::Returned).then_some(()));
    frame(camera);
    camera.device().info().serial.clone()
}

/// A second is enough to find a camera that is there.
fn stays_lost(camera: &mut Camera) {
    assert!(camera.recv(Duration::from_secs(1)).unwrap().is_nothing());
}

#[test]
fn select_by_serial_follows_a_camera_to_another_port_and_takes_no_other() {
    let Some(other) = Uvc::plug(&usual()) else { return };
    let uvc = Uvc::plug_into(1, "0002", &usual());
    let select = |serial: &'static str| Camera::builder().select(move |d| d.serial.as_deref() == Some(serial));
    let mut camera = select("0002").reopen(Reopen::Always).open().unwrap();
    let place = |camera: &Camera| (camera.device().info().path.clone(), camera.device().info().bus.clone());
    let before = place(&camera);
    frame(&mut camera);
    other.unplug_and_wait();
    uvc.unplug_and_wait();
    until_lost(&mut camera, Instant::now());
    // The old device is open, so its nodes have other numbers.
    let uvc = Uvc::plug_into(0, "0002", &usual());
    assert_eq!(serial_after_return(&mut camera).as_deref(), Some("0002"));
    let after = place(&camera);
    assert!(before.0 != after.0 && before.1 != after.1, "{before:?} {after:?}");
    // Another camera of the model, on the same port.
    uvc.unplug_and_wait();
    until_lost(&mut camera, Instant::now());
    let other = Uvc::plug_into(0, "0001", &usual());
    stays_lost(&mut camera);
    let e = camera.reopen().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    let e = select("0003").open().unwrap_err();
    let listed = "is a capture device: 'Lab Camera' on usb-dummy_hcd.0-1, serial 0001";
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains(listed), "{e}");
    let _uvc = Uvc::plug_into(1, "0002", &usual());
    assert_eq!(serial_after_return(&mut camera).as_deref(), Some("0002"));
    drop(other);
}

#[test]
fn select_passes_over_a_camera_that_another_program_has() {
    let Some(one) = Uvc::plug(&usual()) else { return };
    let _two = Uvc::plug_into(1, "0002", &usual());
    let mut used = Camera::builder().select(|d| d.serial.as_deref() == Some("0002")).open().unwrap();
    frame(&mut used);
    let mut camera = Camera::builder().select(|d| d.driver == "uvcvideo").reopen(Reopen::Always).open().unwrap();
    assert_eq!(camera.device().info().serial.as_deref(), Some("0001"));
    one.unplug_and_wait();
    until_lost(&mut camera, Instant::now());
    stays_lost(&mut camera);
    let _one = Uvc::plug_into(0, "0001", &usual());
    assert_eq!(serial_after_return(&mut camera).as_deref(), Some("0001"));
    frame(&mut used);
}

#[test]
fn path_of_a_link_by_id_follows_its_camera_to_another_port() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let folder = std::env::temp_dir().join(format!("framelease-links-{}/by-id", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("usb-framelease_Lab_Camera_0001-video-index0");
    let point_at = |uvc: &Uvc| std::os::unix::fs::symlink(&uvc.device().info().path, &link).unwrap();
    point_at(&uvc);
    let mut camera = Camera::builder().path(&link).reopen(Reopen::Always).open().unwrap();
    frame(&mut camera);
    let unplug = |uvc: Uvc, camera: &mut Camera| {
        uvc.unplug_and_wait();
        std::fs::remove_file(&link).unwrap();
        until_lost(camera, Instant::now());
    };
    unplug(uvc, &mut camera);
    // Another camera of the model, on the same port.
    let other = Uvc::plug_into(0, "0002", &usual());
    stays_lost(&mut camera);
    other.unplug_and_wait();
    let uvc = Uvc::plug_into(1, "0001", &usual());
    // udev makes the link after the node.
    stays_lost(&mut camera);
    point_at(&uvc);
    assert_eq!(serial_after_return(&mut camera).as_deref(), Some("0001"));
    assert_eq!(camera.device().info().bus, "usb-dummy_hcd.1-1");
    let _ = std::fs::remove_dir_all(folder.parent().unwrap());
}

#[test]
fn examples_take_a_camera_by_its_serial_and_list_prints_it() {
    let (Some(_uvc), Some(capture)) = (Uvc::plug(&usual()), example("capture")) else { return };
    let capture = |device: &str| {
        let args = ["--device", device, "--frames", "2", "--json"];
        ended(start(capture.to_str().unwrap(), &args))
    };
    for name in ["serial:0001", "card:Lab Camera", "bus:usb-dummy_hcd.0-1", "driver:uvcvideo"] {
        let out = capture(name);
        assert!(String::from_utf8_lossy(&out.stdout).contains("\"driver\":\"uvcvideo\""), "{name}: {out:?}");
    }
    let out = capture("serial:0003");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.contains("(vivid) is a capture device: 'vivid' on platform:"), "{text}");
    let listed = run(example("list").unwrap().to_str().unwrap(), &["card:Lab Camera"]);
    assert!(listed.contains("\n  serial: 0001\n"), "{listed}");
}

#[test]
fn subscriber_of_another_process_sees_ten_replugs_and_no_disconnect() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    // The service opens the first camera of the machine.
    unload("vivid");
    let folder = std::env::temp_dir().join(format!("framelease-replug-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("socket");
    let Some(_service) = running("camera_service", &[socket.to_str().unwrap()]) else { return };
    // Waits for the service. A connection that is lost later fails the test.
    let builder = Subscriber::builder(&socket).reconnect(Reconnect::Always);
    let mut subscriber = builder.connect(Duration::from_secs(20)).unwrap();
    // The buffers of a camera that is plugged in are others. Then its frames come.
    let mut until_frames_of_new_buffers = || {
        let (start, mut is_new) = (Instant::now(), false);
        loop {
            assert!(start.elapsed() < Duration::from_secs(30), "no frame, new buffers: {is_new}");
            match subscriber.recv(Duration::from_secs(1)).unwrap() {
                Received::Item(SubscriberEvent::Format(_)) => is_new = true,
                Received::Item(SubscriberEvent::Frame(frame)) if is_new => {
                    assert!(is_whole("YUYV", VGA, &payload(&frame)));
                    return;
                }
                Received::Item(SubscriberEvent::Lost(e)) => panic!("{e}"),
                Received::Ended => panic!("the stream has ended"),
                _ => {}
            }
        }
    };
    until_frames_of_new_buffers();
    let mut uvc = Some(uvc);
    for _ in 0..10 {
        uvc.take().unwrap().unplug();
        uvc = Uvc::plug(&usual());
        until_frames_of_new_buffers();
    }
    assert_eq!(subscriber.stats().reconnects, 0);
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn frames_of_a_fast_usb_camera_reach_two_subscribers() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let wish = of(&uvc).formats(["YUYV", "MJPG"].map(fourcc)).size(FULL_HD).interval(FrameInterval::from_fps(30));
    let mut s = Scene::of(wish.fit(Fit::Exact).interval_fit(Fit::Exact).buffers(16).open().unwrap());
    assert_eq!(settings(&s.camera), ("MJPG".into(), FULL_HD, 30));
    let mut subscribers = [s.join_holding(Policy::Fifo(3), 1), s.join_holding(Policy::Fifo(3), 1)];
    let mut got = [Vec::new(), Vec::new()];
    let mut sent = Vec::new();
    for _ in 0..30 {
        let captured = frame(&mut s.camera);
        sent.push(captured.meta().sequence);
        s.publisher.publish(captured, Duration::from_secs(1)).taken();
        for (subscriber, got) in subscribers.iter_mut().zip(&mut got) {
            while let Received::Item(event) = subscriber.recv(Duration::from_millis(10)).unwrap() {
                let SubscriberEvent::Frame(frame) = event else { continue };
                assert!(is_whole("MJPG", FULL_HD, &payload(&frame)));
                got.push(frame.meta().sequence);
                break;
            }
        }
    }
    for (subscriber, got) in subscribers.iter_mut().zip(&mut got) {
        while let Received::Item(SubscriberEvent::Frame(frame)) = subscriber.recv(Duration::from_millis(100)).unwrap() {
            got.push(frame.meta().sequence);
        }
        assert_eq!((&*got, subscriber.stats().dropped), (&sent, 0));
    }
}

#[test]
fn hotplug_reports_a_usb_camera_that_a_program_can_open() {
    let Some(uvc) = Uvc::plug(&usual()) else { return };
    let path = uvc.device().info().path.clone();
    let mut hotplug = Hotplug::new().unwrap();
    let mut next = |wanted: &dyn Fn(&NodeEvent) -> bool| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            match hotplug.recv(Duration::from_secs(1)).unwrap() {
                Received::Item(event) if wanted(&event) => return,
                _ => {}
            }
        }
        panic!("the event does not come");
    };
    uvc.unplug();
    next(&|event| *event == NodeEvent::Removed(path.clone()));
    let _uvc = Uvc::plug(&usual()).unwrap();
    let is_camera =
        |path: &Path| Device::open(path).is_ok_and(|d| d.info().is_capture() && d.info().driver == "uvcvideo");
    next(&|event| matches!(event, NodeEvent::Appeared(path) if is_camera(path)));
}
