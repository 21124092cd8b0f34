//! Writes one file or stream.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::ebml::{long_size, Elements, UNKNOWN_SIZE};
use super::header::{seek_head, Header, DURATION_BYTES};
use crate::error::Result;
use crate::frame::Packet;
use crate::sink::container::{begins_file, ContainerFile, FileWriter, Summary, Track, WriterOptions, Written};

/// The shortest time between two entries of the index.
pub(super) const CUE_MS: u64 = 250;
/// The age at which a cluster ends without a key frame.
const CLUSTER_MS: u64 = 5000;

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
/// use framelease::sink::matroska::Writer;
/// use framelease::sink::WriterOptions;
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
    file: ContainerFile,
    header: Header,
    cluster: Option<Cluster>,
    /// For each key frame: its time, and its cluster's position in the segment.
    cues: Vec<(u64, u64)>,
}

impl Writer {
    /// Creates a file, or overwrites an existing one. If `path` is a pipe or a device, the writer writes a live stream.
    /// `create` itself does not block. A later write to the pipe or device blocks for at most
    /// [`WriterOptions::write_timeout`].
    ///
    /// # Errors
    /// Errors of `open`, such as `NotFound` and `PermissionDenied`. `Disconnected` for a pipe that no process has open
    /// for reading. `Busy` if another writer writes to the file.
    pub fn create(path: impl AsRef<Path>, options: WriterOptions) -> Result<Self> {
        Ok(Self::new(ContainerFile::create(path.as_ref(), options)?))
    }

    /// Creates a writer of a live stream, for instance to a socket or into memory. The stream's sizes and duration stay
    /// unknown.
    ///
    /// [`Writer::write`] blocks as long as `out` blocks. Set a write timeout on a socket
    /// ([`TcpStream::set_write_timeout`](std::net::TcpStream::set_write_timeout)).
    pub fn live(out: impl Write + Send + 'static, options: WriterOptions) -> Self {
        Self::new(ContainerFile::live(out, options))
    }

    pub(in crate::sink) fn new(file: ContainerFile) -> Self {
        let file = file.with_ticks(1000);
        Self { file, header: Header::default(), cluster: None, cues: Vec::new() }
    }

    /// Returns how many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Returns the time between the first and the latest packet.
    pub fn duration(&self) -> Duration {
        self.file.times.duration()
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
        if let Some(why) = self.file.refuses(packet)? {
            return Ok(why);
        }
        if self.file.track.is_none() {
            self.begin(packet)?;
        }
        // No frame is shown after a key frame and decoded before it.
        let cluster = self.cluster.as_ref().filter(|_| !packet.is_key());
        let latest_ms = self.file.times.latest();
        let time_ms = self.file.times.next(packet, cluster.map_or(latest_ms, |c| c.floor_ms));
        let relative = |cluster: &Cluster| i16::try_from(time_ms as i64 - cluster.time_ms as i64).ok();
        // In Motion JPEG, each frame is a key frame. Those that the index leaves out begin no cluster.
        let lasts = |c: &&Cluster| match packet.is_key() {
            true => c.has_key && time_ms < c.time_ms + CUE_MS,
            // The times of clusters never go back.
            false => time_ms < c.time_ms + CLUSTER_MS || time_ms <= latest_ms,
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
        // A SimpleBlock: track, time, flags, and the picture.
        let [high, low] = relative.to_be_bytes();
        let head = [0x81, high, low, if packet.is_key() { 0x80 } else { 0 }];
        self.file.append_packet(packet, packet.is_key(), |out, bytes| {
            out.push(0xa3);
            out.extend_from_slice(&long_size(head.len() as u64 + bytes));
            out.extend_from_slice(&head);
        })?;
        self.file.times.stored(packet, time_ms);
        Ok(Written::Stored)
    }

    /// Writes the EBML header, and the segment up to the first cluster.
    fn begin(&mut self, packet: &Packet) -> Result<()> {
        let (bytes, header) = Header::of(packet, &self.file)?;
        self.file.append(&bytes)?;
        self.header = header;
        self.file.track = Some(Track::new(packet));
        self.file.times.begin(packet.meta().timestamp_ns);
        Ok(())
    }

    fn begin_cluster(&mut self, time_ms: u64, has_key: bool) -> Result<()> {
        self.end_cluster()?;
        let (at, mut head) = (self.file.bytes(), vec![0x1f, 0x43, 0xb6, 0x75]);
        head.extend_from_slice(&UNKNOWN_SIZE);
        head.extend(Elements::default().number(0xe7, time_ms).0);
        self.file.append(&head)?;
        let floor_ms = self.file.times.latest().max(time_ms.saturating_sub(i16::MIN.unsigned_abs().into()));
        self.cluster = Some(Cluster { size_at: at + 4, time_ms, floor_ms, has_key });
        Ok(())
    }

    /// Adds the cluster that has just begun to the index.
    fn index(&mut self, time_ms: u64) {
        let is_due = self.cues.last().map_or(true, |&(last, _)| time_ms >= last + CUE_MS);
        if let (Some(cluster), true) = (&self.cluster, is_due && self.file.is_file()) {
            self.cues.push((time_ms, cluster.size_at - 4 - self.header.segment_at));
        }
    }

    /// Writes the cluster's size. If this fails, the size stays unknown, and the file still plays.
    fn end_cluster(&mut self) -> Result<()> {
        let Some(cluster) = self.cluster.take() else { return Ok(()) };
        let body = self.file.bytes() - (cluster.size_at + 8);
        self.file.patch(cluster.size_at, &long_size(body))?;
        self.file.sync()
    }

    /// Finishes the file: writes index, duration and sizes. A file that is not finished plays as well, but some players
    /// cannot seek in it. [`repair`](super::repair) finishes it later.
    ///
    /// # Errors
    /// Errors of the writes. On a full disk, the file lacks only its index. `State` for a file that ends with half an
    /// element, because an earlier write failed and the file could not be cut. It plays up to the last packet.
    pub fn finish(mut self) -> Result<Summary> {
        let (packets, duration) = (self.file.times.packets(), self.file.whole_duration());
        if self.file.track.is_none() || !self.file.is_file() {
            self.file.flush()?;
            return Ok(Summary { packets, bytes: self.file.bytes(), duration });
        }
        self.end_cluster()?;
        let cues_at = self.file.bytes();
        let indexed = self.file.append(&cues(&self.cues));
        let milliseconds = duration.as_secs_f64() * 1000.0;
        let at = self.header.tracks_at - DURATION_BYTES as u64;
        self.file.patch(at, &Elements::default().float(0x4489, milliseconds).0)?;
        let segment_at = self.header.segment_at;
        self.file.patch(segment_at - 8, &long_size(self.file.bytes() - segment_at))?;
        indexed?;
        self.file.patch(segment_at, &seek_head(segment_at, self.header.info_at, self.header.tracks_at, cues_at))?;
        self.file.sync()?;
        Ok(Summary { packets, bytes: self.file.bytes(), duration })
    }
}

/// The index: the time of each key frame, and the position of its cluster in the segment.
pub(super) fn cues(entries: &[(u64, u64)]) -> Vec<u8> {
    let cues = entries.iter().fold(Elements::default(), |cues, &(time, place)| {
        let position = Elements::default().number(0xf7, 1).number(0xf1, place);
        cues.master(0xbb, Elements::default().number(0xb3, time).master(0xb7, position))
    });
    Elements::default().master(0x1c53_bb6b, cues).0
}

impl FileWriter for Writer {
    fn file(&self) -> &ContainerFile {
        &self.file
    }

    fn file_mut(&mut self) -> &mut ContainerFile {
        &mut self.file
    }

    fn write(&mut self, packet: &Packet) -> Result<Written> {
        self.write(packet)
    }

    fn finish(self: Box<Self>) -> Result<Summary> {
        (*self).finish()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "matroska::Writer({:?})", self.file)
    }
}
