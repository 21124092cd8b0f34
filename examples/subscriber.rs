//! Receives the frames of a `publisher` or of GStreamer's `unixfdsink`, shows rate, latency and drops, and may write
//! frames to a file.

#[path = "common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use framelease::dmabuf::DEFAULT_WAIT;
use framelease::frame::FrameFlags;
use framelease::replay::FrameStore;
use framelease::share::{Policy, Rate, ReceiverStats, Reconnect, Subscriber, SubscriberEvent};
use framelease::stats::{cpu_bytes, Histogram};
use framelease::{ErrorKind, Received, Station};

use common::{stopped, value, Progress, Result};

const HELP: &str = "\
Receives the frames of a publisher, or of GStreamer's unixfdsink, until Ctrl-C or the end of the stream.

Usage: subscriber [OPTIONS]

  --socket PATH  connect to the publisher here (default: the default of the example publisher)
  --unixfd PATH  connect to the unixfdsink with this socket-path instead (needs the cargo feature unixfd).
                 Latency is then measured from the PTS; --every and --max-fps are not available
  --policy P     latest, fifo:N or block (default latest)
  --hold N       frames to hold at a time (default 1)
  --every N      take every n-th frame only
  --max-fps F    take at most F frames a second
  --work-ms N    hold each frame for N ms, as a slow consumer would
  --frames N     stop after N frames
  --output FILE  write the pixels of every frame, without padding
  --store FILE   store the frames with their times, gaps and flags, for 'publisher --replay'
  --reconnect    connect again after the publisher was gone
  --json         print the figures as one JSON object on standard output
  --help         print this text
";

/// Who the frames come from.
enum Input {
    Publisher(Box<Subscriber>),
    #[cfg(feature = "unixfd")]
    Sink(Box<framelease::share::UnixfdSubscriber>, Box<Histogram>),
}

impl Input {
    fn recv(&mut self, timeout: Duration) -> framelease::Result<Received<SubscriberEvent>> {
        match self {
            Self::Publisher(s) => s.recv(timeout),
            #[cfg(feature = "unixfd")]
            Self::Sink(s, latency) => {
                let event = s.recv(timeout)?;
                if let Received::Item(SubscriberEvent::Frame(frame)) = &event {
                    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
                        .map_or(0, |now| Duration::from(now).as_nanos() as u64);
                    latency.record_ns(now.saturating_sub(frame.meta().timestamp_ns));
                }
                Ok(event)
            }
        }
    }

    fn stats(&self) -> ReceiverStats {
        match self {
            Self::Publisher(s) => s.stats(),
            #[cfg(feature = "unixfd")]
            Self::Sink(s, _) => s.stats(),
        }
    }

    fn latency(&self) -> &Histogram {
        match self {
            Self::Publisher(s) => s.latency(),
            #[cfg(feature = "unixfd")]
            Self::Sink(_, latency) => latency,
        }
    }

    fn is_writable(&self) -> bool {
        match self {
            Self::Publisher(s) => s.is_writable(),
            // Nothing is said of it.
            #[cfg(feature = "unixfd")]
            Self::Sink(..) => false,
        }
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let mut socket: PathBuf = common::default_socket();
    let (mut policy, mut rate, mut hold, mut reconnect) = (Policy::Latest, Rate::All, 1, Reconnect::Never);
    let (mut work, mut frames, mut json) = (Duration::ZERO, u64::MAX, false);
    let (mut output, mut store) = (None, None);
    #[cfg(feature = "unixfd")]
    let mut unixfd: Option<PathBuf> = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("socket") => socket = parser.value()?.into(),
            #[cfg(feature = "unixfd")]
            Long("unixfd") => unixfd = Some(parser.value()?.into()),
            Long("policy") => policy = value(&mut parser, "policy")?,
            Long("hold") => hold = value(&mut parser, "hold")?,
            Long("every") => rate = Rate::EveryNth(value(&mut parser, "every")?),
            Long("max-fps") => rate = Rate::MilliFps((value::<f64>(&mut parser, "max-fps")? * 1000.0) as u32),
            Long("work-ms") => work = Duration::from_millis(value(&mut parser, "work-ms")?),
            Long("frames") => frames = value(&mut parser, "frames")?,
            Long("output") => output = Some(PathBuf::from(parser.value()?)),
            Long("store") => store = Some(FrameStore::create(PathBuf::from(parser.value()?))?),
            Long("reconnect") => reconnect = Reconnect::Always,
            Long("json") => json = true,
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if matches!(rate, Rate::EveryNth(0) | Rate::MilliFps(0)) {
        return Err("--every and --max-fps must be more than 0".into());
    }
    let stop = common::stop_flag()?;
    let mut file = match &output {
        Some(path) => {
            let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Some(BufWriter::with_capacity(1 << 20, file))
        }
        None => None,
    };
    let patience = Duration::from_secs(5);
    let native = || {
        let builder = Subscriber::builder(&socket).policy(policy).rate(rate).hold(hold).reconnect(reconnect);
        builder.connect(patience).map(|subscriber| Input::Publisher(Box::new(subscriber)))
    };
    #[cfg(not(feature = "unixfd"))]
    let mut subscriber = native()?;
    #[cfg(feature = "unixfd")]
    let mut subscriber = match unixfd {
        None => native()?,
        Some(_) if rate != Rate::All => return Err("a unixfdsink sends all frames: put a videorate before it".into()),
        Some(path) => {
            let builder = framelease::share::UnixfdSubscriber::builder(path).policy(policy).hold(hold);
            Input::Sink(Box::new(builder.reconnect(reconnect).connect(patience)?), Box::default())
        }
    };
    let mut progress = Progress::new();
    let start = Instant::now();
    while subscriber.stats().received < frames && !stopped(&stop) {
        let event = match subscriber.recv(Duration::from_millis(200)) {
            // It tries again by itself.
            Err(e) if reconnect == Reconnect::Always => {
                eprintln!("{e}");
                continue;
            }
            other => other?,
        };
        match event {
            Received::Item(SubscriberEvent::Frame(frame)) => {
                let is_damaged = frame.meta().flags.contains(FrameFlags::ERROR);
                if let (Some(file), Some(path), false) = (&mut file, &output, is_damaged) {
                    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
                    frame.read(DEFAULT_WAIT)?.write_to(file).map_err(failed)?;
                    // Who reads a pipe shall not wait for the next.
                    file.flush().map_err(failed)?;
                }
                if let Some(store) = &mut store {
                    match store.write(&frame) {
                        // Reported below.
                        Err(e) if e.kind() == ErrorKind::Revoked => {}
                        stored => stored?,
                    }
                }
                if !work.is_zero() {
                    std::thread::sleep(work);
                }
                if !frame.is_valid() {
                    eprintln!("frame {} became invalid while it was in use", frame.meta().sequence);
                }
            }
            Received::Item(SubscriberEvent::Format(buffers)) => {
                let writable = if subscriber.is_writable() { ", writable by every subscriber" } else { "" };
                eprintln!("{}{writable}", buffers.layout());
            }
            Received::Item(SubscriberEvent::Lost(e)) => eprintln!("{e}; trying again"),
            Received::Item(SubscriberEvent::Returned) => eprintln!("connected again"),
            Received::Item(SubscriberEvent::Paused) => eprintln!("the publisher paused"),
            Received::Ended => break,
            _ => {}
        }
        progress.show(|| {
            let (stats, latency) = (subscriber.stats(), subscriber.latency());
            format!(
                "{} frames, {:.1} a second, {} dropped, {} lost; latency p50 {:.0} µs, p99 {:.0} µs",
                stats.received,
                stats.received as f64 / start.elapsed().as_secs_f64(),
                stats.dropped,
                stats.lost,
                latency.quantile_ns(0.5) as f64 / 1e3,
                latency.quantile_ns(0.99) as f64 / 1e3
            )
        });
    }
    progress.done();
    store.map_or(Ok(()), FrameStore::finish)?;
    let (stats, latency, bytes) = (subscriber.stats(), subscriber.latency(), cpu_bytes());
    let (p50, p99) = (latency.quantile_ns(0.5) as f64 / 1e3, latency.quantile_ns(0.99) as f64 / 1e3);
    let touched = bytes.read + bytes.written;
    if json {
        println!(
            "{{\"received\": {}, \"seconds\": {:.3}, \"dropped\": {}, \"lost\": {}, \"revoked\": {}, \
             \"reconnects\": {}, \"latency_us_p50\": {p50:.1}, \"latency_us_p99\": {p99:.1}, \
             \"cpu_bytes_touched\": {touched}}}",
            stats.received,
            start.elapsed().as_secs_f64(),
            stats.dropped,
            stats.lost,
            stats.revoked,
            stats.reconnects
        );
    } else {
        println!(
            "{} frames in {:.1} s, {} dropped, {} lost by the source; latency p50 {p50:.0} µs, p99 {p99:.0} µs; \
             {touched} bytes touched by the CPU",
            stats.received,
            start.elapsed().as_secs_f64(),
            stats.dropped,
            stats.lost
        );
    }
    Ok(())
}
