//! `CodecID` and `CodecPrivate` (Matroska codec mappings): the data that a decoder needs before the first block.

use crate::bitstream::{Bits, Codec, NalKind, ParameterSets};

/// Returns `avcC` or `hvcC` with NAL unit lengths of four bytes; `None` if the parameter sets cannot be parsed.
pub(super) fn private(sets: &ParameterSets) -> Option<Vec<u8>> {
    match sets.codec() {
        Codec::H264 => avc(sets),
        Codec::Hevc => hevc(sets),
        _ => None,
    }
}

fn length(unit: &[u8]) -> Option<[u8; 2]> {
    Some(u16::try_from(unit.len()).ok()?.to_be_bytes())
}

/// Writes `avcC` (ISO/IEC 14496-15, 5.3.3.1).
fn avc(sets: &ParameterSets) -> Option<Vec<u8>> {
    let first = sets.of(NalKind::Sps).next()?;
    let &[_, profile, constraints, level, ..] = first else { return None };
    let mut out = vec![1, profile, constraints, level, 0xff];
    for (kind, mark, most) in [(NalKind::Sps, 0xe0, 31), (NalKind::Pps, 0, u8::MAX)] {
        let count = sets.of(kind).count();
        out.push(mark | u8::try_from(count).ok().filter(|&n| n <= most)?);
        for unit in sets.of(kind) {
            out.extend(length(unit)?);
            out.extend_from_slice(unit);
        }
    }
    if matches!(profile, 100 | 110 | 122 | 144) {
        let mut bits = Bits::new(&first[4..]);
        bits.unsigned()?; // seq_parameter_set_id
        let chroma = bits.unsigned()?;
        if chroma == 3 {
            bits.bits(1)?;
        }
        let (luma_depth, chroma_depth) = (bits.unsigned()?, bits.unsigned()?);
        out.extend([0xfc | chroma as u8 & 3, 0xf8 | luma_depth as u8 & 7, 0xf8 | chroma_depth as u8 & 7, 0]);
    }
    Some(out)
}

/// Writes `hvcC` (ISO/IEC 14496-15, 8.3.3.1).
fn hevc(sets: &ParameterSets) -> Option<Vec<u8>> {
    let sps = sets.of(NalKind::Sps).next()?.get(2..)?;
    let mut bits = Bits::new(sps);
    bits.bits(4)?; // sps_video_parameter_set_id
    let (layers, nested) = (bits.bits(3)?, bits.bits(1)?);
    let mut out = vec![1];
    // General profile, tier, compatibility and constraint flags, level: twelve bytes that both formats share.
    for _ in 0..12 {
        out.push(bits.bits(8)? as u8);
    }
    let mut has = Vec::new();
    for _ in 0..layers {
        has.push((bits.bits(1)?, bits.bits(1)?));
    }
    if layers > 0 {
        bits.bits(2 * (8 - layers))?;
    }
    for (profile, level) in has {
        for _ in 0..profile * 11 + level {
            bits.bits(8)?;
        }
    }
    bits.unsigned()?; // sps_seq_parameter_set_id
    let chroma = bits.unsigned()?;
    if chroma == 3 {
        bits.bits(1)?;
    }
    bits.unsigned()?;
    bits.unsigned()?;
    if bits.bits(1)? == 1 {
        for _ in 0..4 {
            bits.unsigned()?;
        }
    }
    let (luma_depth, chroma_depth) = (bits.unsigned()?, bits.unsigned()?);
    out.extend([0xf0, 0, 0xfc, 0xfc | chroma as u8 & 3, 0xf8 | luma_depth as u8 & 7, 0xf8 | chroma_depth as u8 & 7]);
    // No average frame rate; layers, nesting, lengths of four bytes.
    out.extend([0, 0, ((layers + 1) << 3 | nested << 2 | 3) as u8]);
    let kinds = [(NalKind::Vps, 32), (NalKind::Sps, 33), (NalKind::Pps, 34)];
    let present = kinds.iter().filter(|(kind, _)| sets.of(*kind).next().is_some());
    out.push(present.clone().count() as u8);
    for (kind, number) in present {
        // array_completeness is 0, because blocks may contain other sets.
        out.push(*number);
        out.extend(u16::try_from(sets.of(*kind).count()).ok()?.to_be_bytes());
        for unit in sets.of(*kind) {
            out.extend(length(unit)?);
            out.extend_from_slice(unit);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn baseline_has_no_more_than_its_sets() {
        let stream = [0, 0, 1, 0x67, 66, 0xc0, 30, 0x8d, 0, 0, 1, 0x68, 0xce, 1];
        let sets = ParameterSets::find(Codec::H264, &stream).unwrap();
        let expected = [1, 66, 0xc0, 30, 0xff, 0xe1, 0, 5, 0x67, 66, 0xc0, 30, 0x8d, 1, 0, 3, 0x68, 0xce, 1];
        assert_eq!(private(&sets).unwrap(), expected);
    }

    #[test]
    fn avcc_holds_as_many_sets_as_its_counts_can_express() {
        let stream = |pps: u8| {
            let sets = (1..=pps).flat_map(|n| [0, 0, 1, 0x68, n]);
            [0, 0, 1, 0x67, 66, 0xc0, 30, 0x8d].into_iter().chain(sets).collect::<Vec<u8>>()
        };
        for count in [31, 32, 255] {
            let sets = ParameterSets::find(Codec::H264, &stream(count)).unwrap();
            // After the header, the SPS and its length.
            assert_eq!(private(&sets).map(|avcc| avcc[13]), Some(count));
        }
    }

    proptest! {
        #[test]
        fn parameter_sets_of_any_kind_do_no_harm(sps in proptest::collection::vec(1u8.., 1..80)) {
            for codec in [Codec::H264, Codec::Hevc] {
                let (sps_head, pps) = match codec {
                    Codec::H264 => (vec![0x67], vec![0x68, 1]),
                    _ => (vec![66, 1], vec![68, 1, 1]),
                };
                let stream = [&[0, 0, 1][..], &sps_head, &sps, &[0, 0, 1], &pps].concat();
                if let Some(sets) = ParameterSets::find(codec, &stream) {
                    let _ = private(&sets);
                }
            }
        }
    }
}
