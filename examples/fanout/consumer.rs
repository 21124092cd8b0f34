//! A subscriber process: receives until the stream ends, then prints its figures for the parent to read.

use std::hash::Hasher;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::frame::{Frame, Pool};
use framelease::share::{Policy, Subscriber, SubscriberEvent};
use framelease::stats::{cpu_bytes, process_cpu_time, syscalls};
use framelease::{Received, Station};

use super::common::Result;

/// The command line of a consumer: `POLICY,UPLOAD,VERIFY,SOCKET`.
#[derive(Clone, Debug)]
pub struct Job {
    pub socket: PathBuf,
    pub policy: Policy,
    /// Copy every frame, as into a buffer of a device's.
    pub upload: bool,
    pub verify: bool,
}

impl Job {
    pub fn to_arg(&self) -> String {
        format!("{},{},{},{}", self.policy, self.upload, self.verify, self.socket.display())
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let mut parts = s.splitn(4, ',');
            let policy = parts.next()?.parse().ok()?;
            let (upload, verify) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Self { policy, upload, verify, socket: parts.next()?.into() })
        };
        parse().ok_or_else(|| format!("--consumer-of {s}: not a job"))
    }
}

/// The figures of one consumer. Times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub received: u64,
    pub dropped: u64,
    pub corrupt: u64,
    pub cpu_us_per_frame: f64,
    pub syscalls_per_frame: f64,
    pub latency_us_p50: f64,
    pub latency_us_p99: f64,
    pub bytes_copied: u64,
    pub bytes_touched: u64,
    pub verify_bytes_read: u64,
    /// Sequence and hash of every frame, with `--verify`.
    pub hashes: Vec<(u64, u64)>,
}

pub fn run(job: &Job) -> Result<()> {
    let mut subscriber = Subscriber::builder(&job.socket).policy(job.policy).connect(Duration::from_secs(10))?;
    let mut figures = Figures::default();
    let mut device: Option<Pool> = None;
    let mut start = None;
    let mut scratch = vec![0; 65_536];
    loop {
        match subscriber.recv(Duration::from_secs(30))? {
            Received::Item(SubscriberEvent::Frame(frame)) => {
                start.get_or_insert_with(|| (process_cpu_time(), syscalls()));
                figures.received += 1;
                if job.upload {
                    figures.bytes_copied += upload(&frame, &mut device)?;
                }
                if job.verify {
                    figures.hashes.push((frame.meta().sequence, hash(&frame, &mut scratch)?));
                    figures.verify_bytes_read += frame.layout().pixel_bytes();
                }
            }
            Received::Item(SubscriberEvent::Paused) | Received::Ended => break,
            Received::Item(_) => {}
            Received::Nothing => return Err("the publisher has sent nothing for 30 s".into()),
        }
    }
    // The first frame begins the count, so it is not in it.
    if let Some((cpu, calls)) = start.filter(|_| figures.received > 1) {
        let frames = (figures.received - 1) as f64;
        figures.cpu_us_per_frame = (process_cpu_time() - cpu).as_secs_f64() * 1e6 / frames;
        figures.syscalls_per_frame = (syscalls() - calls) as f64 / frames;
    }
    figures.dropped = subscriber.stats().dropped;
    figures.latency_us_p50 = subscriber.latency().quantile_ns(0.5) as f64 / 1e3;
    figures.latency_us_p99 = subscriber.latency().quantile_ns(0.99) as f64 / 1e3;
    let bytes = cpu_bytes();
    figures.bytes_touched = bytes.read + bytes.written - figures.verify_bytes_read;
    print!("{}", figures.to_lines());
    Ok(())
}

/// The copy that a consumer without dma-bufs makes to feed an encoder or a display.
fn upload(frame: &Frame, device: &mut Option<Pool>) -> Result<u64> {
    let pool = match device {
        Some(pool) => pool,
        None => device.insert(Pool::new(&Allocator::Memfd, *frame.layout(), 2)?),
    };
    let mut copy = pool.try_acquire().ok_or("no buffer to copy into")?;
    copy.write(DEFAULT_WAIT)?.copy_frame(&frame.read(DEFAULT_WAIT)?)?;
    Ok(frame.meta().payload.iter().map(|p| u64::from(p.bytes)).sum())
}

/// A hash of all pixels; equal in every process.
pub fn hash(frame: &Frame, scratch: &mut Vec<u8>) -> Result<u64> {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    frame.read(DEFAULT_WAIT)?.for_each_row(scratch, |row| hasher.write(row))?;
    Ok(hasher.finish())
}

impl Figures {
    fn to_lines(&self) -> String {
        let mut out = format!(
            "received {}\ndropped {}\ncpu {}\nsyscalls {}\np50 {}\np99 {}\ncopied {}\ntouched {}\nverified {}\n",
            self.received,
            self.dropped,
            self.cpu_us_per_frame,
            self.syscalls_per_frame,
            self.latency_us_p50,
            self.latency_us_p99,
            self.bytes_copied,
            self.bytes_touched,
            self.verify_bytes_read
        );
        for (sequence, hash) in &self.hashes {
            out.push_str(&format!("hash {sequence} {hash}\n"));
        }
        out
    }

    /// What a consumer printed.
    pub fn from_lines(text: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').ok_or("a consumer printed nonsense")?;
            match key {
                "received" => figures.received = value.parse()?,
                "dropped" => figures.dropped = value.parse()?,
                "cpu" => figures.cpu_us_per_frame = value.parse()?,
                "syscalls" => figures.syscalls_per_frame = value.parse()?,
                "p50" => figures.latency_us_p50 = value.parse()?,
                "p99" => figures.latency_us_p99 = value.parse()?,
                "copied" => figures.bytes_copied = value.parse()?,
                "touched" => figures.bytes_touched = value.parse()?,
                "verified" => figures.verify_bytes_read = value.parse()?,
                "hash" => {
                    let (sequence, hash) = value.split_once(' ').ok_or("a consumer printed nonsense")?;
                    figures.hashes.push((sequence.parse()?, hash.parse()?));
                }
                _ => return Err("a consumer printed nonsense".into()),
            }
        }
        Ok(figures)
    }
}
