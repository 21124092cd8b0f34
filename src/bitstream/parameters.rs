//! The parameter sets of a stream, which a decoder needs before anything else.

use super::{nal_units, Codec, NalKind};

/// Video, sequence and picture parameter sets, without start codes: what SDP, Matroska and late joiners need apart from
/// the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
    /// In decoding order of kinds: VPS, SPS, PPS.
    units: Vec<(NalKind, Vec<u8>)>,
}

impl ParameterSets {
    /// Those in a coded buffer, duplicates once; `None` without a sequence and a picture parameter set.
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
            if kind.is_parameters() && !units.iter().any(|(_, u)| u == unit.data) {
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

    /// The stream's codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The sets of one kind, header and payload.
    pub fn of(&self, kind: NalKind) -> impl Iterator<Item = &[u8]> {
        self.units.iter().filter(move |(k, _)| *k == kind).map(|(_, unit)| &unit[..])
    }

    /// All of them, header and payload: VPS, SPS, PPS.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.units.iter().map(|(_, unit)| &unit[..])
    }

    /// `true` if a NAL unit is, byte for byte, one of them.
    pub fn contains(&self, unit: &[u8]) -> bool {
        self.iter().any(|own| own == unit)
    }

    /// All of them, each behind a start code of four bytes.
    pub fn to_annexb(&self) -> Vec<u8> {
        self.units.iter().flat_map(|(_, unit)| [&[0, 0, 0, 1], &unit[..]].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_found_once_and_in_order() {
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
        assert_eq!(sets.of(NalKind::Pps).count(), 1, "behind the picture is another picture's");
        let again = sets.to_annexb();
        assert_eq!(again[..7], [0, 0, 0, 1, 32 << 1, 1, 3]);
        assert_eq!(ParameterSets::find(Codec::Hevc, &again), Some(sets));
        assert_eq!(ParameterSets::find(Codec::H264, &[0, 0, 1, 0x67, 1]), None, "no PPS");
        assert_eq!(ParameterSets::find(Codec::Vp8, &stream), None);
    }
}
