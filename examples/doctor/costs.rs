//! Runs each path in a process of its own, in turns.

use std::time::Duration;

use super::child;
use super::common::Progress;
use super::findings::{Costs, Counts, Failure, Row, NAMES};
use super::meter::no_bus;
use super::options::Options;
use super::paths::{Memory, Path};

pub fn measure(o: &Options, progress: &mut Progress) -> Costs {
    let no_bus = no_bus();
    let mut runs = Vec::new();
    for &path in &o.paths {
        // A capture hands nothing on.
        let ways: &[Memory] = if path == path.capture() { &[Memory::DmaBuf] } else { &[Memory::DmaBuf, Memory::Copy] };
        runs.extend(ways.iter().map(|&memory| Run::new(path, memory)));
    }
    let count = runs.len();
    for turn in 0..o.turns {
        for at in 0..count {
            // The order rotates, so that none always runs first.
            let run = &mut runs[(at + turn) % count];
            if run.row.failed.is_none() {
                progress.show(|| format!("turn {} of {}: {} by {}", turn + 1, o.turns, run.row.path, run.row.memory));
                run.row.failed = run.run(o, no_bus.is_none()).err();
            }
        }
    }
    let median_of = |mut run: Run| {
        run.row.counts = std::array::from_fn(|i| median(run.turns.iter().map(|t| t[i]).collect()));
        run.row
    };
    Costs {
        width: o.size.width.into(),
        height: o.size.height.into(),
        fps: o.fps.into(),
        codec: o.codec.to_string(),
        frames: o.frames,
        turns: o.turns as u64,
        no_bus,
        rows: runs.into_iter().map(median_of).collect(),
    }
}

struct Run {
    row: Row,
    turns: Vec<Counts>,
}

impl Run {
    fn new(path: Path, memory: Memory) -> Self {
        let (path, capture, memory) = (path.name(), path.capture().name(), memory.name());
        Self { row: Row { path, capture, memory, ..Row::default() }, turns: Vec::new() }
    }

    fn run(&mut self, o: &Options, bus: bool) -> Result<(), Failure> {
        let mut words = vec!["--path", self.row.path, "--memory", self.row.memory];
        let numbers = [o.codec.to_string(), o.frames.to_string(), o.fps.to_string(), o.size.to_string()];
        for (option, value) in ["--codec", "--frames", "--fps", "--size"].iter().zip(&numbers) {
            words.extend([option, value.as_str()]);
        }
        for (option, value) in [("--camera", &o.camera), ("--encoder", &o.encoder)] {
            words.extend(value.iter().flat_map(|v| [option, v.as_str()]));
        }
        if bus {
            words.push("--bus");
        }
        let args: Vec<String> = words.into_iter().map(str::to_owned).collect();
        // A slow machine needs several times the time of the frames.
        let limit = Duration::from_secs(40 + 10 * o.frames / u64::from(o.fps));
        let text = child::run(&args, limit)?;
        self.take(&text).map_err(|e| Failure::new("", format!("{e}: {text}")))
    }

    fn take(&mut self, text: &str) -> super::common::Result<()> {
        let mut words = text.trim().splitn(NAMES.len() + 2, ' ');
        let mut counts = [0.0; NAMES.len()];
        for count in &mut counts {
            *count = words.next().unwrap_or_default().parse()?;
        }
        self.turns.push(counts);
        self.row.lost += words.next().unwrap_or_default().parse::<u64>()?;
        self.row.devices = words.next().unwrap_or_default().into();
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
