//! Tests of Mesa's lavapipe between a camera and an encoder, and of what a job costs.

use std::fs::File;
use std::io::{BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::capture::{Camera, CameraBuilder, FrameSource};
use framelease::codec::{Encoder, EncoderEvent};
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::Pool;
use framelease::negotiate::{Negotiated, Negotiation};
use framelease::stats::cpu_bytes;
use framelease::{ErrorKind, Received, Station, Submit};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::allocations;
use crate::coding::{coded, drained, h264, params, Judged, WAIT};
use crate::conformance::converting::Jobs;
use crate::conformance::picture::psnr;
use crate::conformance::rgb::rgb;
use crate::conformance::WAIT as LONG;
use crate::devices::*;
use crate::share::example;
use crate::vulkan::support::vulkan;
use crate::vulkan_driver;

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

/// A guest without a scaler, whose one GPU is named.
struct NoScaler;

impl NoScaler {
    fn new() -> Self {
        unload("fl_scaler");
        unload("vim2m");
        std::env::set_var("FRAMELEASE_VULKAN_DEVICE", "llvmpipe");
        Self
    }
}

impl Drop for NoScaler {
    fn drop(&mut self) {
        std::env::remove_var("FRAMELEASE_VULKAN_DEVICE");
        reload("fl_scaler", "");
        reload("vim2m", "");
    }
}

#[test]
fn negotiation_scales_by_vulkan_where_no_v4l2_device_does() {
    const TARGET: Size = Size::new(160, 90);
    let (Some(device), Some(encoder)) = (vivid(Planar::Single), h264("")) else { return };
    let Some(()) = compiled() else { return };
    let _no_scaler = NoScaler::new();
    let open = |camera: CameraBuilder| {
        let wish = camera.formats([fourcc("NV12")]).size(Size::new(320, 180));
        Negotiation::new(params(Codec::H264, TARGET)).encoder(encoder.clone()).camera(wish).open()
    };
    let refused = open(Camera::builder().device(device.clone())).unwrap_err().to_string();
    assert!(refused.contains("CameraBuilder::writable_buffers"), "{refused}");
    let Negotiated { mut source, mut encoder, .. } = open(Camera::builder().device(device).writable_buffers()).unwrap();
    assert!(encoder.converter().is_some_and(|name| name.starts_with("vulkan")), "{encoder:?}");
    let before = cpu_bytes();
    for turn in 0..4 {
        let frame = source.recv(WAIT).unwrap().frame().expect("a frame");
        let sequence = frame.meta().sequence;
        assert!(encoder.submit(frame, LONG).unwrap().is_taken());
        match encoder.recv(LONG).unwrap() {
            Received::Item(EncoderEvent::Packet(packet)) => {
                assert_eq!((packet.meta().source, packet.is_key()), (Some(sequence), turn == 0));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cpu_bytes(), before, "no pixel is touched");
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

/// The suite in a program of its own, whose calls the validation layer watches.
#[test]
fn vulkan_draws_the_suite_without_a_word_of_the_validation_layer() {
    const LIMIT: Duration = Duration::from_secs(900);
    let Some(()) = compiled() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "vulkan::conforming::vulkan_draws_the_suite", "--nocapture", "--test-threads=1"]);
    vulkan_driver::add_layer(&mut command);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (id, start) = (Pid::from_raw(child.id() as i32), Instant::now());
    let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !thread.is_finished() {
        if start.elapsed() > LIMIT {
            kill(id, Signal::SIGKILL).unwrap();
        }
        // The lab gives up on a guest that prints nothing. Not `eprintln!`, which the test harness captures.
        let _ = writeln!(std::io::stderr(), "the suite runs under the validation layer for {:?}", start.elapsed());
        std::thread::sleep(Duration::from_secs(10));
    }
    let output = thread.join().unwrap();
    let found = vulkan_driver::found_by_layer(&output);
    assert!(found.is_empty(), "{found:#?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed") && !String::from_utf8_lossy(&output.stderr).contains("SKIPPED"), "{text}");
}

/// The driver compiles the shader, and leaves the result for programs.
pub fn compiled() -> Option<()> {
    let (mut vulkan, allocator) = vulkan()?;
    let layout = packed("RGBA32", Size::new(16, 16));
    let (sources, targets) = (Pool::new(&allocator, layout, 1).unwrap(), Pool::new(&allocator, layout, 1).unwrap());
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[layout], &layout).unwrap());
    let source = sources.try_acquire().unwrap().freeze_full(1, 1);
    vulkan.begin(&plan, &[source], targets.try_acquire().unwrap()).unwrap();
    drop(vulkan.done(LONG).unwrap());
    Some(())
}

/// The lab's `target/lab/out` keeps the picture.
#[test]
fn convert_example_draws_by_vulkan() {
    let (Some(()), Some(program)) = (compiled(), example("convert")) else { return };
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
