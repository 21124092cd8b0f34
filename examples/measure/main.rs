//! What a frame costs on this machine's devices, handed on as a dma-buf and copied: `measure --help`.

#[path = "../common/mod.rs"]
mod common;

mod costs;
mod meter;
mod paths;
mod report;

use std::process::ExitCode;

use framelease::bitstream::Codec;
use framelease::format::Size;

use common::{value, Result};
use paths::{Memory, Path, PATHS};

const HELP: &str = "\
Measures the CPU cost of a frame on its way from a camera to another device or process. It measures each way twice: the
dma-buf passed on, and a copy from the camera's mapped buffer into a mapped buffer of the next stage.

Usage: measure [OPTIONS]

  --path NAME     measure only this way; repeatable: capture, share-1, share-3, encode, convert-encode, capture-shown,
                  display (default: all)
  --camera PATH   the camera (default: the first)
  --encoder PATH  the encoder (default: the first that has the codec)
  --codec NAME    h264, hevc, vp8 or fwht (default h264)
  --size WxH      picture size (default 640x480)
  --fps F         frame rate of the camera (default 30)
  --frames N      frames to measure, after 20 of warm-up (default 60)
  --turns N       repetitions; figures are medians (default 3)
  --json FILE     also write all figures to this file
  --help          print this text

Prints a table in Markdown. All figures are for one frame. Each way is a process of its own (share: with its subscribers).
CPU is user and system time of these processes in us. The CPU of the whole machine also contains kernel threads and other
programs. The cost of `capture`, which takes frames and gives them back, is contained in all other rows (in `display` that
of `capture-shown`, in the display's format). System calls are those of the library. If perf and the DDR counters of an
i.MX8 (imx8_ddr0) are available, the JSON has the cycles of the bus.
";

/// The command line.
#[derive(Clone, Debug)]
pub struct Options {
    paths: Vec<Path>,
    camera: Option<String>,
    encoder: Option<String>,
    codec: Codec,
    size: Size,
    fps: u32,
    frames: u64,
    turns: usize,
    json: Option<String>,
    /// Of one run, in a process of its own.
    memory: Option<Memory>,
    bus: bool,
}

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, socket] = &words[..] {
        if flag == paths::SUBSCRIBER {
            return paths::subscribe(socket.as_ref());
        }
    }
    let Some(o) = parse()? else { return Ok(()) };
    if let (Some(memory), [path]) = (o.memory, &o.paths[..]) {
        return paths::run(&o, *path, memory);
    }
    let costs = costs::measure(&o)?;
    print!("{}", report::table(&costs));
    if let Some(path) = &o.json {
        std::fs::write(path, report::json(&o, &costs)).map_err(|e| format!("{path}: {e}"))?;
    }
    if costs.rows.iter().all(|row| row.failed.is_some()) {
        return Err("no path could be measured; the table has the reasons".into());
    }
    Ok(())
}

/// None: the help was asked for and printed.
fn parse() -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut o = Options {
        paths: Vec::new(),
        camera: None,
        encoder: None,
        codec: Codec::H264,
        size: Size::new(640, 480),
        fps: 30,
        frames: 60,
        turns: 3,
        json: None,
        memory: None,
        bus: false,
    };
    let mut p = lexopt::Parser::from_env();
    while let Some(arg) = p.next()? {
        match arg {
            Long("path") => o.paths.push(value(&mut p, "path")?),
            Long("camera") => o.camera = Some(value(&mut p, "camera")?),
            Long("encoder") => o.encoder = Some(value(&mut p, "encoder")?),
            Long("codec") => o.codec = value(&mut p, "codec")?,
            Long("size") => o.size = value(&mut p, "size")?,
            Long("fps") => o.fps = value(&mut p, "fps")?,
            Long("frames") => o.frames = value(&mut p, "frames")?,
            Long("turns") => o.turns = value(&mut p, "turns")?,
            Long("json") => o.json = Some(value(&mut p, "json")?),
            Long("bus") => o.bus = true,
            Long("memory") => o.memory = Some(value(&mut p, "memory")?),
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if o.frames == 0 || o.turns == 0 || o.fps == 0 {
        return Err("--frames, --turns and --fps are 1 at least".into());
    }
    if o.paths.is_empty() {
        o.paths = PATHS.to_vec();
    }
    Ok(Some(o))
}
