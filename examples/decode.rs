//! Decodes a stream by a V4L2 mem-to-mem decoder: to raw pixels, a PNG of the last frame, or figures only.

#[path = "common/coded.rs"]
mod coded;
#[path = "common/mod.rs"]
mod common;
#[path = "common/movie.rs"]
mod movie;
#[path = "common/picture.rs"]
mod picture;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::codec::{Decoder, DecoderEvent};
use framelease::dmabuf::DEFAULT_WAIT;
use framelease::format::FourCc;
use framelease::frame::{Frame, FrameFlags};
use framelease::stats::process_cpu_time;
use framelease::{Received, Station};

use coded::StreamReader;

const HELP: &str = "\
Decodes a file with a V4L2 mem-to-mem decoder.

Usage: decode --input FILE [OPTIONS]

  --input FILE                a byte stream of H.264 or H.265, IVF with VP8, or FWHT frames
  --codec h264|hevc|vp8|fwht  the codec of the file (default h264)
  --device auto|PATH          the decoder (default: the first that has the codec)
  --fourcc C[,C]              acceptable pixel formats, best first (default: the driver's choice)
  --frames N                  stop after N frames, or 0 for all (default 0)
  --output FILE               write the pixels of every frame, without padding
  --png FILE                  write the last frame as a PNG
  --json                      print the figures as one JSON object
  --help                      print this text
";

/// A decoder that is silent for so long is stuck.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Options {
    input: String,
    device: Option<String>,
    formats: Vec<FourCc>,
    frames: u64,
    output: Option<String>,
    png: Option<String>,
    json: bool,
}

fn main() -> ExitCode {
    common::exit(run())
}

fn parse() -> common::Result<Option<(Codec, Options)>> {
    use common::value;
    use lexopt::prelude::*;
    let (mut codec, mut o, mut p) = (Codec::H264, Options::default(), lexopt::Parser::from_env());
    while let Some(arg) = p.next()? {
        match arg {
            Long("input") => o.input = value(&mut p, "input")?,
            Long("codec") => codec = value(&mut p, "codec")?,
            Long("device") => o.device = Some(value::<String>(&mut p, "device")?).filter(|d| d != "auto"),
            Long("fourcc") => o.formats = common::formats(&mut p)?,
            Long("frames") => o.frames = value(&mut p, "frames")?,
            Long("output") => o.output = Some(value(&mut p, "output")?),
            Long("png") => o.png = Some(value(&mut p, "png")?),
            Long("json") => o.json = true,
            Short('h') | Long("help") => {
                print!("{HELP}{}", common::DEVICES);
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if o.input.is_empty() {
        return Err("--input FILE is missing; --help says more".into());
    }
    Ok(Some((codec, o)))
}

fn run() -> common::Result<()> {
    let Some((codec, o)) = parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let mut reader = StreamReader::open(&o.input, codec)?;
    let mut builder = Decoder::builder(codec).formats(o.formats.iter().copied());
    if let Some(name) = &o.device {
        builder = builder.device(common::device(name)?);
    }
    let mut decoder = builder.open()?;
    let create = |path: &String| File::create(path).map(BufWriter::new).map_err(|e| format!("{path}: {e}"));
    let mut out = o.output.as_ref().map(create).transpose()?;
    let (mut progress, start, cpu) = (common::Progress::new(), Instant::now(), process_cpu_time());
    let (mut last, mut next, mut draining, mut alive): (Option<Frame>, _, _, _) =
        (None, reader.next()?, false, Instant::now());
    let mut number = 0u64;
    loop {
        // As much as the device takes.
        while let Some(bytes) = &next {
            if !decoder.try_submit_bytes(bytes, number, number * 1_000_000)?.is_taken() {
                break;
            }
            number += 1;
            next = reader.next()?;
        }
        let enough = common::stopped(&stop) || o.frames != 0 && decoder.stats().frames >= o.frames;
        if enough && decoder.pictures().is_none() || o.frames != 0 && decoder.stats().frames >= o.frames {
            break;
        }
        if (next.is_none() || enough) && !draining && decoder.pictures().is_some() {
            decoder.drain()?;
            (draining, next) = (true, None);
        }
        match decoder.recv(Duration::from_millis(200))? {
            Received::Item(DecoderEvent::Frame(frame)) => {
                if let (Some(out), false) = (&mut out, frame.meta().flags.contains(FrameFlags::ERROR)) {
                    let path = o.output.as_deref().unwrap_or_default();
                    frame.read(DEFAULT_WAIT)?.write_to(out).map_err(|e| format!("{path}: {e}"))?;
                }
                last = o.png.is_some().then_some(frame);
                alive = Instant::now();
            }
            Received::Item(DecoderEvent::Format(pictures)) => {
                if !o.json {
                    println!("{} of which {} is to be seen", pictures.buffers.layout(), pictures.visible);
                }
                alive = Instant::now();
            }
            Received::Ended => break,
            Received::Item(DecoderEvent::Lost(e)) => return Err(e.into()),
            Received::Item(_) => {}
            Received::Nothing if alive.elapsed() > SILENCE && decoder.pictures().is_none() => {
                return Err(format!("{}: nothing in it that the decoder knows as {codec}", o.input).into());
            }
            Received::Nothing if alive.elapsed() > SILENCE => {
                return Err(format!("nothing came for {SILENCE:?}").into())
            }
            Received::Nothing => {}
        }
        let stats = decoder.stats();
        progress.show(|| format!("{} packets, {} frames", stats.packets, stats.frames));
    }
    progress.done();
    if let Some(mut out) = out {
        let path = o.output.as_deref().unwrap_or_default();
        out.flush().map_err(|e| format!("{path}: {e}"))?;
    }
    if let (Some(path), Some(frame)) = (&o.png, &last) {
        let size = frame.layout().size();
        picture::write_png(create(path)?, size.width, size.height, &picture::rgb(frame)?)?;
    }
    let (stats, info) = (decoder.stats(), decoder.device().info().clone());
    let visible = decoder.pictures().map(|p| p.visible.size).unwrap_or_default();
    let fps = stats.frames as f64 / start.elapsed().as_secs_f64();
    let cpu = (process_cpu_time() - cpu).as_secs_f64() * 1e6 / stats.frames.max(1) as f64;
    if o.json {
        println!(
            "{{\"device\":{},\"driver\":{},\"codec\":\"{codec}\",\"width\":{},\"height\":{},\"packets\":{},\"frames\":{},\
             \"errors\":{},\"formats\":{},\"fps\":{fps:.2},\"cpu_us_per_frame\":{cpu:.0}}}",
            common::quoted(&info.path.display().to_string()),
            common::quoted(&info.driver),
            visible.width,
            visible.height,
            stats.packets,
            stats.frames,
            stats.errors,
            stats.formats,
        );
    } else {
        println!(
            "{info}: {} packets, {} frames at {fps:.1} a second, {} damaged",
            stats.packets, stats.frames, stats.errors
        );
    }
    Ok(())
}
