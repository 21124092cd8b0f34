//! Frames that do not fit the plan: they are refused with a reason, and the target comes back.

use super::*;
use crate::conformance::converting::Jobs;
use framelease::convert::MAX_LAYERS;
use framelease::frame::{FrameMut, Payload};
use framelease::ErrorKind;

struct Setup {
    plan: Arc<Plan>,
    source: Frame,
    pool: Pool,
}

fn setup() -> Setup {
    let source = picture::frame(&Allocator::Memfd, &layout("NV12", 64, 48, 4), 0, false);
    let target = layout("RGB24", 64, 48, 4);
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[*source.layout()], &target).unwrap());
    Setup { plan, source, pool: Pool::new(&Allocator::Memfd, target, 1).unwrap() }
}

/// Submits, and asserts that the frames come back and that the error has this `kind` and contains `text`.
fn refused(plan: &Arc<Plan>, sources: &[Frame], target: FrameMut, kind: ErrorKind, text: &str) {
    let (slot, buffers) = (target.slot(), target.buffers().clone());
    let held: Vec<usize> = sources.iter().map(|s| s.buffers().leased()).collect();
    let mut cpu = Cpu::new().unwrap();
    let rejected = cpu.begin(plan, sources, target).unwrap_err();
    assert_eq!(rejected.error.kind(), kind, "{rejected}");
    assert!(rejected.to_string().contains(text), "{rejected}");
    assert_eq!((rejected.item.slot(), rejected.item.buffers().id()), (slot, buffers.id()));
    assert_eq!(sources.iter().map(|s| s.buffers().leased()).collect::<Vec<_>>(), held);
    assert_eq!(cpu.in_flight(), 0);
    assert!(cpu.try_done().is_none());
}

#[test]
fn submit_refuses_other_layouts() {
    let s = setup();
    let other = picture::frame(&Allocator::Memfd, &layout("NV12", 64, 48, 64), 0, false);
    let strided = picture::frame(&Allocator::Memfd, &layout("NV12", 64, 48, 128), 0, false);
    assert_eq!(other.layout(), s.source.layout());
    refused(&s.plan, &[strided], s.pool.try_acquire().unwrap(), ErrorKind::Mismatch, "source 0");
    let small = Pool::new(&Allocator::Memfd, layout("RGB24", 32, 24, 4), 1).unwrap();
    refused(&s.plan, std::slice::from_ref(&s.source), small.try_acquire().unwrap(), ErrorKind::Mismatch, "RGB3 32x24");
    refused(&s.plan, &[], s.pool.try_acquire().unwrap(), ErrorKind::InvalidArgument, "0 frames");
}

#[test]
fn submit_refuses_another_generation() {
    let s = setup();
    let bound = Arc::new((*s.plan).clone().bound_to(s.pool.buffers()).unwrap());
    let again = Pool::new(&Allocator::Memfd, *s.plan.target(), 1).unwrap();
    let text = "another pool generation";
    refused(&bound, std::slice::from_ref(&s.source), again.try_acquire().unwrap(), ErrorKind::Mismatch, text);
    let other = Pool::new(&Allocator::Memfd, layout("RGB24", 32, 24, 4), 1).unwrap();
    assert_eq!((*s.plan).clone().bound_to(other.buffers()).unwrap_err().kind(), ErrorKind::Mismatch);
    Cpu::new().unwrap().begin(&bound, &[s.source], s.pool.try_acquire().unwrap()).unwrap();
}

#[test]
fn submit_refuses_a_frame_with_less_data_than_its_layout() {
    let s = setup();
    let mut meta = *s.source.meta();
    meta.payload[0] = Payload { offset_bytes: 0, bytes: 64 * 48 };
    let short = s.source.with_meta(meta);
    refused(&s.plan, &[short], s.pool.try_acquire().unwrap(), ErrorKind::Mismatch, "the frame has 3072");
}

#[test]
fn submit_refuses_data_outside_their_buffer() {
    let s = setup();
    for offset_bytes in [64 * 48 * 2, u32::MAX / 64 * 64] {
        let mut meta = *s.source.meta();
        meta.payload[0].offset_bytes = offset_bytes;
        let beyond = s.source.clone().with_meta(meta);
        refused(
            &s.plan,
            &[beyond],
            s.pool.try_acquire().unwrap(),
            ErrorKind::Mismatch,
            "the data of memory plane 0 end",
        );
    }
}

#[test]
fn submit_refuses_a_target_that_is_its_own_source() {
    let rgb = layout("RGB24", 64, 48, 4);
    let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[rgb], &rgb).unwrap());
    let buffer = Allocator::Memfd.allocate(64 * 48 * 3, "one").unwrap();
    let pool = || Pool::from_memory(rgb, vec![vec![buffer.clone()]]).unwrap();
    let source = pool().try_acquire().unwrap().freeze_full(0, 0);
    let target = pool().try_acquire().unwrap();
    refused(&plan, &[source], target, ErrorKind::InvalidArgument, "the target overlaps the source");
}

#[test]
fn plan_refuses_a_hundred_layers() {
    let s = setup();
    let e = Plan::new(&Request::compose(vec![Layer::default(); 100]), &[*s.source.layout(); 100], s.plan.target());
    assert!(e.unwrap_err().to_string().contains(&format!("1 to {MAX_LAYERS}")));
}

#[test]
fn submit_is_full_while_too_many_finished_frames_wait() {
    let s = setup();
    let pool = Pool::new(&Allocator::Memfd, *s.plan.target(), 64).unwrap();
    let mut cpu = Cpu::new().unwrap();
    while let Some(target) = pool.try_acquire() {
        cpu.begin(&s.plan, std::slice::from_ref(&s.source), target).unwrap();
    }
    let target = s.pool.try_acquire().unwrap();
    assert!(!cpu.try_submit(&s.plan, std::slice::from_ref(&s.source), target).unwrap().is_taken());
    assert_eq!(cpu.in_flight(), 64);
    for _ in 0..64 {
        assert!(cpu.try_done().is_some());
    }
    assert!(cpu.try_done().is_none());
}
