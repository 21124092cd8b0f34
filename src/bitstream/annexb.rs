//! NAL units of a byte stream (ITU-T H.264 and H.265, Annex B).

use memchr::memmem;

use super::Codec;

/// A start code, without the zero byte that may precede it.
const START: &[u8] = &[0, 0, 1];

/// One NAL unit within a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NalUnit<'a> {
    /// Offset of the unit's start code. If a zero byte precedes the start code, the offset of that byte.
    pub start: usize,
    /// Header and payload, without start code and trailing zeros. Emulation prevention bytes are included.
    pub data: &'a [u8],
}

/// The type of a NAL unit, as far as this crate uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NalKind {
    /// A slice of a picture.
    Slice {
        /// `true` for an IDR picture, and in H.265 for any IRAP picture.
        is_key: bool,
    },
    /// A video parameter set (H.265 only).
    Vps,
    /// A sequence parameter set (SPS).
    Sps,
    /// A picture parameter set (PPS).
    Pps,
    /// An access unit delimiter (AUD).
    Delimiter,
    /// Supplemental enhancement information before its picture.
    Sei,
    /// End of sequence or stream, filler, or SEI after its picture.
    Suffix,
    /// Reserved, an extension, or too short to have a header.
    Other,
}

impl NalKind {
    /// Returns `true` for a parameter set.
    pub fn is_parameters(self) -> bool {
        matches!(self, Self::Vps | Self::Sps | Self::Pps)
    }
}

impl NalUnit<'_> {
    /// Returns the kind, from the header (H.264: table 7-1; H.265: table 7-1).
    pub fn kind(&self, codec: Codec) -> NalKind {
        let Some(&first) = self.data.first() else { return NalKind::Other };
        // `nuh_temporal_id_plus1` is never 0 (H.265, 7.4.2.2). A unit without that byte has zeros or nothing there.
        if codec == Codec::Hevc && self.data.get(1).map_or(true, |second| second & 7 == 0) {
            return NalKind::Other;
        }
        match (codec, first & 31, first >> 1 & 63) {
            (Codec::H264, n @ (1 | 2 | 5), _) => NalKind::Slice { is_key: n == 5 },
            (Codec::H264, 6, _) => NalKind::Sei,
            (Codec::H264, 7, _) => NalKind::Sps,
            (Codec::H264, 8, _) => NalKind::Pps,
            (Codec::H264, 9, _) => NalKind::Delimiter,
            (Codec::H264, 10..=12, _) => NalKind::Suffix,
            (Codec::Hevc, _, n @ 0..=31) => NalKind::Slice { is_key: (16..=23).contains(&n) },
            (Codec::Hevc, _, 32) => NalKind::Vps,
            (Codec::Hevc, _, 33) => NalKind::Sps,
            (Codec::Hevc, _, 34) => NalKind::Pps,
            (Codec::Hevc, _, 35) => NalKind::Delimiter,
            (Codec::Hevc, _, 36..=38 | 40) => NalKind::Suffix,
            (Codec::Hevc, _, 39) => NalKind::Sei,
            _ => NalKind::Other,
        }
    }

    /// Returns `true` for the first slice of a picture: `first_mb_in_slice` is 0, or
    /// `first_slice_segment_in_pic_flag` is set.
    pub(super) fn begins_picture(&self, codec: Codec) -> bool {
        // The `ue(v)` of 0 is a single bit, 1. The flag of H.265 is a single bit, too.
        matches!(self.kind(codec), NalKind::Slice { .. })
            && self.data.get(codec.nal_header_bytes()).is_some_and(|b| b & 0x80 != 0)
    }

    /// Returns `true` for a type without a use here that comes before a picture (H.264, 7.4.1.2.3; H.265, 7.4.2.4.4).
    pub(super) fn precedes_picture(&self, codec: Codec) -> bool {
        let first = self.data.first().copied().unwrap_or(0);
        match codec {
            Codec::H264 => matches!(first & 31, 14..=18),
            _ => matches!(first >> 1 & 63, 41..=44 | 48..=55),
        }
    }
}

/// Returns where each NAL unit of a buffer starts, with the bytes from its header to the end of the buffer. Unlike
/// [`nal_units`], does not read a unit to find its end.
pub(super) fn nal_starts(data: &[u8]) -> impl Iterator<Item = NalUnit<'_>> {
    memmem::find_iter(data, START)
        .map(|at| NalUnit { start: start_of(data, at), data: data.get(at + START.len()..).unwrap_or(&[]) })
}

/// Returns the offset of a start code, or of the zero byte before it.
fn start_of(data: &[u8], at: usize) -> usize {
    if at > 0 && data[at - 1] == 0 {
        at - 1
    } else {
        at
    }
}

/// Returns the NAL units of a buffer, in order. Skips bytes before the first start code.
pub fn nal_units(data: &[u8]) -> impl Iterator<Item = NalUnit<'_>> {
    let mut starts = memmem::find_iter(data, START);
    let mut next = starts.next();
    std::iter::from_fn(move || {
        let at = next?;
        next = starts.next();
        let end = next.unwrap_or(data.len());
        let body = &data[(at + START.len()).min(end)..end];
        // Excludes the zero byte of the next start code, and trailing_zero_8bits: a NAL unit does not end with a
        // zero.
        let len = body.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        Some(NalUnit { start: start_of(data, at), data: &body[..len] })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_split_at_start_codes_of_both_lengths() {
        let data = [9, 9, 0, 0, 0, 1, 0x67, 1, 0, 0, 3, 0, 0, 1, 0x68, 0, 0, 0, 0, 1, 0x65, 0x80, 0, 0, 1];
        let units: Vec<_> = nal_units(&data).collect();
        let expected: [(usize, &[u8]); 4] = [(2, &[0x67, 1, 0, 0, 3]), (11, &[0x68]), (16, &[0x65, 0x80]), (22, &[])];
        assert_eq!(units.iter().map(|u| (u.start, u.data)).collect::<Vec<_>>(), expected);
        assert_eq!(units[3].kind(Codec::H264), NalKind::Other);
        assert!(units[2].begins_picture(Codec::H264) && !units[0].begins_picture(Codec::H264));
    }
}
