//! Another frame rate without a copy: frames are dropped or repeated by their timestamps.

use crate::error::{Error, ErrorKind, Result};
use crate::format::FrameInterval;
use crate::frame::Frame;

/// A source that is silent for longer, or whose time goes back, begins anew.
const DISCONTINUITY_NS: u64 = 2_000_000_000;

/// Gives a stream another rate: of a regular grid of times, each is served by the frame nearest to it.
///
/// Frames pass through as leases; nothing is copied and no system call is made. As a rate limit
/// ([`FrameRateConverter::new`]) it drops frames and leaves the others as they are. With [`FrameRateConverter::repeating`] it also
/// repeats frames, so that the rate is constant while the source's is lower.
#[derive(Debug)]
pub struct FrameRateConverter {
    interval: FrameInterval,
    repeats: bool,
    /// Time of the grid's first point, and points served since.
    grid: Option<(u64, u64)>,
    last_ns: u64,
    gap_ns: u64,
    last: Option<Frame>,
    served: u64,
}

impl FrameRateConverter {
    /// Lets at most one frame per `interval` pass.
    ///
    /// # Errors
    /// `InvalidArgument` for an interval of no length.
    pub fn new(interval: FrameInterval) -> Result<Self> {
        if interval.duration().map_or(true, |d| d.is_zero()) {
            let text = format!("a frame interval of {interval}");
            return Err(Error::new(ErrorKind::InvalidArgument, "decimate", text));
        }
        Ok(Self { interval, repeats: false, grid: None, last_ns: 0, gap_ns: 0, last: None, served: 0 })
    }

    /// Repeats frames where the source is slower: one frame for each point of the grid, with the point's time and a
    /// sequence number of its own. Holds a lease on the latest frame for that.
    pub fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Takes the source's next frame; gives the frames that are due, none, one or (repeating) more.
    pub fn push(&mut self, frame: Frame) -> impl Iterator<Item = Frame> {
        let now = frame.meta().timestamp_ns;
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
        // Half of the time to the frame before is the frame's own, and as much behind it.
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

    /// The number of the grid's point at or before a time since its start.
    fn point(&self, ns: u64) -> u64 {
        let per = u128::from(self.interval.numerator) * 1_000_000_000;
        (u128::from(ns) * u128::from(self.interval.denominator) / per) as u64
    }
}

/// Frames that [`FrameRateConverter::push`] found due, in order.
#[derive(Debug)]
struct Decimated {
    frames: [Option<Frame>; 2],
    due: [u64; 2],
    /// The grid's start, its first point to be served, and the first sequence number.
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
        // A source's time is anything; the half of a gap behind the last moment there is must not overflow.
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

    /// Times in ms of what comes out for frames at `times`.
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
    fn a_slow_source_is_repeated_and_a_gap_is_filled_by_the_nearer_frame() {
        let mut d = FrameRateConverter::new(FrameInterval::from_fps(100)).unwrap().repeating();
        // The first frame is alone with its time; the second serves 20 (its half) to 50, and the last what is left.
        assert_eq!(run(&mut d, [0, 40 * MS, 60 * MS]), [0, 10, 20, 30, 40, 50, 60, 70]);
    }

    #[test]
    fn rates_without_drift() {
        let mut d = FrameRateConverter::new(FrameInterval { numerator: 1001, denominator: 30_000 }).unwrap();
        let out = run(&mut d, (0..6000).map(|i| i * 1_000_000_000 / 60));
        assert_eq!(out.len(), 2997, "99.98 s at 29.97 fps");
    }

    #[test]
    fn time_that_jumps_begins_anew() {
        let mut d = FrameRateConverter::new(FrameInterval::from_fps(10)).unwrap();
        assert_eq!(run(&mut d, [0, 50 * MS, 9_000 * MS, 9_100 * MS, 5 * MS, 105 * MS]), [0, 9000, 9100, 5, 105]);
        assert!(FrameRateConverter::new(FrameInterval { numerator: 0, denominator: 1 }).is_err());
    }

    #[test]
    fn the_end_of_time_is_a_time() {
        for repeats in [false, true] {
            let mut d = FrameRateConverter::new(FrameInterval::from_fps(1000)).unwrap();
            if repeats {
                d = d.repeating();
            }
            assert!(!run(&mut d, [u64::MAX - 4 * MS, u64::MAX - 2 * MS, u64::MAX, u64::MAX]).is_empty());
        }
    }

    #[test]
    fn a_limit_holds_no_frame_and_a_repeater_one() {
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
