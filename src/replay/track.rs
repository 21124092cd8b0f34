//! What the header of a file says of its video, and the bytes of a picture as packets have them.

use std::sync::Arc;

use crate::bitstream::{nal_units, Codec, NalKind, ParameterSets};
use crate::format::Size;
use crate::frame::FrameFlags;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The video of a file.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) codec: Codec,
    pub(super) size: Size,
    /// The flags of interlaced pictures.
    pub(super) flags: FrameFlags,
    /// For codecs with NAL units.
    pub(super) configuration: Option<Configuration>,
}

impl Track {
    /// Returns the parameter sets of the header.
    pub(super) fn sets(&self) -> Option<Arc<ParameterSets>> {
        self.configuration.as_ref().and_then(|configuration| configuration.sets.clone())
    }
}

/// A picture in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) at: u64,
    pub(super) bytes: usize,
    pub(super) time_ns: u64,
}

/// The content of `avcC` or `hvcC`.
#[derive(Debug, PartialEq)]
pub(super) struct Configuration {
    /// The bytes of the length before each NAL unit.
    length_bytes: usize,
    sets: Option<Arc<ParameterSets>>,
}

/// Takes bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = (bytes.get(..count)?, bytes.get(count..)?);
    *bytes = rest;
    Some(front)
}

/// Takes a big-endian number from the front.
fn number(bytes: &mut &[u8], count: usize) -> Option<usize> {
    Some(take(bytes, count)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

impl Configuration {
    /// Reads `avcC` (ISO/IEC 14496-15, 5.3.3.1) or `hvcC` (8.3.3.1).
    pub(super) fn read(codec: Codec, bytes: &[u8]) -> Option<Self> {
        let mut units = Vec::new();
        let mut add = |bytes: &mut &[u8], count: usize| {
            (0..count).try_for_each(|_| {
                let length = number(bytes, 2)?;
                units.extend_from_slice(&START_CODE);
                units.extend_from_slice(take(bytes, length)?);
                Some(())
            })
        };
        let length = match codec {
            Codec::H264 => {
                let (mut rest, length) = (bytes.get(5..)?, *bytes.get(4)?);
                let count = number(&mut rest, 1)? & 0x1f;
                add(&mut rest, count)?;
                let count = number(&mut rest, 1)?;
                add(&mut rest, count)?;
                length
            }
            _ => {
                let (mut rest, length) = (bytes.get(22..)?, *bytes.get(21)?);
                for _ in 0..number(&mut rest, 1)? {
                    take(&mut rest, 1)?;
                    let count = number(&mut rest, 2)?;
                    add(&mut rest, count)?;
                }
                length
            }
        };
        Some(Self { length_bytes: usize::from(length & 3) + 1, sets: ParameterSets::find(codec, &units).map(Arc::new) })
    }

    /// Replaces lengths by start codes. `false` if the lengths do not fit the bytes, and units are missing.
    pub(super) fn to_annexb(&self, mut bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            let Some(length) = number(&mut bytes, self.length_bytes) else { return (out, false) };
            let Some(unit) = take(&mut bytes, length) else { return (out, false) };
            if !unit.is_empty() {
                out.extend_from_slice(&START_CODE);
                out.extend_from_slice(unit);
            }
        }
        (out, true)
    }
}

/// Adds parameter sets before a picture, after its delimiter.
pub(super) fn with_sets(codec: Codec, sets: &ParameterSets, mut picture: Vec<u8>) -> Vec<u8> {
    let mut starts = nal_units(&picture);
    let is_delimiter = starts.next().is_some_and(|first| first.kind(codec) == NalKind::Delimiter);
    let at = if is_delimiter { starts.next().map_or(picture.len(), |second| second.start) } else { 0 };
    drop(starts);
    picture.splice(at..at, sets.to_annexb());
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AVCC: [u8; 19] = [1, 66, 0xc0, 30, 0xff, 0xe1, 0, 5, 0x67, 66, 0xc0, 30, 0x8d, 1, 0, 3, 0x68, 0xce, 1];

    #[test]
    fn configuration_has_the_sets_and_the_length() {
        let read = Configuration::read(Codec::H264, &AVCC).unwrap();
        assert_eq!(read.length_bytes, 4);
        assert_eq!(read.sets.as_ref().map(|sets| sets.iter().count()), Some(2));
        for cut in 0..AVCC.len() {
            assert_eq!(Configuration::read(Codec::H264, &AVCC[..cut]), None, "cut at {cut}");
        }
        let two = [&AVCC[..4], &[0xfd], &AVCC[5..]].concat();
        let read = Configuration::read(Codec::H264, &two).unwrap();
        assert_eq!(read.to_annexb(&[0, 1, 9, 0, 0, 0, 2, 5, 6]), (vec![0, 0, 0, 1, 9, 0, 0, 0, 1, 5, 6], true));
        assert_eq!(read.to_annexb(&[0, 1, 9, 0, 3, 5, 6]), (vec![0, 0, 0, 1, 9], false));
    }

    #[test]
    fn with_sets_keeps_a_delimiter_first() {
        let sets = Configuration::read(Codec::H264, &AVCC).unwrap().sets.unwrap();
        let (delimiter, slice) = (&[0, 0, 0, 1, 9, 0x10][..], &[0, 0, 0, 1, 0x65, 0x88][..]);
        let got = with_sets(Codec::H264, &sets, [delimiter, slice].concat());
        assert_eq!(got, [delimiter, &sets.to_annexb(), slice].concat());
        assert_eq!(with_sets(Codec::H264, &sets, slice.to_vec()), [&sets.to_annexb(), slice].concat());
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            for codec in [Codec::H264, Codec::Hevc] {
                if let Some(read) = Configuration::read(codec, &bytes) {
                    let _ = read.to_annexb(&bytes);
                }
            }
        }
    }
}
