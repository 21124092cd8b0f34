//! The index at the end of a file.

use super::boxes::{Boxes, Fields};

/// A key frame: its time in ticks, the position of its fragment, and its number there, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) time: u64,
    pub(super) fragment_at: u64,
    pub(super) number: u32,
}

/// Returns `mfra`, which names its own size at the end of the file.
pub(super) fn index(entries: &[Entry], track: u32) -> Vec<u8> {
    // The number of a frame has four bytes, those of its boxes one.
    let head = Fields::default().u32(track).u32(3).u32(entries.len() as u32);
    let table = entries
        .iter()
        .fold(head, |fields, entry| fields.u64(entry.time).u64(entry.fragment_at).u8(1).u8(1).u32(entry.number));
    let table = Boxes::default().full(b"tfra", 1, 0, table);
    let bytes = 8 + table.0.len() + 16;
    Boxes::default().parent(b"mfra", table.full(b"mfro", 0, 0, Fields::default().u32(bytes as u32))).0
}
