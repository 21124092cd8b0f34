//! Texts of format codes.

use std::fmt;
use std::str::FromStr;

use super::fourcc::{FourCc, BIG_ENDIAN};
use super::table::{known, FormatInfo};
use crate::error::{Error, Result};

/// What texts have for [`BIG_ENDIAN`].
const BE: &str = "-BE";

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_big_endian = u32::from(*self) & BIG_ENDIAN != 0;
        let bytes = (u32::from(*self) & !BIG_ENDIAN).to_le_bytes();
        match self.info() {
            Some(info) if is_big_endian => return f.pad(info.name),
            _ if !bytes.iter().all(|b| (0x20..0x7f).contains(b)) => return write!(f, "{:#010x}", u32::from(*self)),
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
            Ok(code) if code.iter().all(|b| (0x20..0x7f).contains(b)) => {
                Ok(Self::from(u32::from_le_bytes(code) | order))
            }
            _ => Err(Error::parse(format!("'{s}' is neither a V4L2 format code nor a known format name"))),
        }
    }
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
        assert_eq!(FourCc::from(0x8000_0001).to_string(), "0x80000001");
        let big: FourCc = "Y16-BE".parse().unwrap();
        assert_eq!((big, big.to_string()), (FourCc::new(b"Y16 ").big_endian(), "Y16-BE".into()));
        assert!("Y1600-BE".parse::<FourCc>().is_err());
    }
}
