//! `cargo lab rivals --job encode`: the same encode by GStreamer and by framelease, in one guest, and what each costs
//! the CPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::apt::{merge, Apt};
use crate::cache::Cache;
use crate::cargo::{self, RUN_FEATURES};
use crate::gstreamer_rootfs::SUITE;
use crate::guest::End;
use crate::run::report;
use crate::{modules, prerequisites, say, Res};

use super::figures::median;
use super::in_guest::{self, Ran, Script, ARCH};

const PACKAGES: [&str; 4] = ["gstreamer1.0-tools", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "libc6"];
const EXAMPLE: &str = "encode";
/// Ticks of `/proc/stat` in a second.
const TICKS: f64 = 100.0;
/// Emulated, an encode takes some 60 ms a frame.
const LIMIT: Duration = Duration::from_secs(1800);

/// A Debian root with GStreamer, which the guest mounts and changes its root to.
fn root(cache: &Cache) -> Res<PathBuf> {
    cache.step("gstreamer", &format!("{SUITE} {}", PACKAGES.join(" ")), |dir| {
        Apt::open(cache, SUITE, &[ARCH.debian()])?.unpack_closure(&PACKAGES, dir)?;
        merge(dir).map_err(|e| format!("{}: {e}", dir.display()))
    })
}

/// What the user asked for.
#[derive(Debug, PartialEq)]
pub struct Encode {
    /// Of the short runs.
    pub frames: u32,
    pub turns: u32,
}

pub fn encode(workspace: &Path, wish: &Encode) -> Res<i32> {
    let Encode { frames, turns } = wish;
    prerequisites::for_guest(ARCH)?;
    let words = ["build", "--package", "framelease", "--features", RUN_FEATURES, "--example", EXAMPLE];
    let examples = cargo::build(workspace, ARCH, &words)?;
    // In a statement of its own, which releases the lock on the cache.
    let root = root(&Cache::open()?)?;
    let machine = in_guest::machine(workspace, root)?;
    let script = Script {
        name: "encode_rivals",
        arguments: [frames.to_string(), turns.to_string()].to_vec(),
        // Where it can, GStreamer asks for NV12M, and then cannot import a camera's NV12.
        modules: modules::load_lines(&machine.own_modules, &["fl_h264 multiplanar=0".into()]),
        examples,
        programs: Vec::new(),
        limit: LIMIT,
    };
    say!("encoding {frames} and {} frames by each, {turns} times", frames * 3);
    let Ran { end, text, tail } = in_guest::run(workspace, &machine, script)?;
    match end {
        End::Exited(0) => {}
        End::Exited(status) => return Err(format!("the runs ended with status {status}")),
        End::Interrupted => return Ok(130),
        end => {
            report(&machine, &end, &tail);
            return Ok(1);
        }
    }
    print!("{}", Figures::of(&text)?);
    Ok(0)
}

/// `0m1.230s`, as a shell's `times` has it.
fn seconds(word: &str) -> Option<f64> {
    let (minutes, seconds) = word.strip_suffix('s')?.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

/// Thousands of instructions a frame, which the guest takes for microseconds: of the process, and of the whole machine.
/// One of each for every turn.
#[derive(Debug, Default, PartialEq)]
struct Costs {
    process: Vec<f64>,
    machine: Vec<f64>,
}

#[derive(Debug)]
struct Figures(BTreeMap<String, Rivals>);

/// With one encoder.
#[derive(Debug, Default)]
struct Rivals {
    ours: Costs,
    theirs: Costs,
}

impl Figures {
    /// From the guest's lines: the short and the long run of a turn come one after the other.
    fn of(text: &str) -> Res<Figures> {
        let mut short: BTreeMap<(&str, &str), (f64, f64, f64)> = BTreeMap::new();
        let mut figures: BTreeMap<String, Rivals> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let run = || {
                let [_, _, frames, user, system, busy] = words[..] else { return None };
                let process = seconds(user)? + seconds(system)?;
                Some((frames.parse().ok()?, process, busy.parse::<f64>().ok()? / TICKS))
            };
            let long = run().ok_or(format!("not a line of the guest's: {line}"))?;
            let (codec, who) = (words[0], words[1]);
            let Some(short) = short.remove(&(codec, who)) else {
                short.insert((codec, who), long);
                continue;
            };
            let rivals = figures.entry(codec.into()).or_default();
            let costs = if who == "ours" { &mut rivals.ours } else { &mut rivals.theirs };
            let each = |long: f64, short: f64, frames: f64| (long - short) * 1e6 / frames;
            costs.process.push(each(long.1, short.1, long.0 - short.0));
            costs.machine.push(each(long.2, short.2, long.0 - short.0));
        }
        let lacks = |r: &Rivals| r.ours.process.is_empty() || r.theirs.process.is_empty();
        match figures.is_empty() || figures.values().any(lacks) {
            true => Err(format!("the guest did not measure everything: {text}")),
            false => Ok(Figures(figures)),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "CPU a frame in the guest, in thousands of instructions: median (least to most)")?;
        self.0.iter().try_for_each(|(codec, rivals)| rivals.show(codec, f))
    }
}

impl Rivals {
    fn show(&self, codec: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, costs) in [("framelease", &self.ours), ("GStreamer", &self.theirs)] {
            let range = |v: &[f64]| {
                let (least, most) = v.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
                format!("{:.0} ({least:.0} to {most:.0})", median(v))
            };
            writeln!(f, "{codec} {name:<10} process {}, machine {}", range(&costs.process), range(&costs.machine))?;
        }
        let ratio = |which: fn(&Costs) -> &Vec<f64>| median(which(&self.ours)) / median(which(&self.theirs));
        let (process, machine) = (ratio(|c| &c.process), ratio(|c| &c.machine));
        let turns = self.ours.process.len();
        writeln!(
            f,
            "{{\"codec\":\"{codec}\",\"process_ratio\":{process:.3},\"machine_ratio\":{machine:.3},\"turns\":{turns}}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_up_is_not_counted() {
        let text = "fwht ours 60 0m0.500s 0m3.000s 400\nfwht gst 60 0m1.00s 0m3.00s 500\n\
                    fwht ours 180 0m0.740s 0m9.00s 1000\nfwht gst 180 0m1.720s 1m9.00s 7700\n";
        let figures = Figures::of(text).unwrap();
        // 0.24 + 6 s in 120 frames.
        let fwht = &figures.0["fwht"];
        assert!((median(&fwht.ours.process) - 52_000.0).abs() < 1.0, "{figures:?}");
        assert!((median(&fwht.theirs.machine) - 600_000.0).abs() < 1.0, "{figures:?}");
        assert!(figures.to_string().contains("\"turns\":1"));
        assert!(Figures::of("").is_err() && Figures::of("fwht ours 3 4\n").is_err());
        assert!(Figures::of("h264 gst 1 0m0.1s 0m0.1s 1\nh264 gst 3 0m0.1s 0m0.1s 1\n").is_err());
    }

    #[test]
    fn seconds_of_a_shell() {
        assert_eq!((seconds("1m2.50s"), seconds("x")), (Some(62.5), None));
    }
}
