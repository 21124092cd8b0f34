//! Every format of a driver.

use framelease::capture::{Camera, FrameSource};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::v4l2::Direction;

use crate::devices::*;

/// The bytes of all memory planes.
fn payload(frame: &framelease::frame::Frame) -> Vec<u8> {
    let read = frame.read(DEFAULT_WAIT).unwrap();
    let mut all = Vec::new();
    for (memory, payload) in frame.meta().payload.iter().enumerate().filter(|(_, payload)| payload.bytes > 0) {
        let mut bytes = vec![0; payload.bytes as usize];
        read.copy_payload(memory, 0, &mut bytes).unwrap();
        all.extend(bytes);
    }
    all
}

/// Captures each format that vivid lists. `v4l2-ctl` sets it before, and captures the same picture.
fn each_as_v4l2_ctl(planar: Planar, listed: usize) {
    let (Some(device), Some(())) = (vivid(planar), program("v4l2-ctl")) else { return };
    freeze_pattern(&device);
    let file = std::env::temp_dir().join(format!("framelease-format-{}", std::process::id()));
    let (node, out) = (device.info().path.to_str().unwrap().to_owned(), format!("--stream-to={}", file.display()));
    let offers = device.formats(Direction::Capture).unwrap();
    let mut opaque = Vec::new();
    for offer in &offers {
        let fourcc = offer.fourcc;
        let name = fourcc.to_string();
        let (name, order) = name.strip_suffix("-BE").map_or((&*name, ""), |name| (name, "-BE"));
        let (width, height) = (SMALL.width, SMALL.height);
        let format = format!("--set-fmt-video=width={width},height={height},pixelformat={name:4}{order}");
        run("v4l2-ctl", &["-d", &node, &format, "--stream-mmap", "--stream-count=1", &out]);
        // What the device has now is kept.
        let mut camera = Camera::builder().device(device.clone()).open().unwrap_or_else(|e| panic!("{fourcc}: {e}"));
        let layout = *camera.layout().unwrap();
        assert_eq!((layout.fourcc(), layout.size()), (fourcc, SMALL));
        let frame = frame(&mut camera);
        assert!(payload(&frame) == std::fs::read(&file).unwrap(), "{fourcc} differs");
        let mut rows = Vec::new();
        frame.read(DEFAULT_WAIT).unwrap().write_to(&mut rows).unwrap();
        match layout.pixel_bytes() {
            0 => {
                assert!(rows == payload(&frame), "{fourcc} has no rows, and is passed as it is");
                opaque.push(fourcc.to_string());
            }
            bytes => assert_eq!(rows.len() as u64, bytes, "{fourcc}"),
        }
    }
    std::fs::remove_file(file).unwrap();
    assert!(offers.len() >= listed, "vivid lists {}", offers.len());
    opaque.sort();
    assert_eq!(opaque, ["AR15-BE", "HSV3", "HSV4", "XR15-BE", "Y16-BE"]);
}

#[test]
fn formats_of_vivid_are_captured_as_v4l2_ctl_does() {
    each_as_v4l2_ctl(Planar::Single, 83);
}

#[test]
fn formats_of_multi_planar_vivid_are_captured_as_v4l2_ctl_does() {
    each_as_v4l2_ctl(Planar::Multi, 93);
}
