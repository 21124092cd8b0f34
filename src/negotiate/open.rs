//! Opens a camera and an encoder so that they fit.

use std::sync::Arc;

use super::chain::EncoderChain;
use crate::capture::{Camera, CameraBuilder, FrameSource, SizeFit, TestPatternBuilder};
use crate::codec::{negotiate, source_layout, Encoder, Params, SourceMemory};
use crate::convert::{candidates, first_of, Layer, Plan, Request};
use crate::dmabuf::Allocator;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Layout, Rect};
use crate::frame::{BufferBudget, BufferSet, Pool};
use crate::v4l2::{ControlId, ControlValue, Device, Direction};

/// Buffers between a converter and an encoder: one that is drawn, two that are read, one that waits.
const BETWEEN: usize = 4;

/// What the test pattern draws, best first.
const DRAWN: [FourCc; 5] = [FourCc::NV12, FourCc::NV12M, FourCc::YUYV, FourCc::RGB24, FourCc::XBGR32];

/// A source, and an encoder of its frames.
#[derive(Debug)]
#[non_exhaustive]
pub struct Negotiated {
    /// A [`Camera`], or a [`TestPattern`](crate::capture::TestPattern).
    pub source: Box<dyn FrameSource>,
    /// Takes the source's frames and gives packets.
    pub encoder: EncoderChain,
    /// Who needs the source's buffers: [`Negotiation::budget`], with what the encoder's driver needs in
    /// [`local`](BufferBudget::local). Give its [`reserve`](BufferBudget::reserve) to
    /// [`PublisherBuilder::reserve`](crate::share::PublisherBuilder::reserve).
    pub budget: BufferBudget,
}

/// What is wanted of a camera and an encoder. Everything but the stream has a default: the first camera, the first
/// encoder that has the codec, any format that both have, buffers for three subscribers beside the encoder.
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
    /// Wants this stream.
    pub fn new(params: Params) -> Self {
        let source = Wanted::Camera(CameraBuilder::default());
        Self { params, source, encoder: None, budget: BufferBudget::default() }
    }

    /// Sets the camera and its wishes. Its formats are those that are acceptable, best first. A size that is not the
    /// stream's makes a converter scale; without one the camera is asked for the stream's size. Layout and count of
    /// buffers are decided here, and the allocator if it has none.
    pub fn camera(mut self, camera: CameraBuilder) -> Self {
        self.source = Wanted::Camera(camera);
        self
    }

    /// Takes a [`TestPattern`](crate::capture::TestPattern) instead of a camera, at the stream's rate. A format that the
    /// encoder does not read, or a size that is not the stream's, makes a converter come between; without a format the
    /// pattern has one that the encoder reads. Layout and count of buffers are decided here, and the allocator if it has
    /// none.
    pub fn test_pattern(mut self, pattern: TestPatternBuilder) -> Self {
        self.source = Wanted::Pattern(pattern);
        self
    }

    /// Sets the encoder's device.
    pub fn encoder(mut self, device: Device) -> Self {
        self.encoder = Some(device);
        self
    }

    /// Sets who needs the source's buffers. The encoder's frames are part of
    /// [`local`](BufferBudget::local), which is raised to what its driver says it needs: [`Negotiated::budget`].
    pub fn budget(mut self, budget: BufferBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Opens both, and a converter if it takes one. A converter is a device, never the CPU.
    ///
    /// Ioctls: those of [`negotiate`](crate::codec::negotiate), [`CameraBuilder::open`] and
    /// [`EncoderBuilder::open`](crate::codec::EncoderBuilder::open).
    ///
    /// # Errors
    /// `NotFound` without a camera or an encoder; `Mismatch` or `Unsupported` if no layout suits both and no device
    /// converts, with what each said; and as the calls above. Nothing stays open then.
    pub fn open(mut self) -> Result<Negotiated> {
        let device = self.device()?;
        self.budget = with_encoder(self.budget, &device);
        match self.source.clone() {
            Wanted::Pattern(pattern) => self.with_pattern(device, pattern),
            Wanted::Camera(camera) => self.with_camera(device, camera),
        }
    }

    /// Opens an encoder of frames that come from elsewhere, such as a subscriber's, and a converter if it takes one.
    ///
    /// # Errors
    /// As [`Negotiation::open`]. `Mismatch` also if the encoder needs more frames at a time than their source lends.
    pub fn open_for(self, frames: &BufferSet) -> Result<EncoderChain> {
        let device = self.device()?;
        let (least, lent) = (least_sources(&device), frames.max_leases());
        if lent < least {
            let text = format!("the encoder needs {least} frames at a time, and their source lends {lent}: hold more");
            return Err(Error::new(ErrorKind::Mismatch, "negotiate", text).on(&device));
        }
        match Encoder::builder(self.params.clone()).device(device.clone()).open(frames) {
            // What the publisher lends is the limit.
            Ok(encoder) => Ok(EncoderChain::direct(encoder, usize::MAX)),
            Err(e) if matches!(e.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported) => {
                converted(device, self.params, frames.layout(), e)
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
        let camera = wishes.find_device()?;
        let size = wishes.size.unwrap_or(self.params.size());
        let wishes = wishes.device(camera.clone()).size(size).buffers(self.budget.total());
        let wishes = match (wishes.interval, self.params.interval) {
            (None, Some(interval)) => wishes.interval(interval),
            _ => wishes,
        };
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

    /// With a converter between the two; `why` they do not agree.
    fn converted(self, device: Device, wishes: CameraBuilder, why: Error) -> Result<Negotiated> {
        let camera: Camera = wishes.fit(SizeFit::Exact).open()?;
        let encoder = converted(device, self.params, camera.layout()?, why)?;
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
            let encoder = converted(device, self.params, source.buffers()?.layout(), why)?;
            return Ok(Negotiated { source: Box::new(source), encoder, budget: self.budget });
        };
        let source = wishes.layout(source_layout(&device, &self.params, fourcc)?).start()?;
        let encoder = Encoder::builder(self.params).device(device).open(source.buffers()?)?;
        let encoder = EncoderChain::direct(encoder, self.budget.local);
        Ok(Negotiated { source: Box::new(source), encoder, budget: self.budget })
    }
}

/// The budget with as many local buffers as the encoder's driver says it needs.
fn with_encoder(mut budget: BufferBudget, encoder: &Device) -> BufferBudget {
    // And the frame in hand.
    budget.local = budget.local.max(least_sources(encoder) + 1);
    budget
}

/// The frames that an encoder must have at a time, as far as its driver says.
fn least_sources(encoder: &Device) -> usize {
    match encoder.control_value(ControlId::MIN_BUFFERS_FOR_OUTPUT) {
        Ok(ControlValue::Number(least)) => usize::try_from(least).unwrap_or(0).min(MOST_LOCAL),
        _ => 0,
    }
}

/// An encoder, and in front of it a device that converts what comes; `why` the encoder does not take it as it is.
fn converted(device: Device, params: Params, from: &Layout, why: Error) -> Result<EncoderChain> {
    let mut refused = vec![why.to_string()];
    for fourcc in readable(&device, &params)? {
        let to = source_layout(&device, &params, fourcc)?.with_colorimetry(from.colorimetry());
        let request = match to.size() == params.size() {
            true => Request::convert(Layer::default()),
            // The encoder crops what is outside of the picture.
            false => Request::convert(Layer::default().place(Rect::from(params.size()))).background(None),
        };
        match first_of(devices(), |_| Plan::new(&request, &[*from], &to)) {
            Ok(choice) => {
                let pool = Pool::new(&Allocator::for_devices()?, to, BETWEEN)?;
                let encoder = Encoder::builder(params).device(device).open(pool.buffers())?;
                return EncoderChain::converted(choice.converter, Arc::new(choice.plan), pool, encoder);
            }
            Err(e) => refused.push(e.to_string()),
        }
    }
    Err(Error::new(why.kind(), "negotiate", refused.join("; ")).on(&device))
}

/// More frames than any encoder needs, whatever its driver says.
const MOST_LOCAL: usize = 16;

/// The formats that an encoder reads for this stream: its coded format decides them.
fn readable(device: &Device, params: &Params) -> Result<Vec<FourCc>> {
    // Whether it reads this one does not matter.
    match source_layout(device, params, FourCc::NV12) {
        Err(e) if e.kind() == ErrorKind::DeviceLost => return Err(e),
        _ => {}
    }
    Ok(device.formats(Direction::Output)?.iter().filter(|offer| !offer.emulated).map(|offer| offer.fourcc).collect())
}

/// Every converter that is a device.
pub(super) fn devices() -> impl Iterator<Item = crate::convert::Candidate> {
    candidates().filter(|candidate| match candidate {
        Ok(converter) => converter.name() != "cpu",
        Err(refusal) => refusal.backend != "cpu",
    })
}
