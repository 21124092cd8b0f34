//! The command line.

use std::path::PathBuf;

use crate::common::{self, value};

const HELP: &str = "\
Draws the frames of a publisher by the GPU (Vulkan, by wgpu) on a display, until Ctrl-C or the end of the stream.

Usage: gpu_view [OPTIONS]

  --socket PATH   connect to the publisher here (default: the default of the example publisher)
  --device NAME   the Vulkan device: a part of its name (default: the first GPU that can import dma-bufs). A driver that
                  works on the CPU, such as llvmpipe, is used only if it is named
  --drm PATH      the DRM device (default: the first with a connected display)
  --png FILE      draw into memory instead, and write the last frame here. Stops after one frame, unless --frames says
                  another number
  --frames N      stop after N frames
  --no-overlay    do not draw the frame's number
  --help          print this text

Each buffer of the publisher, and each of the display, is imported once. A frame returns to the publisher when the GPU has
finished with it. Drivers that work on the CPU map buffers for writing: for them, the publisher must share writable
buffers, as the test pattern's are where /dev/udmabuf exists.
";

pub struct Options {
    pub socket: PathBuf,
    /// A part of the name of the Vulkan device.
    pub device: Option<String>,
    pub drm: Option<PathBuf>,
    pub png: Option<PathBuf>,
    pub frames: u64,
    pub overlay: bool,
}

impl Options {
    /// None: the help was asked for and printed.
    pub fn parse() -> common::Result<Option<Self>> {
        use lexopt::prelude::*;
        let socket = common::default_socket();
        let mut o = Self { socket, device: None, drm: None, png: None, frames: u64::MAX, overlay: true };
        let (mut p, mut frames) = (lexopt::Parser::from_env(), None);
        while let Some(arg) = p.next()? {
            match arg {
                Long("socket") => o.socket = p.value()?.into(),
                Long("device") => o.device = Some(p.value()?.string()?),
                Long("drm") => o.drm = Some(p.value()?.into()),
                Long("png") => o.png = Some(p.value()?.into()),
                Long("frames") => frames = Some(value(&mut p, "frames")?),
                Long("no-overlay") => o.overlay = false,
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if o.png.is_some() && o.drm.is_some() {
            return Err("--png and --drm exclude each other: a frame is written or shown".into());
        }
        if frames == Some(0) {
            return Err("--frames must be more than 0".into());
        }
        o.frames = frames.unwrap_or(if o.png.is_some() { 1 } else { u64::MAX });
        Ok(Some(o))
    }
}
