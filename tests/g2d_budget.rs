//! The cost of a job besides the library's own work, as counts: allocations in any thread, descriptors.

#[path = "kernel/allocations.rs"]
mod allocations;
#[path = "converting/mod.rs"]
mod converting;
#[path = "g2d/cases/support.rs"]
#[allow(dead_code)]
mod support;

use crate::converting::Jobs;
use framelease::convert::g2d::Wait;
use framelease::convert::{Converter, Layer, Request, Scaling};
use framelease::stats::{process_cpu_time, syscalls};

use support::*;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One test only: it looks at the whole process, so no other test may run at the same time.
#[test]
fn job_allocates_nothing_and_opens_nothing() {
    const JOBS: usize = 1_000;
    for (abi, wait, files) in
        [(ABIS[0], Wait::Finish, 1), (ABIS[1], Wait::Finish, 1), (ABIS[1], Wait::Finish, 0), (ABIS[1], Wait::Fence, 1)]
    {
        let fake = Fake::new(abi);
        fake.set("blit_dmabuf", files).set("no_raster", 1).set("fence", i64::from(wait == Wait::Fence));
        let mut g2d = fake.builder().depth(8).wait(wait).open().unwrap();
        let (sources, targets) = (pool(layout("NV12", 640, 360), 2), pool(layout("RGBX32", 320, 320), 8));
        let request = Request::convert(Layer::default().fit(Scaling::Keep));
        let p = plan(&request, &[*sources.buffers().layout()], targets.buffers().layout());
        let frames = [source(&sources, |_, _, _| 0), source(&sources, |_, _, _| 0)];
        let jobs = |g2d: &mut framelease::convert::G2d, count: usize| {
            let (mut begun, mut ended) = (0, 0);
            while ended < count {
                while begun < count && g2d.in_flight() < 8 {
                    let target = targets.try_acquire().expect("a buffer is free");
                    g2d.begin(&p, std::slice::from_ref(&frames[begun % 2]), target).unwrap();
                    begun += 1;
                }
                drop(g2d.done(TIMEOUT).unwrap());
                ended += 1;
            }
        };
        jobs(&mut g2d, 50);
        let (fds, allocated) = (descriptors(), allocations::of_all_threads());
        let before = (allocations::of_all_threads(), syscalls(), process_cpu_time());
        assert!(before.0 >= allocated);
        jobs(&mut g2d, JOBS);
        let after = (allocations::of_all_threads(), syscalls(), process_cpu_time());
        let calls = fake.get("blits") + fake.get("dmabuf_blits") + fake.get("clears");
        assert!(calls >= 3 * JOBS as i64, "margins and picture");
        assert_eq!(after.0 - before.0, 0, "allocations in {JOBS} jobs, {abi}, {wait:?}");
        assert_eq!(descriptors(), fds);
        let each = (after.2 - before.2).as_nanos() as f64 / JOBS as f64 / 1000.0;
        let polls = (after.1 - before.1) as f64 / JOBS as f64;
        println!(
            "{abi}, {wait:?}: {each:.1} µs CPU a job of both threads and the fake, {polls:.2} calls of the caller"
        );
        // Calls of the caller: poll and read. With fences, it also wakes a worker that polls a fence.
        let most = if wait == Wait::Fence { 3.05 } else { 2.05 };
        assert!(polls <= most, "{polls} calls of the caller a job");
        fake.lawful();
        // A parked worker keeps its thread and its handle, and nothing that belongs to its last user.
        let before = descriptors();
        drop(g2d);
        eventually(|| descriptors() < before);
        // Wait until the worker has closed what belongs to its last user.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let parked = descriptors();
        for _ in 0..5 {
            // A worker that is not parked yet is not reused: another one would be started.
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(fake.open());
        }
        eventually(|| descriptors() == parked);
    }
}
