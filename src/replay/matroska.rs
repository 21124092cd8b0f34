//! Reads the video of a Matroska file (RFC 9559).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::track::{Configuration, Picture, Track};
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;
use crate::frame::FrameFlags;
use crate::sink::matroska::read::{block, element, number, Element};

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
/// The most bytes of a codec's name or configuration.
const MOST_TEXT: u64 = 1 << 20;
/// The most elements inside an entry of the tracks, or a group of blocks.
const MOST_CHILDREN: usize = 1024;

#[derive(Debug)]
pub(super) struct Matroska {
    length: u64,
    /// The segment's content.
    first: u64,
    at: u64,
    /// The time of the cluster in ticks.
    cluster: u64,
    /// Nanoseconds of a tick.
    scale: u64,
    track: u64,
}

/// An entry of the tracks.
#[derive(Default)]
struct Entry {
    number: u64,
    is_video: bool,
    is_encoded: bool,
    codec: Vec<u8>,
    private: Vec<u8>,
    size: Size,
    interlaced: u64,
    order: u64,
}

/// Returns `true` if the file is a Matroska file.
pub(super) fn is_matroska(file: &File) -> Result<bool> {
    Ok(element(file, 0).map_err(read)?.is_some_and(|first| first.id == EBML))
}

fn read(e: io::Error) -> Error {
    Error::io("read", &e)
}

fn error(kind: ErrorKind, text: impl Into<String>) -> Error {
    Error::new(kind, "replay", text)
}

impl Matroska {
    pub(super) fn open(file: &File, length: u64) -> Result<(Self, Track)> {
        let head = element(file, 0).map_err(read)?.and_then(|head| head.end()).unwrap_or(length);
        let segment = element(file, head).map_err(read)?.filter(|segment| segment.id == SEGMENT);
        let Some(segment) = segment else { return Err(error(ErrorKind::Mismatch, "the file has no segment")) };
        let first = segment.body;
        let mut found = Self { length, first, at: first, cluster: 0, scale: 1_000_000, track: 0 };
        let mut video = None;
        while let Some(child) = found.element(file)? {
            match child.id {
                CLUSTER => break,
                // Info, with the scale of times.
                0x1549_a966 => {
                    for field in found.children(file, &child)?.iter().filter(|field| field.id == 0x2a_d7b1) {
                        found.scale = number(file, field).map_err(read)?.unwrap_or(0);
                    }
                }
                0x1654_ae6b => {
                    for entry in found.children(file, &child)?.iter().filter(|entry| entry.id == 0xae) {
                        let entry = found.entry(file, entry)?;
                        video = video.or(Some(entry).filter(|entry| entry.is_video));
                    }
                }
                _ => {}
            }
            let Some(end) = child.end() else { break };
            found.at = end;
        }
        let Some(video) = video else {
            return Err(error(ErrorKind::Mismatch, "the file has no video track before its first frame"));
        };
        if found.scale == 0 {
            return Err(error(ErrorKind::Mismatch, "a tick of the file has 0 ns"));
        }
        found.track = video.number;
        found.rewind(length);
        Ok((found, video.track()?))
    }

    /// Continues with the first picture of a file that has this length now.
    pub(super) fn rewind(&mut self, length: u64) {
        (self.length, self.at, self.cluster) = (length, self.first, 0);
    }

    /// Returns the next picture. `None` at the end of the file, or where it was cut or damaged.
    pub(super) fn next(&mut self, file: &File) -> Result<Option<Picture>> {
        while let Some(child) = self.element(file)? {
            if child.id == CLUSTER {
                (self.at, self.cluster) = (child.body, 0);
                continue;
            }
            let Some(end) = child.end() else { return Ok(None) };
            self.at = end;
            let picture = match child.id {
                0xe7 => {
                    self.cluster = number(file, &child).map_err(read)?.unwrap_or(0);
                    None
                }
                0xa3 => self.picture(file, &child)?,
                0xa0 => {
                    let inside = self.children(file, &child)?;
                    inside
                        .iter()
                        .find(|inside| inside.id == 0xa1)
                        .map_or(Ok(None), |block| self.picture(file, block))?
                }
                _ => None,
            };
            if picture.is_some() {
                return Ok(picture);
            }
        }
        Ok(None)
    }

    /// Returns the element at the present place. `None` if the file ends before it does.
    fn element(&self, file: &File) -> Result<Option<Element>> {
        let child = if self.at < self.length { element(file, self.at).map_err(read)? } else { None };
        Ok(child.filter(|child| child.id == CLUSTER || child.end().is_some_and(|end| end <= self.length)))
    }

    /// Returns the first elements inside an element whose end is in the file.
    fn children(&self, file: &File, of: &Element) -> Result<Vec<Element>> {
        let (mut at, end) = (of.body, of.end().unwrap_or(0));
        let mut found = Vec::new();
        while at < end && found.len() < MOST_CHILDREN {
            let child = element(file, at).map_err(read)?.and_then(|child| Some((child, child.end()?)));
            let Some((child, after)) = child.filter(|(_, after)| *after <= end) else { break };
            found.push(child);
            at = after;
        }
        Ok(found)
    }

    fn picture(&self, file: &File, of: &Element) -> Result<Option<Picture>> {
        let head = block(file, of).map_err(read)?.filter(|head| head.track == self.track);
        let (Some(head), Some(end)) = (head, of.end()) else { return Ok(None) };
        if head.is_laced {
            let text = format!("at byte {}: a block has several frames (lacing), which video does not need", of.at);
            return Err(error(ErrorKind::Unsupported, text));
        }
        let ticks = self.cluster.saturating_add_signed(head.relative.into());
        // A block without a picture is not one of the video's.
        let bytes = end.checked_sub(head.body).and_then(|bytes| usize::try_from(bytes).ok()).filter(|&bytes| bytes > 0);
        Ok(bytes.map(|bytes| Picture { at: head.body, bytes, time_ns: ticks.saturating_mul(self.scale) }))
    }

    fn entry(&self, file: &File, of: &Element) -> Result<Entry> {
        let mut entry = Entry::default();
        for field in self.children(file, of)? {
            match field.id {
                0xd7 => entry.number = value(file, &field)?,
                0x83 => entry.is_video = value(file, &field)? == 1,
                0x86 => entry.codec = bytes(file, &field)?,
                0x63a2 => entry.private = bytes(file, &field)?,
                0x6d80 => entry.is_encoded = true,
                0xe0 => {
                    for field in self.children(file, &field)? {
                        let side = || Ok::<_, Error>(u32::try_from(value(file, &field)?).unwrap_or(0));
                        match field.id {
                            0xb0 => entry.size.width = side()?,
                            0xba => entry.size.height = side()?,
                            0x9a => entry.interlaced = value(file, &field)?,
                            0x9d => entry.order = value(file, &field)?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(entry)
    }
}

impl Entry {
    fn track(&self) -> Result<Track> {
        let name = String::from_utf8_lossy(&self.codec);
        let name = name.trim_end_matches('\0');
        let Some(codec) = Codec::ALL.into_iter().find(|codec| codec.names().matroska == Some(name)) else {
            let text = format!("the video is {name:?}; H.264, H.265, VP8 and Motion JPEG can be played");
            return Err(error(ErrorKind::Unsupported, text));
        };
        if self.is_encoded {
            let text = "the track is compressed or encrypted; use: ffmpeg -i IN -c copy OUT.mkv";
            return Err(error(ErrorKind::Unsupported, text));
        }
        let configuration = Configuration::read(codec, &self.private).filter(|_| codec.has_nal_units());
        if codec.has_nal_units() && configuration.is_none() {
            return Err(error(ErrorKind::Mismatch, format!("the {codec} track has no configuration that can be read")));
        }
        let mut flags = FrameFlags::default();
        if self.interlaced == 1 {
            flags |= FrameFlags::INTERLACED;
            // The bottom field is displayed first.
            if matches!(self.order, 6 | 14) {
                flags |= FrameFlags::BOTTOM_FIRST;
            }
        }
        Ok(Track { codec, size: self.size, flags, configuration })
    }
}

fn value(file: &File, of: &Element) -> Result<u64> {
    Ok(number(file, of).map_err(read)?.unwrap_or(0))
}

/// Reads the content of an element that ends in the file.
fn bytes(file: &File, of: &Element) -> Result<Vec<u8>> {
    let mut bytes = vec![0; of.size.unwrap_or(0).min(MOST_TEXT) as usize];
    file.read_exact_at(&mut bytes, of.body).map_err(read)?;
    Ok(bytes)
}
