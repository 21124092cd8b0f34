//! The stateful encoder: dma-bufs in, leased packets out.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::controls::{apply, FORCE_KEY_FRAME};
use super::setup::Setup;
use super::stream::{Coded, Stream};
use super::{Applied, Outcome, Params, Quirks, Setting};
use crate::bitstream::{Codec, ParameterSets};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::{FrameInterval, Layout};
use crate::frame::{BufferSet, Frame, FrameFlags, Packet, PacketMeta};
use crate::station::{sealed, Received, Station, Submit, SubmitResult, Submitted};
use crate::sys::wait;
use crate::v4l2::{CacheHint, ControlId, ControlValue, Device, MemToMem, MemToMemInfo, Processed, Reclaimed, Resumed};

/// The most buffers of a queue: what V4L2 had until Linux 6.10.
const MOST_BUFFERS: usize = 32;

/// What an encoder gives.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncoderEvent {
    /// A coded frame. Its buffer goes back to the encoder with the last clone.
    Packet(Packet),
    /// The device was unplugged, or its driver gave up. Packets that are out stay whole.
    Lost(Error),
    /// The device is back: call [`Encoder::reopen`].
    Returned,
}

/// Counts of an encoder since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncoderStats {
    /// Frames taken.
    pub frames: u64,
    /// Packets given.
    pub packets: u64,
    /// Packets that were key frames.
    pub keys: u64,
    /// Packets flagged `ERROR`.
    pub errors: u64,
    /// Frames that the device could not use.
    pub refused: u64,
    /// Bytes of packets.
    pub bytes: u64,
    /// Frames that the device has now.
    pub in_flight: usize,
    /// Bitstream buffers that are leased now.
    pub leased: usize,
}

/// Chooses an encoder. Everything but the stream has a default: the first device that encodes to the codec.
#[derive(Clone, Debug)]
#[must_use]
pub struct EncoderBuilder {
    params: Params,
    device: Option<Device>,
    quirks: Option<Quirks>,
    sources: Option<usize>,
}

impl EncoderBuilder {
    /// A device that is open already: the one that [`negotiate`](super::negotiate) was asked about.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// What is known of its driver, instead of the library's table.
    #[doc(hidden)]
    pub fn quirks(mut self, quirks: Quirks) -> Self {
        self.quirks = Some(quirks);
        self
    }

    /// How many buffers frames will come from, if from more than one pool. Each is attached once then.
    pub fn sources(mut self, count: usize) -> Self {
        self.sources = Some(count);
        self
    }

    /// Sets the device up for frames of a pool: a camera's, a converter's, a subscription's. It starts with the first
    /// frame. Ioctls: those of `dev-encoder.rst`, "Initialization".
    ///
    /// # Errors
    /// `NotFound` if there is no such encoder, with those that there are; `Mismatch` if the device cannot read that layout,
    /// with both geometries ([`negotiate`](super::negotiate) finds one that it can); `Unsupported` if it lacks the codec, the
    /// format, or a crop that the picture needs; that of a [required](Params::require) setting; `Exhausted`. Nothing stays
    /// allocated.
    pub fn open(self, sources: &BufferSet) -> Result<Encoder> {
        let codec = self.params.codec();
        let device = match self.device {
            Some(device) => device,
            None => Encoder::find(codec)?,
        };
        let info = MemToMemInfo::for_device(&device)?;
        if !info.encodes_to(codec.fourcc()) {
            let text = format!("no encoder to {codec}: {info}");
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(&device));
        }
        let quirks = self.quirks.unwrap_or_else(|| Quirks::for_device(device.info()));
        let slots = self.sources.unwrap_or(0).max(sources.slots());
        let layout = *sources.layout();
        let mut pair = MemToMem::new(&device)?;
        let wanted = Wanted { params: self.params, quirks, source: layout, slots };
        let setup = wanted.set_up(&mut pair)?;
        Ok(Encoder { pair, stream: Stream::new(codec), wanted, setup, stats: EncoderStats::default() })
    }
}

/// What a device is set up for.
#[derive(Debug)]
struct Wanted {
    params: Params,
    quirks: Quirks,
    source: Layout,
    slots: usize,
}

impl Wanted {
    /// `pair` is without buffers, and is so again if this fails.
    fn set_up(&self, pair: &mut MemToMem) -> Result<Setup> {
        let device = pair.device().clone();
        let setup = Setup::apply(&device, &self.params, &self.source, self.quirks)?;
        pair.output_mut().split_planes(setup.is_split);
        let least = |id| match device.control_value(id) {
            Ok(ControlValue::Number(n)) => usize::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let indices = self.slots.max(least(ControlId::MIN_BUFFERS_FOR_OUTPUT)).clamp(2, MOST_BUFFERS);
        let packets = self.params.packet_buffers.max(least(ControlId::MIN_BUFFERS_FOR_CAPTURE)).clamp(2, MOST_BUFFERS);
        let buffers = pair
            .output_mut()
            .import(indices)
            .and_then(|()| pair.capture_mut().allocate(packets, CacheHint::Cached).map(drop));
        if let Err(e) = buffers {
            drop(pair.free());
            return Err(e);
        }
        Ok(setup)
    }
}

/// A stateful V4L2 mem-to-mem encoder (`dev-encoder.rst`), fed by dma-buf.
///
/// Frames go into its output queue as they are: the lease of [`Encoder::submit`] ends when the device has read the
/// picture. Packets are leases on its own bitstream buffers. Caller-driven: no thread, no copy. One encoder is for one
/// stream; every open of the node is another.
///
/// [`Received::Ended`] comes at the end of a drain, when the device keeps no frame that it was for. [`Encoder::resume`] or
/// [`Encoder::reset`] begins again.
///
/// In steady state a frame costs QBUF and DQBUF on both queues, and one `epoll_wait`: no allocation, no attachment, no
/// pixel touched. Where the driver sets no key flag, the head of each packet is read.
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
///     // A frame that finds no room is dropped here.
///     let _ = encoder.try_submit(frame?)?;
///     while let Received::Item(EncoderEvent::Packet(packet)) = encoder.try_recv()? {
///         println!("{packet:?}");
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Encoder {
    pair: MemToMem,
    wanted: Wanted,
    setup: Setup,
    stream: Stream,
    stats: EncoderStats,
}

impl Encoder {
    /// Chooses an encoder for a stream.
    pub fn builder(params: Params) -> EncoderBuilder {
        EncoderBuilder { params, device: None, quirks: None, sources: None }
    }

    /// Opens the first device, by number, that encodes to a codec.
    ///
    /// # Errors
    /// `NotFound`, with the mem-to-mem devices that there are.
    pub fn find(codec: Codec) -> Result<Device> {
        Device::find_mem_to_mem(&format!("encoder of {codec}"), |d| d.encodes_to(codec.fourcc()))
    }

    /// The device, for controls that [`Setting`] has not.
    pub fn device(&self) -> &Device {
        self.pair.device()
    }

    /// The stream that was asked for.
    pub fn params(&self) -> &Params {
        &self.wanted.params
    }

    /// What became of each setting that was asked for.
    pub fn applied(&self) -> &[Applied] {
        &self.setup.applied
    }

    /// The frame interval that the device took, if it has one and was asked.
    pub fn interval(&self) -> Option<FrameInterval> {
        self.setup.interval
    }

    /// The layout of the device's output queue.
    pub fn layout(&self) -> &Layout {
        &self.setup.queue
    }

    /// The parameter sets in force; `None` before the first packet and for codecs without.
    pub fn parameter_sets(&self) -> Option<&Arc<ParameterSets>> {
        self.stream.parameters()
    }

    /// Counts until now.
    pub fn stats(&self) -> EncoderStats {
        let leased = self.pair.capture().buffers().map_or(0, BufferSet::leased);
        EncoderStats { in_flight: self.pair.output().queued(), leased, ..self.stats }
    }

    /// Returns how many frames [`Submit::try_submit`] takes now, if they are of different buffers.
    #[doc(hidden)]
    pub fn free_slots(&self) -> usize {
        self.pair.output().free_slots()
    }

    /// Ends the leases of the frames that the device has read by now.
    pub(crate) fn collect(&mut self) -> Result<()> {
        while let Some(source) = self.pair.try_source()? {
            self.read(&source);
        }
        Ok(())
    }

    /// Stops both queues and frees them: the frames that the device had not read, as far as it says.
    fn free(&mut self) -> Vec<Frame> {
        // A device that is gone says nothing any more.
        let _ = self.collect();
        let Reclaimed { frames, .. } = self.pair.free();
        frames
    }

    /// The device has read a source.
    fn read(&mut self, source: &Frame) {
        self.stats.refused += u64::from(source.meta().flags.contains(FrameFlags::ERROR));
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Received<EncoderEvent>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let got = match self.pair.recv(left)? {
                Received::Item(got) => got,
                Received::Nothing => return Ok(Received::Nothing),
                Received::Ended => {
                    // The caller may not call again: what was read before the last packet is released now.
                    self.collect()?;
                    return Ok(Received::Ended);
                }
            };
            if let Some(event) = self.sort(got)? {
                return Ok(Received::Item(event));
            }
        }
    }

    /// What of a queue pair's results is the user's.
    fn sort(&mut self, got: Processed) -> Result<Option<EncoderEvent>> {
        match got {
            Processed::Result { frame, source } => {
                let (sequence, meta) = (source.map(|s| s.sequence), *frame.meta());
                let is_damaged = meta.flags.contains(FrameFlags::ERROR);
                // Parameter sets alone are a packet, too, for as long as it takes to see that.
                let params = &self.wanted.params;
                let mut about = PacketMeta::new(params.codec(), params.size(), 0, meta.timestamp_ns);
                about.source = sequence;
                about.flags = meta.flags & (FrameFlags::ERROR | FrameFlags::KEY | FrameFlags::MONOTONIC);
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

    /// Makes the next frame that is submitted a key frame. Ioctl: `VIDIOC_S_EXT_CTRLS`.
    ///
    /// # Errors
    /// `Unsupported` if the driver has no `V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME`; [`Encoder::reset`] is another way.
    #[doc(alias = "V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME")]
    pub fn force_key(&mut self) -> Result<()> {
        self.device().set_control(FORCE_KEY_FRAME, ControlValue::Press).map(drop)
    }

    /// Changes a setting while it runs. Ioctls: `VIDIOC_QUERY_EXT_CTRL`, `VIDIOC_S_EXT_CTRLS`.
    ///
    /// A driver that does not take it now says `Busy` in [`Outcome::Refused`]: drain, or [`Encoder::reconfigure`].
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn apply(&mut self, setting: Setting) -> Result<Outcome> {
        apply(self.device(), self.wanted.params.codec(), setting)
    }

    /// Ends the stream: every frame that was submitted is encoded, then comes [`Received::Ended`]. Keep taking packets until
    /// then, and do not wait for it without a limit: some drivers miss a drain that comes while they finish the last frame
    /// (docs/boards.md). Ioctl: `VIDIOC_ENCODER_CMD` with `V4L2_ENC_CMD_STOP`.
    ///
    /// # Errors
    /// `State` before the first frame (nothing would come), `Busy` during a drain, `Unsupported` if the driver cannot.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    pub fn drain(&mut self) -> Result<()> {
        self.pair.drain()
    }

    /// Goes on after [`Received::Ended`]; where the driver cannot, by a new stream, with parameter sets and a key frame.
    /// Ioctls: `VIDIOC_ENCODER_CMD` with `V4L2_ENC_CMD_START`, `VIDIOC_DQBUF`, perhaps `VIDIOC_STREAMOFF` and
    /// `VIDIOC_STREAMON`.
    ///
    /// # Errors
    /// `State` before the end was told; what the driver reports.
    #[doc(alias = "VIDIOC_ENCODER_CMD")]
    pub fn resume(&mut self) -> Result<Resumed> {
        let resumed = self.pair.resume()?;
        if resumed == Resumed::Restarted {
            self.stream.restart();
        }
        Ok(resumed)
    }

    /// Begins a new stream, with parameter sets and a key frame. Frames that were submitted stay and are encoded in it;
    /// packets that were not taken are lost. Ioctls: `VIDIOC_STREAMOFF` and `VIDIOC_STREAMON` on the capture queue.
    ///
    /// # Errors
    /// `State` before the first frame, and what the driver reports.
    pub fn reset(&mut self) -> Result<()> {
        self.pair.restart_capture()?;
        self.stream.restart();
        Ok(())
    }

    /// Stops, and sets up for another stream or other frames. Packets that are out stay whole. The frames that the device
    /// had not read come back: [`Encoder::drain`] before leaves none. Ioctls: `VIDIOC_STREAMOFF`, `VIDIOC_REQBUFS`, and those
    /// of [`EncoderBuilder::open`].
    ///
    /// # Errors
    /// As [`EncoderBuilder::open`], with those frames. The encoder then has no buffers, takes no frame, and can be
    /// reconfigured again.
    pub fn reconfigure(
        &mut self,
        params: Params,
        sources: &BufferSet,
    ) -> std::result::Result<Vec<Frame>, Rejected<Vec<Frame>>> {
        let frames = self.free();
        let slots = self.wanted.slots.max(sources.slots());
        self.wanted = Wanted { params, source: *sources.layout(), slots, quirks: self.wanted.quirks };
        self.set_up_again(frames)
    }

    /// Finds the device again, by its path, driver, bus and node, and sets it up as it was. The descriptor stays. Packets
    /// that are out stay whole. The frames that the device had come back; the first may have been encoded already.
    ///
    /// # Errors
    /// As [`EncoderBuilder::open`], with those frames: `NotFound` until the device is back. It can be tried again, and
    /// [`EncoderEvent::Returned`] comes again after a pause.
    pub fn reopen(&mut self) -> std::result::Result<Vec<Frame>, Rejected<Vec<Frame>>> {
        let frames = self.free();
        match self.pair.reopen() {
            Ok(_) => self.set_up_again(frames).map_err(|rejected| {
                let error = self.pair.search_again().err().unwrap_or(rejected.error);
                Rejected { error, ..rejected }
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

/// Also ends the leases of frames that were read. Its error is that of an earlier return of a packet's buffer, once.
impl Station for Encoder {
    type Event = EncoderEvent;

    fn dispatch(&mut self) -> Result<()> {
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

    /// Gives a frame to the device, and starts it with the first. The lease ends when the device has read the picture:
    /// at a later call here. Ioctls: `VIDIOC_QBUF`; `VIDIOC_DQBUF` if there is no room; once `VIDIOC_STREAMON` twice.
    ///
    /// After [`Encoder::drain`] frames are kept and not encoded until [`Encoder::resume`].
    ///
    /// # Errors
    /// With the frame: `Mismatch` if its layout is not that of [`EncoderBuilder::open`], `WrongFile` for a memfd,
    /// `DeviceLost`.
    fn try_submit(&mut self, frame: Frame) -> SubmitResult<Frame> {
        if self.free_slots() == 0 {
            if let Err(error) = self.collect() {
                return Err(Rejected { error, item: frame });
            }
        }
        let had_started = self.pair.capture().is_streaming();
        if let Submitted::Full(frame) = self.pair.queue(frame)? {
            return Ok(Submitted::Full(frame));
        }
        if !had_started {
            if let Err(error) = self.pair.start() {
                // Nothing else was queued.
                let mut back = self.pair.stop().map(|r| r.frames).unwrap_or_default();
                self.pair.refused(&error);
                return match back.pop() {
                    Some(item) => Err(Rejected { error, item }),
                    // It stays queued for the next start, which the next call tries.
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
