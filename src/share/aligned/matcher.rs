//! Finds items of the same time in several queues.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::AlignedStats;

/// One bounded queue for each source. At least one of them is empty between two calls.
#[derive(Debug)]
pub(super) struct Matcher<T, const N: usize> {
    queues: [VecDeque<(u64, T)>; N],
    tolerance_ns: u64,
    /// The most items of one queue.
    pub(super) depth: usize,
    pub(super) stats: AlignedStats<N>,
}

impl<T, const N: usize> Matcher<T, N> {
    pub(super) fn new(tolerance: Duration) -> Self {
        let tolerance_ns = u64::try_from(tolerance.as_nanos()).unwrap_or(u64::MAX);
        let queues = std::array::from_fn(|_| VecDeque::new());
        Self { queues, tolerance_ns, depth: 2, stats: AlignedStats::default() }
    }

    /// Takes the next item of source `i`. Returns the set that it completes.
    pub(super) fn push(&mut self, i: usize, time_ns: u64, item: T) -> Option<[T; N]> {
        let queue = &mut self.queues[i];
        // The source's time went back: it has restarted.
        if queue.back().is_some_and(|(last, _)| time_ns < *last) {
            self.stats.unmatched[i] += queue.len() as u64;
            queue.clear();
        }
        // The depth may have become smaller.
        while queue.len() >= self.depth {
            queue.pop_front();
            self.stats.overflowed[i] += 1;
        }
        queue.push_back((time_ns, item));
        while self.drop_unmatched() {}
        if self.queues.iter().any(VecDeque::is_empty) {
            return None;
        }
        self.stats.sets += 1;
        let set: Vec<T> = self.queues.iter_mut().filter_map(|queue| Some(queue.pop_front()?.1)).collect();
        set.try_into().ok()
    }

    /// Drops the items of source `i`.
    pub(super) fn clear(&mut self, i: usize) {
        self.stats.unmatched[i] += self.queues[i].len() as u64;
        self.queues[i].clear();
    }

    /// Drops first items that are too early for the latest of all first items, or further from it than the next of
    /// their queue. Returns `true` if it dropped one.
    fn drop_unmatched(&mut self) -> bool {
        let firsts = self.queues.iter().map(|queue| queue.front().map(|(time, _)| *time));
        let Some(latest) = firsts.reduce(|a, b| Some(a?.max(b?))).flatten() else { return false };
        let mut has_dropped = false;
        for (queue, unmatched) in self.queues.iter_mut().zip(&mut self.stats.unmatched) {
            while let Some(first) = queue.front().map(|(time, _)| *time) {
                let is_early = latest - first.min(latest) > self.tolerance_ns;
                let is_next_nearer =
                    queue.get(1).is_some_and(|(next, _)| next.abs_diff(latest) < first.abs_diff(latest));
                if !is_early && !is_next_nearer {
                    break;
                }
                queue.pop_front();
                *unmatched += 1;
                has_dropped = true;
            }
        }
        has_dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher<T, const N: usize>(tolerance_ns: u64, depth: usize) -> Matcher<T, N> {
        Matcher { depth, ..Matcher::new(Duration::from_nanos(tolerance_ns)) }
    }

    /// Pushes times of source and time. Returns the sets.
    fn run<const N: usize>(matcher: &mut Matcher<u64, N>, times: &[(usize, u64)]) -> Vec<[u64; N]> {
        times.iter().filter_map(|&(i, time)| matcher.push(i, time, time)).collect()
    }

    #[test]
    fn aligned_skips_frames_of_the_faster_source() {
        let mut matcher = matcher::<_, 2>(5, 4);
        let times = [(0, 0), (1, 1), (0, 16), (0, 33), (1, 34), (0, 50), (0, 66), (1, 67)];
        assert_eq!(run(&mut matcher, &times), [[0, 1], [33, 34], [66, 67]]);
        assert_eq!(matcher.stats, AlignedStats { sets: 3, unmatched: [2, 0], ..AlignedStats::default() });
    }

    #[test]
    fn aligned_waits_for_a_late_source() {
        let mut matcher = matcher::<_, 2>(5, 3);
        assert_eq!(run(&mut matcher, &[(0, 0), (0, 33), (0, 66), (1, 1), (1, 34)]), [[0, 1], [33, 34]]);
        // A longer delay than the queue: the oldest are dropped, and the rest is matched.
        assert_eq!(run(&mut matcher, &[(0, 100), (0, 133), (0, 166), (1, 67), (1, 101)]), [[100, 101]]);
        assert_eq!((matcher.stats.overflowed, matcher.stats.unmatched), ([1, 0], [0, 1]));
    }

    #[test]
    fn aligned_keeps_to_a_depth_that_became_smaller() {
        let mut matcher = matcher::<_, 2>(5, 3);
        assert!(run(&mut matcher, &[(0, 0), (0, 33), (0, 66)]).is_empty());
        matcher.depth = 1;
        assert!(run(&mut matcher, &[(0, 100), (0, 133)]).is_empty());
        assert_eq!((matcher.queues[0].len(), matcher.stats.overflowed), (1, [4, 0]));
    }

    #[test]
    fn aligned_takes_the_nearest_frame_that_is_there() {
        let mut matcher = matcher::<_, 2>(20, 4);
        assert_eq!(run(&mut matcher, &[(0, 0), (0, 10), (0, 20), (1, 11)]), [[10, 11]]);
        assert_eq!(run(&mut matcher, &[(1, 20)]), [[20, 20]]);
    }

    #[test]
    fn aligned_drops_a_frame_beyond_the_tolerance() {
        let mut matcher = matcher::<_, 3>(5, 4);
        assert_eq!(run(&mut matcher, &[(0, 10), (1, 15), (2, 16), (0, 20)]), [[20, 15, 16]]);
        assert_eq!(matcher.stats.unmatched, [1, 0, 0]);
    }

    #[test]
    fn aligned_matches_frames_of_equal_times_once() {
        let mut matcher = matcher::<_, 2>(0, 4);
        assert_eq!(run(&mut matcher, &[(0, 7), (0, 7), (1, 7), (1, 7)]), [[7, 7], [7, 7]]);
    }

    #[test]
    fn aligned_begins_again_when_time_goes_back() {
        let mut matcher = matcher::<_, 2>(5, 4);
        assert!(run(&mut matcher, &[(0, 1000), (0, 1033)]).is_empty());
        assert_eq!(run(&mut matcher, &[(0, 3), (1, 4), (0, 36), (1, 37)]), [[3, 4], [36, 37]]);
        assert_eq!(matcher.stats.unmatched, [2, 0]);
    }

    #[test]
    fn aligned_accepts_the_largest_times() {
        let mut matcher = matcher::<_, 2>(u64::MAX, 4);
        assert_eq!(run(&mut matcher, &[(0, u64::MAX), (1, 0), (1, u64::MAX)]), [[u64::MAX, 0]]);
    }

    proptest! {
        #[test]
        fn aligned_gives_each_frame_once_and_in_time(
            pushes in prop::collection::vec((0usize..3, 0u64..40), 1..200),
            tolerance in 0u64..30,
            depth in 1usize..5,
        ) {
            let mut matcher = matcher::<(u64, usize), 3>(tolerance, depth);
            let (mut times, mut given) = ([0u64; 3], [0u64; 3]);
            for (number, (i, gap)) in pushes.into_iter().enumerate() {
                times[i] += gap;
                given[i] += 1;
                let set = matcher.push(i, times[i], (times[i], number));
                if let Some(set) = set {
                    let (first, last) = (set.iter().min().unwrap().0, set.iter().max().unwrap().0);
                    prop_assert!(last - first <= tolerance, "{set:?}");
                    prop_assert_eq!(set[i].1, number, "the last item did not complete the set");
                }
                let stats = &matcher.stats;
                for (i, queue) in matcher.queues.iter().enumerate() {
                    prop_assert!(queue.len() <= depth);
                    let gone = stats.sets + stats.unmatched[i] + stats.overflowed[i];
                    prop_assert_eq!(gone + queue.len() as u64, given[i]);
                }
                prop_assert!(matcher.queues.iter().any(VecDeque::is_empty));
            }
        }
    }
}
