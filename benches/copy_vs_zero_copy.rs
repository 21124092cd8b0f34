//! The same frames to other processes with and without copies: what each byte costs.
//!
//! Every way is a process of its own with its consumers as children. User and system time of all of them count, but not
//! what starting costs: some frames go before those that are measured. Frames go as fast as the slowest consumer takes
//! them, none is lost. `docs/performance.md` says how to read it.

mod cpu;

use std::error::Error;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cpu::CpuTime;
use criterion::measurement::Measurement;
use framelease::dmabuf::{Allocator, DmaBuf, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::share::{Policy, Publisher, Subscriber, SubscriberEvent};
use framelease::stats::cpu_bytes;
use framelease::{Received, Station};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIZES: [Size; 3] = [Size::new(640, 360), Size::new(1920, 1080), Size::new(3840, 2160)];
const CONSUMERS: [usize; 2] = [1, 3];
const TURNS: usize = 3;
/// Frames before those that are measured.
const WARM_UP: u64 = 20;
const TIMEOUT: Duration = Duration::from_secs(10);
const PAGE: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The source's own buffers; consumers hand them to devices.
    ZeroCopy,
    /// One copy into shared memory; consumers take the copy as it is.
    CopyOnce,
    /// One copy into shared memory, and one out of it in each consumer: what it takes to feed a device from there.
    CopyInAndOut,
    /// Zero-copy, and each consumer looks at a byte of each page, through the mapping that it keeps.
    LookMapped,
    /// The trap: as before, through a mapping that is made and thrown away with each frame.
    LookMapPerFrame,
}

const WAYS: [Way; 5] = [Way::ZeroCopy, Way::CopyOnce, Way::CopyInAndOut, Way::LookMapped, Way::LookMapPerFrame];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::CopyOnce => "copy-once-and-map",
            Self::CopyInAndOut => "copy-in-and-out",
            Self::LookMapped => "look-mapped",
            Self::LookMapPerFrame => "look-map-per-frame",
        }
    }

    fn of(name: &str) -> Result<Self> {
        WAYS.into_iter().find(|way| way.name() == name).ok_or_else(|| format!("no way {name}").into())
    }

    /// Frames that are measured: many where one costs little.
    fn frames(self) -> u64 {
        match self {
            Self::ZeroCopy | Self::LookMapped => 3000,
            _ => 150,
        }
    }

    fn copies_in(self) -> bool {
        matches!(self, Self::CopyOnce | Self::CopyInAndOut)
    }
}

fn pool(size: Size, count: usize) -> Result<Pool> {
    Ok(Pool::new(&Allocator::Memfd, Layout::packed(FourCc::NV12, size)?, count)?)
}

/// The publisher's process. Prints the CPU of a frame in nanoseconds, and how many bytes it copied for it.
fn produce(way: Way, size: Size, consumers: usize, frames: u64, folder: &Path) -> Result<()> {
    let socket = folder.join(format!("socket-{}", std::process::id()));
    let shared = pool(size, consumers * 2 + 4)?;
    // Filled once, as a device would have filled them.
    let source = pool(size, if way.copies_in() { 4 } else { 1 })?;
    let fill = vec![16; source.buffers().layout().memory_bytes()[0] as usize];
    for pool in [&shared, &source] {
        let mut all = Vec::new();
        while let Some(mut frame) = pool.try_acquire() {
            frame.write(DEFAULT_WAIT)?.copy_payload(0, &fill)?;
            all.push(frame);
        }
    }
    let mut publisher = Publisher::builder(&socket).reserve(2).allow_block(TIMEOUT).bind()?;
    publisher.announce(shared.buffers())?;
    let child = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--consume", way.name()]).arg(&socket).stdin(Stdio::null()).spawn()
    };
    let mut children = (0..consumers).map(|_| child()).collect::<std::io::Result<Vec<_>>>()?;
    while publisher.active() < consumers {
        drop(publisher.recv(Duration::from_millis(10))?);
        if children.iter_mut().any(|c| c.try_wait().is_ok_and(|status| status.is_some())) {
            return Err("a consumer ended too early".into());
        }
    }
    let time = CpuTime::new();
    time.count(&children);
    let (mut begun, mut before) = (time.start(), cpu_bytes());
    for sequence in 0..WARM_UP + frames {
        if sequence == WARM_UP {
            (begun, before) = (time.start(), cpu_bytes());
        }
        let mut frame = shared.try_acquire().ok_or("every shared buffer is leased")?;
        if way.copies_in() {
            let from = source.try_acquire().ok_or("every buffer is leased")?.freeze_full(0, 0);
            frame.write(DEFAULT_WAIT)?.copy_frame(&from.read(DEFAULT_WAIT)?)?;
        }
        if !publisher.publish(frame.freeze_full(sequence, 0), TIMEOUT)?.is_taken() {
            return Err("a consumer does not take a frame".into());
        }
    }
    let cpu = time.to_f64(&time.end(begun)) / frames as f64;
    println!("{cpu} {}", (cpu_bytes().written - before.written) / frames);
    if !publisher.pause(TIMEOUT)? {
        return Err("a consumer does not take the end".into());
    }
    match children.iter_mut().all(|c| c.wait().is_ok_and(|status| status.success())) {
        true => Ok(()),
        false => Err("a consumer failed".into()),
    }
}

fn consume(way: Way, socket: &Path) -> Result<()> {
    let mut subscriber = Subscriber::builder(socket).policy(Policy::Block).connect(TIMEOUT)?;
    let mut device: Option<Pool> = None;
    loop {
        match subscriber.recv(TIMEOUT)? {
            Received::Item(SubscriberEvent::Frame(frame)) => match way {
                Way::ZeroCopy | Way::CopyOnce => {}
                Way::CopyInAndOut => {
                    let size = frame.layout().size();
                    let device = match &device {
                        Some(device) => device,
                        None => device.insert(pool(size, 2)?),
                    };
                    let mut copy = device.try_acquire().ok_or("every buffer is leased")?;
                    copy.write(DEFAULT_WAIT)?.copy_frame(&frame.read(DEFAULT_WAIT)?)?;
                }
                Way::LookMapped => look(&frame.memory()[0])?,
                Way::LookMapPerFrame => look(&DmaBuf::from_fd(frame_fd(&frame)?)?)?,
            },
            Received::Item(SubscriberEvent::Paused) | Received::Ended => return Ok(()),
            Received::Item(_) => {}
            Received::Nothing => return Err("the publisher is silent".into()),
        }
    }
}

/// A descriptor of its own for each frame, as programs get it that send one with each frame.
fn frame_fd(frame: &Frame) -> Result<std::os::fd::OwnedFd> {
    Ok(frame.memory()[0].as_fd().try_clone_to_owned()?)
}

fn look(buffer: &DmaBuf) -> Result<()> {
    let read = buffer.read(DEFAULT_WAIT)?;
    let mut byte = [0];
    for at in (0..buffer.size_bytes()).step_by(PAGE) {
        read.copy_to(at, &mut byte)?;
        std::hint::black_box(byte);
    }
    Ok(())
}

/// CPU of a frame in microseconds, of one process with its children, and how many bytes it copied.
fn run(way: Way, size: Size, consumers: usize, frames: u64, folder: &Path) -> Result<(f64, String)> {
    let numbers = [size.width.into(), size.height.into(), consumers as u64, frames].map(|number| number.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--produce", way.name()]).args(numbers).arg(folder).stdin(Stdio::null()).stderr(Stdio::inherit());
    let out = command.output()?;
    if !out.status.success() {
        return Err(format!("{}: {}", way.name(), out.status).into());
    }
    let said = String::from_utf8_lossy(&out.stdout);
    let (cpu_ns, bytes) = said.trim().split_once(' ').ok_or("the publisher printed no figures")?;
    Ok((cpu_ns.parse::<f64>()? / 1e3, bytes.to_string()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Gives the work a folder for sockets.
fn in_folder(work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("framelease-copies-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let done = work(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    done
}

/// Runs every way for some frames, and checks that it copies what its name says.
fn check(folder: &Path) -> Result<()> {
    for way in WAYS {
        let (cpu, copied) = run(way, SIZES[0], 1, 20, folder)?;
        let expected = if way.copies_in() { SIZES[0].width * SIZES[0].height * 3 / 2 } else { 0 };
        if cpu <= 0.0 || copied != expected.to_string() {
            return Err(format!("{}: {cpu} us a frame, {copied} bytes copied in", way.name()).into());
        }
    }
    Ok(())
}

/// `is_quick`: one short turn, to see that all works. Its figures are not kept.
fn compare(folder: &Path, is_quick: bool) -> Result<()> {
    let (turns, part) = if is_quick { (1, 10) } else { (TURNS, 1) };
    let mut json = String::new();
    println!(
        "| consumers | size | way | CPU of all, us a frame (least to most) | to zero-copy | copied in, bytes a frame |"
    );
    println!("|---|---|---|---|---|---|");
    for consumers in CONSUMERS {
        for size in SIZES {
            let mut got = vec![Vec::new(); WAYS.len()];
            let mut copied = vec![String::new(); WAYS.len()];
            for turn in 0..turns {
                for i in 0..WAYS.len() {
                    // The order rotates, so that none always runs first.
                    let at = (i + turn) % WAYS.len();
                    let (cpu, bytes) = run(WAYS[at], size, consumers, WAYS[at].frames() / part, folder)?;
                    got[at].push(cpu);
                    copied[at] = bytes;
                }
            }
            let base = median(&mut got[0]);
            for ((way, us), bytes) in WAYS.iter().zip(&mut got).zip(&copied) {
                let (middle, name) = (median(us), way.name());
                let (least, most) = (us[0], us[us.len() - 1]);
                let ratio = middle / base;
                println!(
                    "| {consumers} | {size} | {name} | {middle:.0} ({least:.0} to {most:.0}) | {ratio:.1} | {bytes} |"
                );
                let _ = write!(
                    json,
                    "{}\n  {{\"consumers\": {consumers}, \"size\": \"{size}\", \"way\": \"{name}\", \"cpu_us\": \
                     {middle:.2}, \"least\": {least:.2}, \"most\": {most:.2}, \"copied_in_bytes\": {bytes}}}",
                    if json.is_empty() { "" } else { "," }
                );
            }
        }
    }
    if !is_quick {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("copy_vs_zero_copy.json");
        std::fs::write(&path, format!("[{json}\n]\n"))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["--produce", way, width, height, consumers, frames, folder] => {
            let size = Size::new(width.parse()?, height.parse()?);
            produce(Way::of(way)?, size, consumers.parse()?, frames.parse()?, &PathBuf::from(folder))
        }
        ["--consume", way, socket] => consume(Way::of(way)?, Path::new(socket)),
        _ if words.contains(&"--bench") => in_folder(|folder| compare(folder, words.contains(&"--quick"))),
        // `cargo test --benches`
        _ => in_folder(check),
    }
}
