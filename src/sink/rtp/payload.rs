//! Splits a coded frame into RTP payloads: RFC 6184 (H.264, packetization-mode 1), RFC 7798 (H.265), RFC 7741 (VP8).
//! JPEG has its own file.

use crate::bitstream::{nal_units, Codec, NalKind, ParameterSets};

/// The most bytes before a part of a NAL unit: payload header and fragment header.
const MOST_PREFIX: usize = 3;

/// The payload of one RTP packet: a few bytes of a header and a slice of the coded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) prefix: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Calls `each` with every piece of a frame that fits `room` bytes, in order. Leaves out delimiters, units whose types
/// RTP uses itself, and parameter sets that are in `apart`: [`parameters`] sends those. Returns `true` if the pieces
/// contain other parameter sets.
pub(super) fn pieces(
    codec: Codec,
    data: &[u8],
    room: usize,
    apart: Option<&ParameterSets>,
    mut each: impl FnMut(Piece<'_>),
) -> bool {
    let room = room.max(MOST_PREFIX + 1);
    if !codec.has_nal_units() {
        // RFC 7741, 4.2: no extension, S at the start of the only partition.
        for (i, body) in data.chunks(room - 1).enumerate() {
            each(Piece { prefix: &[if i == 0 { 0x10 } else { 0 }], body });
        }
        return false;
    }
    let mut has_sets = false;
    for unit in nal_units(data) {
        let is_apart = |sets: &ParameterSets| sets.contains(unit.data);
        let kind = unit.kind(codec);
        if kind != NalKind::Delimiter && is_single(codec, unit.data) && !apart.is_some_and(is_apart) {
            has_sets |= kind.is_parameters();
            fragments(codec, unit.data, room, &mut each);
        }
    }
    has_sets
}

/// Returns `true` for a unit whose type means the same in RTP. The standards specify no use for the other types, and
/// RTP uses them for aggregations and fragments (RFC 6184, 5.2; RFC 7798, 4.4).
fn is_single(codec: Codec, unit: &[u8]) -> bool {
    let first = unit.first().copied().unwrap_or(0);
    match codec {
        Codec::H264 => (1..24).contains(&(first & 31)),
        _ => first >> 1 & 63 < 48,
    }
}

/// Sends a NAL unit whole or in fragments: FU-A (RFC 6184, 5.8), FU (RFC 7798, 4.4.3).
fn fragments(codec: Codec, unit: &[u8], room: usize, each: &mut impl FnMut(Piece<'_>)) {
    if unit.len() <= room {
        // A receiver cannot read a unit that is shorter than its header.
        if unit.len() >= if codec == Codec::H264 { 1 } else { 2 } {
            each(Piece { prefix: &[], body: unit });
        }
        return;
    }
    let (header, mut prefix, kind): (usize, [u8; MOST_PREFIX], u8) = match codec {
        Codec::H264 => (1, [unit[0] & 0xe0 | 28, 0, 0], unit[0] & 31),
        _ => (2, [unit[0] & 0x81 | 49 << 1, unit[1], 0], unit[0] >> 1 & 63),
    };
    let body = &unit[header..];
    let count = body.len().div_ceil(room - header - 1);
    for (i, part) in body.chunks(room - header - 1).enumerate() {
        let (start, end) = (i == 0, i + 1 == count);
        prefix[header] = u8::from(start) << 7 | u8::from(end) << 6 | kind;
        each(Piece { prefix: &prefix[..=header], body: part });
    }
}

/// Appends the parameter sets of H.264 as one payload, STAP-A (RFC 6184, 5.7.1), because they are tiny. `false`, with
/// nothing appended, if they do not fit, and for H.265, whose aggregation packets (RFC 7798, 4.4.2) many receivers
/// cannot read: [`each_parameter`] then sends them one by one.
pub(super) fn parameters(sets: &ParameterSets, room: usize, out: &mut Vec<u8>) -> bool {
    if sets.codec() != Codec::H264 {
        return false;
    }
    let start = out.len();
    let fits = sets.iter().all(|unit| unit.len() <= usize::from(u16::MAX));
    // The highest importance (nal_ref_idc) of the units.
    out.push(sets.iter().map(|u| u[0] & 0x60).max().unwrap_or(0) | 24);
    for unit in sets.iter() {
        out.extend((unit.len() as u16).to_be_bytes());
        out.extend_from_slice(unit);
    }
    let fits = fits && out.len() - start <= room;
    if !fits {
        out.truncate(start);
    }
    fits
}

/// Sends parameter sets one by one.
pub(super) fn each_parameter(sets: &ParameterSets, room: usize, mut each: impl FnMut(Piece<'_>)) {
    sets.iter().for_each(|unit| fragments(sets.codec(), unit, room.max(MOST_PREFIX + 1), &mut each));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(codec: Codec, data: &[u8], room: usize, apart: Option<&ParameterSets>) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        pieces(codec, data, room, apart, |p| got.push([p.prefix, p.body].concat()));
        got
    }

    /// Returns the units that a receiver reads from the payloads (RFC 6184, 5.8; RFC 7798, 4.4.3).
    fn rebuilt(codec: Codec, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut units: Vec<Vec<u8>> = Vec::new();
        for payload in payloads {
            let (kind, header, fragment) = match codec {
                Codec::H264 => (payload[0] & 31, 1, 28),
                _ => (payload[0] >> 1 & 63, 2, 49),
            };
            if kind != fragment {
                units.push(payload.clone());
                continue;
            }
            let state = payload[header];
            if state & 0x80 != 0 {
                units.push(match codec {
                    Codec::H264 => vec![payload[0] & 0xe0 | state & 31],
                    _ => vec![payload[0] & 0x81 | (state & 63) << 1, payload[1]],
                });
            }
            units.last_mut().unwrap().extend_from_slice(&payload[header + 1..]);
        }
        units
    }

    #[test]
    fn small_units_go_alone_and_parameter_sets_apart() {
        let frame =
            [0, 0, 0, 1, 9, 0x10, 0, 0, 1, 0x67, 66, 1, 0, 0, 1, 0x68, 1, 0, 0, 1, 6, 5, 1, 0, 0, 1, 0x65, 1, 2, 3];
        let sets = ParameterSets::find(Codec::H264, &frame).unwrap();
        assert_eq!(all(Codec::H264, &frame, 100, Some(&sets)), [vec![6, 5, 1], vec![0x65, 1, 2, 3]]);
        let other = [0, 0, 1, 0x68, 2, 0, 0, 1, 0x41, 1];
        assert_eq!(all(Codec::H264, &other, 100, Some(&sets)), [vec![0x68, 2], vec![0x41, 1]], "a set of its own");
        assert_eq!(all(Codec::H264, &frame, 100, None).len(), 4);
        let mut together = vec![7];
        assert!(parameters(&sets, 100, &mut together));
        assert_eq!(together, [7, 0x78, 0, 3, 0x67, 66, 1, 0, 2, 0x68, 1]);
        assert!(!parameters(&sets, 9, &mut together) && together.len() == 11);
        let mut one_by_one = Vec::new();
        each_parameter(&sets, 9, |p| one_by_one.push(p.body.to_vec()));
        assert_eq!(one_by_one, [vec![0x67, 66, 1], vec![0x68, 1]]);
        assert_eq!(all(Codec::Vp8, &[1, 2, 3, 4, 5, 6, 7], 5, None), [vec![0x10, 1, 2, 3, 4], vec![0, 5, 6, 7]]);
    }

    #[test]
    fn units_of_types_that_rtp_uses_itself_are_left_out() {
        for (codec, sent) in [(Codec::H264, 1..24), (Codec::Hevc, 0..48)] {
            let types = if codec == Codec::H264 { 0..32u8 } else { 0..64 };
            for kind in types {
                let header = if codec == Codec::H264 { [0x60 | kind, 1] } else { [kind << 1, 1] };
                let is_sent = !all(codec, &[&[0, 0, 1], &header[..], &[7]].concat(), 100, None).is_empty();
                let is_delimiter = kind == if codec == Codec::H264 { 9 } else { 35 };
                assert_eq!(is_sent, sent.contains(&kind) && !is_delimiter, "{codec} {kind}");
            }
        }
    }

    #[test]
    fn units_shorter_than_their_header_are_left_out() {
        let frame = [0, 0, 1, 2, 0, 0, 1, 0, 0, 1, 2, 1, 5, 0, 0, 1, 0x26];
        assert_eq!(all(Codec::Hevc, &frame, 100, None), [vec![2, 1, 5]]);
        assert_eq!(all(Codec::H264, &[0, 0, 1, 0, 0, 1, 10], 100, None), [vec![10]], "an end of sequence");
    }

    proptest! {
        #[test]
        fn pieces_of_a_frame_can_be_put_together(
            units in proptest::collection::vec(proptest::collection::vec(1u8.., 3..300), 1..6),
            room in 4usize..120,
        ) {
            for codec in [Codec::H264, Codec::Hevc] {
                // Slices, because delimiters would be left out.
                let first = if codec == Codec::H264 { 0x41 } else { 2 };
                let units: Vec<Vec<u8>> = units.iter().map(|u| [&[first, 1][..], u].concat()).collect();
                let data: Vec<u8> = units.iter().flat_map(|u| [&[0, 0, 1], &u[..]].concat()).collect();
                let payloads = all(codec, &data, room, None);
                prop_assert!(payloads.iter().all(|p| p.len() <= room && !p.is_empty()));
                prop_assert_eq!(rebuilt(codec, &payloads), units);
            }
        }
    }
}
