//! A device that is lost.

use std::os::fd::{AsFd, AsRawFd};

use framelease::convert::{Converter, ConverterEvent};
use framelease::{ErrorKind, Received, Station};

use super::fake::{Fake, Pictures, LOST, WAIT};
use crate::converting::Jobs;

#[test]
fn lost_device_gives_every_frame_back_and_is_opened_again() {
    const JOBS: usize = 5;
    for call in ["vkQueueSubmit", "vkWaitForFences"] {
        let (fake, p) = (Fake::new(), Pictures::new(JOBS));
        let mut vulkan = fake.open();
        let descriptor = vulkan.as_fd().as_raw_fd();
        for round in 0..3 {
            // The second job loses the device. It and those that wait fail.
            fake.fail(call, 2, LOST);
            for _ in 0..JOBS {
                vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
            }
            assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
            for job in 1..JOBS {
                let rejected = vulkan.done(WAIT).unwrap_err();
                assert_eq!(rejected.error.kind(), ErrorKind::DeviceLost, "{call} {job}: {}", rejected.error);
                assert!(rejected.error.to_string().contains(call), "{}", rejected.error);
                assert!(rejected.item.is_some(), "{call}: the target of job {job} comes back");
            }
            let lost = vulkan.recv(WAIT).unwrap();
            assert!(matches!(lost, Received::Item(ConverterEvent::Lost(_))), "{lost:?}");
            assert!(vulkan.try_recv().unwrap().is_nothing(), "the loss is reported once");
            assert_eq!(vulkan.in_flight(), 0);
            // All targets are free, and a job is refused with its target.
            let targets: Vec<_> = (0..JOBS).map(|_| p.targets.try_acquire().expect("a target leaked")).collect();
            let target = targets.into_iter().next().unwrap();
            let refused = vulkan.begin(&p.plan, std::slice::from_ref(&p.source), target).unwrap_err();
            assert_eq!(refused.error.kind(), ErrorKind::DeviceLost);
            vulkan.reopen().unwrap();
            assert_eq!(vulkan.as_fd().as_raw_fd(), descriptor);
            vulkan.begin(&p.plan, std::slice::from_ref(&p.source), refused.item).unwrap();
            assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()), "{call}, round {round}");
        }
        drop(vulkan);
        fake.is_empty();
    }
}

#[test]
fn reopen_that_fails_can_be_repeated() {
    let (fake, p) = (Fake::new(), Pictures::new(1));
    let mut vulkan = fake.open();
    fake.fail("vkCreateDevice", 1, LOST);
    assert_eq!(vulkan.reopen().unwrap_err().kind(), ErrorKind::DeviceLost);
    // The old device still works.
    vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
    assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
    vulkan.reopen().unwrap();
    assert_eq!(fake.get("devices"), 1);
    drop(vulkan);
    fake.is_empty();
}

/// A device that neither finishes nor fails holds its job, and the drop of the converter does not wait forever.
#[test]
fn job_that_hangs_keeps_its_frames_until_it_ends() {
    let (fake, p) = (Fake::new(), Pictures::new(3));
    let mut vulkan = fake.open();
    fake.set("hangs", 1);
    for _ in 0..3 {
        vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
    }
    assert!(vulkan.recv(std::time::Duration::from_millis(50)).unwrap().is_nothing());
    assert!(p.targets.try_acquire().is_none());
    fake.set("hangs", 0);
    for _ in 0..3 {
        assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
    }
    drop(vulkan);
    fake.is_empty();
}
