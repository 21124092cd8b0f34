//! Parses the messages of a `unixfdsink` (1.24 to 1.28): bytes, without descriptors.
//!
//! They are the messages of [`super::wire`], which writes them.

use super::text::MAX_CAPS;
use super::wire::{flag, CAPS, EOS, HEADER, NEW_BUFFER, NO_TIME, RELEASE_BUFFER};
use crate::format::MAX_PLANES;

/// The longest message that is kept. It has room for metas of later versions, and for caps with a stream header.
const MAX_MESSAGE: usize = HEADER + MAX_CAPS;

/// A buffer as its sink describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::share) struct NewBuffer {
    pub(in crate::share) id: u64,
    /// The presentation time in `CLOCK_MONOTONIC`.
    pub(in crate::share) pts_ns: Option<u64>,
    /// The source's count of frames, if it counts.
    pub(in crate::share) number: Option<u64>,
    flags: u32,
    memory: [Memory; MAX_PLANES],
    memories: usize,
    /// Where the planes lie, if the sink sends that.
    pub(in crate::share) meta: Option<VideoMeta>,
}

/// The part of a descriptor's memory that belongs to the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::share) struct Memory {
    pub(in crate::share) bytes: u64,
    pub(in crate::share) offset_bytes: u64,
}

/// The planes of a `GstVideoMeta`. The offsets count through all memories, as if they were one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::share) struct VideoMeta {
    pub(in crate::share) planes: usize,
    pub(in crate::share) offsets: [u64; MAX_PLANES],
    pub(in crate::share) strides: [u32; MAX_PLANES],
}

impl NewBuffer {
    #[cfg(test)]
    pub(in crate::share) fn of(memory: &[(u64, u64)], meta: Option<VideoMeta>) -> Self {
        let mut all = [Memory::default(); MAX_PLANES];
        for (to, &(bytes, offset_bytes)) in all.iter_mut().zip(memory) {
            *to = Memory { bytes, offset_bytes };
        }
        Self { id: 0, pts_ns: None, number: None, flags: 0, memory: all, memories: memory.len(), meta }
    }

    pub(in crate::share) fn memory(&self) -> &[Memory] {
        &self.memory[..self.memories]
    }

    pub(in crate::share) fn has_gap(&self) -> bool {
        self.flags & flag::DISCONT != 0
    }

    pub(in crate::share) fn is_damaged(&self) -> bool {
        self.flags & flag::CORRUPTED != 0
    }

    pub(in crate::share) fn is_delta(&self) -> bool {
        self.flags & flag::DELTA_UNIT != 0
    }

    /// Returns `true` for rows of two fields, in a stream whose frames differ in that.
    pub(in crate::share) fn is_interlaced(&self) -> bool {
        self.flags & flag::INTERLACED != 0
    }

    pub(in crate::share) fn is_top_first(&self) -> bool {
        self.flags & flag::TOP_FIRST != 0
    }
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::share) enum Said {
    Caps(String),
    Buffer(NewBuffer),
    End,
    /// A message of a later version, which is skipped.
    Other,
}

/// The bytes of an incomplete message. Never more than [`MAX_MESSAGE`], whatever length its header claims.
#[derive(Debug, Default)]
pub(in crate::share) struct Inbox {
    bytes: Vec<u8>,
    len: usize,
    /// How many bytes to skip.
    skip: u32,
}

impl Inbox {
    /// Returns where the next bytes go. Never more than the rest of a message: descriptors that come with the bytes
    /// belong to this message.
    pub(in crate::share) fn room(&mut self) -> &mut [u8] {
        let end = match self.skip {
            0 => self.wanted(),
            skip => self.len + (skip as usize).min(4096),
        };
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }

    /// Returns the message's length, as far as it is known.
    fn wanted(&self) -> usize {
        if self.len < HEADER {
            return HEADER;
        }
        HEADER.saturating_add(self.header().1 as usize).min(MAX_MESSAGE)
    }

    fn header(&self) -> (u32, u32) {
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| self.bytes[at + i]));
        (word(0), word(4))
    }

    pub(in crate::share) fn received(&mut self, len: usize) {
        match self.skip {
            0 => self.len += len,
            skip => self.skip = skip.saturating_sub(len as u32),
        }
    }

    /// Returns the message that is complete, if there is one.
    pub(in crate::share) fn next(&mut self) -> Result<Option<Said>, String> {
        if self.skip > 0 || self.len < HEADER {
            return Ok(None);
        }
        let (kind, len) = self.header();
        match kind {
            RELEASE_BUFFER => return Err("RELEASE_BUFFER, which a unixfdsink does not send".into()),
            CAPS | NEW_BUFFER if len as usize > MAX_MESSAGE - HEADER => {
                return Err(format!("a message of type {kind} with {len} bytes"));
            }
            CAPS | NEW_BUFFER if self.len < self.wanted() => return Ok(None),
            _ => {}
        }
        let payload = &self.bytes[HEADER..self.len];
        let said = match kind {
            CAPS => Said::Caps(text(payload)?),
            NEW_BUFFER => Said::Buffer(new_buffer(payload)?),
            _ => {
                self.skip = len;
                if kind == EOS {
                    Said::End
                } else {
                    Said::Other
                }
            }
        };
        self.len = 0;
        Ok(Some(said))
    }
}

fn text(payload: &[u8]) -> Result<String, String> {
    let end = payload.iter().position(|&b| b == 0).ok_or("CAPS that do not end")?;
    String::from_utf8(payload[..end].to_vec()).map_err(|_| "CAPS that are not text".into())
}

/// Reads numbers from the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = (self.0.get(..len)?, &self.0[len..]);
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    // Metas are little-endian on every machine.
    fn le32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn le64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

fn new_buffer(payload: &[u8]) -> Result<NewBuffer, String> {
    let mut r = Reader(payload);
    let short = || format!("NEW_BUFFER of {} bytes, shorter than its fields", payload.len());
    let mut number = || r.u64().ok_or_else(short);
    let [id, pts, _dts, _duration, offset, offset_end] =
        [number()?, number()?, number()?, number()?, number()?, number()?];
    let flags = r.u32().ok_or_else(short)?;
    // The kernel says what kind of memory it is.
    let [_kind, memories] = r.array().ok_or_else(short)?;
    let metas = u16::from_ne_bytes(r.array().ok_or_else(short)?);
    if !(1..=MAX_PLANES as u8).contains(&memories) {
        return Err(format!("a buffer of {memories} memories; 1 to {MAX_PLANES} are possible"));
    }
    let mut buffer = NewBuffer {
        id,
        pts_ns: Some(pts).filter(|&pts| pts != NO_TIME),
        // In some buffers the offset counts bytes.
        number: Some(offset).filter(|&n| offset_end != NO_TIME && n.checked_add(1) == Some(offset_end)),
        flags,
        memory: Default::default(),
        memories: memories.into(),
        meta: None,
    };
    for memory in &mut buffer.memory[..buffer.memories] {
        memory.bytes = r.u64().ok_or_else(short)?;
        memory.offset_bytes = r.u64().ok_or_else(short)?;
    }
    for _ in 0..metas {
        let meta = meta(&mut r).ok_or("a meta that exceeds its message")?;
        buffer.meta = buffer.meta.or(meta?);
    }
    Ok(buffer)
}

/// Reads one serialized meta: a `GstVideoMeta` or another.
fn meta(r: &mut Reader<'_>) -> Option<Result<Option<VideoMeta>, String>> {
    let total = (r.le32()? as usize).checked_sub(4)?;
    let mut r = Reader(r.bytes(total)?);
    let name = r.le32()? as usize;
    let name = r.bytes(name)?;
    let [_nul, version] = r.array()?;
    if name != b"GstVideoMeta" {
        return Some(Ok(None));
    }
    if version != 0 {
        return Some(Err(format!("a GstVideoMeta of version {version}")));
    }
    let [_flags, _format, _width, _height, planes] = [r.le32()?, r.le32()?, r.le32()?, r.le32()?, r.le32()?];
    let mut meta = VideoMeta { planes: planes as usize, offsets: [0; MAX_PLANES], strides: [0; MAX_PLANES] };
    if !(1..=MAX_PLANES).contains(&meta.planes) {
        return Some(Err(format!("a GstVideoMeta of {planes} planes")));
    }
    for offset in &mut meta.offsets[..meta.planes] {
        *offset = r.le64()?;
    }
    for stride in &mut meta.strides[..meta.planes] {
        *stride = r.le32()?;
    }
    Some(Ok(Some(meta)))
}

#[cfg(test)]
mod tests {
    use super::super::wire::{caps, eos, message};
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
            assert!(inbox.bytes.len() <= MAX_MESSAGE);
        }
    }

    /// Returns a NEW_BUFFER's payload: id, pts, offset and its end, flags, memories, metas.
    fn buffer(id: u64, pts: u64, offsets: [u64; 2], flags: u32, memory: &[(u64, u64)], metas: &[Vec<u8>]) -> Vec<u8> {
        let mut out: Vec<u8> =
            [id, pts, NO_TIME, NO_TIME, offsets[0], offsets[1]].iter().flat_map(|n| n.to_ne_bytes()).collect();
        out.extend(flags.to_ne_bytes());
        out.extend([0, memory.len() as u8]);
        out.extend((metas.len() as u16).to_ne_bytes());
        memory.iter().for_each(|(bytes, at)| out.extend([bytes.to_ne_bytes(), at.to_ne_bytes()].concat()));
        metas.iter().for_each(|meta| out.extend(meta));
        out
    }

    fn meta(name: &[u8], version: u8, data: &[u8]) -> Vec<u8> {
        let total = (4 + 4 + name.len() + 2 + data.len()) as u32;
        [&total.to_le_bytes()[..], &(name.len() as u32).to_le_bytes(), name, &[0, version], data].concat()
    }

    fn video_meta(planes: &[(u64, u32)]) -> Vec<u8> {
        let mut data: Vec<u8> =
            [0, 23, 64, 48, planes.len() as u32].iter().flat_map(|n: &u32| n.to_le_bytes()).collect();
        planes.iter().for_each(|(offset, _)| data.extend(offset.to_le_bytes()));
        planes.iter().for_each(|(_, stride)| data.extend(stride.to_le_bytes()));
        data.extend(vec![0; 16 + 4 * planes.len()]);
        meta(b"GstVideoMeta", 0, &data)
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let metas = [meta(b"GstOtherMeta", 7, &[1, 2, 3]), video_meta(&[(0, 320), (320 * 48, 320)])];
        let mut bytes = caps("video/x-raw, width=(int)64");
        bytes.extend(message(NEW_BUFFER, &buffer(7, 5, [3, 4], 1 << 6 | 1 << 13, &[(100, 0), (50, 4096)], &metas)));
        bytes.extend(message(NEW_BUFFER, &buffer(8, NO_TIME, [4096, 8192], 1 << 8, &[(100, 0)], &[])));
        bytes.extend(message(NEW_BUFFER, &buffer(9, 0, [NO_TIME, NO_TIME], 0, &[(100, 0)], &[])));
        // Messages of a later version: an unknown type, and one with a long payload.
        bytes.extend(message(99, &[1; 100_000]));
        bytes.extend(eos());
        let (said, error) = said(&bytes);
        assert_eq!((said.len(), error), (6, None));
        assert_eq!(said[0], Said::Caps("video/x-raw, width=(int)64".into()));
        let Said::Buffer(first) = &said[1] else { panic!("{said:?}") };
        assert_eq!((first.id, first.pts_ns, first.number), (7, Some(5), Some(3)));
        assert!(first.has_gap() && first.is_delta() && !first.is_damaged());
        assert_eq!(first.memory(), [Memory { bytes: 100, offset_bytes: 0 }, Memory { bytes: 50, offset_bytes: 4096 }]);
        let planes = VideoMeta { planes: 2, offsets: [0, 320 * 48, 0, 0], strides: [320, 320, 0, 0] };
        assert_eq!(first.meta, Some(planes));
        let Said::Buffer(second) = &said[2] else { panic!("{said:?}") };
        assert_eq!((second.pts_ns, second.number, second.meta), (None, None, None));
        assert!(second.is_damaged() && !second.has_gap());
        let Said::Buffer(third) = &said[3] else { panic!("{said:?}") };
        assert_eq!((third.pts_ns, third.number), (Some(0), None), "an offset that is not a count");
        assert_eq!(said[4..], [Said::Other, Said::End]);
    }

    #[test]
    fn malformed_messages_are_refused() {
        let good = |memory: &[(u64, u64)], metas: &[Vec<u8>]| buffer(1, 0, [0, 1], 0, memory, metas);
        let one = [(100, 0)];
        let five_planes = [(0, 1); 5];
        let mut long = meta(b"GstOtherMeta", 0, &[0; 8]);
        long[0] = 200;
        let mut long_name = meta(b"GstVideoMeta", 0, &[0; 8]);
        long_name[4] = 200;
        for (bytes, what) in [
            (message(NEW_BUFFER, &good(&one, &[])[..55]), "shorter than"),
            (message(NEW_BUFFER, &good(&one, &[])[..71]), "shorter than"),
            (message(NEW_BUFFER, &good(&[], &[])), "of 0 memories"),
            (message(NEW_BUFFER, &good(&[(1, 0); 5], &[])), "of 5 memories"),
            (message(NEW_BUFFER, &good(&one, &[video_meta(&five_planes)])), "of 5 planes"),
            (message(NEW_BUFFER, &good(&one, &[video_meta(&[])])), "of 0 planes"),
            (message(NEW_BUFFER, &good(&one, &[meta(b"GstVideoMeta", 1, &[])])), "of version 1"),
            (message(NEW_BUFFER, &good(&one, &[meta(b"GstVideoMeta", 0, &[2; 20])])), "planes"),
            (message(NEW_BUFFER, &good(&one, &[vec![3, 0, 0, 0]])), "exceeds its message"),
            (message(NEW_BUFFER, &good(&one, &[long])), "exceeds its message"),
            (message(NEW_BUFFER, &good(&one, &[long_name])), "exceeds its message"),
            ([NEW_BUFFER.to_ne_bytes(), [0xff; 4]].concat(), "with 4294967295 bytes"),
            ([CAPS.to_ne_bytes(), (MAX_CAPS as u32 + 1).to_ne_bytes()].concat(), "with 16385 bytes"),
            (message(CAPS, b"video/x-raw"), "do not end"),
            (message(CAPS, b""), "do not end"),
            (message(CAPS, b"\xff\0"), "not text"),
            (message(RELEASE_BUFFER, &[0; 8]), "does not send"),
        ] {
            let (said, error) = said(&bytes);
            assert!(said.is_empty() && error.as_ref().is_some_and(|e| e.contains(what)), "{what}: {said:?} {error:?}");
        }
        // An unknown message that claims 4 GiB is skipped without memory.
        assert_eq!(said(&[99u32.to_ne_bytes(), [0xff; 4]].concat()), ([Said::Other].into(), None));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_messages(
            messages in proptest::collection::vec((0..4u32, 0..200usize), 0..8),
            pieces in proptest::collection::vec(1..100usize, 1..8),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|&(kind, len)| match kind {
                0 => message(NEW_BUFFER, &buffer(len as u64, 1, [0, 1], 0, &[(9, 0)], &[meta(b"x", 0, &vec![0; len])])),
                1 => caps(&"x".repeat(len)),
                2 => eos(),
                _ => message(77, &vec![1; len * 100]),
            }).collect();
            let whole = said(&bytes);
            prop_assert_eq!((whole.0.len(), &whole.1), (messages.len(), &None));
            prop_assert_eq!(said_in(&bytes, &pieces), whole);
        }

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(
            kind in 0..5u32,
            len in 0..200u32,
            bytes in proptest::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..300),
            pieces in proptest::collection::vec(1..40usize, 1..4),
        ) {
            said_in(&bytes, &pieces);
            let headed = [&kind.to_ne_bytes()[..], &len.to_ne_bytes(), &bytes].concat();
            prop_assert_eq!(said_in(&headed, &pieces), said(&headed));
        }
    }
}
