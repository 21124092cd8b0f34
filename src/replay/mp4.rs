//! Reads the video of an MP4 file with fragments (ISO/IEC 14496-12).

use std::collections::VecDeque;
use std::fs::File;
use std::io;

use super::track::{Configuration, Picture, Track};
use crate::bitstream::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;
use crate::frame::FrameFlags;
use crate::sink::mp4::read::{children, content, each_frame, head, u32_at, Defaults, Head};

#[derive(Debug)]
pub(super) struct Mp4 {
    length: u64,
    /// Where the fragments begin.
    first: u64,
    at: u64,
    track: u32,
    /// Ticks of a second.
    ticks: u32,
    defaults: Defaults,
    /// The pictures of the fragment.
    pictures: VecDeque<Picture>,
}

/// Returns `true` if the file is an MP4 file.
pub(super) fn is_mp4(file: &File, length: u64) -> Result<bool> {
    Ok(head(file, 0, length).map_err(read)?.is_some_and(|first| &first.name == b"ftyp"))
}

fn read(e: io::Error) -> Error {
    Error::io("read", &e)
}

fn error(kind: ErrorKind, text: impl Into<String>) -> Error {
    Error::new(kind, "replay", text)
}

/// Returns the next box. `None` if the file ends before it does.
fn whole(file: &File, at: u64, length: u64) -> Result<Option<Head>> {
    let next = if at < length { head(file, at, length).map_err(read)? } else { None };
    Ok(next.filter(|next| next.end <= length && next.end > at))
}

impl Mp4 {
    pub(super) fn open(file: &File, length: u64) -> Result<(Self, Track)> {
        let mut at = 0;
        let moov = loop {
            match whole(file, at, length)? {
                Some(next) if &next.name == b"moov" => break next,
                Some(next) => at = next.end,
                None => return Err(error(ErrorKind::Mismatch, "the file has no header (moov)")),
            }
        };
        let header = content(file, &moov).map_err(read)?;
        let header = header.ok_or_else(|| error(ErrorKind::Mismatch, "the header (moov) cannot be read"))?;
        let Some(extends) = child(&header, b"mvex") else {
            let text = "the file has no fragments; convert it without a loss: ffmpeg -i IN -c copy OUT.mkv";
            return Err(error(ErrorKind::Unsupported, text));
        };
        let tracks = children(&header).filter(|(name, ..)| name == b"trak");
        let video = tracks.map(|(.., trak)| trak).find(|trak| is_video(trak).unwrap_or(false));
        let video = video.ok_or_else(|| error(ErrorKind::Mismatch, "the file has no video track"))?;
        let damaged = || error(ErrorKind::Mismatch, "the header of the video track is damaged");
        let (track, ticks) = numbers(video).filter(|(_, ticks)| *ticks > 0).ok_or_else(damaged)?;
        let mut defaults = children(extends).filter(|(name, ..)| name == b"trex").map(|(.., trex)| trex);
        let defaults = defaults.find(|trex| u32_at(trex, 4) == Some(track)).and_then(Defaults::read);
        let (name, entry) = entry(video).ok_or_else(damaged)?;
        let found = Self {
            length,
            first: moov.end,
            at: moov.end,
            track,
            ticks,
            defaults: defaults.unwrap_or_default(),
            pictures: VecDeque::new(),
        };
        Ok((found, described(name, entry)?))
    }

    /// Continues with the first picture of a file that has this length now.
    pub(super) fn rewind(&mut self, length: u64) {
        (self.length, self.at) = (length, self.first);
        self.pictures.clear();
    }

    /// Returns the next picture. `None` at the end of the file, or where it was cut or damaged.
    pub(super) fn next(&mut self, file: &File) -> Result<Option<Picture>> {
        loop {
            if let Some(picture) = self.pictures.pop_front() {
                return Ok(Some(picture));
            }
            let Some(next) = whole(file, self.at, self.length)? else { return Ok(None) };
            self.at = next.end;
            if &next.name == b"moof" {
                if let Some(moof) = content(file, &next).map_err(read)? {
                    self.add(&moof, next.at);
                }
            }
        }
    }

    /// Adds the pictures of a fragment, up to the end of the file.
    fn add(&mut self, moof: &[u8], moof_at: u64) {
        let Self { length, ticks, pictures, .. } = self;
        let (mut is_cut, mut total) = (false, 0);
        each_frame(moof, moof_at, Some(self.track), self.defaults, |frame| {
            let end = frame.at.saturating_add(frame.bytes.into());
            // Frames do not share bytes, so their number is limited.
            total += u64::from(frame.bytes);
            is_cut |= end > *length || total > *length;
            if !is_cut && frame.bytes > 0 {
                let nanos = u128::from(frame.shown) * 1_000_000_000 / u128::from(*ticks);
                let time_ns = u64::try_from(nanos).unwrap_or(u64::MAX);
                pictures.push_back(Picture { at: frame.at, bytes: frame.bytes as usize, time_ns });
            }
        });
    }
}

fn child<'a>(of: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    children(of).find(|(has, ..)| has == name).map(|(.., bytes)| bytes)
}

fn is_video(trak: &[u8]) -> Option<bool> {
    Some(child(child(trak, b"mdia")?, b"hdlr")?.get(8..12)? == b"vide")
}

/// Returns the track's number, and its ticks in a second (8.3.2, 8.4.2).
fn numbers(trak: &[u8]) -> Option<(u32, u32)> {
    let field = |bytes: &[u8]| u32_at(bytes, if bytes.first()? & 1 == 1 { 20 } else { 12 });
    Some((field(child(trak, b"tkhd")?)?, field(child(child(trak, b"mdia")?, b"mdhd")?)?))
}

/// Returns the first description of pictures: its name and its content (8.5.2).
fn entry(trak: &[u8]) -> Option<([u8; 4], &[u8])> {
    let table = child(child(child(trak, b"mdia")?, b"minf")?, b"stbl")?;
    let entries = child(table, b"stsd")?.get(8..)?;
    let (name, _, entry) = children(entries).next()?;
    Some((name, entry))
}

/// Reads a description of pictures (12.1.3).
fn described(name: [u8; 4], entry: &[u8]) -> Result<Track> {
    let (codec, configuration) = match &name {
        b"avc1" | b"avc3" => (Codec::H264, b"avcC"),
        b"hvc1" | b"hev1" => (Codec::Hevc, b"hvcC"),
        _ => {
            let text = format!("the video is {:?}; H.264 and H.265 can be played", String::from_utf8_lossy(&name));
            return Err(error(ErrorKind::Unsupported, text));
        }
    };
    let read = || {
        let sides = u32_at(entry, 24)?;
        let bytes = child(entry.get(78..)?, configuration)?;
        Some((Size::new(sides >> 16, sides & 0xffff), Configuration::read(codec, bytes)?))
    };
    let read = read().ok_or_else(|| error(ErrorKind::Mismatch, format!("the {codec} track has no configuration")));
    let (size, configuration) = read?;
    Ok(Track { codec, size, flags: FrameFlags::default(), configuration: Some(configuration) })
}
