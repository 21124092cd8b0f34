//! The stateful decoder: packets in, leased frames out.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::bitstream::Codec;
use crate::dmabuf::DEFAULT_WAIT;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FormatKind, FourCc, Rect, Size};
use crate::frame::{BufferSet, Frame, FrameFlags, FrameMeta, Packet, Payload};
use crate::station::{sealed, FrameEvent, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::wait;
use crate::v4l2::{
    CacheHint, ControlId, ControlValue, Device, Direction, Event, EventKind, FormatRequest, MemToMem, MemToMemInfo,
    Processed, Resumed, SelectionTarget,
};

/// `V4L2_EVENT_SRC_CH_RESOLUTION`
const RESOLUTION: u32 = 1;

/// What a decoder gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecoderEvent {
    /// A picture. Its buffer goes back to the decoder with the last clone. Flagged `ERROR` where the stream was damaged.
    Frame(Frame),
    /// The stream's format was found, or has changed: the frames that follow are of these buffers. Those of the buffers
    /// before stay whole as long as they are held.
    Format(Pictures),
    /// The device was unplugged, or its driver gave up. Frames that are out stay valid.
    Lost(Error),
    /// The device is back: call [`Decoder::reopen`].
    Returned,
}

impl sealed::Sealed for DecoderEvent {}

impl FrameEvent for DecoderEvent {
    fn into_frame(self) -> Option<Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            _ => None,
        }
    }
}

/// The pictures of a stream, until its format changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pictures {
    /// The buffers, with the layout that all frames have; to import or announce.
    pub buffers: BufferSet,
    /// The part of each frame that is to be seen: 1080 of 1088 rows.
    pub visible: Rect,
}

/// Chooses a decoder.
#[derive(Clone, Debug)]
#[must_use]
pub struct DecoderBuilder {
    codec: Codec,
    device: Option<Device>,
    formats: Vec<FourCc>,
    size: Size,
    packet_bytes: u32,
    packet_buffers: usize,
    frame_buffers: usize,
}

impl DecoderBuilder {
    /// A device that is open already.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Acceptable formats of the pictures, best first; else the driver's choice.
    pub fn formats(mut self, formats: impl IntoIterator<Item = FourCc>) -> Self {
        self.formats = formats.into_iter().collect();
        self
    }

    /// The size that pictures will probably have, from which drivers derive the size of bitstream buffers.
    pub fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// The most bytes of a packet, instead of the driver's guess.
    pub fn packet_bytes(mut self, bytes: u32) -> Self {
        self.packet_bytes = bytes;
        self
    }

    /// Frames that the user may hold at once (4), beside those that the decoder needs for itself.
    pub fn frames_held(mut self, count: usize) -> Self {
        self.frame_buffers = count;
        self
    }

    /// Opens the decoder and has it wait for a stream. Ioctls: those of `dev-decoder.rst`, "Initialization", up to the
    /// first bitstream buffer.
    ///
    /// # Errors
    /// `NotFound` if there is no such decoder, with those that there are; `Unsupported` if the device does not decode this;
    /// as [`Device::set_format`] and [`Queue::allocate`](crate::v4l2::Queue::allocate).
    pub fn open(self) -> Result<Decoder> {
        let fourcc = self.codec.fourcc();
        let device = match &self.device {
            Some(device) => device.clone(),
            None => Device::find_mem_to_mem(&format!("decoder of {}", self.codec), |d| d.decodes(fourcc))?,
        };
        let info = MemToMemInfo::for_device(&device)?;
        if !info.decodes(fourcc) {
            let text = format!("no decoder of {}: {info}", self.codec);
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(&device));
        }
        let mut pair = MemToMem::new(&device)?;
        self.set_up(&mut pair)?;
        Ok(Decoder {
            pair,
            wishes: self,
            pictures: None,
            changed: false,
            refused: Vec::new(),
            found: None,
            draining: false,
            stats: DecoderStats::default(),
        })
    }

    /// Initialization up to the first bitstream buffer. `pair` is without buffers.
    fn set_up(&self, pair: &mut MemToMem) -> Result<()> {
        let mut request = FormatRequest::new(self.codec.fourcc(), self.size);
        request.memory_bytes[0] = self.packet_bytes;
        pair.device().set_format(Direction::Output, &request)?;
        pair.subscribe(EventKind::SourceChange(0))?;
        let output = pair.output_mut();
        output.allocate(self.packet_buffers, CacheHint::Driver)?;
        output.start()?;
        pair.dispatch()
    }
}

/// Counts of a decoder since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecoderStats {
    /// Packets taken.
    pub packets: u64,
    /// Frames given.
    pub frames: u64,
    /// Frames flagged `ERROR`.
    pub errors: u64,
    /// Times that a format was found or changed.
    pub formats: u64,
    /// Bytes of packets, copied into the device's buffers.
    pub bytes: u64,
}

/// A stateful V4L2 mem-to-mem decoder (`dev-decoder.rst`).
///
/// Packets are copied into its bitstream buffers, once; pictures are leases on its own buffers, exported as dma-bufs. It
/// finds the stream's format by itself and follows its changes, which begin a new generation of buffers.
///
/// [`Received::Ended`] comes at the end of a drain. [`Decoder::resume`] begins again.
pub struct Decoder {
    pair: MemToMem,
    wishes: DecoderBuilder,
    pictures: Option<Pictures>,
    /// The driver told of a change, and drains what was before it.
    changed: bool,
    /// Formats that it took and then told of a change again, without a frame: it does not convert to them.
    refused: Vec<FourCc>,
    /// The stream's size, and the frames that there were, when the format was set.
    found: Option<(Size, u64)>,
    /// A drain was asked for and its end not told.
    draining: bool,
    stats: DecoderStats,
}

impl Decoder {
    /// Chooses a decoder.
    pub fn builder(codec: Codec) -> DecoderBuilder {
        DecoderBuilder {
            codec,
            device: None,
            formats: Vec::new(),
            size: Size::new(1920, 1088),
            packet_bytes: 0,
            packet_buffers: 4,
            frame_buffers: 4,
        }
    }

    /// The device, for controls.
    pub fn device(&self) -> &Device {
        self.pair.device()
    }

    /// The pictures of the stream as it is now; `None` until its format was found.
    pub fn pictures(&self) -> Option<&Pictures> {
        self.pictures.as_ref()
    }

    /// Counts until now.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    /// Gives bytes to the device that are one access unit or frame. `timestamp_ns` comes back with its frame. Full while
    /// every bitstream buffer is with the device: take what it has, then try again.
    ///
    /// # Errors
    /// As [`Submit::try_submit`] of a decoder.
    #[doc(alias = "VIDIOC_QBUF")]
    pub fn try_submit_bytes(&mut self, bytes: &[u8], sequence: u64, timestamp_ns: u64) -> Result<Submitted<()>> {
        self.submit_parts([bytes, &[]], sequence, timestamp_ns, FrameFlags::default())
    }

    fn submit_parts(
        &mut self,
        parts: [&[u8]; 2],
        sequence: u64,
        timestamp_ns: u64,
        flags: FrameFlags,
    ) -> Result<Submitted<()>> {
        const OP: &str = "VIDIOC_QBUF";
        let bytes = parts[0].len() + parts[1].len();
        let room = self.pair.output().layout().and_then(|l| l.memory_bytes().first().copied()).unwrap_or(0);
        if bytes == 0 || bytes > room as usize {
            let kind = if bytes == 0 { ErrorKind::InvalidArgument } else { ErrorKind::Mismatch };
            let text = format!("{bytes} bytes of bitstream; the device's buffers have {room}");
            return Err(Error::new(kind, OP, text).on(self.device()));
        }
        let mut buffer = self.pair.output_mut().try_acquire();
        if buffer.is_none() {
            // The drop of a source that was read frees its buffer.
            while self.pair.try_source()?.is_some() {}
            buffer = self.pair.output_mut().try_acquire();
        }
        let Some(mut buffer) = buffer else { return Ok(Submitted::Full(())) };
        {
            let mut write = buffer.write(DEFAULT_WAIT)?;
            write.copy_payload(0, parts[0])?;
            write.copy_payload(parts[0].len(), parts[1])?;
        }
        let mut meta = FrameMeta { sequence, timestamp_ns, flags, ..FrameMeta::default() };
        meta.payload[0] = Payload { offset_bytes: 0, bytes: bytes as u32 };
        if let Submitted::Full(_) = self.pair.queue(buffer.freeze(meta))? {
            return Ok(Submitted::Full(()));
        }
        self.stats.packets += 1;
        self.stats.bytes += bytes as u64;
        Ok(Submitted::Taken)
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Received<DecoderEvent>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match self.pair.recv(left)? {
                Received::Item(got) => self.sort(got)?,
                Received::Nothing => return Ok(Received::Nothing),
                Received::Ended => {
                    // The event that says why may not have been taken yet.
                    while let Some(event) = self.device().try_event()? {
                        self.on_event(event);
                    }
                    if !self.changed {
                        self.draining = false;
                        return Ok(Received::Ended);
                    }
                    Some(self.follow()?)
                }
            };
            if let Some(event) = event {
                return Ok(Received::Item(event));
            }
        }
    }

    /// What of a queue pair's results is the user's.
    fn sort(&mut self, got: Processed) -> Result<Option<DecoderEvent>> {
        match got {
            Processed::Result { frame, .. } => {
                let meta = frame.meta();
                let is_damaged = meta.flags.contains(FrameFlags::ERROR);
                if !is_damaged && meta.payload.iter().all(|p| p.bytes == 0) {
                    // It only ends a drain.
                    return Ok(None);
                }
                self.refused.clear();
                self.stats.frames += 1;
                self.stats.errors += u64::from(is_damaged);
                Ok(Some(DecoderEvent::Frame(frame)))
            }
            Processed::Source(_) => Ok(None),
            Processed::Event(event) => {
                self.on_event(event);
                // Frames from before the change come first; their end is told by the queue.
                if !self.changed || self.pair.capture().is_streaming() && !self.pair.capture().has_ended() {
                    return Ok(None);
                }
                self.follow().map(Some)
            }
            Processed::Lost(error) => Ok(Some(DecoderEvent::Lost(error))),
            Processed::Returned => Ok(Some(DecoderEvent::Returned)),
        }
    }

    fn on_event(&mut self, event: Event) {
        if let Event::SourceChange { changes, .. } = event {
            self.changed |= changes & RESOLUTION != 0;
        }
    }

    /// Takes the stream's format as it is now (`dev-decoder.rst`, "Capture Setup").
    fn follow(&mut self) -> Result<DecoderEvent> {
        let before = self.pictures.take().map(|p| p.buffers.layout().fourcc());
        self.pair.free_capture();
        let device = self.device().clone();
        let own = device.format(Direction::Capture).ok();
        let size = own.map_or(self.wishes.size, |l| l.size());
        let now = Some((size, self.stats.frames));
        match before {
            // The same stream again, and no frame of it.
            Some(before) if self.found == now => self.refused.push(before),
            _ => self.refused.clear(),
        }
        self.found = now;
        let fourcc = self.choose(own.map(|l| l.fourcc()))?;
        device.set_format(Direction::Capture, &FormatRequest::new(fourcc, size))?;
        let visible = match device.region(Direction::Capture, SelectionTarget::Compose) {
            Ok(region) => region.active,
            Err(e) if e.kind() == ErrorKind::DeviceLost => return Err(e),
            Err(_) => Rect::from(size),
        };
        let least = match device.control_value(ControlId::MIN_BUFFERS_FOR_CAPTURE) {
            Ok(ControlValue::Number(n)) => usize::try_from(n).unwrap_or(1),
            _ => 1,
        };
        let count = least.saturating_add(self.wishes.frame_buffers).clamp(2, 32);
        let capture = self.pair.capture_mut();
        let buffers = capture.allocate(count, CacheHint::Driver)?.clone();
        if let Err(e) = capture.start() {
            self.pair.free_capture();
            return Err(e);
        }
        self.changed = false;
        self.pair.dispatch()?;
        if self.draining {
            // v4l2-mem2mem forgets a drain when the capture queue stops; a driver that does not is busy with it.
            match self.pair.drain() {
                Err(e) if e.kind() != ErrorKind::Busy => return Err(e),
                _ => {}
            }
        }
        self.stats.formats += 1;
        let pictures = Pictures { buffers, visible };
        self.pictures = Some(pictures.clone());
        Ok(DecoderEvent::Format(pictures))
    }

    /// The best acceptable format that the device was not seen to refuse; its own first, if everything is acceptable.
    fn choose(&self, own: Option<FourCc>) -> Result<FourCc> {
        let device = self.device();
        let offered: Vec<FourCc> = device.formats(Direction::Capture)?.iter().map(|o| o.fourcc).collect();
        let usable = |f: &FourCc| f.info().is_some_and(|i| i.kind != FormatKind::Compressed);
        let mut wished = self.wishes.formats.clone();
        if wished.is_empty() {
            wished = own.into_iter().chain(offered.iter().copied()).filter(usable).collect();
        }
        let choice = wished.into_iter().find(|f| offered.contains(f) && !self.refused.contains(f));
        choice.ok_or_else(|| {
            let list = |all: &[FourCc]| all.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ");
            let asked = match &self.wishes.formats[..] {
                [] => "any format that can be laid out".into(),
                wished => list(wished),
            };
            let refused = match &self.refused[..] {
                [] => String::new(),
                refused => format!(" and does not convert this stream to {}", list(refused)),
            };
            let text = format!("asked {asked}; the device offers {}{refused}", list(&offered));
            Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(device)
        })
    }

    /// Ends the stream: every packet that was submitted is decoded, then comes [`Received::Ended`]. Keep taking frames until
    /// then. Ioctl: `VIDIOC_DECODER_CMD` with `V4L2_DEC_CMD_STOP`.
    ///
    /// # Errors
    /// `State` before the stream's format was found, `Busy` during a drain.
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn drain(&mut self) -> Result<()> {
        self.pair.drain()?;
        self.draining = true;
        Ok(())
    }

    /// Goes on after [`Received::Ended`]. Ioctls: as [`MemToMem::resume`].
    ///
    /// # Errors
    /// As [`MemToMem::resume`].
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn resume(&mut self) -> Result<Resumed> {
        self.pair.resume()
    }

    /// Drops the packets that were not decoded, for a jump to another place in the stream: a key frame must come next.
    /// Frames of before may still come. Ioctls: `VIDIOC_STREAMOFF` and `VIDIOC_STREAMON` on the output queue.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn flush(&mut self) -> Result<()> {
        self.pair.restart_output().map(drop)
    }

    /// Finds the device again, by its path, driver, bus and node, and has it wait for a stream. The descriptor stays.
    /// Frames that are out stay valid; packets that were not decoded are dropped. The next packet must be a key frame.
    ///
    /// # Errors
    /// As [`DecoderBuilder::open`]: `NotFound` until the device is back. It can be tried again.
    pub fn reopen(&mut self) -> Result<()> {
        self.pair.reopen()?;
        (self.pictures, self.changed, self.found, self.draining) = (None, false, None, false);
        self.refused.clear();
        self.wishes.set_up(&mut self.pair).or_else(|e| self.pair.search_again().and(Err(e)))
    }
}

impl sealed::Sealed for Decoder {}

/// A new format allocates and starts its buffers in the call that gives it.
///
/// Its errors: `Unsupported` if the pictures' format cannot be laid out, or the device has none of the acceptable ones or
/// does not convert to them; `Exhausted` if their buffers cannot be had; that of an earlier return of a frame's buffer,
/// once.
impl Station for Decoder {
    type Event = DecoderEvent;

    fn dispatch(&mut self) -> Result<()> {
        self.pair.dispatch()
    }

    fn try_recv(&mut self) -> Result<Received<DecoderEvent>> {
        self.next_until(Instant::now())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<DecoderEvent>> {
        self.next_until(wait::deadline(timeout))
    }
}

impl Submit for Decoder {
    type Item = Packet;

    /// Gives a packet to the device: one access unit or frame, copied, with the parameter sets before it if it is a key
    /// frame that comes without. Ioctl: `VIDIOC_QBUF`, and `VIDIOC_DQBUF` if no buffer is free.
    ///
    /// # Errors
    /// With the packet: `Mismatch` if it is larger than a bitstream buffer (see [`DecoderBuilder::packet_bytes`]),
    /// `InvalidArgument` if it is empty or of another codec, `DeviceLost`.
    fn try_submit(&mut self, packet: Packet) -> SubmitResult<Packet> {
        let meta = packet.meta();
        if meta.codec != self.wishes.codec {
            let text = format!("a packet of {} for a decoder of {}", meta.codec, self.wishes.codec);
            let error = Error::new(ErrorKind::InvalidArgument, "VIDIOC_QBUF", text).on(self.device());
            return Err(Rejected { error, item: packet });
        }
        let sets = match packet.parameter_sets() {
            Some(sets) if packet.is_key() && !packet.carries_parameters() => sets.to_annexb(),
            _ => Vec::new(),
        };
        let monotonic = meta.flags & FrameFlags::MONOTONIC;
        match self.submit_parts([&sets, packet.bytes()], meta.sequence, meta.timestamp_ns, monotonic) {
            Ok(Submitted::Taken) => Ok(Submitted::Taken),
            Ok(Submitted::Full(())) => Ok(Submitted::Full(packet)),
            Err(error) => Err(Rejected { error, item: packet }),
        }
    }
}

impl AsFd for Decoder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.as_fd()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({}, {}, {:?})", self.device(), self.wishes.codec, self.pictures)
    }
}
