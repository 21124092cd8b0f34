//! Reads boxes of a file, and the headers of its track and fragments.

use std::fs::File;
use std::io;

use super::fragment::is_key;
use crate::sink::container::read_up_to;

/// The most bytes of a header that is read.
const MOST_HEADER: u64 = 16 << 20;

/// The start of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: [u8; 4],
    pub(crate) at: u64,
    pub(crate) body: u64,
    pub(crate) end: u64,
}

/// Parses the start of a box at the start of these bytes. A box without a size ends at `length`.
fn parse(bytes: &[u8], at: u64, length: u64) -> Option<Head> {
    let (size, name) = (bytes.get(..4)?, bytes.get(4..8)?);
    let name = <[u8; 4]>::try_from(name).ok()?;
    let size = u64::from(u32::from_be_bytes(size.try_into().ok()?));
    let (header, end) = match size {
        0 => (8, length),
        1 => (16, at.checked_add(u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?))?),
        _ => (8, at.checked_add(size)?),
    };
    let body = at.checked_add(header)?;
    Some(Head { name, at, body, end }).filter(|head| head.end >= head.body)
}

/// Reads the start of the box at `at`. `None` at the end of the file, and for bytes that are not a box.
pub(crate) fn head(file: &File, at: u64, length: u64) -> io::Result<Option<Head>> {
    let mut bytes = [0; 16];
    let filled = read_up_to(file, at, &mut bytes)?;
    Ok(parse(&bytes[..filled], at, length).filter(|head| head.name.iter().all(u8::is_ascii_graphic)))
}

/// Reads the content of a box. `None` if it is not in the file or too long for a header.
pub(crate) fn content(file: &File, of: &Head) -> io::Result<Option<Vec<u8>>> {
    let size = of.end - of.body;
    if size > MOST_HEADER {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    let filled = read_up_to(file, of.body, &mut bytes)?;
    Ok((filled == bytes.len()).then_some(bytes))
}

/// Boxes inside a box that was read: names, positions and contents.
pub(crate) fn children(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = parse(bytes.get(at..)?, at as u64, bytes.len() as u64)?;
        let (body, end) = (usize::try_from(head.body).ok()?, usize::try_from(head.end).ok()?);
        at = end;
        Some((head.name, body, bytes.get(body..end)?))
    })
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A duration in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurationPlace {
    /// Its position in the content of `moov`.
    pub(super) at: usize,
    /// It has 64 bits, else 32.
    pub(super) is_long: bool,
    /// In ticks of the track, else of the movie.
    pub(super) is_of_track: bool,
}

/// The header of a file with one video track.
#[derive(Debug, Default)]
pub(super) struct Movie {
    pub(super) movie_ticks: u32,
    pub(super) track_ticks: u32,
    pub(super) tracks: usize,
    pub(super) track: u32,
    pub(super) is_video: bool,
    /// There are fragments.
    pub(super) has_fragments: bool,
    pub(super) durations: Vec<DurationPlace>,
    /// Where a `free` box can become `mehd`, in the content of `moov`.
    pub(super) length_at: Option<usize>,
    pub(super) defaults: Defaults,
}

/// The duration, size and flags of frames whose fragment does not say them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Defaults {
    duration: u32,
    bytes: u32,
    flags: u32,
}

impl Defaults {
    /// Reads the content of `trex` (8.8.3).
    pub(crate) fn read(trex: &[u8]) -> Option<Self> {
        Some(Self { duration: u32_at(trex, 12)?, bytes: u32_at(trex, 16)?, flags: u32_at(trex, 20)? })
    }
}

impl Movie {
    /// Reads the content of `moov`.
    pub(super) fn read(moov: &[u8]) -> Option<Self> {
        let mut movie = Self::default();
        for (name, at, bytes) in children(moov) {
            match &name {
                b"mvhd" => {
                    movie.movie_ticks = u32_at(bytes, if bytes.first()? & 1 == 1 { 20 } else { 12 })?;
                    movie.durations.push(duration(bytes, at, 24, 16, false)?);
                }
                b"trak" => movie.read_track(bytes, at)?,
                b"mvex" => movie.read_fragments(bytes, at)?,
                _ => {}
            }
        }
        Some(movie)
    }

    fn read_track(&mut self, trak: &[u8], trak_at: usize) -> Option<()> {
        self.tracks += 1;
        for (name, at, bytes) in children(trak) {
            match &name {
                b"tkhd" => {
                    self.track = u32_at(bytes, if bytes.first()? & 1 == 1 { 20 } else { 12 })?;
                    self.durations.push(duration(bytes, trak_at + at, 28, 20, false)?);
                }
                b"mdia" => {
                    for (name, inner, bytes) in children(bytes) {
                        if &name == b"mdhd" {
                            self.track_ticks = u32_at(bytes, if bytes.first()? & 1 == 1 { 20 } else { 12 })?;
                            self.durations.push(duration(bytes, trak_at + at + inner, 24, 16, true)?);
                        }
                        self.is_video |= &name == b"hdlr" && bytes.get(8..12) == Some(b"vide");
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn read_fragments(&mut self, mvex: &[u8], mvex_at: usize) -> Option<()> {
        self.has_fragments = true;
        for (name, at, bytes) in children(mvex) {
            match &name {
                b"mehd" => {
                    let is_long = bytes.first()? & 1 == 1;
                    self.durations.push(DurationPlace { at: mvex_at + at + 4, is_long, is_of_track: false });
                }
                b"free" if bytes.len() == 12 => self.length_at = Some(mvex_at + at - 8),
                b"trex" => self.defaults = Defaults::read(bytes)?,
                _ => {}
            }
        }
        Some(())
    }
}

/// Returns the place of a duration, at `long` bytes in version 1 and at `short` in version 0.
fn duration(bytes: &[u8], at: usize, long: usize, short: usize, is_of_track: bool) -> Option<DurationPlace> {
    let is_long = bytes.first()? & 1 == 1;
    let (place, size) = if is_long { (long, 8) } else { (short, 4) };
    (bytes.len() >= place + size).then_some(DurationPlace { at: at + place, is_long, is_of_track })
}

/// The frames of a fragment, in ticks of the track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// When the last frame ends.
    pub(super) end: u64,
    /// The first key frame: when it is shown, and its number from 1.
    pub(super) key: Option<(u64, u32)>,
}

impl Frames {
    /// Reads the content of `moof`.
    pub(super) fn read(moof: &[u8], defaults: Defaults) -> Option<Self> {
        let (mut number, mut found) = (0, Self::default());
        found.end = each_frame(moof, 0, None, defaults, |frame| {
            number += 1;
            if found.key.is_none() && is_key(frame.flags) {
                found.key = Some((frame.shown, number));
            }
        })?;
        Some(found).filter(|_| number > 0)
    }
}

/// A frame of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentFrame {
    /// When it is shown, in ticks of the track.
    pub(crate) shown: u64,
    /// Where its bytes are in the file.
    pub(crate) at: u64,
    pub(crate) bytes: u32,
    flags: u32,
}

/// Reads the content of the `moof` at `moof_at`: the frames of this track, or of the first one (8.8.7, 8.8.8, 8.8.12).
/// Returns when the last frame ends.
pub(crate) fn each_frame(
    moof: &[u8],
    moof_at: u64,
    track: Option<u32>,
    mut defaults: Defaults,
    mut visit: impl FnMut(FragmentFrame),
) -> Option<u64> {
    let is_wanted = |traf: &[u8]| {
        let tfhd = || children(traf).find(|(name, ..)| name == b"tfhd");
        track.map_or(true, |track| tfhd().and_then(|(_, _, bytes)| u32_at(bytes, 4)) == Some(track))
    };
    let (_, _, traf) = children(moof).find(|(name, _, traf)| name == b"traf" && is_wanted(traf))?;
    let mut run = Run { time: 0, number: 0, base: moof_at, at: moof_at };
    for (name, _, bytes) in children(traf) {
        match &name {
            b"tfhd" => {
                let flags = u32_at(bytes, 0)?;
                if flags & 1 != 0 {
                    (run.base, run.at) = (u64_at(bytes, 8)?, u64_at(bytes, 8)?);
                }
                // The position, the description, then duration, size and flags.
                let mut at = 8 + if flags & 1 != 0 { 8 } else { 0 } + if flags & 2 != 0 { 4 } else { 0 };
                for (flag, field) in [(8, &mut defaults.duration), (16, &mut defaults.bytes), (32, &mut defaults.flags)]
                {
                    if flags & flag != 0 {
                        *field = u32_at(bytes, at)?;
                        at += 4;
                    }
                }
            }
            b"tfdt" if bytes.first()? & 1 == 1 => run.time = u64_at(bytes, 4)?,
            b"tfdt" => run.time = u32_at(bytes, 4)?.into(),
            b"trun" => run.read(bytes, defaults, &mut visit)?,
            _ => {}
        }
    }
    Some(run.time)
}

/// What a run of frames continues.
struct Run {
    time: u64,
    number: u32,
    /// What positions in the fragment count from.
    base: u64,
    /// Where the next frame is.
    at: u64,
}

impl Run {
    fn read(&mut self, trun: &[u8], defaults: Defaults, visit: &mut impl FnMut(FragmentFrame)) -> Option<()> {
        let (flags, count) = (u32_at(trun, 0)?, u32_at(trun, 4)?);
        let mut at = 8;
        if flags & 1 != 0 {
            self.at = self.base.saturating_add_signed(i64::from(u32_at(trun, at)? as i32));
            at += 4;
        }
        let mut first_flags = None;
        if flags & 4 != 0 {
            first_flags = Some(u32_at(trun, at)?);
            at += 4;
        }
        for i in 0..count {
            let mut field = |flag: u32| -> Option<Option<u32>> {
                if flags & flag == 0 {
                    return Some(None);
                }
                at += 4;
                u32_at(trun, at - 4).map(Some)
            };
            let (duration, bytes, own, shift) = (field(0x100)?, field(0x200)?, field(0x400)?, field(0x800)?);
            self.number = self.number.checked_add(1)?;
            if flags & 0xf00 == 0 && self.number > MOST_FRAMES {
                return None;
            }
            let own = own.or(first_flags.filter(|_| i == 0)).unwrap_or(defaults.flags);
            let shown = self.time.saturating_add_signed(i64::from(shift.unwrap_or(0) as i32));
            let bytes = bytes.unwrap_or(defaults.bytes);
            visit(FragmentFrame { shown, at: self.at, bytes, flags: own });
            self.at = self.at.saturating_add(bytes.into());
            self.time = self.time.checked_add(duration.unwrap_or(defaults.duration).into())?;
        }
        Some(())
    }
}

/// The most frames of a fragment that says nothing of each. Coded pictures differ in size, so there are hardly any.
const MOST_FRAMES: u32 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::super::fragment::{decode_times, header, LastFrame, Sample};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_of_a_fragment_are_read_as_they_were_written() {
        let samples: Vec<Sample> =
            [(300, false), (900, true), (600, false)].map(|(time, is_key)| Sample { bytes: 5, time, is_key }).into();
        let mut out = Vec::new();
        header(&mut out, 1, &samples, &decode_times(&samples, 0, LastFrame::Lasts(200)), |_| 4096);
        assert_eq!(Frames::read(&out[8..], Defaults::default()), Some(Frames { end: 1100, key: Some((900, 2)) }));
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse(&bytes, 3, 200), Movie::read(&bytes), Frames::read(&bytes, Defaults::default()));
        }

        #[test]
        fn damaged_header_is_read_or_refused(at in 0usize..136, byte: u8) {
            let samples = [Sample { bytes: 5, time: 0, is_key: true }; 3];
            let mut out = Vec::new();
            header(&mut out, 1, &samples, &decode_times(&samples, 0, LastFrame::Lasts(1)), |_| 4096);
            out[at] = byte;
            let _ = Frames::read(&out[8..], Defaults::default());
        }
    }
}
