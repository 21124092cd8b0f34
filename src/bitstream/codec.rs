//! The supported codecs.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::format::FourCc;

/// The coding format of a stream of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// H.264 (AVC) as a byte stream with start codes (ITU-T H.264 Annex B).
    H264,
    /// H.265 (HEVC) as a byte stream with start codes (ITU-T H.265 Annex B).
    Hevc,
    /// VP8, with one frame per buffer (RFC 6386).
    Vp8,
    /// The fast Walsh-Hadamard transform of the kernel's test codec vicodec.
    Fwht,
}

impl Codec {
    /// All codecs, in the order of their names' table.
    #[doc(hidden)]
    pub const ALL: [Self; 4] = [Self::H264, Self::Hevc, Self::Vp8, Self::Fwht];

    /// Returns the V4L2 format of the stream.
    pub fn fourcc(self) -> FourCc {
        FourCc::new(match self {
            Self::H264 => b"H264",
            Self::Hevc => b"HEVC",
            Self::Vp8 => b"VP80",
            Self::Fwht => b"FWHT",
        })
    }

    /// Returns `true` for a stream of NAL units with start codes.
    pub fn has_nal_units(self) -> bool {
        matches!(self, Self::H264 | Self::Hevc)
    }
}

/// Displays as `h264`, `hevc`, `vp8` or `fwht`.
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

/// Parses the names that `Display` writes, and `h265`.
impl FromStr for Codec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let lower = s.to_ascii_lowercase();
        let known = Self::ALL.into_iter().find(|c| c.to_string() == lower);
        known
            .or_else(|| (lower == "h265").then_some(Self::Hevc))
            .ok_or_else(|| Error::parse(format!("'{s}' is not a codec; use h264, hevc, vp8 or fwht")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_parses_its_own_names() {
        for codec in Codec::ALL {
            assert_eq!(codec.to_string().parse::<Codec>().unwrap(), codec);
        }
        assert_eq!("H265".parse::<Codec>().unwrap(), Codec::Hevc);
        assert!("av1".parse::<Codec>().is_err());
    }
}
