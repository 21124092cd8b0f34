//! Plans and frames that are refused before any call of the library: each rule is named, and the frames come back.

use crate::conformance::converting::Jobs;
use framelease::convert::g2d::{Abi, Answer, WarpFormat, WarpMap};
use framelease::convert::{Blend, Color, Converter, G2d, Layer, Plan, Request, Scaling};
use framelease::dmabuf::{Allocator, MemoryKind};
use framelease::format::{Colorimetry, Encoding, FourCc, Layout, Plane, Range, Rect, Rotation, Size};
use framelease::ErrorKind;

use super::support::*;

fn tight(fourcc: &str, width: u32, height: u32, stride: u32) -> Layout {
    Layout::from_strides(fourcc.parse().unwrap(), Size::new(width, height), &[stride; 3], &[]).unwrap()
}

#[track_caller]
fn refused(g2d: &G2d, plan: &Plan, text: &str) {
    let e = g2d.check(plan).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    assert!(e.to_string().contains(text) && e.to_string().starts_with("libg2d's rules on g2d ("), "{text}: {e}");
}

#[test]
fn check_error_names_each_rule() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let g2d = fake.open();
        let rgba = layout("RGBA32", 64, 64);
        let calls = ["blits", "dmabuf_blits", "clears"].map(|n| fake.get(n));
        let check = |source: Layout, target: Layout, layer: Layer, text: &str| {
            refused(&g2d, &Plan::new(&Request::convert(layer), &[source], &target).unwrap(), text);
        };
        let plain = Layer::default();
        check(tight("RGBA32", 62, 64, 62 * 4), rgba, plain, "stride must be a multiple of 16 bytes");
        check(tight("RGB24", 64, 64, 208), rgba, plain, "stride must be a multiple of 48 bytes");
        check(tight("YUV420", 32, 32, 48), rgba, plain, "stride must be a multiple of 32 bytes");
        check(tight("NV12", 16, 14, 16), rgba, plain, "plane 1 begins at byte 224, not at a multiple of 64");
        check(layout("RGBA32", 64, 63), rgba, plain, "must be even");
        check(tight("NV12", 63, 64, 64), rgba, plain, "must be even");
        check(layout("RGBA32", 2, 64), rgba, plain, "at least 4x4");
        check(layout("GREY", 64, 64), rgba, plain, "GREY is not a source format");
        check(layout("VYUY", 64, 64), rgba, plain, "VYUY is not a source format of the GPU's libg2d");
        check(rgba, layout("NV12", 64, 64), plain, "NV12 is not a target format of the GPU's libg2d (query and trial)");
        check(rgba, layout("UYVY", 64, 64), plain, "UYVY is not a target format");
        let own = |stride| Plane { memory: 1, offset_bytes: 0, stride_bytes: stride };
        let planes = [Plane { memory: 0, offset_bytes: 0, stride_bytes: 64 }, own(128)];
        let fourcc: FourCc = "NV12M".parse().unwrap();
        let two = Layout::from_planes(fourcc, Size::new(64, 64), &[4096, 4096], &planes).unwrap();
        check(two, rgba, plain, "one stride for all planes; plane 1 has 128, not 64");
        let color = |encoding, range| Colorimetry { encoding, range, ..Colorimetry::default() };
        let bt2020 = layout("NV12", 64, 64).with_colorimetry(color(Encoding::Bt2020, Range::Default));
        check(bt2020, rgba, plain, "Bt2020");
        let studio = rgba.with_colorimetry(color(Encoding::Default, Range::Limited));
        check(layout("NV12", 64, 64), studio, plain, "takes RGB as full range");
        let wide = layout("YUYV", 64, 64).with_colorimetry(color(Encoding::Bt709, Range::Default));
        check(layout("NV12", 64, 64), wide, plain, "one matrix for both");
        check(rgba, layout("YUYV", 64, 64), plain.alpha(99), "blending reads the target");
        check(rgba, rgba, plain.blend(Blend::Premultiplied).alpha(99), "premultiplied pixels with a layer alpha");
        check(rgba, rgba, plain.alpha(99), "by the layer alpha alone");
        let place = |w, h| plain.place(Rect::new(0, 0, Size::new(w, h)));
        check(layout("RGBX32", 2048, 64), rgba, place(4, 4), "shrinks by 256");
        check(rgba, layout("RGBX32", 2048, 64), plain.crop(Rect::new(0, 0, Size::new(4, 4))), "enlarges by 256");
        let veil: Color = "20202080".parse().unwrap();
        let request = Request::convert(plain.fit(Scaling::Keep)).background(Some(veil));
        refused(&g2d, &Plan::new(&request, &[layout("RGBA32", 64, 32)], &rgba).unwrap(), "g2d_clear ignores alpha");
        let plan = Plan::new(&Request::convert(plain), &[rgba], &rgba).unwrap().memory(MemoryKind::Memfd);
        refused(&g2d, &plan, "memfds");
        assert_eq!(["blits", "dmabuf_blits", "clears"].map(|n| fake.get(n)), calls, "the library was called");
        fake.lawful();
    }
}

#[test]
fn tiles_are_a_source_of_the_dpu_alone() {
    let rgba = layout("RGBA32", 64, 64);
    let plan = |format: &str| {
        let tiles = Layout::from_strides(format.parse().unwrap(), Size::new(64, 64), &[128; 2], &[]).unwrap();
        Plan::new(&Request::convert(Layer::default()), &[tiles], &rgba).unwrap()
    };
    for abi in ABIS {
        let open = |variant, file, without: &[&str]| {
            let fake = Fake::changed(abi, &Changes { file: Some(file), without, ..Changes::default() });
            fake.set("variant", variant).open()
        };
        let dpu = open(1, "libg2d-dpu.so", &[]);
        dpu.check(&plan("NV12_8L128")).unwrap();
        refused(&dpu, &plan("NV12_10BE_8L128"), "NV12_10BE_8L128 is not a format of libg2d");
        for g2d in
            [open(0, "libg2d-viv.so", &[]), open(2, "libg2d-pxp.so", &[]), open(1, "libg2d-dpu.so", &["g2d_blitEx"])]
        {
            refused(&g2d, &plan("NV12M_8L128"), "NA12: this libg2d does not read its tiles");
        }
    }
}

#[test]
fn pxp_has_narrower_limits() {
    for abi in ABIS {
        let file = Changes { file: Some("libg2d-pxp.so.2.1.0"), ..Changes::default() };
        let fake = Fake::changed(abi, &file);
        let g2d = fake.set("variant", 2).set("dst_yuv", 0).open();
        let rgba = layout("RGBA32", 64, 64);
        let one = |source, target| Plan::new(&Request::convert(Layer::default()), &[source], &target).unwrap();
        refused(&g2d, &one(layout("RGBA32", 2048, 64), rgba), "the PXP's libg2d shrinks by 16");
        refused(&g2d, &one(rgba, layout("YUYV", 64, 64)), "YUYV is not a target format of the PXP's libg2d");
        refused(&g2d, &one(rgba, layout("RGB24", 64, 64)), "is not a target format");
        assert!(g2d.check(&one(layout("VYUY", 1024, 64), rgba)).is_ok());
        // Its library takes these for other formats, blends and turns in two passes, and its copy ends the process.
        let lacking = framelease::format::FORMATS.iter().filter(|f| matches!(f.g2d, Some(7 | 9 | 10 | 11)));
        assert_eq!(lacking.clone().count(), 4);
        for format in lacking {
            let from = Layout::aligned(format.fourcc, Size::new(64, 64), 192).unwrap();
            refused(&g2d, &one(from, rgba), "is not a source format of the PXP's libg2d");
        }
        let turned = Layer::default().alpha(128).rotation(Rotation::Half);
        let plan = Plan::new(&Request::convert(turned), &[rgba], &rgba).unwrap();
        refused(&g2d, &plan, "blends or turns");
        refused(&g2d, &one(layout("NV12", 64, 64), layout("NV12", 64, 64)), "NV12 is not a target format");
    }
}

#[test]
fn library_without_caps_for_its_matrix_draws_by_that_matrix_alone() {
    // The PXP's library, and a GPU's before header 1.5.
    for (abi, file, setting) in [
        (Abi::Legacy, "libg2d-pxp.so.2", ("variant", 2)),
        (Abi::Modern, "libg2d-pxp.so.2", ("variant", 2)),
        (Abi::Legacy, "libg2d-viv.so.2", ("header", 14)),
    ] {
        let fake = Fake::changed(abi, &Changes { file: Some(file), ..Changes::default() });
        let mut g2d = fake.set(setting.0, setting.1).open();
        let rgba = pool(layout("RGBA32", 64, 64), 1);
        let narrow = pool(layout("NV12", 64, 64), 1);
        let p = simple(Layer::default(), narrow.buffers().layout(), rgba.buffers().layout());
        run(&mut g2d, &p, &[source(&narrow, noise)], rgba.try_acquire().unwrap());
        let colors = |encoding, range| Colorimetry { encoding, range, ..Colorimetry::default() };
        for colors in [colors(Encoding::Bt709, Range::Limited), colors(Encoding::Bt601, Range::Full)] {
            let from = layout("NV12", 64, 64).with_colorimetry(colors);
            let p = Plan::new(&Request::convert(Layer::default()), &[from], rgba.buffers().layout()).unwrap();
            refused(&g2d, &p, "this libg2d has one matrix, YUV_BT_601");
        }
        fake.lawful();
    }
}

#[test]
fn target_layout_passes_the_rules() {
    let fake = Fake::new(Abi::Modern);
    let g2d = fake.set("variant", 1).set("nv12_target", 1).open();
    for name in ["RGBA32", "RGB565", "RGB24", "YUYV", "NV12"] {
        for (w, h) in [(640, 360), (1920, 1080), (4, 4), (30, 46), (322, 242)] {
            let target = g2d.target_layout(name.parse().unwrap(), Size::new(w, h)).unwrap();
            let plan = Plan::new(&Request::convert(Layer::default()), &[layout("NV12", 64, 64)], &target).unwrap();
            assert!(g2d.check(&plan).is_ok(), "{target}: {:?}", g2d.check(&plan));
        }
    }
}

#[test]
fn nv12_is_a_target_if_query_and_trial_agree() {
    for abi in ABIS {
        for (query, works, answer) in [(0, 1, Answer::No), (1, 0, Answer::No), (1, 1, Answer::Yes)] {
            let file = Changes { file: Some("libg2d-dpu.so"), ..Changes::default() };
            let fake = Fake::changed(abi, &file);
            let mut g2d = fake.set("variant", 1).set("dst_yuv", query).set("nv12_target", works).open();
            assert_eq!(g2d.report().nv12_target, answer, "{}", g2d.report().nv12_why);
            let (sources, targets) = (pool(layout("RGBA32", 32, 16), 1), pool(layout("NV12", 32, 16), 1));
            let p = simple(Layer::default(), sources.buffers().layout(), targets.buffers().layout());
            let frame = source(&sources, |_, _, at| [0, 255, 0, 255][at % 4]);
            let target = targets.try_acquire().unwrap();
            match g2d.begin(&p, &[frame], target) {
                Ok(()) => {
                    assert_eq!(answer, Answer::Yes);
                    let done = g2d.done(TIMEOUT).unwrap();
                    assert_eq!((rows(&done, 0)[7][9], &rows(&done, 1)[3][6..8]), (145, &[54, 34][..]));
                }
                Err(rejected) => {
                    assert_eq!(answer, Answer::No);
                    assert_eq!(rejected.error.kind(), ErrorKind::Unsupported);
                    drop(rejected.item);
                    assert_eq!(targets.buffers().leased(), 0);
                }
            }
            fake.lawful();
        }
        // Without memory for a trial, the library's answer to the first job decides.
        let fake = Fake::changed(abi, &Changes { file: Some("libg2d-dpu.so"), without: &["g2d_alloc"], replace: &[] });
        let mut g2d = fake.set("variant", 1).open();
        assert_eq!(g2d.report().nv12_target, Answer::Unknown);
        let (sources, targets) = (pool(layout("RGBA32", 32, 16), 1), pool(layout("NV12", 32, 16), 1));
        let p = simple(Layer::default(), sources.buffers().layout(), targets.buffers().layout());
        g2d.begin(&p, &[source(&sources, noise)], targets.try_acquire().unwrap()).unwrap();
        let rejected = g2d.done(TIMEOUT).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::Unsupported, "{}", rejected.error);
        assert!(rejected.item.is_some());
    }
}

#[test]
fn submit_returns_frames_that_do_not_fit_the_plan() {
    let fake = Fake::new(Abi::Modern);
    let mut g2d = fake.open();
    let (pool, small) = (pool(layout("RGBA32", 48, 32), 3), pool(layout("RGBA32", 16, 16), 2));
    let l = *pool.buffers().layout();
    let p = simple(Layer::default(), &l, &l);
    let frame = source(&pool, noise);
    // A target that is too small, another source, and no source.
    let target = small.try_acquire().unwrap();
    let rejected = g2d.begin(&p, std::slice::from_ref(&frame), target).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Mismatch);
    drop(rejected.item);
    let other = source(&small, noise);
    let rejected = g2d.begin(&p, &[other], pool.try_acquire().unwrap()).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Mismatch);
    let rejected = g2d.begin(&p, &[], rejected.item).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::InvalidArgument);
    // The target's generation is older than the one that the plan is bound to.
    let newer = super::support::pool(l, 1);
    let bound = Plan::new(&Request::convert(Layer::default()), &[l], &l).unwrap().bound_to(newer.buffers()).unwrap();
    let rejected = g2d.begin(&std::sync::Arc::new(bound), std::slice::from_ref(&frame), rejected.item).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Mismatch);
    assert!(rejected.error.to_string().contains("generation"), "{}", rejected.error);
    // Source and target in one buffer.
    let buffer = pool.buffers().memory(frame.slot()).to_vec();
    let twin = framelease::frame::Pool::from_memory(l, vec![buffer]).unwrap();
    let same = g2d.begin(&p, std::slice::from_ref(&frame), twin.try_acquire().unwrap()).unwrap_err();
    assert!(same.error.to_string().contains("the target overlaps the source"), "{}", same.error);
    // The data begin between two aligned addresses.
    let mut meta = *frame.meta();
    meta.payload[0].offset_bytes = 8;
    let rejected = g2d.begin(&p, &[frame.clone().with_meta(meta)], rejected.item).unwrap_err();
    assert!(rejected.error.to_string().contains("the data begin at byte 8"), "{}", rejected.error);
    drop((rejected.item, frame));
    assert_eq!((pool.buffers().leased(), small.buffers().leased(), g2d.in_flight()), (0, 0, 0));
    assert_eq!(fake.get("dmabuf_blits"), 0);
}

#[test]
fn warp_is_offered_if_the_library_offers_it() {
    for abi in ABIS {
        let table = |bytes| Allocator::Memfd.allocate(bytes, "warp").unwrap();
        let map = || WarpMap::new(table(4096), WarpFormat::Points, 32, Size::new(16, 16));
        let fake = Fake::new(abi);
        assert_eq!(fake.open().set_warp(Some(map())).unwrap_err().kind(), ErrorKind::Unsupported);
        let fake = Fake::new(abi);
        let mut g2d = fake.set("warp", 1).open();
        let large = WarpMap::new(table(4096), WarpFormat::Points, 32, Size::new(64, 64));
        assert_eq!(g2d.set_warp(Some(large)).unwrap_err().kind(), ErrorKind::Mismatch);
        for absurd in [Size::new(u32::MAX, u32::MAX), Size::new(0, 16)] {
            let map = WarpMap::new(table(4096), WarpFormat::Points, u8::MAX, absurd);
            assert_eq!(g2d.set_warp(Some(map)).unwrap_err().kind(), ErrorKind::Mismatch);
        }
        g2d.set_warp(Some(map().start(1, 2).delta([1, 2, 3, 4]))).unwrap();
        let pool = pool(layout("RGBA32", 16, 16), 2);
        let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
        let frame = source(&pool, noise);
        run(&mut g2d, &p, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
        assert_eq!(fake.get("warps"), 1);
        // A copy of bytes cannot dewarp. The job is refused, not done without the warp.
        let nv12 = super::support::pool(layout("NV12", 64, 48), 2);
        let copy = simple(Layer::default(), nv12.buffers().layout(), nv12.buffers().layout());
        let rejected = g2d.begin(&copy, &[source(&nv12, noise)], nv12.try_acquire().unwrap()).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::Unsupported, "{}", rejected.error);
        assert!(rejected.error.to_string().contains("cannot dewarp"), "{}", rejected.error);
        g2d.set_warp(None).unwrap();
        run(&mut g2d, &p, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
        assert_eq!(fake.get("warps"), 1);
        fake.lawful();
    }
}
