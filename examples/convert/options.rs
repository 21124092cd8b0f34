//! The command line.

use framelease::convert::{Candidate, Color, Scaling};
use framelease::format::{ColorSpace, Colorimetry, Flip, FormatKind, FourCc, Layout, Range, Rect, Rotation, Size};

use super::common::{self, value};

const HELP: &str = "\
Scales, rotates, converts and composes pictures with i.MX G2D, a V4L2 device, a GPU or the CPU.

Usage: convert [OPTIONS]

  --input testpattern|FILE.png  a source; repeat it with --compose (default testpattern)
  --device auto|PATH            a camera as a source
  --input-size WxH              size of test pattern and camera (default 1920x1080; a PNG has its own)
  --from C                      format of the sources, as a V4L2 code or name (default NV12)
  --to C                        format of the result (default RGBA32)
  --size WxH                    size of the result, after rotation (default: the source's)
  --crop WxH@X,Y                use this part of the source
  --rotate 0|90|180|270         rotate clockwise
  --flip h|v                    flip, before the rotation
  --keep-ratio                  add margins instead of stretching the picture
  --background RRGGBB[AA]       color of margins and gaps (default 000000)
  --matrix 601|709              matrix of a Y'CbCr result (default: the first source's)
  --range full|limited          quantization of a Y'CbCr result (default: the first source's)
  --compose grid|pip            several sources next to each other, or all others inside the first
  --alpha 0..255                opacity of the inner pictures of pip (default 255)
  --backend NAME                auto, g2d, m2m, vulkan or cpu (default: auto, the first that can do it)
  --heap PATH|udmabuf|memfd     memory of the frames (default: the first that works)
  --frames N                    convert N frames (default 1)
  --png FILE                    write the last result as a PNG
  --json                        print the figures as one JSON object
  --help                        print this text
";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compose {
    Grid,
    PictureInPicture,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Pattern,
    Png(String),
    Camera(String),
}

pub struct Options {
    pub inputs: Vec<Input>,
    pub input_size: Size,
    pub from: FourCc,
    pub to: FourCc,
    pub size: Option<Size>,
    pub crop: Option<Rect>,
    pub rotation: Rotation,
    pub flip: Flip,
    pub fit: Scaling,
    pub background: Color,
    matrix: Option<ColorSpace>,
    range: Option<Range>,
    pub compose: Option<Compose>,
    pub alpha: u8,
    backend: String,
    pub heap: Option<String>,
    pub frames: u64,
    pub png: Option<String>,
    pub json: bool,
}

impl Options {
    /// None: the help was asked for and printed.
    pub fn parse() -> common::Result<Option<Self>> {
        use lexopt::prelude::*;
        let mut o = Self {
            inputs: Vec::new(),
            input_size: Size::new(1920, 1080),
            from: FourCc::NV12,
            to: FourCc::RGBA32,
            size: None,
            crop: None,
            rotation: Rotation::None,
            flip: Flip::None,
            fit: Scaling::Stretch,
            background: Color::BLACK,
            matrix: None,
            range: None,
            compose: None,
            alpha: 255,
            backend: "auto".into(),
            heap: None,
            frames: 1,
            png: None,
            json: false,
        };
        let mut p = lexopt::Parser::from_env();
        while let Some(arg) = p.next()? {
            match arg {
                Long("input") => o.inputs.push(match value::<String>(&mut p, "input")?.as_str() {
                    "testpattern" => Input::Pattern,
                    path => Input::Png(path.into()),
                }),
                Long("device") => o.inputs.push(Input::Camera(value(&mut p, "device")?)),
                Long("input-size") => o.input_size = value(&mut p, "input-size")?,
                Long("from") => o.from = value(&mut p, "from")?,
                Long("to") => o.to = value(&mut p, "to")?,
                Long("size") => o.size = Some(value(&mut p, "size")?),
                Long("crop") => o.crop = Some(value(&mut p, "crop")?),
                Long("rotate") => o.rotation = value(&mut p, "rotate")?,
                Long("flip") => o.flip = value(&mut p, "flip")?,
                Long("keep-ratio") => o.fit = Scaling::Keep,
                Long("background") => o.background = value(&mut p, "background")?,
                Long("matrix") => {
                    o.matrix = Some(match value::<String>(&mut p, "matrix")?.as_str() {
                        "601" => ColorSpace::Smpte170m,
                        "709" => ColorSpace::Rec709,
                        other => return Err(format!("--matrix {other}: 601 or 709").into()),
                    })
                }
                Long("range") => {
                    o.range = Some(match value::<String>(&mut p, "range")?.as_str() {
                        "full" => Range::Full,
                        "limited" => Range::Limited,
                        other => return Err(format!("--range {other}: full or limited").into()),
                    })
                }
                Long("compose") => {
                    o.compose = Some(match value::<String>(&mut p, "compose")?.as_str() {
                        "grid" => Compose::Grid,
                        "pip" => Compose::PictureInPicture,
                        other => return Err(format!("--compose {other}: grid or pip").into()),
                    })
                }
                Long("alpha") => o.alpha = value(&mut p, "alpha")?,
                Long("backend") => {
                    o.backend = value(&mut p, "backend")?;
                    if !["auto", "g2d", "m2m", "vulkan", "cpu"].contains(&o.backend.as_str()) {
                        return Err(format!("--backend {}: auto, g2d, m2m, vulkan or cpu", o.backend).into());
                    }
                }
                Long("heap") => o.heap = Some(value(&mut p, "heap")?),
                Long("frames") => o.frames = value(&mut p, "frames")?,
                Long("png") => o.png = Some(value(&mut p, "png")?),
                Long("json") => o.json = true,
                Short('h') | Long("help") => {
                    print!("{HELP}{}", common::DEVICES);
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if o.inputs.is_empty() {
            o.inputs.push(Input::Pattern);
        }
        if o.inputs.len() > 1 && o.compose.is_none() {
            return Err("several sources need --compose grid or --compose pip".into());
        }
        if o.compose.is_some() && o.inputs.len() == 1 {
            // A composition of one picture shows nothing: four of it do.
            o.inputs = vec![o.inputs[0].clone(); 4];
        }
        Ok(Some(o))
    }

    /// Whether `--backend` lets a candidate take part.
    pub fn accepts(&self, candidate: &Candidate) -> bool {
        let name = match candidate {
            Ok(converter) => converter.name(),
            Err(refusal) => &refusal.backend,
        };
        self.backend == "auto" || name.split(' ').next() == Some(&self.backend)
    }

    /// The result's colors: as asked, else the first source's.
    pub fn colorimetry(&self, source: &Layout) -> Colorimetry {
        if self.to.info().map_or(true, |info| info.kind == FormatKind::Rgb) {
            return Colorimetry::default();
        }
        let is_yuv = source.fourcc().info().is_some_and(|info| info.kind == FormatKind::Yuv);
        let mut colors = if is_yuv { source.colorimetry() } else { Colorimetry::default() };
        if let Some(space) = self.matrix {
            colors = Colorimetry { space, range: colors.range, ..Colorimetry::default() };
        }
        colors.range = self.range.unwrap_or(colors.range);
        colors
    }
}
