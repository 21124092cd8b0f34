//! Which tests take the time of a guest, which runs one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How many tests and how many modules are shown.
const SHOWN: usize = 8;

/// The time between the lines of the harness, by test.
#[derive(Debug, Default)]
pub struct Slowest {
    last: Option<Instant>,
    tests: Vec<(Duration, String)>,
}

impl Slowest {
    /// Takes in one line of output.
    pub fn line(&mut self, line: &str, now: Instant) {
        if line.starts_with("running ") {
            self.last = Some(now);
        } else if let (Some(name), Some(last)) = (ended(line), self.last) {
            self.tests.push((now - last, name.into()));
            self.last = Some(now);
        }
    }
}

/// `test encode::packets_are_leases ... ok`
fn ended(line: &str) -> Option<&str> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (!verdict.is_empty()).then_some(name)
}

impl fmt::Display for Slowest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut modules = BTreeMap::<&str, Duration>::new();
        for (time, name) in &self.tests {
            *modules.entry(name.split("::").next().unwrap_or(name)).or_default() += *time;
        }
        let total: Duration = self.tests.iter().map(|(time, _)| *time).sum();
        writeln!(f, "{} tests in {} s. The slowest modules and tests:", self.tests.len(), total.as_secs())?;
        let modules = modules.into_iter().map(|(name, time)| (time, name)).collect();
        let tests = self.tests.iter().map(|(time, name)| (*time, name.as_str())).collect();
        for mut all in [modules, tests] as [Vec<_>; 2] {
            all.sort_by(|a, b| b.cmp(a));
            for (time, name) in all.iter().take(SHOWN) {
                writeln!(f, "{:8.1} s  {name}", time.as_secs_f64())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowest_tests_and_modules_are_first() {
        let start = Instant::now();
        let mut slowest = Slowest::default();
        for (second, line) in [
            (5, "test before::the_count ... ok"),
            (10, "running 3 tests"),
            (11, "test a::quick ... ok"),
            (11, "test a::begun ... "),
            (14, "test b::slow ... FAILED"),
            (15, "SKIPPED vivid: not there"),
            (16, "test a::begun ... ok"),
        ] {
            slowest.line(line, start + Duration::from_secs(second));
        }
        let text = slowest.to_string();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "3 tests in 6 s. The slowest modules and tests:",
                "     3.0 s  b",
                "     3.0 s  a",
                "     3.0 s  b::slow",
                "     2.0 s  a::begun",
                "     1.0 s  a::quick",
            ]
        );
    }
}
