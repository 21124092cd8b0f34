//! Counts between two frames of a stream that runs: of some processes, of the machine, of the memory's bus.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use framelease::stats::cpu_bytes;
use framelease::stats::syscalls;
use nix::sys::signal::{kill, Signal};
use nix::time::{clock_gettime, ClockId};
use nix::unistd::Pid;

use super::common::Result;
use super::findings::Counts;

/// Its place in [`Counts`].
pub const SYSTEM_CALLS: usize = 2;
/// The places of the latency.
pub const LATENCY: std::ops::Range<usize> = 6..8;

/// The memory controller's counters of i.MX8.
const DDR: &str = "imx8_ddr0/read-cycles/,imx8_ddr0/write-cycles/";

pub struct Meter {
    pids: Vec<Pid>,
    bus: Option<Bus>,
    from: Option<(Instant, [f64; 4], [f64; 2])>,
}

impl Meter {
    /// Of this process and its children so far. With `bus` perf is started, which takes a moment.
    pub fn new(children: &[Child], bus: bool) -> Result<Self> {
        let pids = children.iter().map(|c| Pid::from_raw(c.id() as i32)).chain([Pid::this()]).collect();
        Ok(Self { pids, bus: bus.then(Bus::start).transpose()?, from: None })
    }

    /// Reading `/proc` is work, too: it stays outside.
    pub fn begin(&mut self) -> Result<()> {
        let events = self.events()?;
        self.from = Some((Instant::now(), self.work()?, events));
        Ok(())
    }

    /// Returns the counts for each of `frames` frames since [`Meter::begin`].
    pub fn end(self, frames: u64) -> Result<Counts> {
        let (work, events) = (self.work()?, self.events()?);
        let (since, work_before, events_before) = self.from.ok_or("nothing was begun")?;
        let ns = since.elapsed().as_secs_f64() * 1e9;
        let [read, write] = self.bus.map_or(Ok([0.0; 2]), Bus::cycles_per_ns)?;
        let [cpu, machine, calls, copied] = std::array::from_fn(|i| work[i] - work_before[i]);
        let [faults, switches] = std::array::from_fn(|i| events[i] - events_before[i]);
        // The path adds the latency.
        let unknown = f64::NAN;
        let all = [cpu, machine, calls, copied, faults, switches, unknown, unknown, read * ns, write * ns];
        Ok(all.map(|count| count / frames as f64))
    }

    /// CPU of the processes and of the machine in us, system calls of the library in this process, bytes copied.
    fn work(&self) -> Result<[f64; 4]> {
        let mut us = 0.0;
        for &pid in &self.pids {
            let time = clock_gettime(ClockId::pid_cpu_clock_id(pid)?)?;
            us += time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3;
        }
        Ok([us, machine_us()?, syscalls() as f64, cpu_bytes().written as f64])
    }

    /// Page faults and context switches, of all threads.
    fn events(&self) -> Result<[f64; 2]> {
        let (mut faults, mut switches) = (0, 0);
        for pid in &self.pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            let number = |w: Option<&str>| w.and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
            // minflt and majflt.
            faults += fields.skip(7).step_by(2).take(2).map(|w| number(Some(w))).sum::<u64>();
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let status = fs::read_to_string(thread?.path().join("status"))?;
                let lines = status.lines().filter(|l| l.contains("ctxt_switches"));
                switches += lines.map(|l| number(l.split_whitespace().nth(1))).sum::<u64>();
            }
        }
        Ok([faults as f64, switches as f64])
    }
}

/// CPU of all tasks of the machine, kernel threads included: exact where the kernel has schedstats, else in ticks,
/// which count interrupts, too.
fn machine_us() -> Result<f64> {
    if let Ok(text) = fs::read_to_string("/proc/schedstat") {
        let cpus = text.lines().filter(|l| l.starts_with("cpu"));
        return Ok(cpus.filter_map(|l| l.split(' ').nth(7)?.parse::<f64>().ok()).sum::<f64>() / 1e3);
    }
    let text = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<f64> = text.split_whitespace().skip(1).take(7).map_while(|w| w.parse().ok()).collect();
    let idle = ticks.iter().skip(3).take(2).sum::<f64>();
    Ok((ticks.iter().sum::<f64>() - idle) * 1e4)
}

/// `perf stat` beside us.
struct Bus {
    perf: Child,
    file: PathBuf,
}

/// None if perf counts the DDR bus here, else why not.
pub fn no_bus() -> Option<String> {
    match Command::new("perf").args(["stat", "-a", "-x,", "-e", DDR, "--", "true"]).output() {
        Err(e) => Some(format!("perf: {e}")),
        Ok(out) if out.status.success() && !String::from_utf8_lossy(&out.stderr).contains("<not ") => None,
        Ok(_) => Some(format!("perf has no {DDR} here")),
    }
}

impl Bus {
    fn start() -> Result<Self> {
        let file = std::env::temp_dir().join(format!("framelease-perf-{}", std::process::id()));
        let mut command = Command::new("perf");
        command.args(["stat", "-a", "-x,", "-e", DDR, "-o"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self { perf: command.spawn()?, file })
    }

    /// Reads and writes.
    fn cycles_per_ns(mut self) -> Result<[f64; 2]> {
        kill(Pid::from_raw(self.perf.id() as i32), Signal::SIGINT)?;
        self.perf.wait()?;
        let text = fs::read_to_string(&self.file)?;
        // Count, unit, event, nanoseconds that it was counted.
        let rate = |event: &str| {
            let fields: Vec<&str> = text.lines().find(|l| l.contains(event))?.split(',').collect();
            Some(fields.first()?.parse::<f64>().ok()? / fields.get(3)?.parse::<f64>().ok()?)
        };
        let of = |event| rate(event).ok_or_else(|| format!("perf counted no {event}: {text}"));
        Ok([of("read-cycles")?, of("write-cycles")?])
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // It ends by itself never.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
        let _ = fs::remove_file(&self.file);
    }
}
