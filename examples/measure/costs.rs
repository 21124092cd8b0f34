//! Runs each way in a process of its own, in turns.

use std::process::{Command, Stdio};

use super::common::Result;
use super::meter::{no_bus, Counts, NAMES};
use super::paths::{Memory, Path};
use super::Options;

pub struct Costs {
    pub rows: Vec<Row>,
    /// Why there are no counts of the DDR bus.
    pub no_bus: Option<String>,
}

/// Of one frame: medians of all turns.
pub struct Row {
    pub path: Path,
    pub memory: Memory,
    pub counts: Counts,
    pub lost: u64,
    pub devices: String,
    /// Why it could not be run.
    pub failed: Option<String>,
    turns: Vec<Counts>,
}

pub fn measure(o: &Options) -> Result<Costs> {
    let no_bus = no_bus();
    let mut rows = Vec::new();
    for &path in &o.paths {
        // A capture hands nothing on.
        let ways: &[Memory] = if path == path.capture() { &[Memory::DmaBuf] } else { &[Memory::DmaBuf, Memory::Copy] };
        rows.extend(ways.iter().map(|&memory| Row::new(path, memory)));
    }
    let count = rows.len();
    for turn in 0..o.turns {
        for at in 0..count {
            // The order rotates, so that none always runs first.
            let row = &mut rows[(at + turn) % count];
            if row.failed.is_none() {
                eprintln!("turn {} of {}: {} by {}", turn + 1, o.turns, row.path.name(), row.memory.name());
                row.failed = row.run(o, no_bus.is_none()).err().map(|e| e.to_string());
            }
        }
    }
    for row in &mut rows {
        row.counts = std::array::from_fn(|i| median(row.turns.iter().map(|t| t[i]).collect()));
    }
    Ok(Costs { rows, no_bus })
}

impl Row {
    fn new(path: Path, memory: Memory) -> Self {
        let (counts, turns) = ([0.0; NAMES.len()], Vec::new());
        Self { path, memory, counts, lost: 0, devices: String::new(), failed: None, turns }
    }

    fn run(&mut self, o: &Options, bus: bool) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--path", self.path.name(), "--memory", self.memory.name(), "--codec", &o.codec.to_string()]);
        command.args(["--frames", &o.frames.to_string(), "--fps", &o.fps.to_string(), "--size", &o.size.to_string()]);
        for (option, value) in [("--camera", &o.camera), ("--encoder", &o.encoder)] {
            command.args(value.iter().flat_map(|v| [option, v.as_str()]));
        }
        if bus {
            command.arg("--bus");
        }
        let out = command.stdin(Stdio::null()).output()?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).trim().trim_start_matches("error: ").into());
        }
        let text = String::from_utf8_lossy(&out.stdout);
        let mut words = text.trim().splitn(NAMES.len() + 2, ' ');
        let mut counts = [0.0; NAMES.len()];
        for count in &mut counts {
            *count = words.next().unwrap_or_default().parse()?;
        }
        self.turns.push(counts);
        self.lost += words.next().unwrap_or_default().parse::<u64>()?;
        self.devices = words.next().unwrap_or_default().into();
        Ok(())
    }
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
