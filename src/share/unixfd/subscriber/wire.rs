//! What a `unixfdsink` says (1.24 to 1.28): bytes, no descriptors.
//!
//! The messages are those of [`super::super::wire`], read instead of written.

use super::super::text::MAX_CAPS;
use super::super::wire::{flag, CAPS, EOS, HEADER, NEW_BUFFER, NO_TIME, RELEASE_BUFFER};
use crate::format::MAX_PLANES;

/// The longest message that is kept: metas of later versions have room, and caps with a stream header.
const MAX_MESSAGE: usize = HEADER + MAX_CAPS;

/// A buffer, as its sink describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewBuffer {
    pub(super) id: u64,
    /// `CLOCK_MONOTONIC`.
    pub(super) pts_ns: Option<u64>,
    /// The source's count of frames, if it counts.
    pub(super) number: Option<u64>,
    flags: u32,
    memory: [Memory; MAX_PLANES],
    memories: usize,
    /// Where the planes lie, if that is said.
    pub(super) meta: Option<VideoMeta>,
}

/// The part of a descriptor's memory that is the buffer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) bytes: u64,
    pub(super) offset_bytes: u64,
}

/// Planes of a `GstVideoMeta`. The offsets count through all memories, as if they were one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VideoMeta {
    pub(super) planes: usize,
    pub(super) offsets: [u64; MAX_PLANES],
    pub(super) strides: [u32; MAX_PLANES],
}

impl NewBuffer {
    pub(super) fn memory(&self) -> &[Memory] {
        &self.memory[..self.memories]
    }

    pub(super) fn has_gap(&self) -> bool {
        self.flags & flag::DISCONT != 0
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.flags & flag::CORRUPTED != 0
    }

    pub(super) fn is_delta(&self) -> bool {
        self.flags & flag::DELTA_UNIT != 0
    }
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Caps(String),
    Buffer(NewBuffer),
    End,
    /// Something of a later version, to be skipped.
    Other,
}

/// What was read of a message that is not yet complete: never more than [`MAX_MESSAGE`], whatever length is promised.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    len: usize,
    /// Bytes that still come and mean nothing.
    skip: u32,
}

impl Inbox {
    /// Where the next bytes go. Never more than the rest of a message: descriptors that come with them are its own.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let end = match self.skip {
            0 => self.wanted(),
            skip => self.len + (skip as usize).min(4096),
        };
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }

    /// Bytes of the message, as far as they are known.
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

    pub(super) fn received(&mut self, len: usize) {
        match self.skip {
            0 => self.len += len,
            skip => self.skip = skip.saturating_sub(len as u32),
        }
    }

    /// The message that is complete, if one is.
    pub(super) fn next(&mut self) -> Result<Option<Said>, String> {
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
    String::from_utf8(payload[..end].to_vec()).map_err(|_| "CAPS that are no text".into())
}

/// Numbers from the front of a message.
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
    let short = || format!("NEW_BUFFER of {} bytes, shorter than what it says to hold", payload.len());
    let mut number = || r.u64().ok_or_else(short);
    let [id, pts, _dts, _duration, offset, offset_end] =
        [number()?, number()?, number()?, number()?, number()?, number()?];
    let flags = r.u32().ok_or_else(short)?;
    // What kind of memory it is, the kernel says.
    let [_kind, memories] = r.array().ok_or_else(short)?;
    let metas = u16::from_ne_bytes(r.array().ok_or_else(short)?);
    if !(1..=MAX_PLANES as u8).contains(&memories) {
        return Err(format!("a buffer of {memories} memories; 1 to {MAX_PLANES} are possible"));
    }
    let mut buffer = NewBuffer {
        id,
        pts_ns: Some(pts).filter(|&pts| pts != NO_TIME),
        // Bytes are counted there, too.
        number: Some(offset).filter(|&n| n != NO_TIME && n.checked_add(1) == Some(offset_end)),
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
        let meta = meta(&mut r).ok_or("a meta that leaves its message")?;
        buffer.meta = buffer.meta.or(meta?);
    }
    Ok(buffer)
}

/// One serialized meta: a `GstVideoMeta`, or another.
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
