//! Errors of the library: every frame comes back, and no call waits without end.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::conformance::converting::Jobs;
use framelease::convert::{Converter, ConverterEvent, G2d, Layer, Plan};
use framelease::frame::{Frame, Pool};
use framelease::ErrorKind;
use framelease::{Received, Station};

use super::support::*;

struct Scene {
    fake: Fake,
    g2d: G2d,
    pool: Pool,
    plan: std::sync::Arc<Plan>,
    frame: Frame,
}

fn scene(abi: framelease::convert::g2d::Abi, slots: usize) -> Scene {
    let fake = Fake::new(abi);
    let g2d = fake.open();
    let pool = pool(layout("RGBA32", 16, 16), slots);
    let plan = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
    let frame = source(&pool, noise);
    Scene { fake, g2d, pool, plan, frame }
}

impl Scene {
    fn submit(&mut self) {
        let target = self.pool.try_acquire().unwrap();
        self.g2d.begin(&self.plan, std::slice::from_ref(&self.frame), target).unwrap();
    }
}

fn is_readable(g2d: &G2d) -> bool {
    let mut fds = [nix::poll::PollFd::new(g2d.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 0u8).unwrap() == 1
}

#[test]
fn blit_error_fails_only_its_own_job() {
    for abi in ABIS {
        // Return 1 is "not supported", not success; so is anything else but 0.
        for (result, kind) in [(-1, ErrorKind::Os), (1, ErrorKind::Unsupported), (7, ErrorKind::Os)] {
            let mut s = scene(abi, 5);
            s.submit();
            s.g2d.done(TIMEOUT).unwrap();
            s.fake.set("blit_result", result).set("blit_fails_at", 1);
            s.submit();
            let rejected = s.g2d.done(TIMEOUT).unwrap_err();
            assert_eq!(rejected.error.kind(), kind, "{}", rejected.error);
            let text = rejected.error.to_string();
            assert!(
                text.starts_with("g2d_blit") && text.contains("RGBA32 16x16") || text.contains("AB24 16x16"),
                "{text}"
            );
            assert!(text.contains("libg2d-viv.so.2"), "{text}");
            // The error has the number that libg2d returned, not the C library's text for it.
            assert!(text.contains(&format!("{result} (")) && !text.contains("Success"), "{text}");
            drop(rejected.item.expect("the target comes back"));
            s.fake.set("blit_fails_at", 0);
            s.submit();
            assert_eq!(rows(&s.g2d.done(TIMEOUT).unwrap(), 0), rows(&s.frame, 0));
            s.fake.lawful();
        }
    }
}

#[test]
fn cap_that_is_refused_is_an_error_and_not_another_color() {
    for abi in ABIS {
        let fake = Fake::new(abi);
        let mut g2d = fake.open();
        let pool = pool(layout("RGBA32", 16, 16), 3);
        let wide = framelease::format::Colorimetry {
            encoding: framelease::format::Encoding::Bt709,
            ..framelease::format::Colorimetry::default()
        };
        let from = super::support::pool(layout("NV12", 16, 16).with_colorimetry(wide), 1);
        let p = simple(Layer::default(), from.buffers().layout(), pool.buffers().layout());
        // The library took the cap when it was opened.
        fake.set("no_cap", 6 + 1);
        g2d.begin(&p, &[source(&from, noise)], pool.try_acquire().unwrap()).unwrap();
        let rejected = g2d.done(TIMEOUT).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::Unsupported);
        assert!(rejected.error.to_string().contains("YUV_BT_709"), "{}", rejected.error);
        // A library that lacks it from the start refuses the plan.
        drop(g2d);
        let error = fake.open().check(&p).unwrap_err();
        assert!(error.to_string().contains("YUV_BT_709: this libg2d does not have this matrix"), "{error}");
        fake.lawful();
    }
}

#[test]
fn lost_device_returns_every_frame_and_can_be_reopened() {
    for abi in ABIS {
        let mut s = scene(abi, 6);
        s.submit();
        s.g2d.done(TIMEOUT).unwrap();
        s.fake.set("finish_hangs", 1);
        for _ in 0..4 {
            s.submit();
        }
        s.fake.set("lost_at_finish", 2).set("finish_hangs", 0);
        assert!(s.g2d.done(TIMEOUT).is_ok());
        for _ in 0..3 {
            let rejected = s.g2d.done(TIMEOUT).unwrap_err();
            assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost);
            assert!(rejected.error.to_string().starts_with("g2d_finish on "), "{}", rejected.error);
            drop(rejected.item.expect("the target comes back"));
        }
        assert_eq!(s.g2d.in_flight(), 0);
        let target = s.pool.try_acquire().unwrap();
        let rejected = s.g2d.begin(&s.plan, std::slice::from_ref(&s.frame), target).unwrap_err();
        assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost);
        drop(rejected.item);
        // The loss of the device is reported once, when no job is left.
        let lost = s.g2d.recv(TIMEOUT).unwrap();
        assert!(matches!(lost, Received::Item(ConverterEvent::Lost(_))), "{lost:?}");
        assert!(!is_readable(&s.g2d) && s.g2d.try_recv().unwrap().is_nothing());
        let Scene { fake, pool, plan, frame, g2d } = s;
        drop(g2d);
        fake.set("lost_at_finish", 0);
        let mut again = fake.open();
        let done = run(&mut again, &plan, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
        assert_eq!(rows(&done, 0), rows(&frame, 0));
        assert_eq!(fake.get("opens"), 2);
        // The thread of the lost device closes it. No call waits for that thread.
        eventually(|| fake.get("closes") == 1);
        drop((done, frame));
        eventually(|| pool.buffers().leased() == 0);
    }
}

#[test]
fn timeout_of_a_call_that_never_returns_holds_its_frames() {
    for abi in ABIS {
        let mut s = scene(abi, 4);
        s.submit();
        s.g2d.done(TIMEOUT).unwrap();
        let finishes = s.fake.get("finishes");
        s.fake.set("finish_hangs", 1);
        s.submit();
        s.submit();
        eventually(|| s.fake.get("finishes") > finishes);
        assert!(s.g2d.recv(Duration::from_millis(30)).unwrap().is_nothing());
        assert_eq!((s.g2d.in_flight(), s.pool.buffers().leased()), (2, 3));
        // The drop does not wait. Jobs that have not begun give their frames back; the hardware may still write to the
        // others.
        let Scene { fake, g2d, pool, frame, .. } = s;
        drop((g2d, frame));
        eventually(|| pool.buffers().leased() == 2);
        assert_eq!(pool.buffers().leased(), 2, "source and target of the job that hangs");
        fake.set("finish_hangs", 0);
        eventually(|| pool.buffers().leased() == 0);
        assert_eq!(fake.get("closes"), 0);
        fake.lawful();
    }
}

#[test]
fn descriptor_is_readable_while_a_finished_job_waits() {
    let mut s = scene(framelease::convert::g2d::Abi::Modern, 4);
    assert!(!is_readable(&s.g2d));
    s.submit();
    s.submit();
    eventually(|| is_readable(&s.g2d));
    s.g2d.done(TIMEOUT).unwrap();
    eventually(|| is_readable(&s.g2d));
    s.g2d.done(TIMEOUT).unwrap();
    assert!(!is_readable(&s.g2d));
    assert!(s.g2d.try_done().is_none());
}

#[test]
fn queue_that_is_full_takes_no_more_jobs() {
    let fake = Fake::new(framelease::convert::g2d::Abi::Modern);
    let mut g2d = fake.builder().depth(2).open().unwrap();
    let pool = pool(layout("RGBA32", 16, 16), 4);
    let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
    let frame = source(&pool, noise);
    for _ in 0..2 {
        g2d.begin(&p, std::slice::from_ref(&frame), pool.try_acquire().unwrap()).unwrap();
    }
    let target = pool.try_acquire().unwrap();
    let slot = target.slot();
    let full = g2d.try_submit(&p, std::slice::from_ref(&frame), target).unwrap();
    let target = full.full().expect("the queue is full");
    assert_eq!(target.slot(), slot);
    g2d.done(TIMEOUT).unwrap();
    g2d.begin(&p, std::slice::from_ref(&frame), target).unwrap();
    for _ in 0..2 {
        g2d.done(TIMEOUT).unwrap();
    }
    fake.lawful();
}

#[test]
fn jobs_run_on_many_threads_and_converters_at_once() {
    let fake = Fake::new(framelease::convert::g2d::Abi::Modern);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut g2d = fake.open();
                let pool = pool(layout("RGBA32", 16, 16), 2);
                let p = simple(Layer::default(), pool.buffers().layout(), pool.buffers().layout());
                let frame = source(&pool, noise);
                for _ in 0..50 {
                    let done = run(&mut g2d, &p, std::slice::from_ref(&frame), pool.try_acquire().unwrap());
                    assert_eq!(rows(&done, 0), rows(&frame, 0));
                }
            });
        }
    });
    fake.lawful();
}
