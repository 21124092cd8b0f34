//! The parameter sets of a stream. A decoder needs them before anything else.

use super::{nal_units, Codec, NalKind};

/// The most parameter sets of a stream: 32 SPS and 256 PPS in H.264 (7.4.2.1.1, 7.4.2.2), fewer in H.265.
const MOST: usize = 32 + 256;

/// Video, sequence and picture parameter sets, without start codes. SDP, Matroska and subscribers that join late need
/// them separately from the pictures.
///
/// ```
/// use framelease::bitstream::{Codec, ParameterSets};
///
/// // SPS, PPS, IDR slice.
/// let stream = [0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x65, 0x88];
/// let sets = ParameterSets::find(Codec::H264, &stream);
/// assert_eq!(sets.map(|sets| sets.iter().count()), Some(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
    /// In the order VPS, SPS, PPS.
    units: Vec<(NalKind, Vec<u8>)>,
}

impl ParameterSets {
    /// Finds the parameter sets in a coded buffer, without duplicates. Returns `None` unless the buffer contains both a
    /// sequence and a picture parameter set. Ignores more sets than a stream can have.
    pub fn find(codec: Codec, data: &[u8]) -> Option<Self> {
        if !codec.has_nal_units() {
            return None;
        }
        let mut units: Vec<(NalKind, Vec<u8>)> = Vec::new();
        for unit in nal_units(data) {
            let kind = unit.kind(codec);
            if matches!(kind, NalKind::Slice { .. }) {
                break;
            }
            // Each is compared with the others, so their number is limited.
            if kind.is_parameters() && units.len() < MOST && !units.iter().any(|(_, u)| u == unit.data) {
                units.push((kind, unit.data.to_vec()));
            }
        }
        let order = |kind: &NalKind| match kind {
            NalKind::Vps => 0,
            NalKind::Sps => 1,
            _ => 2,
        };
        units.sort_by_key(|(kind, _)| order(kind));
        let has = |wanted| units.iter().any(|(kind, _)| *kind == wanted);
        (has(NalKind::Sps) && has(NalKind::Pps)).then_some(Self { codec, units })
    }

    /// Returns the codec of the stream.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the parameter sets of one kind. Each set has its NAL unit header and payload.
    pub fn of(&self, kind: NalKind) -> impl Iterator<Item = &[u8]> {
        self.units.iter().filter(move |(k, _)| *k == kind).map(|(_, unit)| &unit[..])
    }

    /// Returns all parameter sets, in the order VPS, SPS, PPS. Each set has its NAL unit header and payload.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.units.iter().map(|(_, unit)| &unit[..])
    }

    /// Returns `true` if a NAL unit is byte for byte equal to one of the sets.
    pub fn contains(&self, unit: &[u8]) -> bool {
        self.iter().any(|own| own == unit)
    }

    /// Returns all sets, each after a start code of four bytes.
    pub fn to_annexb(&self) -> Vec<u8> {
        self.units.iter().flat_map(|(_, unit)| [&[0, 0, 0, 1], &unit[..]].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_are_no_more_than_a_stream_can_have() {
        let more = (0..5000u16).flat_map(|i| [0, 0, 1, 0x68, (i >> 7) as u8 | 0x80, i as u8 | 0x80]);
        let stream: Vec<u8> = [0, 0, 1, 0x67, 66].into_iter().chain(more).collect();
        let sets = ParameterSets::find(Codec::H264, &stream).unwrap();
        assert_eq!(sets.iter().count(), MOST, "n sets in a buffer would take n * n steps");
    }

    #[test]
    fn parameter_sets_are_found_once_and_in_order() {
        let stream = [
            0,
            0,
            1,
            34 << 1,
            1,
            5,
            0,
            0,
            1,
            33 << 1,
            1,
            4,
            0,
            0,
            1,
            32 << 1,
            1,
            3,
            0,
            0,
            1,
            33 << 1,
            1,
            4,
            0,
            0,
            1,
            19 << 1,
            1,
            0x80,
            0,
            0,
            1,
            34 << 1,
            1,
            6,
        ];
        let sets = ParameterSets::find(Codec::Hevc, &stream).unwrap();
        assert_eq!(sets.of(NalKind::Sps).collect::<Vec<_>>(), [&[33 << 1, 1, 4][..]]);
        assert_eq!(sets.of(NalKind::Pps).count(), 1, "a set after the picture belongs to another picture");
        let again = sets.to_annexb();
        assert_eq!(again[..7], [0, 0, 0, 1, 32 << 1, 1, 3]);
        assert_eq!(ParameterSets::find(Codec::Hevc, &again), Some(sets));
        assert_eq!(ParameterSets::find(Codec::H264, &[0, 0, 1, 0x67, 1]), None, "no PPS");
        assert_eq!(ParameterSets::find(Codec::Vp8, &stream), None);
    }
}
