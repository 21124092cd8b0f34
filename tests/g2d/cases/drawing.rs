//! Tests of the drawn pixels: orientation, scaling, colors, blending, fills, layers.

use crate::conformance::converting::Jobs;
use framelease::convert::g2d::{Variant, Wait};
use framelease::convert::{Blend, Color, Converter, Layer, Plan, Request, Scaling};
use framelease::format::{ColorSpace, Colorimetry, Encoding, Flip, Range, Rect, Rotation, Size};
use framelease::frame::Frame;
use proptest::prelude::*;

use super::support::*;

fn rect(left: i32, top: i32, width: u32, height: u32) -> Rect {
    Rect::new(left, top, Size::new(width, height))
}

/// The RGBA pixels of a frame, row by row.
fn pixels(frame: &Frame) -> Vec<Vec<[u8; 4]>> {
    rows(frame, 0).iter().map(|r| r.chunks(4).map(|p| [p[0], p[1], p[2], p[3]]).collect()).collect()
}

#[track_caller]
fn near(found: [u8; 4], expected: [i32; 4], tolerance: i32) {
    let off = found.iter().zip(expected).map(|(f, e)| (i32::from(*f) - e).abs()).max().unwrap();
    assert!(off <= tolerance, "{found:?}, expected {expected:?}");
}

#[test]
fn copy_at_the_same_size_keeps_every_byte_in_both_layouts() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.open();
        for (from, to) in [("RGBA32", "RGBA32"), ("YUYV", "YUYV"), ("RGB565", "RGB565")] {
            let (sources, targets) = (pool(layout(from, 62, 48), 1), pool(layout(to, 62, 48), 1));
            let p = simple(Layer::default(), sources.buffers().layout(), targets.buffers().layout());
            let frame = source(&sources, noise);
            let done = run(&mut g2d, &p, std::slice::from_ref(&frame), targets.try_acquire().unwrap());
            assert_eq!(rows(&done, 0), rows(&frame, 0), "{abi} {from}");
            assert_eq!((done.meta().sequence, done.meta().timestamp_ns), (1, 1));
        }
        fake.lawful();
    }
}

#[test]
fn copy_takes_formats_that_cannot_be_drawn() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.open();
        for format in ["NV12", "NV12M", "YUV420", "VYUY"] {
            let pool = pool(layout(format, 64, 48), 2);
            let l = pool.buffers().layout();
            let frame = source(&pool, noise);
            let p = simple(Layer::default(), l, l);
            let done = run(&mut g2d, &p, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
            for plane in 0..l.planes().len() {
                assert_eq!(rows(&done, plane), rows(&frame, plane), "{format} plane {plane}");
            }
            assert!(g2d.check(&simple(Layer::default().flip(Flip::Vertical), l, l)).is_err());
        }
        assert_eq!(fake.get("copies"), 5);
        // A copy cannot skip an offset of the data.
        let pool = pool(layout("NV12", 64, 48), 2);
        let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
        let frame = source(&pool, noise);
        let mut meta = *frame.meta();
        meta.payload[0].offset_bytes = 64;
        g2d.begin(&p, &[frame.with_meta(meta)], pool.try_acquire().unwrap()).unwrap();
        assert!(g2d.done(TIMEOUT).unwrap_err().error.to_string().contains("begin at byte 64"));
        fake.lawful();
    }
}

#[test]
fn orientation_takes_one_pass_for_all_eight() {
    let turned = |flip: Flip, rotation: Rotation, from: &[Vec<[u8; 4]>]| {
        let mut p = from.to_vec();
        match flip {
            Flip::Horizontal => p.iter_mut().for_each(|r| r.reverse()),
            Flip::Vertical => p.reverse(),
            Flip::None => {}
        }
        let quarters = [Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270];
        for _ in 0..quarters.iter().position(|q| *q == rotation).unwrap() {
            p = (0..p[0].len()).map(|x| (0..p.len()).rev().map(|y| p[y][x]).collect()).collect();
        }
        p
    };
    for (variant, file) in [(0, "libg2d-viv.so"), (1, "libg2d-dpu.so"), (2, "libg2d-pxp.so")] {
        for abi in ABIS {
            let fake = Fake::changed(abi, &Changes { file: Some(file), ..Changes::default() });
            let mut g2d = fake.set("variant", variant).open();
            for flip in [Flip::None, Flip::Horizontal, Flip::Vertical] {
                for rotation in [Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270] {
                    let sources = pool(layout("RGBA32", 24, 16), 1);
                    let size = if rotation.is_quarter() { (16, 24) } else { (24, 16) };
                    let targets = pool(layout("RGBA32", size.0, size.1), 1);
                    let layer = Layer::default().flip(flip).rotation(rotation);
                    let p = simple(layer, sources.buffers().layout(), targets.buffers().layout());
                    let frame = source(&sources, noise);
                    if g2d.report().variant == Variant::Pxp && flip != Flip::None && rotation.is_quarter() {
                        let e = g2d.check(&p).unwrap_err();
                        assert!(e.to_string().contains("flips or rotates"), "{e}");
                        continue;
                    }
                    let before = fake.get("blits") + fake.get("dmabuf_blits");
                    let done = run(&mut g2d, &p, std::slice::from_ref(&frame), targets.try_acquire().unwrap());
                    assert_eq!(pixels(&done), turned(flip, rotation, &pixels(&frame)), "{abi} {flip:?} {rotation}");
                    assert_eq!(fake.get("blits") + fake.get("dmabuf_blits") - before, 1);
                }
            }
            fake.lawful();
        }
    }
}

#[test]
fn crop_and_place_touch_nothing_else() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.open();
        let pool = pool(layout("RGBA32", 32, 32), 2);
        let l = pool.buffers().layout();
        let layer = Layer::default().crop(rect(4, 6, 10, 8)).place(rect(20, 2, 10, 8));
        let p = plan(&Request::convert(layer).background(None), &[*l], l);
        let frame = source(&pool, noise);
        let mut target = pool.try_acquire().unwrap();
        write(&mut target, |_, _, _| 9);
        let done = pixels(&run(&mut g2d, &p, std::slice::from_ref(&frame), target));
        let from = pixels(&frame);
        for (y, row) in done.iter().enumerate() {
            for (x, p) in row.iter().enumerate() {
                let inside = (20..30).contains(&x) && (2..10).contains(&y);
                let expected = if inside { from[y - 2 + 6][x - 20 + 4] } else { [9; 4] };
                assert_eq!(*p, expected, "{x},{y}");
            }
        }
        fake.lawful();
    }
}

#[test]
fn colors_follow_the_source_s_matrix_and_range() {
    let color = |encoding, range| Colorimetry { encoding, range, ..Colorimetry::default() };
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.open();
        // Codes of pure green in each space, from ITU-R BT.601 and BT.709.
        for (color, cap, [y, u, v]) in [
            (Colorimetry::default(), 5, [145, 54, 34]),
            (color(Encoding::Bt601, Range::Limited), 5, [145, 54, 34]),
            (color(Encoding::Bt709, Range::Limited), 6, [173, 42, 26]),
            (Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() }, 6, [173, 42, 26]),
            (color(Encoding::Bt601, Range::Full), 7, [150, 44, 21]),
            (Colorimetry { space: ColorSpace::Jpeg, ..Colorimetry::default() }, 7, [150, 44, 21]),
            (color(Encoding::Bt709, Range::Full), 8, [182, 30, 12]),
        ] {
            let from = layout("NV12", 16, 16).with_colorimetry(color);
            let (sources, targets) = (pool(from, 1), pool(layout("RGBA32", 16, 16), 1));
            let p = simple(Layer::default(), &from, targets.buffers().layout());
            let frame = source(&sources, |plane, _, at| if plane == 0 { y } else { [u, v][at % 2] });
            let done = run(&mut g2d, &p, &[frame], targets.try_acquire().unwrap());
            near(pixels(&done)[5][5], [0, 255, 0, 255], 3);
            assert_eq!(fake.get("matrix"), cap);
        }
        fake.lawful();
    }
}

#[test]
fn sources_may_be_planar_or_packed_with_wide_strides() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.open();
        for format in ["NV12", "NV12M", "NV21", "NV16", "NV61", "YUV420", "YVU420", "YUV420M", "YUYV", "YVYU", "UYVY"] {
            let (sources, targets) = (pool(layout(format, 24, 16), 1), pool(layout("ABGR32", 24, 16), 1));
            let info = sources.buffers().layout().fourcc().info().unwrap();
            let p = simple(Layer::default(), sources.buffers().layout(), targets.buffers().layout());
            // Pure red: 81, 90, 240.
            let byte = |plane: usize, _: u32, at: usize| match (info.planes.len(), info.name.trim_end_matches('M')) {
                (1, "YUYV") => [81, 90, 81, 240][at % 4],
                (1, "YVYU") => [81, 240, 81, 90][at % 4],
                (1, _) => [90, 81, 240, 81][at % 4],
                (_, "NV21" | "NV61") => [[81, 81], [240, 90]][plane][at % 2],
                (2, _) => [[81, 81], [90, 240]][plane][at % 2],
                (_, "YVU420") => [81, 240, 90][plane],
                _ => [81, 90, 240][plane],
            };
            let done = run(&mut g2d, &p, &[source(&sources, byte)], targets.try_acquire().unwrap());
            for p in pixels(&done).concat() {
                near(p, [0, 0, 255, 255], 3);
            }
        }
        fake.lawful();
    }
}

#[test]
fn letterbox_margins_are_filled_in_every_kind_of_target() {
    let color: Color = "2060a0".parse().unwrap();
    for abi in ABIS {
        // Without `clear` there are no fills: the library paints them with a surface of one color.
        for file_imports in [0, 1] {
            let fake = Fake::new(abi);
            let mut g2d = fake.set("blit_dmabuf", file_imports).open();
            for format in ["RGBX32", "RGBA32", "RGB24", "RGB565", "YUYV"] {
                let (sources, targets) = (pool(layout("RGBA32", 64, 32), 1), pool(layout(format, 64, 64), 1));
                let request = Request::convert(Layer::default().fit(Scaling::Keep)).background(Some(color));
                let p = plan(&request, &[*sources.buffers().layout()], targets.buffers().layout());
                let frame = source(&sources, |_, _, _| 255);
                let done = run(&mut g2d, &p, &[frame], targets.try_acquire().unwrap());
                let (margin, middle) = (&rows(&done, 0)[3], &rows(&done, 0)[32]);
                match format {
                    "RGBA32" => assert_eq!(&margin[..4], [0x20, 0x60, 0xa0, 255]),
                    "RGBX32" => assert_eq!(&margin[..3], [0x20, 0x60, 0xa0]),
                    "RGB24" => assert_eq!(&margin[..3], [0x20, 0x60, 0xa0]),
                    "RGB565" => {
                        let word = u16::from_le_bytes([margin[0], margin[1]]);
                        assert_eq!((word >> 11, word >> 5 & 63, word & 31), (4, 24, 19));
                    }
                    _ => {
                        // BT.601 limited.
                        let yuv = [margin[0], margin[1], margin[3], 0];
                        near(yuv, [88, 166, 95, 0], 1);
                    }
                }
                assert!(middle[0] >= 235, "{format}");
            }
            fake.lawful();
        }
    }
}

#[test]
fn layers_blend_as_the_request_says() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.set("multi_source", 0).open();
        let pool = pool(layout("RGBA32", 16, 16), 3);
        let l = *pool.buffers().layout();
        let below = source(&pool, |_, _, at| [100, 200, 40, 255][at % 4]);
        let above = source(&pool, |_, _, at| [200, 0, 60, 128][at % 4]);
        let mut draw = |top: Layer| {
            let p = plan(&Request::compose([Layer::default(), top]), &[l, l], &l);
            let done = run(&mut g2d, &p, &[below.clone(), above.clone()], pool.try_acquire().unwrap());
            pixels(&done)[7][7]
        };
        let half = 128.0 / 255.0;
        let mix = |a: f64, from: [f64; 3], to: [f64; 3]| {
            let c: Vec<i32> = from.iter().zip(to).map(|(f, t)| (f * a + t * (1.0 - a)).round() as i32).collect();
            [c[0], c[1], c[2], 255]
        };
        let (from, to) = ([200.0, 0.0, 60.0], [100.0, 200.0, 40.0]);
        near(draw(Layer::default().blend(Blend::Straight)), mix(half, from, to), 2);
        near(draw(Layer::default().blend(Blend::Straight).alpha(100)), mix(half * 100.0 / 255.0, from, to), 2);
        let over = |c: f64, below: f64| (c + below * (1.0 - half)).round().min(255.0) as i32;
        let expected = [over(200.0, 100.0), over(0.0, 200.0), over(60.0, 40.0), 255];
        near(draw(Layer::default().blend(Blend::Premultiplied)), expected, 2);
        near(draw(Layer::default()), [200, 0, 60, 128], 0);
        fake.lawful();
    }
}

#[test]
fn blend_stays_on_after_a_yuv_layer() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.set("multi_source", 0).open();
        let (camera, overlay) = (pool(layout("YUYV", 16, 16), 1), pool(layout("RGBA32", 16, 16), 2));
        let (c, o) = (*camera.buffers().layout(), *overlay.buffers().layout());
        let request = Request::compose([Layer::default(), Layer::default().blend(Blend::Straight)]);
        let p = plan(&request, &[c, o], &o);
        // Gray below, a transparent white above: the gray stays.
        let sources = [source(&camera, |_, _, _| 128), source(&overlay, |_, _, at| [255, 255, 255, 0][at % 4])];
        let done = run(&mut g2d, &p, &sources, overlay.try_acquire().unwrap());
        near(pixels(&done)[3][3], [130, 130, 130, 255], 2);
        // The layer's own alpha, over a YUV layer and in one.
        let p = plan(&Request::compose([Layer::default(), Layer::default().alpha(51)]), &[o, c], &o);
        let sources = [sources[1].clone(), sources[0].clone()];
        drop(done);
        let done = run(&mut g2d, &p, &sources, overlay.try_acquire().unwrap());
        near(pixels(&done)[3][3], [230, 230, 230, 51], 3);
        fake.lawful();
    }
}

#[test]
fn layers_at_one_place_take_one_call_if_the_library_can() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        // By address: the library has no multi-blit by file.
        fake.set("blit_dmabuf", 1);
        let mut g2d = fake.open();
        let pool = pool(layout("RGBA32", 16, 16), 5);
        let l = *pool.buffers().layout();
        let tint = Layer::default().blend(Blend::Straight);
        let p = plan(&Request::compose([tint, tint, tint]), &[l; 3], &l);
        let sources: Vec<_> = (0..3).map(|i| source(&pool, move |_, _, at| [50 * i, 10, 90, 100][at % 4])).collect();
        let together = pixels(&run(&mut g2d, &p, &sources, pool.try_acquire().unwrap()));
        assert_eq!(fake.get("multi_blits"), 1);
        // A library that reports multi-blit and then refuses it: the layers are drawn one by one, and it is not called
        // again.
        fake.set("multi_source", 0);
        for _ in 0..3 {
            assert_eq!(pixels(&run(&mut g2d, &p, &sources, pool.try_acquire().unwrap())), together);
        }
        assert_eq!(fake.get("multi_blits"), 2);
        fake.lawful();
    }
}

#[test]
fn fences_are_waited_for_while_the_next_job_begins() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        fake.set("fence", 2);
        let mut g2d = fake.builder().wait(Wait::Fence).open().unwrap();
        let pool = pool(layout("RGBA32", 16, 16), 4);
        let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
        let frame = source(&pool, noise);
        let finishes = fake.get("finishes");
        for _ in 0..3 {
            g2d.begin(&p, std::slice::from_ref(&frame), pool.try_acquire().unwrap()).unwrap();
        }
        eventually(|| fake.get("fences") == 2);
        assert!(g2d.try_done().is_none());
        fake.set("fence_signals", 1);
        for _ in 0..3 {
            assert_eq!(rows(&g2d.done(TIMEOUT).unwrap(), 0), rows(&frame, 0));
        }
        assert_eq!((fake.get("fences"), fake.get("finishes")), (3, finishes));
        // The library has no fences: g2d_finish waits instead.
        fake.set("fence", 0);
        run(&mut g2d, &p, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
        assert_eq!(fake.get("finishes"), finishes + 1);
        fake.lawful();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 96 }, ..ProptestConfig::default() })]

    /// Every plan that passes the check is drawn, and breaks none of the library's rules.
    #[test]
    fn check_accepts_only_plans_that_are_drawn(
        formats in (0..framelease::format::FORMATS.len(), 0..framelease::format::FORMATS.len()),
        (w, h) in (4u32..80, 4u32..80), (tw, th) in (4u32..80, 4u32..80),
        crop in (0u32..40, 0u32..40, 1u32..80, 1u32..80), place in (0u32..40, 0u32..40, 1u32..80, 1u32..80),
        flip in 0..3usize, rotation in 0..4usize, alpha: u8, blend in 0..3usize, keep: bool,
        modern: bool, variant in 0i64..3, files: bool,
    ) {
        let names = framelease::format::FORMATS;
        let (from, to) = (names[formats.0].fourcc, names[formats.1].fourcc);
        let build = |f, w, h| framelease::format::Layout::aligned(f, Size::new(w, h), 192);
        let (Ok(from), Ok(to)) = (build(from, w, h), build(to, tw, th)) else { return Ok(()) };
        let r = |(x, y, w, h): (u32, u32, u32, u32)| rect(x as i32, y as i32, w, h);
        let mut layer = Layer::default()
            .crop(r(crop)).place(r(place)).alpha(alpha)
            .flip([Flip::None, Flip::Horizontal, Flip::Vertical][flip])
            .rotation([Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270][rotation])
            .blend([Blend::Replace, Blend::Straight, Blend::Premultiplied][blend]);
        if keep { layer = layer.fit(Scaling::Keep); }
        let Ok(p) = Plan::new(&Request::convert(layer), &[from], &to) else { return Ok(()) };
        let file = ["libg2d-viv.so", "libg2d-dpu.so", "libg2d-pxp.so"][variant as usize];
        let fake = shared_fake(modern, file);
        fake.set("variant", variant).set("nv12_target", i64::from(variant == 1)).set("blit_dmabuf", i64::from(!files));
        let mut g2d = fake.open();
        if g2d.check(&p).is_err() { return Ok(()) }
        let (sources, targets) = (pool(from, 1), pool(to, 1));
        let p = std::sync::Arc::new(p);
        g2d.begin(&p, &[source(&sources, noise)], targets.try_acquire().unwrap()).unwrap();
        let done = g2d.done(TIMEOUT);
        prop_assert!(done.is_ok(), "{:?}", done);
        fake.lawful();
    }
}

/// One copy of the fake for each kind, so that a test case does not make a file.
fn shared_fake(modern: bool, file: &'static str) -> &'static Fake {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, OnceLock, PoisonError};
    static ALL: OnceLock<Mutex<BTreeMap<(bool, &str), &Fake>>> = OnceLock::new();
    let mut all = ALL.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    all.entry((modern, file)).or_insert_with(|| {
        let fake = Fake::changed(ABIS[usize::from(modern)], &Changes { file: Some(file), ..Changes::default() });
        Box::leak(Box::new(fake))
    })
}
