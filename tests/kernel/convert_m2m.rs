//! Tests of the mem-to-mem converter on vim2m: known pictures, counts, refusals, losses.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::conformance::converting::Jobs;
use framelease::capture::FrameSource;
use framelease::convert::{auto, Blend, Color, Converter, ConverterEvent, Cpu, Layer, M2m, Plan, Request, Scaling};
use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
use framelease::format::{ColorSpace, Colorimetry, Encoding, Flip, Layout, Range, Rect, Rotation, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::{cpu_bytes, syscalls};
use framelease::v4l2::Device;
use framelease::{ErrorKind, Received, Station};
use nix::poll::{poll, PollFd, PollFlags};

use crate::devices::*;
use crate::{allocations, conformance};

const WAIT: Duration = Duration::from_secs(20);
const QVGA: Size = Size::new(320, 240);

/// Returns a converter whose device takes `milliseconds` for each picture.
fn converter(milliseconds: i64) -> Option<M2m> {
    let device = vim2m()?;
    needed_path("udmabuf", "/dev/udmabuf")?;
    set(&device, "Transaction Time (msec)", milliseconds);
    Some(M2m::new(&device).unwrap())
}

fn pool(layout: Layout, count: usize) -> Pool {
    Pool::new(&Allocator::Udmabuf, layout, count).unwrap()
}

fn plan(layer: Layer, from: Layout, to: Layout) -> Arc<Plan> {
    Arc::new(Plan::new(&Request::convert(layer), &[from], &to).unwrap())
}

/// A byte of the known picture: component `c` of pixel (`x`, `y`).
fn byte(x: u32, y: u32, c: u32) -> u8 {
    (x * 5 + y * 11 + c * 70 + (x / 16) * (y / 16)) as u8
}

/// A frame of the known picture, three bytes for each pixel.
fn known(pool: &Pool, sequence: u64) -> Frame {
    let mut frame = pool.acquire(WAIT).expect("a free buffer");
    let size = frame.layout().size();
    {
        let mut write = frame.write(DEFAULT_WAIT).unwrap();
        for y in 0..size.height {
            let row: Vec<u8> = (0..size.width * 3).map(|i| byte(i / 3, y, i % 3)).collect();
            write.copy_row(0, y, &row).unwrap();
        }
    }
    frame.freeze_full(sequence, 1_000_000_000 + sequence)
}

fn converted(m2m: &mut M2m, plan: &Arc<Plan>, source: &Frame, targets: &Pool) -> Frame {
    m2m.begin(plan, std::slice::from_ref(source), targets.acquire(WAIT).unwrap()).unwrap();
    m2m.done(WAIT).unwrap()
}

#[test]
fn m2m_draws_known_pictures() {
    let Some(mut m2m) = converter(1) else { return };
    leaving_nothing(|| {
        let rgb = packed("RGB24", QVGA);
        let source = known(&pool(rgb, 1), 7);
        let (w, h) = (QVGA.width, QVGA.height);
        let plain = Layer::default();
        let same = |x: u32, y: u32| (x, y);
        let turned = |x: u32, y: u32| (w - 1 - x, h - 1 - y);
        type Where<'a> = &'a dyn Fn(u32, u32) -> (u32, u32);
        let cases: [(Layer, &str, Where<'_>); 7] = [
            (plain, "RGB24", &same),
            (plain, "BGR24", &same),
            (plain.flip(Flip::Horizontal), "BGR24", &|x, y| (w - 1 - x, y)),
            (plain.flip(Flip::Vertical), "RGB24", &|x, y| (x, h - 1 - y)),
            (plain.rotation(Rotation::Half), "BGR24", &turned),
            (plain.rotation(Rotation::Half), "RGB24", &turned),
            (plain.rotation(Rotation::Half).flip(Flip::Horizontal), "BGR24", &|x, y| (x, h - 1 - y)),
        ];
        for (layer, to, from) in cases {
            let targets = pool(packed(to, QVGA), 1);
            let done = converted(&mut m2m, &plan(layer, rgb, packed(to, QVGA)), &source, &targets);
            assert_eq!((done.meta().sequence, done.meta().timestamp_ns), (7, 1_000_000_007));
            let mut expected = Vec::new();
            for y in 0..h {
                for x in 0..w {
                    let (sx, sy) = from(x, y);
                    let rgb = [0, 1, 2].map(|c| byte(sx, sy, c));
                    expected.extend(if to == "BGR24" { [rgb[2], rgb[1], rgb[0]] } else { rgb });
                }
            }
            assert!(pixels(&done) == expected, "{to} {layer:?}");
        }
        // To 5, 6 and 5 bits: the driver uses the first of two pixels twice.
        let targets = pool(packed("RGB565", QVGA), 1);
        let done = pixels(&converted(&mut m2m, &plan(plain, rgb, packed("RGB565", QVGA)), &source, &targets));
        for (i, word) in done.chunks_exact(2).enumerate() {
            let [r, g, b] = [0, 1, 2].map(|c| u16::from(byte(i as u32 % w / 2 * 2, i as u32 / w, c)));
            assert_eq!(u16::from_le_bytes([word[0], word[1]]), r >> 3 << 11 | g >> 2 << 5 | b >> 3, "pixel {i}");
        }
        drop(m2m);
    });
}

#[test]
fn m2m_draws_the_suite_or_refuses_by_a_rule() {
    let Some(mut m2m) = converter(1) else { return };
    leaving_nothing(|| {
        let (mut drawn, mut refused) = (0, Vec::new());
        for case in conformance::cases(2) {
            let layer = &case.request.layers[0];
            let upright = case.sources[0].size();
            let scaled = layer.crop.is_some() || layer.place.is_some() || upright != case.target.size();
            if case.sources.len() == 1 && scaled && !layer.rotation.is_quarter() {
                // vim2m scales to the nearest neighbor, but not from the middle of its pixels.
                continue;
            }
            if case.sources[0].fourcc() == fourcc("RGB565") || case.target.fourcc() == fourcc("RGB565") {
                // It fills missing bits with ones, and repeats pixels.
                continue;
            }
            match conformance::run(&mut m2m, &Allocator::Udmabuf, &case) {
                Ok(db) => {
                    assert!(db >= 30.0, "{db:.1} dB: {case}");
                    drawn += 1;
                }
                Err(rule) => refused.push(rule),
            }
        }
        assert!(drawn >= 5 && refused.len() > 50, "{drawn} drawn, {} refused", refused.len());
        for rule in [
            "the driver gives RGBP instead",
            "the device offers",
            "sources; a mem-to-mem device takes one",
            "the device fills nothing",
            "rotate (V4L2_CID_ROTATE)",
            "which of them comes first",
        ] {
            assert!(refused.iter().any(|r| r.contains(rule)), "nothing was refused with '{rule}': {refused:#?}");
        }
        drop(m2m);
    });
}

#[test]
fn cpu_and_m2m_agree_on_yuyv() {
    let Some(mut m2m) = converter(1) else { return };
    let (rgb, yuyv) = (packed("RGB24", QVGA), packed("YUYV", QVGA));
    let source = conformance::picture::frame(&Allocator::Udmabuf, &rgb, 0, false);
    let plan = plan(Layer::default(), rgb, yuyv);
    let by_device = pixels(&converted(&mut m2m, &plan, &source, &pool(yuyv, 1)));
    let mut cpu = Cpu::new().unwrap();
    cpu.begin(&plan, &[source], pool(yuyv, 1).try_acquire().unwrap()).unwrap();
    let by_cpu = pixels(&cpu.done(WAIT).unwrap());
    let worst = by_device.iter().zip(&by_cpu).map(|(a, b)| a.abs_diff(*b)).max();
    // The device uses the color of one pixel of two.
    assert!(worst <= Some(4), "{worst:?}");
    assert!(by_device != vec![by_device[0]; by_device.len()]);
}

#[test]
fn scaling_is_done_by_the_device() {
    let Some(mut m2m) = converter(1) else { return };
    let from = packed("RGB24", QVGA);
    let source = known(&pool(from, 1), 0);
    let to = packed("RGB24", Size::new(160, 120));
    let done = pixels(&converted(&mut m2m, &plan(Layer::default(), from, to), &source, &pool(to, 1)));
    // Every second pixel of every second row.
    let expected: Vec<u8> = (0..120 * 160 * 3).map(|i| byte(i / 3 % 160 * 2, i / 480 * 2, i % 3)).collect();
    let wrong = done.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert_eq!(wrong, 0, "of {}", expected.len());
}

#[test]
fn m2m_frames_attach_nothing_again_and_cost_six_calls() {
    let Some(mut m2m) = converter(1) else { return };
    let size = Size::new(160, 120);
    let (from, to) = (pool(packed("RGB24", size), 4), pool(packed("BGR24", size), 4));
    let plan = plan(Layer::default(), *from.buffers().layout(), *to.buffers().layout());
    let sources: Vec<Frame> = (0..4).map(|i| known(&from, i)).collect();
    let mut run = |frames: usize| {
        for i in 0..frames {
            m2m.begin(&plan, std::slice::from_ref(&sources[i % 4]), to.acquire(WAIT).unwrap()).unwrap();
            if m2m.in_flight() == 3 {
                drop(m2m.done(WAIT).unwrap());
            }
        }
        while m2m.in_flight() > 0 {
            drop(m2m.done(WAIT).unwrap());
        }
    };
    let Some(attached) = calls_of(ATTACH, || run(20)) else { return };
    assert_eq!(attached, 8, "each buffer once");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let counts = || (descriptors(), mappings(), cpu_bytes(), dma_bufs());
    let before = counts();
    let (mut calls, mut heap) = (0, 0);
    let attached = calls_of(ATTACH, || {
        let then = (syscalls(), allocations::of_this_thread());
        run(1000);
        (calls, heap) = (syscalls() - then.0, allocations::of_this_thread() - then.1);
    });
    assert_eq!(attached, Some(0), "buffers are attached again");
    assert_eq!(counts(), before);
    assert_eq!(heap, 0, "allocations");
    // QBUF twice, DQBUF twice. Where a job is waited for: also a DQBUF that finds nothing, and a poll.
    assert!(calls <= 6 * 1000 + 10, "{calls} calls for 1000 frames");
    assert_eq!((from.buffers().leased(), to.buffers().leased()), (4, 0));
}

#[test]
fn jobs_in_flight_are_done_in_order_and_bounded() {
    let Some(mut m2m) = converter(20) else { return };
    leaving_nothing(|| {
        let (from, to) = (pool(packed("RGB24", QVGA), 4), pool(packed("BGR24", QVGA), 4));
        let rgb_to_bgr = plan(Layer::default(), *from.buffers().layout(), *to.buffers().layout());
        for i in 0..4 {
            m2m.begin(&rgb_to_bgr, &[known(&from, i)], to.try_acquire().unwrap()).unwrap();
        }
        assert_eq!((m2m.in_flight(), from.buffers().leased(), to.buffers().leased()), (4, 4, 4));
        let more = pool(*to.buffers().layout(), 1);
        let other = pool(*from.buffers().layout(), 1);
        let target = m2m.try_submit(&rgb_to_bgr, &[known(&other, 9)], more.try_acquire().unwrap()).unwrap().full();
        assert_eq!(target.expect("the queue is full").buffers().id(), more.buffers().id());
        // It is also full for another plan, until all jobs are taken.
        let flipped = plan(Layer::default().flip(Flip::Vertical), *from.buffers().layout(), *to.buffers().layout());
        let target = m2m.try_submit(&flipped, &[known(&other, 9)], more.try_acquire().unwrap()).unwrap().full();
        drop(target.expect("the queue is full"));
        for i in 0..4 {
            let done = m2m.done(WAIT).unwrap();
            assert_eq!(done.meta().sequence, i);
            assert_eq!(from.buffers().leased(), 3 - i as usize, "the source's lease ends with the job");
        }
        assert!(m2m.try_done().is_none());
        m2m.begin(&flipped, &[known(&other, 9)], more.try_acquire().unwrap()).unwrap();
        assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, 9);
        drop(m2m);
    });
}

#[test]
fn recv_times_out_and_the_descriptor_reports_the_job_s_end() {
    let Some(mut m2m) = converter(400) else { return };
    let (from, to) = (pool(packed("RGB24", QVGA), 1), pool(packed("BGR24", QVGA), 1));
    let plan = plan(Layer::default(), *from.buffers().layout(), *to.buffers().layout());
    m2m.begin(&plan, &[known(&from, 1)], to.try_acquire().unwrap()).unwrap();
    let readable = |m2m: &M2m, timeout: u16| {
        let mut fds = [PollFd::new(m2m.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout).unwrap();
        fds[0].revents().unwrap()
    };
    assert_eq!(readable(&m2m, 0), PollFlags::empty(), "neither finished nor in error");
    assert!(m2m.try_done().is_none());
    assert!(m2m.recv(Duration::from_millis(10)).unwrap().is_nothing());
    assert_eq!(m2m.in_flight(), 1);
    assert_eq!(readable(&m2m, 20_000), PollFlags::POLLIN);
    assert_eq!(m2m.try_done().unwrap().unwrap().meta().sequence, 1);
}

#[test]
fn converter_may_be_dropped_with_jobs_in_flight() {
    let Some(mut m2m) = converter(100) else { return };
    leaving_nothing(|| {
        let (from, to) = (pool(packed("RGB24", QVGA), 4), pool(packed("BGR24", QVGA), 4));
        let plan = plan(Layer::default(), *from.buffers().layout(), *to.buffers().layout());
        for i in 0..4 {
            m2m.begin(&plan, &[known(&from, i)], to.try_acquire().unwrap()).unwrap();
        }
        let first = m2m.done(WAIT).unwrap();
        drop(m2m);
        assert_eq!((from.buffers().leased(), to.buffers().leased()), (0, 1));
        assert!(!pixels(&first).is_empty());
    });
}

#[test]
fn unsupported_plans_are_refused_and_the_frames_returned() {
    let Some(mut m2m) = converter(1) else { return };
    let (rgb, bgr) = (packed("RGB24", QVGA), packed("BGR24", QVGA));
    let plain = Layer::default();
    let part = Rect::new(0, 0, Size::new(160, 120));
    let strided = Layout::aligned(fourcc("RGB24"), QVGA, 1024).unwrap();
    let large = Size::new(800, 600);
    let colors = |layout: Layout, encoding, range| {
        layout.with_colorimetry(Colorimetry { space: ColorSpace::Default, encoding, range, ..Colorimetry::default() })
    };
    let yuyv = packed("YUYV", QVGA);
    for (layer, from, to, rule) in [
        (plain, packed("NV12", QVGA), bgr, "asked NV12 320x240"),
        (plain, rgb, packed("NV12", QVGA), "the driver gives RGBP instead: asked NV12 320x240"),
        (plain, packed("YUYV", QVGA), bgr, "YUYV"),
        (plain, packed("RGB24", large), bgr, "640x480"),
        (plain, rgb, packed("RGB24", large), "640x480"),
        (plain, strided, bgr, "0+0/1024"),
        (plain.crop(part), rgb, bgr, "Crop 160x120@0,0 of a picture of 320x240: the device has no such selection"),
        (plain.rotation(Rotation::Clockwise90), rgb, packed("BGR24", Size::new(240, 320)), "V4L2_CID_ROTATE"),
        (plain.place(part), rgb, bgr, "fills nothing"),
        (plain.fit(Scaling::Keep).margin(Color::BLACK), rgb, packed("BGR24", Size::new(320, 320)), "fills nothing"),
        (plain, rgb, packed("ABGR32", QVGA), "V4L2_CID_ALPHA_COMPONENT"),
        (plain.blend(Blend::Straight), packed("RGBA32", QVGA), bgr, "fills nothing"),
        (plain, rgb, colors(yuyv, Encoding::Default, Range::Full), "range Full"),
    ] {
        let plan = plan(layer, from, to);
        let e = m2m.check(&plan).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(e.to_string().contains(rule), "'{rule}' is not in: {e}");
        // `begin` refuses it with the same error, and everything comes back.
        let (sources, targets) = (pool(from, 1), pool(to, 1));
        let source = sources.try_acquire().unwrap().freeze_full(0, 0);
        let rejected = m2m.begin(&plan, &[source], targets.try_acquire().unwrap()).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::Unsupported, "{}", rejected.error);
        assert_eq!((rejected.item.buffers().id(), sources.buffers().leased()), (targets.buffers().id(), 0));
    }
    // Compose over the old content of the target.
    let over = Request::convert(plain.place(part)).background(None);
    let e = m2m.check(&Plan::new(&over, &[rgb], &bgr).unwrap()).unwrap_err();
    assert!(e.to_string().contains("Compose 160x120@0,0"), "{e}");
    // A check does not disturb the jobs.
    let (sources, targets) = (pool(rgb, 2), pool(bgr, 2));
    let good = plan(plain, rgb, bgr);
    m2m.check(&good).unwrap();
    m2m.begin(&good, &[known(&sources, 1)], targets.try_acquire().unwrap()).unwrap();
    assert!(m2m.check(&plan(plain, packed("NV12", QVGA), bgr)).is_err());
    m2m.check(&plan(plain.flip(Flip::Vertical), rgb, bgr)).unwrap();
    assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, 1);
}

#[test]
fn memfds_and_frames_of_other_plans_are_refused() {
    let Some(mut m2m) = converter(1) else { return };
    let (rgb, bgr) = (packed("RGB24", QVGA), packed("BGR24", QVGA));
    let good = plan(Layer::default(), rgb, bgr);
    let e = m2m.check(&(*good).clone().memory(MemoryKind::Memfd)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("memfd"), "{e}");
    let memfd = |layout| Pool::new(&Allocator::Memfd, layout, 1).unwrap();
    for (sources, targets) in [(memfd(rgb), pool(bgr, 1)), (pool(rgb, 1), memfd(bgr))] {
        let rejected = m2m.begin(&good, &[known(&sources, 0)], targets.try_acquire().unwrap()).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::WrongFile, "{}", rejected.error);
        assert_eq!(rejected.item.buffers().id(), targets.buffers().id());
    }
    let other = packed("RGB24", Size::new(160, 120));
    let rejected = m2m.begin(&good, &[known(&pool(other, 1), 0)], pool(bgr, 1).try_acquire().unwrap()).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Mismatch);
    let rejected = m2m.begin(&good, &[], pool(bgr, 1).try_acquire().unwrap()).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(m2m.in_flight(), 0);
}

#[test]
fn handles_are_busy_and_nodes_are_not() {
    let Some(mut first) = converter(1) else { return };
    let e = M2m::new(first.device()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    let mut second = M2m::open(&first.device().info().path).unwrap();
    let (rgb, bgr) = (packed("RGB24", QVGA), packed("BGR24", QVGA));
    let (sources, targets) = (pool(rgb, 2), pool(bgr, 2));
    // Two plans at once, each with its own open of the node.
    let upright = plan(Layer::default(), rgb, bgr);
    let turned = plan(Layer::default().rotation(Rotation::Half), rgb, bgr);
    let source = known(&sources, 3);
    first.begin(&upright, std::slice::from_ref(&source), targets.try_acquire().unwrap()).unwrap();
    second.begin(&turned, std::slice::from_ref(&source), targets.try_acquire().unwrap()).unwrap();
    let (a, b) = (pixels(&first.done(WAIT).unwrap()), pixels(&second.done(WAIT).unwrap()));
    assert!(a != b && a.chunks(3).eq(b.chunks(3).rev()));
    if let Some(camera) = vivid(Planar::Single) {
        assert_eq!(M2m::new(&camera).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    if vicodec(Planar::Single).is_some() {
        let encoder = Device::find_mem_to_mem("device", |d| d.encodes_to(fourcc("FWHT"))).unwrap();
        let e = M2m::new(&encoder).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains("gives FWHT"), "{e}");
    }
    // Which of them has the lower number depends on the tests before.
    let found = M2m::find().unwrap();
    assert!(["vim2m", "fl_scaler"].contains(&found.device().info().driver.as_str()), "{:?}", found.device());
}

#[test]
fn auto_takes_the_device_for_dma_bufs_or_explains_why_not() {
    if converter(1).is_none() {
        return;
    }
    let (rgb, bgr) = (packed("RGB24", QVGA), packed("BGR24", QVGA));
    let good = plan(Layer::default(), rgb, bgr);
    let choice = auto(&good).unwrap();
    assert!(choice.converter.name().starts_with("m2m (/dev/video"), "{choice:?}");
    let choice = auto(&(*good).clone().memory(MemoryKind::Memfd)).unwrap();
    assert_eq!(choice.converter.name(), "cpu");
    assert!(choice.refused.iter().any(|r| r.error.to_string().contains("memfd")), "{choice:?}");
    let m2m = M2m::new(&vim2m().unwrap()).unwrap();
    assert_eq!(m2m.target_layout(fourcc("BGR24"), QVGA).unwrap(), bgr);
    assert_eq!(m2m.target_layout(fourcc("NV12"), QVGA).unwrap(), packed("NV12", QVGA));
    assert!(m2m.target_layout(fourcc("H264"), QVGA).is_err());
}

#[test]
fn converter_without_jobs_reports_its_loss() {
    let Some(mut m2m) = converter(1) else { return };
    leaving_nothing(|| {
        let (from, to) = (pool(packed("RGB24", QVGA), 2), pool(packed("BGR24", QVGA), 2));
        let plan = plan(Layer::default(), *from.buffers().layout(), *to.buffers().layout());
        // Before its first job, and after one.
        for sequence in 0..2 {
            unplugging_vim2m(|| {
                for _ in 0..2 {
                    let rejected = m2m.begin(&plan, &[known(&from, 9)], to.try_acquire().unwrap()).unwrap_err();
                    assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
                }
                let told = m2m.recv(WAIT).unwrap();
                assert!(matches!(told, Received::Item(ConverterEvent::Lost(_))), "{told:?}");
                assert!(m2m.recv(Duration::from_millis(50)).unwrap().is_nothing(), "reported once");
            });
            let told = m2m.recv(WAIT).unwrap();
            assert!(matches!(told, Received::Item(ConverterEvent::Returned)), "{told:?}");
            m2m.reopen().unwrap();
            m2m.begin(&plan, &[known(&from, sequence)], to.try_acquire().unwrap()).unwrap();
            assert_eq!(m2m.done(WAIT).unwrap().meta().sequence, sequence);
        }
        drop((m2m, from, to));
    });
}

#[test]
fn lost_device_ends_every_job_and_returns_the_targets() {
    let Some(mut m2m) = converter(300) else { return };
    leaving_nothing(|| {
        let (from, to) = (pool(packed("RGB24", QVGA), 4), pool(packed("BGR24", QVGA), 4));
        let plan = plan(Layer::default(), *from.buffers().layout(), *to.buffers().layout());
        let mut slots = Vec::new();
        for i in 0..4 {
            let target = to.try_acquire().unwrap();
            slots.push(target.slot());
            m2m.begin(&plan, &[known(&from, i)], target).unwrap();
        }
        let first = m2m.done(WAIT).unwrap();
        assert_eq!(first.slot(), slots[0]);
        unplugging_vim2m(|| {
            for slot in &slots[1..] {
                let rejected = m2m.done(WAIT).unwrap_err();
                assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
                assert_eq!(rejected.item.map(|t| t.slot()), Some(*slot), "in order");
            }
            assert_eq!((m2m.in_flight(), from.buffers().leased(), to.buffers().leased()), (0, 0, 1));
            let rejected = m2m.begin(&plan, &[known(&from, 9)], to.try_acquire().unwrap()).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{}", rejected.error);
            drop(rejected);
            assert_eq!(m2m.check(&plan).unwrap_err().kind(), ErrorKind::DeviceLost);
            assert!(!pixels(&first).is_empty());
            drop((m2m, first));
        });
        let mut again = M2m::new(&vim2m().unwrap()).unwrap();
        again.begin(&plan, &[known(&from, 5)], to.try_acquire().unwrap()).unwrap();
        assert_eq!(again.done(WAIT).unwrap().meta().sequence, 5);
        drop((again, from, to));
    });
}

/// Converts a camera's own buffers, without a copy.
#[test]
fn camera_frames_are_converted_without_a_copy() {
    let Some(mut m2m) = converter(1) else { return };
    let Some(device) = vivid(Planar::Single) else { return };
    leaving_nothing(|| {
        let mut camera = camera(&device, "RGB24").size(Size::new(640, 360)).buffers(4).open().unwrap();
        let from = *camera.layout().unwrap();
        let to = pool(packed("YUYV", from.size()), 2);
        let plan = plan(Layer::default(), from, *to.buffers().layout());
        let before = cpu_bytes();
        for _ in 0..10 {
            let frame = frame(&mut camera);
            let meta = *frame.meta();
            m2m.begin(&plan, &[frame], to.acquire(WAIT).unwrap()).unwrap();
            let done = m2m.done(WAIT).unwrap();
            assert_eq!((done.meta().sequence, done.meta().timestamp_ns), (meta.sequence, meta.timestamp_ns));
        }
        assert_eq!(cpu_bytes(), before);
        assert_eq!(camera.stats().leased, 0);
        drop((m2m, camera));
    });
}
