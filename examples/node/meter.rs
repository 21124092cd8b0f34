//! The CPU time of each stage, by the thread's clock.

use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

#[derive(Clone, Copy)]
pub enum Stage {
    Camera,
    Share,
    Encoder,
    Rtp,
    Rtsp,
    Web,
}

#[derive(Default)]
pub struct Meter([Duration; 6]);

/// The CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(Duration::ZERO, |t| Duration::new(t.tv_sec() as u64, t.tv_nsec() as u32))
}

impl Meter {
    /// Does some of a stage's work.
    pub fn charge<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu_time();
        let done = work();
        self.add(stage, before);
        done
    }

    /// Adds the work since `before`.
    pub fn add(&mut self, stage: Stage, before: Duration) {
        self.0[stage as usize] += thread_cpu_time().saturating_sub(before);
    }

    pub fn of(&self, stage: Stage) -> Duration {
        self.0[stage as usize]
    }
}
