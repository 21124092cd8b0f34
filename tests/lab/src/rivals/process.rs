//! A contender's process as the kernel sees it: its CPU time, its memory, its signals.
#![allow(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{signals, Res};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running contender. Killed when dropped.
pub struct Process {
    child: Child,
    ready: Receiver<()>,
    rest: Option<JoinHandle<String>>,
}

impl Process {
    pub fn start(mut command: Command) -> Res<Self> {
        signals::die_with_parent(&mut command);
        let what = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{what}: {e}"))?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let (say, ready) = channel();
        let rest = std::thread::spawn(move || {
            let (mut out, mut line, mut rest) = (BufReader::new(out), String::new(), String::new());
            if out.read_line(&mut line).is_ok() && line == "ready\n" {
                let _ = say.send(());
            }
            let _ = out.read_to_string(&mut rest);
            rest
        });
        Ok(Self { child, ready, rest: Some(rest) })
    }

    pub fn await_ready(&self) -> Res<()> {
        self.ready.recv_timeout(PATIENCE).map_err(|_| "it did not get ready".to_string())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, number: libc::c_int) {
        // SAFETY: kill touches no memory; the child is not reaped yet, so the number is its own.
        unsafe { libc::kill(self.id() as libc::pid_t, number) };
    }

    /// User and system time of all threads so far, those that have ended too.
    pub fn cpu_us(&self) -> Res<f64> {
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both write to what the two references point to, and nothing else.
        let failed = unsafe {
            libc::clock_getcpuclockid(self.id() as libc::pid_t, &mut clock) != 0
                || libc::clock_gettime(clock, &mut time) != 0
        };
        match failed {
            true => Err("it has ended".into()),
            false => Ok(time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3),
        }
    }

    /// What it alone has in memory: no file and no shared memory.
    pub fn private_kb(&self) -> f64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).unwrap_or_default();
        field_kb(&rollup, "Pss_Anon:")
    }

    /// Asks it to end and returns what it printed; what does not end is killed.
    pub fn finish(mut self) -> String {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        self.rest.take().and_then(|rest| rest.join().ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All shared memory of the machine, that of unmapped memfds too.
pub fn shared_kb() -> f64 {
    field_kb(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Shmem:")
}

fn field_kb(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the timespec alone.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// System calls of these processes while `strace` counts them, and for how long it did.
pub fn count_calls(processes: &[&Process], time: Duration) -> Res<(f64, Duration)> {
    let log = std::env::temp_dir().join(format!("framelease-rivals-{}.strace", std::process::id()));
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&log);
    for process in processes {
        command.arg("-p").arg(process.id().to_string());
    }
    let mut strace = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| format!("strace: {e}"))?;
    let mut lines = BufReader::new(strace.stderr.take().ok_or("strace has no output")?).lines();
    for _ in processes {
        let line = lines.next().and_then(|l| l.ok()).unwrap_or_default();
        if !line.contains("attached") {
            let _ = strace.kill();
            let _ = strace.wait();
            return Err(format!("strace: {line}"));
        }
    }
    let begun = Instant::now();
    std::thread::sleep(time);
    let took = begun.elapsed();
    // SAFETY: as in `signal`.
    unsafe { libc::kill(strace.id() as libc::pid_t, libc::SIGINT) };
    let _ = strace.wait();
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    Ok((total(&text).ok_or("strace printed no total")?, took))
}

/// The calls of `strace -c`'s last line.
fn total(text: &str) -> Option<f64> {
    let line = text.lines().rev().find(|l| l.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_strace() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    100.00    0.000000           0         1           read\n\
                    100.00    0.001000           2       412         3 total\n";
        assert_eq!((total(text), total("")), (Some(412.0), None));
        assert_eq!(field_kb("Rss: 5 kB\nPss_Anon:  12 kB\n", "Pss_Anon:"), 12.0);
    }
}
