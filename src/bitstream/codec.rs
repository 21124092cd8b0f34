//! The codecs.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::format::FourCc;

/// How pictures are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// H.264 (AVC) as a byte stream with start codes (ITU-T H.264 Annex B).
    H264,
    /// H.265 (HEVC) as a byte stream with start codes (ITU-T H.265 Annex B).
    Hevc,
    /// VP8, one frame a buffer (RFC 6386).
    Vp8,
    /// The fast Walsh-Hadamard transform of the kernel's test codec vicodec.
    Fwht,
}

impl Codec {
    /// All of them.
    #[doc(hidden)]
    pub const ALL: [Self; 4] = [Self::H264, Self::Hevc, Self::Vp8, Self::Fwht];

    /// The V4L2 format of the stream.
    pub fn fourcc(self) -> FourCc {
        FourCc::new(match self {
            Self::H264 => b"H264",
            Self::Hevc => b"HEVC",
            Self::Vp8 => b"VP80",
            Self::Fwht => b"FWHT",
        })
    }

    /// `true` for a stream of NAL units behind start codes.
    pub fn has_nal_units(self) -> bool {
        matches!(self, Self::H264 | Self::Hevc)
    }
}

/// `h264`, `hevc`, `vp8`, `fwht`
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Vp8 => "vp8",
            Self::Fwht => "fwht",
        })
    }
}

/// The names that `Display` writes, and `h265`.
impl FromStr for Codec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let lower = s.to_ascii_lowercase();
        let known = Self::ALL.into_iter().find(|c| c.to_string() == lower);
        known
            .or_else(|| (lower == "h265").then_some(Self::Hevc))
            .ok_or_else(|| Error::parse(format!("'{s}' is no codec; there are h264, hevc, vp8 and fwht")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for codec in Codec::ALL {
            assert_eq!(codec.to_string().parse::<Codec>().unwrap(), codec);
        }
        assert_eq!("H265".parse::<Codec>().unwrap(), Codec::Hevc);
        assert!("av1".parse::<Codec>().is_err());
    }
}
