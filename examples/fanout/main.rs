//! The main job: one source, one publisher, several subscriber *processes*, zero-copy and, for comparison, by copies.
//!
//! Needs no hardware and no root: without `--device` a test pattern stands for the camera.

#[path = "../common/mod.rs"]
mod common;
mod consumer;
mod producer;
mod report;
#[path = "../common/source.rs"]
mod source;

use std::process::ExitCode;

use framelease::format::{FourCc, Size};
use framelease::share::Policy;

use common::{value, Result};

const HELP: &str = "\
Sends frames from one publisher to several subscriber processes, zero-copy and copied, and compares the cost.

Usage: fanout [OPTIONS]

  --consumers N  subscriber processes, 1 to 20 (default 3)
  --frames N     frames to count (default 300)
  --size WxH     picture size (default 1920x1080)
  --fps F        frames a second, or 0 for as fast as possible (default 30)
  --fourcc C     pixel format, as a V4L2 code or name (default NV12)
  --policy P     latest, fifo:N or block: what happens to frames for a busy consumer (default latest)
  --mode M       zero-copy, copy or both (default both).
                 copy: one memcpy into shared memory, and consumers read in place; then the same with one more memcpy
                 in each consumer, which a device there would need
  --verify       publisher and consumers hash the pixels of every frame, and the hashes must be equal
  --device PATH  share this V4L2 camera, or the first one with 'auto' (default: the test pattern)
  --json         print the figures as one JSON object on standard output
  --help         print this text
";

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub consumers: usize,
    pub frames: u64,
    pub size: Size,
    pub fps: u32,
    pub fourcc: FourCc,
    pub policy: Policy,
    pub modes: Vec<Mode>,
    pub verify: bool,
    pub device: Option<String>,
    pub json: bool,
}

/// How frames get to the consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The source's own buffers.
    ZeroCopy,
    /// One memcpy into shared memory; consumers read in place.
    Copy,
    /// As `Copy`, and one more memcpy in each consumer.
    CopyToDevice,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
            Self::CopyToDevice => "copy-to-device",
        }
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<()> {
    let mut options = Options {
        consumers: 3,
        frames: 300,
        size: Size::new(1920, 1080),
        fps: 30,
        fourcc: FourCc::NV12,
        policy: Policy::Latest,
        modes: vec![Mode::ZeroCopy, Mode::Copy, Mode::CopyToDevice],
        verify: false,
        device: None,
        json: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("consumers") => options.consumers = value(&mut parser, "consumers")?,
            Long("frames") => options.frames = value(&mut parser, "frames")?,
            Long("size") => options.size = value(&mut parser, "size")?,
            Long("fps") => options.fps = value(&mut parser, "fps")?,
            Long("fourcc") => options.fourcc = value(&mut parser, "fourcc")?,
            Long("policy") => options.policy = value(&mut parser, "policy")?,
            Long("mode") => {
                options.modes = match parser.value()?.string()?.as_str() {
                    "zero-copy" => vec![Mode::ZeroCopy],
                    "copy" => vec![Mode::Copy, Mode::CopyToDevice],
                    "both" => vec![Mode::ZeroCopy, Mode::Copy, Mode::CopyToDevice],
                    other => return Err(format!("--mode {other}: zero-copy, copy or both").into()),
                }
            }
            Long("verify") => options.verify = true,
            Long("device") => options.device = Some(parser.value()?.string()?),
            Long("json") => options.json = true,
            // How a consumer process is started; not for users.
            Long("consumer-of") => {
                let job: consumer::Job = parser.value()?.string()?.parse()?;
                return consumer::run(&job);
            }
            Long("help") | Short('h') => {
                print!("{HELP}{}", common::DEVICES);
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if !(1..=20).contains(&options.consumers) || options.frames == 0 {
        return Err("--consumers must be 1 to 20 and --frames at least 1".into());
    }
    let stop = common::stop_flag()?;
    let mut runs = Vec::new();
    for &mode in &options.modes {
        if !common::stopped(&stop) {
            runs.push(producer::run(&options, mode, &stop)?);
        }
    }
    let corrupt: u64 = runs.iter().flat_map(|r| &r.subscribers).map(|s| s.corrupt).sum();
    if options.json {
        println!("{}", report::json(&options, &runs));
    } else {
        print!("{}", report::table(&options, &runs));
    }
    if corrupt > 0 {
        return Err(format!("{corrupt} frames did not have the pixels that were published").into());
    }
    Ok(())
}
