//! How old frames are when they arrive: the time since the camera took them.

use framelease::frame::FrameFlags;
use framelease::stats::Histogram;
use nix::time::{clock_gettime, ClockId};

#[derive(Default)]
pub struct Ages(Histogram);

impl Ages {
    /// Notes that a frame, or its packet, has arrived. Without the system's clock its age is not known.
    pub fn note(&mut self, timestamp_ns: u64, flags: FrameFlags) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok().filter(|_| flags.contains(FrameFlags::MONOTONIC));
        if let Some(now) = now {
            let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
            self.0.record_ns(now_ns.saturating_sub(timestamp_ns));
        }
    }

    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// In microseconds: half of the ages, and 99 of 100, are below it. NaN if none is known.
    pub fn figures(&self) -> [f64; 2] {
        [0.5, 0.99].map(|q| if self.count() > 0 { self.0.quantile_ns(q) as f64 / 1e3 } else { f64::NAN })
    }
}
