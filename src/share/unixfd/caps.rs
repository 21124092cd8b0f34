//! Translates formats to GStreamer's caps, and back.

use super::text::Structure;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ColorSpace, Colorimetry, Encoding, FormatKind, FourCc, Layout, Range, Size, Transfer, MAX_SIDE};

/// V4L2 code, GStreamer's name, number in `GstVideoFormat`. Each line has one format in memory.
const PIXELS: &[(&[u8; 4], &str, u32)] = &[
    (b"NV12", "NV12", 23),
    (b"NV21", "NV21", 24),
    (b"NM12", "NV12", 23),
    (b"NM21", "NV21", 24),
    (b"NV16", "NV16", 51),
    (b"NV61", "NV61", 60),
    (b"NM16", "NV16", 51),
    (b"NM61", "NV61", 60),
    (b"YU12", "I420", 2),
    (b"YV12", "YV12", 3),
    (b"YM12", "I420", 2),
    (b"YM21", "YV12", 3),
    (b"422P", "Y42B", 18),
    (b"YUYV", "YUY2", 4),
    (b"YVYU", "YVYU", 19),
    (b"UYVY", "UYVY", 5),
    (b"VYUY", "VYUY", 64),
    (b"GREY", "GRAY8", 25),
    (b"RGBP", "RGB16", 29),
    (b"RGB3", "RGB", 15),
    (b"BGR3", "BGR", 16),
    (b"AB24", "RGBA", 11),
    (b"XB24", "RGBx", 7),
    (b"AR24", "BGRA", 12),
    (b"XR24", "BGRx", 8),
    (b"BA24", "ARGB", 13),
    (b"RA24", "ABGR", 14),
    (b"BX24", "xRGB", 9),
    (b"RX24", "xBGR", 10),
];

/// V4L2 code, caps, whether frames may depend on others.
const BITSTREAMS: &[(&[u8; 4], &str, bool)] = &[
    (b"H264", "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au", true),
    (b"HEVC", "video/x-h265, stream-format=(string)byte-stream, alignment=(string)au", true),
    (b"VP80", "video/x-vp8", true),
    (b"MJPG", "image/jpeg", false),
    (b"JPEG", "image/jpeg", false),
];

/// GStreamer's names for colorimetries, each with its numbers.
const NAMED_COLORS: &[(&str, &str)] = &[
    ("bt601", "2:4:16:4"),
    ("bt709", "2:3:5:1"),
    ("smpte240m", "2:5:6:5"),
    ("sRGB", "1:1:7:1"),
    ("bt2020", "2:6:11:7"),
    ("bt2020-10", "2:6:13:7"),
    ("bt2100-pq", "2:6:14:7"),
    ("bt2100-hlg", "2:6:15:7"),
];

/// Returns GStreamer's name and number of a pixel format.
pub(in crate::share) fn video_format(fourcc: FourCc) -> Option<(&'static str, u32)> {
    PIXELS.iter().find(|(code, ..)| FourCc::new(code) == fourcc).map(|&(_, name, number)| (name, number))
}

/// Returns `true` if frames without the key flag need others to be decoded.
pub(in crate::share) fn has_delta_units(fourcc: FourCc) -> bool {
    BITSTREAMS.iter().any(|&(code, _, has)| has && FourCc::new(code) == fourcc)
}

/// Returns the caps of a layout, or `None` if GStreamer has no name for it. The rate is 0/1, which means variable: a
/// publisher does not know its source's rate.
///
/// `is_mixed`: each frame says whether it is interlaced.
pub(in crate::share) fn of(layout: &Layout, is_mixed: bool) -> Option<String> {
    let (fourcc, size) = (layout.fourcc(), layout.size());
    let rest = format!("width=(int){}, height=(int){}, framerate=(fraction)0/1", size.width, size.height);
    if let Some((_, media, _)) = BITSTREAMS.iter().find(|(code, ..)| FourCc::new(code) == fourcc) {
        return Some(format!("{media}, {rest}"));
    }
    let (name, _) = video_format(fourcc)?;
    let colors = colorimetry(layout.colorimetry(), fourcc.info()?.kind);
    let colors = colors.map_or(String::new(), |c| format!(", colorimetry=(string){c}"));
    let mode = if is_mixed { "mixed" } else { "progressive" };
    Some(format!(
        "video/x-raw, format=(string){name}, {rest}, interlace-mode=(string){mode}, \
         pixel-aspect-ratio=(fraction)1/1{colors}"
    ))
}

/// The description of frames that a `unixfdsink` sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::share) struct Caps {
    /// If a format exists with one or with several memories: the code for one memory.
    pub(in crate::share) fourcc: FourCc,
    pub(in crate::share) size: Size,
    pub(in crate::share) colorimetry: Colorimetry,
    pub(in crate::share) fields: Fields,
}

/// What caps say of the fields of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::share) enum Fields {
    /// Progressive, or each buffer says it.
    #[default]
    ByBuffer,
    /// Every picture is interlaced. The order, if they name it: the bottom field first.
    Interleaved { is_bottom_first: Option<bool> },
}

impl Caps {
    /// # Errors
    /// `Protocol` if the text is not caps of fixed video, `Unsupported` if the format is not in the tables.
    pub(in crate::share) fn parse(text: &str) -> Result<Self> {
        let nonsense = |what: String| Error::new(ErrorKind::Protocol, "CAPS", format!("{what}: {}", shown(text)));
        let other = |what: String| Error::new(ErrorKind::Unsupported, "CAPS", format!("{what}: {}", shown(text)));
        let caps = Structure::parse(text).map_err(nonsense)?;
        let fourcc = match caps.name.as_str() {
            "video/x-raw" => pixels(&caps).map_err(other)?,
            _ => bitstream(&caps).ok_or_else(|| other("not a known video format".into()))?,
        };
        let side = |key: &str| match caps.get(key) {
            Some(value) => match value.parse() {
                Ok(side) if (1..=MAX_SIDE).contains(&side) => Ok(side),
                _ => Err(nonsense(format!("a {key} that is not a valid number"))),
            },
            None => Err(other(format!("no {key}"))),
        };
        let size = Size::new(side("width")?, side("height")?);
        let kind = fourcc.info().map_or(FormatKind::Yuv, |i| i.kind);
        let colorimetry = caps.get("colorimetry").and_then(|c| colors(c, kind)).unwrap_or_default();
        let fields = match (caps.get("interlace-mode"), caps.get("field-order")) {
            (Some("interleaved"), order) => {
                let is_bottom_first = match order {
                    Some("bottom-field-first") => Some(true),
                    Some("top-field-first") => Some(false),
                    _ => None,
                };
                Fields::Interleaved { is_bottom_first }
            }
            _ => Fields::ByBuffer,
        };
        Ok(Self { fourcc, size, colorimetry, fields })
    }
}

/// Shortens caps for an error text.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}

fn pixels(caps: &Structure) -> std::result::Result<FourCc, String> {
    // Features such as `memory:GLMemory` have no descriptors. `format:Interlaced` sends fields separately.
    let is_known = |f: &String| f == "memory:DMABuf" || f == "memory:SystemMemory" || f.starts_with("meta:");
    if let Some(feature) = caps.features.iter().find(|f| !is_known(f)) {
        return Err(format!("feature {feature}"));
    }
    if let Some(mode @ ("fields" | "alternate")) = caps.get("interlace-mode") {
        return Err(format!("the source is interlaced, and its frames come in fields ({mode})"));
    }
    let name = caps.get("format").ok_or("no format")?;
    let found = match name {
        "DMA_DRM" => {
            let drm = caps.get("drm-format").ok_or("no drm-format")?;
            let (code, modifier) = drm.split_once(':').unwrap_or((drm, "0x0"));
            let modifier = modifier.trim_start_matches("0x");
            if u64::from_str_radix(modifier, 16) != Ok(0) {
                return Err(format!("{drm} is not linear"));
            }
            let code: Option<[u8; 4]> = format!("{code:<4}").into_bytes().try_into().ok();
            code.and_then(|code| FourCc::from_drm(u32::from_le_bytes(code)))
        }
        name => PIXELS.iter().find(|(_, n, _)| *n == name).map(|(code, ..)| FourCc::new(code)),
    };
    found.ok_or_else(|| format!("format {name} is not supported"))
}

fn bitstream(caps: &Structure) -> Option<FourCc> {
    let fits = |media: &str| {
        Structure::parse(media).is_ok_and(|of| {
            let fields = ["stream-format", "alignment"];
            of.name == caps.name && fields.iter().all(|f| of.get(f).is_none() || of.get(f) == caps.get(f))
        })
    };
    BITSTREAMS.iter().find(|(_, media, _)| fits(media)).map(|(code, ..)| FourCc::new(code))
}

/// Reads a colorimetry, as a name or as numbers; `None` for other text. Fields that the numbers leave open, or that are
/// the color space's default, get the default.
fn colors(text: &str, kind: FormatKind) -> Option<Colorimetry> {
    let numbers = NAMED_COLORS.iter().find(|(name, _)| *name == text).map_or(text, |(_, numbers)| numbers);
    let mut parts = numbers.split(':').map(|n| n.parse::<u32>().ok());
    let [range, matrix, transfer, primaries] = [(); 4].map(|()| parts.next().flatten());
    if parts.next().is_some() {
        return None;
    }
    let (range, matrix, transfer) = (range?, matrix?, transfer?);
    let space = match (primaries?, matrix, transfer, range) {
        (1, 4, _, 1) => ColorSpace::Jpeg,
        (1, _, 7, _) => ColorSpace::Srgb,
        (1, ..) => ColorSpace::Rec709,
        (2, ..) => ColorSpace::System470M,
        (3, ..) => ColorSpace::System470Bg,
        (4, ..) => ColorSpace::Smpte170m,
        (5, ..) => ColorSpace::Smpte240m,
        (7, ..) => ColorSpace::Bt2020,
        (8, ..) => ColorSpace::OpRgb,
        _ => ColorSpace::Default,
    };
    let encoding = match matrix {
        3 => Encoding::Bt709,
        4 => Encoding::Bt601,
        5 => Encoding::Smpte240m,
        6 => Encoding::Bt2020,
        _ => Encoding::Default,
    };
    let transfer = match (transfer, space) {
        (1, _) => Transfer::Linear,
        (7, ColorSpace::Srgb | ColorSpace::Jpeg) => Transfer::Default,
        (5 | 11 | 13 | 16, ColorSpace::Srgb | ColorSpace::Jpeg) => Transfer::Rec709,
        (6, ColorSpace::Smpte240m) | (12, ColorSpace::OpRgb) => Transfer::Default,
        (6, _) => Transfer::Smpte240m,
        (7, _) => Transfer::Srgb,
        (12, _) => Transfer::OpRgb,
        (14, _) => Transfer::St2084,
        _ => Transfer::Default,
    };
    let range = match range {
        1 => Range::Full,
        2 => Range::Limited,
        _ => Range::Default,
    };
    let all = Colorimetry { space, encoding, range, transfer };
    let usual = Colorimetry { encoding: Encoding::Default, range: Range::Default, ..all };
    let encoding = if encoding == usual.matrix() { Encoding::Default } else { encoding };
    let range = if range == usual.quantization(kind) { Range::Default } else { range };
    Some(Colorimetry { encoding, range, ..all })
}

/// Returns `range:matrix:transfer:primaries` in GStreamer's numbers, or `None` without a color space. GStreamer then
/// guesses by size.
fn colorimetry(c: Colorimetry, kind: FormatKind) -> Option<String> {
    let primaries = match c.space {
        ColorSpace::Rec709 | ColorSpace::Srgb | ColorSpace::Jpeg => 1,
        ColorSpace::System470M => 2,
        ColorSpace::System470Bg => 3,
        ColorSpace::Smpte170m => 4,
        ColorSpace::Smpte240m => 5,
        ColorSpace::Bt2020 => 7,
        ColorSpace::OpRgb => 8,
        _ => return None,
    };
    let range = if c.quantization(kind) == Range::Full { 1 } else { 2 };
    let matrix = match c.matrix() {
        _ if kind == FormatKind::Rgb => 1,
        Encoding::Bt709 | Encoding::XvYcc709 => 3,
        Encoding::Smpte240m => 5,
        Encoding::Bt2020 | Encoding::Bt2020ConstantLuminance => 6,
        _ => 4,
    };
    let transfer = match (c.transfer, c.space) {
        (Transfer::Linear, _) => 1,
        (Transfer::Srgb, _) | (Transfer::Default, ColorSpace::Srgb | ColorSpace::Jpeg) => 7,
        (Transfer::Smpte240m, _) | (Transfer::Default, ColorSpace::Smpte240m) => 6,
        (Transfer::OpRgb, _) | (Transfer::Default, ColorSpace::OpRgb) => 12,
        (Transfer::St2084, _) => 14,
        // These names mean one curve.
        (Transfer::Rec709 | Transfer::Default, ColorSpace::Smpte170m) => 16,
        (Transfer::Rec709 | Transfer::Default, ColorSpace::Bt2020) => 11,
        (Transfer::Rec709 | Transfer::Default, _) => 5,
        _ => 0,
    };
    Some(format!("{range}:{matrix}:{transfer}:{primaries}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Size, FORMATS};

    fn some_layout(fourcc: FourCc) -> Layout {
        Layout::from_strides(fourcc, Size::new(64, 48), &[256, 256, 128], &[]).unwrap()
    }

    #[test]
    fn formats_with_a_name_of_gstreamer_have_caps() {
        let size = Size::new(64, 48);
        let named = FORMATS.iter().filter(|info| of(&some_layout(info.fourcc), false).is_some());
        assert_eq!(named.count(), 34);
        let layout = Layout::packed(FourCc::NV12, size).unwrap();
        let bt709 = Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() };
        assert_eq!(colorimetry(bt709, FormatKind::Yuv).as_deref(), Some("2:3:5:1"));
        let bt601 = Colorimetry { space: ColorSpace::Smpte170m, ..Colorimetry::default() };
        assert_eq!(colorimetry(bt601, FormatKind::Yuv).as_deref(), Some("2:4:16:4"));
        let srgb = Colorimetry { space: ColorSpace::Srgb, ..Colorimetry::default() };
        assert_eq!(colorimetry(srgb, FormatKind::Rgb).as_deref(), Some("1:1:7:1"));
        assert_eq!(
            of(&layout, false).as_deref(),
            Some(
                "video/x-raw, format=(string)NV12, width=(int)64, height=(int)48, framerate=(fraction)0/1, \
                 interlace-mode=(string)progressive, pixel-aspect-ratio=(fraction)1/1"
            )
        );
    }

    #[test]
    fn caps_that_are_written_can_be_parsed() {
        use ColorSpace::*;
        let size = Size::new(64, 48);
        let spaces = [Default, Smpte170m, Smpte240m, Rec709, System470M, System470Bg, Jpeg, Srgb, Bt2020, OpRgb];
        for info in FORMATS.iter().filter(|info| of(&some_layout(info.fourcc), false).is_some()) {
            for (space, range) in
                spaces.iter().flat_map(|&s| [Range::Default, Range::Full, Range::Limited].map(|r| (s, r)))
            {
                let colorimetry = Colorimetry { space, range, ..Colorimetry::default() };
                let layout = Layout::from_strides(info.fourcc, size, &[256, 256, 128], &[]).unwrap();
                let text = of(&layout.with_colorimetry(colorimetry), false).unwrap();
                let caps = Caps::parse(&text).unwrap();
                // Caps do not say in how many memories the planes lie. MJPG and JPEG are the same for GStreamer.
                let same = [Some(info.fourcc), info.fourcc.drm().and_then(FourCc::from_drm), Some(FourCc::MJPEG)];
                assert!(same.contains(&Some(caps.fourcc)) && caps.size == size, "{text}");
                assert_eq!(
                    of(
                        &Layout::from_strides(caps.fourcc, size, &[256], &[])
                            .unwrap()
                            .with_colorimetry(caps.colorimetry),
                        false
                    )
                    .unwrap(),
                    text
                );
                if !caps.fourcc.info().is_some_and(|i| i.kind == FormatKind::Compressed) && space != Default {
                    let (kind, got) = (info.kind, caps.colorimetry);
                    assert_eq!(got.quantization(kind), colorimetry.quantization(kind), "{text}");
                    assert!(kind == FormatKind::Rgb || got.matrix() == colorimetry.matrix(), "{text}");
                }
            }
        }
    }

    #[test]
    fn elements_of_gstreamer_are_understood() {
        let raw = |rest: &str| format!("video/x-raw{rest}, width=(int)321, height=(int)241, framerate=(fraction)30/1");
        for (text, code) in [
            (raw(", format=(string)NV12, interlace-mode=(string)progressive"), b"NV12"),
            (raw("(memory:DMABuf), format=(string)NV12, interlace-mode=(string)interleaved"), b"NV12"),
            (raw("(memory:DMABuf), format=(string)DMA_DRM, drm-format=(string)NV12"), b"NV12"),
            (raw("(memory:DMABuf), format=(string)DMA_DRM, drm-format=(string)\"XR24:0x0000000000000000\""), b"XR24"),
            (raw("(memory:DMABuf), format=(string)DMA_DRM, drm-format=(string)\"R8  \""), b"GREY"),
            (raw("(memory:SystemMemory, meta:GstVideoOverlayComposition), format=(string)BGRx"), b"XR24"),
            ("image/jpeg, parsed=(boolean)true, width=(int)64, height=(int)48".into(), b"MJPG"),
            ("video/x-h264, alignment=(string)au, stream-format=(string)byte-stream, width=(int)64, height=(int)48, \
              level=(string)4, profile=(string)main"
                .into(), b"H264"),
        ] {
            assert_eq!(Caps::parse(&text).unwrap().fourcc, FourCc::new(code), "{text}");
        }
        for (text, kind, what) in [
            (raw(""), ErrorKind::Unsupported, "no format"),
            (raw(", format=P010_10LE"), ErrorKind::Unsupported, "format P010_10LE is not"),
            (raw("(memory:GLMemory), format=RGBA"), ErrorKind::Unsupported, "feature memory:GLMemory"),
            (raw("(memory:DMABuf), format=DMA_DRM"), ErrorKind::Unsupported, "no drm-format"),
            (
                raw("(memory:DMABuf), format=DMA_DRM, drm-format=\"NV12:0x100000000000002\""),
                ErrorKind::Unsupported,
                "not linear",
            ),
            (raw("(memory:DMABuf), format=DMA_DRM, drm-format=\"NV12:\""), ErrorKind::Unsupported, "not linear"),
            (raw("(format:Interlaced), format=NV12, interlace-mode=alternate"), ErrorKind::Unsupported, "feature"),
            (raw(", format=NV12, interlace-mode=fields"), ErrorKind::Unsupported, "in fields"),
            (
                "video/x-h264, stream-format=avc, alignment=au, width=64, height=48".into(),
                ErrorKind::Unsupported,
                "not a known video",
            ),
            ("audio/x-raw, format=S16LE".into(), ErrorKind::Unsupported, "not a known video"),
            ("image/jpeg".into(), ErrorKind::Unsupported, "no width"),
            ("image/jpeg, width=64".into(), ErrorKind::Unsupported, "no height"),
            ("image/jpeg, width=0, height=48".into(), ErrorKind::Protocol, "a width"),
            ("image/jpeg, width=64, height=99999".into(), ErrorKind::Protocol, "a height"),
            ("image/jpeg, width=[ 1, 2 ], height=48".into(), ErrorKind::Protocol, "a width"),
            ("video/x-raw, width=64, width".into(), ErrorKind::Protocol, "'width' has no value"),
        ] {
            let e = Caps::parse(&text).unwrap_err();
            assert!(e.kind() == kind && e.to_string().contains(what), "{text}: {e}");
        }
    }

    #[test]
    fn colors_have_names_and_numbers() {
        let of =
            |text: &str| colors(text, FormatKind::Yuv).map(|c| (c.space, c.matrix(), c.quantization(FormatKind::Yuv)));
        assert_eq!(of("bt709"), Some((ColorSpace::Rec709, Encoding::Bt709, Range::Limited)));
        assert_eq!(of("1:4:7:1"), Some((ColorSpace::Jpeg, Encoding::Bt601, Range::Full)));
        assert_eq!(of("2:3:0:4"), Some((ColorSpace::Smpte170m, Encoding::Bt709, Range::Limited)));
        assert_eq!(colors("bt2100-pq", FormatKind::Yuv).map(|c| c.transfer), Some(Transfer::St2084));
        for text in ["", "bt4711", "1:2:3", "1:2:3:4:5", "a:2:3:4", "-1:2:3:4"] {
            assert_eq!(colors(text, FormatKind::Yuv), None, "{text}");
        }
    }
}
