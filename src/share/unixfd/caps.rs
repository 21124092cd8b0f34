//! Our formats in GStreamer's words.

use crate::format::{ColorSpace, Colorimetry, Encoding, FormatKind, FourCc, Layout, Range, Transfer};

/// V4L2 code, GStreamer's name, number in `GstVideoFormat`: the same bytes in memory.
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

/// V4L2 code, caps, whether a frame may lean on others.
const BITSTREAMS: &[(&[u8; 4], &str, bool)] = &[
    (b"H264", "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au", true),
    (b"HEVC", "video/x-h265, stream-format=(string)byte-stream, alignment=(string)au", true),
    (b"VP80", "video/x-vp8", true),
    (b"MJPG", "image/jpeg", false),
    (b"JPEG", "image/jpeg", false),
];

/// GStreamer's name and number of a pixel format.
pub(super) fn video_format(fourcc: FourCc) -> Option<(&'static str, u32)> {
    PIXELS.iter().find(|(code, ..)| FourCc::new(code) == fourcc).map(|&(_, name, number)| (name, number))
}

/// Whether frames without the key flag need others to be decoded.
pub(super) fn has_delta_units(fourcc: FourCc) -> bool {
    BITSTREAMS.iter().any(|&(code, _, has)| has && FourCc::new(code) == fourcc)
}

/// Caps of a layout; `None` for what GStreamer has no name for. The rate is "as frames come": a publisher does not know
/// its source's.
pub(super) fn of(layout: &Layout) -> Option<String> {
    let (fourcc, size) = (layout.fourcc(), layout.size());
    let rest = format!("width=(int){}, height=(int){}, framerate=(fraction)0/1", size.width, size.height);
    if let Some((_, media, _)) = BITSTREAMS.iter().find(|(code, ..)| FourCc::new(code) == fourcc) {
        return Some(format!("{media}, {rest}"));
    }
    let (name, _) = video_format(fourcc)?;
    let colours = colorimetry(layout.colorimetry(), fourcc.info()?.kind);
    let colours = colours.map_or(String::new(), |c| format!(", colorimetry=(string){c}"));
    Some(format!(
        "video/x-raw, format=(string){name}, {rest}, interlace-mode=(string)progressive, \
         pixel-aspect-ratio=(fraction)1/1{colours}"
    ))
}

/// `range:matrix:transfer:primaries` in GStreamer's numbers. Without a colour space nothing is known; GStreamer then
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
        // One curve under several names.
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

    #[test]
    fn every_format_but_one_has_caps() {
        let size = Size::new(64, 48);
        for info in FORMATS {
            let layout = Layout::from_strides(info.fourcc, size, &[256, 256, 128], &[]).unwrap();
            assert_eq!(of(&layout).is_none(), info.name == "FWHT", "{}", info.name);
        }
        let layout = Layout::packed(FourCc::new(b"NV12"), size).unwrap();
        let bt709 = Colorimetry { space: ColorSpace::Rec709, ..Colorimetry::default() };
        assert_eq!(colorimetry(bt709, FormatKind::Yuv).as_deref(), Some("2:3:5:1"));
        let bt601 = Colorimetry { space: ColorSpace::Smpte170m, ..Colorimetry::default() };
        assert_eq!(colorimetry(bt601, FormatKind::Yuv).as_deref(), Some("2:4:16:4"));
        let srgb = Colorimetry { space: ColorSpace::Srgb, ..Colorimetry::default() };
        assert_eq!(colorimetry(srgb, FormatKind::Rgb).as_deref(), Some("1:1:7:1"));
        assert_eq!(
            of(&layout).as_deref(),
            Some(
                "video/x-raw, format=(string)NV12, width=(int)64, height=(int)48, framerate=(fraction)0/1, \
                 interlace-mode=(string)progressive, pixel-aspect-ratio=(fraction)1/1"
            )
        );
    }
}
