//! The code of a pixel or bitstream format, with the names that V4L2, DRM and libg2d use.

use std::fmt;
use std::str::FromStr;

use super::table::{known, FormatInfo};
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

/// The bit that `v4l2_fourcc_be` sets, and what texts have for it.
const BIG_ENDIAN: u32 = 1 << 31;
const BE: &str = "-BE";

impl FourCc {
    /// Creates a code from its four characters.
    pub const fn new(code: &[u8; 4]) -> Self {
        Self(u32::from_le_bytes(*code))
    }

    /// The code of `v4l2_fourcc_be`.
    pub(super) const fn big_endian(self) -> Self {
        Self(self.0 | BIG_ENDIAN)
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
    #[cfg(any(feature = "drm", feature = "unixfd", test))]
    pub(crate) fn from_drm(drm: u32) -> Option<Self> {
        known()
            .find(|i| i.tiles.is_none() && i.memory_planes == 1 && i.drm.map(u32::from_le_bytes) == Some(drm))
            .map(|i| i.fourcc)
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
        let is_big_endian = self.0 & BIG_ENDIAN != 0;
        let bytes = (self.0 & !BIG_ENDIAN).to_le_bytes();
        match self.info() {
            Some(info) if is_big_endian => return f.pad(info.name),
            _ if !bytes.iter().all(|b| (0x20..0x7f).contains(b)) => return write!(f, "{:#010x}", self.0),
            _ => {}
        }
        let text: String = bytes.iter().map(|&b| char::from(b)).collect();
        let end = if is_big_endian { BE } else { "" };
        f.pad(&format!("{}{end}", text.trim_end()))
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FourCc({self})")
    }
}

/// Parses a four-character V4L2 code (`NM12`, in any case) or the part of a constant's name after `V4L2_PIX_FMT_`
/// (`NV12M`). A code of `v4l2_fourcc_be` ends in `-BE` (`Y16-BE`).
impl FromStr for FourCc {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let upper = s.to_ascii_uppercase();
        // Two codes can differ in case alone: pGAA and pgAA.
        let find = |is_meant: &dyn Fn(&FormatInfo) -> bool| known().find(|info| is_meant(info));
        let exact = find(&|info| info.fourcc.to_string() == s).or_else(|| find(&|info| info.name == upper));
        if let Some(info) = exact.or_else(|| find(&|info| info.fourcc.to_string().eq_ignore_ascii_case(&upper))) {
            return Ok(info.fourcc);
        }
        let (code, order) = match s.strip_suffix(BE) {
            Some(code) => (format!("{code:4}"), BIG_ENDIAN),
            None => (s.to_owned(), 0),
        };
        match <[u8; 4]>::try_from(code.as_bytes()) {
            Ok(code) if code.iter().all(|b| (0x20..0x7f).contains(b)) => Ok(Self(u32::from_le_bytes(code) | order)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FORMATS;

    #[test]
    fn formats_have_unique_codes_and_names_that_parse_back() {
        for (i, a) in FORMATS.iter().enumerate() {
            assert_eq!(a.name.parse::<FourCc>().unwrap(), a.fourcc);
            assert_eq!(a.fourcc.to_string().parse::<FourCc>().unwrap(), a.fourcc);
            let lower = a.fourcc.to_string().to_lowercase();
            assert!(lower.starts_with('p') || lower.parse::<FourCc>().unwrap() == a.fourcc, "{lower}");
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
        assert_eq!((FourCc::NV12.modifier(), FourCc::new(b"HSV3").modifier()), (Some(0), None));
    }

    #[test]
    fn parse_keeps_unknown_codes_and_refuses_other_text() {
        assert_eq!("HSV3".parse::<FourCc>().unwrap().to_string(), "HSV3");
        assert!("nonsense".parse::<FourCc>().is_err());
        assert_eq!(FourCc(0x8000_0001).to_string(), "0x80000001");
        let big: FourCc = "Y16-BE".parse().unwrap();
        assert_eq!((big, big.to_string()), (FourCc::new(b"Y16 ").big_endian(), "Y16-BE".into()));
        assert!("Y1600-BE".parse::<FourCc>().is_err());
    }
}
