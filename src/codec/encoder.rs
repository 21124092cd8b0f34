//! The stateful encoder: takes dma-bufs and gives leased packets.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::controls::{apply, FORCE_KEY_FRAME};
use super::encoder_builder::{EncoderBuilder, Wanted};
use super::setup::Setup;
use super::{Applied, Outcome, Params, Quirks, Setting, MOST_SKIPPED};
use crate::bitstream::{Codec, Coded, ParameterSets, Stream};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FrameInterval, Layout};
use crate::frame::{BufferSet, Frame, FrameFlags, Packet, PacketMeta};
use crate::station::{sealed, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::wait;
use crate::v4l2::{ControlValue, Device, MemToMem, MemToMemInfo, Processed};

/// An event of an encoder.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncoderEvent {
    /// A coded frame. Its buffer returns to the encoder when the last clone is dropped.
    Packet(Packet),
    /// The device was unplugged, or its driver failed. Leased packets stay intact.
    Lost(Error),
    /// The device is back. Call [`Encoder::reopen`].
    Returned,
}

/// Counts of an encoder since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncoderStats {
    /// Frames that were submitted.
    pub frames: u64,
    /// Packets that the encoder gave.
    pub packets: u64,
    /// Key frames among the packets.
    pub keys: u64,
    /// Damaged packets, which have the flag `ERROR`.
    pub errors: u64,
    /// Frames that the device could not use.
    pub refused: u64,
    /// Bytes of all packets.
    pub bytes: u64,
    /// Frames that the device has now, or will have after a resume.
    pub in_flight: usize,
    /// Bitstream buffers that are leased now.
    pub leased: usize,
}

/// A stateful V4L2 mem-to-mem encoder (`dev-encoder.rst`), fed with dma-bufs.
///
/// The device reads submitted frames from their own buffers. A submitted frame stays leased until the device has read
/// it. Packets are leases on the encoder's own bitstream buffers. The encoder works only during calls of its methods.
/// It has no thread and copies nothing. One encoder encodes one stream. For a second stream at the same time, open the
/// node again.
///
/// Every picture is encoded as a progressive one, because drivers accept nothing else: coda, Venus and bcm2835-codec
/// refuse formats or buffers with another field than `V4L2_FIELD_NONE`. An interlaced frame is a picture with the rows
/// of both fields, and a frame that is one field is a picture of its own. The packet has the flags of the frame, such
/// as [`FrameFlags::INTERLACED`]. The coded bytes do not name fields.
///
/// [`Received::Ended`] comes at the end of a drain, when the device has released all frames. To encode more frames,
/// call [`Encoder::resume`] or [`Encoder::reset`].
///
/// In steady state a frame costs QBUF and DQBUF on both queues, and one `epoll_wait`. It needs no allocation, no
/// attachment and no CPU access to pixels. If the driver does not set key flags, the CPU reads the first bytes of each
/// packet.
///
/// ```no_run
/// use framelease::bitstream::Codec;
/// use framelease::capture::{Camera, FrameSource};
/// use framelease::codec::{negotiate, Encoder, EncoderEvent, Params, Setting};
/// use framelease::format::Size;
/// use framelease::v4l2::Device;
/// use framelease::{Received, Station, Submit};
///
/// # fn main() -> framelease::Result<()> {
/// let device = Encoder::find(Codec::H264)?;
/// let camera = Device::find(|d| d.is_capture())?;
/// let params = Params::new(Codec::H264, Size::new(1920, 1080)).wish(Setting::BitrateBps(4_000_000));
/// let agreement = negotiate(&device, &camera, &params, &[])?;
/// let mut camera = Camera::builder().device(camera).layout(&agreement.source).open()?;
/// let mut encoder = Encoder::builder(params.resized(agreement.size)).device(device).open(camera.buffers()?)?;
/// for frame in camera.frames() {
///     // If the encoder has no room, the frame is dropped here.
///     let _ = encoder.try_submit(frame?)?;
///     while let Received::Item(EncoderEvent::Packet(packet)) = encoder.try_recv()? {
///         println!("{packet:?}");
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Encoder {
    pub(super) pair: MemToMem,
    pub(super) wanted: Wanted,
    pub(super) setup: Setup,
    pub(super) stream: Stream,
    /// The frames of a start that failed, which the next call repeats.
    pub(super) halted: Option<Vec<Frame>>,
    /// The frames that were submitted since the drain. Some drivers would encode them, and lose the packets when the
    /// next stream begins.
    pub(super) later: Vec<Frame>,
    pub(super) is_draining: bool,
    /// The sequence number and time of the last packet's source. vsi_v4l2enc keeps this frame.
    pub(super) coded: Option<(u64, u64)>,
    stats: EncoderStats,
}

impl EncoderBuilder {
    /// Sets the device up for the frames of one pool, such as the buffers of a camera, a converter or a subscriber. The
    /// device starts with the first frame. Ioctls: those of `dev-encoder.rst`, "Initialization".
    ///
    /// # Errors
    /// `NotFound` if no device encodes to the codec (the text lists the mem-to-mem devices). `Mismatch` if the device
    /// cannot read the layout (the text has both geometries). [`negotiate`](super::negotiate) finds a layout that the
    /// device can read. `Unsupported` if the device does not have the codec, the format, or a crop that the picture
    /// needs. `Exhausted` if memory is not available. A [required](Params::require) setting that the driver does not
    /// apply exactly is also an error. If the call fails, nothing stays allocated.
    pub fn open(self, sources: &BufferSet) -> Result<Encoder> {
        let codec = self.params.codec();
        let device = match self.device {
            Some(device) => device,
            None => Encoder::find(codec)?,
        };
        let info = MemToMemInfo::for_device(&device)?;
        if codec.fourcc_among(|fourcc| info.encodes_to(fourcc)).is_none() {
            let text = format!("no encoder to {codec}: {info}");
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(&device));
        }
        let quirks = self.quirks.unwrap_or_else(|| Quirks::for_device(device.info()));
        let slots = self.sources.unwrap_or(0).max(sources.slots());
        let layout = *sources.layout();
        let mut pair = MemToMem::new(&device)?;
        let wanted = Wanted { params: self.params, quirks, source: layout, slots };
        let setup = wanted.set_up(&mut pair)?;
        Ok(Encoder::new(pair, wanted, setup))
    }
}

impl Encoder {
    /// Creates a builder for the encoder of a stream.
    pub fn builder(params: Params) -> EncoderBuilder {
        EncoderBuilder { params, device: None, quirks: None, sources: None }
    }

    pub(super) fn new(pair: MemToMem, wanted: Wanted, setup: Setup) -> Self {
        Self {
            stream: Stream::new(wanted.params.codec()),
            pair,
            wanted,
            setup,
            halted: None,
            later: Vec::new(),
            is_draining: false,
            coded: None,
            stats: EncoderStats::default(),
        }
    }

    /// Opens the first device, by number, that encodes to a codec.
    ///
    /// # Errors
    /// `NotFound` if no device encodes to the codec. The text lists the mem-to-mem devices.
    pub fn find(codec: Codec) -> Result<Device> {
        let encodes = |d: &MemToMemInfo| codec.fourcc_among(|fourcc| d.encodes_to(fourcc)).is_some();
        Device::find_mem_to_mem(&format!("encoder of {codec}"), encodes)
    }

    /// Returns the device, for controls that [`Setting`] does not have.
    pub fn device(&self) -> &Device {
        self.pair.device()
    }

    /// Returns the requested parameters of the stream.
    pub fn params(&self) -> &Params {
        &self.wanted.params
    }

    /// Returns the outcome of each requested setting.
    pub fn applied(&self) -> &[Applied] {
        &self.setup.applied
    }

    /// Returns the frame interval that the device chose. Returns `None` if the device does not have this setting.
    pub fn interval(&self) -> Option<FrameInterval> {
        self.setup.interval
    }

    /// Returns the layout of the device's output queue.
    pub fn layout(&self) -> &Layout {
        &self.setup.queue
    }

    /// Returns the present parameter sets. Returns `None` before the first packet, and for codecs without parameter
    /// sets.
    pub fn parameter_sets(&self) -> Option<&Arc<ParameterSets>> {
        self.stream.parameters()
    }

    /// Returns the counts since the encoder was opened.
    pub fn stats(&self) -> EncoderStats {
        let leased = self.pair.capture().buffers().map_or(0, BufferSet::leased);
        let waiting = self.later.len() + self.halted.as_ref().map_or(0, Vec::len);
        EncoderStats { in_flight: self.pair.output().queued() + waiting, leased, ..self.stats }
    }

    /// Returns how many frames [`Submit::try_submit`] accepts now, if they are in different buffers.
    #[doc(hidden)]
    pub fn free_slots(&self) -> usize {
        self.pair.output().free_slots().saturating_sub(self.later.len())
    }

    /// Returns `true` if a start failed, which the next frame repeats.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// Ends the leases of the frames that the device has read.
    pub(crate) fn collect(&mut self) -> Result<()> {
        while let Some(source) = self.pair.try_source()? {
            self.read(&source);
        }
        Ok(())
    }

    /// Counts a source frame that the device has read.
    fn read(&mut self, source: &Frame) {
        self.stats.refused += u64::from(source.meta().flags.contains(FrameFlags::ERROR));
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Received<EncoderEvent>> {
        let mut skipped = 0;
        while skipped < MOST_SKIPPED || Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let got = match self.pair.recv(left)? {
                Received::Item(got) => got,
                Received::Nothing => return Ok(Received::Nothing),
                Received::Ended => {
                    // The caller may not call again, so the frames that were read before the last packet are released
                    // now.
                    self.collect()?;
                    return Ok(Received::Ended);
                }
            };
            if let Some(event) = self.sort(got)? {
                return Ok(Received::Item(event));
            }
            skipped += 1;
        }
        // The descriptor is still readable.
        Ok(Received::Nothing)
    }

    /// Converts a result of the queue pair to an event for the caller, if there is one.
    fn sort(&mut self, got: Processed) -> Result<Option<EncoderEvent>> {
        match got {
            Processed::Result { frame, source } => {
                self.coded = source.map(|s| (s.sequence, s.timestamp_ns)).or(self.coded);
                let (sequence, meta) = (source.map(|s| s.sequence), *frame.meta());
                let is_damaged = meta.flags.contains(FrameFlags::ERROR);
                // Parameter sets alone are a packet, too, until their content is known.
                let params = &self.wanted.params;
                let mut about = PacketMeta::new(params.codec(), params.size(), 0, meta.timestamp_ns);
                about.source = sequence;
                about.flags = meta.flags & (FrameFlags::ERROR | FrameFlags::KEY | FrameFlags::MONOTONIC);
                about.flags |= source.map_or_else(FrameFlags::default, |s| s.flags & FrameFlags::FIELDS);
                let packet = Packet::leased(frame, about)?;
                match self.stream.next(packet.bytes(), is_damaged) {
                    Coded::Picture { head, sequence, parameters } => {
                        let packet = packet.with_head(&head, sequence, parameters);
                        self.stats.packets += 1;
                        self.stats.keys += u64::from(packet.is_key());
                        self.stats.errors += u64::from(is_damaged);
                        self.stats.bytes += packet.bytes().len() as u64;
                        Ok(Some(EncoderEvent::Packet(packet)))
                    }
                    Coded::Headers | Coded::Empty => Ok(None),
                }
            }
            Processed::Source(frame) => {
                self.read(&frame);
                Ok(None)
            }
            Processed::Lost(error) => Ok(Some(EncoderEvent::Lost(error))),
            Processed::Returned => Ok(Some(EncoderEvent::Returned)),
            Processed::Event(_) => Ok(None),
        }
    }

    /// Makes the next submitted frame a key frame. Ioctl: `VIDIOC_S_EXT_CTRLS`.
    ///
    /// # Errors
    /// `Unsupported` if the driver does not have `V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME`. In that case, call
    /// [`Encoder::reset`].
    #[doc(alias = "V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME")]
    pub fn force_key(&mut self) -> Result<()> {
        let forced = self.device().set_control(FORCE_KEY_FRAME, ControlValue::Press);
        self.pair.noted(forced).map(drop)
    }

    /// Changes a setting of a running encoder. Ioctls: `VIDIOC_QUERY_EXT_CTRL`, `VIDIOC_S_EXT_CTRLS`.
    ///
    /// If the driver does not accept the change during streaming, [`Outcome::Refused`] contains `Busy`. In that case,
    /// call [`Encoder::drain`] before this call, or call [`Encoder::reconfigure`] instead.
    ///
    /// A setting that the driver accepted replaces that of [`Encoder::params`]. [`Encoder::reopen`] applies it again.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug.
    pub fn apply(&mut self, setting: Setting) -> Result<Outcome> {
        let applied = apply(self.device(), self.wanted.params.codec(), setting);
        match applied {
            Ok(Outcome::Exact) if self.wanted.params.requires(&setting) => {
                self.wanted.params = self.wanted.params.clone().require(setting);
            }
            Ok(Outcome::Exact | Outcome::Adjusted(_)) => self.wanted.params = self.wanted.params.clone().wish(setting),
            _ => {}
        }
        self.pair.noted(applied)
    }

    /// Changes to another stream, or to frames of another pool. Leased packets stay intact. Returns the frames that the
    /// device had not read. After [`Encoder::drain`] the device has read all frames. Ioctls: `VIDIOC_STREAMOFF`,
    /// `VIDIOC_REQBUFS`, and those of [`EncoderBuilder::open`].
    ///
    /// # Errors
    /// The errors of [`EncoderBuilder::open`]. Every error gives back the frames that the device had not read. After an
    /// error the encoder has no buffers and accepts no frames. The call can be repeated.
    pub fn reconfigure(
        &mut self,
        params: Params,
        sources: &BufferSet,
    ) -> std::result::Result<Vec<Frame>, Rejected<Vec<Frame>>> {
        let frames = self.free();
        let slots = self.wanted.slots.max(sources.slots());
        self.wanted = Wanted { params, source: *sources.layout(), slots, quirks: self.wanted.quirks };
        self.set_up_again(frames).map_err(|rejected| {
            self.pair.refused(&rejected.error);
            rejected
        })
    }

    /// Finds the device again, by its path, driver, bus and node, and sets it up as before. The file descriptor stays
    /// the same. Leased packets stay intact. Returns the frames that the device had. The first of these frames may have
    /// been encoded already.
    ///
    /// # Errors
    /// Every error gives back the frames that the device had. `NotFound` until the device is back. Other errors are
    /// those of [`EncoderBuilder::open`]. The call can be repeated. If the call fails, [`EncoderEvent::Returned`] comes
    /// again after a pause.
    pub fn reopen(&mut self) -> std::result::Result<Vec<Frame>, Rejected<Vec<Frame>>> {
        let frames = self.free();
        match self.pair.reopen() {
            Ok(_) => self.set_up_again(frames).map_err(|rejected| {
                self.pair.search_again();
                rejected
            }),
            Err(error) => Err(Rejected { error, item: frames }),
        }
    }

    fn set_up_again(&mut self, frames: Vec<Frame>) -> std::result::Result<Vec<Frame>, Rejected<Vec<Frame>>> {
        let count = self.stream.count();
        match self.wanted.set_up(&mut self.pair) {
            Ok(setup) => {
                (self.setup, self.stream) = (setup, Stream::from(self.wanted.params.codec(), count));
                Ok(frames)
            }
            Err(error) => Err(Rejected { error, item: frames }),
        }
    }
}

impl sealed::Sealed for Encoder {}

/// `dispatch`, `try_recv` and `recv` also end the leases of frames that the encoder has read. If the buffer of a packet
/// could not be queued again when the packet was dropped, the next call reports that error, once.
impl Station for Encoder {
    type Event = EncoderEvent;

    fn dispatch(&mut self) -> Result<()> {
        match self.collect() {
            // The loss is an event.
            Err(error) if error.kind() == ErrorKind::DeviceLost => self.pair.refused(&error),
            collected => collected?,
        }
        self.pair.dispatch()
    }

    fn try_recv(&mut self) -> Result<Received<EncoderEvent>> {
        self.next_until(Instant::now())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Received<EncoderEvent>> {
        self.next_until(wait::deadline(timeout))
    }
}

impl Submit for Encoder {
    type Item = Frame;

    /// Gives a frame to the device, and starts the device with the first frame. The lease ends in a later call of the
    /// encoder, after the device has read the picture. Ioctls: `VIDIOC_QBUF`; `VIDIOC_DQBUF` if the queue is full;
    /// `VIDIOC_STREAMON` twice at the start.
    ///
    /// The encoder keeps frames that are submitted after [`Encoder::drain`], and encodes them after
    /// [`Encoder::resume`].
    ///
    /// # Errors
    /// Every error gives the frame back. `Mismatch` if the frame's layout differs from the layout that the encoder was
    /// opened with. `WrongFile` if the frame's memory is a memfd. `DeviceLost` after an unplug.
    fn try_submit(&mut self, frame: Frame) -> SubmitResult<Frame> {
        if self.halted.is_some() {
            if let Err(error) = self.restart() {
                return Err(Rejected { error, item: frame });
            }
        }
        if self.free_slots() == 0 {
            if let Err(error) = self.collect() {
                return Err(Rejected { error, item: frame });
            }
        }
        if self.is_draining {
            return match self.pair.output().check(&frame) {
                Err(error) => Err(Rejected { error, item: frame }),
                Ok(()) if self.free_slots() == 0 => Ok(Submitted::Full(frame)),
                Ok(()) => {
                    self.later.push(frame);
                    self.stats.frames += 1;
                    Ok(Submitted::Taken)
                }
            };
        }
        let had_started = self.pair.capture().is_streaming();
        if let Submitted::Full(frame) = self.pair.queue(frame)? {
            return Ok(Submitted::Full(frame));
        }
        if !had_started {
            if let Err(error) = self.pair.start() {
                let mut frames = self.free();
                let item = frames.pop();
                self.halted = Some(frames);
                // Stopping the queues has forgotten a loss.
                self.pair.refused(&error);
                return match item {
                    Some(item) => Err(Rejected { error, item }),
                    // The driver keeps the frame until it is closed.
                    None => Ok(Submitted::Taken),
                };
            }
        }
        self.stats.frames += 1;
        Ok(Submitted::Taken)
    }
}

impl AsFd for Encoder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.as_fd()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { params, source, .. } = &self.wanted;
        write!(f, "Encoder({}, {source} to {} {})", self.device(), params.codec(), params.size())
    }
}
