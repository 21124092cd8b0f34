//! All that was measured, and medians of it.

use std::collections::BTreeMap;
use std::fmt;

use super::build::{Contender, Contenders};
use super::disturb::Losses;
use super::turn::{Physics, Turn};
use super::{Share, Size};
use crate::Res;

/// One job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub size: Size,
    pub reads: bool,
    pub consumers: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match (self.consumers, self.reads) {
            (1, false) => "consumer that only receives",
            (1, true) => "consumer that reads every pixel",
            (_, false) => "consumers that only receive",
            (_, true) => "consumers that read every pixel",
        };
        write!(f, "{}, {} {who}", self.size.name(), self.consumers)
    }
}

pub struct Figures {
    pub machine: String,
    pub turns: usize,
    pub seconds: u64,
    pub physics: Physics,
    /// In the order of `Contenders`.
    pub names: Vec<&'static str>,
    pub absent: Vec<(&'static str, String)>,
    turns_of: BTreeMap<(Key, &'static str), Vec<Turn>>,
    failed: BTreeMap<(Key, &'static str), String>,
    sources: BTreeMap<(&'static str, u32), Vec<f64>>,
    pub losses: Vec<(&'static str, Res<Losses>)>,
}

/// Medians of one contender at one job.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: Key,
    pub name: &'static str,
    /// CPU of all processes for a frame, us: median, least, most.
    pub whole: [f64; 3],
    /// Without what its source costs alone.
    pub net: f64,
    pub producer: f64,
    /// One of them.
    pub consumer: f64,
    /// Percent of what should have come.
    pub received: f64,
    /// Of all turns and consumers, sorted, us.
    pub latencies: Vec<f64>,
    pub calls: Option<(f64, f64)>,
    pub memory_mb: f64,
}

impl Row {
    /// None where there are too few samples to speak of it.
    pub fn latency(&self, at: f64) -> Option<f64> {
        quantile(&self.latencies, at)
    }
}

impl Figures {
    pub fn new(wish: &Share, all: &Contenders, physics: Physics) -> Self {
        Self {
            machine: machine(),
            turns: wish.turns,
            seconds: 0,
            physics,
            names: all.there.iter().map(|c| c.name).collect(),
            absent: all.absent.clone(),
            turns_of: BTreeMap::new(),
            failed: BTreeMap::new(),
            sources: BTreeMap::new(),
            losses: Vec::new(),
        }
    }

    pub fn add(&mut self, contender: &Contender, key: Key, turn: Turn) {
        self.turns_of.entry((key, contender.name)).or_default().push(turn);
    }

    pub fn fail(&mut self, contender: &Contender, key: Key, why: String) {
        crate::say!("{}, {key}: {why}", contender.name);
        self.failed.insert((key, contender.name), why);
    }

    pub fn add_source(&mut self, contender: &Contender, fps: u32, us: f64) {
        self.sources.entry((contender.name, fps)).or_default().push(us);
    }

    pub fn source(&self, name: &'static str, fps: u32) -> f64 {
        self.sources.get(&(name, fps)).map_or(0.0, |all| median(all))
    }

    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.turns_of.keys().map(|(key, _)| *key).collect();
        keys.dedup();
        keys
    }

    /// Rows of one job, in the contenders' order.
    pub fn rows(&self, key: Key) -> Vec<Row> {
        self.names.iter().filter_map(|name| self.row(key, name)).collect()
    }

    /// `None`: it was not measured, or failed.
    pub fn row(&self, key: Key, name: &'static str) -> Option<Row> {
        let turns = Some(self.turns(key, name)).filter(|turns| !turns.is_empty())?;
        let of = |which: fn(&Turn) -> f64| turns.iter().map(which).collect::<Vec<f64>>();
        let whole = of(Turn::whole_us);
        let mut latencies: Vec<f64> = turns.iter().flat_map(|t| t.latencies_us.iter().copied()).collect();
        latencies.sort_by(f64::total_cmp);
        let least = whole.iter().copied().fold(f64::MAX, f64::min);
        let most = whole.iter().copied().fold(f64::MIN, f64::max);
        Some(Row {
            key,
            name,
            whole: [median(&whole), least, most],
            net: median(&whole) - self.source(name, key.size.fps),
            producer: median(&of(|t| t.producer_us)),
            consumer: median(&of(|t| t.consumers_us)) / f64::from(key.consumers),
            received: median(&of(|t| t.received)) * 100.0,
            latencies,
            calls: turns.iter().find_map(|t| t.calls),
            memory_mb: median(&of(|t| t.memory_mb)),
        })
    }

    /// The turns of one contender at one job, in the order in which they ran.
    pub fn turns(&self, key: Key, name: &'static str) -> &[Turn] {
        self.turns_of.get(&(key, name)).map_or(&[], Vec::as_slice)
    }

    pub fn failures(&self) -> impl Iterator<Item = (&Key, &'static str, &String)> {
        self.failed.iter().map(|((key, name), why)| (key, *name, why))
    }
}

/// Processor, cores, kernel, and how busy it was before.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).map(|l| l.trim_start_matches(['\t', ':', ' ']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let virtual_ = if cpu.contains("hypervisor") { ", virtual" } else { "" };
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{}{virtual_}, {cores} cores, Linux {kernel}, load before the run {load}",
        model.unwrap_or("unknown processor")
    )
}

/// Of sorted values. `None`: they are too few to say.
pub fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let count = sorted.len();
    let needed = (1.0 / (1.0 - at)).round() as usize;
    (count >= needed).then(|| sorted[((count as f64 * at) as usize).min(count - 1)])
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (2.0, 2.5, 0.0));
    }
}
