//! Tests of the mem-to-mem converter on the lab's own driver: features that vim2m does not have, and failures on
//! request.

use std::sync::Arc;
use std::time::Duration;

use crate::conformance::converting::Jobs;
use framelease::convert::{Converter, Layer, M2m, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{ColorSpace, Colorimetry, Encoding, Flip, FourCc, Layout, Range, Rect, Rotation, Size};
use framelease::frame::{Frame, Pool};
use framelease::v4l2::Device;
use framelease::ErrorKind;

use crate::conformance::{self, picture, rgb};
use crate::convert::camera_to_convert_to_share;
use crate::devices::*;

const WAIT: Duration = Duration::from_secs(20);
const SIZE: Size = Size::new(128, 96);

fn scaler() -> Option<M2m> {
    let device = Device::find(|d| d.driver == "fl_scaler").map_err(|e| e.to_string());
    let device = needed("fl_scaler", device)?;
    needed_path("udmabuf", "/dev/udmabuf")?;
    Some(M2m::new(&device).unwrap())
}

fn aligned(format: &str, size: Size) -> Layout {
    Layout::aligned(fourcc(format), size, 64).unwrap()
}

fn pool(layout: Layout, count: usize) -> Pool {
    Pool::new(&Allocator::Udmabuf, layout, count).unwrap()
}

fn plan(layer: Layer, from: Layout, to: Layout) -> Arc<Plan> {
    Arc::new(Plan::new(&Request::convert(layer), &[from], &to).unwrap())
}

/// A frame whose bytes all have one value.
fn plain(pool: &Pool, value: u8, sequence: u64) -> Frame {
    let mut frame = pool.acquire(WAIT).expect("a free buffer");
    fill(&mut frame, value);
    frame.freeze_full(sequence, sequence)
}

fn fill(frame: &mut framelease::frame::FrameMut, value: u8) {
    let layout = *frame.layout();
    let mut write = frame.write(DEFAULT_WAIT).unwrap();
    for plane in 0..layout.planes().len() {
        for y in 0..layout.rows(plane) {
            write.copy_row(plane, y, &vec![value; layout.row_bytes(plane) as usize]).unwrap();
        }
    }
}

#[test]
fn m2m_scaler_draws_what_it_does_not_refuse() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let report = conformance::suite(&mut m2m, &Allocator::Udmabuf, 64, 34.0);
        assert!(report.drawn.len() > 100, "{} drawn, least {:.1} dB", report.drawn.len(), report.least_db);
        for part in ["NM12 64x48", "crop: Some", "Clockwise90", "Half", "flip: Vertical", "YUYV", "Bt709", "AB24"] {
            assert!(report.drawn.iter().any(|d| d.contains(part)), "nothing drawn with {part}: {:#?}", report.drawn);
        }
        drop(m2m);
    });
}

#[test]
fn crop_is_exact_and_place_leaves_the_rest_unchanged() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("RGB24", SIZE), aligned("RGB24", SIZE));
        let (sources, targets) = (pool(from, 1), pool(to, 1));
        let byte = |x: u32, y: u32, c: u32| (x * 3 + y * 7 + c * 50) as u8;
        let mut source = sources.try_acquire().unwrap();
        {
            let mut write = source.write(DEFAULT_WAIT).unwrap();
            for y in 0..SIZE.height {
                let row: Vec<u8> = (0..SIZE.width * 3).map(|i| byte(i / 3, y, i % 3)).collect();
                write.copy_row(0, y, &row).unwrap();
            }
        }
        let source = source.freeze_full(1, 1);
        let (crop, place) = (Rect::new(32, 16, Size::new(40, 30)), Rect::new(10, 20, Size::new(40, 30)));
        let request = Request::convert(Layer::default().crop(crop).place(place)).background(None);
        let over = Arc::new(Plan::new(&request, &[from], &to).unwrap());
        let mut target = targets.try_acquire().unwrap();
        fill(&mut target, 200);
        m2m.begin(&over, &[source], target).unwrap();
        let done = pixels(&m2m.done(WAIT).unwrap());
        for (i, &got) in done.iter().enumerate() {
            let (x, y, c) = (i as u32 / 3 % SIZE.width, i as u32 / 3 / SIZE.width, i as u32 % 3);
            let inside = (10..50).contains(&x) && (20..50).contains(&y);
            let wanted = if inside { byte(x - 10 + 32, y - 20 + 16, c) } else { 200 };
            assert_eq!(got, wanted, "pixel {x}, {y}");
        }
        // The converter does not ask a device that writes more than the rectangle to leave the rest unchanged.
        set(m2m.device(), "Compose Padding", 16);
        let e = m2m.check(&over);
        assert!(e.is_ok(), "the device is set up for this plan already: {e:?}");
        drop(m2m);
        let m2m = scaler().unwrap();
        set(m2m.device(), "Compose Padding", 16);
        let e = m2m.check(&over).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("writes all of 56x30@10,20"), "{e}");
        // Rectangles that the device would move.
        let odd = Request::convert(Layer::default().crop(Rect::new(31, 16, Size::new(40, 30))));
        let e = m2m.check(&Plan::new(&odd, &[from], &aligned("RGB24", Size::new(40, 30))).unwrap()).unwrap_err();
        assert!(e.to_string().contains("the device takes 40x30@30,16"), "{e}");
        drop(m2m);
    });
}

#[test]
fn rotation_and_scaling_take_two_memory_planes() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("NV12M", SIZE), aligned("NV12M", Size::new(192, 256)));
        assert_eq!((from.memory_bytes().len(), to.memory_bytes().len()), (2, 2));
        let source = picture::frame(&Allocator::Udmabuf, &from, 1, false);
        let targets = pool(to, 1);
        let layer = Layer::default().rotation(Rotation::Clockwise270);
        m2m.begin(&plan(layer, from, to), &[source], targets.try_acquire().unwrap()).unwrap();
        let done = m2m.done(WAIT).unwrap();
        assert_eq!(done.memory().len(), 2);
        // Twice the size: every pixel of the target lies a quarter of a source pixel from the middle of its source
        // pixel.
        let mut expected = Vec::new();
        for y in 0..256 {
            for x in 0..192 {
                let (s, t) = ((f64::from(x) + 0.5) / 192.0, (f64::from(y) + 0.5) / 256.0);
                let [r, g, b, _] = picture::point(1, 1.0 - t, s);
                expected.extend([r, g, b].map(|c| (c * 255.0).round() as u8));
            }
        }
        let db = picture::psnr(&expected, &rgb::rgb(&done).unwrap(), |_| true);
        assert!(db > 30.0, "{db:.1} dB");
        // A rotation by 90° with a flip is refused: it is not known which of them the device does first.
        let both = plan(layer.flip(Flip::Horizontal), from, to);
        assert!(m2m.check(&both).unwrap_err().to_string().contains("which of them comes first"));
        drop((m2m, done));
    });
}

#[test]
fn colors_are_converted_as_asked_or_refused() {
    let Some(mut m2m) = scaler() else { return };
    let colored = |layout: Layout, space, encoding, range| {
        layout.with_colorimetry(Colorimetry { space, encoding, range, ..Colorimetry::default() })
    };
    let (rgb24, nv12) = (aligned("RGB24", SIZE), aligned("NV12", SIZE));
    let limited = [
        colored(nv12, ColorSpace::Default, Encoding::Default, Range::Default),
        colored(nv12, ColorSpace::Default, Encoding::Bt709, Range::Limited),
        colored(nv12, ColorSpace::Rec709, Encoding::Default, Range::Default),
        colored(nv12, ColorSpace::Rec709, Encoding::Bt601, Range::Default),
        colored(nv12, ColorSpace::Smpte170m, Encoding::Bt709, Range::Limited),
    ];
    let mut pairs = Vec::new();
    for yuv in limited {
        pairs.extend([(rgb24, yuv), (yuv, rgb24)]);
        let yuyv = aligned("YUYV", SIZE);
        pairs.extend(limited.map(|other| (yuv, yuyv.with_colorimetry(other.colorimetry()))));
    }
    for (from, to) in pairs {
        let source = picture::frame(&Allocator::Udmabuf, &from, 0, false);
        let targets = pool(to, 1);
        m2m.begin(&plan(Layer::default(), from, to), &[source], targets.try_acquire().unwrap()).unwrap();
        let done = m2m.done(WAIT).unwrap();
        // `rgb` reads the colors that the layout names.
        let expected = rgb::rgb(&picture::frame(&Allocator::Udmabuf, &rgb24, 0, false)).unwrap();
        let db = picture::psnr(&expected, &rgb::rgb(&done).unwrap(), |_| true);
        assert!(db > 34.0, "{:?} to {:?}: {db:.1} dB", from.colorimetry(), to.colorimetry());
    }
    for (from, to) in [
        (rgb24, colored(nv12, ColorSpace::Default, Encoding::Default, Range::Full)),
        (colored(nv12, ColorSpace::Jpeg, Encoding::Default, Range::Default), rgb24),
        (rgb24, colored(nv12, ColorSpace::Default, Encoding::Bt2020, Range::Default)),
        (colored(rgb24, ColorSpace::Default, Encoding::Default, Range::Limited), nv12),
    ] {
        let e = m2m.check(&plan(Layer::default(), from, to)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("the device has"), "{e}");
    }
}

#[test]
fn alpha_of_a_target_is_opaque() {
    let Some(mut m2m) = scaler() else { return };
    let (from, to) = (aligned("RGB24", SIZE), aligned("RGBA32", SIZE));
    let (sources, targets) = (pool(from, 1), pool(to, 1));
    m2m.begin(&plan(Layer::default(), from, to), &[plain(&sources, 9, 0)], targets.try_acquire().unwrap()).unwrap();
    let done = pixels(&m2m.done(WAIT).unwrap());
    assert!(done.chunks(4).all(|p| *p == [9, 9, 9, 255]));
    let e = m2m.check(&plan(Layer::default(), to, to)).unwrap_err();
    assert!(e.to_string().contains("source's alpha"), "{e}");
}

#[test]
fn damaged_job_is_an_error_and_the_next_is_not() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("NV12", SIZE), aligned("RGB24", SIZE));
        let (sources, targets) = (pool(from, 3), pool(to, 3));
        let plan = plan(Layer::default(), from, to);
        set(m2m.device(), "Delay (msec)", 50);
        press(m2m.device(), "Damage a Job");
        let mut slots = Vec::new();
        for i in 0..3 {
            let target = targets.try_acquire().unwrap();
            slots.push(target.slot());
            m2m.begin(&plan, &[plain(&sources, 80, i)], target).unwrap();
        }
        let rejected = m2m.done(WAIT).unwrap_err();
        assert_eq!(rejected.error.op(), "VIDIOC_DQBUF", "{}", rejected.error);
        assert_eq!(rejected.item.as_ref().map(|t| t.slot()), Some(slots[0]));
        assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, 1);
        assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, 2);
        assert_eq!((sources.buffers().leased(), targets.buffers().leased()), (0, 1));
        drop((m2m, rejected));
    });
}

#[test]
fn target_that_is_refused_does_not_mix_up_other_jobs() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("RGB24", SIZE), aligned("RGB24", SIZE));
        let (sources, targets) = (pool(from, 4), pool(to, 4));
        let plan = plan(Layer::default(), from, to);
        let value = |frame: &Frame| pixels(frame)[0];
        // With nothing else in flight, the converter recovers at once.
        m2m.begin(&plan, &[plain(&sources, 10, 0)], targets.try_acquire().unwrap()).unwrap();
        assert_eq!(value(&m2m.done(WAIT).unwrap()), 10);
        press(m2m.device(), "Refuse a Capture Buffer");
        let rejected = m2m.begin(&plan, &[plain(&sources, 11, 1)], targets.try_acquire().unwrap()).unwrap_err();
        assert_eq!(rejected.error.op(), "VIDIOC_QBUF", "{}", rejected.error);
        assert_eq!((sources.buffers().leased(), m2m.in_flight()), (0, 0));
        m2m.begin(&plan, &[plain(&sources, 12, 2)], rejected.item).unwrap();
        let done = m2m.done(WAIT).unwrap();
        assert_eq!((value(&done), done.meta().sequence), (12, 2));
        drop(done);

        // After two jobs that are in flight: it takes no other job until they are taken.
        set(m2m.device(), "Delay (msec)", 100);
        for i in 0..2 {
            m2m.begin(&plan, &[plain(&sources, 20 + i, i.into())], targets.try_acquire().unwrap()).unwrap();
        }
        press(m2m.device(), "Refuse a Capture Buffer");
        let rejected = m2m.begin(&plan, &[plain(&sources, 30, 9)], targets.try_acquire().unwrap()).unwrap_err();
        assert_eq!(rejected.error.op(), "VIDIOC_QBUF");
        let again = m2m.try_submit(&plan, &[plain(&sources, 31, 10)], rejected.item).unwrap().full();
        for i in 0..2 {
            let done = m2m.done(WAIT).unwrap();
            assert_eq!((value(&done), done.meta().sequence), (20 + i, i.into()));
        }
        assert_eq!(sources.buffers().leased(), 0, "the source whose target was refused");
        m2m.begin(&plan, &[plain(&sources, 40, 11)], again.expect("the queue is full")).unwrap();
        let done = m2m.done(WAIT).unwrap();
        assert_eq!((value(&done), done.meta().sequence), (40, 11), "not the source whose target was refused");
        assert_eq!(sources.buffers().leased(), 0);
        drop((m2m, done));
    });
}

#[test]
fn fatal_error_ends_the_jobs_and_the_next_starts_again() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("NV12", SIZE), aligned("RGB24", SIZE));
        let (sources, targets) = (pool(from, 3), pool(to, 3));
        let plan = plan(Layer::default(), from, to);
        // Long enough to begin three jobs on a slow machine: the error comes with the first result.
        set(m2m.device(), "Delay (msec)", 500);
        press(m2m.device(), "Fatal Error");
        for i in 0..3 {
            m2m.begin(&plan, &[plain(&sources, 80, i)], targets.try_acquire().unwrap()).unwrap();
        }
        for _ in 0..3 {
            let rejected = m2m.done(WAIT).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
            assert!(rejected.item.is_some());
        }
        assert_eq!((m2m.in_flight(), sources.buffers().leased(), targets.buffers().leased()), (0, 0, 0));
        m2m.begin(&plan, &[plain(&sources, 80, 7)], targets.try_acquire().unwrap()).unwrap();
        assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, 7);
        drop(m2m);
    });
}

#[test]
fn reopen_ends_the_jobs_in_flight() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("NV12", SIZE), aligned("RGB24", SIZE));
        let (sources, targets) = (pool(from, 3), pool(to, 3));
        let plan = plan(Layer::default(), from, to);
        set(m2m.device(), "Delay (msec)", 500);
        for i in 0..3 {
            m2m.begin(&plan, &[plain(&sources, 80, i)], targets.try_acquire().unwrap()).unwrap();
        }
        // As a program does that gets `DeviceLost` from `try_submit`, and finds the device back at once.
        m2m.reopen().unwrap();
        assert_eq!((m2m.in_flight(), sources.buffers().leased()), (3, 0));
        for _ in 0..3 {
            let rejected = m2m.done(WAIT).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
            assert!(rejected.item.is_some());
        }
        m2m.begin(&plan, &[plain(&sources, 80, 7)], targets.try_acquire().unwrap()).unwrap();
        assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, 7);
        drop(m2m);
    });
}

#[test]
fn sources_that_return_late_are_accepted() {
    let Some(mut m2m) = scaler() else { return };
    leaving_nothing(|| {
        let (from, to) = (aligned("RGB24", SIZE), aligned("RGB24", SIZE));
        let (sources, targets) = (pool(from, 4), pool(to, 2));
        let plan = plan(Layer::default(), from, to);
        set(m2m.device(), "Late Sources", true);
        for i in 0..12 {
            m2m.begin(&plan, &[plain(&sources, i, i.into())], targets.acquire(WAIT).unwrap()).unwrap();
            assert_eq!(pixels(&m2m.done(WAIT).unwrap())[0], i);
            assert!(sources.buffers().leased() <= 2, "at most one late source");
        }
        drop(m2m);
        assert_eq!(sources.buffers().leased(), 0);
    });
}

#[test]
fn target_layout_has_the_strides_of_the_driver() {
    let Some(m2m) = scaler() else { return };
    let layout = m2m.target_layout(fourcc("NV12"), Size::new(130, 98)).unwrap();
    assert_eq!(layout, aligned("NV12", Size::new(130, 98)));
    // A size that the device does not have, and a format that it does not have.
    assert_eq!(m2m.target_layout(fourcc("NV12"), Size::new(8, 8)).unwrap(), packed("NV12", Size::new(8, 8)));
    assert_eq!(m2m.target_layout(FourCc::GREY, SIZE).unwrap(), packed("GREY", SIZE));
    for (from, to, rule) in [
        (packed("RGB24", Size::new(130, 98)), aligned("RGB24", Size::new(130, 98)), "0+0/390"),
        (aligned("RGB24", SIZE), packed("RGB24", Size::new(8, 8)), "16x16"),
    ] {
        let e = m2m.check(&plan(Layer::default(), from, to)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains(rule), "{e}");
    }
}

#[test]
fn camera_frames_are_rotated_and_shared_without_the_cpu() {
    leaving_nothing(|| {
        for (from, to, rotation) in [
            ("NV12", "RGBA32", Rotation::None),
            ("NV12M", "NV12", Rotation::Clockwise90),
            ("YUYV", "NV12M", Rotation::Half),
        ] {
            let Some(mut m2m) = scaler() else { return };
            let Some(touched) = camera_to_convert_to_share(&mut m2m, from, to, rotation) else { return };
            assert_eq!(touched, 0, "{from} to {to}");
        }
    });
}
