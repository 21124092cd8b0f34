//! Writes boxes (ISO/IEC 14496-12, 4.2).

/// Boxes that are built in memory: all except pictures.
#[derive(Debug, Default)]
pub(super) struct Boxes(pub(super) Vec<u8>);

impl Boxes {
    /// Adds a box with this content.
    pub(super) fn add(mut self, name: &[u8; 4], content: Fields) -> Self {
        self.0.extend(((content.0.len() + 8) as u32).to_be_bytes());
        self.0.extend_from_slice(name);
        self.0.extend(content.0);
        self
    }

    /// Adds a box with a version and flags.
    pub(super) fn full(self, name: &[u8; 4], version: u8, flags: u32, content: Fields) -> Self {
        let head = Fields::default().u32(u32::from(version) << 24 | flags & 0xff_ffff);
        self.add(name, head.bytes(&content.0))
    }

    /// Adds a box that contains boxes.
    pub(super) fn parent(self, name: &[u8; 4], children: Self) -> Self {
        self.add(name, Fields(children.0))
    }

    /// Adds a `free` box of this many bytes, at least 8, to be overwritten.
    pub(super) fn free(self, bytes: usize) -> Self {
        self.add(b"free", Fields::default().zeros(bytes.saturating_sub(8)))
    }
}

/// The content of a box.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Vec<u8>);

impl Fields {
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn zeros(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len() + bytes, 0);
        self
    }

    pub(super) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_have_their_size_and_name_in_front() {
        let inner = Boxes::default().full(b"mehd", 1, 2, Fields::default().u64(3));
        let all = Boxes::default().parent(b"mvex", inner).free(9).0;
        let expected = [
            &[0, 0, 0, 28][..],
            b"mvex",
            &[0, 0, 0, 20],
            b"mehd",
            &[1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0, 9],
            b"free",
            &[0],
        ];
        assert_eq!(all, expected.concat());
    }
}
