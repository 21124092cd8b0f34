//! Pixel and bitstream formats: one table of the names that V4L2, DRM and libg2d use.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A V4L2 pixel format code (`V4L2_PIX_FMT_*`).
///
/// A `FourCc` can have any code. [`FourCc::info`] returns the properties of the codes that this crate knows. Common
/// formats have constants. For other formats, create the `FourCc` from the code, or parse the name.
///
/// ```
/// use framelease::format::FourCc;
///
/// assert_eq!(FourCc::new(b"NV12"), FourCc::NV12);
/// assert_eq!("NV12M".parse::<FourCc>()?, FourCc::new(b"NM12"));
/// assert_eq!(FourCc::NV12.info().map(|info| info.memory_planes), Some(1));
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(u32);

impl FourCc {
    /// Creates a code from its four characters.
    pub const fn new(code: &[u8; 4]) -> Self {
        Self(u32::from_le_bytes(*code))
    }

    /// Returns the properties of the format, or `None` if this crate does not know it.
    pub fn info(self) -> Option<&'static FormatInfo> {
        known().find(|info| info.fourcc == self)
    }

    /// Returns the code of the DRM format (`drm_fourcc.h`) that has the same bytes in memory, if there is one.
    pub fn drm(self) -> Option<u32> {
        self.info()?.drm.map(u32::from_le_bytes)
    }

    /// Returns the DRM format modifier (`DRM_FORMAT_MOD_*`) of the format: how its pixels lie in memory. 0 is linear.
    /// Returns `None` if this crate does not know the format.
    pub fn modifier(self) -> Option<u64> {
        Some(self.info()?.tiles.map_or(0, |tiles| tiles.modifier))
    }

    /// Returns the modifier of an opaque format.
    pub(crate) fn tiling(self) -> Option<u64> {
        Some(self.info()?.tiles?.modifier)
    }

    /// Returns the V4L2 format that has the same bytes in memory as a linear DRM format. The returned format has all
    /// color planes in one memory plane.
    pub fn from_drm(drm: u32) -> Option<Self> {
        FORMATS.iter().find(|i| i.memory_planes == 1 && i.drm.map(u32::from_le_bytes) == Some(drm)).map(|i| i.fourcc)
    }

    /// Returns the format with the same bytes and one memory plane for each color plane: NV12M for NV12.
    pub(crate) fn split(self) -> Option<Self> {
        let is_single = self.info().is_some_and(|i| i.memory_planes == 1);
        known().find(|i| is_single && i.memory_planes > 1 && i.fourcc.has_bytes_of(self)).map(|i| i.fourcc)
    }

    /// Returns `true` if both formats have the same bytes in each color plane.
    pub(crate) fn has_bytes_of(self, other: Self) -> bool {
        self.drm().is_some() && (self.drm(), self.modifier()) == (other.drm(), other.modifier())
    }

    /// Returns the number of this format in libg2d's `enum g2d_format`, if G2D knows the format.
    #[cfg(feature = "g2d")]
    pub(crate) fn g2d(self) -> Option<u32> {
        self.info()?.g2d
    }
}

/// Converts the code from a number, as the kernel has it: the first character is the lowest byte.
impl From<u32> for FourCc {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl From<FourCc> for u32 {
    fn from(fourcc: FourCc) -> Self {
        fourcc.0
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_le_bytes();
        if !bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
            return match self.info() {
                Some(info) => f.pad(info.name),
                None => write!(f, "{:#010x}", self.0),
            };
        }
        let text: String = bytes.iter().map(|&b| char::from(b)).collect();
        f.pad(text.trim_end())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FourCc({self})")
    }
}

/// Parses a four-character V4L2 code (`NM12`, in any case) or the part of a constant's name after `V4L2_PIX_FMT_`
/// (`NV12M`).
impl FromStr for FourCc {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let upper = s.to_ascii_uppercase();
        if let Some(info) = known().find(|i| i.name == upper || i.fourcc.to_string().eq_ignore_ascii_case(&upper)) {
            return Ok(info.fourcc);
        }
        match <[u8; 4]>::try_from(s.as_bytes()) {
            Ok(code) if code.iter().all(|b| (0x20..0x7f).contains(b)) => Ok(Self::new(&code)),
            _ => Err(Error::parse(format!("'{s}' is neither a V4L2 format code nor a known format name"))),
        }
    }
}

macro_rules! constants {
    ($($name:ident = $code:literal, $what:literal;)*) => {
        impl FourCc {
            $(#[doc = concat!("`V4L2_PIX_FMT_", stringify!($name), "`: ", $what, ".")]
            pub const $name: Self = Self::new($code);)*
        }
    };
}

constants! {
    NV12 = b"NV12", "8-bit Y plane, then a plane of Cb and Cr pairs, 4:2:0";
    NV21 = b"NV21", "8-bit Y plane, then a plane of Cr and Cb pairs, 4:2:0";
    NV12M = b"NM12", "`NV12` with one memory plane per color plane";
    NV16 = b"NV16", "8-bit Y plane, then a plane of Cb and Cr pairs, 4:2:2";
    YUV420 = b"YU12", "8-bit planes Y, Cb and Cr, 4:2:0";
    YVU420 = b"YV12", "8-bit planes Y, Cr and Cb, 4:2:0";
    YUV420M = b"YM12", "`YUV420` with one memory plane per color plane";
    YUYV = b"YUYV", "packed bytes Y, Cb, Y, Cr, 4:2:2";
    UYVY = b"UYVY", "packed bytes Cb, Y, Cr, Y, 4:2:2";
    GREY = b"GREY", "8-bit luma without color";
    RGB565 = b"RGBP", "16-bit words with red in the highest bits";
    RGB24 = b"RGB3", "bytes R, G, B";
    BGR24 = b"BGR3", "bytes B, G, R";
    RGBA32 = b"AB24", "bytes R, G, B, A";
    RGBX32 = b"XB24", "bytes R, G, B, padding";
    ABGR32 = b"AR24", "bytes B, G, R, A";
    XBGR32 = b"XR24", "bytes B, G, R, padding";
    ARGB32 = b"BA24", "bytes A, R, G, B";
    BGRA32 = b"RA24", "bytes A, B, G, R";
    XRGB32 = b"BX24", "bytes padding, R, G, B";
    BGRX32 = b"RX24", "bytes padding, B, G, R";
    H264 = b"H264", "an H.264 byte stream with start codes";
    HEVC = b"HEVC", "an H.265 byte stream with start codes";
    VP8 = b"VP80", "a VP8 frame per buffer";
    MJPEG = b"MJPG", "a Motion JPEG picture per buffer";
    JPEG = b"JPEG", "a JPEG picture per buffer";
    FWHT = b"FWHT", "the coded format of the test driver vicodec";
}

/// The sampling of one color plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneInfo {
    /// Bytes of one sample group of this plane.
    pub bytes: u32,
    /// Width of one sample group, in luma pixels.
    pub horizontal: u32,
    /// Luma rows that one row of this plane covers.
    pub vertical: u32,
}

/// The kind of content that a format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatKind {
    /// Luma and chroma samples.
    Yuv,
    /// Red, green and blue, perhaps with alpha.
    Rgb,
    /// A coded bitstream without planes.
    Compressed,
    /// Pixels that only devices can read, such as tiles. Operations of the CPU refuse them.
    Opaque,
}

/// The properties of one format.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FormatInfo {
    /// The V4L2 code of the format.
    pub fourcc: FourCc,
    /// The part of the constant's name after `V4L2_PIX_FMT_`.
    pub name: &'static str,
    /// The DRM code with the same bytes in memory, together with [`FourCc::modifier`].
    pub drm: Option<[u8; 4]>,
    /// The number in libg2d's `enum g2d_format`.
    pub g2d: Option<u32>,
    /// The kind of content.
    pub kind: FormatKind,
    /// The number of memory planes that V4L2 uses for the format. The `M` formats, such as `NV12M`, have one memory
    /// plane per color plane. Other formats have only one memory plane.
    pub memory_planes: usize,
    /// Color planes, in memory order. The slice is empty for a bitstream and for opaque formats.
    pub planes: &'static [PlaneInfo],
    /// `true` if each plane after the first has half the stride of the first plane, as for planar 4:2:0 and 4:2:2 in
    /// V4L2.
    pub half_chroma_stride: bool,
    pub(crate) tiles: Option<Tiles>,
}

/// How an opaque format stores its pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub(crate) modifier: u64,
    /// The color planes as they are without tiles, for samples of 8 bits.
    pub(crate) planes: &'static [PlaneInfo],
    /// Bits of a sample.
    pub(crate) bits: u32,
    /// The rows of a tile. A plane has whole tiles.
    pub(crate) rows: u32,
}

impl FormatInfo {
    /// Returns the color planes in memory, also those that only devices can read.
    pub(crate) fn stored_planes(&self) -> &'static [PlaneInfo] {
        self.tiles.map_or(self.planes, |tiles| tiles.planes)
    }

    /// Returns `true` if the CPU can read and write the pixels, row by row.
    pub(crate) fn has_rows(&self) -> bool {
        matches!(self.kind, FormatKind::Yuv | FormatKind::Rgb)
    }

    /// Returns the number of pixels that share one chroma sample, horizontally and vertically. It is `(2, 2)` for 4:2:0
    /// and `(1, 1)` for RGB.
    pub fn subsampling(&self) -> (u32, u32) {
        let most = |f: fn(&PlaneInfo) -> u32| self.stored_planes().iter().map(f).max().unwrap_or(1);
        (most(|p| p.horizontal), most(|p| p.vertical))
    }

    /// Returns `true` if the pixels have an alpha component.
    pub fn has_alpha(&self) -> bool {
        self.kind == FormatKind::Rgb && self.name.contains('A')
    }
}

const fn plane(bytes: u32, horizontal: u32, vertical: u32) -> PlaneInfo {
    PlaneInfo { bytes, horizontal, vertical }
}

const SEMI_420: &[PlaneInfo] = &[plane(1, 1, 1), plane(2, 2, 2)];
const SEMI_422: &[PlaneInfo] = &[plane(1, 1, 1), plane(2, 2, 1)];
const PLANAR_420: &[PlaneInfo] = &[plane(1, 1, 1), plane(1, 2, 2), plane(1, 2, 2)];
const PLANAR_422: &[PlaneInfo] = &[plane(1, 1, 1), plane(1, 2, 1), plane(1, 2, 1)];
const PACKED_422: &[PlaneInfo] = &[plane(4, 2, 1)];

const fn yuv(
    fourcc: FourCc,
    name: &'static str,
    drm: &[u8; 4],
    g2d: Option<u32>,
    memory_planes: usize,
    planes: &'static [PlaneInfo],
) -> FormatInfo {
    FormatInfo {
        fourcc,
        name,
        drm: Some(*drm),
        g2d,
        kind: FormatKind::Yuv,
        memory_planes,
        planes,
        half_chroma_stride: planes.len() == 3,
        tiles: None,
    }
}

const fn rgb(
    fourcc: FourCc,
    name: &'static str,
    drm: &[u8; 4],
    g2d: Option<u32>,
    planes: &'static [PlaneInfo],
) -> FormatInfo {
    FormatInfo {
        fourcc,
        name,
        drm: Some(*drm),
        g2d,
        kind: FormatKind::Rgb,
        memory_planes: 1,
        planes,
        half_chroma_stride: false,
        tiles: None,
    }
}

const fn coded(fourcc: FourCc, name: &'static str) -> FormatInfo {
    FormatInfo {
        fourcc,
        name,
        drm: None,
        g2d: None,
        kind: FormatKind::Compressed,
        memory_planes: 1,
        planes: &[],
        half_chroma_stride: false,
        tiles: None,
    }
}

/// Semi-planar 4:2:0 in the tiles of the i.MX8's Amphion decoder: 8 bytes by 128 rows.
const fn amphion(code: u32, name: &'static str, drm: &[u8; 4], memory_planes: usize, bits: u32) -> FormatInfo {
    // `DRM_FORMAT_MOD_AMPHION_TILED` of NXP's kernels from 5.x on. The mainline kernel has no number for it.
    const MODIFIER: u64 = 0xf000_0000_0000_0001;
    FormatInfo {
        fourcc: FourCc(code),
        name,
        drm: Some(*drm),
        g2d: if bits == 8 { Some(20) } else { None },
        kind: FormatKind::Opaque,
        memory_planes,
        planes: &[],
        half_chroma_stride: false,
        tiles: Some(Tiles { modifier: MODIFIER, planes: SEMI_420, bits, rows: 128 }),
    }
}

/// The bit that `v4l2_fourcc_be` sets.
const BIG_ENDIAN: u32 = 1 << 31;

const BYTE: &[PlaneInfo] = &[plane(1, 1, 1)];
const RGB16: &[PlaneInfo] = &[plane(2, 1, 1)];
const RGB24: &[PlaneInfo] = &[plane(3, 1, 1)];
const RGB32: &[PlaneInfo] = &[plane(4, 1, 1)];

/// Formats that only devices can read. NXP's composer gives the 10-bit formats to displays as NV15.
const OPAQUE: &[FormatInfo] = &[
    amphion(u32::from_le_bytes(*b"AT12"), "NV12_8L128", b"NV12", 1, 8),
    amphion(u32::from_le_bytes(*b"NA12"), "NV12M_8L128", b"NV12", 2, 8),
    amphion(u32::from_le_bytes(*b"AX12") | BIG_ENDIAN, "NV12_10BE_8L128", b"NV15", 1, 10),
    amphion(u32::from_le_bytes(*b"NT12") | BIG_ENDIAN, "NV12M_10BE_8L128", b"NV15", 2, 10),
];

fn known() -> impl Iterator<Item = &'static FormatInfo> {
    FORMATS.iter().chain(OPAQUE)
}

/// Every format whose rows this crate can lay out, and the bitstreams that it can carry. [`FourCc::info`] also knows
/// opaque formats.
///
/// Sources: `videodev2.h` and `drm_fourcc.h`. The libg2d numbers are from the i.MX G2D API. V4L2 and libg2d name RGB
/// formats by the order of bytes in memory; DRM names them by the bits of a little-endian word. Headers disagree
/// about the bit order of `RGB565` in G2D, and only a board can tell (docs/boards.md).
pub const FORMATS: &[FormatInfo] = &[
    yuv(FourCc::NV12, "NV12", b"NV12", Some(20), 1, SEMI_420),
    yuv(FourCc::NV21, "NV21", b"NV21", Some(23), 1, SEMI_420),
    yuv(FourCc::NV12M, "NV12M", b"NV12", Some(20), 2, SEMI_420),
    yuv(FourCc::new(b"NM21"), "NV21M", b"NV21", Some(23), 2, SEMI_420),
    yuv(FourCc::NV16, "NV16", b"NV16", Some(28), 1, SEMI_422),
    yuv(FourCc::new(b"NV61"), "NV61", b"NV61", Some(29), 1, SEMI_422),
    yuv(FourCc::new(b"NM16"), "NV16M", b"NV16", Some(28), 2, SEMI_422),
    yuv(FourCc::new(b"NM61"), "NV61M", b"NV61", Some(29), 2, SEMI_422),
    yuv(FourCc::YUV420, "YUV420", b"YU12", Some(21), 1, PLANAR_420),
    yuv(FourCc::YVU420, "YVU420", b"YV12", Some(22), 1, PLANAR_420),
    yuv(FourCc::YUV420M, "YUV420M", b"YU12", Some(21), 3, PLANAR_420),
    yuv(FourCc::new(b"YM21"), "YVU420M", b"YV12", Some(22), 3, PLANAR_420),
    yuv(FourCc::new(b"422P"), "YUV422P", b"YU16", None, 1, PLANAR_422),
    yuv(FourCc::YUYV, "YUYV", b"YUYV", Some(24), 1, PACKED_422),
    yuv(FourCc::new(b"YVYU"), "YVYU", b"YVYU", Some(25), 1, PACKED_422),
    yuv(FourCc::UYVY, "UYVY", b"UYVY", Some(26), 1, PACKED_422),
    yuv(FourCc::new(b"VYUY"), "VYUY", b"VYUY", Some(27), 1, PACKED_422),
    yuv(FourCc::GREY, "GREY", b"R8  ", Some(19), 1, BYTE),
    rgb(FourCc::RGB565, "RGB565", b"RG16", Some(0), RGB16),
    rgb(FourCc::RGB24, "RGB24", b"BG24", Some(10), RGB24),
    rgb(FourCc::BGR24, "BGR24", b"RG24", Some(11), RGB24),
    rgb(FourCc::RGBA32, "RGBA32", b"AB24", Some(1), RGB32),
    rgb(FourCc::RGBX32, "RGBX32", b"XB24", Some(2), RGB32),
    rgb(FourCc::ABGR32, "ABGR32", b"AR24", Some(3), RGB32),
    rgb(FourCc::XBGR32, "XBGR32", b"XR24", Some(4), RGB32),
    rgb(FourCc::ARGB32, "ARGB32", b"BA24", Some(6), RGB32),
    rgb(FourCc::BGRA32, "BGRA32", b"RA24", Some(7), RGB32),
    rgb(FourCc::XRGB32, "XRGB32", b"BX24", Some(8), RGB32),
    rgb(FourCc::BGRX32, "BGRX32", b"RX24", Some(9), RGB32),
    coded(FourCc::H264, "H264"),
    coded(FourCc::HEVC, "HEVC"),
    coded(FourCc::VP8, "VP8"),
    coded(FourCc::MJPEG, "MJPEG"),
    coded(FourCc::JPEG, "JPEG"),
    coded(FourCc::FWHT, "FWHT"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_unique_codes_and_names_that_parse_back() {
        for (i, a) in FORMATS.iter().enumerate() {
            assert_eq!(a.name.parse::<FourCc>().unwrap(), a.fourcc);
            assert_eq!(a.fourcc.to_string().to_lowercase().parse::<FourCc>().unwrap(), a.fourcc);
            for b in &FORMATS[i + 1..] {
                assert_ne!(a.fourcc, b.fourcc);
                assert_ne!(a.name, b.name);
            }
        }
    }

    #[test]
    fn formats_have_every_g2d_number_or_leave_it_out_on_purpose() {
        // Left out: BGR565 (headers disagree about its and RGB565's bits), the 5551s, 1010102 and GRAY10. 17 is
        // unused.
        let left_out = [5, 12, 13, 14, 15, 16, 17, 18];
        for number in 0..=29 {
            let here = FORMATS.iter().any(|f| f.g2d == Some(number));
            assert_ne!(here, left_out.contains(&number), "{number}");
        }
    }

    #[test]
    fn drm_and_split_formats_have_the_same_bytes() {
        // V4L2 BGR24 has bytes B, G, R. DRM names the little-endian word: RGB888.
        assert_eq!(FourCc::new(b"BGR3").drm(), Some(u32::from_le_bytes(*b"RG24")));
        assert_eq!(FourCc::from_drm(u32::from_le_bytes(*b"NV12")), Some(FourCc::new(b"NV12")));
        assert_eq!(FourCc::new(b"H264").drm(), None);
        assert_eq!(FourCc::new(b"NV12").split(), Some(FourCc::new(b"NM12")));
        assert_eq!(FourCc::new(b"YU12").split(), Some(FourCc::new(b"YM12")));
        assert!(["NM12", "YUYV", "H264"].iter().all(|f| f.parse::<FourCc>().unwrap().split().is_none()));
    }

    #[test]
    fn opaque_formats_have_codes_names_and_one_modifier() {
        for (name, code, split, drm) in [
            ("NV12_8L128", 0x3231_5441, Some("NV12M_8L128"), b"NV12"),
            ("NV12M_8L128", 0x3231_414e, None, b"NV12"),
            ("NV12_10BE_8L128", 0xb231_5841, Some("NV12M_10BE_8L128"), b"NV15"),
            ("NV12M_10BE_8L128", 0xb231_544e, None, b"NV15"),
        ] {
            let fourcc: FourCc = name.parse().unwrap();
            assert_eq!((u32::from(fourcc), fourcc.modifier()), (code, Some(0xf0 << 56 | 1)), "{name}");
            assert_eq!(fourcc.split(), split.map(|name| name.parse().unwrap()), "{name}");
            assert_eq!(fourcc.drm(), Some(u32::from_le_bytes(*drm)));
            assert_eq!(fourcc.to_string().parse::<FourCc>().unwrap(), fourcc);
            let info = fourcc.info().unwrap();
            assert!(!info.has_rows() && info.planes.is_empty() && info.subsampling() == (2, 2), "{name}");
        }
        assert_eq!((FourCc::NV12.modifier(), FourCc::new(b"Y16 ").modifier()), (Some(0), None));
    }

    #[test]
    fn parse_keeps_unknown_codes_and_refuses_other_text() {
        assert_eq!("Y16 ".parse::<FourCc>().unwrap().to_string(), "Y16");
        assert!("nonsense".parse::<FourCc>().is_err());
        assert_eq!(FourCc(0x8000_0001).to_string(), "0x80000001");
    }
}
