//! Writes EBML elements (RFC 8794): identifiers, sizes, bodies.

use std::time::{Duration, SystemTime};

/// The time from 1970 to 2001.
const YEAR_2001: Duration = Duration::from_secs(978_307_200);

/// An unknown size in the longest form, so that it can be patched.
pub(super) const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// A known size in the longest form.
pub(super) fn long_size(bytes: u64) -> [u8; 8] {
    (bytes & 0x00ff_ffff_ffff_ffff | 1 << 56).to_be_bytes()
}

/// Returns the bytes of an identifier, and how many they are.
pub(super) fn id(id: u32) -> ([u8; 4], usize) {
    let length = (4 - id.leading_zeros() as usize / 8).max(1);
    ((id << (8 * (4 - length))).to_be_bytes(), length)
}

/// Elements that are built in memory: all except pictures.
#[derive(Debug, Default)]
pub(super) struct Elements(pub(super) Vec<u8>);

impl Elements {
    fn head(&mut self, element: u32, bytes: u64) {
        let (code, length) = id(element);
        self.0.extend_from_slice(&code[..length]);
        match bytes {
            0..=126 => self.0.push(bytes as u8 | 0x80),
            _ => self.0.extend_from_slice(&long_size(bytes)),
        }
    }

    pub(super) fn bytes(mut self, element: u32, data: &[u8]) -> Self {
        self.head(element, data.len() as u64);
        self.0.extend_from_slice(data);
        self
    }

    pub(super) fn text(self, element: u32, text: &str) -> Self {
        self.bytes(element, text.as_bytes())
    }

    pub(super) fn number(self, element: u32, value: u64) -> Self {
        let bytes = value.to_be_bytes();
        let skip = (value.leading_zeros() as usize / 8).min(7);
        self.bytes(element, &bytes[skip..])
    }

    pub(super) fn float(self, element: u32, value: f64) -> Self {
        self.bytes(element, &value.to_be_bytes())
    }

    /// Adds a date: nanoseconds since 2001.
    pub(super) fn date(self, element: u32, date: SystemTime) -> Self {
        let since = date.duration_since(SystemTime::UNIX_EPOCH + YEAR_2001).unwrap_or_default();
        self.bytes(element, &u64::try_from(since.as_nanos()).unwrap_or(0).to_be_bytes())
    }

    pub(super) fn master(self, element: u32, children: Self) -> Self {
        self.bytes(element, &children.0)
    }

    /// Adds a Void element of exactly this many bytes, at least 2, to be overwritten.
    pub(super) fn void(mut self, bytes: usize) -> Self {
        let end = self.0.len() + bytes;
        self = self.void_head(bytes as u64);
        self.0.resize(end, 0);
        self
    }

    /// Adds the head of a Void element of this many bytes, at least 2.
    pub(super) fn void_head(mut self, bytes: u64) -> Self {
        self.0.push(0xec);
        match bytes {
            0..=128 => self.0.push(bytes.saturating_sub(2) as u8 | 0x80),
            _ => self.0.extend_from_slice(&long_size(bytes - 9)),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_the_shortest_or_the_longest_size() {
        assert_eq!(Elements::default().number(0x42f7, 1).0, [0x42, 0xf7, 0x81, 1]);
        assert_eq!(Elements::default().number(0xd7, 0).0, [0xd7, 0x81, 0]);
        assert_eq!(Elements::default().number(0x2a_d7b1, 1_000_000).0, [0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]);
        let long = Elements::default().bytes(0x63a2, &[7; 300]).0;
        assert_eq!(long[..10], [0x63, 0xa2, 0x01, 0, 0, 0, 0, 0, 0x01, 0x2c]);
        assert_eq!(Elements::default().void(11).0.len(), 11);
        assert_eq!(id(0x1a45_dfa3), ([0x1a, 0x45, 0xdf, 0xa3], 4));
    }
}
