//! The CPU time of each stage, by the thread's clock, and how old frames are when they leave it.

use std::time::Duration;

use framelease::frame::FrameFlags;
use framelease::stats::Histogram;
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
pub struct Meter {
    cpu: [Duration; 6],
    /// The thread's CPU time at the end of the last work. Each reading of the clock is a system call.
    read: Duration,
    age: [Histogram; 6],
}

/// The CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    time(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn time(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, |t| Duration::new(t.tv_sec() as u64, t.tv_nsec() as u32))
}

impl Meter {
    /// Begins the work of a turn, so that the wait before it counts for no stage.
    pub fn begin(&mut self) {
        self.read = thread_cpu_time();
    }

    /// Does some of a stage's work. The stage also pays for what the thread has done since the work before.
    pub fn charge<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let done = work();
        self.end(stage);
        done
    }

    /// Ends work of a stage.
    pub fn end(&mut self, stage: Stage) {
        let now = thread_cpu_time();
        self.cpu[stage as usize] += now.saturating_sub(self.read);
        self.read = now;
    }

    pub fn of(&self, stage: Stage) -> Duration {
        self.cpu[stage as usize]
    }

    /// Notes that a stage is done with a frame or packet that the camera took at this time.
    pub fn leaves(&mut self, stage: Stage, timestamp_ns: u64, flags: FrameFlags) {
        if flags.contains(FrameFlags::MONOTONIC) {
            let now = time(ClockId::CLOCK_MONOTONIC).as_nanos() as u64;
            self.age[stage as usize].record_ns(now.saturating_sub(timestamp_ns));
        }
    }

    /// The age in microseconds that half and 99 of 100 were below, if the camera's time is known.
    pub fn age(&self, stage: Stage) -> Option<(u64, u64)> {
        let ages = &self.age[stage as usize];
        (ages.count() > 0).then(|| (ages.quantile_ns(0.5) / 1000, ages.quantile_ns(0.99) / 1000))
    }
}
