//! Conversions from and to the `v4l` crate.
#![cfg(feature = "v4l")]

use std::io::Write;

use framelease::format::{FourCc, Layout, Size};

#[test]
fn fourcc_and_format_convert_both_ways() {
    let code = v4l::FourCC::new(b"NV12");
    assert_eq!(FourCc::from(code), FourCc::NV12);
    assert_eq!(v4l::FourCC::from(FourCc::YUYV), v4l::FourCC::new(b"YUYV"));

    let layout = Layout::from_strides(FourCc::NV12, Size::new(1920, 1088), &[2048], &[3_342_336]).unwrap();
    let theirs = v4l::Format::from(&layout);
    assert_eq!((theirs.width, theirs.height, theirs.stride, theirs.size), (1920, 1088, 2048, 3_342_336));
    let back = Layout::try_from(&theirs).unwrap();
    assert_eq!((back.planes(), back.memory_bytes()), (layout.planes(), layout.memory_bytes()));

    let mut nonsense = theirs;
    nonsense.stride = 7;
    assert!(Layout::try_from(&nonsense).is_err());
}

#[test]
fn device_is_shared_with_the_crate() {
    let Ok(theirs) = v4l::Device::new(0) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED device_is_shared_with_the_crate: no /dev/video0");
        return;
    };
    let ours = framelease::v4l2::Device::try_from(&theirs).unwrap();
    assert!(!ours.info().driver.is_empty());
}
