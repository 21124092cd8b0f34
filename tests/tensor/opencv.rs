//! Compares tensors with OpenCV: `cvtColor`, then `resize`.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Runs OpenCV's part of these cases, or names what is missing here.
fn opencv(cases: &[String], pictures: Vec<u8>) -> Option<Vec<u8>> {
    let has_opencv = Command::new("python3").args(["-c", "import cv2, numpy"]).stderr(Stdio::null()).status();
    if !has_opencv.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED tensors of OpenCV: no cv2 here");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tensor/opencv.py")).args(cases);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let thread = std::thread::spawn(move || stdin.write_all(&pictures).unwrap());
    let output = child.wait_with_output().unwrap();
    thread.join().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

#[test]
fn tensor_is_within_one_of_opencv() {
    const FORMATS: [&str; 10] =
        ["NV12", "NV21", "YUV420", "YVU420", "YUYV", "UYVY", "RGB24", "BGR24", "XBGR32", "GREY"];
    let rect = |left, top, width, height| Rect::new(left, top, Size::new(width, height));
    let (filters, whole) = ([(Filter::Bilinear, "bilinear"), (Filter::Area, "area")], rect(0, 0, 192, 108));
    let geometries = [
        (whole, Size::new(64, 36)),
        (whole, Size::new(96, 54)),
        (whole, Size::new(64, 64)),
        (whole, Size::new(107, 61)),
        (whole, Size::new(31, 107)),
        (whole, Size::new(1, 1)),
        (whole, Size::new(192, 108)),
        (rect(5, 7, 101, 33), Size::new(80, 21)),
        (rect(191, 107, 1, 1), Size::new(3, 2)),
        (rect(31, 1, 161, 90), Size::new(2, 1)),
        (rect(13, 13, 40, 30), Size::new(139, 101)),
    ];
    let (mut arguments, mut pictures, mut ours, mut names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in FORMATS {
        // OpenCV's matrix is that of BT.601, and its grey is of full range.
        let range = if name == "GREY" { Range::Full } else { Range::Default };
        let layout = layout(name, 192, 108, 64).with_colorimetry(Colorimetry { range, ..Colorimetry::default() });
        let frame = frame(layout, noise);
        for (crop, size) in geometries {
            for (filter, filter_name) in filters {
                // OpenCV's means of enlarged pictures are another filter than ours.
                if filter == Filter::Area && (size.width > crop.size.width || size.height > crop.size.height) {
                    continue;
                }
                let (Rect { left, top, size: from }, Size { width, height }) = (crop, size);
                let numbers = format!("192,108,{left},{top},{},{},{width},{height}", from.width, from.height);
                arguments.push(format!("{name},{numbers},{filter_name}"));
                frame.read(DEFAULT_WAIT).unwrap().write_to(&mut pictures).unwrap();
                let builder = Tensor::builder(size).axes(Axes::Hwc).crop(crop).filter(filter);
                let tensor: Vec<u8> = write(&builder, &frame, 0);
                names.extend(std::iter::repeat(arguments.len() - 1).take(tensor.len()));
                ours.extend(tensor);
            }
        }
    }
    let Some(theirs) = opencv(&arguments, pictures) else { return };
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!(a.abs_diff(*b) <= 1, "{}: {a}, OpenCV has {b}", arguments[names[i]]);
    }
    let equal = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
    assert!(equal * 10 > ours.len() * 8, "{equal} of {} are equal", ours.len());
}
