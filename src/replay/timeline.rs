//! Times of a recording as times of `CLOCK_MONOTONIC`. It reads no clock.

use crate::error::Error;

/// The interval of a recording that does not show one.
const DEFAULT_INTERVAL_NS: u64 = 33_333_333;
/// The shortest time from the last item to the first one of the next round.
const LEAST_INTERVAL_NS: u64 = 1_000_000;
/// The latest times, for the usual interval.
const KEPT: usize = 32;

/// What a replay does next.
#[derive(Debug)]
pub(super) enum Next<T> {
    Item(T),
    Failed(Error),
    Ended,
    /// The end was reported.
    Over,
}

impl<T> From<Result<Option<T>, Error>> for Next<T> {
    fn from(read: Result<Option<T>, Error>) -> Self {
        match read {
            Ok(Some(item)) => Self::Item(item),
            Ok(None) => Self::Ended,
            Err(error) => Self::Failed(error),
        }
    }
}

/// When an item is due, and the time that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) due_ns: u64,
    pub(super) timestamp_ns: u64,
}

/// Maps the times of one recording, in the order of the file.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Times may go back by so much, as those of B-frames do. If one goes back further, the source's clock was set.
    most_back_ns: u64,
    /// A time of the recording, and the same moment in `CLOCK_MONOTONIC`.
    start: Option<(u64, u64)>,
    /// When a new round begins.
    resume_ns: Option<u64>,
    /// The largest time of the recording so far.
    latest: u64,
    times: Vec<u64>,
}

impl Timeline {
    pub(super) fn new(most_back_ns: u64) -> Self {
        Self { most_back_ns, start: None, resume_ns: None, latest: 0, times: Vec::with_capacity(KEPT) }
    }

    /// Returns when the next item is due. The first one is due at `now_ns`.
    pub(super) fn next(&mut self, recorded_ns: u64, now_ns: u64) -> Due {
        if self.start.is_some() && recorded_ns < self.latest.saturating_sub(self.most_back_ns) {
            self.restart();
        }
        let start = self.start.unwrap_or_else(|| (recorded_ns, self.resume_ns.unwrap_or(now_ns)));
        self.latest = if self.start.is_some() { self.latest.max(recorded_ns) } else { recorded_ns };
        self.start = Some(start);
        if self.times.len() == KEPT {
            self.times.remove(0);
        }
        self.times.push(recorded_ns);
        Due { due_ns: mapped(start, self.latest), timestamp_ns: mapped(start, recorded_ns) }
    }

    /// The next item begins a new round: it follows the latest one after the usual interval.
    pub(super) fn restart(&mut self) {
        let Some(start) = self.start.take() else { return };
        self.resume_ns = Some(mapped(start, self.latest).saturating_add(self.usual_interval_ns()));
        self.times.clear();
    }

    /// Returns the median of the latest intervals.
    fn usual_interval_ns(&self) -> u64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let mut steps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|&step| step > 0).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(DEFAULT_INTERVAL_NS).max(LEAST_INTERVAL_NS)
    }
}

fn mapped((recorded, monotonic): (u64, u64), time: u64) -> u64 {
    match time.checked_sub(recorded) {
        Some(after) => monotonic.saturating_add(after),
        None => monotonic.saturating_sub(recorded - time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    /// Returns when items are due, and their times, in milliseconds.
    fn played(timeline: &mut Timeline, times: &[u64]) -> Vec<(u64, u64)> {
        let next = |&time: &u64| timeline.next(time * MS, 1000 * MS);
        times.iter().map(next).map(|due| (due.due_ns / MS, due.timestamp_ns / MS)).collect()
    }

    #[test]
    fn next_keeps_distances_and_waits_for_the_largest_time() {
        let mut timeline = Timeline::new(500 * MS);
        let expected = [(1000, 1000), (1120, 1120), (1120, 1040), (1120, 1080), (1400, 1400)];
        assert_eq!(played(&mut timeline, &[70, 190, 110, 150, 470]), expected);
    }

    #[test]
    fn restart_continues_after_the_usual_interval() {
        let mut timeline = Timeline::new(0);
        played(&mut timeline, &[0, 40, 80, 480]);
        timeline.restart();
        assert_eq!(played(&mut timeline, &[0, 40]), [(1520, 1520), (1560, 1560)]);
        let mut one = Timeline::new(0);
        played(&mut one, &[7]);
        one.restart();
        assert_eq!(played(&mut one, &[7]), [(1033, 1033)]);
    }

    #[test]
    fn next_continues_after_a_clock_that_went_back() {
        let mut timeline = Timeline::new(0);
        assert_eq!(
            played(&mut timeline, &[900, 940, 10, 50]),
            [(1000, 1000), (1040, 1040), (1080, 1080), (1120, 1120)]
        );
    }

    proptest! {
        #[test]
        fn due_times_never_go_back(times in prop::collection::vec(any::<u64>(), 1..100), back: u64, round in 1usize..50) {
            let (mut timeline, mut latest) = (Timeline::new(back), 0);
            for (i, &time) in times.iter().enumerate() {
                if i % round == 0 {
                    timeline.restart();
                }
                let due = timeline.next(time, 5);
                prop_assert!(due.due_ns >= latest && due.timestamp_ns <= due.due_ns);
                latest = due.due_ns;
            }
        }
    }
}
