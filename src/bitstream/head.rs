//! Finds out whether a coded buffer is a key frame, and where its picture begins.

use super::annexb::{nal_starts, nal_units, NalKind};
use super::bits::Bits;
use super::codec::Codec;
use super::jpeg::is_jpeg;

/// Properties of a coded buffer, from its first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// A decoder can begin with the picture: IDR, in H.265 any IRAP picture, or a recovery point. After a recovery
    /// point, pictures become exact within the number of frames that its message states.
    pub is_key: bool,
    /// The buffer contains a picture, and not only parameter sets.
    pub has_picture: bool,
    /// Bytes before the picture: delimiter, parameter sets, SEI. 0 for codecs without NAL units.
    pub prefix_bytes: usize,
    /// The prefix contains parameter sets.
    pub has_parameters: bool,
}

/// Reads a coded buffer up to the header of its first slice or frame.
pub fn head(codec: Codec, data: &[u8]) -> Head {
    match codec {
        Codec::H264 | Codec::Hevc => nal_head(codec, data),
        // RFC 6386, 9.1: bit 0 of the frame tag is clear in key frames.
        Codec::Vp8 => whole(data.first().is_some_and(|tag| tag & 1 == 0), !data.is_empty()),
        Codec::Mjpeg => whole(is_jpeg(data), !data.is_empty()),
        Codec::Fwht => whole(fwht_flags(data).is_some_and(|flags| flags & FWHT_I_FRAME != 0), !data.is_empty()),
    }
}

/// `V4L2_FWHT_FL_I_FRAME`
const FWHT_I_FRAME: u32 = 1 << 10;

/// Returns the flags of a FWHT frame header. They follow two magic words, version, width and height, big-endian.
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
    let mut recovers = false;
    // A picture is not read: its buffer may be uncached.
    for unit in nal_starts(data) {
        match unit.kind(codec) {
            NalKind::Slice { is_key } => {
                head.is_key = is_key || recovers;
                head.has_picture = true;
                head.prefix_bytes = unit.start;
                break;
            }
            NalKind::Sei => {
                let sei = nal_units(&data[unit.start..]).next().map_or(&[][..], |sei| sei.data);
                recovers |= has_recovery_point(sei.get(codec.nal_header_bytes()..).unwrap_or(&[]));
            }
            kind => head.has_parameters |= kind.is_parameters(),
        }
    }
    head
}

/// Returns `true` if the messages of an SEI unit contain a recovery point (H.264, D.1.8; H.265, D.2.8): streams with
/// open GOPs or intra refresh have no other entry points.
fn has_recovery_point(messages: &[u8]) -> bool {
    const RECOVERY_POINT: u32 = 6;
    let mut bits = Bits::new(messages);
    // Types and sizes are sums of bytes, up to the first that is not 255 (H.264, 7.3.2.3.1).
    let number = |bits: &mut Bits<'_>| {
        let mut sum = 0u32;
        loop {
            let byte = bits.bits(8)?;
            sum = sum.saturating_add(byte);
            if byte != 255 {
                return Some(sum);
            }
        }
    };
    while let (Some(kind), Some(size)) = (number(&mut bits), number(&mut bits)) {
        if kind == RECOVERY_POINT {
            return true;
        }
        if (0..size).any(|_| bits.bits(8).is_none()) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::ParameterSets;
    use proptest::prelude::*;

    #[test]
    fn head_of_h264() {
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
    fn head_of_picture_with_recovery_point_is_key() {
        let slice = [0, 0, 1, 0x41, 0x9a, 1, 2];
        // A message of 300 bytes comes first. Its bytes look like a recovery point.
        let long = [&[0, 0, 1, 6, 5, 255, 45][..], &[6; 300], &[6, 1, 0x80, 0x80]].concat();
        for (sei, is_key) in [
            (&[0, 0, 1, 6, 6, 1, 0xc4, 0x80][..], true),
            (&long, true),
            (&long[..long.len() - 4], false),
            (&[0, 0, 1, 6, 1, 1, 6, 0x80], false),
            (&[0, 0, 1, 6, 255, 255], false),
            (&[0, 0, 1, 6], false),
        ] {
            assert_eq!(head(Codec::H264, &[sei, &slice].concat()).is_key, is_key, "{sei:?}");
        }
        assert_eq!(head(Codec::H264, &[0, 0, 1, 6, 6, 1, 0xc4, 0x80]), Head { prefix_bytes: 8, ..Head::default() });
        assert!(head(Codec::Hevc, &[0, 0, 1, 39 << 1, 1, 6, 1, 0xd0, 0x80, 0, 0, 1, 1 << 1, 1, 0x80]).is_key);
    }

    #[test]
    fn head_of_hevc_vp8_fwht_and_mjpeg() {
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
        assert!(head(Codec::Mjpeg, &[0xff, 0xd8, 0xff]).is_key && !head(Codec::Mjpeg, &[0xff, 0xd9]).is_key);
    }

    /// Pieces of a byte stream: start codes, zeros, headers of both codecs, anything.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(vec![0, 0, 1]),
            Just(vec![0]),
            proptest::sample::select(vec![vec![0x67], vec![0x68], vec![66, 1], vec![68, 1], vec![0, 1], vec![2, 1]]),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn head_agrees_with_parameter_sets_on_any_bytes(data in pieces()) {
            for codec in Codec::ALL {
                let head = head(codec, &data);
                prop_assert!(head.prefix_bytes <= data.len());
                if let Some(sets) = ParameterSets::find(codec, &data) {
                    prop_assert!(head.has_parameters);
                    prop_assert_eq!(ParameterSets::find(codec, &sets.to_annexb()), Some(sets));
                }
            }
        }
    }
}
