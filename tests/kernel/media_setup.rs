//! Tests that a camera sets the media graph of vimc up for its wish.

use std::path::Path;

use framelease::capture::{Camera, CameraBuilder, Fit, FrameSource};
use framelease::format::{FrameInterval, Size};
use framelease::v4l2::{media_path, ControlId, ControlValue, Device, MediaGraph};
use framelease::ErrorKind;
use nix::errno::Errno;

use crate::devices::*;
use crate::ioctls::{self, Habit};
use crate::media_graph::{gives_whole_frames, media_ctl, node, with_vimc, SIZE};
use crate::share::example;

const SMALL: Size = Size::new(320, 240);
const HD: Size = Size::new(1280, 720);

fn camera_of(device: &Device) -> CameraBuilder {
    Camera::builder().device(device.clone()).formats([fourcc("RGB24")])
}

/// The whole graph as `media-ctl` prints it.
fn graph(device: &Device) -> String {
    let path = MediaGraph::of(device).unwrap().path;
    let out = ended(start("media-ctl", &["-d", path.to_str().unwrap(), "-p"]));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn camera_sets_its_pipeline_up_from_what_the_driver_starts_with() {
    with_vimc(|device| {
        for size in [SIZE, SMALL, HD] {
            gives_whole_frames(camera_of(device).size(size).open().unwrap(), size);
            assert!(media_path(device).unwrap().starts_with(&format!("'Sensor A':0 [SRGGB8_1X8 {size}]")));
        }
        // The other branch of the sensor follows, because the kernel checks it.
        let mut raw = Camera::builder().device(node("Raw Capture 0").unwrap()).open().unwrap();
        assert_eq!((raw.layout().unwrap().fourcc(), frame(&mut raw).layout().size()), (fourcc("SRGGB8"), HD));
        drop(raw);
        // Without a wish, what is set up stays.
        let camera = camera_of(device).open().unwrap();
        assert_eq!(camera.layout().unwrap().size(), HD);
    });
}

#[test]
fn camera_enables_a_link_that_is_off() {
    with_vimc(|device| {
        media_ctl("-l", "'Debayer A':1 -> 'Scaler':0 [0]");
        gives_whole_frames(camera_of(device).size(SIZE).open().unwrap(), SIZE);
    });
}

#[test]
fn camera_takes_the_sensor_that_is_named() {
    with_vimc(|device| {
        for name in ["Sensor B", "Sensor A"] {
            gives_whole_frames(camera_of(device).size(SMALL).sensor(name).open().unwrap(), SMALL);
            let path = media_path(device).unwrap();
            assert!(path.starts_with(&format!("'{name}':0 [SRGGB8_1X8 320x240]")), "{path}");
        }
        let e = camera_of(device).sensor("Sensor C").open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Pipeline);
        // A test picture that vimc has beside its sensors comes first.
        let text = "asked the sensor 'Sensor C'; the node can have 'RGB/YUV Input', 'Sensor A', 'Sensor B'";
        assert!(e.to_string().ends_with(text), "{e}");
    });
}

#[test]
fn pipeline_is_planned_without_a_change_and_its_commands_do_the_same() {
    with_vimc(|device| {
        let before = graph(device);
        let wish = || camera_of(device).size(SMALL).sensor("Sensor B");
        let pipeline = wish().pipeline().unwrap();
        assert_eq!(graph(device), before);
        assert_eq!((&pipeline.sensor[..], pipeline.fourcc, pipeline.size), ("Sensor B", fourcc("RGB24"), SMALL));
        let text = pipeline.to_string();
        assert!(text.starts_with("media-ctl -d /dev/media"), "{text}");
        for line in &pipeline.commands {
            run("sh", &["-c", line]);
        }
        gives_whole_frames(camera_of(device).size(SMALL).keep_pipeline().open().unwrap(), SMALL);
        let by_commands = graph(device);
        drop(wish().open().unwrap());
        assert_eq!(graph(device), by_commands);
        assert_eq!(wish().pipeline().unwrap().commands, [""; 0]);
    });
}

#[test]
fn pipeline_that_fits_is_left_as_it_is() {
    with_vimc(|device| {
        drop(camera_of(device).size(SIZE).open().unwrap());
        // A part of the picture, enlarged.
        media_ctl("-V", "'Scaler':0 [crop:(160,120)/320x240]");
        let cropped = graph(device);
        assert!(cropped.contains("crop:(160,120)/320x240"), "{cropped}");
        for camera in [camera_of(device), camera_of(device).size(SIZE)] {
            gives_whole_frames(camera.open().unwrap(), SIZE);
            assert_eq!(graph(device), cropped);
        }
    });
}

/// vimc refuses the second node of a sensor at its start. What streams goes on, and the graph is as it was.
#[test]
fn pipeline_whose_sensor_streams_elsewhere_is_left_as_it_is() {
    with_vimc(|device| {
        drop(camera_of(device).size(SIZE).open().unwrap());
        media_ctl("-l", "'Debayer A':1 -> 'Scaler':0 [0]");
        let mut raw = Camera::builder().device(node("Raw Capture 0").unwrap()).open().unwrap();
        let before = graph(device);
        let e = camera_of(device).size(SMALL).open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
        assert!(e.to_string().contains("the step was: media-ctl -d /dev/media"), "{e}");
        assert_eq!(graph(device), before);
        assert_eq!(frame(&mut raw).layout().size(), SIZE);
    });
}

#[test]
fn pipeline_of_a_camera_that_does_not_start_is_as_it_was() {
    const STREAMON: [u8; 2] = [18, 18];
    with_vimc(|device| {
        media_ctl("-l", "'Debayer A':1 -> 'Scaler':0 [0]");
        let before = graph(device);
        let start = || camera_of(device).size(SMALL).sensor("Sensor B").open();
        let e = ioctls::refusing(STREAMON, Errno::ENOMEM, start).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Exhausted, "{e}");
        assert_eq!(graph(device), before);
    });
}

#[test]
fn pipeline_that_cannot_give_the_exact_size_is_left_as_it_is() {
    with_vimc(|device| {
        let before = graph(device);
        let e = camera_of(device).size(Size::new(9000, 9000)).fit(Fit::Exact).open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch);
        assert!(e.to_string().ends_with("asked 9000x9000; the nearest that 'Sensor A' gives is RGB3 4096x2160"), "{e}");
        assert_eq!(graph(device), before);
    });
}

#[test]
fn controls_of_the_sensor_are_controls_of_its_camera() {
    with_vimc(|device| {
        let camera = camera_of(device).size(SIZE).open().unwrap();
        let device = camera.device();
        let own = device.controls().unwrap();
        let flip = own.iter().find(|control| control.id == ControlId::VERTICAL_FLIP).expect("the sensor's flip");
        assert_eq!(device.control(flip.id).unwrap(), *flip);
        device.set_control(flip.id, true).unwrap();
        assert_eq!(device.control_value(flip.id).unwrap(), ControlValue::Number(1));
        let sensor = &device.subdevices()[0];
        assert_eq!(sensor.info().card, "Sensor A");
        // The calls of receivers reach the subdevice, which does not have them.
        assert_eq!(sensor.edid(0).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(sensor.detect_timings().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(sensor.standard().unwrap(), None);
        let path = sensor.info().path.display().to_string();
        assert!(Path::new(&path).file_name().unwrap().to_str().unwrap().starts_with("v4l-subdev"));
        let out = ended(start("v4l2-ctl", &["-d", &path, "-C", "vertical_flip"]));
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "vertical_flip: 1");
        let e = device.set_control(flip.id, 7).unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains(&path), "{e}");
        let e = device.control(ControlId::ROTATE).unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("/dev/video"), "{e}");
    });
}

#[test]
fn frame_interval_of_the_sensor_is_that_of_its_camera() {
    with_vimc(|device| {
        let wish = || camera_of(device).size(SIZE).interval(FrameInterval::from_fps(15));
        // vimc's sensors have no rate.
        assert_eq!(wish().open().unwrap().interval(), None);
        let e = wish().interval_fit(Fit::Exact).open().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        ioctls::answering_as(Habit::Rated, || {
            let lines = wish().pipeline().unwrap().commands;
            assert!(lines.last().unwrap().ends_with("-V '\"Sensor A\":0 [@1/15]'"), "{lines:?}");
            let camera = wish().open().unwrap();
            let given = Some(FrameInterval { numerator: 66, denominator: 1000 });
            assert_eq!(camera.interval(), given);
            drop(camera);
            let e = wish().interval_fit(Fit::Exact).open().unwrap_err();
            assert!(e.to_string().contains("asked 15.000 fps; the device gives 15.152 fps"), "{e}");
        });
    });
}

#[test]
fn list_example_prints_the_graph_and_what_would_be_set() {
    let Some(list) = example("list") else { return };
    let list = list.to_str().unwrap();
    with_vimc(|device| {
        let path = device.info().path.display().to_string();
        let text = run(list, &["--media", "--size", "320x240", "--fourcc", "RGB24", &path]);
        assert!(text.contains("    source 0 [RGB888_1X24 640x480]\n      -> 'Debayer A':0 (fixed)\n"), "{text}");
        let lines = text.split_once(&format!("{path}: to get RGB3 320x240 of 'Sensor A':\n")).expect(&text).1;
        run("sh", &["-ec", lines]);
        let text = run(list, &["--media", "--size", "320x240", "--fourcc", "RGB24", &path]);
        assert!(text.ends_with(&format!("{path}: gives RGB3 320x240 of 'Sensor A' as it is\n")), "{text}");
    });
}
