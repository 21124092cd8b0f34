//! Tests on the media graph of vimc: 'Sensor A' -> 'Debayer A' -> 'Scaler' -> 'RGB/YUV Capture'. The sensor also feeds
//! 'Raw Capture 0', and the kernel checks that branch, too.

use framelease::capture::{Camera, FrameSource};
use framelease::format::Size;
use framelease::v4l2::{self, Device};
use framelease::{Error, ErrorKind};
use nix::errno::Errno;

use crate::devices::*;
use crate::ioctls::{self, Habit};

const STREAMON: [u8; 2] = [18, 18];
pub const SIZE: Size = Size::new(640, 480);

/// Returns vimc's capture node of a name.
pub fn node(name: &str) -> Result<Device, String> {
    let is_named = |d: &v4l2::DeviceInfo| {
        let file = d.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let found = std::fs::read_to_string(format!("/sys/class/video4linux/{file}/name")).unwrap_or_default();
        d.driver == "vimc" && found.trim() == name
    };
    Device::find(is_named).map_err(|e| e.to_string())
}

/// Loads vimc for a test. It stays unloaded otherwise, so that no other test finds its nodes.
pub fn with_vimc(test: impl FnOnce(&Device)) {
    let is_lab = std::env::var_os("FRAMELEASE_LAB_PROMISES").is_some();
    let is_loaded = || std::path::Path::new("/sys/module/vimc").exists();
    if is_lab {
        if is_loaded() {
            unload("vimc");
        }
        ended(start("modprobe", &["vimc"]));
    }
    let Some(device) = needed("vimc", node("RGB/YUV Capture")) else { return };
    let (Some(()), Some(())) = (program("v4l2-ctl"), program("media-ctl")) else { return };
    test(&device);
    drop(device);
    if is_lab {
        unload("vimc");
    }
}

fn open(device: &Device, format: &str, size: Size) -> Result<Camera, Error> {
    Camera::builder().device(device.clone()).formats([fourcc(format)]).size(size).keep_pipeline().open()
}

/// As [`with_vimc`], with a raw capture node that takes what the sensor gives after the corrections.
fn with_raw_node(test: impl FnOnce(&Device)) {
    with_vimc(|device| {
        let raw = node("Raw Capture 0").unwrap().info().path.display().to_string();
        run("v4l2-ctl", &["-d", &raw, "--set-fmt-video=pixelformat=RGGB"]);
        test(device);
    });
}

fn streams(device: &Device, size: Size) {
    gives_whole_frames(open(device, "RGB24", size).unwrap(), size);
}

/// Captures, and checks that frames have every byte of their size and no more.
pub fn gives_whole_frames(mut camera: Camera, size: Size) {
    let bytes = size.width * size.height * 3;
    assert_eq!((camera.layout().unwrap().size(), camera.layout().unwrap().memory_bytes()), (size, &[bytes][..]));
    for _ in 0..3 {
        let frame = frame(&mut camera);
        assert_eq!((frame.meta().payload[0].bytes, pixels(&frame).len()), (bytes, bytes as usize));
    }
}

/// The text of an error at the start, which must be one of the pipeline.
fn refused(device: &Device, format: &str, size: Size) -> String {
    let error = open(device, format, size).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Pipeline, "{error}");
    error.to_string()
}

/// Runs the command that a text ends with.
pub fn follow(text: &str) {
    let (_, line) = text.rsplit_once("try: ").unwrap_or_else(|| panic!("no command: {text}"));
    run("sh", &["-c", line]);
}

/// Changes the graph as a user does.
pub fn media_ctl(option: &str, what: &str) {
    let path = (0..16).map(|i| format!("/dev/media{i}")).find(|path| {
        let out = ended(start("media-ctl", &["-d", path, "-p"]));
        String::from_utf8_lossy(&out.stdout).contains("driver          vimc")
    });
    run("media-ctl", &["-d", &path.expect("vimc's media device"), option, what]);
}

/// Runs a test on the errors that vimc gives itself (EPIPE), then on those that mxc-isi gives.
fn with_both_errors(test: impl Fn(&Device)) {
    with_raw_node(|device| test(device));
    with_raw_node(|device| ioctls::answering_as(Habit::MxcIsi, || test(device)));
}

#[test]
fn start_names_the_pads_that_differ_and_the_line_that_corrects_them() {
    with_both_errors(|device| {
        // As it is loaded: the debayer takes no RGB, so the sensor must change.
        let text = refused(device, "RGB24", SIZE);
        let pads = "'Sensor A':0 [RGB888_1X24 640x480] -> 'Debayer A':0 [SRGGB8_1X8 640x480]";
        assert!(text.contains(pads), "{text}");
        assert!(text.ends_with("-V '\"Sensor A\":0 [fmt:SRGGB8_1X8/640x480 field:none]'"), "{text}");
        follow(&text);
        streams(device, SIZE);

        media_ctl("-V", "'Debayer A':0 [fmt:SRGGB8_1X8/640x480 field:interlaced]");
        let text = refused(device, "RGB24", SIZE);
        assert!(text.contains("-> 'Debayer A':0 [SRGGB8_1X8 640x480 field:interlaced]"), "{text}");
        follow(&text);
        streams(device, SIZE);

        media_ctl("-V", "'Scaler':0 [fmt:RGB888_1X24/320x240]");
        let text = refused(device, "RGB24", SIZE);
        assert!(text.contains("'Debayer A':1 [RGB888_1X24 640x480] -> 'Scaler':0 [RGB888_1X24 320x240]"), "{text}");
        while let Err(error) = open(device, "RGB24", SIZE).map(drop) {
            assert_eq!(error.kind(), ErrorKind::Pipeline, "{error}");
            follow(&error.to_string());
        }
        streams(device, SIZE);
    });
}

#[test]
fn start_compares_the_node_s_format_with_the_last_pad() {
    with_both_errors(|device| {
        media_ctl("-V", "'Sensor A':0 [fmt:SRGGB8_1X8/640x480]");
        let other = Size::new(320, 240);
        let text = refused(device, "RGB24", other);
        assert!(text.contains("RGB3 320x240 does not fit 'Scaler':1 [RGB888_1X24 640x480]; request 640x480"), "{text}");
        follow(&text);
        streams(device, other);
        let text = refused(device, "BGR24", other);
        assert!(text.ends_with("[RGB888_1X24 320x240]; for this pad the node offers RGB3"), "{text}");
    });
}

#[test]
fn start_names_a_link_that_is_disabled() {
    with_both_errors(|device| {
        media_ctl("-V", "'Sensor A':0 [fmt:SRGGB8_1X8/640x480]");
        media_ctl("-l", "'Debayer A':1 -> 'Scaler':0 [0]");
        let text = refused(device, "RGB24", SIZE);
        assert!(text.contains("no link into 'Scaler' is enabled"), "{text}");
        follow(&text);
        streams(device, SIZE);
    });
}

#[test]
fn start_names_a_route_that_is_not_active() {
    with_raw_node(|device| {
        media_ctl("-V", "'Sensor A':0 [fmt:SRGGB8_1X8/640x480]");
        assert!(v4l2::media_path(device).unwrap().starts_with("'Sensor A':0 [SRGGB8_1X8 640x480] -> 'Debayer A':0"));
        ioctls::answering_as(Habit::NoRoute, || {
            assert!(v4l2::media_path(device).unwrap().starts_with("'Scaler':1"));
            let text = ioctls::refusing(STREAMON, Errno::EINVAL, || refused(device, "RGB24", SIZE));
            assert!(text.contains("no active route leads to 'Scaler':1; try: media-ctl -d /dev/media"), "{text}");
            assert!(text.ends_with("-R '\"Scaler\" [0/0->1/0 [1]]'"), "{text}");
        });
    });
}

/// The branch of the sensor that does not lead to the node is at fault.
#[test]
fn start_looks_at_every_branch_of_the_sensor() {
    with_vimc(|device| {
        media_ctl("-V", "'Sensor A':0 [fmt:SRGGB8_1X8/640x480]");
        let raw = node("Raw Capture 0").unwrap().info().path.display().to_string();
        run("v4l2-ctl", &["-d", &raw, "--set-fmt-video=pixelformat=RGGB,width=320,height=240"]);
        let text = refused(device, "RGB24", SIZE);
        assert!(text.contains(&format!("{raw}'s format RGGB 320x240 does not fit 'Sensor A':0 [SRGGB8_1X8 640x480]")));
        run("v4l2-ctl", &["-d", &raw, "--set-fmt-video=width=640,height=480"]);
        streams(device, SIZE);
        run("v4l2-ctl", &["-d", &raw, "--set-fmt-video=pixelformat=BA81"]);
        let text = refused(device, "RGB24", SIZE);
        assert!(text.ends_with(&format!("for this pad {raw} offers RGGB")), "{text}");
    });
}

#[test]
fn start_keeps_other_errors_of_a_pipeline_that_fits() {
    with_raw_node(|device| {
        media_ctl("-V", "'Sensor A':0 [fmt:SRGGB8_1X8/640x480]");
        ioctls::refusing(STREAMON, Errno::EINVAL, || {
            let error = open(device, "RGB24", SIZE).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains("all pads agree ('Sensor A':0"), "{error}");
            assert!(error.to_string().contains("also checks 'Sensor A':0 -> 'Raw Capture 0':0. Some"), "{error}");
        });
    });
    // Without a graph there is nothing to explain.
    let Some(device) = vivid(Planar::Single) else { return };
    ioctls::refusing(STREAMON, Errno::EINVAL, || {
        let error = camera(&device, "YUYV").open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(!error.to_string().contains("pads"), "{error}");
    });
}
