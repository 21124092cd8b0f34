//! The overhead of `convert::G2d` per job and blit, over both threads, on a libg2d that draws nothing.

#[path = "../../tests/g2d/cases/support.rs"]
#[allow(dead_code)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use crate::converting::Jobs;
use criterion::{BenchmarkId, Criterion, Throughput};
use framelease::convert::g2d::{Abi, Wait};
use framelease::convert::{Converter, G2d, Layer, Plan, Request, Scaling};
use framelease::format::{Rect, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::process_cpu_time;

use support::{layout, plan, pool, source, Changes, Fake, TIMEOUT};

/// Jobs in flight: submitted back to back.
const DEPTH: usize = 8;
const TURNS: usize = 5;
const JOBS: usize = 5_000;

/// One way into the library.
struct Path {
    name: &'static str,
    abi: Abi,
    wait: Wait,
    /// What `g2d_blit_dmabuf` answers: 0 takes files.
    blit_dmabuf: i64,
    multi: i64,
}

const PATHS: [Path; 5] = [
    Path { name: "legacy, addresses", abi: Abi::Legacy, wait: Wait::Finish, blit_dmabuf: 1, multi: 0 },
    Path { name: "modern, addresses", abi: Abi::Modern, wait: Wait::Finish, blit_dmabuf: 1, multi: 0 },
    Path { name: "modern, addresses, multi-blit", abi: Abi::Modern, wait: Wait::Finish, blit_dmabuf: 1, multi: 1 },
    Path { name: "modern, files", abi: Abi::Modern, wait: Wait::Finish, blit_dmabuf: 0, multi: 0 },
    Path { name: "modern, files, fences", abi: Abi::Modern, wait: Wait::Fence, blit_dmabuf: 0, multi: 0 },
];

const WORK: [&str; 3] = ["one blit", "letterbox", "four layers"];

struct Scene {
    fake: Fake,
    g2d: G2d,
    plan: Arc<Plan>,
    frames: Vec<Frame>,
    targets: Pool,
}

impl Scene {
    fn new(path: &Path, work: &str) -> Result<Self, String> {
        let fake = Fake::load(path.abi, &Changes::default())?;
        fake.set("no_raster", 1).set("blit_dmabuf", path.blit_dmabuf).set("multi_source", path.multi);
        fake.set("fence", i64::from(path.wait == Wait::Fence));
        let g2d = fake.builder().depth(DEPTH).wait(path.wait).open().map_err(|e| e.to_string())?;
        let quarter = |i: i32| Layer::default().place(Rect::new(i % 2 * 320, i / 2 * 320, Size::new(320, 320)));
        let layers: Vec<Layer> = match work {
            "one blit" => vec![Layer::default()],
            "letterbox" => vec![Layer::default().fit(Scaling::Keep)],
            _ => (0..4).map(|i| quarter(i).crop(Rect::new(i % 2 * 320, i / 2 * 320, Size::new(320, 320)))).collect(),
        };
        let sources = pool(layout("NV12", 1280, 720), layers.len());
        let targets = pool(layout("RGBX32", 640, 640), DEPTH);
        let frames: Vec<Frame> = layers.iter().map(|_| source(&sources, |_, _, _| 128)).collect();
        let layouts = vec![*sources.buffers().layout(); layers.len()];
        let plan = plan(&Request::compose(layers), &layouts, targets.buffers().layout());
        Ok(Self { fake, g2d, plan, frames, targets })
    }

    fn run(&mut self, jobs: usize) {
        let (mut begun, mut ended) = (0, 0);
        while ended < jobs {
            while begun < jobs && self.g2d.in_flight() < DEPTH {
                let target = self.targets.try_acquire().expect("as many targets as jobs");
                self.g2d.begin(&self.plan, &self.frames, target).expect("a plan that was checked");
                begun += 1;
            }
            self.g2d.done(TIMEOUT).expect("a finished frame");
            ended += 1;
        }
    }

    /// Blits, fills among them, until now.
    fn blits(&self) -> i64 {
        // What a multi-blit draws is counted by the layers that it takes the place of.
        let one_by_one = ["blits", "dmabuf_blits", "clears"].iter().map(|n| self.fake.get(n)).sum::<i64>();
        one_by_one + self.fake.get("multi_blits") * self.frames.len() as i64
    }
}

/// Wall time of a job among [`DEPTH`] that are under way.
pub fn walls(c: &mut Criterion) {
    let mut group = c.benchmark_group("g2d overhead");
    group.throughput(Throughput::Elements(DEPTH as u64));
    for path in &PATHS {
        match Scene::new(path, "one blit") {
            Ok(mut scene) => {
                scene.run(100);
                group.bench_function(BenchmarkId::from_parameter(path.name), |b| b.iter(|| scene.run(DEPTH)));
            }
            Err(e) => println!("g2d overhead, {}: not here: {e}", path.name),
        }
    }
    group.finish();
}

/// CPU time per job and per blit, as a table.
pub fn cpu() {
    println!("\nCPU time beside libg2d's work in us, both threads and the fake's bookkeeping, {DEPTH} jobs in flight,");
    println!("median of {TURNS} turns of {JOBS} jobs:");
    println!("{:32} {:12} {:>8} {:>10} {:>10}", "", "", "blits", "a job", "a blit");
    for (path, work) in PATHS.iter().flat_map(|path| WORK.map(|work| (path, work))) {
        let mut scene = match Scene::new(path, work) {
            Ok(scene) => scene,
            Err(e) => {
                println!("{:32} not here: {e}", path.name);
                continue;
            }
        };
        scene.run(200);
        let before = scene.blits();
        let turns = (0..TURNS).map(|_| {
            let before = process_cpu_time();
            scene.run(JOBS);
            (process_cpu_time() - before) / JOBS as u32
        });
        let each: Duration = super::median(turns.collect()).unwrap_or_default();
        let blits = (scene.blits() - before) as f64 / (TURNS * JOBS) as f64;
        let us = each.as_nanos() as f64 / 1000.0;
        println!("{:32} {work:12} {blits:>8.1} {us:>10.1} {:>10.1}", path.name, us / blits.max(1.0));
    }
}
