//! The header of a fragment.

/// The header without frames, and the bytes of each.
const HEADER: usize = 88;
const SAMPLE: usize = 16;

/// A frame of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) bytes: u32,
    /// When it is shown, in ticks.
    pub(super) time: u64,
    pub(super) is_key: bool,
}

/// Returns when frames are decoded and how long each lasts: the times at which the frames of the fragment are shown, in
/// ascending order. Times of decoding are `earliest` at least, and advance by a tick at least.
pub(super) fn decode_times(samples: &[Sample], earliest: u64, last: LastFrame) -> Vec<(u64, u32)> {
    let mut times: Vec<u64> = samples.iter().map(|sample| sample.time).collect();
    let is_reordered = times.windows(2).any(|pair| pair[1] < pair[0]);
    times.sort_unstable();
    let mut least = earliest;
    for time in &mut times {
        *time = (*time).max(least);
        least = *time + 1;
    }
    let duration = |from: u64, to: u64| u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX).max(1);
    let end = times.last().map_or(0, |&time| match last {
        // Frames that are shown before the next one may still come.
        LastFrame::Until(next) if !is_reordered => next,
        LastFrame::Until(_) => time + times.len().checked_sub(2).map_or(1, |before| time - times[before]),
        LastFrame::Lasts(ticks) => time + ticks,
    });
    let ends = times.iter().skip(1).copied().chain([end]);
    times.iter().copied().zip(ends).map(|(from, to)| (from, duration(from, to))).collect()
}

/// How long the last frame of a fragment lasts.
#[derive(Clone, Copy, Debug)]
pub(super) enum LastFrame {
    /// Until the time of the next frame.
    Until(u64),
    /// This many ticks.
    Lasts(u64),
}

/// Writes the header of a fragment, whose frames begin `offset` bytes after it. The offset includes the header.
pub(super) fn header(
    out: &mut Vec<u8>,
    sequence: u32,
    samples: &[Sample],
    times: &[(u64, u32)],
    offset: impl FnOnce(usize) -> usize,
) {
    out.clear();
    let bytes = HEADER + SAMPLE * samples.len();
    let offset = offset(bytes);
    let u32_at = |out: &mut Vec<u8>, value: u32| out.extend_from_slice(&value.to_be_bytes());
    let start = |out: &mut Vec<u8>, bytes: usize, name: &[u8; 4]| {
        out.extend_from_slice(&(bytes as u32).to_be_bytes());
        out.extend_from_slice(name);
    };
    start(out, bytes, b"moof");
    start(out, 16, b"mfhd");
    u32_at(out, 0);
    u32_at(out, sequence);
    start(out, bytes - 24, b"traf");
    start(out, 16, b"tfhd");
    // Positions are those from the start of `moof`.
    u32_at(out, 0x02_0000);
    u32_at(out, 1);
    start(out, 20, b"tfdt");
    u32_at(out, 1 << 24);
    out.extend_from_slice(&times.first().map_or(0, |&(time, _)| time).to_be_bytes());
    start(out, bytes - 68, b"trun");
    // Version 1: offsets have a sign. Data offset; duration, size, flags and offset of each frame.
    u32_at(out, 1 << 24 | 0xf01);
    u32_at(out, samples.len() as u32);
    u32_at(out, offset as u32);
    for (sample, &(time, duration)) in samples.iter().zip(times) {
        u32_at(out, duration);
        u32_at(out, sample.bytes);
        u32_at(out, if sample.is_key { KEY } else { OTHER });
        let shown = i64::try_from(sample.time).unwrap_or(i64::MAX) - i64::try_from(time).unwrap_or(i64::MAX);
        u32_at(out, i32::try_from(shown).unwrap_or(0) as u32);
    }
}

/// The flags of a frame that depends on no other, and of one that does (8.8.3.1).
const KEY: u32 = 0x0200_0000;
const OTHER: u32 = 0x0101_0000;

/// Returns `true` for the flags of a key frame.
pub(super) fn is_key(flags: u32) -> bool {
    flags & 0x0001_0000 == 0
}

/// The bytes before the frames of a fragment in a file, with room for the header of at most this number of frames.
/// Unused room is part of `mdat`: VLC does not find frames after a `free` box.
pub(super) fn reserved_bytes(most: usize) -> usize {
    HEADER + SAMPLE * most + 8
}

/// The place of a fragment's header in a file, before its frames: a `free` box up to the end of the file. VLC does not
/// end at an `mdat` without a header.
pub(super) fn reserved(most: usize) -> Vec<u8> {
    let mut place = b"\0\0\0\0free".to_vec();
    place.resize(reserved_bytes(most), 0);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: &[u64]) -> Vec<Sample> {
        times.iter().map(|&time| Sample { bytes: 1, time, is_key: time == 0 }).collect()
    }

    #[test]
    fn decode_times_are_those_of_display_in_order() {
        let times = |shown: &[u64], earliest, last| decode_times(&samples(shown), earliest, last);
        assert_eq!(times(&[0, 3, 7], 0, LastFrame::Until(9)), [(0, 3), (3, 4), (7, 2)]);
        assert_eq!(times(&[0, 3, 7], 0, LastFrame::Lasts(5)), [(0, 3), (3, 4), (7, 5)]);
        // B-frames: the next fragment may have frames that are shown before its first one.
        assert_eq!(times(&[0, 9, 3, 6], 0, LastFrame::Until(18)), [(0, 3), (3, 3), (6, 3), (9, 3)]);
        assert_eq!(times(&[5, 6], 7, LastFrame::Until(6)), [(7, 1), (8, 1)], "they never go back");
        assert_eq!(times(&[], 7, LastFrame::Until(6)), []);
    }

    #[test]
    fn header_has_the_size_that_its_boxes_say() {
        let samples = samples(&[0, 9, 3]);
        let mut out = Vec::new();
        header(&mut out, 7, &samples, &decode_times(&samples, 0, LastFrame::Lasts(1)), |bytes| bytes + 8);
        assert_eq!(out.len(), HEADER + 3 * SAMPLE);
        let u32_at = |at: usize| u32::from_be_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
        assert_eq!([0, 8, 24, 32, 48, 68].map(u32_at), [136, 16, 112, 16, 20, 68]);
        assert_eq!((u32_at(80), u32_at(84)), (3, 144), "frames, and where they begin");
        assert_eq!([100, 116, 132].map(|at| u32_at(at) as i32), [0, 6, -6], "from decoding to display");
        assert_eq!(reserved(3).len(), out.len() + 8);
    }
}
