//! What can be told of a coded stream from its bytes: whether a frame is a key frame, where its parameter sets end,
//! where one frame of a byte stream ends and the next begins. Looks at headers only; knows no device and no file.
//!
//! Nothing here panics or allocates more than its input's size, whatever the bytes.

mod annexb;
mod bits;
mod parameters;
mod units;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::format::FourCc;

pub(crate) use bits::Bits;

pub use annexb::{nal_units, NalKind, NalUnit};
pub use parameters::ParameterSets;
pub use units::{AccessUnitSplitter, UnitTooLarge};

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

    /// The codec of a V4L2 format.
    pub fn from_fourcc(fourcc: FourCc) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.fourcc() == fourcc)
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

/// What the head of one coded buffer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// It decodes without any frame before it (IDR or, in H.265, any IRAP picture).
    pub is_key: bool,
    /// There is a picture, not parameter sets alone.
    pub has_picture: bool,
    /// Bytes before the picture: access unit delimiter, parameter sets, SEI. 0 for codecs without NAL units.
    pub prefix_bytes: usize,
    /// Parameter sets are among the prefix.
    pub has_parameters: bool,
}

/// Looks at a coded buffer up to the head of its first slice or frame.
pub fn head(codec: Codec, data: &[u8]) -> Head {
    match codec {
        Codec::H264 | Codec::Hevc => nal_head(codec, data),
        // RFC 6386, 9.1: bit 0 of the frame tag is clear in key frames.
        Codec::Vp8 => whole(data.first().is_some_and(|tag| tag & 1 == 0), !data.is_empty()),
        Codec::Fwht => whole(fwht_flags(data).is_some_and(|flags| flags & FWHT_I_FRAME != 0), !data.is_empty()),
    }
}

/// `V4L2_FWHT_FL_I_FRAME`
const FWHT_I_FRAME: u32 = 1 << 10;

/// The flags of a FWHT frame header: behind two magic words, version, width and height, big-endian.
fn fwht_flags(data: &[u8]) -> Option<u32> {
    if data.get(..8)? != [0x4f, 0x4f, 0x4f, 0x4f, 0xff, 0xff, 0xff, 0xff] {
        return None;
    }
    Some(u32::from_be_bytes(data.get(20..24)?.try_into().ok()?))
}

fn whole(is_key: bool, has_picture: bool) -> Head {
    Head { is_key, has_picture, prefix_bytes: 0, has_parameters: false }
}

fn nal_head(codec: Codec, data: &[u8]) -> Head {
    let mut head = Head { prefix_bytes: data.len(), ..Head::default() };
    for unit in nal_units(data) {
        match unit.kind(codec) {
            NalKind::Slice { is_key } => {
                head.is_key = is_key;
                head.has_picture = true;
                head.prefix_bytes = unit.start;
                break;
            }
            kind => head.has_parameters |= kind.is_parameters(),
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_of_h264() {
        let idr = [0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88];
        let expected = Head { is_key: true, has_picture: true, prefix_bytes: 19, has_parameters: true };
        assert_eq!(head(Codec::H264, &idr), expected);
        let p = [0, 0, 0, 1, 0x41, 0x9a, 1, 2];
        assert_eq!(head(Codec::H264, &p), Head { has_picture: true, ..Head::default() });
        let sets = &idr[..19];
        assert_eq!(head(Codec::H264, sets), Head { prefix_bytes: 19, has_parameters: true, ..Head::default() });
        assert_eq!(head(Codec::H264, &[]), Head::default());
    }

    #[test]
    fn heads_of_hevc_vp8_and_fwht() {
        // VPS, then CRA (21): an IRAP picture.
        let cra = [0, 0, 1, 32 << 1, 1, 7, 0, 0, 1, 21 << 1, 1, 0x80];
        let h = head(Codec::Hevc, &cra);
        assert!(h.is_key && h.has_parameters && h.prefix_bytes == 6, "{h:?}");
        assert!(!head(Codec::Hevc, &[0, 0, 1, 1 << 1, 1, 0x80]).is_key);
        assert!(head(Codec::Vp8, &[0x10, 2, 3]).is_key && !head(Codec::Vp8, &[0x11]).is_key);
        let mut fwht = vec![0x4f; 4];
        fwht.extend([0xff; 4]);
        fwht.extend([0, 0, 0, 3, 0, 0, 2, 128, 0, 0, 1, 104]);
        let with = |flags: u32| [&fwht[..], &flags.to_be_bytes()].concat();
        assert!(head(Codec::Fwht, &with(1 << 10)).is_key && !head(Codec::Fwht, &with(1 << 9)).is_key);
        assert!(!head(Codec::Fwht, &fwht).is_key && head(Codec::Fwht, &fwht).has_picture);
    }

    #[test]
    fn names_parse_back() {
        for codec in Codec::ALL {
            assert_eq!(codec.to_string().parse::<Codec>().unwrap(), codec);
            assert_eq!(Codec::from_fourcc(codec.fourcc()), Some(codec));
        }
        assert_eq!("H265".parse::<Codec>().unwrap(), Codec::Hevc);
        assert!("av1".parse::<Codec>().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_head(data in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200)) {
            for codec in Codec::ALL {
                let head = head(codec, &data);
                prop_assert!(head.prefix_bytes <= data.len());
                if let Some(sets) = ParameterSets::find(codec, &data) {
                    prop_assert!(head.has_parameters || head.has_picture);
                    prop_assert_eq!(ParameterSets::find(codec, &sets.to_annexb()), Some(sets));
                }
            }
        }
    }
}
