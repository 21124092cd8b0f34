//! One contender, one turn: processes started, left to run, looked at from outside, ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::Contender;
use super::figures::Key;
use super::process::{count_calls, now_ns, shared_kb, Process};
use super::{Size, SIZES};
use crate::exec::output;
use crate::{say, Res};

/// Until caches are warm and all processes are in step.
const SETTLE: Duration = Duration::from_millis(400);
const TRACE: Duration = Duration::from_millis(1000);

pub struct Scene<'a> {
    pub contender: &'a Contender,
    pub key: Key,
    pub window: Duration,
    pub trace: bool,
}

/// What one turn has shown. CPU times are microseconds for each frame of the source.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    pub producer_us: f64,
    /// All consumers together.
    pub consumers_us: f64,
    /// Of all frames, how many the consumers got.
    pub received: f64,
    /// Sorted.
    pub latencies_us: Vec<f64>,
    pub memory_mb: f64,
    /// For a frame: of the producer, and of one consumer.
    pub calls: Option<(f64, f64)>,
}

impl Turn {
    /// The CPU of all processes.
    pub fn whole_us(&self) -> f64 {
        self.producer_us + self.consumers_us
    }
}

/// A frame as a consumer saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub sequence: u64,
    pub published_ns: u64,
    pub received_ns: u64,
}

/// The processes of one contender, running.
pub struct Running {
    pub consumers: Vec<Process>,
    pub producer: Process,
    folder: PathBuf,
}

impl Running {
    pub fn start(contender: &Contender, key: Key) -> Res<Self> {
        let folder = std::env::temp_dir().join(format!("framelease-rivals-{}-{}", std::process::id(), now_ns()));
        std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let socket = folder.join("socket");
        let command = |role| contender.command(role, contender.transport, &socket, key.size, key.consumers, key.reads);
        let producer = Process::start(command("produce"))?;
        producer.await_ready().map_err(|e| format!("the producer: {e}"))?;
        let consumers = (0..key.consumers).map(|_| Process::start(command("consume"))).collect::<Res<Vec<_>>>()?;
        let running = Self { consumers, producer, folder };
        running.consumers.iter().try_for_each(|c| c.await_ready()).map_err(|e| format!("a consumer: {e}"))?;
        Ok(running)
    }

    /// Ends all and returns what each consumer saw.
    pub fn finish(self) -> Vec<Vec<Sample>> {
        self.consumers.iter().for_each(|c| c.signal(libc::SIGTERM));
        let seen = self.consumers.into_iter().map(|c| samples(&c.finish())).collect();
        self.producer.finish();
        let _ = std::fs::remove_dir_all(&self.folder);
        seen
    }
}

fn samples(text: &str) -> Vec<Sample> {
    let line = |line: &str| {
        let numbers: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
        let [sequence, published_ns, received_ns] = numbers[..] else { return None };
        Some(Sample { sequence, published_ns, received_ns })
    };
    text.lines().filter_map(line).collect()
}

impl Scene<'_> {
    pub fn run(&self) -> Res<Turn> {
        let shared_before = shared_kb();
        let running = Running::start(self.contender, self.key)?;
        std::thread::sleep(SETTLE);
        let cpu = || -> Res<(f64, f64)> {
            let consumers = running.consumers.iter().map(Process::cpu_us).sum::<Res<f64>>()?;
            Ok((running.producer.cpu_us()?, consumers))
        };
        let (begun_ns, begun) = (now_ns(), cpu()?);
        std::thread::sleep(self.window);
        let (ended, ended_ns) = (cpu()?, now_ns());
        let private: f64 =
            running.consumers.iter().chain([&running.producer]).map(|process| process.private_kb()).sum();
        let memory_mb = (private + shared_kb() - shared_before) / 1024.0;
        let fps = f64::from(self.key.size.fps);
        let calls = match self.trace {
            // Not every user may trace.
            true => self.calls(&running).map_err(|e| say!("system calls are NOT MEASURED: {e}")).ok(),
            false => None,
        };
        let frames = fps * (ended_ns - begun_ns) as f64 / 1e9;
        let in_time = |s: &&Sample| (begun_ns..ended_ns).contains(&s.received_ns);
        let seen = running.finish();
        let seen: Vec<&Sample> = seen.iter().flatten().filter(in_time).collect();
        let mut latencies_us: Vec<f64> =
            seen.iter().map(|s| s.received_ns.saturating_sub(s.published_ns) as f64 / 1e3).collect();
        latencies_us.sort_by(f64::total_cmp);
        Ok(Turn {
            producer_us: (ended.0 - begun.0) / frames,
            consumers_us: (ended.1 - begun.1) / frames,
            received: seen.len() as f64 / frames / f64::from(self.key.consumers),
            latencies_us,
            memory_mb,
            calls,
        })
    }

    fn calls(&self, running: &Running) -> Res<(f64, f64)> {
        let fps = f64::from(self.key.size.fps);
        let per_frame = |(calls, time): (f64, Duration)| calls / (fps * time.as_secs_f64());
        let consumers: Vec<&Process> = running.consumers.iter().collect();
        let one = per_frame(count_calls(&consumers, TRACE)?) / consumers.len() as f64;
        Ok((per_frame(count_calls(&[&running.producer], TRACE)?), one))
    }
}

/// CPU of the contender's source when nothing is shared, us a frame.
pub fn source_alone(contender: &Contender, fps: u32, window: Duration) -> Res<f64> {
    let socket = std::env::temp_dir().join(format!("framelease-rivals-{}-none", std::process::id()));
    let size = Size { fps, ..SIZES[0] };
    let source = Process::start(contender.command("produce", "none", &socket, size, 1, false))?;
    source.await_ready()?;
    std::thread::sleep(SETTLE);
    let (begun_ns, begun) = (now_ns(), source.cpu_us()?);
    std::thread::sleep(window);
    let (ended, ended_ns) = (source.cpu_us()?, now_ns());
    source.finish();
    Ok((ended - begun) / (f64::from(fps) * (ended_ns - begun_ns) as f64 / 1e9))
}

/// What the machine itself costs: a message there and back, and the copy of a frame of each size.
#[derive(Clone, Debug)]
pub struct Physics {
    pub ping_us: f64,
    pub copy_us: Vec<(Size, f64)>,
}

pub fn physics(floor: &Contender) -> Res<Physics> {
    let ask = |transport, size| -> Res<f64> {
        let text = output(&mut floor.command("produce", transport, Path::new("-"), size, 1, false))?;
        let ns = text.lines().find_map(|l| l.strip_prefix("ns ")?.parse::<f64>().ok());
        Ok(ns.ok_or(format!("the floor says nothing of its {transport}"))? / 1e3)
    };
    let copy_us = SIZES.iter().map(|&size| Ok((size, ask("memcpy", size)?))).collect::<Res<_>>()?;
    Ok(Physics { ping_us: ask("ping", SIZES[0])?, copy_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_consumers() {
        let sample = Sample { sequence: 1, published_ns: 2, received_ns: 3 };
        assert_eq!(samples("1 2 3\nsum 4\n5 6\n"), [sample]);
    }
}
