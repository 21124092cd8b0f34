//! Finishes files that a crash has left.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::boxes::{Boxes, Fields};
use super::index::{index, Entry};
use super::read::{content, head, Frames, Head, Movie};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::container::{find, reopen, Repaired};

/// The shortest time between two entries of the index is a part of a second.
const ENTRIES_A_SECOND: u64 = 4;

/// Writes the index and the duration into a fragmented file whose writer did not finish it, for example because of a
/// power failure. What follows the last complete fragment is removed: the frames of the last second at most. Returns
/// `None`, and leaves the file as it is, if it is finished, holds no frame, or has no fragments.
///
/// The file is changed in place. A repair that is interrupted can be repeated. Only the headers are read: two `pread`s
/// for each box. Files of other writers can be repaired too, if video is their only track.
///
/// A [`Recorder`](crate::sink::recorder::Recorder) repairs its latest file when it starts.
///
/// ```
/// use framelease::sink::mp4;
///
/// # let path = std::env::temp_dir().join(format!("framelease-repair-{}.mp4", std::process::id()));
/// # std::fs::write(&path, []).unwrap();
/// if let Some(repaired) = mp4::repair(&path)? {
///     println!("{:?} long, {} bytes removed", repaired.duration, repaired.removed_bytes);
/// }
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// # Errors
/// `WrongFile` if the file is not an MP4 file. `Busy` while a [`Writer`](super::Writer) or another repair has the file
/// open. `Unsupported` if there are other tracks. Errors of `open` and of the reads and writes, such as
/// `PermissionDenied` and `Exhausted`.
pub fn repair(path: impl AsRef<Path>) -> Result<Option<Repaired>> {
    let path = path.as_ref();
    let file = reopen(path)?;
    let found = Found::look(&file).map_err(|e| Error::io("read", &e).on(path.display()))?;
    match found {
        Look::Whole => Ok(None),
        Look::IsNot(kind, text) => Err(Error::new(kind, "repair", text).on(path.display())),
        Look::Found(found) => found.finish(&file).map(Some).map_err(|e| Error::io("write", &e).on(path.display())),
    }
}

/// What a look at a file gives.
enum Look {
    /// Nothing is to be done.
    Whole,
    IsNot(ErrorKind, &'static str),
    Found(Box<Found>),
}

/// The content of a file that was not finished.
struct Found {
    length: u64,
    /// Where the content of `moov` begins.
    movie_at: u64,
    movie: Movie,
    entries: Vec<Entry>,
    /// When the last frame ends, in ticks of the track.
    last: u64,
    /// Bytes between fragments that are not boxes.
    gaps: Vec<(u64, u64)>,
    /// Where the last complete fragment ends.
    end: u64,
}

impl Found {
    fn look(file: &File) -> io::Result<Look> {
        let length = file.metadata()?.len();
        if length == 0 || has_index(file, length)? {
            return Ok(Look::Whole);
        }
        let Some(first) = head(file, 0, length)?.filter(|head| &head.name == b"ftyp") else {
            return Ok(Look::IsNot(ErrorKind::WrongFile, "not an MP4 file"));
        };
        let mut found: Option<Self> = None;
        let (mut at, mut fragment) = (first.end, None::<(Head, Frames)>);
        while at < length {
            let next = head(file, at, length)?.filter(|head| head.end <= length && head.end > at);
            let Some(next) = next else {
                let Some(found) = found.as_mut() else { break };
                // After bytes that are not a box, look for the next fragment.
                let Some(after) = next_fragment(file, at + 1, length)? else { break };
                found.gaps.push((at, after));
                (at, fragment) = (after, None);
                continue;
            };
            match (&next.name, &mut found) {
                (b"moov", None) => {
                    let Some(movie) = content(file, &next)?.and_then(|moov| Movie::read(&moov)) else { break };
                    if !movie.has_fragments {
                        return Ok(Look::Whole);
                    }
                    if movie.tracks != 1 || !movie.is_video || movie.track_ticks == 0 || movie.movie_ticks == 0 {
                        return Ok(Look::IsNot(ErrorKind::Unsupported, "there are tracks other than one of video"));
                    }
                    let (entries, gaps, movie_at) = (Vec::new(), Vec::new(), next.body);
                    found = Some(Self { length, movie_at, movie, entries, last: 0, gaps, end: next.end });
                }
                (b"moof", Some(found)) => {
                    let frames = content(file, &next)?.and_then(|moof| Frames::read(&moof, found.movie.defaults));
                    fragment = frames.map(|frames| (next, frames));
                }
                (b"mdat", Some(found)) => {
                    if let Some((moof, frames)) = fragment.take() {
                        found.add(&moof, frames, next.end);
                    }
                }
                _ => {}
            }
            at = next.end;
        }
        let found = found.filter(|found| found.last > 0);
        Ok(found.map_or(Look::Whole, |found| Look::Found(Box::new(found))))
    }

    fn add(&mut self, moof: &Head, frames: Frames, end: u64) {
        (self.last, self.end) = (self.last.max(frames.end), end);
        let Some((time, number)) = frames.key else { return };
        let spacing = u64::from(self.movie.track_ticks) / ENTRIES_A_SECOND;
        if self.entries.last().map_or(true, |last| time >= last.time.saturating_add(spacing)) {
            self.entries.push(Entry { time, fragment_at: moof.at, number });
        }
    }

    /// Writes everything, the index last: then the file is finished.
    fn finish(self, file: &File) -> io::Result<Repaired> {
        if self.end < self.length {
            file.set_len(self.end)?;
        }
        // Players read box by box.
        for &(at, end) in self.gaps.iter().filter(|(at, end)| end - at >= 8 && *end <= self.end) {
            let bytes = u32::try_from(end - at).unwrap_or(u32::MAX);
            file.write_all_at(&[&bytes.to_be_bytes()[..], b"free"].concat(), at)?;
        }
        let movie = &self.movie;
        let of_movie = u128::from(self.last) * u128::from(movie.movie_ticks) / u128::from(movie.track_ticks);
        let of_movie = u64::try_from(of_movie).unwrap_or(u64::MAX);
        for place in &movie.durations {
            let ticks = if place.is_of_track { self.last } else { of_movie };
            let at = self.movie_at + place.at as u64;
            match place.is_long {
                true => file.write_all_at(&ticks.to_be_bytes(), at)?,
                false => file.write_all_at(&u32::try_from(ticks).unwrap_or(u32::MAX).to_be_bytes(), at)?,
            }
        }
        if let Some(at) = movie.length_at {
            let length = Boxes::default().full(b"mehd", 1, 0, Fields::default().u64(of_movie));
            file.write_all_at(&length.0, self.movie_at + at as u64)?;
        }
        let index = index(&self.entries, movie.track);
        file.write_all_at(&index, self.end)?;
        file.sync_data()?;
        let nanos = u128::from(self.last) * 1_000_000_000 / u128::from(movie.track_ticks);
        Ok(Repaired {
            bytes: self.end + index.len() as u64,
            removed_bytes: self.length - self.end,
            duration: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        })
    }
}

/// Returns `true` if the file ends with an index, whose last box names its size.
fn has_index(file: &File, length: u64) -> io::Result<bool> {
    let Some(mfro) = head(file, length.saturating_sub(16), length)?.filter(|head| &head.name == b"mfro") else {
        return Ok(false);
    };
    let size = content(file, &mfro)?.and_then(|bytes| Some(u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?)));
    let at = length.saturating_sub(size.unwrap_or(0).into());
    Ok(head(file, at, length)?.is_some_and(|head| &head.name == b"mfra" && head.end == length))
}

/// Looks for a fragment from `at` on. The bytes before it are damaged.
fn next_fragment(file: &File, at: u64, length: u64) -> io::Result<Option<u64>> {
    let named = find(file, at + 4, *b"moof", |at| {
        let moof = head(file, at - 4, length)?.filter(|moof| moof.end <= length);
        let first = moof.map_or(Ok(None), |moof| head(file, moof.body, length))?;
        Ok(first.is_some_and(|first| &first.name == b"mfhd"))
    })?;
    Ok(named.map(|at| at - 4))
}
