//! The facts about a coded stream, and its access units in pieces that the input chooses.
//!
//! Input: a limit, a count of piece lengths, those, the stream.

#![no_main]

use framelease::bitstream::{head, nal_units, AccessUnitSplitter, Codec, Jpeg, NalKind, ParameterSets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let &[limit, count, ref rest @ ..] = input else { return };
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(count % 8)));
    for codec in Codec::ALL {
        look(codec, stream);
    }
    picture(stream);
    for codec in [Codec::H264, Codec::Hevc] {
        let all = cut(codec, stream, &[], usize::MAX);
        assert_eq!(all.concat(), stream, "{codec}: nothing is lost");
        assert_eq!(cut(codec, stream, lengths, usize::MAX), all, "{codec}: pieces of any size give the same units");
        cut(codec, stream, lengths, usize::from(limit));
    }
});

fn look(codec: Codec, data: &[u8]) {
    let head = head(codec, data);
    assert!(head.prefix_bytes <= data.len() && (head.has_picture || !head.is_key));
    if let Some(sets) = ParameterSets::find(codec, data) {
        assert!(head.has_parameters);
        assert!(sets.of(NalKind::Sps).next().is_some() && sets.of(NalKind::Pps).next().is_some());
        assert_eq!(ParameterSets::find(codec, &sets.to_annexb()), Some(sets));
    }
    let mut end = 0;
    for unit in nal_units(data) {
        assert!(unit.start >= end && !unit.data.ends_with(&[0]));
        unit.kind(codec);
        let at = unit.data.as_ptr() as usize - data.as_ptr() as usize;
        assert!(at >= unit.start + 3 && at + unit.data.len() <= data.len());
        end = at + unit.data.len();
    }
}

/// A JPEG picture: its facts do not change with bytes after its end, and without its end it is not whole.
fn picture(data: &[u8]) {
    let Ok(jpeg) = Jpeg::parse(data) else { return };
    let end = jpeg.scan.as_ptr() as usize - data.as_ptr() as usize + jpeg.scan.len();
    assert!(end <= data.len() && jpeg.quantizers.iter().flatten().all(|table| table.len() == 64));
    let cut = Jpeg::parse(&data[..end]).expect("the headers and the scan are there");
    assert!(!cut.is_whole && (cut.size, cut.scan) == (jpeg.size, jpeg.scan));
    if jpeg.is_whole {
        assert_eq!(Jpeg::parse(&[data, &[0xff, 0xda]].concat()).expect("it has ended before"), jpeg);
    }
}

/// The units of a stream in pieces of these lengths, over and over; without any, in one.
fn cut(codec: Codec, stream: &[u8], lengths: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut cutter = AccessUnitSplitter::new(codec, limit);
    let (mut units, mut left, mut turn, mut longest) = (Vec::new(), stream, 0, 0);
    while !left.is_empty() {
        let length = lengths.get(turn % lengths.len().max(1)).map_or(left.len(), |&l| usize::from(l).max(1));
        let (piece, rest) = left.split_at(length.min(left.len()));
        (left, turn, longest) = (rest, turn + 1, longest.max(piece.len()));
        cutter.push(piece);
        loop {
            match cutter.next_unit() {
                Ok(Some(unit)) => {
                    assert!(!unit.is_empty() && unit.len() <= limit, "{} bytes over {limit}", unit.len());
                    units.push(unit.to_vec());
                }
                Ok(None) => break,
                Err(e) => assert!(e.kind() == framelease::ErrorKind::Exhausted && limit < usize::MAX),
            }
        }
    }
    let last = cutter.finish();
    assert!(last.len() <= limit, "{} bytes are kept over {limit}", last.len());
    // A vector at most doubles when it grows, and is never below 8 bytes.
    assert!(last.capacity() <= limit.saturating_add(longest).saturating_mul(2).max(8));
    units.push(last);
    units
}
