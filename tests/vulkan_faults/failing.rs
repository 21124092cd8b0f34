//! Every call that can fail, fails once.

use framelease::ErrorKind;

use super::fake::{Fake, Pictures, NO_MEMORY, WAIT};
use crate::converting::Jobs;

/// Calls with how often they were made.
type Calls = Vec<(String, i64)>;

/// The calls that can fail: when a device is opened, and in its first job.
fn calls() -> (Calls, Calls) {
    let (fake, p) = (Fake::new(), Pictures::new(1));
    let mut vulkan = fake.open();
    let opening = fake.calls();
    vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
    assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
    let before = |name: &String| opening.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count);
    let job = fake.calls().into_iter().map(|(name, count)| (name.clone(), count - before(&name)));
    let job: Calls = job.filter(|(_, count)| *count > 0).collect();
    assert!(opening.len() >= 12 && job.len() >= 9, "{opening:?} {job:?}");
    (opening, job)
}

#[test]
fn call_that_fails_once_leaves_nothing_behind() {
    let (opening, job) = calls();
    for (call, count) in &opening {
        for at in 1..=*count {
            let fake = Fake::new();
            fake.fail(call, at, NO_MEMORY);
            let e = fake.builder().open().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Os, "{call}: {e}");
            assert!(e.to_string().contains(call) && e.to_string().contains("VK_ERROR_OUT_OF_DEVICE_MEMORY"), "{e}");
            fake.is_empty();
            drop(fake.open());
            fake.is_empty();
        }
    }
    for (call, count) in &job {
        for at in 1..=*count {
            let (fake, p) = (Fake::new(), Pictures::new(2));
            let mut vulkan = fake.open();
            fake.fail(call, at, NO_MEMORY);
            // Jobs before and after it are drawn. The wait of a job that runs goes on until the device has finished.
            let is_wait = call == "vkWaitForFences";
            for round in 0..3 {
                vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
                match vulkan.done(WAIT) {
                    Ok(frame) => assert!(Pictures::is_drawn(&frame) && (round > 0 || is_wait), "{call} {at}"),
                    Err(rejected) => {
                        assert!(round == 0 && !is_wait, "{call} {at} {round}: {}", rejected.error);
                        let text = rejected.error.to_string();
                        assert!(text.contains(call) && text.contains("Fake GPU"), "{text}");
                        assert!(rejected.item.is_some(), "the target comes back");
                    }
                }
            }
            drop(vulkan);
            fake.is_empty();
        }
    }
}
