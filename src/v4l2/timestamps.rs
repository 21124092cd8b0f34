//! Matches results of a mem-to-mem device to their source frames, by the timestamp that the device copies.

use std::collections::VecDeque;

use crate::frame::FrameMeta;

/// Source frames that a result may still belong to: twice a full output queue, because codecs hold frames back.
const REMEMBERED: usize = 128;

/// The last microsecond that the kernel's signed nanoseconds can hold.
const LATEST: u64 = i64::MAX as u64 / 1000 * 1000;

/// The metadata of the latest source frames, each under a unique timestamp. It does not use a descriptor.
///
/// V4L2's timestamps are microseconds, and sources repeat timestamps or leave them at 0. The driver gets the frame's
/// own timestamp, moved to the next microsecond that no remembered frame has.
#[derive(Debug)]
pub(super) struct TimestampMap(VecDeque<(u64, FrameMeta)>);

impl Default for TimestampMap {
    fn default() -> Self {
        // Allocates everything now, and nothing per frame.
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

    /// Removes the frame that was added last, because the driver did not accept it.
    pub(super) fn undo(&mut self) {
        self.0.pop_back();
    }

    /// Returns the frame that was queued with this timestamp. Keeps it: a codec may make several results from one
    /// frame.
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
    fn timestamps_are_unique_for_frames_of_the_same_time() {
        let mut marks = TimestampMap::default();
        let stamps: Vec<u64> = (0..4).map(|i| marks.add(&frame(i, 5_000_999))).collect();
        assert_eq!(stamps, [5_000_000, 5_001_000, 5_002_000, 5_003_000]);
        // A frame whose own timestamp a moved frame already has.
        assert_eq!(marks.add(&frame(4, 5_002_500)), 5_004_000);
        assert_eq!(marks.find(5_002_000).map(|m| m.sequence), Some(2));
        assert_eq!(marks.find(5_004_000).map(|m| (m.sequence, m.timestamp_ns)), Some((4, 5_002_500)));
        assert_eq!(marks.find(7), None);
        marks.undo();
        assert_eq!(marks.find(5_004_000), None);
    }

    proptest! {
        #[test]
        fn timestamps_find_the_latest_frames(
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
