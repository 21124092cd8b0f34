//! Tests of Mesa's lavapipe between a camera and an encoder, and of what a job costs.

use std::fs::File;
use std::io::BufReader;
use std::process::{Command, Stdio};
use std::sync::Arc;

use framelease::bitstream::Codec;
use framelease::capture::FrameSource;
use framelease::codec::Encoder;
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::Pool;
use framelease::stats::cpu_bytes;
use framelease::ErrorKind;

use crate::allocations;
use crate::coding::{coded, drained, h264, params, Judged, WAIT};
use crate::conformance::converting::Jobs;
use crate::conformance::picture::psnr;
use crate::conformance::rgb::rgb;
use crate::conformance::WAIT as LONG;
use crate::devices::*;
use crate::share::example;
use crate::vulkan::support::vulkan;

#[test]
fn vulkan_takes_the_camera_s_writable_buffers_and_the_encoder_takes_its_own() {
    const TARGET: Size = Size::new(320, 180);
    for (planar, format) in [(Planar::Single, "NV12"), (Planar::Multi, "NV12M"), (Planar::Single, "YUYV")] {
        let (Some(device), Some(encoder)) = (vivid(planar), h264("")) else { return };
        let Some((mut vulkan, _)) = vulkan() else { return };
        let mut camera = camera(&device, format).writable_buffers().open().unwrap();
        let source = *camera.layout().unwrap();
        let target = vulkan.target_layout(fourcc("NV12"), TARGET).unwrap();
        let plan = Plan::new(&Request::convert(Layer::default()), &[source], &target).unwrap();
        let plan = Arc::new(plan.memory_of(&frame(&mut camera)));
        vulkan.check(&plan).unwrap();
        let pool = Pool::new(&Allocator::Udmabuf, target, 4).unwrap();
        let builder = Encoder::builder(params(Codec::H264, TARGET)).device(encoder);
        let mut encoder = builder.open(pool.buffers()).unwrap();
        let mut judge = Judged::new(&format!("vulkan-{format}"));
        for i in 0..6 {
            let frame = frame(&mut camera);
            let before = cpu_bytes();
            vulkan.begin(&plan, std::slice::from_ref(&frame), pool.acquire(WAIT).unwrap()).unwrap();
            let drawn = vulkan.done(LONG).unwrap();
            let packet = coded(&mut encoder, drawn.clone());
            assert_eq!(cpu_bytes(), before, "{format}: no pixel is touched");
            assert_eq!(packet.meta().source, Some(frame.meta().sequence));
            judge.frame(&drawn);
            judge.packet(&packet);
            drop(packet);
            if i == 0 {
                let mut cpu = Cpu::new().unwrap();
                cpu.begin(&plan, &[frame], pool.acquire(WAIT).unwrap()).unwrap();
                let expected = cpu.done(WAIT).unwrap();
                let db = psnr(&rgb(&expected).unwrap(), &rgb(&drawn).unwrap(), |_| true);
                assert!(db > 40.0, "{format}: {db:.1} dB");
            }
        }
        assert!(drained(&mut encoder).is_empty());
    }
}

#[test]
fn camera_s_buffers_are_read_only_by_default_and_the_error_names_the_option() {
    let (Some(device), Some((mut vulkan, allocator))) = (vivid(Planar::Single), vulkan()) else { return };
    let mut camera = camera(&device, "NV12").open().unwrap();
    let source = frame(&mut camera);
    let target = vulkan.target_layout(fourcc("NV12"), Size::new(320, 180)).unwrap();
    let plan = Plan::new(&Request::convert(Layer::default()), &[*source.layout()], &target).unwrap();
    let names_it = |text: String| assert!(text.contains("CameraBuilder::writable_buffers"), "{text}");
    let refused = vulkan.check(&plan.clone().memory_of(&source)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    names_it(refused.to_string());
    let pool = Pool::new(&allocator, target, 1).unwrap();
    vulkan.begin(&Arc::new(plan), &[source], pool.try_acquire().unwrap()).unwrap();
    let rejected = vulkan.done(LONG).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Unsupported, "{}", rejected.error);
    names_it(rejected.error.to_string());
    assert!(rejected.item.is_some(), "the target comes back");
}

#[test]
fn vulkan_keeps_nothing_of_a_thousand_jobs() {
    let Some((mut vulkan, allocator)) = vulkan() else { return };
    let layout = packed("RGBA32", Size::new(16, 16));
    let (sources, targets) = (Pool::new(&allocator, layout, 1).unwrap(), Pool::new(&allocator, layout, 2).unwrap());
    let source = sources.try_acquire().unwrap().freeze_full(1, 1);
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[layout], &layout).unwrap());
    let mut jobs = |count: usize| {
        for _ in 0..count {
            vulkan.begin(&plan, std::slice::from_ref(&source), targets.try_acquire().unwrap()).unwrap();
            drop(vulkan.done(LONG).unwrap());
        }
    };
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("/dmabuf:").count();
    let counts = || (count("/proc/self/fd"), count("/proc/self/task"), mappings(), dma_bufs());
    jobs(20);
    let (before, allocated) = (counts(), allocations::of_all_threads());
    jobs(1_000);
    assert_eq!(allocations::of_all_threads() - allocated, 0, "allocations");
    assert_eq!(counts(), before, "descriptors, threads, mapped dma-bufs, dma-bufs");
}

/// The lab's `target/lab/out` keeps the picture.
#[test]
fn convert_example_draws_by_vulkan() {
    let (Some((mut vulkan, allocator)), Some(program)) = (vulkan(), example("convert")) else { return };
    // The driver compiles the shader, and leaves the result for the program.
    let layout = packed("RGBA32", Size::new(16, 16));
    let (sources, targets) = (Pool::new(&allocator, layout, 1).unwrap(), Pool::new(&allocator, layout, 1).unwrap());
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[layout], &layout).unwrap());
    let source = sources.try_acquire().unwrap().freeze_full(1, 1);
    vulkan.begin(&plan, &[source], targets.try_acquire().unwrap()).unwrap();
    drop(vulkan.done(LONG).unwrap());
    let folder = Judged::folder();
    let draw = |backend: &str| {
        let png = folder.with_file_name(format!("convert-{backend}.png"));
        let args = ["--input-size", "320x180", "--size", "256x256", "--keep-ratio", "--background", "2060a0", "--json"];
        let mut command = Command::new(&program);
        command.args(args).args(["--backend", backend, "--png"]).arg(&png).env("FRAMELEASE_VULKAN_DEVICE", "llvmpipe");
        let done = ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{done:?}");
        assert!(printed.contains(&format!("\"backend\":\"{backend}")), "{printed}");
        let mut reader = png::Decoder::new(BufReader::new(File::open(&png).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (printed, pixels)
    };
    let ((printed, drawn), (_, expected)) = (draw("vulkan"), draw("cpu"));
    assert!(printed.contains("\"cpu_bytes_read_per_frame\":0,\"cpu_bytes_written_per_frame\":0"), "{printed}");
    let db = psnr(&expected, &drawn, |_| true);
    assert!(db > 40.0, "{db:.1} dB");
}
