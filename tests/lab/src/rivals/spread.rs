//! The median of some turns, and how far it can be trusted.

use std::fmt;

use super::figures::median;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    /// The interval that contains the true median in at least 90 of 100 cases, whatever the distribution is. `None` for
    /// fewer than five values.
    pub interval: Option<[f64; 2]>,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, count) = (outside(sorted.len()), sorted.len());
        let interval = first.map(|first| [sorted[first], sorted[count - 1 - first]]);
        (count > 0).then(|| Self { median: median(&sorted), interval })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.median)?;
        self.interval.map_or(Ok(()), |[low, high]| write!(f, " ({low:.2} to {high:.2})"))
    }
}

/// Returns how many of the sorted values lie outside the interval at each end. Each value is below the true median as
/// often as above it, so the number of those below is binomial.
fn outside(count: usize) -> Option<usize> {
    let (mut probability, mut below, mut first) = (0.5f64.powi(i32::try_from(count).ok()?), 0.0, None);
    for i in 0..=count / 2 {
        below += probability;
        if below > 0.05 {
            break;
        }
        first = Some(i);
        probability *= (count - i) as f64 / (i + 1) as f64;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranks are those of the usual tables of the sign test.
    #[test]
    fn intervals_have_the_ranks_of_the_sign_test() {
        let ranks = [4, 5, 7, 8, 9, 11, 12, 15, 20].map(outside);
        assert_eq!(ranks, [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), Some(3), Some(5)]);
    }

    #[test]
    fn few_values_have_no_interval() {
        let of = |values: &[f64]| Spread::of(values).map(|s| s.to_string());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 2.0]).as_deref(), Some("2.00"));
        assert_eq!(of(&[9.0, 1.0, 2.0, 4.0, 3.0, 8.0, 7.0, 6.0]).as_deref(), Some("5.00 (2.00 to 8.00)"));
    }
}
