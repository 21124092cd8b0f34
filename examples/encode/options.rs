//! The command line.

use framelease::bitstream::Codec;
use framelease::format::{FourCc, Size};

use super::camera_encoder::Ends;
use super::common::{self, value};

const HELP: &str = "\
Encodes a camera's frames from dma-buf to dma-buf, with a V4L2 mem-to-mem encoder.

Usage: encode [OPTIONS]

  --device auto|PATH              the encoder (default: the first that has the codec)
  --camera auto|PATH|testpattern  what to encode (default testpattern)
  --codec h264|hevc|vp8|fwht      the codec (default h264)
  --size WxH                      picture size (default 1280x720)
  --fourcc C[,C]                  acceptable pixel formats, best first (default: any that both devices have)
  --fps F                         frame rate (default 30)
  --bitrate BPS                   bits per second
  --gop N                         frames from one key frame to the next
  --frames N                      stop after N frames, or 0 for never (default 300)
  --output FILE                   write the stream: Matroska if the name ends in .mkv (not for FWHT), else a byte stream
                                  of H.264 or H.265, IVF with VP8, or FWHT frames
  --json                          print the figures as one JSON object
  --help                          print this text

Camera and encoder agree on a layout first. If they cannot, the error has both geometries.
Bitrate and GOP are requests. The output says what the driver did instead.
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
                    print!("{HELP}{}", common::DEVICES);
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
            subscribers: None,
        }
    }
}
