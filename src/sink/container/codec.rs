//! `avcC` and `hvcC`: the data that a decoder needs before the first packet. Matroska stores it as `CodecPrivate`.

use crate::bitstream::{Bits, Codec, NalKind, ParameterSets};

/// Returns `avcC` or `hvcC` with NAL unit lengths of four bytes; `None` if the parameter sets cannot be parsed.
/// `are_all`: packets have no other sets, which `hvcC` says.
pub(in crate::sink) fn private(sets: &ParameterSets, are_all: bool) -> Option<Vec<u8>> {
    match sets.codec() {
        Codec::H264 => avc(sets),
        Codec::Hevc => hevc(sets, are_all),
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
    if has_chroma(profile) {
        let mut bits = Bits::new(&first[4..]);
        bits.unsigned()?; // seq_parameter_set_id
        let (chroma, luma_depth, chroma_depth) = chroma(&mut bits)?;
        out.extend([0xfc | chroma as u8 & 3, 0xf8 | luma_depth as u8 & 7, 0xf8 | chroma_depth as u8 & 7, 0]);
    }
    Some(out)
}

/// Returns `true` for profiles whose SPS has a chroma format (ITU-T H.264, 7.3.2.1.1).
fn has_chroma(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 144 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// Reads the chroma format, and the bit depths of luma and chroma above 8.
fn chroma(bits: &mut Bits<'_>) -> Option<(u32, u32, u32)> {
    let chroma = bits.unsigned()?;
    if chroma == 3 {
        bits.bits(1)?;
    }
    Some((chroma, bits.unsigned()?, bits.unsigned()?))
}

/// Returns `true` if the pictures of a stream are progressive, as far as its parameter sets show it. H.264 streams may
/// have fields unless each of their pictures is a frame of frame macroblocks. H.265 streams state what their source is.
pub(in crate::sink) fn is_progressive(sets: &ParameterSets) -> bool {
    let Some(sps) = sets.of(NalKind::Sps).next() else { return false };
    match sets.codec() {
        Codec::H264 => has_frames_only(sps).unwrap_or(false),
        // general_interlaced_source_flag (ITU-T H.265, 7.3.3), after 49 bits.
        _ => {
            let mut bits = Bits::new(sps.get(2..).unwrap_or(&[]));
            bits.bits(32).and(bits.bits(17)).and(bits.bits(1)) == Some(0)
        }
    }
}

/// Returns `frame_mbs_only_flag` (ITU-T H.264, 7.3.2.1.1).
fn has_frames_only(sps: &[u8]) -> Option<bool> {
    let profile = *sps.get(1)?;
    let mut bits = Bits::new(sps.get(4..)?);
    bits.unsigned()?; // seq_parameter_set_id
    if has_chroma(profile) {
        let (chroma, ..) = chroma(&mut bits)?;
        bits.bits(1)?;
        if bits.bits(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.bits(1)? == 1 {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.unsigned()?; // log2_max_frame_num_minus4
    match bits.unsigned()? {
        0 => drop(bits.unsigned()?),
        1 => {
            bits.bits(1)?;
            bits.unsigned()?;
            bits.unsigned()?;
            // Ends at the end of the set at the latest.
            for _ in 0..bits.unsigned()? {
                bits.unsigned()?;
            }
        }
        _ => {}
    }
    bits.unsigned()?; // max_num_ref_frames
    bits.bits(1)?;
    bits.unsigned()?; // width and height
    bits.unsigned()?;
    Some(bits.bits(1)? == 1)
}

/// Skips a scaling list (ITU-T H.264, 7.3.2.1.1.1).
fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            // A signed code (9.1.1).
            let code = i64::from(bits.unsigned()?);
            let delta = if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 };
            next = (last + delta).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Writes `hvcC` (ISO/IEC 14496-15, 8.3.3.1).
fn hevc(sets: &ParameterSets, are_all: bool) -> Option<Vec<u8>> {
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
        // array_completeness
        out.push(*number | u8::from(are_all) << 7);
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
        assert_eq!(private(&sets, false).unwrap(), expected);
    }

    #[test]
    fn avcc_of_high_profiles_has_the_format_of_pixels() {
        // Chroma 4:4:4, 8 bits, then without scaling lists, or with one that ends after its first value.
        let (chroma, list) = ("1001000110", format!("11000010001{}", "0".repeat(11)));
        for (lists, frames_only) in [("0", "1"), ("0", "0"), (&list, "1"), (&list, "0")] {
            let text = format!("{chroma}{lists}1111011{frames_only}1");
            let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')) << (8 - bits.len());
            let sps: Vec<u8> = text.as_bytes().chunks(8).map(byte).collect();
            let of = |sps: &[u8]| {
                let stream = [&[0, 0, 1, 0x67, 244, 0, 30][..], sps, &[0, 0, 1, 0x68, 0xce]].concat();
                ParameterSets::find(Codec::H264, &stream).unwrap()
            };
            assert!(private(&of(&sps), false).unwrap().ends_with(&[0x68, 0xce, 0xff, 0xf8, 0xf8, 0]));
            assert_eq!(is_progressive(&of(&sps)), frames_only == "1", "{text}");
            assert!(!is_progressive(&of(&sps[..1])), "a set that ends early");
        }
    }

    #[test]
    fn hevc_streams_state_whether_their_source_is_progressive() {
        for (flags, expected) in [(0x90, true), (0x10, true), (0x50, false), (0xd0, false)] {
            let sps = [0, 0, 1, 66, 1, 1, 1, 0x60, 0, 0, 3, 0, flags, 1];
            let sets = ParameterSets::find(Codec::Hevc, &[&sps[..], &[0, 0, 1, 68, 1, 1]].concat()).unwrap();
            assert_eq!(is_progressive(&sets), expected, "{flags:#x}");
        }
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
            assert_eq!(private(&sets, false).map(|avcc| avcc[13]), Some(count));
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
                    let _ = (private(&sets, false), is_progressive(&sets));
                }
            }
        }
    }
}
