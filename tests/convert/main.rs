//! Tests of the CPU converter with the conformance suite, ffmpeg and invalid input, and of behavior that all backends
//! share.

#[path = "../conformance/mod.rs"]
mod conformance;

mod ffmpeg;
mod opaque;
mod random;
mod refusals;

use std::sync::Arc;

use crate::conformance::converting::Jobs;
use framelease::capture::TestPattern;
use framelease::convert::{auto, Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, MemoryKind};
use framelease::format::Size;
use framelease::frame::{Frame, Pool};
use framelease::Station;

use conformance::{layout, picture, rgb, target_formats, WAIT};

#[test]
fn cpu_draws_the_whole_suite() {
    let report = conformance::suite(&mut Cpu::new().unwrap(), &Allocator::Memfd, 4, 35.0);
    assert!(report.refused.is_empty(), "{:#?}", report.refused);
}

/// Converts by the CPU.
fn convert(request: &Request, sources: &[Frame], target: framelease::format::Layout) -> Frame {
    let layouts: Vec<_> = sources.iter().map(|f| *f.layout()).collect();
    let plan = Arc::new(Plan::new(request, &layouts, &target).unwrap());
    let mut cpu = Cpu::new().unwrap();
    let target = Pool::new(&Allocator::Memfd, target, 1).unwrap().try_acquire().unwrap();
    cpu.begin(&plan, sources, target).unwrap();
    cpu.done(WAIT).unwrap()
}

#[test]
fn test_pattern_shows_the_same_picture_in_every_format() {
    let size = Size::new(160, 96);
    let draw = |fourcc| {
        let builder = TestPattern::builder(size).fourcc(fourcc).buffers(1).unpaced();
        let frame = builder.allocator(Allocator::Memfd).start().unwrap().try_recv().unwrap().frame().unwrap();
        rgb::rgb(&convert(&Request::convert(Layer::default()), &[frame], layout("RGB24", 160, 96, 4))).unwrap()
    };
    let expected = draw("RGB24".parse().unwrap());
    for format in target_formats().filter(|f| f.to_string() != "GREY") {
        let db = picture::psnr(&expected, &draw(format), |_| true);
        // The bars begin at any pixel, so a chroma sample may cover two.
        assert!(db > 30.0, "{format}: {db:.1} dB");
    }
}

#[test]
fn converter_keeps_the_first_source_s_time_and_frees_sources() {
    let source = picture::frame(&Allocator::Memfd, &layout("NV12", 64, 48, 4), 1, false);
    let (held, meta) = (source.buffers().clone(), *source.meta());
    let plan = Plan::new(&Request::convert(Layer::default()), &[*source.layout()], &layout("YUYV", 64, 48, 4));
    let plan = Arc::new(plan.unwrap());
    let pool = Pool::new(&Allocator::Memfd, *plan.target(), 2).unwrap();
    let mut cpu = Cpu::new().unwrap();
    cpu.begin(&plan, &[source], pool.try_acquire().unwrap()).unwrap();
    assert_eq!(held.leased(), 0);
    assert!(readable(&cpu), "a finished frame waits");
    let done = cpu.try_done().unwrap().unwrap();
    assert!(!readable(&cpu));
    assert_eq!((done.meta().sequence, done.meta().timestamp_ns), (meta.sequence, meta.timestamp_ns));
    assert_eq!(done.meta().payload[0].bytes, pool.buffers().layout().memory_bytes()[0]);
    let stats = cpu.stats();
    assert_eq!((stats.frames, stats.bytes_written), (1, 64 * 48 * 2));
    // Luma is read once. Nothing is scaled, so chroma rows between bands are not read again.
    assert_eq!(stats.bytes_read, 64 * 48 * 3 / 2);
}

fn readable(cpu: &Cpu) -> bool {
    use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(cpu.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}

#[test]
fn auto_finds_a_backend_and_names_the_others() {
    let plan = |memory| {
        Plan::new(&Request::convert(Layer::default()), &[layout("NV12", 64, 48, 16)], &layout("RGB24", 32, 24, 16))
            .unwrap()
            .memory(memory)
    };
    // A device does not take memfds.
    let choice = auto(&plan(MemoryKind::Memfd)).unwrap();
    assert_eq!(choice.converter.name(), "cpu");
    let impossible =
        Plan::new(&Request::convert(Layer::default()), &[layout("NV12", 6400, 48, 16)], &layout("RGB24", 32, 24, 16));
    let e = auto(&impossible.unwrap()).unwrap_err();
    assert!(e.to_string().contains("[cpu] convert on cpu: 6400x48 to 32x24"), "{e}");
    for refusal in &choice.refused {
        assert!(e.to_string().contains(&refusal.backend), "{e} does not name {}", refusal.backend);
    }
}
