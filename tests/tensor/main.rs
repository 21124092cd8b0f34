//! Tests of `convert::Tensor` with a reference in `f64`, with OpenCV, and with invalid input.

mod opencv;
mod reference;

use framelease::convert::tensor::{Axes, Channels, Element, ElementType, Filter, Fit, TensorBuilder};
use framelease::convert::{Color, Tensor};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{ColorSpace, Colorimetry, Encoding, Layout, Range, Rect, Size};
use framelease::frame::{Frame, Pool};
use framelease::ErrorKind;
use proptest::prelude::*;

use reference::Picture;

const FORMATS: [&str; 16] = [
    "NV12", "NV21", "NV16", "NV24", "YUV420", "YVU420", "NV12M", "YUYV", "UYVY", "GREY", "RGB24", "BGR24", "RGBA32",
    "XBGR32", "ARGB32", "P010",
];

fn layout(name: &str, width: u32, height: u32, align: u32) -> Layout {
    Layout::aligned(name.parse().unwrap(), Size::new(width, height), align).unwrap()
}

/// A frame whose bytes are noise, or a smooth picture.
fn frame(layout: Layout, byte: impl Fn(usize, u32, u32) -> u8) -> Frame {
    let mut frame = Pool::new(&Allocator::Memfd, layout, 1).unwrap().try_acquire().unwrap();
    let mut write = frame.write(DEFAULT_WAIT).unwrap();
    for plane in 0..layout.planes().len() {
        for y in 0..layout.rows(plane) {
            let row: Vec<u8> = (0..layout.row_bytes(plane)).map(|x| byte(plane, y, x)).collect();
            write.copy_row(plane, y, &row).unwrap();
        }
    }
    drop(write);
    frame.freeze_full(0, 0)
}

fn noise(plane: usize, y: u32, x: u32) -> u8 {
    let seed = (x * 7919 + y * 104_729 + plane as u32 * 1_299_709).wrapping_mul(0x9e37_79b1);
    (seed ^ seed >> 15).wrapping_mul(0x85eb_ca6b).to_be_bytes()[0]
}

/// Writes a tensor over old content.
fn write<T: Element + Copy>(builder: &TensorBuilder, frame: &Frame, old: T) -> Vec<T> {
    let mut tensor = builder.clone().build().unwrap();
    let mut out = vec![old; tensor.elements()];
    tensor.write(frame, &mut out).unwrap();
    out
}

/// Returns the element of a channel of a pixel.
fn at<T: Copy>(tensor: &[T], axes: Axes, size: Size, channels: usize, (c, y, x): (usize, usize, usize)) -> T {
    let (width, height) = (size.width as usize, size.height as usize);
    match axes {
        Axes::Hwc => tensor[(y * width + x) * channels + c],
        _ => tensor[(c * height + y) * width + x],
    }
}

/// What a tensor is made of.
#[derive(Clone, Debug)]
struct Case {
    layout: Layout,
    size: Size,
    axes: Axes,
    channels: Channels,
    fit: Fit,
    crop: Option<Rect>,
    filter: Filter,
}

impl Case {
    fn builder(&self) -> TensorBuilder {
        let builder = Tensor::builder(self.size).axes(self.axes).channels(self.channels);
        let builder = builder.fit(self.fit).filter(self.filter);
        match self.crop {
            Some(crop) => builder.crop(crop),
            None => builder,
        }
    }

    /// Compares a tensor of bytes with the reference.
    fn check(&self) {
        let frame = frame(self.layout, noise);
        let builder = self.builder();
        let placement = builder.clone().build().unwrap().placement(&self.layout).unwrap();
        let is_grey = self.channels == Channels::Grey;
        let expected = Picture::of(&frame, is_grey).scaled(&placement, self.filter);
        let tensor: Vec<u8> = write(&builder, &frame, 77);
        let place = placement.place;
        let inside = |x: usize, y: usize| {
            let (x, y) = (x as i32 - place.left, y as i32 - place.top);
            let is_inside = x >= 0 && y >= 0 && x < place.size.width as i32 && y < place.size.height as i32;
            is_inside.then_some((x as usize, y as usize))
        };
        let order = if self.channels == Channels::Bgr { [2, 1, 0] } else { [0, 1, 2] };
        let margin = if is_grey { [131; 3] } else { [200, 100, 110] };
        for y in 0..self.size.height as usize {
            for x in 0..self.size.width as usize {
                for (c, &from) in order.iter().enumerate().take(self.channels.count()) {
                    let got = f64::from(at(&tensor, self.axes, self.size, self.channels.count(), (c, y, x)));
                    match inside(x, y) {
                        // Half for the rounding, the rest for the fixed point.
                        Some((x, y)) => {
                            let want = expected[y][x][from];
                            assert!((got - want).abs() < 0.65, "{self:?}: {x},{y} channel {c}: {got}, not {want}");
                        }
                        None => assert_eq!(got, f64::from(margin[from]), "{self:?}: margin at {x},{y}"),
                    }
                }
            }
        }
    }
}

prop_compose! {
    fn cases()(
        format in prop::sample::select(&FORMATS[..]),
        (width, height) in (1u32..40, 1u32..30),
        align in prop::sample::select(vec![4u32, 64]),
        (target_width, target_height) in (1u32..50, 1u32..40),
        corners in prop::option::of((0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0)),
        axes in prop::sample::select(vec![Axes::Chw, Axes::Hwc]),
        channels in prop::sample::select(vec![Channels::Rgb, Channels::Bgr, Channels::Grey]),
        fit in prop::sample::select(vec![Fit::Stretch, Fit::Letterbox(Color::rgb(200, 100, 110)), Fit::Crop]),
        filter in prop::sample::select(vec![Filter::Bilinear, Filter::Area]),
        encoding in prop::sample::select(vec![Encoding::Bt601, Encoding::Bt709, Encoding::Bt2020, Encoding::Smpte240m]),
        range in prop::sample::select(vec![Range::Default, Range::Full, Range::Limited]),
    ) -> Case {
        let colorimetry = Colorimetry { space: ColorSpace::Default, encoding, range, ..Colorimetry::default() };
        let part = |a: f64, b: f64, side: u32| {
            let first = (a * f64::from(side)) as u32;
            (first, 1 + (b * f64::from(side - first - 1)) as u32)
        };
        let crop = corners.map(|(x, y, w, h)| {
            let ((left, w), (top, h)) = (part(x, w, width), part(y, h, height));
            Rect::new(left as i32, top as i32, Size::new(w, h))
        });
        let layout = layout(format, width, height, align).with_colorimetry(colorimetry);
        let size = Size::new(target_width, target_height);
        Case { layout, size, axes, channels, fit, crop, filter }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn tensor_has_the_values_of_the_reference(case in cases()) {
        case.check();
    }
}

#[test]
fn tensor_elements_are_values_less_mean_times_scale() {
    let frame = frame(layout("RGB24", 16, 16, 1), |_, y, x| (y * 16 + x / 3) as u8);
    let (mean, scale) = ([1.5, 128.0, 0.0], [0.5, 1.0, 1.0 / 255.0]);
    for axes in [Axes::Chw, Axes::Hwc] {
        let builder = Tensor::builder(Size::new(16, 16)).axes(axes).mean(mean).scale(scale);
        let floats: Vec<f32> = write(&builder, &frame, f32::NAN);
        let (bytes, signed): (Vec<u8>, Vec<i8>) = (write(&builder, &frame, 7), write(&builder, &frame, 7));
        let halves: Vec<u16> = write(&builder, &frame, 7);
        for (i, value) in (0..=255u8).enumerate() {
            for c in 0..3 {
                let get = (c, i / 16, i % 16);
                let want = (f32::from(value) - mean[c]) * scale[c];
                assert_eq!(at(&floats, axes, Size::new(16, 16), 3, get), want);
                // Rust's conversion to an integer with halves to even, by way of its formatter.
                let even: i32 = format!("{want:.0}").parse::<f32>().unwrap() as i32;
                assert_eq!(i32::from(at(&bytes, axes, Size::new(16, 16), 3, get)), even.clamp(0, 255), "{want}");
                assert_eq!(i32::from(at(&signed, axes, Size::new(16, 16), 3, get)), even.clamp(-128, 127), "{want}");
                let half = f16_value(at(&halves, axes, Size::new(16, 16), 3, get));
                assert!((half - f64::from(want)).abs() <= f64::from(want).abs() / 2048.0, "{want}: {half}");
            }
        }
    }
}

/// Returns the value of the bits of an `f16`, by its definition.
fn f16_value(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

#[test]
fn tensor_writes_bytes_that_are_not_aligned() {
    let frame = frame(layout("NV12", 32, 24, 4), noise);
    let builder = Tensor::builder(Size::new(10, 7)).fit(Fit::Letterbox(Color::BLACK)).scale([0.1; 3]);
    let floats: Vec<f32> = write(&builder, &frame, 0.0);
    let halves: Vec<u16> = write(&builder, &frame, 0);
    let mut tensor = builder.build().unwrap();
    let mut bytes = vec![0xee; tensor.elements() * 4 + 2];
    let last = bytes.len() - 1;
    tensor.write_bytes(&frame, ElementType::F32, &mut bytes[1..last]).unwrap();
    assert_eq!(bytes[1..last], floats.iter().flat_map(|f| f.to_ne_bytes()).collect::<Vec<_>>());
    assert_eq!((bytes[0], bytes[last]), (0xee, 0xee));
    let end = 1 + tensor.elements() * 2;
    tensor.write_bytes(&frame, ElementType::F16, &mut bytes[1..end]).unwrap();
    assert_eq!(bytes[1..end], halves.iter().flat_map(|f| f.to_ne_bytes()).collect::<Vec<_>>());
}

#[test]
fn tensor_refuses_what_does_not_fit() {
    let error = |builder: TensorBuilder, frame: &Frame, len: usize| {
        let result = builder.build().and_then(|mut tensor| tensor.write(frame, &mut vec![0u8; len]));
        result.map_err(|e| (e.kind(), e.to_string())).unwrap_err()
    };
    let nv12 = frame(layout("NV12", 32, 24, 4), noise);
    let builder = || Tensor::builder(Size::new(8, 4));
    let cases = [
        (error(builder(), &nv12, 95), ErrorKind::Mismatch, "96 elements, the slice has 95"),
        (error(Tensor::builder(Size::new(0, 4)), &nv12, 0), ErrorKind::InvalidArgument, "0x4"),
        (error(Tensor::builder(Size::new(4, 40_000)), &nv12, 0), ErrorKind::InvalidArgument, "1 to 32768"),
        (error(builder().mean([0.0, f32::NAN, 0.0]), &nv12, 96), ErrorKind::InvalidArgument, "finite"),
        (error(builder().crop(Rect::new(0, 0, Size::new(0, 4))), &nv12, 96), ErrorKind::InvalidArgument, "0x4@0,0"),
        (error(builder().crop(Rect::new(1, 0, Size::new(32, 4))), &nv12, 96), ErrorKind::InvalidArgument, "32x24"),
        (error(builder().crop(Rect::new(-1, 0, Size::new(4, 4))), &nv12, 96), ErrorKind::InvalidArgument, "-1"),
        (error(builder(), &frame(layout("RGB565", 8, 4, 4), noise), 96), ErrorKind::Unsupported, "RGBP"),
        (error(builder(), &frame(layout("Y10", 8, 4, 4), noise), 96), ErrorKind::Unsupported, "Y10"),
    ];
    for ((kind, text), expected, part) in cases {
        assert!(kind == expected && text.contains(part), "{kind:?} {text}");
    }
    let mut short = *nv12.meta();
    short.payload[0].bytes /= 2;
    assert_eq!(error(builder(), &nv12.with_meta(short), 96).0, ErrorKind::Mismatch);
}

#[test]
fn placement_maps_boxes_back() {
    let layout = layout("NV12", 1920, 1080, 4);
    let builder = |fit| Tensor::builder(Size::new(640, 640)).fit(fit);
    let place = |builder: TensorBuilder| builder.build().unwrap().placement(&layout).unwrap();
    let whole = [0.0, 0.0, 640.0, 640.0];
    assert_eq!(place(builder(Fit::Stretch)).to_picture(whole), [0.0, 0.0, 1920.0, 1080.0]);
    assert_eq!(place(builder(Fit::Crop)).to_picture(whole), [420.0, 0.0, 1500.0, 1080.0]);
    let crop = Rect::new(101, 51, Size::new(640, 320));
    let letterbox = place(builder(Fit::Letterbox(Color::BLACK)).crop(crop));
    assert_eq!(letterbox.place, Rect::new(0, 160, Size::new(640, 320)));
    assert_eq!(letterbox.to_picture([10.0, 170.0, 20.0, 900.0]), [111.0, 61.0, 121.0, 371.0]);
}
