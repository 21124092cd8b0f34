//! The cost of a job of `convert::Vulkan`, as counts: allocations in any thread, descriptors, mappings, memory of the
//! device. The device is the fake of `tests/fakes/vulkan`.

#[path = "kernel/allocations.rs"]
mod allocations;
#[path = "converting/mod.rs"]
mod converting;
#[path = "vulkan_faults/fake.rs"]
mod fake;

use framelease::convert::{Converter, Vulkan};
use framelease::stats::{cpu_bytes, syscalls};

use converting::Jobs;
use fake::{descriptors, Fake, Pictures, NO_MEMORY, WAIT};

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// One test only: it looks at the whole process, so no other test may run at the same time.
#[test]
fn job_allocates_nothing_and_opens_nothing() {
    const JOBS: usize = 1_000;
    let (fake, p) = (Fake::new(), Pictures::new(8));
    let mut vulkan = fake.builder().depth(8).open().unwrap();
    let jobs = |vulkan: &mut Vulkan, count: usize| {
        let (mut begun, mut ended) = (0, 0);
        while ended < count {
            while begun < count && vulkan.in_flight() < 8 {
                let target = p.targets.try_acquire().expect("a target is free");
                vulkan.begin(&p.plan, std::slice::from_ref(&p.source), target).unwrap();
                begun += 1;
            }
            drop(vulkan.done(WAIT).unwrap());
            ended += 1;
        }
    };
    jobs(&mut vulkan, 50);
    let objects = ["objects", "memory", "buffers"];
    let counts = || (descriptors(), mappings(), objects.map(|name| fake.get(name)));
    let before = counts();
    let costs = (allocations::of_all_threads(), syscalls(), cpu_bytes());
    jobs(&mut vulkan, JOBS);
    let (allocated, calls, bytes) = (allocations::of_all_threads() - costs.0, syscalls() - costs.1, cpu_bytes());
    assert_eq!(allocated, 0, "allocations in {JOBS} jobs");
    assert_eq!(bytes, costs.2, "pixels that the library touched");
    assert_eq!(counts(), before, "descriptors, mappings, {objects:?}");
    // 8 targets, the source, the steps.
    assert_eq!(before.2[1..], [10, 10]);
    assert!(calls as f64 / JOBS as f64 <= 2.05, "{calls} calls of the caller in {JOBS} jobs");
    assert_eq!(fake.get("submits"), 1_050);
    drop(vulkan);
    fake.is_empty();
    import_that_fails_keeps_no_descriptor();
}

fn import_that_fails_keeps_no_descriptor() {
    let (fake, p) = (Fake::new(), Pictures::new(1));
    let before = descriptors();
    for call in ["vkGetMemoryFdPropertiesKHR", "vkAllocateMemory", "vkBindBufferMemory"] {
        let mut vulkan = fake.open();
        fake.fail(call, 1, NO_MEMORY);
        vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
        drop(vulkan.done(WAIT).unwrap_err());
        drop(vulkan);
        assert_eq!(descriptors(), before, "{call}");
    }
    fake.is_empty();
}
