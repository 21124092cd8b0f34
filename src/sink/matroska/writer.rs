//! Writes one file or stream.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::codec::{is_progressive, private};
use super::ebml::{long_size, Elements, UNKNOWN_SIZE};
use super::output::{Output, Pipe};
use crate::bitstream::{nal_units, Codec, NalKind, NalUnit, ParameterSets};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ColorSpace, Colorimetry, Encoding, FormatKind, FrameInterval, Range, Size, Transfer};
use crate::frame::{AdvancingTime, FrameFlags, Packet};
use crate::sys::clock::monotonic_ns;

/// The shortest time between two entries of the index.
const CUE_MS: u64 = 250;
/// The age at which a cluster ends without a key frame.
const CLUSTER_MS: u64 = 5000;
/// The most frames that an open GOP shows before its first one: as many as a decoder reorders.
const MOST_LEADING: u32 = 16;
/// The longest distance of a packet to the one before, where the source's clock has gone back.
const LONGEST_STEP_MS: u64 = 1000;
/// How much earlier than its duration a file ends at most.
const MOST_EARLY: Duration = Duration::from_millis(50);
/// The bytes reserved for the seek head: its own header and three entries of 21 bytes.
const SEEK_HEAD_BYTES: usize = 68;
const DURATION_BYTES: usize = 11;

/// When a file's data is written to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fsync {
    /// The data is not synchronized: the kernel writes it later. This is the default.
    #[default]
    Never,
    /// The data is synchronized at the end of every cluster, usually before a key frame. The writer then calls
    /// `fdatasync`, which waits for the disk.
    Clusters,
}

/// Options of a [`Writer`] or a [`Recorder`](super::Recorder).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterOptions {
    /// The usual time between frames. Players use it to show the frame rate. It is also the duration of the last frame.
    /// The real intervals may vary, because every packet has its own timestamp. Default: none.
    pub interval: Option<FrameInterval>,
    /// The colorimetry of the pictures. Default: none is stored.
    pub colorimetry: Option<Colorimetry>,
    /// When the data is written to the disk. Default: [`Fsync::Never`].
    pub fsync: Fsync,
    /// The longest time that one call may block on a pipe or device. Default 5 s. Ignored for regular files and
    /// [`Writer::live`].
    pub write_timeout: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { interval: None, colorimetry: None, fsync: Fsync::default(), write_timeout: Duration::from_secs(5) }
    }
}

impl WriterOptions {
    /// Sets the frame interval.
    pub fn interval(self, interval: FrameInterval) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// Sets the colorimetry of the pictures.
    pub fn colorimetry(self, colorimetry: Colorimetry) -> Self {
        Self { colorimetry: Some(colorimetry), ..self }
    }

    /// Sets when data must be on the disk.
    pub fn fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Sets the longest time that one call may block on a pipe or device.
    pub fn write_timeout(self, write_timeout: Duration) -> Self {
        Self { write_timeout, ..self }
    }
}

/// Whether a packet was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// The packet is in the file.
    Stored,
    /// The packet was not written, because it is empty, because the file still waits for its first undamaged key frame,
    /// or because it is shown before that frame. Such a frame of an open GOP needs frames before the file.
    Skipped,
    /// The packet was not written, because its codec, size or parameter sets differ from those of the file. The packet
    /// needs another file. Other picture parameter sets (PPS) need none if the packet contains them.
    OtherStream,
}

/// The counts of a finished file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Packets in the file.
    pub packets: u64,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The time from the first frame to the end of the last frame.
    pub duration: Duration,
}

/// The stream that the track's header describes.
struct Track {
    codec: Codec,
    size: Size,
    parameters: Option<Arc<ParameterSets>>,
    /// The sets in force: the header's, or others that came in a block.
    latest: Option<Arc<ParameterSets>>,
    first_ns: u64,
}

struct Cluster {
    /// The position of the cluster's size.
    size_at: u64,
    time_ms: u64,
    /// The earliest time of a block: that of the latest block in the clusters before, if an i16 can express it.
    floor_ms: u64,
    /// It begins with an intact key frame.
    has_key: bool,
}

/// Writes packets to a Matroska file or stream. The first key frame writes the header.
///
/// For H.264 and H.265, lengths replace the start codes, and the first key frame's parameter sets go into the header.
/// Parameter sets between key frames are left out if they equal those in the header, until a different set has
/// appeared. A damaged packet ([`FrameFlags::ERROR`](crate::frame::FrameFlags::ERROR)) is stored as it is, but it does
/// not begin a file.
///
/// Timestamps are milliseconds since the first frame. Packets come in the order of decoding, so the times of a stream
/// with B-frames go back between key frames. A packet that is earlier than its cluster permits means that the source's
/// clock has gone back: this packet follows the latest one, and later packets keep their distance to it.
///
/// A packet costs one `writev`, no copy and no allocation; a cluster costs two `write`s.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::format::Size;
/// use framelease::frame::{Packet, PacketMeta};
/// use framelease::sink::matroska::{Writer, WriterOptions};
///
/// # let path = std::env::temp_dir().join(format!("framelease-writer-{}.mkv", std::process::id()));
/// # let idr: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0xda, 2, 0x80, 0xf6, 0x40, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80,
/// #     0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0x33, 0xff];
/// let mut writer = Writer::create(&path, WriterOptions::default())?;
/// let meta = PacketMeta::new(Codec::H264, Size::new(640, 480), 0, 0);
/// let _ = writer.write(&Packet::new(meta, idr.to_vec(), None))?; // `idr` came from an encoder.
/// let summary = writer.finish()?;
/// assert_eq!(summary.packets, 1);
/// # let _ = std::fs::remove_file(path);
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Writer {
    out: Output,
    name: String,
    options: WriterOptions,
    track: Option<Track>,
    /// Blocks contain parameter sets that differ from the header's.
    has_other_sets: bool,
    /// The bytes of complete elements.
    end: u64,
    segment_at: u64,
    seek_head_at: u64,
    info_at: u64,
    tracks_at: u64,
    duration_at: u64,
    cluster: Option<Cluster>,
    /// For each key frame: its time, and its cluster's position in the segment.
    cues: Vec<(u64, u64)>,
    /// The latest time of all packets, and the step to it from the one before.
    last_ms: u64,
    step_ms: u64,
    /// Packets that are shown before the first one.
    leading: u32,
    /// The latest timestamp of all packets.
    last_ns: u64,
    time: AdvancingTime,
    /// By how much the source's clock has gone back.
    shift_ns: u64,
    packets: u64,
    /// The output ends with half an element: a stream, or a file that could not be cut.
    is_broken: bool,
}

impl Writer {
    /// Creates a file, or overwrites an existing one. If `path` is a pipe or a device, the writer writes a live stream.
    /// `create` itself does not block. A later write to the pipe or device blocks for at most
    /// [`WriterOptions::write_timeout`].
    ///
    /// # Errors
    /// Errors of `open`, such as `NotFound` and `PermissionDenied`. `Disconnected` for a pipe that no process has open
    /// for reading.
    pub fn create(path: impl AsRef<Path>, options: WriterOptions) -> Result<Self> {
        let path = path.as_ref();
        let file = open(path, OpenOptions::new().create(true).truncate(true))?;
        Self::of_file(file, path, options)
    }

    /// Writes to `file`, which must be an empty file or not block. `path` is for error texts.
    pub(super) fn of_file(file: File, path: &Path, options: WriterOptions) -> Result<Self> {
        let meta = file.metadata().map_err(|e| Error::io("fstat", &e).on(path.display()))?;
        let out = if meta.is_file() { Output::File(file) } else { Output::Pipe(Pipe::new(file)) };
        Ok(Self::new(out, path.display().to_string(), options))
    }

    /// Writes to a pipe or device, and keeps the bytes that its reader has not taken. Neither creates nor overwrites a
    /// file that is there instead.
    pub(super) fn of_pipe(path: &Path, options: WriterOptions) -> Result<Self> {
        let writer = Self::of_file(open(path, &mut OpenOptions::new())?, path, options)?;
        match writer.out {
            Output::Pipe(pipe) => Ok(Self { out: Output::Pipe(pipe.keeping()), ..writer }),
            _ => {
                let text = "a file has replaced the pipe or device that the recorder was made for";
                Err(Error::new(ErrorKind::WrongFile, "open", text).on(path.display()))
            }
        }
    }

    pub(super) fn pipe(&mut self) -> Option<&mut Pipe> {
        self.out.pipe()
    }

    /// Writes waiting bytes for the reader of a pipe, as far as it takes them.
    pub(super) fn write_waiting(&mut self) -> Result<()> {
        let done = self.out.pipe().map_or(Ok(()), Pipe::write_waiting);
        done.map_err(|e| self.failed("write", &e))
    }

    /// Creates a writer of a live stream, for instance to a socket or into memory. The stream's sizes and duration stay
    /// unknown.
    ///
    /// [`Writer::write`] blocks as long as `out` blocks. Set a write timeout on a socket
    /// ([`TcpStream::set_write_timeout`](std::net::TcpStream::set_write_timeout)).
    pub fn live(out: impl Write + Send + 'static, options: WriterOptions) -> Self {
        Self::new(Output::Stream(Box::new(out)), "live stream".into(), options)
    }

    pub(super) fn new(out: Output, name: String, options: WriterOptions) -> Self {
        Self {
            out,
            name,
            options,
            track: None,
            has_other_sets: false,
            end: 0,
            segment_at: 0,
            seek_head_at: 0,
            info_at: 0,
            tracks_at: 0,
            duration_at: 0,
            cluster: None,
            cues: Vec::new(),
            last_ms: 0,
            step_ms: 1,
            leading: 0,
            last_ns: 0,
            time: AdvancingTime::default(),
            shift_ns: 0,
            packets: 0,
            is_broken: false,
        }
    }

    /// Returns how many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Returns the time between the first and the latest packet.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.last_ms)
    }

    /// Returns the duration of a file that ends before this packet. Timestamps vary, so it is rounded up by half the
    /// time since the packet before.
    pub(super) fn duration_before(&self, packet: &Packet) -> Duration {
        let first_ns = self.track.as_ref().map_or(0, |track| track.first_ns);
        let time_ns = packet.meta().timestamp_ns.saturating_add(self.shift_ns).saturating_sub(first_ns);
        let time = Duration::from_nanos(time_ns);
        time.saturating_add((time.saturating_sub(self.duration()) / 2).min(MOST_EARLY))
    }

    /// Returns `true` if the packet is older than a packet in the file, which cannot express its time.
    pub(super) fn is_behind(&self, packet: &Packet) -> bool {
        packet.meta().timestamp_ns < self.last_ns
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// `Exhausted` on a full disk. `Disconnected` for a closed pipe. `Timeout` if the reader of a pipe took too little
    /// within [`WriterOptions::write_timeout`]. After these errors the packet is not in the file, and the file ends
    /// after the previous packet. The caller can finish the file, or write the packet again. A live stream cannot
    /// continue after such an error: later calls return `State`. `Unsupported` if Matroska has no name for the codec,
    /// or the parameter sets cannot be parsed. The text names the file.
    pub fn write(&mut self, packet: &Packet) -> Result<Written> {
        if self.is_broken {
            return Err(self.broken("write"));
        }
        if packet.picture().is_empty() {
            return Ok(Written::Skipped);
        }
        self.out.within(self.options.write_timeout);
        match &self.track {
            // Not decided by the header: the write after it may have failed.
            _ if self.packets == 0 && !begins_file(packet) => return Ok(Written::Skipped),
            None => self.begin(packet)?,
            Some(track) if !track.is_of(packet) => return Ok(Written::OtherStream),
            Some(_) => {}
        }
        let first_ns = self.track.as_ref().map_or(0, |t| t.first_ns);
        let is_leading = self.packets > 0 && self.last_ms == 0 && packet.meta().timestamp_ns < first_ns;
        if is_leading && self.leading < MOST_LEADING {
            self.leading += 1;
            return Ok(Written::Skipped);
        }
        let time_ms = self.time_ms(packet, first_ns);
        let relative = |cluster: &Cluster| i16::try_from(time_ms as i64 - cluster.time_ms as i64).ok();
        // In Motion JPEG, each frame is a key frame. Those that the index leaves out begin no cluster.
        let lasts = |c: &&Cluster| match packet.is_key() {
            true => c.has_key && time_ms < c.time_ms + CUE_MS,
            // The times of clusters never go back.
            false => time_ms < c.time_ms + CLUSTER_MS || time_ms <= self.last_ms,
        };
        let fits = self.cluster.as_ref().filter(lasts).and_then(relative);
        let relative = match fits {
            Some(relative) => relative,
            None => {
                self.begin_cluster(time_ms, begins_file(packet))?;
                if begins_file(packet) {
                    self.index(time_ms);
                }
                0
            }
        };
        self.block(packet, relative)?;
        if let Some(track) = self.track.as_mut().filter(|_| packet.carries_parameters()) {
            track.latest = packet.parameter_sets().cloned();
        }
        if time_ms > self.last_ms {
            self.step_ms = (time_ms - self.last_ms).min(LONGEST_STEP_MS);
            self.last_ms = time_ms;
        }
        self.last_ns = self.last_ns.max(packet.meta().timestamp_ns);
        self.packets += 1;
        Ok(Written::Stored)
    }

    /// Returns the time of a packet in the file.
    fn time_ms(&mut self, packet: &Packet, first_ns: u64) -> u64 {
        let time_ns = self.time.next(packet.meta().timestamp_ns, monotonic_ns());
        let time_ms = |shift_ns: u64| {
            let since_ns = time_ns.saturating_add(shift_ns).checked_sub(first_ns)?;
            Some(since_ns.saturating_add(500_000) / 1_000_000)
        };
        // No frame is shown after a key frame and decoded before it.
        let cluster = self.cluster.as_ref().filter(|_| !packet.is_key());
        let floor_ms = cluster.map_or(self.last_ms, |c| c.floor_ms);
        time_ms(self.shift_ns).filter(|&ms| ms >= floor_ms).unwrap_or_else(|| {
            let next_ns = (self.last_ms + self.step_ms).saturating_mul(1_000_000).saturating_add(first_ns);
            self.shift_ns = next_ns.saturating_sub(time_ns);
            time_ms(self.shift_ns).unwrap_or(self.last_ms).max(self.last_ms)
        })
    }

    /// Writes a SimpleBlock: track, time, flags, and the picture.
    fn block(&mut self, packet: &Packet, relative: i16) -> Result<()> {
        let codec = packet.meta().codec;
        let header = self.track.as_ref().and_then(|t| t.parameters.clone());
        let is_in_header = |unit: &NalUnit<'_>| header.as_ref().is_some_and(|h| h.contains(unit.data));
        if codec.has_nal_units() && !self.has_other_sets {
            let is_other = |unit: NalUnit<'_>| unit.kind(codec).is_parameters() && !is_in_header(&unit);
            self.has_other_sets = nal_units(packet.bytes()).any(is_other);
        }
        // A repeated set of the header puts it in force again after a different set. That set may also come later in
        // the file: decoders keep it when a player seeks back.
        let keeps_sets = self.has_other_sets || packet.is_key();
        let kept = |unit: &NalUnit<'_>| {
            let kind = unit.kind(codec);
            // Delimiters are not needed with lengths.
            !unit.data.is_empty()
                && kind != NalKind::Delimiter
                && (keeps_sets || !kind.is_parameters() || !is_in_header(unit))
        };
        let units = || nal_units(packet.bytes()).filter(&kept);
        let [high, low] = relative.to_be_bytes();
        let head = [0x81, high, low, if packet.is_key() { 0x80 } else { 0 }];
        if !codec.has_nal_units() {
            let size = long_size((head.len() + packet.bytes().len()) as u64);
            return self.append([&[0xa3][..], &size, &head, packet.bytes()].into_iter());
        }
        // The slices refer to the lengths until everything is written.
        let mut lengths = [[0; 4]; 64];
        let mut bytes = head.len() as u64;
        let mut count = 0;
        for unit in units() {
            bytes += 4 + unit.data.len() as u64;
            if let Some(length) = lengths.get_mut(count) {
                *length = u32::try_from(unit.data.len()).unwrap_or(u32::MAX).to_be_bytes();
            }
            count += 1;
        }
        let size = long_size(bytes);
        let front = [&[0xa3][..], &size, &head];
        if count <= lengths.len() {
            let body = lengths.iter().zip(units()).flat_map(|(length, unit)| [&length[..], unit.data]);
            return self.append(front.into_iter().chain(body));
        }
        // Pictures with more slices are rare, so this may allocate.
        let lengths: Vec<[u8; 4]> = units().map(|u| (u.data.len() as u32).to_be_bytes()).collect();
        let body = lengths.iter().zip(units()).flat_map(|(length, unit)| [&length[..], unit.data]);
        self.append(front.into_iter().chain(body))
    }

    /// Writes complete elements, or nothing.
    fn append<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut bytes = 0;
        let counted = slices.inspect(|s| bytes += s.len() as u64);
        let done = self.out.write(counted);
        if let Err(e) = done {
            self.is_broken = !self.out.cut(self.end);
            return Err(self.failed("write", &e));
        }
        self.end += bytes;
        Ok(())
    }

    fn broken(&self, op: &'static str) -> Error {
        Error::new(ErrorKind::State, op, "an earlier write failed in the middle").on(&self.name)
    }

    fn failed(&self, op: &'static str, e: &io::Error) -> Error {
        Error::io(op, e).on(&self.name)
    }

    /// Writes the EBML header, and the segment up to the first cluster.
    fn begin(&mut self, packet: &Packet) -> Result<()> {
        let meta = packet.meta();
        let unsupported = |text: String| Error::new(ErrorKind::Unsupported, "write", text).on(&self.name);
        let id = meta.codec.names().matroska;
        let id = id.ok_or_else(|| unsupported(format!("Matroska has no name for {}", meta.codec)))?;
        let mut entry =
            Elements::default().number(0xd7, 1).number(0x73c5, 1).number(0x83, 1).number(0x9c, 0).text(0x86, id);
        if meta.codec.has_nal_units() {
            let sets = packet.parameter_sets().and_then(|sets| private(sets));
            let sets = sets.ok_or_else(|| unsupported("the parameter sets are missing or cannot be parsed".into()))?;
            entry = entry.bytes(0x63a2, &sets);
        }
        let interval = self.options.interval.and_then(FrameInterval::duration);
        // The element must not be 0.
        if let Some(nanos) = interval.and_then(|i| u64::try_from(i.as_nanos()).ok()).filter(|&n| n > 0) {
            entry = entry.number(0x23_e383, nanos);
        }
        let mut video = Elements::default().number(0xb0, meta.size.width.into()).number(0xba, meta.size.height.into());
        // Interlaced, with the order of the fields, or progressive. Without the element, it is unknown.
        if meta.flags.contains(FrameFlags::INTERLACED) {
            let order = if meta.flags.contains(FrameFlags::BOTTOM_FIRST) { 6 } else { 1 };
            video = video.number(0x9a, 1).number(0x9d, order);
        } else if packet.parameter_sets().map_or(true, |sets| is_progressive(sets)) {
            video = video.number(0x9a, 2);
        }
        if let Some(colors) = self.options.colorimetry {
            video = video.master(0x55b0, color(colors));
        }
        let tracks =
            Elements::default().master(0x1654_ae6b, Elements::default().master(0xae, entry.master(0xe0, video)));
        let header = Elements::default()
            .number(0x4286, 1)
            .number(0x42f7, 1)
            .number(0x42f2, 4)
            .number(0x42f3, 8)
            .text(0x4282, "matroska")
            .number(0x4287, 4)
            .number(0x4285, 2);
        let mut all = Elements::default().master(0x1a45_dfa3, header);
        all.0.extend_from_slice(&[0x18, 0x53, 0x80, 0x67]);
        all.0.extend_from_slice(&UNKNOWN_SIZE);
        let segment_at = all.0.len() as u64;
        let is_file = self.out.is_file();
        if is_file {
            all = all.void(SEEK_HEAD_BYTES);
        }
        let info_at = all.0.len() as u64;
        let mut info = Elements::default()
            .number(0x2a_d7b1, 1_000_000)
            .text(0x4d80, "framelease")
            .text(0x5741, concat!("framelease ", env!("CARGO_PKG_VERSION")));
        if is_file {
            // The Void is overwritten at the end. It is the last child.
            info = info.void(DURATION_BYTES);
        }
        all = all.master(0x1549_a966, info);
        let tracks_at = all.0.len() as u64;
        all.0.extend_from_slice(&tracks.0);
        self.append(std::iter::once(&all.0[..]))?;
        (self.segment_at, self.seek_head_at, self.info_at, self.tracks_at) =
            (segment_at, segment_at, info_at, tracks_at);
        self.duration_at = tracks_at - DURATION_BYTES as u64;
        self.track = Some(Track {
            codec: meta.codec,
            size: meta.size,
            parameters: packet.parameter_sets().cloned(),
            latest: packet.parameter_sets().cloned(),
            first_ns: meta.timestamp_ns,
        });
        Ok(())
    }

    fn begin_cluster(&mut self, time_ms: u64, has_key: bool) -> Result<()> {
        self.end_cluster()?;
        let (at, mut head) = (self.end, vec![0x1f, 0x43, 0xb6, 0x75]);
        head.extend_from_slice(&UNKNOWN_SIZE);
        head.extend(Elements::default().number(0xe7, time_ms).0);
        self.append(std::iter::once(&head[..]))?;
        let floor_ms = self.last_ms.max(time_ms.saturating_sub(i16::MIN.unsigned_abs().into()));
        self.cluster = Some(Cluster { size_at: at + 4, time_ms, floor_ms, has_key });
        Ok(())
    }

    /// Adds the cluster that has just begun to the index.
    fn index(&mut self, time_ms: u64) {
        let is_due = self.cues.last().map_or(true, |&(last, _)| time_ms >= last + CUE_MS);
        if let (Some(cluster), true) = (&self.cluster, is_due && self.out.is_file()) {
            self.cues.push((time_ms, cluster.size_at - 4 - self.segment_at));
        }
    }

    /// Writes the cluster's size. If this fails, the size stays unknown, and the file still plays.
    fn end_cluster(&mut self) -> Result<()> {
        let Some(cluster) = self.cluster.take() else { return Ok(()) };
        let body = self.end - (cluster.size_at + 8);
        self.out.patch(cluster.size_at, &long_size(body)).map_err(|e| self.failed("pwrite", &e))?;
        if self.options.fsync == Fsync::Clusters {
            self.out.sync().map_err(|e| self.failed("fdatasync", &e))?;
        }
        Ok(())
    }

    /// Finishes the file: writes index, duration and sizes. A file that is not finished plays as well, but players
    /// cannot seek in it.
    ///
    /// # Errors
    /// Errors of the writes. On a full disk, the file lacks only its index. `State` for a file that ends with half an
    /// element, because an earlier write failed and the file could not be cut. It plays up to the last packet.
    pub fn finish(mut self) -> Result<Summary> {
        let frame = self.options.interval.and_then(FrameInterval::duration).unwrap_or_default();
        let duration = if self.packets > 0 { self.duration() + frame } else { Duration::ZERO };
        let packets = self.packets;
        let summary = |end| Summary { packets, bytes: end, duration };
        if self.track.is_none() || !self.out.is_file() {
            self.out.within(self.options.write_timeout);
            self.out.flush().map_err(|e| self.failed("write", &e))?;
            return Ok(summary(self.end));
        }
        self.end_cluster()?;
        let cues_at = self.end;
        let cues = self.cues.iter().fold(Elements::default(), |cues, &(time, place)| {
            let position = Elements::default().number(0xf7, 1).number(0xf1, place);
            cues.master(0xbb, Elements::default().number(0xb3, time).master(0xb7, position))
        });
        let cues = Elements::default().master(0x1c53_bb6b, cues);
        let indexed = match self.is_broken {
            true => Err(self.broken("finish")),
            false => self.append(std::iter::once(&cues.0[..])),
        };
        let patch = |at: u64, bytes: &[u8]| self.out.patch(at, bytes).map_err(|e| self.failed("pwrite", &e));
        let milliseconds = duration.as_secs_f64() * 1000.0;
        patch(self.duration_at, &Elements::default().float(0x4489, milliseconds).0)?;
        patch(self.segment_at - 8, &long_size(self.end - self.segment_at))?;
        indexed?;
        let entries = [(0x1549_a966u32, self.info_at), (0x1654_ae6b, self.tracks_at), (0x1c53_bb6b, cues_at)];
        let seek = entries.into_iter().fold(Elements::default(), |seek, (element, at)| {
            let place = (at - self.segment_at).to_be_bytes();
            seek.master(0x4dbb, Elements::default().bytes(0x53ab, &element.to_be_bytes()).bytes(0x53ac, &place))
        });
        patch(self.seek_head_at, &Elements::default().master(0x114d_9b74, seek).0)?;
        if self.options.fsync != Fsync::Never {
            self.out.sync().map_err(|e| self.failed("fdatasync", &e))?;
        }
        Ok(summary(self.end))
    }
}

fn open(path: &Path, how: &mut OpenOptions) -> Result<File> {
    let failed = |e: io::Error| {
        let is_pipe = || path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
        let error = Error::io("open", &e).on(path.display());
        if e.raw_os_error() == Some(libc::ENXIO) && is_pipe() {
            return error.kind_is(ErrorKind::Disconnected).detail("no process reads from this pipe");
        }
        error
    };
    how.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed)
}

/// Returns `true` if a decoder can begin with this packet.
pub(super) fn begins_file(packet: &Packet) -> bool {
    packet.can_begin() && !packet.picture().is_empty()
}

impl Track {
    fn is_of(&self, packet: &Packet) -> bool {
        let same = |a: &Arc<ParameterSets>, b: &Arc<ParameterSets>| Arc::ptr_eq(a, b) || a == b;
        // The sets of the sequence describe the track. Others may change, if the block has them.
        let of_sequence = |sets: &ParameterSets| {
            let kinds = [NalKind::Vps, NalKind::Sps];
            kinds.map(|kind| sets.of(kind).map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let sets = match (&self.latest, packet.parameter_sets()) {
            (Some(a), Some(b)) => same(a, b) || packet.carries_parameters() && of_sequence(a) == of_sequence(b),
            // A new stream is unknown before its first key frame.
            (Some(_), None) => false,
            (None, _) => true,
        };
        sets && (self.codec, self.size) == (packet.meta().codec, packet.meta().size)
    }
}

/// Writes colors in the codes of ITU-T H.273. Leaves out values without a code.
fn color(colors: Colorimetry) -> Elements {
    let matrix = match colors.matrix() {
        Encoding::Bt709 | Encoding::XvYcc709 => 1,
        Encoding::Bt2020 => 9,
        Encoding::Bt2020ConstantLuminance => 10,
        Encoding::Smpte240m => 7,
        _ => 6,
    };
    let range = if colors.quantization(FormatKind::Yuv) == Range::Full { 2 } else { 1 };
    let mut all = Elements::default().number(0x55b1, matrix).number(0x55b9, range);
    let transfer = match colors.transfer {
        Transfer::Rec709 => Some(1),
        Transfer::Srgb => Some(13),
        Transfer::Linear => Some(8),
        Transfer::St2084 => Some(16),
        Transfer::Smpte240m => Some(7),
        _ => None,
    };
    let primaries = match colors.space {
        ColorSpace::Rec709 | ColorSpace::Srgb | ColorSpace::Jpeg => Some(1),
        ColorSpace::Smpte170m => Some(6),
        ColorSpace::Smpte240m => Some(7),
        ColorSpace::Bt2020 => Some(9),
        _ => None,
    };
    for (element, code) in [(0x55ba, transfer), (0x55bb, primaries)] {
        if let Some(code) = code {
            all = all.number(element, code);
        }
    }
    all
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({}, {} packets, {} bytes)", self.name, self.packets, self.end)
    }
}
