//! Shows frames on a screen without a copy: `display --help`.

#[path = "../common/mod.rs"]
mod common;
mod inputs;
mod options;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use framelease::drm::{Device, LayerRequirements, PlaneKind, PlaneLayer, Scanout, ScanoutEvent};
use framelease::format::{Rect, Size};
use framelease::frame::FrameFlags;
use framelease::stats::{cpu_bytes, Histogram};
use framelease::{ErrorKind, Received, Station};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use common::{quoted, stopped, Progress, Result};
use inputs::{Given, Source, Waiting};
use options::Options;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let Some(o) = Options::parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let input = Waiting::open(&o.input)?;
    let mut screen = open(&o, input.size(o.size))?;
    let (layer, source) = input.begin(&mut screen, &o)?;
    let mut sources = vec![(layer, source)];
    if o.overlay {
        sources.push(overlay(&mut screen, &o)?);
    }
    for (layer, _) in &sources {
        eprintln!("{} on {:?} plane {} of {screen:?}", layer.fourcc(), layer.kind(), layer.plane_id());
    }

    let (start, mut latency, mut progress) = (Instant::now(), Histogram::default(), Progress::new());
    let (mut ended, mut refused) = (false, None);
    while !ended && !stopped(&stop) && (o.frames == 0 || screen.stats().flips < o.frames) {
        wait(&screen, &sources)?;
        for (layer, source) in &mut sources {
            loop {
                match source.try_next()? {
                    // The newest wins; what it replaces goes back to its producer.
                    Given::Frame(frame) => match screen.stage(*layer, frame) {
                        // Until it is back, there is nothing to show frames on.
                        Err(rejected) if rejected.error.kind() == ErrorKind::DeviceLost => {}
                        staged => drop(staged?),
                    },
                    Given::Nothing => break,
                    Given::Ended => {
                        ended = true;
                        break;
                    }
                }
            }
        }
        while let Received::Item(event) = screen.try_recv()? {
            match event {
                ScanoutEvent::Shown(flipped) => {
                    let meta = screen.shown(layer).map(|f| *f.meta()).unwrap_or_default();
                    if meta.flags.contains(FrameFlags::MONOTONIC) {
                        latency.record_ns(flipped.time_ns.saturating_sub(meta.timestamp_ns));
                    }
                }
                ScanoutEvent::Lost(e) => eprintln!("waiting: {e}"),
                ScanoutEvent::Returned => {
                    if screen.connection().is_err() {
                        // The device was gone, and has returned as another one.
                        screen.reopen()?;
                    }
                    eprintln!("the display is back");
                }
                _ => {}
            }
        }
        match screen.try_present() {
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::DeviceLost) => {
                if refused != Some(e.kind()) {
                    eprintln!("waiting: {e}");
                }
                refused = Some(e.kind());
                std::thread::sleep(Duration::from_millis(200));
                if e.kind() == ErrorKind::PermissionDenied {
                    // Another virtual terminal. Root can ask; other users get master back with their terminal.
                    let _ = screen.device().acquire_master();
                }
            }
            presented => {
                // Without room, the descriptor tells when there is.
                let _ = presented?;
                refused = None;
            }
        }
        progress.show(|| {
            let stats = screen.stats();
            let ms = latency.quantile_ns(0.5) as f64 / 1e6;
            format!("{} flips, {} vertical blanks missed, latency p50 {ms:.1} ms", stats.flips, stats.missed_vblanks)
        });
    }
    progress.done();
    let stats = screen.stats();
    let mode = screen.mode().to_string();
    // The console comes back.
    drop(screen);
    let bytes = cpu_bytes();
    let (p50, p99) = (latency.quantile_ns(0.5) as f64 / 1e3, latency.quantile_ns(0.99) as f64 / 1e3);
    if o.json {
        println!(
            "{{\"flips\": {}, \"missed_vblanks\": {}, \"replaced\": {}, \"seconds\": {:.3}, \"mode\": {}, \
             \"fourcc\": {}, \"plane\": {}, \"latency_us_p50\": {p50:.1}, \"latency_us_p99\": {p99:.1}, \
             \"cpu_bytes_touched\": {}}}",
            stats.flips,
            stats.missed_vblanks,
            stats.replaced,
            start.elapsed().as_secs_f64(),
            quoted(&mode),
            quoted(&layer.fourcc().to_string()),
            layer.plane_id(),
            bytes.read + bytes.written
        );
    } else {
        println!(
            "{} flips in {:.1} s at {mode}, {} vertical blanks missed, {} frames replaced before they were shown; \
             latency p50 {p50:.0} µs, p99 {p99:.0} µs",
            stats.flips,
            start.elapsed().as_secs_f64(),
            stats.missed_vblanks,
            stats.replaced
        );
    }
    Ok(())
}

/// The screen: in the mode that is asked for, else one of the frames' size, else what the display prefers.
fn open(o: &Options, frames: Option<Size>) -> Result<Scanout> {
    let mut builder = Scanout::builder();
    if let Some(path) = &o.device {
        builder = builder.device(&Device::open(path)?);
    }
    if let Some(name) = &o.connector {
        builder = builder.connector(name);
    }
    if let Some((size, rate)) = o.mode {
        builder = builder.size(size);
        return Ok(rate.map_or(builder.clone(), |hz| builder.refresh_hz(hz)).open()?);
    }
    if let Some(size) = frames {
        match builder.clone().size(size).open() {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            done => return Ok(done?),
        }
    }
    Ok(builder.open()?)
}

/// A small test pattern in the right lower corner.
fn overlay(screen: &mut Scanout, o: &Options) -> Result<(PlaneLayer, Source)> {
    let Size { width, height } = screen.size();
    let size = Size::new((width / 4).max(16) & !15, (height / 4).max(16) & !15);
    let corner = Rect::new((width - size.width) as i32, (height - size.height) as i32, size);
    let wish = LayerRequirements::new(inputs::drawn(), size).plane(PlaneKind::Overlay).destination(corner);
    let layer = screen.add_layer(&wish)?;
    Ok((layer, inputs::pattern(layer, size, o)?))
}

/// Until a source or the screen has something, or half a second.
fn wait(screen: &Scanout, sources: &[(PlaneLayer, Source)]) -> Result<()> {
    let mut fds = vec![PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
    fds.extend(sources.iter().map(|(_, s)| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::from(500u16)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
