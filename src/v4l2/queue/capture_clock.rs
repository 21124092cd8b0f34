//! Compares a driver's timestamps with the clock that the driver names.

use crate::sys::clock::monotonic_ns;

/// The tolerance at both ends. A driver may stamp the start of the exposure, or the expected end of the picture.
const SLACK_NS: u64 = 1_000_000_000;

/// The clock of one stream. Drivers that set `V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC` may still use another clock
/// (uvcvideo's parameter `clock`), or repeat one timestamp.
#[derive(Debug, Default)]
pub(super) struct CaptureClock {
    started_ns: u64,
    last_ns: Option<u64>,
}

impl CaptureClock {
    /// Begins a stream, at the present time.
    pub(super) fn start(&mut self) {
        *self = Self { started_ns: monotonic_ns(), last_ns: None };
    }

    /// Returns `true` if the next frame's timestamp can be a time of `CLOCK_MONOTONIC`: it lies between the start of
    /// the stream and the present, and after the previous frame's timestamp.
    pub(super) fn accepts(&mut self, timestamp_ns: u64) -> bool {
        self.accepts_at(timestamp_ns, monotonic_ns())
    }

    fn accepts_at(&mut self, timestamp_ns: u64, now_ns: u64) -> bool {
        let has_advanced = self.last_ns.replace(timestamp_ns).map_or(true, |last| timestamp_ns > last);
        let earliest = self.started_ns.saturating_sub(SLACK_NS);
        has_advanced && (earliest..=now_ns.saturating_add(SLACK_NS)).contains(&timestamp_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_accepts_times_of_the_stream_that_advance() {
        const S: u64 = 1_000_000_000;
        let mut clock = CaptureClock { started_ns: 100 * S, last_ns: None };
        let times = [100 * S - S / 2, 101 * S, 102 * S, 102 * S, 103 * S, 102 * S, 105 * S];
        let accepted = times.map(|time| clock.accepts_at(time, 104 * S));
        assert_eq!(accepted, [true, true, true, false, true, false, true]);
        for other_clock in [0, 50 * S, 1_795_918_603 * S, u64::MAX] {
            let mut clock = CaptureClock { started_ns: 100 * S, last_ns: None };
            assert!(!clock.accepts_at(other_clock, 104 * S), "{other_clock}");
        }
    }
}
