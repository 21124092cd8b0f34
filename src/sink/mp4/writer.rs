//! Writes one file or stream.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::fragment::{decode_times, header, reserved, reserved_bytes, LastFrame, Sample};
use super::header::{Header, TICKS};
use super::index::{index, Entry};
use crate::error::Result;
use crate::frame::Packet;
use crate::sink::container::{begins_file, ContainerFile, FileWriter, Summary, Track, WriterOptions, Written};

/// A fragment ends at a key frame when it is this old.
const KEY_TICKS: u64 = TICKS / 2;
/// A fragment ends at any frame when it is this old: a second.
const MOST_TICKS: u64 = TICKS;
/// The longest time that a frame is shown before one that was decoded earlier.
const MOST_REORDERED: u64 = TICKS * 30;
/// How long a frame lasts if nothing says it.
const LASTS: u64 = TICKS / 30;
/// The most frames of a fragment for which room is kept at once.
const MOST_FRAMES: u64 = 240;
/// Room for frames beyond those that are expected.
const SPARE: usize = 8;
/// The most bytes of frames in a fragment. Its sizes have 32 bits.
const MOST_BYTES: u64 = 1 << 30;

/// The frames since the last complete fragment of a file.
struct Open {
    /// Where its header goes, and the most frames that it has room for.
    at: u64,
    most: usize,
    samples: Vec<Sample>,
}

/// Writes packets to a fragmented MP4 file or stream. The first key frame writes the header.
///
/// In a file, a fragment ends at a key frame after half a second, and at any frame after a second. Its header is
/// written then, in room that was kept before its frames: a packet costs one `writev`, no copy and no allocation, and a
/// fragment a `write` and a `pwrite`. A crash loses the frames after the last complete fragment. In a pipe and a live
/// stream, each frame is a fragment, and lasts as long as the frame before.
///
/// Lengths replace the start codes. The parameter sets of the first key frame go into the header, and stay in packets
/// only after a different set has appeared. A damaged packet
/// ([`FrameFlags::ERROR`](crate::frame::FrameFlags::ERROR)) is stored as it is, but it does not begin a file.
///
/// Times are ticks of 1/90000 s since the first frame. Packets come in the order of decoding. The time of decoding,
/// which MP4 needs too, is made of the times of a fragment in ascending order.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::format::Size;
/// use framelease::frame::{Packet, PacketMeta};
/// use framelease::sink::{mp4, WriterOptions};
///
/// # let path = std::env::temp_dir().join(format!("framelease-writer-{}.mp4", std::process::id()));
/// # let idr: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0xda, 2, 0x80, 0xf6, 0x40, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80,
/// #     0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0x33, 0xff];
/// let mut writer = mp4::Writer::create(&path, WriterOptions::default())?;
/// let meta = PacketMeta::new(Codec::H264, Size::new(640, 480), 0, 0);
/// let _ = writer.write(&Packet::new(meta, idr.to_vec(), None))?; // `idr` came from an encoder.
/// let summary = writer.finish()?;
/// assert_eq!(summary.packets, 1);
/// # let _ = std::fs::remove_file(path);
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Writer {
    file: ContainerFile,
    header: Option<Header>,
    open: Open,
    /// The time from which frames are shown that come after the last key frame.
    floor: u64,
    /// The earliest time at which the next frame can be decoded.
    earliest: u64,
    /// The frames of the last fragment, by its time.
    frames_a_second: u64,
    fragments: u32,
    index: Vec<Entry>,
    /// Memory for headers of fragments.
    scratch: Vec<u8>,
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

    /// Creates a writer of a live stream, for instance to a socket or into memory. Each packet is one call of
    /// `write_vectored`, if `out` takes it whole.
    ///
    /// [`Writer::write`] blocks as long as `out` blocks. Set a write timeout on a socket
    /// ([`TcpStream::set_write_timeout`](std::net::TcpStream::set_write_timeout)).
    pub fn live(out: impl Write + Send + 'static, options: WriterOptions) -> Self {
        Self::new(ContainerFile::live(out, options))
    }

    pub(in crate::sink) fn new(file: ContainerFile) -> Self {
        let file = file.with_ticks(TICKS);
        let interval = file.interval().map_or(LASTS, |interval| file.times.ticks(interval).max(1));
        Self {
            frames_a_second: TICKS / interval,
            file,
            header: None,
            open: Open { at: 0, most: 0, samples: Vec::new() },
            floor: 0,
            earliest: 0,
            fragments: 0,
            index: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Returns how many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Returns the time between the first and the latest packet.
    pub fn duration(&self) -> Duration {
        self.file.times.duration()
    }

    /// Returns the media type of the file with the name of its codec (RFC 6381), which browsers ask for, such as
    /// `video/mp4; codecs="avc1.640028"`. `None` before the first packet.
    pub fn media_type(&self) -> Option<&str> {
        self.header.as_ref().map(|header| &*header.media_type)
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// `Exhausted` on a full disk. `Disconnected` for a closed pipe. `Timeout` if the reader of a pipe took too little
    /// within [`WriterOptions::write_timeout`]. After these errors the packet is not in the file, and the file ends
    /// after the previous packet. The caller can finish the file, or write the packet again. A live stream cannot
    /// continue after such an error: later calls return `State`. `Unsupported` if the codec is neither H.264 nor H.265,
    /// or the parameter sets cannot be parsed. The text names the file.
    pub fn write(&mut self, packet: &Packet) -> Result<Written> {
        if let Some(why) = self.file.refuses(packet)? {
            return Ok(why);
        }
        if self.header.is_none() {
            let header = Header::of(packet, &self.file)?;
            self.file.append(&header.boxes(None))?;
            self.file.track = Some(Track::new(packet));
            self.file.times.begin(packet.meta().timestamp_ns);
            self.header = Some(header);
        }
        let (is_key, latest) = (packet.is_key(), self.file.times.latest());
        // No frame is shown after a key frame and decoded before it. None is reordered by half a minute.
        let floor = if is_key { latest } else { self.floor.max(latest.saturating_sub(MOST_REORDERED)) };
        let time = self.file.times.next(packet, floor);
        match self.file.is_file() {
            true => self.write_to_file(packet, time)?,
            false => self.write_live(packet, time)?,
        }
        self.floor = floor;
        self.file.times.stored(packet, time);
        Ok(Written::Stored)
    }

    fn write_to_file(&mut self, packet: &Packet, time: u64) -> Result<()> {
        if let Some(first) = self.open.samples.first() {
            let (age, count) = (time.saturating_sub(first.time), self.open.samples.len());
            // No frame that comes later is shown before those of the fragment.
            let is_next = time > self.file.times.latest();
            let is_due = begins_file(packet) && age >= KEY_TICKS || age >= MOST_TICKS && is_next;
            let is_full = count == self.open.most || count + SPARE / 2 >= self.open.most && is_next;
            let bytes = self.file.bytes() - self.open.at + packet.bytes().len() as u64;
            if is_due || is_full || bytes > MOST_BYTES {
                self.frames_a_second = count as u64 * TICKS / age.max(1);
                self.end_fragment(LastFrame::Until(time))?;
                self.file.sync()?;
            }
        }
        if self.open.samples.is_empty() {
            let at = self.file.bytes();
            let most = self.expected_frames();
            self.file.append(&reserved(most))?;
            (self.open.at, self.open.most) = (at, most);
        }
        let written = self.file.append_packet(packet, false, |_, _| {});
        if written.is_err() && self.open.samples.is_empty() {
            // The place of a header without frames.
            self.file.cut(self.open.at);
        }
        let bytes = u32::try_from(written?).unwrap_or(u32::MAX);
        self.open.samples.push(Sample { bytes, time, is_key: packet.is_key() });
        Ok(())
    }

    /// Writes the header of the open fragment.
    fn end_fragment(&mut self, last: LastFrame) -> Result<()> {
        let Open { at, most, samples } = &self.open;
        let reserved = reserved_bytes(*most);
        let times = decode_times(samples, self.earliest, last);
        let Some(&(last_time, _)) = times.last() else { return Ok(()) };
        let sequence = self.fragments.wrapping_add(1);
        header(&mut self.scratch, sequence, samples, &times, |_| reserved);
        let data = self.file.bytes() - at - self.scratch.len() as u64;
        self.scratch.extend_from_slice(&(data as u32).to_be_bytes());
        self.scratch.extend_from_slice(b"mdat");
        self.file.patch(*at, &self.scratch)?;
        if let Some(key) = samples.iter().position(|sample| sample.is_key) {
            self.index.push(Entry { time: samples[key].time, fragment_at: *at, number: key as u32 + 1 });
        }
        (self.fragments, self.earliest) = (sequence, last_time + 1);
        self.open.samples.clear();
        Ok(())
    }

    /// The time between frames: the latest, or the usual one before the second frame.
    fn step(&self) -> u64 {
        let step = Some(self.file.times.step()).filter(|_| self.file.times.packets() > 1);
        step.or(self.interval()).unwrap_or(LASTS).max(1)
    }

    fn interval(&self) -> Option<u64> {
        self.file.interval().map(|interval| self.file.times.ticks(interval))
    }

    /// The room for the frames of a fragment: those of a second at the rate of the fragment before. A fragment with
    /// more frames ends early.
    fn expected_frames(&self) -> usize {
        let frames = self.frames_a_second.min(MOST_FRAMES) as usize;
        frames + frames / 4 + SPARE
    }

    /// Writes a fragment of one frame.
    fn write_live(&mut self, packet: &Packet, time: u64) -> Result<()> {
        let lasts = self.step();
        let (sequence, earliest, is_key) = (self.fragments.wrapping_add(1), self.earliest, packet.is_key());
        let decoded = time.max(earliest);
        self.file.append_packet(packet, false, |out, bytes| {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let times = [(decoded, u32::try_from(lasts).unwrap_or(u32::MAX))];
            header(out, sequence, &[Sample { bytes, time, is_key }], &times, |header| header + 8);
            out.extend_from_slice(&bytes.saturating_add(8).to_be_bytes());
            out.extend_from_slice(b"mdat");
        })?;
        (self.fragments, self.earliest) = (sequence, decoded + 1);
        Ok(())
    }

    /// How long the last frame lasts.
    fn last_ticks(&self) -> u64 {
        self.interval().unwrap_or(self.file.times.step()).max(1)
    }

    /// Finishes the file: writes the last fragment, the index and the duration. [`repair`](super::repair) finishes a
    /// file later, without its last fragment.
    ///
    /// # Errors
    /// Errors of the writes. On a full disk, the file lacks only its index. `State` if an earlier write failed and the
    /// file could not be cut.
    pub fn finish(mut self) -> Result<Summary> {
        let (packets, duration) = (self.file.times.packets(), self.file.whole_duration());
        let Some(header) = self.header.take().filter(|_| self.file.is_file()) else {
            self.file.flush()?;
            return Ok(Summary { packets, bytes: self.file.bytes(), duration });
        };
        let last = LastFrame::Lasts(self.last_ticks());
        // Without its header, all frames of a fragment are lost, so a failure is not final.
        if self.end_fragment(last).is_err() {
            self.end_fragment(last)?;
        }
        // The index comes last: a file with an index is finished.
        self.file.patch(0, &header.boxes(Some(self.file.times.ticks(duration))))?;
        self.file.append(&index(&self.index, 1))?;
        self.file.sync()?;
        Ok(Summary { packets, bytes: self.file.bytes(), duration })
    }
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
        write!(f, "mp4::Writer({:?})", self.file)
    }
}
