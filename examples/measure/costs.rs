//! Runs each way at two lengths, in turns, and takes the difference.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeValLike;

use super::common::Result;
use super::paths::{Memory, Path};
use super::Options;

/// What is counted, in the order of the arrays here.
pub const NAMES: [&str; 8] = [
    "process_cpu_us",
    "machine_cpu_us",
    "system_calls",
    "page_faults",
    "context_switches",
    "copied_bytes",
    "ddr_read_cycles",
    "ddr_write_cycles",
];
type Counts = [f64; NAMES.len()];

const DDR: &str = "imx8_ddr0/read-cycles/,imx8_ddr0/write-cycles/";

pub struct Costs {
    pub rows: Vec<Row>,
    /// Why there are no counts of the DDR bus.
    pub no_ddr: Option<String>,
}

/// Of one frame: medians of all turns.
pub struct Row {
    pub path: Path,
    pub memory: Memory,
    pub frame: Counts,
    /// In all long runs.
    pub frames: u64,
    pub lost: u64,
    pub devices: String,
    /// What could not be run, and why.
    pub failed: Option<String>,
}

pub fn measure(o: &Options) -> Result<Costs> {
    let no_ddr = no_ddr();
    let mut rows = Vec::new();
    for &path in &o.paths {
        // A capture hands nothing on.
        let ways: &[Memory] = if path == Path::Capture { &[Memory::DmaBuf] } else { &[Memory::DmaBuf, Memory::Copy] };
        rows.extend(ways.iter().map(|&memory| (Row::new(path, memory), Vec::new())));
    }
    for turn in 0..o.turns {
        for at in 0..rows.len() {
            // Nobody is always first.
            let count = rows.len();
            let (row, turns) = &mut rows[(at + turn) % count];
            if row.failed.is_some() {
                continue;
            }
            eprintln!("turn {} of {}: {} by {}", turn + 1, o.turns, row.path.name(), row.memory.name());
            match row.turn(o, no_ddr.is_none()) {
                Ok(counts) => turns.push(counts),
                Err(e) => row.failed = Some(e.to_string()),
            }
        }
    }
    let finish = |(mut row, turns): (Row, Vec<Counts>)| {
        for (i, value) in row.frame.iter_mut().enumerate() {
            *value = median(turns.iter().map(|t| t[i]).collect());
        }
        row
    };
    Ok(Costs { rows: rows.into_iter().map(finish).collect(), no_ddr })
}

impl Row {
    fn new(path: Path, memory: Memory) -> Self {
        let frame = [0.0; NAMES.len()];
        Self { path, memory, frame, frames: 0, lost: 0, devices: String::new(), failed: None }
    }

    /// The short and the long run: the difference, a frame.
    fn turn(&mut self, o: &Options, ddr: bool) -> Result<Counts> {
        let short = self.once(o, o.frames, ddr)?;
        let long = self.once(o, o.frames * 3, ddr)?;
        (self.frames, self.lost) = (self.frames + long.frames, self.lost + long.lost);
        self.devices = long.devices;
        let frames = (long.frames - short.frames) as f64;
        Ok(std::array::from_fn(|i| (long.counts[i] - short.counts[i]) / frames))
    }

    fn once(&self, o: &Options, frames: u64, ddr: bool) -> Result<Run> {
        let counters = std::env::temp_dir().join(format!("framelease-perf-{}", std::process::id()));
        let program = std::env::current_exe()?;
        let mut command = Command::new(if ddr { "perf".as_ref() } else { program.as_os_str() });
        if ddr {
            command.args(["stat", "-a", "-x,", "-e", DDR, "-o"]).arg(&counters).arg("--").arg(&program);
        }
        command.args(["--path", self.path.name(), "--memory", self.memory.name()]);
        command.args(["--frames", &frames.to_string(), "--fps", &o.fps.to_string(), "--size", &o.size.to_string()]);
        command.args(["--codec", &o.codec.to_string()]);
        for (option, value) in [("--camera", &o.camera), ("--encoder", &o.encoder)] {
            command.args(value.iter().flat_map(|v| [option, v.as_str()]));
        }
        let (before, busy) = (usage()?, busy_us()?);
        let out = command.stdin(Stdio::null()).output()?;
        let (after, busy) = (usage()?, busy_us()? - busy);
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).trim().trim_start_matches("error: ").into());
        }
        let text = String::from_utf8_lossy(&out.stdout);
        let mut words = text.trim().splitn(5, ' ');
        let mut number = || -> Result<u64> { Ok(words.next().ok_or("a run printed nonsense")?.parse()?) };
        let (frames, lost, calls, copied) = (number()?, number()?, number()?, number()?);
        let devices = words.next().unwrap_or_default().into();
        let [read, write] = if ddr { cycles(&fs::read_to_string(&counters)?) } else { [0.0; 2] };
        let [cpu, faults, switches] = std::array::from_fn(|i| after[i] - before[i]);
        let counts = [cpu, busy, calls as f64, faults, switches, copied as f64, read, write];
        Ok(Run { frames, lost, counts, devices })
    }
}

struct Run {
    frames: u64,
    lost: u64,
    counts: Counts,
    devices: String,
}

/// CPU in microseconds, page faults and context switches of all children until now.
fn usage() -> Result<[f64; 3]> {
    let u = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = u.user_time().num_microseconds() + u.system_time().num_microseconds();
    let faults = u.minor_page_faults() + u.major_page_faults();
    let switches = u.voluntary_context_switches() + u.involuntary_context_switches();
    Ok([cpu as f64, faults as f64, switches as f64])
}

/// CPU of all tasks of the machine, kernel threads included: to the nanosecond where the kernel has schedstats, else in
/// ticks. Interrupts are in the latter only.
fn busy_us() -> Result<f64> {
    if let Ok(text) = fs::read_to_string("/proc/schedstat") {
        let cpus = text.lines().filter(|l| l.starts_with("cpu"));
        let ns = cpus.filter_map(|l| l.split(' ').nth(7)?.parse::<f64>().ok()).sum::<f64>();
        return Ok(ns / 1e3);
    }
    let text = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = text.split_whitespace().skip(1).take(7).map_while(|w| w.parse().ok()).collect();
    let ticks: f64 = fields.iter().sum::<f64>() - fields.iter().skip(3).take(2).sum::<f64>();
    Ok(ticks * 1e4)
}

/// None if perf counts the DDR bus here.
fn no_ddr() -> Option<String> {
    let out = match Command::new("perf").args(["stat", "-a", "-x,", "-e", DDR, "--", "true"]).output() {
        Err(e) => return Some(format!("perf: {e}")),
        Ok(out) => out,
    };
    let text = String::from_utf8_lossy(&out.stderr);
    match out.status.success() && !text.contains("<not ") {
        true => None,
        false => Some(format!("perf has no {DDR} here")),
    }
}

/// From lines of `perf stat -x,`: count, unit, event.
fn cycles(text: &str) -> [f64; 2] {
    ["read-cycles", "write-cycles"].map(|event| {
        let counts = text.lines().filter(|l| l.contains(event)).filter_map(|l| l.split(',').next());
        counts.filter_map(|count| count.parse::<f64>().ok()).sum()
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
