//! Reads what Rust's test harness prints.

use std::fmt;
use std::ops::AddAssign;

/// Counts of one or more test runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    /// Takes in one line of output. A test that misses an unpromised device says so in one line
    /// and returns: the harness counts it as passed, we as skipped.
    pub fn line(&mut self, line: &str) {
        if is_skip(line) {
            self.skipped += 1;
            self.passed = self.passed.wrapping_sub(1);
        } else if let Some((passed, failed, ignored)) = result(line) {
            self.passed = self.passed.wrapping_add(passed);
            self.failed += failed;
            self.skipped += ignored;
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed = self.passed.wrapping_add(other.passed);
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Skips come before the result line that they are taken from; a run that breaks off in
        // between would be below zero.
        let passed = (self.passed as isize).max(0);
        write!(
            f,
            "{passed} passed, {} failed, {} skipped",
            self.failed, self.skipped
        )
    }
}

/// `SKIPPED <what>: <why>`
pub fn is_skip(line: &str) -> bool {
    line.strip_prefix("SKIPPED ")
        .is_some_and(|rest| rest.contains(": "))
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s`
pub fn result(line: &str) -> Option<(usize, usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let found = counts.split("; ").find_map(|c| c.strip_suffix(what));
        found.and_then(|n| n.trim().parse().ok())
    };
    Some((count("passed")?, count("failed")?, count("ignored")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_counted() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "SKIPPED dma-heap: no /dev/dma_heap/system",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.01s",
            "the word SKIPPED alone: nothing",
        ] {
            tally.line(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 1,
                failed: 1,
                skipped: 2
            }
        );
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn tallies_add_up() {
        let mut all = Tally {
            passed: 1,
            failed: 0,
            skipped: 2,
        };
        all += Tally {
            passed: 2,
            failed: 3,
            skipped: 0,
        };
        assert_eq!(
            all,
            Tally {
                passed: 3,
                failed: 3,
                skipped: 2
            }
        );
    }

    #[test]
    fn a_skip_without_result_is_not_negative() {
        let mut tally = Tally::default();
        tally.line("SKIPPED vivid: not there");
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 1 skipped");
    }
}
