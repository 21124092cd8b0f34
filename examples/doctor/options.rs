//! The command line.

use std::str::FromStr;

use framelease::bitstream::Codec;
use framelease::format::Size;

use super::common::{value, Result};
use super::paths::{Memory, Path, PATHS};
use super::questions;

pub const HELP: &str = "\
Examines the video devices of this machine, and says what is slow or wrong and what to do. It lists devices, formats,
media graphs, memory, displays and libg2d. It answers questions of docs/boards.md. It runs every path of a frame
that exists here, by dma-buf and copied.

Usage: framelease-doctor [OPTIONS]

  --quick         only list, and look into libg2d; start no camera, codec or display
  --part NAME     only this part; repeatable: devices, g2d, answers, paths (default: all)
  --question NAME ask only this; repeatable: camera, encoder, converter, display, g2d, or one of their questions as the
                  JSON names them, such as encoder-drain (default: all)
  --json FILE     also write the report as JSON, for docs/boards/reports
  --output FILE   write the text to this file instead of standard output

  --camera PATH   the camera of the paths (default: the first)
  --encoder PATH  the encoder of the paths (default: the first that has the codec)
  --codec NAME    h264, hevc, vp8 or fwht (default h264)
  --size WxH      picture size (default 640x480)
  --fps F         frame rate of the camera (default 30)
  --path NAME     run only this path; repeatable: capture, share-1, share-3, encode, convert-encode, capture-shown,
                  display (default: all)
  --frames N      frames to measure, after 20 of warm-up (default 60)
  --turns N       repetitions; figures are medians (default 1)
  --help          print this text

Run it as root and without a compositor. It takes about a minute. A part that does not work is a row with the reason.
The report has no serial number, host name or network address.

All figures are for one frame. Each path is a process of its own (share: with its subscribers). CPU is user and system
time of these processes in us. The CPU of the whole machine also contains kernel threads and other programs. The cost of
`capture`, which takes frames and gives them back, is contained in all other rows (in `display` that of
`capture-shown`, in the display's format). System calls are those of the library. If perf and the DDR counters of an
i.MX8 (imx8_ddr0) are available, the JSON has the cycles of the bus.

FRAMELEASE_G2D_LIBRARY names another libg2d, and FRAMELEASE_G2D_ABI (legacy or modern) the layout of its structs.

Exit status: 0 if there is a report, also if it lists problems; 1 after a wrong option, or if a file cannot be written.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Devices,
    G2d,
    Answers,
    Paths,
}

const PARTS: [(&str, Part); 4] =
    [("devices", Part::Devices), ("g2d", Part::G2d), ("answers", Part::Answers), ("paths", Part::Paths)];

impl FromStr for Part {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let found = PARTS.iter().find(|(name, _)| *name == s).map(|(_, part)| *part);
        found.ok_or_else(|| format!("there are {}", PARTS.map(|(name, _)| name).join(", ")))
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub parts: Vec<Part>,
    /// Names of questions, or what they begin with.
    pub questions: Vec<String>,
    pub json: Option<String>,
    pub output: Option<String>,
    pub paths: Vec<Path>,
    pub camera: Option<String>,
    pub encoder: Option<String>,
    pub codec: Codec,
    pub size: Size,
    pub fps: u32,
    pub frames: u64,
    pub turns: usize,
    /// Of a process that runs one path.
    pub memory: Option<Memory>,
    pub bus: bool,
    /// Of a process that asks one device.
    pub probe: Option<String>,
    pub node: String,
}

/// None: the help was asked for and printed.
pub fn parse() -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut o = Options {
        parts: Vec::new(),
        questions: Vec::new(),
        json: None,
        output: None,
        paths: Vec::new(),
        camera: None,
        encoder: None,
        codec: Codec::H264,
        size: Size::new(640, 480),
        fps: 30,
        frames: 60,
        turns: 1,
        memory: None,
        bus: false,
        probe: None,
        node: String::new(),
    };
    let mut p = lexopt::Parser::from_env();
    while let Some(arg) = p.next()? {
        match arg {
            Long("quick") => o.parts = vec![Part::Devices, Part::G2d],
            Long("part") => o.parts.push(value(&mut p, "part")?),
            Long("question") => {
                let name: String = value(&mut p, "question")?;
                if !questions::is_known(&name) {
                    return Err(format!("--question {name}: there are camera, encoder, converter, display, g2d").into());
                }
                o.questions.push(name);
            }
            Long("json") => o.json = Some(value(&mut p, "json")?),
            Long("output") => o.output = Some(value(&mut p, "output")?),
            Long("path") => o.paths.push(value(&mut p, "path")?),
            Long("camera") => o.camera = Some(value(&mut p, "camera")?),
            Long("encoder") => o.encoder = Some(value(&mut p, "encoder")?),
            Long("codec") => o.codec = value(&mut p, "codec")?,
            Long("size") => o.size = value(&mut p, "size")?,
            Long("fps") => o.fps = value(&mut p, "fps")?,
            Long("frames") => o.frames = value(&mut p, "frames")?,
            Long("turns") => o.turns = value(&mut p, "turns")?,
            Long("memory") => o.memory = Some(value(&mut p, "memory")?),
            Long("bus") => o.bus = true,
            Long("probe") => o.probe = Some(value(&mut p, "probe")?),
            Long("node") => o.node = value(&mut p, "node")?,
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
    if o.parts.is_empty() {
        o.parts = PARTS.map(|(_, part)| part).into();
    }
    if o.paths.is_empty() {
        o.paths = PATHS.to_vec();
    }
    Ok(Some(o))
}
