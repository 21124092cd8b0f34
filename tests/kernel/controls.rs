//! Tests of controls, events, inputs, selection rectangles, discovery.

use std::time::Duration;

use framelease::capture::{Camera, CameraEvent, FrameSource};
use framelease::format::{Layout, Rect, Size};
use framelease::v4l2::{
    self, ControlId, ControlKind, ControlValue, Device, Direction, Event, EventKind, Intervals, SelectionTarget, Sizes,
    Standard,
};
use framelease::ErrorKind;
use framelease::Station;
use nix::errno::Errno;

use crate::devices::*;
use crate::ioctls;

#[test]
fn controls_of_every_type_are_read_and_written() {
    let Some(device) = vivid(Planar::Single) else { return };
    let all = device.controls().unwrap();
    assert!(all.len() > 40, "{}", all.len());
    for (name, kind, value) in [
        ("Integer 32 Bits", ControlKind::Integer, ControlValue::from(-77)),
        ("Integer 64 Bits", ControlKind::Integer64, ControlValue::from(-1i64 << 40)),
        ("Boolean", ControlKind::Boolean, ControlValue::from(false)),
        ("Menu", ControlKind::Menu, ControlValue::from(4)),
        ("Integer Menu", ControlKind::IntegerMenu, ControlValue::from(7)),
        ("String", ControlKind::Text, ControlValue::from("abc")),
        ("Bitmask", ControlKind::Bitmask, ControlValue::from(0x8000_2000i64)),
        ("U16 8x16 Matrix", ControlKind::Compound, ControlValue::from(vec![0x14u8; 256])),
    ] {
        let control = control(&device, name);
        assert_eq!(control.kind, kind, "{name}");
        assert_eq!(device.set_control(control.id, value.clone()).unwrap(), value, "{name}");
        assert_eq!(device.control_value(control.id).unwrap(), value, "{name}");
    }
    press(&device, "Button");
    let menu = control(&device, "Menu");
    assert_eq!(menu.menu.iter().map(|m| m.index).collect::<Vec<_>>(), [1, 3, 4], "a menu with holes");
    assert_eq!(control(&device, "Integer Menu").menu[3].name, "8");
    for (name, value, word) in [
        ("Brightness", ControlValue::from(256), "0 to 255"),
        ("Menu", ControlValue::from(2), "3 (Menu Item 3)"),
        ("String", ControlValue::from("too long"), "2 to 4 bytes"),
        ("Boolean", ControlValue::from("yes"), "0 to 1"),
        ("U16 8x16 Matrix", ControlValue::from(vec![0u8; 8]), "256 bytes"),
    ] {
        let e = device.set_control(control(&device, name).id, value).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(e.to_string().contains(word) && e.to_string().contains(name), "{e}");
    }
    let e = device.set_control(control(&device, "Read-Only Integer 32 Bits").id, 5).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    let e = device.set_control(ControlId::new(0x0098_7fff), 1).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    // Every control can be described and, if the driver permits it, read.
    for control in all {
        assert!(!control.to_string().is_empty());
        if !control.is_write_only {
            device.control_value(control.id).unwrap();
        }
    }
}

#[test]
fn control_change_is_an_event() {
    let Some(device) = vivid(Planar::Single) else { return };
    let other = Device::open(&device.info().path).unwrap();
    device.subscribe(EventKind::Control(ControlId::CONTRAST)).unwrap();
    assert_eq!(device.try_event().unwrap(), None);
    other.set_control(ControlId::CONTRAST, 42).unwrap();
    let event = device.event(Duration::from_secs(2)).unwrap();
    assert_eq!(event, Some(Event::Control { id: ControlId::CONTRAST, value: 42, range: (0, 255) }));
    device.unsubscribe(EventKind::Control(ControlId::CONTRAST)).unwrap();
    other.set_control(ControlId::CONTRAST, 43).unwrap();
    assert_eq!(device.event(Duration::from_millis(20)).unwrap(), None);
    let e = device.subscribe(EventKind::FrameSync).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
}

#[test]
fn source_change_is_followed() {
    for planar in [Planar::Single, Planar::Multi] {
        let Some(device) = vivid(planar) else { return };
        let hdmi = device.inputs().unwrap().into_iter().find(|i| i.name.starts_with("HDMI")).unwrap();
        assert!(hdmi.has_timings && hdmi.has_signal);
        let builder = Camera::builder().device(device.clone()).input(hdmi.index).formats([fourcc("YUYV")]);
        leaving_nothing(|| {
            let mut camera = builder.open().unwrap();
            assert_eq!(device.input().unwrap(), hdmi.index);
            let before = frame(&mut camera);
            let bytes = pixels(&before);
            set(&device, "DV Timings", 0); // 640x480p59
            set(&device, "DV Timings Signal Mode", 4);
            assert_eq!(changed(&mut camera).size(), Size::new(640, 480));
            assert_eq!(device.detect_timings().unwrap().unwrap().size(), Size::new(640, 480));
            assert_eq!(camera.layout().unwrap().size(), Size::new(640, 480));
            assert_eq!(frame(&mut camera).layout().size(), Size::new(640, 480));
            assert!(pixels(&before) == bytes);
            set(&device, "DV Timings Signal Mode", 1); // no signal
            assert_eq!(told(&mut camera, lost).kind(), ErrorKind::NotFound);
            assert!(device.detect_timings().unwrap().is_none());
            let got = camera.recv(Duration::from_millis(50)).unwrap();
            assert!(got.is_nothing(), "{got:?} without a signal");
            set(&device, "DV Timings Signal Mode", 4);
            told(&mut camera, |event| matches!(event, CameraEvent::Returned).then_some(()));
            changed(&mut camera);
            frame(&mut camera);
        });
        let e = device.set_input(77).unwrap_err();
        assert!(e.to_string().contains("3 (HDMI"), "{e}");
    }
}

/// Returns the layout of the next change of the source.
fn changed(camera: &mut Camera) -> Layout {
    told(camera, |event| match event {
        CameraEvent::Changed(layout) => Some(layout),
        _ => None,
    })
}

#[test]
fn crop_and_compose_are_set_within_bounds() {
    let Some(device) = vivid(Planar::Multi) else { return };
    // vivid's grabber inputs have cropping and scaling.
    device.set_input(3).unwrap();
    let region = device.region(Direction::Capture, SelectionTarget::Crop).unwrap();
    assert_eq!(region.active, region.default);
    assert!(region.bounds.size.width >= 640);
    let wanted = Rect { left: 64, top: 32, size: Size::new(320, 240) };
    assert_eq!(device.set_region(Direction::Capture, SelectionTarget::Crop, wanted).unwrap(), wanted);
    let region = device.region(Direction::Capture, SelectionTarget::Crop).unwrap();
    assert_eq!(region.active, wanted);
    let far = Rect { left: -5000, top: 1 << 30, size: Size::new(u32::MAX, 1) };
    if let Ok(given) = device.set_region(Direction::Capture, SelectionTarget::Crop, far) {
        assert!(given.left >= 0 && given.size.width <= region.bounds.size.width, "{given}");
    }
    let compose = device.region(Direction::Capture, SelectionTarget::Compose).unwrap();
    assert!(compose.active.size.width > 0);
    device.set_input(0).unwrap();
    let e = device.set_region(Direction::Capture, SelectionTarget::Compose, wanted).unwrap_err();
    assert!(e.to_string().contains("320x240@64,32"), "{e}");
}

#[test]
fn devices_are_found_and_described() {
    let Some(single) = vivid(Planar::Single) else { return };
    let info = single.info();
    assert_eq!((info.driver.as_str(), info.card.as_str()), ("vivid", "vivid"));
    assert!(info.bus.starts_with("platform:vivid-"), "{}", info.bus);
    assert!(v4l2::devices().contains(info));
    assert!(Device::find(|d| d.is_capture()).is_ok());
    let memory = single.memory_capabilities(Direction::Capture).unwrap().expect("vb2 tells");
    assert!(memory.exports && memory.imports && memory.orphans && memory.cache_hints, "{memory}");
    assert_eq!(memory.max_buffers, Some(64));
    assert!(matches!(single.sizes(fourcc("NV12")).unwrap(), Sizes::Discrete(s) if s.contains(&SMALL)));
    assert!(matches!(single.intervals(fourcc("NV12"), SMALL).unwrap(), Intervals::Discrete(i) if i.len() > 5));
    assert_eq!(single.sizes(fourcc("H264")).unwrap(), Sizes::Unknown);
    let found = Device::find(|d| d.driver == "vim2m").map_err(|e| e.to_string());
    if let Some(m2m) = needed("vim2m", found) {
        assert!(m2m.info().is_m2m() && !m2m.info().is_capture());
        assert!(matches!(m2m.sizes(fourcc("RGB565")).unwrap(), Sizes::Stepwise { .. }));
        // The graph of a mem-to-mem device is a line.
        let path = v4l2::media_path(&m2m).expect("vim2m has a media device");
        assert!(path.contains("->") && path.contains("proc"), "{path}");
    }
}

#[test]
fn control_that_another_one_sets_is_refused_with_that_reason() {
    const S_EXT_CTRLS: u8 = 72;
    let Some(device) = vivid(Planar::Single) else { return };
    let inactive = device.controls().unwrap().into_iter().find(|c| c.is_inactive && !c.is_read_only);
    let control = inactive.expect("vivid's gain is automatic");
    let set = || device.set_control(control.id, control.minimum);
    let e = ioctls::refusing([S_EXT_CTRLS; 2], Errno::EACCES, set).unwrap_err();
    assert!(e.kind() == ErrorKind::State && e.to_string().contains("automatic"), "{e}");
    // A range that depends on other controls.
    let e = ioctls::refusing([S_EXT_CTRLS; 2], Errno::ERANGE, set).unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("ERANGE: out of range; asked"), "{e}");
}

#[test]
fn standard_of_an_analog_input_is_set_read_and_detected() {
    let Some(device) = vivid(Planar::Single) else { return };
    let input = |name: &str| device.inputs().unwrap().into_iter().find(|i| i.name.starts_with(name)).unwrap().index;
    device.set_input(input("S-Video")).unwrap();
    for standard in [Standard::NTSC, Standard::SECAM, Standard::PAL] {
        device.set_standard(standard).unwrap();
        assert_eq!(device.standard().unwrap(), Some(standard));
        assert_eq!(device.detect_standard().unwrap(), Some(standard));
    }
    // Its menu's second entry is "No Signal".
    set(&device, "Standard Signal Mode", 1);
    assert_eq!(device.detect_standard().unwrap(), None);
    set(&device, "Standard Signal Mode", 0);
    device.set_input(input("HDMI")).unwrap();
    assert_eq!(device.standard().unwrap(), None);
    assert_eq!(device.set_standard(Standard::PAL).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn edid_of_an_input_is_read_replaced_and_removed() {
    let Some(device) = vivid(Planar::Single) else { return };
    let hdmi = device.inputs().unwrap().into_iter().find(|i| i.name.starts_with("HDMI")).unwrap().index;
    let first = device.edid(hdmi).unwrap();
    assert_eq!((first.len(), &first[..8]), (256, &[0, 255, 255, 255, 255, 255, 255, 0][..]));
    device.set_edid(hdmi, &[]).unwrap();
    assert!(device.edid(hdmi).unwrap().is_empty());
    device.set_edid(hdmi, &first).unwrap();
    assert_eq!(device.edid(hdmi).unwrap(), first);
    for bytes in [1, 128 * 3, 128 * 257] {
        let e = device.set_edid(hdmi, &vec![0; bytes]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{bytes} bytes: {e}");
    }
    assert_eq!(device.edid(0).unwrap_err().kind(), ErrorKind::InvalidArgument, "a webcam");
}
