//! Finishes files that a crash has left.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::ebml::{long_size, Elements};
use super::header::{seek_head, SEEK_HEAD_BYTES};
use super::read::{block, element, number, Element};
use super::writer::{cues, CUE_MS};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::container::{find, reopen, Repaired};

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114d_9b74;
const INFO: u32 = 0x1549_a966;
const TRACKS: u32 = 0x1654_ae6b;
const CLUSTER: u32 = 0x1f43_b675;
const CUES: u32 = 0x1c53_bb6b;
const VOID: u32 = 0xec;
const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK_GROUP: u32 = 0xa0;
/// Chapters, tags and attachments.
const OTHERS: [u32; 3] = [0x1043_a770, 0x1254_c367, 0x1941_a469];
/// The children of a cluster: blocks, time, position, previous size, silent tracks, encrypted block, checksum, void.
const OF_CLUSTERS: [u32; 9] = [SIMPLE_BLOCK, BLOCK_GROUP, 0xe7, 0xa7, 0xab, 0x5854, 0xaf, 0xbf, VOID];

/// Writes the index and the duration into a file whose writer did not finish it, for example because of a power
/// failure. Half a packet at its end is removed. Players can then seek in the file. Returns `None`, and leaves the file
/// as it is, if it is finished or holds no
/// frame of a video track.
///
/// The file is changed in place, and can be played at every moment. A repair that is interrupted can be repeated. Only
/// the starts of the clusters and the last ones are read, so the cost depends on the number of clusters: one `pread` or
/// two for each. Files of other writers can be repaired too, if they have room for the duration and for the position of
/// the index, as ffmpeg's do.
///
/// A [`Recorder`](crate::sink::recorder::Recorder) repairs its latest file when it starts.
///
/// ```
/// use framelease::sink::matroska;
/// # use framelease::bitstream::Codec;
/// # use framelease::format::Size;
/// # use framelease::frame::{Packet, PacketMeta};
/// # let path = std::env::temp_dir().join(format!("framelease-repair-{}.mkv", std::process::id()));
/// # let mut writer = matroska::Writer::create(&path, Default::default())?;
/// # for i in 0..2 {
/// #     let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), i, i * 40_000_000);
/// #     let _ = writer.write(&Packet::new(meta, vec![0x10, 0, 0], None))?;
/// # }
/// # drop(writer); // The power fails.
///
/// if let Some(repaired) = matroska::repair(&path)? {
///     println!("{:?} long, {} bytes removed", repaired.duration, repaired.removed_bytes);
/// }
/// assert_eq!(matroska::repair(&path)?, None); // It is finished now.
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// # Errors
/// `WrongFile` if the file is not a Matroska file. `Busy` while a [`Writer`](super::Writer) or another repair has the
/// file open. `Unsupported` if the file has no room for the duration or the position of the index, and is unchanged.
/// Errors of `open` and of the reads and writes, such as `PermissionDenied` and `Exhausted`.
pub fn repair(path: impl AsRef<Path>) -> Result<Option<Repaired>> {
    let path = path.as_ref();
    let file = reopen(path)?;
    let found = look(&file).map_err(|why| why.into_error(path))?;
    let Some(found) = found else { return Ok(None) };
    found.finish(&file).map(Some).map_err(|e| Error::io("write", &e).on(path.display()))
}

/// Why a file cannot be repaired.
enum Why {
    Read(io::Error),
    Is(ErrorKind, &'static str),
}

impl Why {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Read(e) => Error::io("read", &e),
            Self::Is(kind, text) => Error::new(kind, "repair", text),
        }
        .on(path.display())
    }
}

impl From<io::Error> for Why {
    fn from(e: io::Error) -> Self {
        Self::Read(e)
    }
}

/// A place that can be overwritten: position and bytes.
type Place = (u64, u64);

/// The content of a file, as far as it was read.
struct Scan {
    length: u64,
    segment: Element,
    /// Where the segment's header ends in the form of a seek head and Voids, from its start.
    front: u64,
    info: Option<(u64, Info)>,
    track: Option<(u64, Track)>,
    has_index: bool,
    cues: Vec<(u64, u64)>,
    /// The last two clusters.
    clusters: Vec<Cluster>,
    /// Where the last complete element ends.
    end: u64,
}

/// What a file that was not finished needs.
struct Found {
    length: u64,
    segment: Element,
    front: Place,
    info_at: u64,
    tracks_at: u64,
    duration: Place,
    /// Nanoseconds of a tick.
    scale: u64,
    /// The time of the last frame and how long it is shown, in ticks.
    last: u64,
    step: u64,
    cues: Vec<(u64, u64)>,
    /// The last cluster and its end, if its size is wrong.
    open: Option<(Element, u64)>,
    end: u64,
}

#[derive(Default)]
struct Track {
    number: u64,
    /// Nanoseconds between frames.
    interval: u64,
}

impl Scan {
    /// Reads a file. `None` if it is finished.
    fn of(file: &File, segment: Element, length: u64) -> io::Result<Option<Self>> {
        let is_whole = segment.end().is_some_and(|end| end <= length);
        let (front, end) = (segment.body, segment.body);
        let (info, track, cues, clusters) = (None, None, Vec::new(), Vec::new());
        let mut scan = Self { length, segment, front, info, track, has_index: false, cues, clusters, end };
        let mut at = segment.body;
        while at < length {
            let after = match element(file, at)? {
                Some(child) => scan.visit(file, child)?,
                None => None,
            };
            // After bytes that are not an element, players look for the next cluster.
            if is_whole && scan.has_index {
                return Ok(None);
            }
            let Some(next) = after.map_or_else(|| next_cluster(file, at + 1), |after| Ok(Some(after)))? else {
                break;
            };
            at = next;
        }
        Ok(Some(scan))
    }

    /// Reads an element. Returns where it ends, or `None` if it is cut or is not one.
    fn visit(&mut self, file: &File, child: Element) -> io::Result<Option<u64>> {
        if child.id == CLUSTER {
            return self.visit_cluster(file, child);
        }
        let Some(after) = child.end().filter(|&after| after <= self.length) else { return Ok(None) };
        match child.id {
            SEEK_HEAD => self.has_index = names_cues(file, &child)?,
            INFO => self.info = Some((child.at, Info::read(file, &child)?)),
            TRACKS => self.track = Track::read(file, &child)?.map(|track| (child.at, track)),
            // It is written again.
            CUES => return Ok(Some(after)),
            VOID => {}
            id if OTHERS.contains(&id) => {}
            _ => return Ok(None),
        }
        if [SEEK_HEAD, VOID].contains(&child.id) && self.front == child.at {
            self.front = after;
        }
        self.end = after;
        Ok(Some(after))
    }

    fn visit_cluster(&mut self, file: &File, child: Element) -> io::Result<Option<u64>> {
        let (Some((_, info)), Some((_, track))) = (&self.info, &self.track) else { return Ok(None) };
        let cluster = Cluster::read(file, child, track.number, self.length)?;
        if !cluster.has_frame {
            // What was read of it is not read again.
            return Ok(Some(cluster.end).filter(|&end| end > child.body));
        }
        let spacing = CUE_MS * 1_000_000 / info.scale;
        let is_due = self.cues.last().map_or(true, |&(last, _)| cluster.first >= last.saturating_add(spacing));
        if cluster.has_key && is_due {
            self.cues.push((cluster.first, child.at - self.segment.body));
        }
        self.end = cluster.end;
        self.clusters.push(cluster);
        if self.clusters.len() > 2 {
            self.clusters.remove(0);
        }
        Ok(Some(self.end))
    }

    /// Returns what the file needs. `None` if it holds no frame.
    fn found(self, file: &File) -> std::result::Result<Option<Found>, Why> {
        let Some(last_cluster) = self.clusters.last() else { return Ok(None) };
        let (Some((info_at, info)), Some((tracks_at, track))) = (self.info, self.track) else { return Ok(None) };
        let (mut times, mut read_to) = (Vec::new(), 0);
        for cluster in &self.clusters {
            read_to = cluster.times(file, track.number, &mut times)?;
        }
        // Zeros may be in the place of the last blocks.
        let is_damaged = read_to < last_cluster.end && self.end == last_cluster.end;
        let end = if is_damaged { read_to } else { self.end };
        times.sort_unstable();
        times.dedup();
        let last = times.last().copied().unwrap_or(last_cluster.first);
        let between = times.len().checked_sub(2).map_or(0, |at| last - times[at]);
        let step = if track.interval > 0 { track.interval / info.scale } else { between };
        let front = (self.segment.body, self.front - self.segment.body);
        let (true, Some(duration)) = (fits(front.1), info.duration) else {
            let text = "the file has no room for the duration, or for the position of the index";
            return Err(Why::Is(ErrorKind::Unsupported, text));
        };
        let own_end = if is_damaged { read_to } else { last_cluster.end };
        let open = Some((last_cluster.element, own_end)).filter(|_| last_cluster.is_open || is_damaged);
        let Self { length, segment, cues, .. } = self;
        let scale = info.scale;
        Ok(Some(Found { length, segment, front, info_at, tracks_at, duration, scale, last, step, cues, open, end }))
    }
}

/// Looks for what a file needs. `None` if nothing is to be done.
fn look(file: &File) -> std::result::Result<Option<Found>, Why> {
    let length = file.metadata()?.len();
    let Some(head) = element(file, 0)?.filter(|e| e.id == EBML) else {
        let is_not = Why::Is(ErrorKind::WrongFile, "not a Matroska file");
        return if length == 0 { Ok(None) } else { Err(is_not) };
    };
    let segment = element(file, head.end().unwrap_or(u64::MAX))?;
    let Some(segment) = segment.filter(|e| e.id == SEGMENT) else { return Ok(None) };
    match Scan::of(file, segment, length)? {
        Some(scan) => scan.found(file),
        None => Ok(None),
    }
}

impl Found {
    /// Writes everything, the position of the index last: then the file is finished.
    fn finish(self, file: &File) -> io::Result<Repaired> {
        if self.end < self.length {
            file.set_len(self.end)?;
        }
        if let Some((cluster, end)) = self.open {
            patch_size(file, &cluster, end)?;
        }
        let cues = cues(&self.cues);
        file.write_all_at(&cues, self.end)?;
        let end = self.end + cues.len() as u64;
        let ticks = self.last.saturating_add(self.step);
        let (at, bytes) = self.duration;
        file.write_all_at(&filled(Elements::default().float(0x4489, ticks as f64).0, bytes), at)?;
        patch_size(file, &self.segment, end)?;
        let seek = seek_head(self.segment.body, self.info_at, self.tracks_at, self.end);
        file.write_all_at(&filled(seek, self.front.1), self.front.0)?;
        file.sync_data()?;
        let duration = Duration::from_nanos(ticks.saturating_mul(self.scale));
        Ok(Repaired { bytes: end, removed_bytes: self.length - self.end, duration })
    }
}

/// Looks for a cluster from `at` on. The bytes before it are damaged.
fn next_cluster(file: &File, at: u64) -> io::Result<Option<u64>> {
    find(file, at, CLUSTER.to_be_bytes(), |at| {
        let first = element(file, at)?.map_or(Ok(None), |cluster| element(file, cluster.body))?;
        Ok(first.is_some_and(|child| OF_CLUSTERS.contains(&child.id)))
    })
}

/// Returns `true` if a seek head can be at a place of this size: exactly, or with a Void after it.
fn fits(bytes: u64) -> bool {
    bytes == SEEK_HEAD_BYTES as u64 || bytes >= SEEK_HEAD_BYTES as u64 + 2
}

/// Adds the head of a Void up to this many bytes. Its content stays as it is.
fn filled(element: Vec<u8>, bytes: u64) -> Vec<u8> {
    match bytes.saturating_sub(element.len() as u64) {
        0 => element,
        rest => Elements(element).void_head(rest).0,
    }
}

/// Writes the size of an element that ends at `end`. If its form has no room, the size stays as it is.
fn patch_size(file: &File, element: &Element, end: u64) -> io::Result<()> {
    let bytes = usize::from(element.size_bytes);
    let size = end - element.body;
    if size >= (1 << (7 * bytes)) - 1 {
        return Ok(());
    }
    let mut all = long_size(size);
    all[8 - bytes] |= if bytes < 8 { 0x80 >> (bytes - 1) } else { 0 };
    file.write_all_at(&all[8 - bytes..], element.body - bytes as u64)
}

/// The most children of one element that are read: those of tracks and headers.
const MOST_CHILDREN: usize = 4096;

/// Returns the children of an element that has a size.
fn children(file: &File, parent: &Element) -> io::Result<Vec<Element>> {
    let mut all = Vec::new();
    let (mut at, end) = (parent.body, parent.end().unwrap_or(parent.body));
    while at < end && all.len() < MOST_CHILDREN {
        let Some(child) = element(file, at)? else { break };
        let Some(after) = child.end().filter(|&after| after <= end) else { break };
        all.push(child);
        at = after;
    }
    Ok(all)
}

/// Returns `true` if a seek head names an index.
fn names_cues(file: &File, seek_head: &Element) -> io::Result<bool> {
    for seek in children(file, seek_head)? {
        for child in children(file, &seek)? {
            if child.id == 0x53ab && number(file, &child)? == Some(CUES.into()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

struct Info {
    scale: u64,
    duration: Option<Place>,
}

impl Info {
    fn read(file: &File, info: &Element) -> io::Result<Self> {
        let mut found = Self { scale: 1_000_000, duration: None };
        for child in children(file, info)? {
            let place = (child.at, child.end().unwrap_or(child.at) - child.at);
            match child.id {
                0x2a_d7b1 => found.scale = number(file, &child)?.filter(|&scale| scale > 0).unwrap_or(found.scale),
                // With a float of eight bytes, or a Void of that length.
                0x4489 | VOID if place.1 == 11 => found.duration = Some(place),
                VOID if place.1 >= 13 && found.duration.is_none() => found.duration = Some(place),
                _ => {}
            }
        }
        Ok(found)
    }
}

impl Track {
    /// Returns the first video track.
    fn read(file: &File, tracks: &Element) -> io::Result<Option<Self>> {
        for entry in children(file, tracks)?.into_iter().filter(|entry| entry.id == 0xae) {
            let (mut found, mut is_video) = (Self::default(), false);
            for child in children(file, &entry)? {
                match child.id {
                    0xd7 => found.number = number(file, &child)?.unwrap_or(0),
                    0x83 => is_video = number(file, &child)? == Some(1),
                    0x23_e383 => found.interval = number(file, &child)?.unwrap_or(0),
                    _ => {}
                }
            }
            if is_video {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

struct Cluster {
    element: Element,
    time: u64,
    /// The time of its first frame of the track.
    first: u64,
    has_frame: bool,
    has_key: bool,
    /// Where its last complete child ends.
    end: u64,
    /// Its size is unknown, or it is cut.
    is_open: bool,
}

impl Cluster {
    /// Reads the start of a complete cluster, or all of the starts of blocks in another.
    fn read(file: &File, cluster: Element, track: u64, length: u64) -> io::Result<Self> {
        let whole = cluster.end().filter(|&end| end <= length);
        let is_open = whole.is_none();
        let mut found = Self { element: cluster, time: 0, first: 0, has_frame: false, has_key: false, end: 0, is_open };
        let mut at = cluster.body;
        while let Some((child, after)) = child_of_cluster(file, at, whole.unwrap_or(length))? {
            if child.id == 0xe7 {
                found.time = number(file, &child)?.unwrap_or(0);
            }
            if let Some((time, is_key)) = frame(file, &child, track)?.filter(|_| !found.has_frame) {
                (found.first, found.has_key) = (found.time.saturating_add_signed(time.into()), is_key);
                found.has_frame = true;
                if whole.is_some() {
                    break;
                }
            }
            at = after;
        }
        found.end = whole.unwrap_or(at);
        Ok(found)
    }

    /// Adds the times of all frames. Returns where the last complete child ends.
    fn times(&self, file: &File, track: u64, times: &mut Vec<u64>) -> io::Result<u64> {
        let mut at = self.element.body;
        while let Some((child, after)) = child_of_cluster(file, at, self.end)? {
            if let Some((time, _)) = frame(file, &child, track)? {
                times.push(self.time.saturating_add_signed(time.into()));
            }
            at = after;
        }
        Ok(at)
    }
}

/// Returns the child at `at` and its end, if it is complete and may be in a cluster.
fn child_of_cluster(file: &File, at: u64, end: u64) -> io::Result<Option<(Element, u64)>> {
    let Some(child) = element(file, at)?.filter(|child| OF_CLUSTERS.contains(&child.id)) else { return Ok(None) };
    Ok(child.end().filter(|&after| after <= end).map(|after| (child, after)))
}

/// Returns the time of a frame after that of its cluster, and whether it is a key frame.
fn frame(file: &File, child: &Element, track: u64) -> io::Result<Option<(i16, bool)>> {
    let (block_at, is_simple) = match child.id {
        SIMPLE_BLOCK => (Some(*child), true),
        BLOCK_GROUP => (children(file, child)?.into_iter().find(|e| e.id == 0xa1), false),
        _ => (None, false),
    };
    let Some(block) = block_at.map(|e| block(file, &e)).transpose()?.flatten() else { return Ok(None) };
    // A group with a reference is not a key frame.
    let is_key = match is_simple {
        true => block.is_key,
        false => !children(file, child)?.iter().any(|e| e.id == 0xfb),
    };
    Ok(Some((block.relative, is_key)).filter(|_| block.track == track))
}
