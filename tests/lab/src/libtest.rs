//! Reads what Rust's test harness prints.

use std::fmt;
use std::ops::AddAssign;

/// Counts of one or more test runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    passed: usize,
    pub failed: usize,
    /// Did not run at all: by the harness's own rule.
    pub ignored: usize,
    /// A test that misses an unpromised device says so in one line and returns: the harness counts
    /// it as passed, we as skipped. What follows `SKIPPED`.
    skips: Vec<String>,
}

impl Tally {
    /// Takes in what another judge than the harness found.
    pub fn add(&mut self, passed: usize, failed: usize) {
        self.passed += passed;
        self.failed += failed;
    }

    /// Takes in, and prints, that something other than a test of the harness's did not run.
    pub fn skip(&mut self, what: &str, why: &str) {
        println!("SKIPPED {what}: {why}");
        self.passed += 1;
        self.skips.push(format!("{what}: {why}"));
    }

    pub fn skips(&self) -> &[String] {
        &self.skips
    }

    /// Takes in one line of output.
    pub fn line(&mut self, line: &str) {
        if let Some(skip) = skip(line) {
            self.skips.push(skip.into());
        } else if let Some((passed, failed, ignored)) = result(line) {
            self.passed += passed;
            self.failed += failed;
            self.ignored += ignored;
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skips.extend(other.skips);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.skips.len());
        let skipped = self.ignored + self.skips.len();
        write!(f, "{passed} passed, {} failed, {skipped} skipped", self.failed)
    }
}

/// `SKIPPED <what>: <why>`
fn skip(line: &str) -> Option<&str> {
    line.strip_prefix("SKIPPED ").filter(|rest| rest.contains(": "))
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
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(tally.skips(), ["dma-heap: no /dev/dma_heap/system"]);
        tally += tally.clone();
        assert_eq!(tally.to_string(), "2 passed, 2 failed, 4 skipped");
    }

    #[test]
    fn skip_without_result_is_not_negative() {
        let mut tally = Tally::default();
        tally.line("SKIPPED vivid: not there");
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 1 skipped");
    }
}
