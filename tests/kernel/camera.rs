//! Tests of capture on vivid: formats, bytes, leases, costs.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraEvent, Fit, FrameSource, Reopen};
use framelease::dmabuf::{Allocator, MemoryKind};
use framelease::format::{FrameInterval, Size};
use framelease::frame::{CpuReads, Frame, FrameFlags, Packet, PacketFanout, QueueCapacity};
use framelease::share::Policy;
use framelease::stats::{cpu_bytes, syscalls};
use framelease::v4l2::{CacheHint, Direction, Intervals, Standard};
use framelease::ErrorKind;
use framelease::{FrameEvent, Received, Station};
use nix::errno::Errno;

use crate::allocations;
use crate::devices::*;
use crate::ioctls::{self, Habit};
use crate::picture;
use crate::share::{received, Scene};

fn captures(planar: Planar, formats: &[&str]) {
    let Some(device) = vivid(planar) else { return };
    leaving_nothing(|| {
        for &format in formats {
            let mut camera = camera(&device, format).buffers(4).open().unwrap();
            let layout = *camera.layout().unwrap();
            assert_eq!((layout.fourcc(), layout.size()), (fourcc(format), SMALL));
            let mut last = None;
            for _ in 0..8 {
                let frame = frame(&mut camera);
                let meta = frame.meta();
                assert!(meta.flags.contains(FrameFlags::MONOTONIC) && !meta.flags.contains(FrameFlags::ERROR));
                assert!(meta.timestamp_ns > 0);
                assert_eq!(frame.memory().len(), layout.memory_bytes().len());
                assert!(frame.memory().iter().all(|m| m.is_read_only()));
                if let Some((sequence, time)) = last.replace((meta.sequence, meta.timestamp_ns)) {
                    assert_eq!(meta.sequence, sequence + 1 + u64::from(meta.lost));
                    assert!(meta.timestamp_ns > time);
                }
                let bytes = pixels(&frame);
                // 75 % color bars begin with light gray and end with black.
                let row = &bytes[layout.row_bytes(0) as usize * 200..][..layout.row_bytes(0) as usize];
                assert!(row[..4] != row[row.len() - 4..], "{format}: no picture");
            }
            assert_eq!(camera.stats().leased, 0);
        }
    });
}

#[test]
fn camera_captures_every_format_single_planar() {
    captures(Planar::Single, &["NV12", "YUYV", "UYVY", "YU12", "NV16", "RGB24", "XBGR32", "RGB565"]);
}

#[test]
fn camera_captures_every_format_multi_planar() {
    captures(Planar::Multi, &["NV12", "YUYV", "NV12M", "NV16M", "YUV420M"]);
}

/// Other libraries export one descriptor for all buffers, or physical addresses.
#[test]
fn buffers_are_separate_dma_bufs() {
    const SET_NAME: usize = 1;
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    for (planar, format, memories) in [(Planar::Single, "NV12", 1), (Planar::Multi, "NV12M", 2)] {
        let Some(device) = vivid(planar) else { return };
        let before = descriptors();
        let ((), asked) = ioctls::counted(b'b', || {
            leaving_nothing(|| {
                let mut camera = camera(&device, format).buffers(6).open().unwrap();
                let buffers = camera.buffers().unwrap();
                assert_eq!(buffers.slots(), 6);
                let all: Vec<_> = (0..6).flat_map(|slot| buffers.memory(slot)).collect();
                assert!(all.iter().all(|memory| memory.kind() == MemoryKind::DmaBuf));
                let ids: HashSet<_> = all.iter().map(|memory| memory.id()).collect();
                assert_eq!((all.len(), ids.len()), (6 * memories, 6 * memories), "{format}");
                // One descriptor for each buffer, and the camera's epoll, eventfd and timer.
                assert_eq!(descriptors(), before + 6 * memories + 3, "{format}");
                (0..12).for_each(|_| drop(frame(&mut camera)));
            });
        });
        let total: u32 = asked.iter().sum();
        let named = asked[SET_NAME];
        assert_eq!(
            (total, named),
            (named, 6 * memories as u32),
            "{format}: one identity each, no address, no CPU access"
        );
        assert_eq!(descriptors(), before, "{format}");
    }
}

#[test]
fn data_offset_is_in_the_payload() {
    let Some(device) = vivid(Planar::Multi) else { return };
    let mut camera = camera(&device, "NV16M").open().unwrap();
    let frame = frame(&mut camera);
    let (first, second) = (frame.meta().payload[0], frame.meta().payload[1]);
    assert_eq!((first.offset_bytes, first.bytes), (128, 640 * 360));
    assert_eq!(second.bytes, 640 * 360);
}

/// Compares our bytes with those of v4l2-ctl.
fn equals_v4l2_ctl(planar: Planar, formats: &[&str]) {
    let Some(device) = vivid(planar) else { return };
    if program("v4l2-ctl").is_none() {
        return;
    }
    freeze_pattern(&device);
    for &format in formats {
        let ours = pixels(&frame(&mut camera(&device, format).open().unwrap()));
        let file = std::env::temp_dir().join("framelease-v4l2-ctl.raw");
        let (path, file) = (device.info().path.display().to_string(), file.display().to_string());
        let code = fourcc(format);
        run(
            "v4l2-ctl",
            &[
                "-d",
                &path,
                &format!("--set-fmt-video=width=640,height=360,pixelformat={code}"),
                "--stream-mmap=3",
                "--stream-count=2",
                &format!("--stream-to={file}"),
            ],
        );
        let theirs = fs::read(&file).unwrap();
        let _ = fs::remove_file(&file);
        assert_eq!(theirs.len(), 2 * ours.len(), "{format}");
        assert!(theirs[..ours.len()] == ours[..], "{format}: the bytes differ");
        assert!(ours.iter().any(|&b| b != ours[0]), "{format}: no picture");
    }
}

#[test]
fn pixels_equal_those_of_v4l2_ctl_single_planar() {
    equals_v4l2_ctl(Planar::Single, &["NV12", "YUYV", "YU12", "BGR24"]);
}

#[test]
fn pixels_equal_those_of_v4l2_ctl_multi_planar() {
    equals_v4l2_ctl(Planar::Multi, &["NV12", "YUYV", "NV12M", "NV16M", "YUV420M"]);
}

#[test]
fn png_shows_the_color_bars() {
    let Some(device) = vivid(Planar::Single) else { return };
    freeze_pattern(&device);
    for format in ["NV12", "YUYV", "YU12", "UYVY", "RGB24", "BGRX32", "NV16"] {
        let frame = frame(&mut camera(&device, format).open().unwrap());
        let mut png = Vec::new();
        picture::write_png(&mut png, 640, 360, &picture::rgb(&frame).unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        // White, yellow, cyan, green, magenta, red, blue, black, at 75 %.
        for (bar, on) in [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
            .into_iter()
            .enumerate()
        {
            let at = (180 * 640 + bar * 80 + 40) * 3;
            for (channel, on) in on.into_iter().enumerate() {
                let (got, wanted) = (i32::from(rgb[at + channel]), 191 * on);
                assert!((got - wanted).abs() <= 12, "{format} bar {bar}: {:?}", &rgb[at..at + 3]);
            }
        }
    }
}

#[test]
fn frame_keeps_its_bytes_over_reconfiguration_and_drop() {
    let Some(device) = vivid(Planar::Single) else { return };
    leaving_nothing(|| {
        set(&device, "Test Pattern", 21); // noise: every frame differs
        let mut camera = camera(&device, "NV12").buffers(4).open().unwrap();
        let old = frame(&mut camera);
        let (bytes, generation) = (pixels(&old), camera.buffers().unwrap().id());
        camera.reconfigure(fourcc("YUYV"), Size::new(320, 180)).unwrap();
        assert_ne!(camera.buffers().unwrap().id(), generation);
        let next = frame(&mut camera);
        assert_eq!((next.layout().fourcc(), next.layout().size()), (fourcc("YUYV"), Size::new(320, 180)));
        (0..10).for_each(|_| drop(frame(&mut camera)));
        assert!(pixels(&old) == bytes, "after a reconfiguration");
        let other = pixels(&next);
        drop(camera);
        let mut again = Camera::builder().device(device.clone()).open().unwrap();
        (0..10).for_each(|_| drop(frame(&mut again)));
        assert!(pixels(&old) == bytes && pixels(&next) == other, "after the drop");
        // The late return of a buffer does not affect the new stream.
        drop((old, next));
        (0..10).for_each(|_| drop(frame(&mut again)));
        assert_eq!(again.stats().queued, again.buffers().unwrap().slots());
    });
}

#[test]
fn frame_is_not_overwritten_and_its_drop_elsewhere_frees_it() {
    let Some(device) = vivid(Planar::Multi) else { return };
    set(&device, "Test Pattern", 21);
    let mut camera = camera(&device, "NV12M").buffers(3).open().unwrap();
    let slots = camera.buffers().unwrap().slots();
    let frames: Vec<_> = (0..slots).map(|_| frame(&mut camera)).collect();
    let bytes: Vec<_> = frames.iter().map(pixels).collect();
    assert!(!is_readable(&camera));
    assert!(camera.try_recv().unwrap().is_nothing());
    assert!(camera.recv(Duration::from_millis(100)).unwrap().is_nothing(), "a frame without a free buffer");
    assert!(frames.iter().map(pixels).eq(bytes), "a held frame changed");
    let clone = frames[0].clone();
    drop(frames);
    assert_eq!(camera.stats().leased, 1);
    std::thread::spawn(move || drop(clone)).join().unwrap();
    assert_eq!((camera.stats().leased, camera.stats().queued), (0, slots));
    frame(&mut camera);

    // The last buffer comes back while the camera waits for one.
    let frames: Vec<_> = (0..slots).map(|_| frame(&mut camera)).collect();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(frames);
        });
        frame(&mut camera);
    });
}

#[test]
fn frames_cost_no_descriptor_mapping_allocation_or_copy() {
    let Some(device) = vivid(Planar::Single) else { return };
    let size = Size::new(320, 180);
    let fast = camera(&device, "NV12").size(size).interval(FrameInterval::from_fps(120));
    let mut camera = fast.open().unwrap();
    assert_eq!(camera.layout().unwrap().size(), size);
    (0..20).for_each(|_| drop(frame(&mut camera)));
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings = || fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = (descriptors(), mappings(), cpu_bytes());
    let (calls, heap) = (syscalls(), allocations::of_this_thread());
    let (mut frames, mut slots) = (0, 0u64);
    while frames < 1000 {
        if let Received::Item(CameraEvent::Frame(frame)) = camera.recv(Duration::from_secs(5)).unwrap() {
            frames += 1;
            slots |= 1 << frame.slot();
        }
    }
    let (calls, heap) = (syscalls() - calls, allocations::of_this_thread() - heap);
    assert_eq!((descriptors(), mappings(), cpu_bytes()), before);
    assert_eq!(heap, 0, "allocations");
    // poll, DQBUF, QBUF
    assert!(calls <= 3 * 1000, "{calls} system calls in 1000 frames");
    assert_eq!(slots.count_ones() as usize, camera.buffers().unwrap().slots(), "every buffer is used");

    // In an event loop: only DQBUF and QBUF. The poll is a call of the loop.
    let (calls, mut got) = (syscalls(), 0);
    while got < 50 {
        wait_readable(&camera);
        if let Received::Item(CameraEvent::Frame(_)) = camera.try_recv().unwrap() {
            got += 1;
        }
    }
    assert!(syscalls() - calls <= 2 * 50 + 2);
}

fn wait_readable(camera: &Camera) {
    let events = nix::poll::PollFlags::POLLIN | nix::poll::PollFlags::POLLPRI;
    let mut fds = [nix::poll::PollFd::new(camera.as_fd(), events)];
    assert_eq!(nix::poll::poll(&mut fds, 5000u16).unwrap(), 1);
}

#[test]
fn cache_hint_is_reported_by_cpu_reads() {
    let Some(device) = vivid(Planar::Single) else { return };
    for (wish, reads) in [(CacheHint::Driver, CpuReads::Unknown), (CacheHint::Cached, CpuReads::Cached)] {
        let mut camera = camera(&device, "NV12").cache(wish).open().unwrap();
        assert_eq!(camera.buffers().unwrap().cpu_reads(), reads);
        pixels(&frame(&mut camera));
    }
}

#[test]
fn camera_keeps_the_device_s_settings_by_default() {
    let Some(device) = vivid(Planar::Single) else { return };
    let now = device.format(Direction::Capture).unwrap();
    let camera = Camera::builder().device(device.clone()).open().unwrap();
    assert_eq!(*camera.layout().unwrap(), now);
    drop(camera);
    // The first format that the device offers is used. A size that it does not offer becomes the nearest one.
    let near = Camera::builder().device(device.clone()).formats([fourcc("H264"), fourcc("NV16"), fourcc("NV12")]);
    let camera = near.clone().size(Size::new(650, 370)).open().unwrap();
    assert_eq!((camera.layout().unwrap().fourcc(), camera.layout().unwrap().size()), (fourcc("NV16"), SMALL));
    drop(camera);
    let e = near.size(Size::new(650, 370)).fit(Fit::Exact).open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Mismatch);
    assert!(e.to_string().contains("1920x1080"), "{e}");
    let odd = camera_interval(&device, FrameInterval { numerator: 1, denominator: 26 }).unwrap();
    let offered = device.intervals(fourcc("NV12"), SMALL).unwrap();
    assert!(matches!(offered, Intervals::Discrete(all) if all.contains(&odd)), "{odd}");
}

#[test]
fn camera_takes_the_nearest_rate_or_requires_it() {
    let Some(device) = vivid(Planar::Single) else { return };
    let large = Size::new(1920, 1080);
    let Intervals::Discrete(offered) = device.intervals(fourcc("NV12"), large).unwrap() else { panic!() };
    let fastest = offered.iter().map(|i| i.fps()).fold(0.0, f64::max);
    let too_fast = FrameInterval::from_fps(fastest as u32 * 2);
    let wish = camera(&device, "NV12").size(large).interval(too_fast);
    assert_eq!(wish.clone().open().unwrap().interval().unwrap().fps(), fastest);
    let e = wish.clone().interval_fit(Fit::Exact).fit(Fit::Exact).open().unwrap_err();
    let nearest = format!("nearest: NV12 1920x1080 at {fastest} fps");
    assert!(e.kind() == ErrorKind::Mismatch && e.to_string().contains(&nearest), "{e}");
    // A smaller size may be quick enough.
    let camera = wish.interval_fit(Fit::Exact).open().unwrap();
    let (size, interval) = (camera.layout().unwrap().size(), camera.interval().unwrap());
    assert!(size.width < large.width && (interval.fps() / too_fast.fps() - 1.0).abs() < 0.002, "{size}, {interval}");
}

#[test]
fn camera_whose_rate_cannot_be_set_opens_unless_it_must() {
    const S_PARM: u8 = 22;
    let Some(device) = vivid(Planar::Single) else { return };
    for errno in [Errno::EIO, Errno::EBUSY, Errno::ENOTTY] {
        let wish = camera(&device, "NV12").interval(FrameInterval::from_fps(30));
        let camera = ioctls::refusing([S_PARM; 2], errno, || wish.clone().open()).unwrap();
        assert!(camera.interval().is_some(), "{errno}: the present one");
        drop(camera);
        let e = ioctls::refusing([S_PARM; 2], errno, || wish.interval_fit(Fit::Exact).open()).unwrap_err();
        assert_eq!(e.op(), "VIDIOC_S_PARM", "{e}");
    }
}

#[test]
fn camera_of_a_grabber_gives_whole_frames_and_flags_short_ones() {
    let Some(device) = vivid(Planar::Single) else { return };
    ioctls::answering_as(Habit::Grabber, || {
        let mut camera = camera(&device, "YUYV").open().unwrap();
        for _ in 0..3 {
            let frame = frame(&mut camera);
            let flags = frame.meta().flags;
            assert!(flags.contains(FrameFlags::ERROR), "rows are missing");
            assert!(flags.contains(FrameFlags::INTERLACED) && !flags.contains(FrameFlags::BOTTOM_FIRST));
            let bytes = frame.layout().memory_bytes()[0];
            assert_eq!(frame.meta().payload[0].bytes, bytes - 1280);
        }
        assert_eq!(camera.stats().errors, 3);
    });
    let mut camera = camera(&device, "YUYV").open().unwrap();
    assert!(!frame(&mut camera).meta().flags.contains(FrameFlags::ERROR));
}

#[test]
fn frames_of_an_analog_input_name_the_field_that_is_first() {
    let Some(device) = vivid(Planar::Single) else { return };
    let inputs = device.inputs().unwrap();
    let analog = inputs.iter().find(|input| input.name.starts_with("S-Video")).unwrap().index;
    device.set_input(analog).unwrap();
    let builder = || Camera::builder().device(device.clone()).input(analog).formats([fourcc("YUYV")]);
    for (standard, rows, is_bottom) in [(Standard::PAL, 576, false), (Standard::NTSC, 480, true)] {
        device.set_standard(standard).unwrap();
        let mut camera = builder().size(Size::new(720, rows)).open().unwrap();
        let frame = frame(&mut camera);
        let flags = frame.meta().flags;
        assert_eq!(frame.layout().size(), Size::new(720, rows));
        assert!(flags.contains(FrameFlags::INTERLACED), "{standard:?}: {flags:?}");
        assert_eq!(flags.contains(FrameFlags::BOTTOM_FIRST), is_bottom, "{standard:?}: {flags:?}");
    }
    // A camera is progressive.
    let mut webcam = camera(&device, "YUYV").input(0).open().unwrap();
    // The driver may report the other input as a change.
    let progressive = told(&mut webcam, CameraEvent::into_frame);
    assert!(!progressive.meta().flags.contains(FrameFlags::INTERLACED));
}

#[test]
fn fields_of_interlaced_video_are_frames_of_their_own() {
    let Some(device) = vivid(Planar::Single) else { return };
    set_hdmi(&device);
    let input = device.input().unwrap();
    let open = || Camera::builder().device(device.clone()).input(input).formats([fourcc("YUYV")]).buffers(8).open();
    let mut camera = open().unwrap();
    assert_eq!(
        frame(&mut camera).meta().flags & (FrameFlags::TOP_FIELD | FrameFlags::BOTTOM_FIELD),
        FrameFlags::default()
    );
    let timings = control(&device, "DV Timings");
    let interlaced = timings.menu.iter().find(|m| m.name.contains("1920x1080i")).expect("an interlaced timing");
    set(&device, "DV Timings", i64::from(interlaced.index));
    set(&device, "DV Timings Signal Mode", 4);
    told(&mut camera, |event| matches!(event, CameraEvent::Changed(_)).then_some(()));
    let fields = Size::new(1920, 540);
    assert_eq!(frame(&mut camera).layout().size(), fields, "the camera follows the source");
    drop(camera);
    let mut s = Scene::of(open().unwrap());
    let mut subscriber = s.join_holding(Policy::Fifo(2), 1);
    let mut last = None;
    for _ in 0..8 {
        let captured = frame(&mut s.camera);
        let (layout, meta) = (*captured.layout(), *captured.meta());
        s.publisher.publish(captured, Duration::from_secs(1)).taken();
        let shared = received(&mut subscriber);
        assert_eq!((layout.size(), meta.payload[0].bytes), (fields, layout.memory_bytes()[0]));
        assert_eq!((*shared.layout(), shared.meta().flags), (layout, meta.flags));
        assert!(!meta.flags.contains(FrameFlags::ERROR), "no row is missing");
        let is_top = meta.flags.contains(FrameFlags::TOP_FIELD);
        assert_ne!(is_top, meta.flags.contains(FrameFlags::BOTTOM_FIELD), "{:?}", meta.flags);
        // An even number of lost fields lies between fields of different kinds.
        if let Some((number, was_top)) = last.replace((meta.sequence, is_top)) {
            assert_eq!(meta.sequence, number + 1 + u64::from(meta.lost));
            assert_eq!(is_top != was_top, meta.lost % 2 == 0, "{} lost", meta.lost);
        }
    }
}

#[test]
fn camera_refuses_buffers_of_two_fields_in_sequence() {
    let Some(device) = vivid(Planar::Single) else { return };
    let [top, bottom, seq_tb, seq_bt, alternate] = [2, 3, 5, 6, 7];
    for field in [seq_tb, seq_bt] {
        let e = ioctls::answering_as(Habit::Field(field), || camera(&device, "YUYV").open()).unwrap_err();
        let text = format!("each buffer has two fields, one after the other (v4l2_field {field})");
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains(&text), "{e}");
    }
    for field in [top, bottom, alternate] {
        ioctls::answering_as(Habit::Field(field), || camera(&device, "YUYV").open()).unwrap();
    }
}

#[test]
fn camera_names_the_cause_of_enospc() {
    const STREAMON: u8 = 18;
    let Some(device) = vivid(Planar::Single) else { return };
    let wish = camera(&device, "YUYV");
    let e = ioctls::refusing([STREAMON; 2], Errno::ENOSPC, || wish.open()).unwrap_err();
    assert!(e.kind() == ErrorKind::Exhausted && e.to_string().contains("(vivid): ENOSPC: the bus has no"), "{e}");
}

#[test]
fn camera_that_goes_silent_is_lost_and_opens_again() {
    let Some(device) = vivid(Planar::Single) else { return };
    let limit = Duration::from_millis(500);
    let mut camera = camera(&device, "YUYV").stall_after(limit).reopen(Reopen::Always).open().unwrap();
    // Consumers that hold every buffer are no stall.
    let held: Vec<_> = (0..camera.buffers().unwrap().slots()).map(|_| frame(&mut camera)).collect();
    assert!(camera.recv(3 * limit).unwrap().is_nothing());
    drop(held);
    drop(frame(&mut camera));
    set(&device, "Percentage of Dropped Buffers", 100);
    let e = told(&mut camera, |event| match event {
        CameraEvent::Lost(e) => Some(e),
        _ => None,
    });
    assert!(e.kind() == ErrorKind::Timeout && e.to_string().contains("no frame for 500ms"), "{e}");
    set(&device, "Percentage of Dropped Buffers", 0);
    told(&mut camera, |event| matches!(event, CameraEvent::Returned).then_some(()));
    drop(frame(&mut camera));
}

#[test]
fn camera_without_memory_learns_how_much_it_needs() {
    const REQBUFS: u8 = 8;
    let Some(device) = vivid(Planar::Single) else { return };
    let e = ioctls::refusing([REQBUFS; 2], Errno::ENOMEM, || camera(&device, "YUYV").open()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Exhausted, "{e}");
    assert!(e.to_string().contains("; 12 buffers of 460800 bytes"), "{e}");
}

#[test]
fn camera_that_is_busy_names_the_process() {
    let (Some(device), Some(())) = (vivid(Planar::Single), program("v4l2-ctl")) else { return };
    let node = device.info().path.to_str().unwrap().to_owned();
    let mut other = start("v4l2-ctl", &["-d", &node, "--stream-mmap", "--stream-count=100000"]);
    let name = format!("open in v4l2-ctl (pid {})", other.id());
    let started = Instant::now();
    let e = loop {
        match camera(&device, "YUYV").open() {
            // The search for the name ends early on a slow machine.
            Err(e) if e.to_string().contains(&name) || started.elapsed() > Duration::from_secs(20) => break e,
            // Or the other process has not begun yet.
            opened => drop(opened),
        }
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    };
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(e.kind() == ErrorKind::Busy && e.to_string().contains(&name), "{e}");
}

#[test]
fn camera_without_a_path_is_the_first_that_fits_and_opens() {
    let Some(device) = vivid(Planar::Single) else { return };
    let path = |camera: &Camera| camera.device().info().path.clone();
    let wish = Camera::builder().formats([fourcc("NV12")]).size(SMALL);
    let first = wish.clone().open().unwrap();
    // The first one is busy now.
    match wish.clone().open() {
        Ok(second) => assert_ne!(path(&first), path(&second)),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
            assert!(e.to_string().contains(&*device.info().path.to_string_lossy()), "{e}");
        }
    }
    let e = wish.formats([fourcc("H264")]).open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
}

fn camera_interval(device: &framelease::v4l2::Device, wish: FrameInterval) -> Option<FrameInterval> {
    camera(device, "NV12").interval(wish).open().unwrap().interval()
}

#[test]
fn camera_believes_a_timestamp_only_within_the_clock_that_the_driver_names() {
    let Some(device) = vivid(Planar::Single) else { return };
    let monotonic = |device: &framelease::v4l2::Device| {
        let mut camera = camera(device, "NV12").open().unwrap();
        [(); 3].map(|()| frame(&mut camera)).map(|f| f.meta().flags.contains(FrameFlags::MONOTONIC))
    };
    assert_eq!(monotonic(&device), [true; 3]);
    // The driver still says V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC.
    set(&device, "Wrap Timestamp", true);
    assert_eq!(monotonic(&device), [false; 3]);
    set(&device, "Wrap Timestamp", false);
}

#[test]
fn frame_return_makes_no_futex_call_where_no_thread_waits() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").open().unwrap();
    drop(frame(&mut camera));
    let Some(calls) = calls_of("do_futex", || (0..50).for_each(|_| drop(frame(&mut camera)))) else { return };
    // Other threads of the test program may make a few.
    assert!(calls < 10, "{calls} calls for 50 frames");
}

fn jpeg(bytes: usize) -> Vec<u8> {
    [&[0xff, 0xd8], &vec![7; bytes][..], &[0xff, 0xd9]].concat()
}

#[test]
fn camera_flags_a_jpeg_picture_that_lacks_a_marker_at_an_end() {
    let Some(device) = vivid(Planar::Single) else { return };
    let (whole, padded) = (jpeg(3000), [jpeg(2000), vec![0; 5000]].concat());
    let (cut, rest) = (whole[..2000].to_vec(), whole[1..].to_vec());
    let pictures = vec![whole.clone(), cut, padded, rest, whole.clone(), whole];
    let given = pictures.clone();
    ioctls::feeding(*b"MJPG", pictures, || {
        let mut camera = camera(&device, "MJPG").size(Size::new(320, 180)).buffers(4).open().unwrap();
        let (before, calls) = (cpu_bytes().read, syscalls());
        let flags = given.iter().map(|picture| {
            let frame = frame(&mut camera);
            assert_eq!(frame.meta().payload[0].bytes as usize, picture.len());
            frame.meta().flags.contains(FrameFlags::ERROR)
        });
        assert_eq!(flags.collect::<Vec<_>>(), [false, true, false, true, false, false]);
        // Two bytes at the beginning, 256 at the end, and all of the one without an end.
        assert_eq!(cpu_bytes().read - before, 6 * 258 + 2000);
        // poll, DQBUF, QBUF; and a mapping for each buffer.
        assert!(syscalls() - calls <= 6 * 3 + 4 * 2, "{} system calls", syscalls() - calls);
        assert_eq!(camera.stats().errors, 2);
    });
}

pub fn packet(camera: &mut Camera) -> Packet {
    match camera.recv(Duration::from_secs(5)).unwrap() {
        Received::Item(CameraEvent::Packet(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

#[test]
fn packets_of_a_camera_are_leases_with_the_parameter_sets_of_their_stream() {
    let Some(device) = vivid(Planar::Single) else { return };
    let sets = [0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 0, 1, 0x68, 0xce];
    let (key, other) = ([0, 0, 0, 1, 0x65, 0x88, 7], [0, 0, 0, 1, 0x41, 0x9a, 7]);
    let joined = [&sets[..], &key].concat();
    let pictures: [&[u8]; 5] = [&sets, &key, &other, &joined, &other];
    ioctls::feeding(*b"H264", pictures.map(<[u8]>::to_vec).to_vec(), || {
        let wish = Camera::builder().device(device.clone()).size(Size::new(320, 180)).buffers(4);
        let mut camera = wish.clone().packets().open().unwrap();
        assert_eq!(camera.layout().unwrap().fourcc(), fourcc("H264"), "without a format: a bitstream");
        assert_eq!(camera.buffers().unwrap_err().kind(), ErrorKind::Unsupported, "nothing else writes the bytes");
        let mut last = None;
        for (bytes, is_key) in [(&key[..], true), (&other, false), (&joined, true), (&other, false), (&other, false)] {
            let packet = packet(&mut camera);
            let meta = packet.meta();
            assert_eq!((packet.bytes(), packet.is_key(), packet.is_leased()), (bytes, is_key, true));
            assert_eq!((meta.codec, meta.size), (Codec::H264, Size::new(320, 180)));
            assert!(meta.flags.contains(FrameFlags::MONOTONIC) && meta.source == Some(meta.sequence));
            assert!(last.replace(meta.sequence) < Some(meta.sequence));
            assert_eq!(packet.parameter_sets().unwrap().to_annexb(), sets);
            let clone = packet.clone();
            drop(packet);
            assert_eq!(camera.stats().leased, 1);
            assert_eq!(clone.bytes(), bytes);
        }
        assert_eq!(camera.stats().leased, 0);
        drop(camera);
        let error = wish.formats([fourcc("YUYV")]).packets().open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("YUYV, which is not a bitstream"), "{error}");
    });
}

#[test]
fn packets_of_a_webcam_are_key_frames_unless_they_are_cut() {
    let Some(device) = vivid(Planar::Single) else { return };
    let whole = jpeg(900);
    ioctls::feeding(*b"MJPG", vec![whole.clone(), whole[..300].to_vec(), whole.clone()], || {
        let wish = Camera::builder().device(device.clone()).size(Size::new(320, 180)).buffers(4);
        let mut camera = wish.packets().open().unwrap();
        let begins = [true, false, true].map(|begins| {
            let packet = packet(&mut camera);
            assert!(packet.is_key() && packet.is_leased() && packet.meta().codec == Codec::Mjpeg);
            packet.can_begin() == begins
        });
        assert_eq!(begins, [true; 3]);
        // The fan-out of an encoder takes them.
        let mut fanout = PacketFanout::new();
        let mut sink = fanout.attach(QueueCapacity::default()).unwrap();
        fanout.push(&packet(&mut camera));
        assert_eq!(sink.try_recv().unwrap().item().unwrap().bytes(), whole);
    });
}

const EXPBUF: u8 = 16;

/// Runs a function while drivers export no buffers.
fn without_export<T>(test: impl FnOnce() -> T) -> T {
    ioctls::refusing([EXPBUF; 2], Errno::ENOTTY, test)
}

#[test]
fn allow_copy_captures_from_a_driver_that_cannot_export() {
    for planar in [Planar::Single, Planar::Multi] {
        let Some(device) = vivid(planar) else { return };
        freeze_pattern(&device);
        let wish = || camera(&device, if planar == Planar::Multi { "NV12M" } else { "NV12" }).buffers(6);
        let shared = pixels(&frame(&mut wish().open().unwrap()));
        leaving_nothing(|| {
            let e = without_export(|| wish().open()).unwrap_err();
            let advice = "the driver cannot export its buffers; CameraBuilder::allow_copy permits a copy";
            assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains(advice), "{e}");
            // The driver cannot fill a memfd.
            let wish = wish().stall_after(Duration::from_millis(200));
            for wish in [wish.clone(), wish.allocator(Allocator::Memfd)] {
                let mut camera = without_export(|| wish.allow_copy().open()).unwrap();
                let before = cpu_bytes();
                let mut held: Vec<Frame> = (0..6).map(|_| frame(&mut camera)).collect();
                let bytes: u64 = held.iter().flat_map(|frame| frame.meta().payload).map(|p| u64::from(p.bytes)).sum();
                assert_eq!(bytes, 6 * shared.len() as u64);
                assert_eq!((cpu_bytes().read - before.read, cpu_bytes().written - before.written), (bytes, bytes));
                assert!(held.iter().all(|frame| pixels(frame) == shared));
                let stats = camera.stats();
                assert_eq!((stats.copied_bytes, stats.leased, stats.frames), (bytes, 6, 6));
                // No room for a copy: the camera waits, and has not stalled.
                assert!(camera.recv(Duration::from_millis(700)).unwrap().is_nothing());
                assert!(!is_readable(&camera) && camera.stats().queued == 0);
                held.remove(0);
                held.push(frame(&mut camera));
                without_export(|| camera.reconfigure(fourcc("YUYV"), SMALL)).unwrap();
                assert!(held.iter().all(|frame| pixels(frame) == shared), "copies outlive their camera's buffers");
                assert_eq!(frame(&mut camera).layout().fourcc(), fourcc("YUYV"));
            }
        });
    }
}

#[test]
fn allow_copy_changes_nothing_for_a_driver_that_exports() {
    let Some(device) = vivid(Planar::Single) else { return };
    let mut camera = camera(&device, "NV12").allow_copy().open().unwrap();
    assert!(frame(&mut camera).memory()[0].is_read_only());
    assert_eq!(camera.stats().copied_bytes, 0);
}

#[test]
fn allow_copy_gives_the_bytes_of_each_picture_once() {
    let Some(device) = vivid(Planar::Single) else { return };
    let pictures: Vec<Vec<u8>> = (1..6).map(|n| jpeg(n * 1000)).collect();
    let given = pictures.clone();
    ioctls::feeding(*b"MJPG", pictures, || {
        let wish = camera(&device, "MJPG").size(Size::new(320, 180)).buffers(3).allow_copy();
        let mut camera = without_export(|| wish.open()).unwrap();
        for picture in given {
            let frame = frame(&mut camera);
            let mut bytes = vec![0; frame.meta().payload[0].bytes as usize];
            frame.read(Duration::from_secs(1)).unwrap().copy_payload(0, 0, &mut bytes).unwrap();
            assert!(bytes == picture && !frame.meta().flags.contains(FrameFlags::ERROR), "{} bytes", bytes.len());
        }
    });
}
