//! Which source frame a mem-to-mem device's result belongs to, by the timestamp that it copies.

use std::collections::VecDeque;

use crate::frame::FrameMeta;

/// Source frames that a result may still be of: a full output queue twice over, for codecs that hold frames back.
const REMEMBERED: usize = 128;

/// The last time that the kernel's signed nanoseconds hold.
const LATEST: u64 = i64::MAX as u64 / 1000 * 1000;

/// The particulars of the latest source frames, each under a timestamp of its own. Knows no descriptor.
///
/// V4L2's timestamps are microseconds, and sources repeat them or have none: what the driver is told is the frame's own
/// time, moved on to the next microsecond that no remembered frame has.
#[derive(Debug)]
pub(super) struct TimestampMap(VecDeque<(u64, FrameMeta)>);

impl Default for TimestampMap {
    fn default() -> Self {
        // All of it now: no allocation per frame.
        Self(VecDeque::with_capacity(REMEMBERED))
    }
}

impl TimestampMap {
    /// Remembers a frame and returns the timestamp to queue it with, in nanoseconds.
    pub(super) fn add(&mut self, meta: &FrameMeta) -> u64 {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        let mut stamp = meta.timestamp_ns / 1000 * 1000;
        while stamp > LATEST || self.find(stamp).is_some() {
            stamp = if stamp < LATEST { stamp + 1000 } else { 0 };
        }
        self.0.push_back((stamp, *meta));
        stamp
    }

    /// Forgets the frame that was added last: the driver did not take it.
    pub(super) fn undo(&mut self) {
        self.0.pop_back();
    }

    /// The frame that was queued with this timestamp. Stays remembered: a codec may make several results of one frame.
    pub(super) fn find(&self, stamp: u64) -> Option<&FrameMeta> {
        self.0.iter().rev().find(|(s, _)| *s == stamp).map(|(_, meta)| meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(sequence: u64, timestamp_ns: u64) -> FrameMeta {
        FrameMeta { sequence, timestamp_ns, ..FrameMeta::default() }
    }

    #[test]
    fn frames_of_one_time_are_told_apart() {
        let mut marks = TimestampMap::default();
        let stamps: Vec<u64> = (0..4).map(|i| marks.add(&frame(i, 5_000_999))).collect();
        assert_eq!(stamps, [5_000_000, 5_001_000, 5_002_000, 5_003_000]);
        // A frame whose own time is taken by such a neighbor.
        assert_eq!(marks.add(&frame(4, 5_002_500)), 5_004_000);
        assert_eq!(marks.find(5_002_000).map(|m| m.sequence), Some(2));
        assert_eq!(marks.find(5_004_000).map(|m| (m.sequence, m.timestamp_ns)), Some((4, 5_002_500)));
        assert_eq!(marks.find(7), None);
        marks.undo();
        assert_eq!(marks.find(5_004_000), None);
    }

    proptest! {
        #[test]
        fn the_latest_frames_are_found_each_by_its_own_stamp(
            times in proptest::collection::vec(prop_oneof![0u64..5000, any::<u64>(), Just(u64::MAX)], 1..300),
        ) {
            let mut marks = TimestampMap::default();
            let stamps: Vec<u64> = times.iter().enumerate().map(|(i, &t)| marks.add(&frame(i as u64, t))).collect();
            let capacity = marks.0.capacity();
            let first = times.len().saturating_sub(REMEMBERED);
            for (i, &stamp) in stamps.iter().enumerate().skip(first) {
                prop_assert!(stamp % 1000 == 0 && stamp <= LATEST);
                prop_assert_eq!(marks.find(stamp).map(|m| (m.sequence, m.timestamp_ns)), Some((i as u64, times[i])));
            }
            prop_assert!(marks.0.len() <= REMEMBERED && capacity <= 2 * REMEMBERED);
        }
    }
}
