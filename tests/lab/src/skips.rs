//! Why tests were skipped, by what would let them run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::prerequisites::{remedy, Remedy};

/// The skips of a run, grouped.
#[derive(Debug, Default)]
pub struct Skips {
    by_remedy: BTreeMap<Remedy, usize>,
    /// How many no package would help, and what they miss.
    others: usize,
    names: BTreeSet<String>,
    /// Ignored by the harness: other tests run them.
    ignored: usize,
}

impl Skips {
    /// From what follows the word `SKIPPED`, and the number of ignored tests, which are processes of other tests.
    pub fn of(skips: &[String], ignored: usize) -> Self {
        Self { ignored, ..Self::by(skips, remedy) }
    }

    fn by(skips: &[String], remedy: impl Fn(&str) -> Option<Remedy>) -> Self {
        let mut all = Self::default();
        for skip in skips {
            match remedy(skip) {
                Some(remedy) => *all.by_remedy.entry(remedy).or_default() += 1,
                None => {
                    all.others += 1;
                    all.names.extend(skip.split_once(": ").map(|(what, _)| what.to_owned()));
                }
            }
        }
        all
    }

    /// Whether Debian or rustup serve what some of them miss.
    pub fn are_served(&self) -> bool {
        self.by_remedy.keys().any(|remedy| remedy.is_served)
    }
}

/// One line, or nothing.
impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<(usize, String)> = self
            .by_remedy
            .iter()
            .map(|(Remedy { what, command, .. }, count)| {
                let verb = if *count == 1 { "needs" } else { "need" };
                (*count, format!("{count} {verb} {what} ({command})"))
            })
            .collect();
        groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let mut texts: Vec<String> = groups.into_iter().map(|(_, text)| text).collect();
        if self.others > 0 {
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            texts.push(format!("{} for other reasons ({})", self.others, names.join(", ")));
        }
        if self.ignored > 0 {
            texts.push(format!("{} that other tests run", self.ignored));
        }
        let count = self.others + self.ignored + self.by_remedy.values().sum::<usize>();
        match count {
            0 => Ok(()),
            _ => writeln!(f, "{count} skipped: {}", texts.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_grouped_by_what_would_end_them() {
        let remedy = |skip: &str| {
            let (what, is_served) = match skip.split_once(':')?.0 {
                "numpy" => ("numpy", false),
                "ffmpeg" => ("ffmpeg", true),
                _ => return None,
            };
            Some(Remedy { what: what.into(), command: format!("get {what}"), is_served })
        };
        let of = |skips: &[&str]| Skips::by(&skips.iter().map(|s| s.to_string()).collect::<Vec<_>>(), remedy);
        let all = of(&["numpy: not here", "ffmpeg: a", "udmabuf: none", "ffmpeg: b", "dma-heap: x", "udmabuf: none"]);
        assert_eq!(
            all.to_string(),
            "6 skipped: 2 need ffmpeg (get ffmpeg), 1 needs numpy (get numpy), 3 for other reasons (dma-heap, udmabuf)\n"
        );
        assert!(all.are_served() && !of(&["numpy: x", "udmabuf: x"]).are_served());
        assert_eq!(of(&[]).to_string(), "");
        assert_eq!(
            Skips { ignored: 2, ..of(&["numpy: x"]) }.to_string(),
            "3 skipped: 1 needs numpy (get numpy), 2 that other tests run\n"
        );
    }
}
