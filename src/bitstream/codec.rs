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
    /// Motion JPEG, with one JPEG picture per buffer (ITU-T T.81). Each frame is a key frame.
    Mjpeg,
}

/// The names and numbers of a codec in other specifications.
pub(crate) struct CodecNames {
    codec: Codec,
    name: &'static str,
    /// The V4L2 formats of the stream. The first is that of [`Codec::fourcc`].
    fourccs: &'static [FourCc],
    /// The codec of a Matroska track.
    pub(crate) matroska: Option<&'static str>,
    /// The payload type of RTP (RFC 3551, 6) and the name of the payload format.
    pub(crate) rtp: Option<(u8, &'static str)>,
}

/// The first dynamic payload type (RFC 3551, 6).
const DYNAMIC: u8 = 96;

const fn names(
    codec: Codec,
    name: &'static str,
    fourccs: &'static [FourCc],
    matroska: Option<&'static str>,
    rtp: Option<(u8, &'static str)>,
) -> CodecNames {
    CodecNames { codec, name, fourccs, matroska, rtp }
}

static NAMES: [CodecNames; 5] = [
    names(Codec::H264, "h264", &[FourCc::H264], Some("V_MPEG4/ISO/AVC"), Some((DYNAMIC, "H264"))),
    names(Codec::Hevc, "hevc", &[FourCc::HEVC], Some("V_MPEGH/ISO/HEVC"), Some((DYNAMIC, "H265"))),
    names(Codec::Vp8, "vp8", &[FourCc::VP8], Some("V_VP8"), Some((DYNAMIC, "VP8"))),
    names(Codec::Fwht, "fwht", &[FourCc::FWHT], None, None),
    // Cameras have MJPG. JPEG decoders and encoders have the one or the other.
    names(Codec::Mjpeg, "mjpeg", &[FourCc::MJPEG, FourCc::JPEG], Some("V_MJPEG"), Some((26, "JPEG"))),
];

impl Codec {
    /// All codecs, in the order of their names' table.
    #[doc(hidden)]
    pub const ALL: [Self; 5] = [Self::H264, Self::Hevc, Self::Vp8, Self::Fwht, Self::Mjpeg];

    /// Returns the V4L2 format of the stream. For [`Codec::Mjpeg`] it is `MJPG`, which cameras have.
    pub fn fourcc(self) -> FourCc {
        self.names().fourccs[0]
    }

    /// Returns `true` for a stream of NAL units with start codes.
    pub fn has_nal_units(self) -> bool {
        matches!(self, Self::H264 | Self::Hevc)
    }

    /// Returns the length of the header of a NAL unit.
    pub(super) fn nal_header_bytes(self) -> usize {
        if self == Self::Hevc {
            2
        } else {
            1
        }
    }

    /// Returns the first V4L2 format of the stream that a device has.
    pub(crate) fn fourcc_among(self, has: impl Fn(FourCc) -> bool) -> Option<FourCc> {
        self.names().fourccs.iter().copied().find(|&fourcc| has(fourcc))
    }

    /// Returns the codec of a V4L2 format.
    pub(crate) fn of(fourcc: FourCc) -> Option<Self> {
        NAMES.iter().find(|names| names.fourccs.contains(&fourcc)).map(|names| names.codec)
    }

    pub(crate) fn names(self) -> &'static CodecNames {
        // In the order of the enumeration, which a test checks.
        &NAMES[self as usize]
    }
}

/// Displays as `h264`, `hevc`, `vp8`, `fwht` or `mjpeg`.
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.names().name)
    }
}

/// Parses the names that `Display` writes, and `h265`.
impl FromStr for Codec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let lower = s.to_ascii_lowercase();
        let known = NAMES.iter().find(|names| names.name == lower).map(|names| names.codec);
        known
            .or_else(|| (lower == "h265").then_some(Self::Hevc))
            .ok_or_else(|| Error::parse(format!("'{s}' is not a codec; use h264, hevc, vp8, fwht or mjpeg")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_parses_its_own_names() {
        for codec in Codec::ALL {
            assert_eq!(codec.to_string().parse::<Codec>().unwrap(), codec);
            assert!(codec.names().fourccs.iter().all(|&fourcc| Codec::of(fourcc) == Some(codec)), "{codec}");
        }
        assert_eq!("H265".parse::<Codec>().unwrap(), Codec::Hevc);
        assert!("av1".parse::<Codec>().is_err());
        assert_eq!((Codec::of(FourCc::JPEG), Codec::of(FourCc::NV12)), (Some(Codec::Mjpeg), None));
    }
}
