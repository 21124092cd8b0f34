//! Plays the video of a file as packets.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::due::DueTimer;
use super::matroska::{is_matroska, Matroska};
use super::mp4::{is_mp4, Mp4};
use super::records::open;
use super::timeline::{Due, Next, Timeline};
use super::track::{with_sets, Picture, Track};
use crate::bitstream::{head, Codec, ParameterSets};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Size;
use crate::frame::{FrameFlags, Packet, PacketMeta};
use crate::station::{ended, sealed, Received, Station};
use crate::sys::clock::monotonic_ns;

/// The most bytes of a picture. A damaged file may say any number.
const MOST_BYTES: usize = 64 << 20;
/// The times of a stream with B-frames go back between key frames, by the time of a few frames.
const MOST_BACK_NS: u64 = 10_000_000_000;

#[derive(Debug)]
enum Container {
    Matroska(Matroska),
    Mp4(Mp4),
}

impl Container {
    fn next(&mut self, file: &File) -> Result<Option<Picture>> {
        match self {
            Self::Matroska(matroska) => matroska.next(file),
            Self::Mp4(mp4) => mp4.next(file),
        }
    }

    fn rewind(&mut self, length: u64) {
        match self {
            Self::Matroska(matroska) => matroska.rewind(length),
            Self::Mp4(mp4) => mp4.rewind(length),
        }
    }
}

/// Plays the first video track of a Matroska file, or of an MP4 file with fragments, as this library writes them. The
/// packets are for a recorder, an RTP sender, an RTSP server or a decoder.
///
/// The codecs are H.264, H.265, VP8 and Motion JPEG in Matroska, and H.264 and H.265 in MP4. Other tracks are skipped.
/// A file of another program becomes a Matroska file without a loss by `ffmpeg -i IN -c copy OUT.mkv`.
///
/// Packets come in the order of the file, at the original intervals. Times are those of `CLOCK_MONOTONIC`, with the
/// original distances. In a stream with B-frames the times go back, and each packet is due at the largest time so far.
/// For H.264 and H.265, start codes replace the lengths, and each key frame has parameter sets, so that a viewer can
/// join there. A packet whose bytes are damaged has the flag `ERROR`.
///
/// A file that was cut plays up to the cut.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::format::Size;
/// use framelease::frame::{Packet, PacketMeta};
/// use framelease::replay::PacketReplay;
/// use framelease::sink::{matroska::Writer, WriterOptions};
/// use framelease::Station;
/// use std::time::Duration;
///
/// # let path = std::env::temp_dir().join(format!("framelease-packets-{}.mkv", std::process::id()));
/// let mut writer = Writer::create(&path, WriterOptions::default())?;
/// let _ = writer.write(&Packet::new(PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, 0), [0x10, 0, 0], None))?;
/// writer.finish()?;
///
/// let mut replay = PacketReplay::open(&path)?;
/// let packet = replay.recv(Duration::from_secs(1))?.item().expect("a packet");
/// assert_eq!(packet.bytes(), [0x10, 0, 0]);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct PacketReplay {
    timer: DueTimer,
    file: File,
    name: String,
    container: Container,
    track: Track,
    /// The parameter sets in force.
    sets: Option<Arc<ParameterSets>>,
    /// The next picture, and when it is due once that is known.
    next: Next<(Picture, Option<Due>)>,
    timeline: Timeline,
    is_looped: bool,
    sequence: u64,
}

impl PacketReplay {
    /// Opens a file. The content shows which kind of file it is. The first packet is due at the first `try_recv`.
    ///
    /// # Errors
    /// `WrongFile` if the file is not a regular file, or neither Matroska nor MP4. `Unsupported` for another codec,
    /// for an MP4 file without fragments, and for a track that is compressed or encrypted. `Mismatch` if the file is
    /// damaged, or has no picture. Errors of `open` and of the reads.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = open(path, OpenOptions::new().read(true))?;
        let (container, track, first) = Self::begin(&file).map_err(|e| e.on(path.display()))?;
        Ok(Self {
            timer: DueTimer::new()?,
            file,
            name: path.display().to_string(),
            container,
            sets: track.sets(),
            track,
            next: Next::Item((first, None)),
            timeline: Timeline::new(MOST_BACK_NS),
            is_looped: false,
            sequence: 0,
        })
    }

    fn begin(file: &File) -> Result<(Container, Track, Picture)> {
        let length = length(file)?;
        let (mut container, track) = if is_matroska(file)? {
            let (matroska, track) = Matroska::open(file, length)?;
            (Container::Matroska(matroska), track)
        } else if is_mp4(file, length)? {
            let (mp4, track) = Mp4::open(file, length)?;
            (Container::Mp4(mp4), track)
        } else {
            return Err(Error::new(ErrorKind::WrongFile, "replay", "neither a Matroska file nor an MP4 file"));
        };
        let first = container.next(file)?;
        let first = first.ok_or_else(|| Error::new(ErrorKind::Mismatch, "replay", "the file has no whole picture"))?;
        Ok((container, track, first))
    }

    /// Plays the file again from its start after its end. The first packet follows the last one after the usual
    /// interval of the recording.
    pub fn looped(mut self, is_looped: bool) -> Self {
        self.is_looped = is_looped;
        self
    }

    /// Returns the codec of the packets.
    pub fn codec(&self) -> Codec {
        self.track.codec
    }

    /// Returns the size of the pictures.
    pub fn size(&self) -> Size {
        self.track.size
    }

    /// Reads where the next picture is, and sets the timer for it.
    fn advance(&mut self) -> Result<()> {
        self.next = self.read_next().map_err(|e| e.on(&self.name)).into();
        self.timer.set(match &self.next {
            Next::Item((_, Some(due))) => due.due_ns,
            _ => 0,
        })
    }

    fn read_next(&mut self) -> Result<Option<(Picture, Option<Due>)>> {
        let mut next = self.container.next(&self.file)?;
        if next.is_none() && self.is_looped {
            self.container.rewind(length(&self.file)?);
            self.timeline.restart();
            self.sets = self.track.sets();
            next = self.container.next(&self.file)?;
        }
        Ok(next.map(|picture| (picture, Some(self.timeline.next(picture.time_ns, 0)))))
    }

    /// Reads a picture. `None` if the file ends before it, because it was cut since it was opened, or if no bytes of it
    /// are left.
    fn packet(&mut self, picture: Picture, due: Due) -> Result<Option<Packet>> {
        if picture.bytes > MOST_BYTES {
            let text = format!("a picture of {} bytes; the limit is {MOST_BYTES}", picture.bytes);
            return Err(Error::new(ErrorKind::Mismatch, "read", text).on(&self.name));
        }
        let mut bytes = vec![0; picture.bytes];
        match self.file.read_exact_at(&mut bytes, picture.at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|e| Error::io("read", &e).on(&self.name))?,
        }
        let Track { codec, size, mut flags, .. } = self.track;
        if let Some(configuration) = &self.track.configuration {
            let (units, is_whole) = configuration.to_annexb(&bytes);
            bytes = units;
            if !is_whole {
                flags |= FrameFlags::ERROR;
            }
            let head = head(codec, &bytes);
            if let (true, false, Some(sets)) = (head.is_key, head.has_parameters, &self.sets) {
                bytes = with_sets(codec, sets, bytes);
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut meta = PacketMeta::new(codec, size, self.sequence, due.timestamp_ns);
        meta.flags = flags | FrameFlags::MONOTONIC;
        let packet = Packet::new(meta, bytes, self.sets.clone());
        self.sets = packet.parameter_sets().cloned();
        self.sequence += 1;
        Ok(Some(packet))
    }
}

fn length(file: &File) -> Result<u64> {
    Ok(file.metadata().map_err(|e| Error::io("fstat", &e))?.len())
}

impl sealed::Sealed for PacketReplay {}

/// `try_recv` and `recv` read the file, which may block on the disk.
impl Station for PacketReplay {
    type Event = Packet;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<Packet>> {
        match std::mem::replace(&mut self.next, Next::Over) {
            Next::Item((picture, due)) => {
                let now = monotonic_ns();
                let due = due.unwrap_or_else(|| self.timeline.next(picture.time_ns, now));
                if due.due_ns > now {
                    self.next = Next::Item((picture, Some(due)));
                    return Ok(Received::Nothing);
                }
                let packet = self.packet(picture, due);
                self.advance()?;
                Ok(packet?.into())
            }
            Next::Failed(error) => {
                self.next = Next::Ended;
                self.timer.set(0)?;
                Err(error)
            }
            Next::Ended => {
                self.timer.unset()?;
                Ok(Received::Ended)
            }
            Next::Over => Err(ended("recv")),
        }
    }
}

impl AsFd for PacketReplay {
    /// Returns a descriptor that is readable when the next packet is due.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
