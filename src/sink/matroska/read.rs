//! Reads EBML elements of a file (RFC 8794), and blocks (RFC 9559).

use std::fs::File;
use std::io;

use crate::sink::container::read_up_to;

/// The start of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) id: u32,
    pub(crate) at: u64,
    /// Where its content begins.
    pub(crate) body: u64,
    /// The bytes of the size before the content.
    pub(crate) size_bytes: u8,
    /// `None` if its size is unknown.
    pub(crate) size: Option<u64>,
}

impl Element {
    /// Where its content ends. `None` if its size is unknown.
    pub(crate) fn end(&self) -> Option<u64> {
        self.size.and_then(|size| self.body.checked_add(size))
    }
}

/// A number with its length in its leading zeros. Returns the number, its marker included, and its length.
fn vint(bytes: &[u8], most: usize) -> Option<(u64, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let bytes = bytes.get(..length).filter(|_| length <= most)?;
    Some((bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)), length))
}

/// Removes the marker. `None` for an unknown size, which is all ones.
fn unmarked((number, length): (u64, usize)) -> Option<u64> {
    let ones = (1 << (7 * length)) - 1;
    Some(number & ones).filter(|&number| number != ones)
}

/// Parses an element at the start of these bytes.
fn parse(bytes: &[u8], at: u64) -> Option<Element> {
    let (id, id_bytes) = vint(bytes, 4)?;
    let size = vint(&bytes[id_bytes..], 8)?;
    let body = at + (id_bytes + size.1) as u64;
    Some(Element { id: id as u32, at, body, size_bytes: size.1 as u8, size: unmarked(size) })
}

/// Reads the element at `at`. `None` at the end of the file and for bytes that are not an element.
pub(crate) fn element(file: &File, at: u64) -> io::Result<Option<Element>> {
    let mut bytes = [0; 12];
    let filled = read_up_to(file, at, &mut bytes)?;
    Ok(parse(&bytes[..filled], at))
}

/// Reads a number of at most eight bytes. `None` if the file ends earlier.
pub(crate) fn number(file: &File, element: &Element) -> io::Result<Option<u64>> {
    let length = element.size.unwrap_or(u64::MAX);
    let mut bytes = [0; 8];
    let filled = read_up_to(file, element.body, &mut bytes)?;
    let bytes = usize::try_from(length).ok().and_then(|length| bytes[..filled].get(..length));
    Ok(bytes.map(|bytes| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))))
}

/// The start of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) track: u64,
    /// The time after that of the cluster.
    pub(crate) relative: i16,
    /// The flag of simple blocks for key frames.
    pub(crate) is_key: bool,
    /// It has several frames.
    pub(crate) is_laced: bool,
    /// Where its content begins.
    pub(crate) body: u64,
}

/// Reads the start of a block. `None` if it is not one.
pub(crate) fn block(file: &File, element: &Element) -> io::Result<Option<Block>> {
    let mut bytes = [0; 11];
    let filled = read_up_to(file, element.body, &mut bytes)?;
    let parsed = || {
        let track = vint(&bytes[..filled], 8)?;
        let &[high, low, flags, ..] = bytes[..filled].get(track.1..)? else { return None };
        Some(Block {
            track: unmarked(track)?,
            relative: i16::from_be_bytes([high, low]),
            is_key: flags & 0x80 != 0,
            is_laced: flags & 0x06 != 0,
            body: element.body + track.1 as u64 + 3,
        })
    };
    Ok(parsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn element_has_sizes_of_all_lengths() {
        let element = |id, body, size_bytes, size| Some(Element { id, at: 5, body, size_bytes, size });
        assert_eq!(parse(&[0xec, 0x81], 5), element(0xec, 7, 1, Some(1)));
        assert_eq!(parse(&[0xec, 0xff], 5), element(0xec, 7, 1, None));
        let long = [0x1f, 0x43, 0xb6, 0x75, 1, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(parse(&long, 5), element(0x1f43_b675, 17, 8, Some(256)));
        assert_eq!(parse(&long[..11], 5), None);
        assert_eq!(parse(&[0; 12], 5), None, "zeros are not an element");
        assert_eq!(parse(&[0x08, 0, 0, 0, 0, 0x81], 5), None, "an identifier of five bytes");
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..13)) {
            if let Some(element) = parse(&bytes, u64::from(u32::MAX)) {
                prop_assert!(element.body > element.at);
                let _ = element.end();
            }
        }
    }
}
