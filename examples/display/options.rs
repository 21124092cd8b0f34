//! The command line.

use framelease::drm::PlaneKind;
use framelease::format::{FourCc, Size};

use super::common::{self, value};

const HELP: &str = "\
Shows a camera, the test pattern or a publisher's frames on a display.

Usage: display [OPTIONS]

  --input camera|testpattern|SOCKET  what to show; camera:PATH for one of several cameras (default testpattern)
  --device auto|PATH                 the DRM device (default: the first with a connected display)
  --connector NAME                   the connector, such as HDMI-A-1 (default: the first with a display)
  --mode WxH[@HZ]                    the mode (default: that of the frames' size, else the display's preferred one)
  --plane any|primary|overlay        the plane to use (default any: primary)
  --overlay                          also show a small test pattern on an overlay plane above
  --size WxH                         picture size (default: the camera's, or the screen's for the test pattern)
  --fourcc C[,C]                     acceptable pixel formats, best first (default: the input's)
  --fps F                            frame rate of the input (default 60)
  --buffers N                        buffers of the input (default 6)
  --frames N                         stop after N flips, or 0 for never (default 0)
  --json                             print the figures as one JSON object
  --help                             print this text

A frame is leased until the flip that replaces it has completed. Latency is measured from the frame's timestamp to the
flip. While another process is DRM master (another virtual terminal), or the display is unplugged, the picture does not
change. At the end, also after Ctrl-C, the console comes back.
";

/// The source of the picture.
#[derive(Clone, Debug)]
pub enum Input {
    /// None: the first.
    Camera(Option<String>),
    Pattern,
    Socket(String),
}

pub struct Options {
    pub input: Input,
    pub device: Option<String>,
    pub connector: Option<String>,
    pub mode: Option<(Size, Option<u32>)>,
    pub plane: Option<PlaneKind>,
    pub overlay: bool,
    pub size: Option<Size>,
    pub formats: Vec<FourCc>,
    pub fps: u32,
    pub buffers: usize,
    pub frames: u64,
    pub json: bool,
}

impl Options {
    /// None: the help was asked for and printed.
    pub fn parse() -> common::Result<Option<Self>> {
        use lexopt::prelude::*;
        let mut o = Self {
            input: Input::Pattern,
            device: None,
            connector: None,
            mode: None,
            plane: None,
            overlay: false,
            size: None,
            formats: Vec::new(),
            fps: 60,
            buffers: 6,
            frames: 0,
            json: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("input") => {
                    let text = parser.value()?.string()?;
                    o.input = match text.strip_prefix("camera") {
                        Some("") => Input::Camera(None),
                        Some(path) if path.starts_with(':') => Input::Camera(Some(path[1..].into())),
                        _ if text == "testpattern" => Input::Pattern,
                        _ => Input::Socket(text),
                    };
                }
                Long("device") => o.device = Some(parser.value()?.string()?).filter(|d| d != "auto"),
                Long("connector") => o.connector = Some(parser.value()?.string()?),
                Long("mode") => o.mode = Some(mode(&parser.value()?.string()?)?),
                Long("plane") => {
                    o.plane = match parser.value()?.string()?.as_str() {
                        "any" => None,
                        "primary" => Some(PlaneKind::Primary),
                        "overlay" => Some(PlaneKind::Overlay),
                        other => return Err(format!("--plane {other}: any, primary or overlay").into()),
                    }
                }
                Long("overlay") => o.overlay = true,
                Long("size") => o.size = Some(value(&mut parser, "size")?),
                Long("fourcc") => o.formats = common::formats(&mut parser)?,
                Long("fps") => o.fps = value(&mut parser, "fps")?,
                Long("buffers") => o.buffers = value(&mut parser, "buffers")?,
                Long("frames") => o.frames = value(&mut parser, "frames")?,
                Long("json") => o.json = true,
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(o))
    }
}

fn mode(text: &str) -> common::Result<(Size, Option<u32>)> {
    let (size, rate) = match text.split_once('@') {
        Some((size, rate)) => (size, Some(rate.parse().map_err(|e| format!("--mode {text}: {e}"))?)),
        None => (text, None),
    };
    Ok((size.parse().map_err(|e| format!("--mode {text}: {e}; WxH[@HZ] is wanted"))?, rate))
}
