//! The stateful decoder: takes packets and gives leased frames.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::MOST_SKIPPED;
use crate::bitstream::Codec;
use crate::dmabuf::DEFAULT_WAIT;
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FormatInfo, FormatKind, FourCc, Rect, Size};
use crate::frame::{BufferSet, Frame, FrameFlags, FrameMeta, Packet, Payload};
use crate::station::{sealed, FrameEvent, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::wait;
use crate::v4l2::{
    CacheHint, ControlId, ControlValue, Device, Direction, Event, EventKind, FormatRequest, MemToMem, MemToMemInfo,
    Processed, Resumed, SelectionTarget,
};

/// An event of a decoder.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecoderEvent {
    /// A picture, with the flag [`ERROR`](crate::frame::FrameFlags::ERROR) if the stream was damaged. Its buffer
    /// returns to the decoder when the last clone is dropped.
    Frame(Frame),
    /// The stream's format was found or has changed. [`Pictures`] has the buffers of the next frames. Frames in
    /// earlier buffers stay intact while they are leased.
    Format(Pictures),
    /// The device was unplugged, or its driver failed. Leased frames stay valid.
    Lost(Error),
    /// The device is back. Call [`Decoder::reopen`].
    Returned,
}

impl sealed::Sealed for DecoderEvent {}

impl FrameEvent for DecoderEvent {
    fn frame_or_event(self) -> std::result::Result<Frame, Self> {
        match self {
            Self::Frame(frame) => Ok(frame),
            event => Err(event),
        }
    }
}

/// The buffers of a stream's pictures, and the visible part of each picture. Both stay the same until the format of the
/// stream changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pictures {
    /// The buffers, to import or announce. All frames have the layout of these buffers.
    pub buffers: BufferSet,
    /// The visible part of each frame, such as 1080 of 1088 rows.
    pub visible: Rect,
}

/// Chooses a decoder and sets it up.
///
/// ```no_run
/// use framelease::bitstream::Codec;
/// use framelease::codec::Decoder;
/// use framelease::format::FourCc;
///
/// let decoder = Decoder::builder(Codec::H264).formats([FourCc::NV12]).frames_held(6).open()?;
/// # Ok::<(), framelease::Error>(())
/// ```
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
    /// Sets a device that is already open.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets the acceptable formats of the pictures, best first. By default, the driver chooses. Formats that the CPU
    /// can read come before tiles, which are [opaque](crate::format::FormatKind::Opaque).
    pub fn formats(mut self, formats: impl IntoIterator<Item = FourCc>) -> Self {
        self.formats = formats.into_iter().collect();
        self
    }

    /// Sets the expected size of the pictures. Drivers derive the size of the bitstream buffers from this size. The
    /// default is 1920x1088.
    pub fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Sets the largest size of a packet in bytes, instead of the driver's estimate.
    pub fn packet_bytes(mut self, bytes: u32) -> Self {
        self.packet_bytes = bytes;
        self
    }

    /// Sets the number of frames that the caller may hold at once. The default is 4. The decoder allocates buffers for
    /// these frames and for the frames that it needs itself. The limit of all these buffers together is 32.
    pub fn frames_held(mut self, count: usize) -> Self {
        self.frame_buffers = count;
        self
    }

    /// Opens the decoder, which then waits for a stream. Ioctls: those of `dev-decoder.rst`, "Initialization", up to
    /// the first bitstream buffer.
    ///
    /// # Errors
    /// `NotFound` if no device decodes the codec (the text lists the mem-to-mem devices). `Unsupported` if the chosen
    /// device does not decode the codec. `Busy` while another program has buffers of the device. `Exhausted` if memory
    /// is not available. Other errors are those of the driver.
    pub fn open(self) -> Result<Decoder> {
        let what = format!("decoder of {}", self.codec);
        let device = match &self.device {
            Some(device) => device.clone(),
            None => Device::find_mem_to_mem(&what, |d| self.codec.fourcc_among(|fourcc| d.decodes(fourcc)).is_some())?,
        };
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

    /// Initializes the device up to the first bitstream buffer. `pair` has no buffers.
    fn set_up(&self, pair: &mut MemToMem) -> Result<()> {
        let info = MemToMemInfo::for_device(pair.device())?;
        let fourcc = self.codec.fourcc_among(|fourcc| info.decodes(fourcc)).ok_or_else(|| {
            let text = format!("no decoder of {}: {info}", self.codec);
            Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(pair.device())
        })?;
        let mut request = FormatRequest::new(fourcc, self.size);
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
    /// Packets that were submitted.
    pub packets: u64,
    /// Frames that the decoder gave.
    pub frames: u64,
    /// Damaged frames, which have the flag `ERROR`.
    pub errors: u64,
    /// How often the stream's format was found or changed.
    pub formats: u64,
    /// The sum of the packets' bytes. All these bytes were copied into the device's buffers.
    pub bytes: u64,
}

/// A stateful V4L2 mem-to-mem decoder (`dev-decoder.rst`).
///
/// Each packet is copied once, into a bitstream buffer of the decoder. Frames are leases on the decoder's own picture
/// buffers, which are exported as dma-bufs. The decoder finds the format of the stream and follows its changes. After
/// each change, the frames are in new buffers.
///
/// [`Received::Ended`] comes at the end of a drain. To decode more packets, call [`Decoder::resume`].
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::bitstream::Codec;
/// use framelease::codec::{Decoder, DecoderEvent};
/// use framelease::frame::Packet;
/// use framelease::{Received, Station, Submit};
///
/// fn decode(packets: impl Iterator<Item = Packet>) -> framelease::Result<()> {
///     let mut decoder = Decoder::builder(Codec::H264).open()?;
///     for packet in packets {
///         let _ = decoder.submit(packet, Duration::from_secs(1))?;
///         while let Received::Item(event) = decoder.try_recv()? {
///             if let DecoderEvent::Frame(frame) = event {
///                 println!("{frame:?}");
///             }
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct Decoder {
    pair: MemToMem,
    wishes: DecoderBuilder,
    pictures: Option<Pictures>,
    /// The driver reported a change, and drains the frames before it.
    changed: bool,
    /// Formats that the driver accepted before it reported another change, without a frame in between. It does not
    /// convert to them.
    refused: Vec<FourCc>,
    /// The stream's size and the frame count when the format was set.
    found: Option<(Size, u64)>,
    /// A drain was requested, and its end was not reported yet.
    draining: bool,
    stats: DecoderStats,
}

impl Decoder {
    /// Creates a builder for a decoder of this codec.
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

    /// Returns the device, for controls.
    pub fn device(&self) -> &Device {
        self.pair.device()
    }

    /// Returns the present buffers of the stream's pictures, or `None` until the format was found.
    pub fn pictures(&self) -> Option<&Pictures> {
        self.pictures.as_ref()
    }

    /// Returns the counts since the decoder was opened.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    /// Submits the bytes of one access unit or frame. The decoded frame gets the time `timestamp_ns`. Returns
    /// [`Submitted::Full`] while the device uses all bitstream buffers. In that case, receive events from the decoder
    /// and try again.
    ///
    /// # Errors
    /// `Mismatch` if the bytes exceed a bitstream buffer (see [`DecoderBuilder::packet_bytes`]). `InvalidArgument` if
    /// there are no bytes. `DeviceLost` after an unplug.
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
            // Dropping a source that was read frees its buffer.
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
        let mut skipped = 0;
        while skipped < MOST_SKIPPED || Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match self.pair.recv(left)? {
                Received::Item(got) => self.sort(got)?,
                // An earlier attempt failed.
                Received::Nothing if self.changed && !self.pair.capture().is_streaming() => Some(self.follow()?),
                Received::Nothing => return Ok(Received::Nothing),
                Received::Ended => {
                    // The event of a format change may not have been read yet.
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
            skipped += 1;
        }
        // The descriptor is still readable.
        Ok(Received::Nothing)
    }

    /// Converts a result of the queue pair to an event for the caller, if there is one.
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
                // Frames from before the change come first. The queue reports their end.
                if !self.changed || self.pair.capture().is_streaming() && !self.pair.capture().has_ended() {
                    return Ok(None);
                }
                self.follow().map(Some)
            }
            Processed::Lost(error) => {
                self.changed = false;
                Ok(Some(DecoderEvent::Lost(error)))
            }
            Processed::Returned => Ok(Some(DecoderEvent::Returned)),
        }
    }

    fn on_event(&mut self, event: Event) {
        // vsi_v4l2_dec has a bit of its own for other colors, and waits as after a change of the resolution.
        self.changed |= matches!(event, Event::SourceChange { changes, .. } if changes != 0);
    }

    /// Changes to the present format of the stream (`dev-decoder.rst`, "Capture Setup"). If memory is not available, a
    /// later call tries again.
    fn follow(&mut self) -> Result<DecoderEvent> {
        let followed = self.set_up_capture();
        let is_for_now = |e: &Error| matches!(e.kind(), ErrorKind::Exhausted | ErrorKind::Busy);
        self.changed = !self.pair.capture().is_streaming() && followed.as_ref().is_err_and(is_for_now);
        followed
    }

    fn set_up_capture(&mut self) -> Result<DecoderEvent> {
        let before = self.pictures.take().map(|p| p.buffers.layout().fourcc());
        self.pair.free_capture();
        let device = self.device().clone();
        let own = device.format(Direction::Capture).ok();
        let size = own.map_or(self.wishes.size, |l| l.size());
        let now = Some((size, self.stats.frames));
        match before {
            // The same stream again, and no frame was decoded.
            Some(before) if self.found == now => self.refused.push(before),
            // Another attempt.
            None if self.found == now => {}
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
        self.pair.dispatch()?;
        if self.draining {
            // v4l2-mem2mem forgets a drain when the capture queue stops. Other drivers report that the drain still
            // runs.
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

    /// Returns the best acceptable format that the device did not refuse. Without a preference, the device's own
    /// format comes first.
    fn choose(&self, own: Option<FourCc>) -> Result<FourCc> {
        let device = self.device();
        let offered: Vec<FourCc> = device.formats(Direction::Capture)?.iter().map(|o| o.fourcc).collect();
        let usable = |f: &FourCc| f.info().is_some_and(|i| i.kind != FormatKind::Compressed);
        let mut wished = self.wishes.formats.clone();
        if wished.is_empty() {
            wished = own.into_iter().chain(offered.iter().copied()).filter(usable).collect();
            // Only devices read tiles.
            wished.sort_by_key(|f| !f.info().is_some_and(FormatInfo::has_rows));
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

    /// Ends the stream. The device decodes every submitted packet. Continue to take frames until [`Received::Ended`]
    /// comes. Ioctl: `VIDIOC_DECODER_CMD` with `V4L2_DEC_CMD_STOP`.
    ///
    /// # Errors
    /// `State` before the stream's format was found. `Busy` during a drain.
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn drain(&mut self) -> Result<()> {
        self.pair.drain()?;
        self.draining = true;
        Ok(())
    }

    /// Resumes decoding after [`Received::Ended`]. Ioctls: `VIDIOC_DECODER_CMD` with `V4L2_DEC_CMD_START`,
    /// `VIDIOC_DQBUF`, and for some drivers `VIDIOC_STREAMOFF` and `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` before [`Received::Ended`]. `DeviceLost` after an unplug. Other errors are those of the driver; the call
    /// can be repeated.
    #[doc(alias = "VIDIOC_DECODER_CMD")]
    pub fn resume(&mut self) -> Result<Resumed> {
        self.pair.resume()
    }

    /// Drops the packets that are not decoded yet. Use this call to continue at another place in the stream. The next
    /// packet must be a key frame. Earlier frames may still come. Ioctls: `VIDIOC_STREAMOFF` and `VIDIOC_STREAMON` on
    /// the output queue.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver.
    pub fn flush(&mut self) -> Result<()> {
        self.pair.restart_output().map(drop)
    }

    /// Finds the device again, by its path, driver, bus and node. The decoder then waits for a stream. The decoder's
    /// file descriptor stays the same. Leased frames stay valid. Packets that were not decoded are dropped. The next
    /// packet must be a key frame.
    ///
    /// # Errors
    /// `NotFound` until the device is back. Other errors are those of [`DecoderBuilder::open`]. The call can be
    /// repeated.
    pub fn reopen(&mut self) -> Result<()> {
        self.pair.reopen()?;
        (self.pictures, self.changed, self.found, self.draining) = (None, false, None, false);
        self.refused.clear();
        self.wishes.set_up(&mut self.pair).map_err(|e| {
            self.pair.search_again();
            e
        })
    }
}

impl sealed::Sealed for Decoder {}

/// When `try_recv` or `recv` returns [`DecoderEvent::Format`], the call has already allocated the buffers for that
/// format.
///
/// Errors: `Unsupported` if this crate does not know the format of the pictures, or if the device does not give an
/// acceptable format. `Exhausted` or `Busy` if the buffers cannot be allocated now. A later call then tries again,
/// after its timeout. If a buffer could not be queued again when its frame was dropped, the next call reports this
/// error once.
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

    /// Submits a packet, which is one access unit or frame. The call copies the bytes of the packet. If a key frame
    /// does not contain parameter sets, the call adds those of [`Packet::parameter_sets`]. Ioctls: `VIDIOC_QBUF`, and
    /// `VIDIOC_DQBUF` if no buffer is free.
    ///
    /// # Errors
    /// Every error gives the packet back. `Mismatch` if the packet is larger than a bitstream buffer (see
    /// [`DecoderBuilder::packet_bytes`]). `InvalidArgument` if the packet is empty or has another codec. `DeviceLost`
    /// after an unplug.
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
