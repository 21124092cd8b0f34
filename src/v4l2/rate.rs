//! Compares frame rates: those of lists, and those that drivers round.

use super::Intervals;
use crate::format::FrameInterval;

/// Rates that differ by less are the same: 29.97 and 30, or an interval that a driver rounds to 100 ns.
const SAME_RATE: u32 = 2;

/// Returns the nearest rate of a list, and its distance in thousandths.
pub(crate) fn nearest_rate(listed: &Intervals, wanted: FrameInterval) -> (Option<f64>, u32) {
    let wanted = wanted.fps();
    let rates: Vec<f64> = match listed {
        Intervals::Unknown => return (None, 0),
        Intervals::Discrete(list) => list.iter().map(|interval| interval.fps()).collect(),
        Intervals::Stepwise { min, max } => {
            let (slowest, fastest) = (max.fps().min(min.fps()), max.fps().max(min.fps()));
            vec![wanted.max(slowest).min(fastest)]
        }
    };
    let nearest = rates.into_iter().map(|fps| (fps, misfit(fps, wanted))).min_by_key(|(_, rate)| *rate);
    nearest.map_or((None, 0), |(fps, rate)| (Some(fps), rate))
}

/// Returns how much two rates differ, in thousandths of the smaller one. Returns 0 for the same rate.
fn misfit(a: f64, b: f64) -> u32 {
    let (less, more) = (a.min(b), a.max(b));
    if less <= 0.0 || !more.is_finite() {
        return u32::MAX;
    }
    // A conversion from a float saturates.
    let thousandths = ((more / less - 1.0) * 1000.0).round() as u32;
    if thousandths <= SAME_RATE {
        0
    } else {
        thousandths
    }
}

/// Returns `true` if a driver's interval is the requested one.
pub(crate) fn is_same_rate(given: FrameInterval, wanted: FrameInterval) -> bool {
    misfit(given.fps(), wanted.fps()) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_rates_may_be_rounded() {
        let ntsc = FrameInterval { numerator: 1001, denominator: 30_000 };
        let rounded = FrameInterval { numerator: 333_333, denominator: 10_000_000 };
        let thirty = FrameInterval::from_fps(30);
        assert!(is_same_rate(ntsc, thirty) && is_same_rate(rounded, thirty));
        assert!(!is_same_rate(FrameInterval::from_fps(29), thirty));
        assert!(!is_same_rate(FrameInterval { numerator: 0, denominator: 0 }, thirty));
    }
}
