//! Encodes a camera or the test pattern by a V4L2 mem-to-mem encoder, dma-buf to dma-buf, and says what it cost.

#[path = "../common/camera_encoder.rs"]
mod camera_encoder;
#[path = "../common/coded.rs"]
mod coded;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/movie.rs"]
mod movie;
#[path = "../common/source.rs"]
mod source;

mod options;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use framelease::codec::{Encoder, EncoderEvent, Outcome};
use framelease::frame::{Frame, Packet};
use framelease::negotiate::{EncoderChain, Negotiated};
use framelease::stats::{cpu_bytes, process_cpu_time, syscalls, Histogram};
use framelease::{Received, Station, Submit, Submitted};
use nix::poll::{poll, PollFd, PollFlags};

use coded::StreamFile;
use options::Options;
use source::Source;

/// A camera or an encoder that is silent for so long is stuck.
const SILENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    common::exit(run())
}

/// What the run counted.
#[derive(Default)]
struct Figures {
    latency: Histogram,
    /// When everything was running, with CPU time and system calls until then, and the packets before.
    steady: Option<(Instant, Duration, u64, u64)>,
}

impl Figures {
    fn packet(&mut self, packet: &Packet, packets: u64) {
        let now = framelease_now();
        if packet.meta().flags.contains(framelease::frame::FrameFlags::MONOTONIC) {
            self.latency.record_ns(now.saturating_sub(packet.meta().timestamp_ns));
        }
        if self.steady.is_none() {
            self.steady = Some((Instant::now(), process_cpu_time(), syscalls(), packets));
        }
    }
}

/// `CLOCK_MONOTONIC`, which frames are stamped with.
fn framelease_now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

fn run() -> common::Result<()> {
    let Some(o) = Options::parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let Negotiated { mut source, mut encoder, .. } = o.ends().open()?;
    let mut file = o.output.as_deref().map(|path| StreamFile::create(path, o.codec, o.size, o.fps)).transpose()?;
    let (mut progress, mut figures) = (common::Progress::new(), Figures::default());
    let touched = cpu_bytes();
    let (mut submitted, mut alive, mut draining) = (0u64, Instant::now(), false);
    let mut waiting: Option<Frame> = None;
    'stream: loop {
        if !draining && (common::stopped(&stop) || o.frames != 0 && submitted >= o.frames) {
            if submitted == 0 {
                break;
            }
            encoder.drain()?;
            (draining, waiting) = (true, None);
        }
        wait(&source, &encoder, draining || waiting.is_some())?;
        let before = encoder.encoder().stats();
        loop {
            let packet = match encoder.try_recv()? {
                Received::Item(EncoderEvent::Packet(packet)) => packet,
                Received::Item(EncoderEvent::Lost(e)) => {
                    return Err(format!("the encoder is gone after {submitted} frames: {e}").into());
                }
                Received::Ended => break 'stream,
                _ => break,
            };
            figures.packet(&packet, encoder.encoder().stats().packets);
            if let Some(file) = &mut file {
                file.write(&packet)?;
            }
        }
        // A frame waits while the encoder is full. The camera drops those that come after it.
        while !draining && (o.frames == 0 || submitted < o.frames) {
            let next = waiting.take().map_or_else(|| source::try_frame(&mut source), |frame| Ok(Some(frame)))?;
            let Some(frame) = next else { break };
            if let Submitted::Full(frame) = encoder.try_submit(frame)? {
                waiting = Some(frame);
                break;
            }
            submitted += 1;
        }
        let stats = encoder.encoder().stats();
        if (stats.packets, stats.frames) != (before.packets, before.frames) || alive.elapsed() > SILENCE {
            if stats.packets == before.packets && stats.frames == before.frames {
                let who = if draining || stats.in_flight > 0 { "the encoder" } else { "the camera" };
                return Err(format!("nothing came from {who} for {SILENCE:?}").into());
            }
            alive = Instant::now();
        }
        progress.show(|| format!("{} packets, {} in flight, {} bytes", stats.packets, stats.in_flight, stats.bytes));
    }
    progress.done();
    if let Some(file) = file {
        file.finish()?;
    }
    let after = cpu_bytes();
    report(&o, &source, encoder.encoder(), &figures, (after.read - touched.read, after.written - touched.written));
    Ok(())
}

/// Waits for a packet, and for a frame if one is wanted.
fn wait(source: &Source, encoder: &EncoderChain, is_full: bool) -> common::Result<()> {
    let mut fds = [encoder.as_fd(), source.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds[..if is_full { 1 } else { 2 }], 200u8) {
        Err(nix::errno::Errno::EINTR) => Ok(()),
        done => done.map(drop).map_err(Into::into),
    }
}

fn report(o: &Options, source: &Source, encoder: &Encoder, figures: &Figures, touched: (u64, u64)) {
    let (stats, info) = (encoder.stats(), encoder.device().info());
    let steady = figures.steady.map(|(since, cpu, calls, before)| {
        let frames = stats.packets.saturating_sub(before).max(1) as f64;
        let seconds = since.elapsed().as_secs_f64();
        let cpu = (process_cpu_time() - cpu).as_secs_f64() * 1e6 / frames;
        (frames / seconds.max(1e-9), cpu, (syscalls() - calls) as f64 / frames)
    });
    let (fps, cpu, calls) = steady.unwrap_or_default();
    let kbps = stats.bytes as f64 * 8.0 / 1000.0 * fps / stats.packets.max(1) as f64;
    let (p50, p99) = (figures.latency.quantile_ns(0.5) / 1000, figures.latency.quantile_ns(0.99) / 1000);
    if o.json {
        let settings: Vec<String> = encoder.applied().iter().map(|a| common::quoted(&a.to_string())).collect();
        println!(
            "{{\"device\":{},\"driver\":{},\"source\":{},\"codec\":\"{}\",\"width\":{},\"height\":{},\"from\":{},\
             \"frames\":{},\"packets\":{},\"key_frames\":{},\"errors\":{},\"refused\":{},\"bytes\":{},\"fps\":{fps:.2},\
             \"kbit_per_s\":{kbps:.0},\"cpu_us_per_frame\":{cpu:.0},\"syscalls_per_frame\":{calls:.2},\
             \"latency_us_p50\":{p50},\"latency_us_p99\":{p99},\"cpu_bytes_read\":{},\"cpu_bytes_written\":{},\
             \"settings\":[{}]}}",
            common::quoted(&info.path.display().to_string()),
            common::quoted(&info.driver),
            common::quoted(&source::described(source)),
            o.codec,
            encoder.params().size().width,
            encoder.params().size().height,
            common::quoted(&encoder.layout().to_string()),
            stats.frames,
            stats.packets,
            stats.keys,
            stats.errors,
            stats.refused,
            stats.bytes,
            touched.0,
            touched.1,
            settings.join(","),
        );
        return;
    }
    println!(
        "{} to {info}: {} in, {} {} out",
        source::described(source),
        encoder.layout(),
        o.codec,
        encoder.params().size()
    );
    for applied in encoder.applied().iter().filter(|a| !matches!(a.outcome, Outcome::Exact)) {
        println!("not as asked: {applied}");
    }
    println!(
        "{} frames, {} packets at {fps:.1} a second, {} key frames, {} damaged, {kbps:.0} kbit/s",
        stats.frames, stats.packets, stats.keys, stats.errors
    );
    println!("{cpu:.0} us CPU and {calls:.2} system calls a frame, camera to packet {p50} us (p50), {p99} us (p99)");
    println!("{} pixel bytes read and {} written by the CPU", touched.0, touched.1);
}
