//! Splits a byte stream, which arrives in pieces, into access units.

use super::{nal_units, Codec, NalKind};
use crate::error::{Error, ErrorKind, Result};

/// Splits an H.264 or H.265 byte stream into access units. Each access unit has one picture and the NAL units before
/// it.
///
/// A unit begins at the delimiter, parameter set, SEI message or other unit that precedes a picture. Without these, the
/// unit begins at the first slice of the picture (H.264, 7.4.1.2.3; H.265, 7.4.2.4.4). Slices in arbitrary order (H.264
/// Baseline) and redundant pictures are not recognized.
///
/// ```
/// use framelease::bitstream::{AccessUnitSplitter, Codec};
///
/// let mut splitter = AccessUnitSplitter::new(Codec::H264, 1 << 20);
/// splitter.push(&[0, 0, 0, 1, 0x65, 0x88, 0x84]); // A key frame.
/// assert!(splitter.next_unit()?.is_none()); // It may continue.
/// splitter.push(&[0, 0, 0, 1, 0x41, 0x9a, 1]); // The next frame.
/// assert_eq!(splitter.next_unit()?.map(<[u8]>::len), Some(7));
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct AccessUnitSplitter {
    codec: Codec,
    limit_bytes: usize,
    buffer: Vec<u8>,
    /// The units before this position were returned. The next [`AccessUnitSplitter::push`] removes them: to remove each
    /// by itself would move the rest of a large buffer for each unit.
    start: usize,
    /// The bytes after `start` were searched up to here, and are one unit so far.
    searched: usize,
    /// The unit has a slice.
    has_slice: bool,
    /// Where the next unit begins if a picture begins next: at NAL units that precede a picture or another slice.
    before: Option<usize>,
}

impl AccessUnitSplitter {
    /// Creates a splitter for a codec with NAL units. The splitter refuses access units of more than `limit_bytes`.
    pub fn new(codec: Codec, limit_bytes: usize) -> Self {
        Self { codec, limit_bytes, buffer: Vec::new(), start: 0, searched: 0, has_slice: false, before: None }
    }

    /// Adds bytes to the end of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next access unit, if it is complete. A unit is complete when the unit after it has begun.
    ///
    /// # Errors
    /// `Exhausted` if a unit exceeds the limit. The bytes of this unit are dropped. The next call continues after them.
    pub fn next_unit(&mut self) -> Result<Option<&[u8]>> {
        let data = &self.buffer[self.start..];
        // A unit's kind and first slice bit are in the three bytes after its start code. The last unit may still lack
        // them. An earlier unit is complete, even if it is shorter: a delimiter has two bytes, an end of sequence has
        // one.
        let from = self.searched;
        let (mut end, mut is_open) = (None, false);
        let mut units = nal_units(&data[from..]).peekable();
        while let Some(unit) = units.next() {
            let at = from + unit.start;
            if unit.data.len() < 3 && units.peek().is_none() {
                (self.searched, is_open) = (at, true);
                break;
            }
            let is_new = match unit.kind(self.codec) {
                NalKind::Slice { .. } => self.has_slice && unit.begins_picture(self.codec),
                NalKind::Suffix => false,
                NalKind::Other if self.has_slice && unit.precedes_picture(self.codec) => {
                    // A prefix unit of H.264 precedes each slice, so the next units decide.
                    self.before.get_or_insert(at);
                    false
                }
                // Other reserved units come after a picture.
                NalKind::Other => false,
                _ => self.has_slice,
            };
            if is_new {
                end = Some(self.before.unwrap_or(at));
                break;
            }
            if matches!(unit.kind(self.codec), NalKind::Slice { .. } | NalKind::Suffix) {
                self.before = None;
            }
            self.has_slice |= matches!(unit.kind(self.codec), NalKind::Slice { .. });
            // The search continues after its start code.
            self.searched = at + 4;
        }
        drop(units);
        if end.is_none() && !is_open {
            // The last bytes contain at most a part of a start code, and the zero before it.
            self.searched = self.searched.max(data.len().saturating_sub(3));
        }
        match end {
            Some(end) => {
                let unit = self.start..self.start + end;
                (self.start, self.searched, self.has_slice, self.before) = (unit.end, 0, false, None);
                match end <= self.limit_bytes {
                    true => Ok(Some(&self.buffer[unit])),
                    false => Err(self.too_large()),
                }
            }
            None if data.len() > self.limit_bytes => {
                self.buffer.clear();
                (self.start, self.searched, self.has_slice, self.before) = (0, 0, false, None);
                Err(self.too_large())
            }
            None => Ok(None),
        }
    }

    fn too_large(&self) -> Error {
        let text = format!("no access unit ends within {} bytes", self.limit_bytes);
        Error::new(ErrorKind::Exhausted, "next_unit", text)
    }

    /// Returns the last access unit, at the end of the stream.
    pub fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns units as an encoder writes them: parameter sets and a key frame of two slices, then other frames.
    fn units() -> Vec<Vec<u8>> {
        let sets = [0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
        let idr = [0, 0, 0, 1, 0x65, 0x88, 0x84, 7, 0, 0, 1, 0x65, 0x04, 0x84, 8];
        let p = [0, 0, 0, 1, 0x41, 0x9a, 1, 2];
        let delimited = [0, 0, 0, 1, 9, 0x30, 0x80, 0, 0, 0, 1, 6, 5, 1, 0x80, 0, 0, 0, 1, 0x41, 0x9a, 3, 4];
        vec![[&sets[..], &idr].concat(), p.to_vec(), delimited.to_vec(), [&sets[..], &idr].concat(), p.to_vec()]
    }

    fn cut(stream: &[u8], step: usize, limit: usize) -> Vec<Vec<u8>> {
        cut_of(Codec::H264, stream, step, limit)
    }

    fn cut_of(codec: Codec, stream: &[u8], step: usize, limit: usize) -> Vec<Vec<u8>> {
        let mut cutter = AccessUnitSplitter::new(codec, limit);
        let mut found = Vec::new();
        for piece in stream.chunks(step) {
            cutter.push(piece);
            while let Some(unit) = cutter.next_unit().unwrap() {
                found.push(unit.to_vec());
            }
        }
        found.push(cutter.finish());
        found
    }

    #[test]
    fn splitter_gives_the_same_units_for_pieces_of_any_size() {
        let stream = units().concat();
        for step in 1..=stream.len() {
            assert_eq!(cut(&stream, step, 1000), units(), "in pieces of {step}");
        }
    }

    #[test]
    fn splitter_begins_hevc_units_at_first_slice_segments() {
        let vps = [0, 0, 0, 1, 32 << 1, 1, 9, 9];
        let first = [0, 0, 0, 1, 19 << 1, 1, 0x80, 1];
        let second = [0, 0, 0, 1, 19 << 1, 1, 0x10, 2];
        let units = [[&vps[..], &first, &second].concat(), [&first[..], &second].concat()];
        let mut cutter = AccessUnitSplitter::new(Codec::Hevc, 1000);
        cutter.push(&units.concat());
        assert_eq!(cutter.next_unit().unwrap(), Some(&units[0][..]));
        assert!(cutter.next_unit().unwrap().is_none());
        assert_eq!(cutter.finish(), units[1]);
    }

    /// H.264, 7.4.1.2.3: 14 to 18. A prefix unit (14) comes before each slice, also before the second one of a picture.
    #[test]
    fn splitter_begins_units_at_types_that_come_before_a_picture() {
        let (prefix, reserved) = ([0, 0, 1, 14, 0x60, 1], [0, 0, 1, 16, 1, 1]);
        let (first, second) = ([0, 0, 1, 0x65, 0x88, 1], [0, 0, 1, 0x65, 0x04, 2]);
        let end = [0, 0, 1, 12, 0xff, 0x80];
        let h264 = [
            [&prefix[..], &first, &prefix, &second].concat(),
            [&reserved[..], &prefix, &first].concat(),
            [&prefix[..], &first, &prefix, &second, &end].concat(),
            [&reserved[..], &[0, 0, 1, 6, 5, 1, 0x80], &first].concat(),
        ];
        let slice = [0, 0, 1, 2, 1, 0x80];
        let hevc = [41, 44, 48, 55].map(|kind| [&[0, 0, 1, kind << 1, 1, 1][..], &slice].concat());
        // H.265, 7.4.2.4.4: 45 to 47 and 56 to 63 come after a picture.
        let hevc = [&hevc[..], &[[&slice[..], &[0, 0, 1, 45 << 1, 1, 1, 0, 0, 1, 56 << 1, 1, 1]].concat()]].concat();
        for (codec, units) in [(Codec::H264, &h264[..]), (Codec::Hevc, &hevc[..])] {
            let stream = units.concat();
            for step in 1..=stream.len() {
                assert_eq!(cut_of(codec, &stream, step, 1000), units, "{codec} in pieces of {step}");
            }
        }
    }

    #[test]
    fn splitter_refuses_a_unit_that_does_not_end() {
        let mut cutter = AccessUnitSplitter::new(Codec::H264, 100);
        cutter.push(&[0; 101]);
        let e = cutter.next_unit().unwrap_err();
        assert!(e.kind() == ErrorKind::Exhausted && e.to_string().contains("within 100 bytes"), "{e}");
        cutter.push(&units().concat());
        assert_eq!(cutter.next_unit().unwrap(), Some(&units()[0][..]));
    }

    #[test]
    fn splitter_accepts_nal_units_of_one_and_two_bytes() {
        // A delimiter as x264 writes it, and an end of sequence.
        let unit = [0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x65, 0x88, 0x84, 7, 0, 0, 1, 10];
        let stream = [&unit[..], &unit, &unit].concat();
        for step in 1..=stream.len() {
            assert_eq!(cut(&stream, step, 1000), [unit, unit, unit], "in pieces of {step}");
        }
    }

    #[test]
    fn splitter_gives_the_same_units_for_a_unit_that_begins_with_zeros() {
        let stream = [&[0, 0, 1][..], &[0; 9], &[192, 0, 0, 1, 65, 154, 52]].concat();
        for codec in [Codec::H264, Codec::Hevc] {
            let units = |step| {
                let (mut cutter, mut units) = (AccessUnitSplitter::new(codec, 1000), Vec::new());
                for piece in stream.chunks(step) {
                    cutter.push(piece);
                    while let Some(unit) = cutter.next_unit().unwrap() {
                        units.push(unit.to_vec());
                    }
                }
                units.push(cutter.finish());
                units
            };
            assert!((1..stream.len()).all(|step| units(step) == units(stream.len())), "{codec}");
        }
    }

    #[test]
    fn splitter_does_not_move_the_rest_of_a_large_buffer_for_each_unit() {
        let mut cutter = AccessUnitSplitter::new(Codec::H264, 1000);
        cutter.push(&units().concat());
        let mut next = None;
        while let Some(unit) = cutter.next_unit().unwrap() {
            let at = unit.as_ptr_range();
            assert!(next.map_or(true, |next| next == at.start), "a file of n units would take n * n steps");
            next = Some(at.end);
        }
        assert!(next.is_some());
    }

    #[test]
    fn splitter_continues_after_a_unit_over_the_limit() {
        let mut cutter = AccessUnitSplitter::new(Codec::H264, 20);
        cutter.push(&units().concat());
        assert!(units()[0].len() > 20 && cutter.next_unit().is_err());
        assert_eq!(cutter.next_unit().unwrap(), Some(&units()[1][..]));
    }

    proptest! {
        #[test]
        fn splitter_keeps_every_byte_of_any_input(
            data in proptest::collection::vec(prop_oneof![4 => Just(0u8), 2 => Just(1), 1 => Just(0x65), 3 => any::<u8>()], 0..300),
            step in 1usize..50,
        ) {
            prop_assert_eq!(cut(&data, step, 1000).concat(), data);
        }
    }
}
