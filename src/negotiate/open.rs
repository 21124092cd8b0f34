//! Opens a camera and an encoder that fit each other.

use std::sync::Arc;

use super::chain::EncoderChain;
use crate::capture::{Camera, CameraBuilder, Fit, FrameSource, TestPatternBuilder};
use crate::codec::{negotiate, source_layout, Encoder, Params, SourceMemory};
use crate::convert::{candidates, first_of, Layer, Plan, Request};
use crate::dmabuf::Allocator;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FormatInfo, FourCc, Rect};
use crate::frame::{BufferBudget, BufferSet, Pool};
use crate::v4l2::{ControlId, ControlValue, Device, Direction};

/// Buffers between a converter and an encoder: one to draw, two that the encoder reads, one that waits.
const BETWEEN: usize = 4;

/// Formats that the test pattern can draw, best first.
const DRAWN: [FourCc; 5] = [FourCc::NV12, FourCc::NV12M, FourCc::YUYV, FourCc::RGB24, FourCc::XBGR32];

/// A source of frames and an encoder for them.
///
/// ```no_run
/// use framelease::bitstream::Codec;
/// use framelease::codec::Params;
/// use framelease::format::Size;
/// use framelease::negotiate::Negotiation;
///
/// let negotiated = Negotiation::new(Params::new(Codec::H264, Size::new(1280, 720))).open()?;
/// println!("{}", negotiated.budget); // For `PublisherBuilder::reserve`.
/// let (mut source, mut encoder) = (negotiated.source, negotiated.encoder);
/// # let _ = (&mut source, &mut encoder);
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Negotiated {
    /// A [`Camera`], or a [`TestPattern`](crate::capture::TestPattern).
    pub source: Box<dyn FrameSource>,
    /// The encoder, which takes the source's frames and gives packets.
    pub encoder: EncoderChain,
    /// How the source's buffers are divided. It is the budget that was given to [`Negotiation::budget`]. Only the field
    /// [`local`](BufferBudget::local) may be larger, if the encoder's driver needs more buffers. Pass its
    /// [`reserve`](BufferBudget::reserve) to [`PublisherBuilder::reserve`](crate::share::PublisherBuilder::reserve).
    pub budget: BufferBudget,
}

/// The requirements for a camera and an encoder. Every setting but the stream has a default: the first camera, the
/// first encoder that has the codec, any common format, and buffers for three subscribers besides the encoder.
///
/// ```no_run
/// use framelease::bitstream::Codec;
/// use framelease::capture::Camera;
/// use framelease::codec::Params;
/// use framelease::format::{FourCc, Size};
/// use framelease::negotiate::Negotiation;
///
/// let params = Params::new(Codec::H264, Size::new(1920, 1080));
/// let camera = Camera::builder().path("/dev/video2").formats([FourCc::NV12]);
/// let negotiated = Negotiation::new(params).camera(camera).open()?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Negotiation {
    params: Params,
    source: Wanted,
    encoder: Option<Device>,
    budget: BufferBudget,
}

#[derive(Clone, Debug)]
enum Wanted {
    Camera(CameraBuilder),
    Pattern(TestPatternBuilder),
}

impl Negotiation {
    /// Creates a negotiation for this stream.
    pub fn new(params: Params) -> Self {
        let source = Wanted::Camera(CameraBuilder::default());
        Self { params, source, encoder: None, budget: BufferBudget::default() }
    }

    /// Sets the camera and its settings. The builder's formats are the acceptable formats, best first. If the builder
    /// sets no size, the negotiation asks the camera for the stream's size. If the builder sets another size than the
    /// stream's, the negotiation adds a converter that scales. The negotiation decides the layout and the number of
    /// buffers, and the allocator if the builder sets none.
    pub fn camera(mut self, camera: CameraBuilder) -> Self {
        self.source = Wanted::Camera(camera);
        self
    }

    /// Uses a [`TestPattern`](crate::capture::TestPattern) instead of a camera, at the stream's rate. By default, the
    /// pattern has a format that the encoder reads. If the builder sets a format that the encoder does not read, or
    /// another size than the stream's, the negotiation adds a converter. The negotiation decides the layout and the
    /// number of buffers, and the allocator if the builder sets none.
    pub fn test_pattern(mut self, pattern: TestPatternBuilder) -> Self {
        self.source = Wanted::Pattern(pattern);
        self
    }

    /// Sets the device of the encoder. Default: the first encoder that has the codec.
    pub fn encoder(mut self, device: Device) -> Self {
        self.encoder = Some(device);
        self
    }

    /// Sets how the source's buffers are divided. The encoder's frames count in [`local`](BufferBudget::local). If the
    /// encoder's driver needs more frames than `local`, the negotiation raises `local`: see [`Negotiated::budget`].
    pub fn budget(mut self, budget: BufferBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Opens the camera and the encoder, and a converter if they need one. The converter is a device, never the CPU.
    ///
    /// Ioctls: those of [`negotiate`](crate::codec::negotiate), [`CameraBuilder::open`] and
    /// [`EncoderBuilder::open`](crate::codec::EncoderBuilder::open).
    ///
    /// # Errors
    /// `NotFound` if the machine does not have a camera or an encoder. `Mismatch` or `Unsupported` if no layout suits
    /// both and no device can convert the frames: the text has the reason of each device. Otherwise the errors of
    /// [`CameraBuilder::open`] and [`EncoderBuilder::open`](crate::codec::EncoderBuilder::open). After an error nothing
    /// stays open.
    pub fn open(mut self) -> Result<Negotiated> {
        let device = self.device()?;
        self.budget = with_encoder(self.budget, &device);
        match self.source.clone() {
            Wanted::Pattern(pattern) => self.with_pattern(device, pattern),
            Wanted::Camera(camera) => self.with_camera(device, camera),
        }
    }

    /// Opens an encoder for frames in these buffers, for example the buffers of a subscriber. Opens a converter too if
    /// the encoder needs one.
    ///
    /// The chain takes frames of these buffers only. When a subscriber reports
    /// [`SubscriberEvent::Format`](crate::share::SubscriberEvent::Format), the next frames are in other buffers: open
    /// another chain for these buffers. Drop the old chain first, so that its device is free. A subscriber's `hold`
    /// must cover the frames that the encoder reads at the same time. 4 is enough for most encoders.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use framelease::bitstream::Codec;
    /// use framelease::codec::{EncoderEvent, Params};
    /// use framelease::format::FrameInterval;
    /// use framelease::negotiate::{EncoderChain, Negotiation};
    /// use framelease::share::{Subscriber, SubscriberEvent};
    /// use framelease::{Received, Station, Submit};
    ///
    /// let mut subscriber = Subscriber::builder("/run/camera/socket").hold(4).connect(Duration::from_secs(5))?;
    /// let mut chain: Option<EncoderChain> = None;
    /// loop {
    ///     match subscriber.recv(Duration::from_millis(20))? {
    ///         Received::Item(SubscriberEvent::Format(buffers)) => {
    ///             drop(chain.take());
    ///             let params = Params::new(Codec::H264, buffers.layout().size());
    ///             let interval = FrameInterval::from_fps(30); // The publisher's rate: its frames do not say it.
    ///             chain = Some(Negotiation::new(params.interval(interval)).open_for(&buffers)?);
    ///         }
    ///         Received::Item(SubscriberEvent::Frame(frame)) => {
    ///             if let Some(chain) = &mut chain {
    ///                 let _ = chain.try_submit(frame)?; // Dropped while the encoder is full.
    ///             }
    ///         }
    ///         Received::Ended => break,
    ///         _ => {}
    ///     }
    ///     while let Some(Received::Item(event)) = chain.as_mut().map(|chain| chain.try_recv()).transpose()? {
    ///         if let EncoderEvent::Packet(packet) = event {
    ///             println!("{} bytes", packet.bytes().len());
    ///         }
    ///     }
    /// }
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Negotiation::open`], and `Mismatch` if the encoder needs more frames at the same time than the
    /// source of the frames lends. The text has both numbers.
    pub fn open_for(self, frames: &BufferSet) -> Result<EncoderChain> {
        let device = self.device()?;
        let (least, lent) = (least_sources(&device), frames.max_leases());
        if lent < least {
            let text =
                format!("the encoder needs {least} frames at the same time, and their source lends {lent}: hold more");
            return Err(Error::new(ErrorKind::Mismatch, "negotiate", text).on(&device));
        }
        match Encoder::builder(self.params.clone()).device(device.clone()).open(frames) {
            // The publisher limits the number of leases.
            Ok(encoder) => Ok(EncoderChain::direct(encoder, usize::MAX)),
            Err(e) if matches!(e.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported) => {
                converted(device, self.params, frames, e)
            }
            Err(e) => Err(e),
        }
    }

    fn device(&self) -> Result<Device> {
        match &self.encoder {
            Some(device) => Ok(device.clone()),
            None => Encoder::find(self.params.codec()),
        }
    }

    fn with_camera(self, device: Device, wishes: CameraBuilder) -> Result<Negotiated> {
        let size = wishes.size.unwrap_or(self.params.size());
        let wishes = wishes.size(size).buffers(self.budget.total());
        let wishes = match (wishes.interval, self.params.interval) {
            (None, Some(interval)) => wishes.interval(interval),
            _ => wishes,
        };
        let camera = wishes.best_device()?;
        wishes.overrule(&camera);
        let wishes = wishes.device(camera.clone());
        if size != self.params.size() {
            let text = format!("the camera gives {size} and the stream is {}", self.params.size());
            return self.converted(device, wishes, Error::new(ErrorKind::Mismatch, "negotiate", text));
        }
        let agreement = match negotiate(&device, &camera, &self.params, &wishes.formats) {
            Ok(agreement) => agreement,
            Err(e) if matches!(e.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported) => {
                return self.converted(device, wishes, e);
            }
            Err(e) => return Err(e),
        };
        let wishes = wishes.layout(&agreement.source);
        let wishes = match agreement.memory {
            SourceMemory::Camera => wishes,
            SourceMemory::Allocated if wishes.allocator.is_some() => wishes,
            SourceMemory::Allocated => wishes.allocator(Allocator::for_devices()?),
        };
        let camera = wishes.open()?;
        let builder = Encoder::builder(self.params.resized(agreement.size)).device(device);
        let encoder = EncoderChain::direct(builder.open(camera.buffers()?)?, self.budget.local);
        Ok(Negotiated { source: Box::new(camera), encoder, budget: self.budget })
    }

    /// Adds a converter between the two. `why` is the reason that they have no common layout.
    fn converted(self, device: Device, wishes: CameraBuilder, why: Error) -> Result<Negotiated> {
        // Without a wish, a camera may stand at a bitstream, which no converter reads.
        let wishes = match &wishes.formats[..] {
            [] => {
                let offered = wishes.best_device()?.formats(Direction::Capture)?.into_iter().map(|offer| offer.fourcc);
                wishes.formats(offered.filter(|f| f.info().is_some_and(FormatInfo::has_colors)))
            }
            _ => wishes,
        };
        let camera: Camera = wishes.fit(Fit::Exact).open()?;
        let encoder = converted(device, self.params, camera.buffers()?, why)?;
        Ok(Negotiated { source: Box::new(camera), encoder, budget: self.budget })
    }

    fn with_pattern(self, device: Device, wishes: TestPatternBuilder) -> Result<Negotiated> {
        let offered = readable(&device, &self.params)?;
        let drawn = wishes.fourcc.map_or(DRAWN.to_vec(), |fourcc| vec![fourcc]);
        let wishes = wishes.buffers(self.budget.total());
        let wishes = match self.params.interval {
            Some(interval) => wishes.interval(interval),
            None => wishes,
        };
        let wishes = match wishes.allocator {
            Some(_) => wishes,
            None => wishes.allocator(Allocator::for_devices()?),
        };
        let fitting = drawn.iter().find(|f| offered.contains(f) && wishes.size == self.params.size());
        let Some(&fourcc) = fitting else {
            let list = |all: &[FourCc]| all.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ");
            let (has, reads) = (list(&drawn), list(&offered));
            let (from, to) = (wishes.size, self.params.size());
            let text = format!("the test pattern has {has} of {from}; the encoder reads {reads} of {to}");
            let why = Error::new(ErrorKind::Unsupported, "negotiate", text);
            let source = wishes.start()?;
            let encoder = converted(device, self.params, source.buffers()?, why)?;
            return Ok(Negotiated { source: Box::new(source), encoder, budget: self.budget });
        };
        let source = wishes.layout(source_layout(&device, &self.params, fourcc)?).start()?;
        let encoder = Encoder::builder(self.params).device(device).open(source.buffers()?)?;
        let encoder = EncoderChain::direct(encoder, self.budget.local);
        Ok(Negotiated { source: Box::new(source), encoder, budget: self.budget })
    }
}

/// Returns the budget with at least as many local buffers as the encoder's driver needs.
fn with_encoder(mut budget: BufferBudget, encoder: &Device) -> BufferBudget {
    // One more for the frame in hand.
    budget.local = budget.local.max(least_sources(encoder) + 1);
    budget
}

/// Returns the number of frames that an encoder must have at the same time, as far as its driver reports it.
fn least_sources(encoder: &Device) -> usize {
    match encoder.control_value(ControlId::MIN_BUFFERS_FOR_OUTPUT) {
        Ok(ControlValue::Number(least)) => usize::try_from(least).unwrap_or(0).min(MOST_LOCAL),
        _ => 0,
    }
}

/// Opens an encoder with a device in front that converts the frames. `why` is the reason that the encoder cannot take
/// them as they are.
fn converted(device: Device, params: Params, from: &BufferSet, why: Error) -> Result<EncoderChain> {
    let mut refused = vec![why.to_string()];
    for fourcc in readable(&device, &params)? {
        match through(&device, &params, from, fourcc) {
            // A driver may list formats that this crate does not know.
            Err(e) if is_about_format(&e) => refused.push(e.to_string()),
            done => return done,
        }
    }
    Err(Error::new(why.kind(), "negotiate", refused.join("; ")).on(&device))
}

/// Returns `true` if another format may help.
fn is_about_format(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported | ErrorKind::InvalidArgument)
}

/// Opens an encoder of pictures in this format, with a device in front that converts to the format.
fn through(device: &Device, params: &Params, from: &BufferSet, fourcc: FourCc) -> Result<EncoderChain> {
    let to = source_layout(device, params, fourcc)?.with_colorimetry(from.layout().colorimetry());
    let request = match to.size() == params.size() {
        true => Request::convert(Layer::default()),
        // The encoder crops the area outside of the picture.
        false => Request::convert(Layer::default().place(Rect::from(params.size()))).background(None),
    };
    let choice = first_of(devices(), |_| Ok(Plan::new(&request, &[*from.layout()], &to)?.memory_in(from.memory(0))))?;
    let pool = Pool::new(&Allocator::for_devices()?, to, BETWEEN)?;
    let encoder = Encoder::builder(params.clone()).device(device.clone()).open(pool.buffers())?;
    EncoderChain::converted(choice.converter, Arc::new(choice.plan), pool, encoder)
}

/// A limit for the number that a driver reports.
const MOST_LOCAL: usize = 16;

/// Returns the formats that an encoder reads for this stream. They depend on its coded format.
fn readable(device: &Device, params: &Params) -> Result<Vec<FourCc>> {
    // The call sets the coded format. Whether the encoder reads NV12 does not matter.
    match source_layout(device, params, FourCc::NV12) {
        Err(e) if e.kind() == ErrorKind::DeviceLost => return Err(e),
        _ => {}
    }
    Ok(device.formats(Direction::Output)?.iter().filter(|offer| !offer.emulated).map(|offer| offer.fourcc).collect())
}

/// Returns every converter that is a device.
pub(super) fn devices() -> impl Iterator<Item = crate::convert::Candidate> {
    candidates().filter(|candidate| match candidate {
        Ok(converter) => converter.name() != "cpu",
        Err(refusal) => refusal.backend != "cpu",
    })
}
