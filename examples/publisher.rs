//! Shares a camera, the test pattern or stored frames with any number of `subscriber` processes until Ctrl-C.

#[path = "common/mod.rs"]
mod common;
#[path = "common/source.rs"]
mod source;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use framelease::capture::CameraEvent;
use framelease::format::{FourCc, Size};
use framelease::replay::FrameReplay;
use framelease::share::Publisher;
use framelease::stats::cpu_bytes;
use framelease::{Received, Submitted};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use common::{stopped, value, Progress, Result};
use source::{Source, Wish};

const HELP: &str = "\
Shares a camera, the test pattern or stored frames with other processes until Ctrl-C.

Usage: publisher [OPTIONS]

  --socket PATH  listen here (default: framelease.socket in $XDG_RUNTIME_DIR or /run)
  --device PATH  share this V4L2 camera, or the first one with 'auto' (default: the test pattern)
  --replay FILE  share the frames that 'subscriber --store' has stored, at their original times. They have their own
                 size, format and rate
  --loop         with --replay: begin again after the last frame
  --size WxH     picture size (default 1280x720)
  --fourcc C     pixel format, as a V4L2 code or name (default NV12)
  --fps F        frames a second, or 0 for as fast as possible (default 30)
  --buffers N    buffers in the pool (default 16)
  --frames N     stop after N frames (default: never)
  --lease-ms N   revoke leases that are held longer, and disconnect the subscriber after twice that time
  --unixfd PATH  also serve GStreamer's unixfdsrc at this path (needs the cargo feature unixfd)
  --json         print the figures as one JSON object on standard output
  --help         print this text
";

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let mut wish = Wish { device: None, size: Size::new(1280, 720), fourcc: FourCc::NV12, fps: 30, buffers: 16 };
    let mut socket: PathBuf = common::default_socket();
    let (mut frames, mut lease_ms, mut json) = (u64::MAX, 0, false);
    let (mut replay, mut is_looped) = (None, false);
    #[cfg(feature = "unixfd")]
    let mut unixfd = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("socket") => socket = parser.value()?.into(),
            Long("device") => wish.device = Some(parser.value()?.string()?),
            Long("replay") => replay = Some(PathBuf::from(parser.value()?)),
            Long("loop") => is_looped = true,
            Long("size") => wish.size = value(&mut parser, "size")?,
            Long("fourcc") => wish.fourcc = value(&mut parser, "fourcc")?,
            Long("fps") => wish.fps = value(&mut parser, "fps")?,
            Long("buffers") => wish.buffers = value(&mut parser, "buffers")?,
            Long("frames") => frames = value(&mut parser, "frames")?,
            Long("lease-ms") => lease_ms = value(&mut parser, "lease-ms")?,
            #[cfg(feature = "unixfd")]
            Long("unixfd") => unixfd = Some(PathBuf::from(parser.value()?)),
            Long("json") => json = true,
            Long("help") | Short('h') => {
                print!("{HELP}{}", common::DEVICES);
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let stop = common::stop_flag()?;
    let mut source: Source = match &replay {
        Some(path) => Box::new(FrameReplay::builder(path).buffers(wish.buffers).looped(is_looped).open()?),
        None => source::open(&wish)?,
    };
    let mut builder = Publisher::builder(&socket);
    if lease_ms > 0 {
        let lease = Duration::from_millis(lease_ms);
        builder = builder.lease_deadline(lease, lease * 2);
    }
    #[cfg(feature = "unixfd")]
    if let Some(path) = unixfd {
        builder = builder.unixfd(path, framelease::share::UnixfdTerms::hold(4));
    }
    let mut publisher = builder.bind()?;
    publisher.announce(source.buffers()?)?;
    let name = replay.map_or_else(|| source::described(&source), |path| path.display().to_string());
    eprintln!("{} from {name} at {}", source.buffers()?.layout(), socket.display());

    let mut progress = Progress::new();
    let (start, mut lost) = (Instant::now(), 0);
    let mut pending = None;
    while publisher.stats().published < frames && !stopped(&stop) {
        {
            let mut fds =
                [PollFd::new(publisher.as_fd(), PollFlags::POLLIN), PollFd::new(source.as_fd(), PollFlags::POLLIN)];
            // While a subscriber blocks, only its release matters; the camera's frames wait in the driver.
            let watched = if pending.is_none() { 2 } else { 1 };
            match poll(&mut fds[..watched], PollTimeout::from(500u16)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        common::serve(&mut publisher)?;
        if pending.is_none() {
            match source.try_recv()? {
                Received::Item(CameraEvent::Frame(frame)) => {
                    lost += u64::from(frame.meta().lost);
                    pending = Some(frame);
                }
                Received::Item(CameraEvent::Lost(e)) => {
                    eprintln!("waiting for the camera: {e}");
                    publisher.pause(Duration::ZERO)?;
                }
                // New buffers.
                Received::Item(CameraEvent::Returned | CameraEvent::Changed(_)) => {
                    publisher.announce(source.buffers()?)?;
                }
                Received::Item(_) | Received::Nothing => {}
                Received::Ended => break,
            }
        }
        if let Some(frame) = pending.take() {
            if let Submitted::Full(frame) = publisher.try_publish(frame)? {
                pending = Some(frame);
            }
        }
        progress.show(|| {
            let dropped: u64 = publisher.subscribers().map(|s| s.dropped).sum();
            let held = source.buffers().map_or(0, |b| b.leased());
            format!(
                "{} frames, {} subscribers, {dropped} dropped by policy, {lost} lost by the source, {held} buffers held",
                publisher.stats().published,
                publisher.active()
            )
        });
    }
    progress.done();
    let stats = publisher.stats();
    let bytes = cpu_bytes();
    let touched = bytes.read + bytes.written;
    publisher.pause(Duration::from_secs(1))?;
    if json {
        println!(
            "{{\"published\": {}, \"seconds\": {:.3}, \"lost\": {lost}, \"admitted\": {}, \"refused\": {}, \
             \"violations\": {}, \"revoked\": {}, \"cpu_bytes_touched\": {touched}}}",
            stats.published,
            start.elapsed().as_secs_f64(),
            stats.admitted,
            stats.refused,
            stats.violations,
            stats.revoked
        );
    } else {
        println!(
            "{} frames in {:.1} s, {lost} lost by the source; {} subscribers came, {} were refused; \
             {touched} bytes touched by the CPU",
            stats.published,
            start.elapsed().as_secs_f64(),
            stats.admitted,
            stats.refused
        );
    }
    Ok(())
}
