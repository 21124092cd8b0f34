//! Changes a frame rate without a copy: drops or repeats frames by their timestamps.

use crate::error::{Error, ErrorKind, Result};
use crate::format::FrameInterval;
use crate::frame::{AdvancingTime, Frame};
use crate::sys::clock::monotonic_ns;

/// After a longer silence of the source, or if its time goes back, the grid starts again.
const DISCONTINUITY_NS: u64 = 2_000_000_000;

/// Changes the rate of a stream. For each point of a regular time grid, it selects the nearest frame.
///
/// Frames pass through as leases, without a copy and without a system call. As a rate limit
/// ([`FrameRateConverter::new`]) it drops frames and does not change the others. With [`FrameRateConverter::repeating`]
/// it also repeats frames, so the rate stays constant when the source is slower.
///
/// ```
/// use framelease::capture::TestPattern;
/// use framelease::convert::FrameRateConverter;
/// use framelease::format::{FrameInterval, Size};
/// use framelease::Station;
///
/// let mut source = TestPattern::builder(Size::new(64, 48)).start()?;
/// let mut limit = FrameRateConverter::new(FrameInterval::from_fps(10))?;
/// for frame in source.frames().take(4) {
///     for frame in limit.push(frame?) {
///         println!("{frame:?}");
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameRateConverter {
    interval: FrameInterval,
    repeats: bool,
    time: AdvancingTime,
    /// The time of the grid's first point, and how many points have got a frame.
    grid: Option<(u64, u64)>,
    last_ns: u64,
    gap_ns: u64,
    last: Option<Frame>,
    served: u64,
}

impl FrameRateConverter {
    /// Creates a rate limit, which lets at most one frame per `interval` pass. The time is that of the timestamps.
    /// While they stand still, the arrival of the frames counts.
    ///
    /// # Errors
    /// `InvalidArgument` for an interval that is not a positive time.
    pub fn new(interval: FrameInterval) -> Result<Self> {
        if interval.duration().map_or(true, |d| d.is_zero()) {
            let text = format!("the frame interval {interval} is not a positive time");
            return Err(Error::new(ErrorKind::InvalidArgument, "decimate", text));
        }
        Ok(Self {
            interval,
            repeats: false,
            time: AdvancingTime::default(),
            grid: None,
            last_ns: 0,
            gap_ns: 0,
            last: None,
            served: 0,
        })
    }

    /// Repeats frames if the source is slower than the interval. Gives one frame for each point of the grid. The
    /// timestamp of each frame is the time of its point. The sequence numbers of the frames count from 0. Holds a lease
    /// on the latest frame.
    pub fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Takes the source's next frame. Returns the frames that are due: zero or one, or more than one if the converter
    /// repeats frames.
    pub fn push(&mut self, frame: Frame) -> impl Iterator<Item = Frame> {
        let now = self.time.next(frame.meta().timestamp_ns, monotonic_ns());
        let jumped = now < self.last_ns || now - self.last_ns > DISCONTINUITY_NS;
        let (start, points) = match self.grid {
            Some(grid) if !jumped => {
                self.gap_ns = now - self.last_ns;
                grid
            }
            _ => {
                self.last = None;
                self.gap_ns = 0;
                (now, 0)
            }
        };
        self.last_ns = now;
        // A frame covers half of the interval before it and half of the interval after it.
        let due = |until: u64| match until.checked_sub(start) {
            Some(ns) => self.point(ns) + 1,
            None => 0,
        };
        let of_last = if self.last.is_some() { due(now - self.gap_ns / 2).saturating_sub(points) } else { 0 };
        let of_frame = due(now.saturating_add(self.gap_ns / 2)).saturating_sub(points + of_last);
        self.grid = Some((start, points + of_last + of_frame));
        let first = (start, points, self.served);
        let due = if self.repeats { [of_last, of_frame] } else { [0, of_frame.min(1)] };
        self.served += due[0] + due[1];
        let previous = if self.repeats { self.last.replace(frame.clone()) } else { None };
        Decimated { frames: [previous, Some(frame)], due, first, interval: self.interval, repeats: self.repeats }
    }

    /// Returns the number of the last grid point up to `ns` after the start.
    fn point(&self, ns: u64) -> u64 {
        let per = u128::from(self.interval.numerator) * 1_000_000_000;
        (u128::from(ns) * u128::from(self.interval.denominator) / per) as u64
    }
}

/// The frames that [`FrameRateConverter::push`] found due, in order.
#[derive(Debug)]
struct Decimated {
    frames: [Option<Frame>; 2],
    due: [u64; 2],
    /// The grid's start, its first point that is due, and the first sequence number.
    first: (u64, u64, u64),
    interval: FrameInterval,
    repeats: bool,
}

impl Iterator for Decimated {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let which = self.due.iter().position(|&due| due > 0)?;
        self.due[which] -= 1;
        let frame = self.frames[which].clone()?;
        if !self.repeats {
            return Some(frame);
        }
        let (start, point, sequence) = &mut self.first;
        let ns = u128::from(*point) * u128::from(self.interval.numerator) * 1_000_000_000;
        // The timestamp may be any number, so half a gap after it must not overflow.
        let timestamp_ns = start.saturating_add((ns / u128::from(self.interval.denominator)) as u64);
        let meta = crate::frame::FrameMeta { timestamp_ns, sequence: *sequence, lost: 0, ..*frame.meta() };
        (*point, *sequence) = (*point + 1, *sequence + 1);
        Some(frame.with_meta(meta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmabuf::Allocator;
    use crate::format::{Layout, Size};
    use crate::frame::Pool;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn pool() -> Pool {
        let layout = Layout::packed("GREY".parse().unwrap(), Size::new(4, 4)).unwrap();
        Pool::new(&Allocator::Memfd, layout, 4).unwrap()
    }

    /// Returns the times in ms of the frames that come out for frames at `times`.
    fn run(decimator: &mut FrameRateConverter, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let pool = pool();
        let mut out = Vec::new();
        for (i, ns) in (0..).zip(times) {
            let frame = pool.try_acquire().unwrap().freeze_full(i, ns);
            out.extend(decimator.push(frame).map(|f| f.meta().timestamp_ns / MS));
        }
        out
    }

    #[test]
    fn every_third_and_every_other_frame_in_spite_of_jitter() {
        let camera = |i: u64| i * 100_000_000 / 3 + [0, 4, 1, 7, 2, 5][i as usize % 6] * MS;
        for (fps, nth) in [(10, 3), (15, 2), (30, 1)] {
            let mut d = FrameRateConverter::new(FrameInterval::from_fps(fps)).unwrap();
            let expected: Vec<u64> = (0..60).filter(|i| i % nth == 0).map(|i| camera(i) / MS).collect();
            assert_eq!(run(&mut d, (0..60).map(camera)), expected, "{fps} fps");
        }
    }

    #[test]
    fn push_repeats_a_slow_source_and_fills_gaps_by_nearer_frames() {
        let mut d = FrameRateConverter::new(FrameInterval::from_fps(100)).unwrap().repeating();
        // The first frame has no interval. The second covers 20 (half the gap) to 50, and the last the rest.
        assert_eq!(run(&mut d, [0, 40 * MS, 60 * MS]), [0, 10, 20, 30, 40, 50, 60, 70]);
    }

    #[test]
    fn rates_without_drift() {
        let mut d = FrameRateConverter::new(FrameInterval { numerator: 1001, denominator: 30_000 }).unwrap();
        let out = run(&mut d, (0..6000).map(|i| i * 1_000_000_000 / 60));
        assert_eq!(out.len(), 2997, "99.98 s at 29.97 fps");
    }

    #[test]
    fn push_goes_by_arrival_where_timestamps_stand_still() {
        let mut d = FrameRateConverter::new(FrameInterval::from_fps(100)).unwrap();
        let mut passed = 0;
        for _ in 0..10 {
            passed += run(&mut d, [7]).len();
            std::thread::sleep(std::time::Duration::from_millis(12));
        }
        assert!((8..=10).contains(&passed), "{passed} of 10 frames that were 12 ms apart");
    }

    #[test]
    fn push_restarts_the_grid_when_time_jumps() {
        let mut d = FrameRateConverter::new(FrameInterval::from_fps(10)).unwrap();
        assert_eq!(run(&mut d, [0, 50 * MS, 9_000 * MS, 9_100 * MS, 5 * MS, 105 * MS]), [0, 9000, 9100, 5, 105]);
        assert!(FrameRateConverter::new(FrameInterval { numerator: 0, denominator: 1 }).is_err());
    }

    #[test]
    fn push_accepts_the_largest_timestamp() {
        for repeats in [false, true] {
            let mut d = FrameRateConverter::new(FrameInterval::from_fps(1000)).unwrap();
            if repeats {
                d = d.repeating();
            }
            assert!(!run(&mut d, [u64::MAX - 4 * MS, u64::MAX - 2 * MS, u64::MAX, u64::MAX]).is_empty());
        }
    }

    #[test]
    fn limit_holds_no_frame_and_a_repeater_one() {
        let pool = pool();
        let mut limit = FrameRateConverter::new(FrameInterval::from_fps(10)).unwrap();
        drop(limit.push(pool.try_acquire().unwrap().freeze_full(0, 0)));
        assert_eq!(pool.buffers().leased(), 0);
        let mut repeater = FrameRateConverter::new(FrameInterval::from_fps(10)).unwrap().repeating();
        drop(repeater.push(pool.try_acquire().unwrap().freeze_full(0, 0)));
        assert_eq!(pool.buffers().leased(), 1);
    }

    proptest! {
        #[test]
        fn never_faster_than_asked(fps in 1u32..200, gaps in prop::collection::vec(0u64..100 * MS, 1..200), repeats: bool) {
            let mut d = FrameRateConverter::new(FrameInterval::from_fps(fps)).unwrap();
            if repeats {
                d = d.repeating();
            }
            let total: u64 = gaps.iter().sum::<u64>() + 50 * MS;
            let mut now = 0;
            let out = run(&mut d, gaps.into_iter().map(|gap| { now += gap; now }));
            let most = total as f64 / 1e9 * f64::from(fps) + 2.0;
            prop_assert!(out.len() as f64 <= most, "{} of {most}", out.len());
            prop_assert!(out.windows(2).all(|w| w[0] <= w[1]));
        }
    }
}
