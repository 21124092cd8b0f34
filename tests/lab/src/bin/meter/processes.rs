//! The processes of a contender: their start and end, their CPU time and memory, and the rest of the machine.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::time::{clock_gettime, ClockId};
use nix::unistd::Pid;
use serde_json::{json, Value};

use crate::Res;

/// For the first process to make its socket, and for a process to end, in the guest's time.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// Killed when dropped.
pub struct Processes(Vec<(Child, String)>);

impl Processes {
    pub fn start(commands: &[String], socket: Option<&Path>) -> Res<Self> {
        let mut all = Self(Vec::new());
        for command in commands {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(format!("exec {command}")).stdin(Stdio::null()).stdout(Stdio::null());
            let child = shell.spawn().map_err(|e| format!("{command}: {e}"))?;
            all.0.push((child, command.clone()));
            if let Some(socket) = socket.filter(|_| all.0.len() == 1) {
                let deadline = Instant::now() + PATIENCE;
                while !socket.exists() {
                    all.check()?;
                    if Instant::now() > deadline {
                        return Err(format!("{command}: makes no socket {}", socket.display()));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Ok(all)
    }

    /// An error if one of them has ended.
    pub fn check(&mut self) -> Res<()> {
        for (child, command) in &mut self.0 {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("ended with {status}: {command}"));
            }
        }
        Ok(())
    }

    fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.0.iter().map(|(child, _)| Pid::from_raw(child.id() as i32))
    }

    /// Their threads' numbers.
    pub fn threads(&self) -> Vec<u32> {
        let of = |pid: Pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        self.pids().flat_map(of).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    pub fn memory(&self) -> Res<Memory> {
        let mut memory = Memory { processes: self.0.len(), threads: self.threads().len(), ..Memory::default() };
        for pid in self.pids() {
            let read =
                |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|e| format!("{pid}: {e}"));
            memory.peak_kib += field(&read("status")?, "VmHWM:");
            memory.proportional_kib += field(&read("smaps_rollup")?, "Pss:");
        }
        Ok(memory)
    }

    /// Asks all to end, the last started first, so that a recording gets its end before its source goes.
    pub fn finish(&mut self) -> Res<()> {
        for (child, command) in self.0.iter_mut().rev() {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).map_err(|e| format!("{command}: {e}"))?;
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().map_err(|e| e.to_string())?.is_none() {
                if Instant::now() > deadline {
                    return Err(format!("does not end {} s after SIGINT: {command}", PATIENCE.as_secs()));
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[derive(Default)]
pub struct Memory {
    pub processes: usize,
    pub threads: usize,
    /// The largest resident memory of each so far. Pages that several share count in each.
    pub peak_kib: u64,
    /// Now. A page that n processes share counts as 1/n in each.
    pub proportional_kib: u64,
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// CPU time so far, in ns unless named otherwise.
pub struct Counters {
    each: Vec<u64>,
    /// Clock ticks at which they were found in user mode, and in the kernel.
    ticks: (u64, u64),
    /// Page faults.
    faults: u64,
    machine: u64,
    camera: u64,
    workers: u64,
    meter: u64,
}

impl Counters {
    pub fn read(processes: &Processes) -> Res<Self> {
        let clock = |clock: ClockId| {
            let time = clock_gettime(clock).map_err(|e| e.to_string())?;
            Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
        };
        let of = |pid: Pid| ClockId::pid_cpu_clock_id(pid).map_err(|e| e.to_string()).and_then(clock);
        // The machine's counter has what a task ran only after the task has paused.
        std::thread::sleep(Duration::from_millis(1));
        let meter = clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
        let schedstat = fs::read_to_string("/proc/schedstat").map_err(|e| format!("/proc/schedstat: {e}"))?;
        let each = processes.pids().map(of).collect::<Res<_>>()?;
        let (camera, workers) = kernel_threads();
        let (mut ticks, mut faults) = ((0, 0), 0);
        for pid in processes.pids() {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("{pid}: {e}"))?;
            let [minor, major, user, system] = fields_of(&text).ok_or_else(|| format!("/proc/{pid}/stat: {text}"))?;
            ticks = (ticks.0 + user, ticks.1 + system);
            faults += minor + major;
        }
        let machine = machine(&schedstat).ok_or("/proc/schedstat has no processor")?;
        Ok(Self { each, ticks, faults, machine, camera, workers, meter })
    }

    pub fn since(&self, before: &Self) -> Value {
        let us = |now: u64, then: u64| now.saturating_sub(then) as f64 / 1e3;
        let each: Vec<f64> = self.each.iter().zip(&before.each).map(|(now, then)| us(*now, *then)).collect();
        json!({
            "cpu_us": each.iter().sum::<f64>(),
            "cpu_us_each": each,
            "user_ticks": self.ticks.0 - before.ticks.0,
            "system_ticks": self.ticks.1 - before.ticks.1,
            "faults": self.faults - before.faults,
            "machine_us": us(self.machine, before.machine),
            "camera_us": us(self.camera, before.camera),
            "workers_us": us(self.workers, before.workers),
            "meter_us": us(self.meter, before.meter),
        })
    }
}

/// Minor and major page faults, user and system time of `/proc/PID/stat`.
fn fields_of(stat: &str) -> Option<[u64; 4]> {
    // The name is in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some([number(7)?, number(9)?, number(11)?, number(12)?])
}

/// What all tasks of all processors have run, in `/proc/schedstat`.
fn machine(schedstat: &str) -> Option<u64> {
    let cpus = schedstat.lines().filter(|l| l.starts_with("cpu"));
    cpus.map(|l| l.split(' ').nth(7)?.parse::<u64>().ok()).sum()
}

/// Of the camera's threads, and of the workers in which scaler and encoder run.
fn kernel_threads() -> (u64, u64) {
    let (mut camera, mut workers) = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        // One that has just ended has no name any more.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let ran = || {
            let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
        };
        match name.trim() {
            name if name.starts_with("vivid") => camera += ran(),
            name if name.starts_with("kworker/") => workers += ran(),
            _ => {}
        }
    }
    (camera, workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_process_with_a_strange_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 77 88 0 0";
        assert_eq!(fields_of(stat), Some([7, 9, 77, 88]));
        assert_eq!(fields_of("12 (a) S 1"), None);
    }

    #[test]
    fn machine_is_the_sum_of_processors() {
        let text = "version 15\ntimestamp 1\ncpu0 1 0 2 3 4 5 600 7 8\ndomain0 1\ncpu1 1 0 2 3 4 5 60 7 8\n";
        assert_eq!(machine(text), Some(660));
        assert_eq!(machine("cpu0 1"), None);
    }

    #[test]
    fn field_of_a_status() {
        assert_eq!(field("Name: x\nVmHWM:\t  1234 kB\n", "VmHWM:"), 1234);
        assert_eq!(field("", "VmHWM:"), 0);
    }
}
