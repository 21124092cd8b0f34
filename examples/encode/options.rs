//! The command line.

use framelease::bitstream::Codec;
use framelease::format::{FourCc, Size};

use super::camera_encoder::Ends;
use super::common::{self, value};

const HELP: &str = "\
Encodes a camera's frames, dma-buf to dma-buf, by a V4L2 mem-to-mem encoder.

usage: encode [OPTIONS]

  --device auto|PATH              the encoder (auto: the first that has the codec)
  --camera auto|PATH|testpattern  what is encoded (testpattern)
  --codec h264|hevc|vp8|fwht      how (h264)
  --size WxH                      the picture's size (1280x720)
  --fourcc C[,C]                  acceptable pixel formats, best first (what both devices have)
  --fps F                         frame rate (30)
  --bitrate BPS                   bits per second
  --gop N                         frames from one key frame to the next
  --frames N                      stop after N frames (300; 0: go on until Ctrl-C)
  --output FILE                   write the stream: Matroska if it ends in .mkv (not of FWHT), else a byte stream of
                                  H.264 or H.265, IVF of VP8, FWHT frames
  --json                          print figures as one JSON object

Camera and encoder agree on a layout first; where they cannot, the error has both geometries.
Bitrate and GOP are wishes: what the driver does instead is told.
";

pub struct Options {
    pub device: Option<String>,
    /// None: the test pattern.
    pub camera: Option<String>,
    pub codec: Codec,
    pub size: Size,
    pub formats: Vec<FourCc>,
    pub fps: u32,
    bitrate: Option<u32>,
    gop: Option<u32>,
    pub frames: u64,
    pub output: Option<String>,
    pub json: bool,
}

impl Options {
    /// None: the help was asked for and printed.
    pub fn parse() -> common::Result<Option<Self>> {
        use lexopt::prelude::*;
        let mut o = Self {
            device: None,
            camera: None,
            codec: Codec::H264,
            size: Size::new(1280, 720),
            formats: Vec::new(),
            fps: 30,
            bitrate: None,
            gop: None,
            frames: 300,
            output: None,
            json: false,
        };
        let mut p = lexopt::Parser::from_env();
        while let Some(arg) = p.next()? {
            match arg {
                Long("device") => {
                    o.device = Some(value::<String>(&mut p, "device")?).filter(|d| d != "auto");
                }
                Long("camera") => {
                    o.camera = Some(value::<String>(&mut p, "camera")?).filter(|c| c != "testpattern");
                }
                Long("codec") => o.codec = value(&mut p, "codec")?,
                Long("size") => o.size = value(&mut p, "size")?,
                Long("fourcc") => o.formats = common::formats(&mut p)?,
                Long("fps") => o.fps = value(&mut p, "fps")?,
                Long("bitrate") => o.bitrate = Some(value(&mut p, "bitrate")?),
                Long("gop") => o.gop = Some(value(&mut p, "gop")?),
                Long("frames") => o.frames = value(&mut p, "frames")?,
                Long("output") => o.output = Some(value(&mut p, "output")?),
                Long("json") => o.json = true,
                Short('h') | Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if o.fps == 0 {
            return Err("--fps 0: an encoder's rate control needs a frame rate".into());
        }
        Ok(Some(o))
    }

    pub fn ends(&self) -> Ends {
        Ends {
            encoder: self.device.clone(),
            camera: self.camera.clone(),
            codec: self.codec,
            size: self.size,
            camera_size: None,
            fps: self.fps,
            bitrate: self.bitrate,
            gop: self.gop,
            formats: self.formats.clone(),
        }
    }
}
