//! Times that advance, from timestamps that may stand still.

/// Converts a source's timestamps to times that advance from frame to frame.
///
/// Some drivers give every frame the same timestamp. The time between such frames is the time between their arrivals.
/// Other timestamps stay as they are, also those that step back: coded pictures may arrive out of order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AdvancingTime {
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp_ns: u64,
    time_ns: u64,
    arrival_ns: u64,
}

impl AdvancingTime {
    /// The least step between two frames with the same timestamp. V4L2's timestamps are microseconds.
    const STEP_NS: u64 = 1000;

    /// Returns the time of the next frame. `arrival_ns` is the present time, of a clock that does not step back.
    pub(crate) fn next(&mut self, timestamp_ns: u64, arrival_ns: u64) -> u64 {
        let time_ns = match self.last {
            Some(last) if timestamp_ns == last.timestamp_ns => {
                last.time_ns.saturating_add(arrival_ns.saturating_sub(last.arrival_ns).max(Self::STEP_NS))
            }
            // Timestamps that stood still and move again keep the offset until they have caught up.
            Some(last) if timestamp_ns <= last.time_ns => {
                timestamp_ns.saturating_add(last.time_ns.saturating_sub(last.timestamp_ns))
            }
            _ => timestamp_ns,
        };
        self.last = Some(Last { timestamp_ns, time_ns, arrival_ns });
        time_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the times of frames that arrive every 40 ms.
    fn times(timestamps: &[u64]) -> Vec<u64> {
        let mut time = AdvancingTime::default();
        (5000..)
            .step_by(40_000)
            .zip(timestamps)
            .map(|(arrival, t)| time.next(t * 1000, arrival * 1000) / 1000)
            .collect()
    }

    #[test]
    fn time_goes_by_arrival_while_timestamps_stand_still() {
        assert_eq!(times(&[0, 0, 0, 0]), [0, 40_000, 80_000, 120_000]);
        assert_eq!(times(&[0, 33_000, 33_000, 100_000]), [0, 33_000, 73_000, 100_000], "one timestamp twice");
        assert_eq!(times(&[7, 7, 7, 40_007, 200_000]), [7, 40_007, 80_007, 120_007, 200_000], "they move again");
    }

    #[test]
    fn time_of_good_timestamps_is_the_timestamp() {
        assert_eq!(times(&[9, 50_000, 90_000]), [9, 50_000, 90_000]);
        assert_eq!(times(&[0, 120_000, 40_000, 80_000, 240_000]), [0, 120_000, 40_000, 80_000, 240_000], "reordered");
        let mut time = AdvancingTime::default();
        assert_eq!([u64::MAX, u64::MAX].map(|t| time.next(t, 5)), [u64::MAX; 2]);
    }

    proptest! {
        #[test]
        fn time_is_never_before_the_timestamp(steps in prop::collection::vec((0u64..3, 0u64..3), 1..50)) {
            let (mut time, mut timestamp, mut arrival, mut last) = (AdvancingTime::default(), 0, 0, None);
            for (more, later) in steps {
                (timestamp, arrival) = (timestamp + more * 10_000, arrival + later * 10_000);
                let now = time.next(timestamp, arrival);
                prop_assert!(now >= timestamp && last < Some(now), "{last:?} then {now}");
                last = Some(now);
            }
        }
    }
}
