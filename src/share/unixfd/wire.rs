//! Writes the messages of GStreamer's `unixfd` protocol (1.24 to 1.28), and reads those of a `unixfdsrc`.
//!
//! A message is `{u32 type, u32 bytes that follow}` and those bytes, in the machine's order. Serialized metas are
//! always little-endian. The fields and values come from recorded sessions of GStreamer 1.26.

use crate::dmabuf::MemoryKind;
use crate::frame::{Frame, FrameFlags, FrameMeta};

use super::caps;

pub(in crate::share) const NEW_BUFFER: u32 = 0;
pub(in crate::share) const RELEASE_BUFFER: u32 = 1;
pub(in crate::share) const CAPS: u32 = 2;
pub(in crate::share) const EOS: u32 = 3;

pub(in crate::share) const HEADER: usize = 8;
/// The value of an unknown time.
pub(in crate::share) const NO_TIME: u64 = u64::MAX;

/// `GstBufferFlags`.
pub(in crate::share) mod flag {
    pub(in super::super) const DISCONT: u32 = 1 << 6;
    pub(in super::super) const CORRUPTED: u32 = 1 << 8;
    pub(in super::super) const DELTA_UNIT: u32 = 1 << 13;
    pub(in super::super) const INTERLACED: u32 = 1 << 20;
    pub(in super::super) const TOP_FIRST: u32 = 1 << 21;
}

pub(in crate::share) fn message(kind: u32, payload: &[u8]) -> Vec<u8> {
    [&kind.to_ne_bytes()[..], &(payload.len() as u32).to_ne_bytes(), payload].concat()
}

/// Returns a CAPS message: a string with its NUL.
pub(in crate::share) fn caps(caps: &str) -> Vec<u8> {
    message(CAPS, format!("{caps}\0").as_bytes())
}

pub(in crate::share) fn eos() -> Vec<u8> {
    message(EOS, &[])
}

/// Writes a NEW_BUFFER to `out`, which is cleared first: the frame, one memory for each memory plane, and for pixels a
/// video meta with the position of the planes.
pub(in crate::share) fn new_buffer(out: &mut Vec<u8>, id: u64, frame: &Frame, meta: &FrameMeta, has_gap: bool) {
    let layout = frame.layout();
    let mut flags = if has_gap { flag::DISCONT } else { 0 };
    let mut memory = [(0u64, 0u64); crate::format::MAX_PLANES];
    let count = frame.memory().len().min(memory.len());
    for (i, (size, offset)) in memory.iter_mut().enumerate().take(count) {
        let payload = meta.payload[i];
        *offset = payload.offset_bytes.into();
        *size = payload.bytes.into();
        if !layout.is_compressed() {
            // The whole layout, but not more than the buffer has: elements expect whole pictures.
            let whole = u64::from(layout.memory_bytes().get(i).copied().unwrap_or(0));
            let there = (frame.memory()[i].size_bytes() as u64).saturating_sub(*offset);
            *size = whole.min(there);
        }
    }
    let given = |plane: usize| u64::from(meta.payload.get(plane).map_or(0, |p| p.bytes));
    let is_short = layout.planes().iter().enumerate().any(|(i, p)| given(p.memory as usize) < layout.plane_end(i));
    if is_short || meta.flags.contains(FrameFlags::ERROR) {
        flags |= flag::CORRUPTED;
    }
    if caps::has_delta_units(layout.fourcc()) && !meta.flags.contains(FrameFlags::KEY) {
        flags |= flag::DELTA_UNIT;
    }
    if meta.flags.contains(FrameFlags::INTERLACED) {
        flags |= flag::INTERLACED;
        flags |= if meta.flags.contains(FrameFlags::BOTTOM_FIRST) { 0 } else { flag::TOP_FIRST };
    }
    let video = caps::video_format(layout.fourcc());
    let is_dma_buf = frame.memory().iter().all(|m| m.kind() == MemoryKind::DmaBuf);
    // unixfdsrc accepts only times of CLOCK_MONOTONIC.
    let is_monotonic = meta.flags.contains(FrameFlags::MONOTONIC);
    let pts = if is_monotonic { meta.timestamp_ns } else { meta.published_ns };
    out.clear();
    out.extend_from_slice(&NEW_BUFFER.to_ne_bytes());
    // Place for the length, which is known below.
    out.extend_from_slice(&[0; 4]);
    for number in [id, pts, NO_TIME, NO_TIME, meta.sequence, meta.sequence.wrapping_add(1)] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&[u8::from(is_dma_buf), count as u8]);
    out.extend_from_slice(&u16::from(video.is_some()).to_ne_bytes());
    for (size, offset) in &memory[..count] {
        out.extend_from_slice(&size.to_ne_bytes());
        out.extend_from_slice(&offset.to_ne_bytes());
    }
    if let Some((_, number)) = video {
        let planes = layout.planes().iter().map(|p| {
            // A meta's offsets count through all memories, as if they were one.
            let before: u64 = memory[..(p.memory as usize).min(count)].iter().map(|m| m.0).sum();
            (before + u64::from(p.offset_bytes), p.stride_bytes)
        });
        video_meta(out, number, layout.size().width, layout.size().height, planes);
    }
    let len = (out.len() - HEADER) as u32;
    out[4..HEADER].copy_from_slice(&len.to_ne_bytes());
}

/// Appends a serialized `GstVideoMeta`, version 0.
fn video_meta(
    out: &mut Vec<u8>,
    format: u32,
    width: u32,
    height: u32,
    planes: impl ExactSizeIterator<Item = (u64, u32)> + Clone,
) {
    const NAME: &[u8] = b"GstVideoMeta";
    let count = planes.len();
    let total = 4 + 4 + NAME.len() + 1 + 1 + 5 * 4 + count * 8 + count * 4 + 4 * 4 + count * 4;
    let end = out.len() + total;
    let word = |out: &mut Vec<u8>, word: u32| out.extend_from_slice(&word.to_le_bytes());
    word(out, total as u32);
    word(out, NAME.len() as u32);
    out.extend_from_slice(NAME);
    // A NUL and the version.
    out.extend_from_slice(&[0, 0]);
    // First word: no flags.
    [0, format, width, height, count as u32].into_iter().for_each(|n| word(out, n));
    planes.clone().for_each(|(offset, _)| out.extend_from_slice(&offset.to_le_bytes()));
    planes.for_each(|(_, stride)| word(out, stride));
    // Zeros: no padding at the four sides, no alignment of strides.
    out.resize(end, 0);
}

/// A message of a `unixfdsrc`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::share) enum Said {
    /// Releases the buffer with this id.
    Release(u64),
    /// A message of a later version, which is skipped.
    Other,
}

/// The bytes of an incomplete message: at most 16, whatever length its header claims.
#[derive(Debug, Default)]
pub(in crate::share) struct Inbox {
    bytes: [u8; HEADER + 8],
    len: usize,
    /// How many bytes to skip.
    skip: u32,
}

impl Inbox {
    /// Returns where the next bytes go: never more than a RELEASE_BUFFER, so that no byte of the next message is read.
    pub(in crate::share) fn room(&mut self) -> &mut [u8] {
        let len = if self.len < HEADER { HEADER } else { self.bytes.len() };
        let end = if self.skip > 0 { self.len + (self.skip as usize).min(self.bytes.len() - self.len) } else { len };
        &mut self.bytes[self.len..end]
    }

    pub(in crate::share) fn received(&mut self, len: usize) {
        if self.skip > 0 {
            self.skip = self.skip.saturating_sub(len as u32);
        } else {
            self.len += len;
        }
    }

    /// Returns the message that is complete, if there is one.
    pub(in crate::share) fn next(&mut self) -> Result<Option<Said>, String> {
        if self.skip > 0 || self.len < HEADER {
            return Ok(None);
        }
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| self.bytes[at + i]));
        let (kind, len) = (word(0), word(4));
        match kind {
            RELEASE_BUFFER if len < 8 => Err(format!("RELEASE_BUFFER of {len} bytes")),
            RELEASE_BUFFER if self.len < self.bytes.len() => Ok(None),
            RELEASE_BUFFER => {
                let id = u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| self.bytes[HEADER + i]));
                (self.len, self.skip) = (0, len - 8);
                Ok(Some(Said::Release(id)))
            }
            NEW_BUFFER | CAPS => Err(format!("a message of type {kind}, which a unixfdsrc does not send")),
            _ => {
                (self.len, self.skip) = (0, len);
                Ok(Some(Said::Other))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(bytes: &[u8]) -> (Vec<Said>, Option<String>) {
        said_in(bytes, &[usize::MAX])
    }

    /// Reads bytes that arrive in pieces of these sizes, repeated.
    fn said_in(bytes: &[u8], pieces: &[usize]) -> (Vec<Said>, Option<String>) {
        let (mut inbox, mut rest, mut out) = (Inbox::default(), bytes, Vec::new());
        let mut pieces = pieces.iter().cycle();
        loop {
            match inbox.next() {
                Ok(Some(said)) => {
                    out.push(said);
                    continue;
                }
                Ok(None) => {}
                Err(what) => return (out, Some(what)),
            }
            if rest.is_empty() {
                return (out, None);
            }
            let room = inbox.room();
            assert!(!room.is_empty());
            let len = room.len().min(rest.len()).min(*pieces.next().unwrap());
            room[..len].copy_from_slice(&rest[..len]);
            inbox.received(len);
            rest = &rest[len..];
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut bytes = message(RELEASE_BUFFER, &7u64.to_ne_bytes());
        // Messages of a later version: longer, unknown, empty.
        bytes.extend(message(RELEASE_BUFFER, &[8u64.to_ne_bytes(), [9; 8], [9; 8]].concat()));
        bytes.extend(message(99, &[1; 1000]));
        bytes.extend(message(EOS, &[]));
        bytes.extend(message(RELEASE_BUFFER, &9u64.to_ne_bytes()));
        let expected = [Said::Release(7), Said::Release(8), Said::Other, Said::Other, Said::Release(9)];
        assert_eq!(said(&bytes), (expected.into(), None));
        assert_eq!(said(&bytes[..bytes.len() - 1]).0.len(), 4, "an incomplete message waits");
        // A message that claims 4 GiB is skipped without memory.
        assert_eq!(said(&[99u32.to_ne_bytes(), [0xff; 4]].concat()), ([Said::Other].into(), None));
        for bad in [message(RELEASE_BUFFER, &[0; 7]), message(NEW_BUFFER, &[]), message(CAPS, b"x\0")] {
            assert!(said(&bad).1.is_some(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_messages(
            messages in proptest::collection::vec((prop_oneof![Just(1u32), 3..6u32], 8..40usize), 0..8),
            pieces in proptest::collection::vec(1..20usize, 1..8),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|(kind, len)| message(*kind, &vec![*len as u8; *len])).collect();
            let expected: Vec<Said> = messages
                .iter()
                .map(|(kind, len)| if *kind == 1 { Said::Release(u64::from_ne_bytes([*len as u8; 8])) } else { Said::Other })
                .collect();
            prop_assert_eq!(said_in(&bytes, &pieces), (expected, None));
        }

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes in proptest::collection::vec(0..3u8, 0..200), pieces in proptest::collection::vec(1..20usize, 1..4)) {
            said_in(&bytes, &pieces);
        }
    }

    /// The bytes that GStreamer 1.26 writes.
    #[test]
    fn video_meta_is_gstreamers() {
        let golden = [
            &[0x5a, 0, 0, 0, 12, 0, 0, 0][..],
            b"GstVideoMeta\0\0",
            &[0, 0, 0, 0, 23, 0, 0, 0, 34, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0],
            &[0x12, 0x11, 0, 0, 0, 0, 0, 0, 0x22, 0x21, 0, 0, 0, 0, 0, 0],
            &[0x31, 0, 0, 0, 0x41, 0, 0, 0],
            &[0; 24],
        ];
        let planes = [(0x1112, 0x31), (0x2122, 0x41)];
        let mut out = vec![1, 2, 3];
        video_meta(&mut out, 23, 34, 18, planes.into_iter());
        assert_eq!(out[3..], golden.concat());
    }
}
