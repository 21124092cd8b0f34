//! The parent process: source, publisher, and the consumers it starts.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use framelease::dmabuf::{Allocator, MemoryKind, DEFAULT_WAIT};
use framelease::frame::{Frame, Pool};
use framelease::share::{Policy, Publisher};
use framelease::stats::{cpu_bytes, process_cpu_time, syscalls};
use framelease::Station;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::common::{stopped, Progress, Result};
use super::consumer::{hash, Figures, Job};
use super::source::{self, Source, Wish};
use super::{Mode, Options};

/// Slots that the source keeps: one that is filled and one that waits to be.
const RESERVE: usize = 3;
/// A source that gives nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

/// One mode's figures.
#[derive(Debug)]
pub struct Run {
    pub mode: Mode,
    pub source: &'static str,
    pub memory: &'static str,
    pub layout: framelease::format::Layout,
    pub frames: u64,
    pub lost: u64,
    /// Without what the source's own work costs, which is the same in every mode.
    pub cpu_us_per_frame: f64,
    pub source_cpu_us_per_frame: f64,
    pub syscalls_per_frame: f64,
    pub source_bytes_written: u64,
    pub verify_bytes_read: u64,
    pub bytes_copied: u64,
    pub bytes_touched: u64,
    pub subscribers: Vec<Figures>,
}

/// Kills what is left of the consumers if the parent ends early.
struct Consumers(Vec<Child>);

impl Drop for Consumers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A folder of our own for the socket: its permissions say who may connect.
struct SocketFolder(PathBuf);

impl SocketFolder {
    fn new(mode: Mode) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("framelease-fanout-{}-{}", std::process::id(), mode.name());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn run(options: &Options, mode: Mode, stop: &AtomicBool) -> Result<Run> {
    let depth = match options.policy {
        Policy::Fifo(n) => usize::from(n),
        _ => 1,
    };
    let pool_size = options.consumers * (1 + depth) + 1 + RESERVE;
    // A source that copies needs few buffers of its own: its frames go back at once.
    let buffers = if mode == Mode::ZeroCopy { pool_size } else { RESERVE + 1 };
    let Options { size, fourcc, fps, .. } = *options;
    let mut source = source::open(&Wish { device: options.device.clone(), size, fourcc, fps, buffers })?;
    let copies = match mode {
        Mode::ZeroCopy => None,
        _ => Some(Pool::new(&Allocator::Memfd, *source.buffers()?.layout(), pool_size)?),
    };
    let shared = match &copies {
        Some(pool) => pool.buffers().clone(),
        None => source.buffers()?.clone(),
    };

    let folder = SocketFolder::new(mode)?;
    let socket = folder.0.join("socket");
    let mut publisher = Publisher::builder(&socket).reserve(RESERVE).allow_block(Duration::from_secs(5)).bind()?;
    publisher.announce(&shared)?;
    let job = Job { socket, policy: options.policy, upload: mode == Mode::CopyToDevice, verify: options.verify };
    let mut consumers = Consumers(Vec::new());
    for _ in 0..options.consumers {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--consumer-of").arg(job.to_arg()).stdin(Stdio::null()).stdout(Stdio::piped());
        // Ctrl-C goes to the group of this process alone, which then ends the stream for the consumers.
        consumers.0.push(command.process_group(0).spawn()?);
    }
    attach(&mut publisher, &mut consumers, stop)?;

    let mut run = Run {
        mode,
        source: if source.device().is_some() { "camera" } else { "testpattern" },
        memory: match shared.memory(0).first().map(framelease::dmabuf::DmaBuf::kind) {
            Some(MemoryKind::DmaBuf) => "dmabuf",
            _ => "memfd",
        },
        layout: *shared.layout(),
        frames: 0,
        lost: 0,
        cpu_us_per_frame: 0.0,
        source_cpu_us_per_frame: 0.0,
        syscalls_per_frame: 0.0,
        source_bytes_written: 0,
        verify_bytes_read: 0,
        bytes_copied: 0,
        bytes_touched: 0,
        subscribers: Vec::new(),
    };
    let mut hashes = HashMap::new();
    let mut scratch = vec![0; 65_536];
    let mut progress = Progress::new();
    let (cpu_before, calls_before, bytes_before) = (process_cpu_time(), syscalls(), cpu_bytes());
    let mut source_cpu = Duration::ZERO;
    let mut last_frame = Instant::now();
    while run.frames < options.frames && !stopped(stop) {
        wait(&mut publisher, &source)?;
        let before = process_cpu_time();
        let frame = source::try_frame(&mut source)?;
        source_cpu += process_cpu_time() - before;
        let Some(frame) = frame else {
            if last_frame.elapsed() > SILENCE {
                return Err(format!("the source has given no frame for {SILENCE:?}").into());
            }
            continue;
        };
        last_frame = Instant::now();
        run.frames += 1;
        run.lost += u64::from(frame.meta().lost);
        if options.verify {
            hashes.insert(frame.meta().sequence, hash(&frame, &mut scratch)?);
            run.verify_bytes_read += frame.layout().pixel_bytes();
        }
        let frame = match &copies {
            None => frame,
            Some(pool) => {
                run.bytes_copied += frame.meta().payload.iter().map(|p| u64::from(p.bytes)).sum::<u64>();
                copy(&frame, pool)?
            }
        };
        // What the slowest has no room for by then, it misses.
        let _ = publisher.publish(frame, Duration::from_secs(5))?;
        progress.show(|| format!("{}: {}/{} frames", mode.name(), run.frames, options.frames));
    }
    progress.done();
    let frames = run.frames.max(1) as f64;
    let bytes = cpu_bytes();
    run.source_cpu_us_per_frame = source_cpu.as_secs_f64() * 1e6 / frames;
    run.cpu_us_per_frame = (process_cpu_time() - cpu_before).as_secs_f64() * 1e6 / frames - run.source_cpu_us_per_frame;
    run.syscalls_per_frame = (syscalls() - calls_before) as f64 / frames;
    run.source_bytes_written = bytes.source - bytes_before.source;
    run.bytes_touched = bytes.read + bytes.written - bytes_before.read - bytes_before.written - run.verify_bytes_read;

    if !publisher.pause(Duration::from_secs(5))? {
        return Err("a consumer does not take the rest of the stream".into());
    }
    for child in &mut consumers.0 {
        let mut text = String::new();
        child.stdout.take().ok_or("a consumer has no output")?.read_to_string(&mut text)?;
        if !child.wait()?.success() {
            return Err("a consumer failed; see above".into());
        }
        let mut figures = Figures::from_lines(&text)?;
        figures.corrupt = figures.hashes.iter().filter(|(s, h)| hashes.get(s) != Some(h)).count() as u64;
        run.verify_bytes_read += figures.verify_bytes_read;
        run.bytes_copied += figures.bytes_copied;
        run.bytes_touched += figures.bytes_touched;
        run.subscribers.push(figures);
    }
    Ok(run)
}

/// Waits until every consumer is attached.
fn attach(publisher: &mut Publisher, consumers: &mut Consumers, stop: &AtomicBool) -> Result<()> {
    let start = Instant::now();
    while publisher.active() < consumers.0.len() {
        drop(publisher.recv(Duration::from_millis(50))?);
        let ended = consumers.0.iter_mut().any(|c| c.try_wait().is_ok_and(|status| status.is_some()));
        if ended || stopped(stop) || start.elapsed() > SILENCE {
            return Err("the consumers did not attach".into());
        }
    }
    Ok(())
}

/// Waits for the source or the publisher, and serves the publisher.
fn wait(publisher: &mut Publisher, source: &Source) -> Result<()> {
    let mut fds = [PollFd::new(publisher.as_fd(), PollFlags::POLLIN), PollFd::new(source.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(500u16)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    if fds[0].any().unwrap_or(true) {
        publisher.dispatch()?;
    }
    Ok(())
}

/// The producer's memcpy of a shmsink-style split.
fn copy(frame: &Frame, pool: &Pool) -> Result<Frame> {
    let mut copy = pool.acquire(Duration::from_secs(1)).ok_or("every shared buffer is leased")?;
    copy.write(DEFAULT_WAIT)?.copy_frame(&frame.read(DEFAULT_WAIT)?)?;
    Ok(copy.freeze(*frame.meta()))
}
