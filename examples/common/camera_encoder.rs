//! Both ends: a camera that agrees with the encoder, or a test pattern made as the encoder wants it.

use framelease::bitstream::Codec;
use framelease::capture::{Camera, FrameSource, TestPattern};
use framelease::codec::{negotiate, source_layout, Encoder, Params, Setting, SourceMemory, Switch};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, FrameInterval, Layout, Size};
use framelease::v4l2::{Device, Direction};

use super::common;
use super::source::Source;

/// Formats of the test pattern, best first.
const PATTERN_FORMATS: [&[u8; 4]; 5] = [b"NV12", b"NM12", b"YUYV", b"RGB3", b"XR24"];

/// What is wanted of both.
pub struct Ends {
    /// None: the first that has the codec.
    pub encoder: Option<String>,
    /// A path, or `auto`. None: the test pattern.
    pub camera: Option<String>,
    pub codec: Codec,
    pub size: Size,
    pub fps: u32,
    /// Bits per second, and frames from key frame to key frame: wishes.
    pub bitrate: Option<u32>,
    pub gop: Option<u32>,
    /// Acceptable formats, best first; none: what both devices have.
    pub formats: Vec<FourCc>,
    /// The camera's.
    pub buffers: usize,
}

impl Ends {
    pub fn interval(&self) -> FrameInterval {
        FrameInterval::from_fps(self.fps)
    }

    pub fn params(&self) -> Params {
        let mut params = Params::new(self.codec, self.size).interval(self.interval());
        if let Some(bps) = self.bitrate {
            params = params.wish(Setting::FrameRateControl(Switch::On)).wish(Setting::BitrateBps(bps));
        }
        if let Some(frames) = self.gop {
            params = params.wish(Setting::Gop(frames));
        }
        if self.codec.has_nal_units() {
            // Whoever joins later can decode from the next key frame on.
            params = params.wish(Setting::RepeatHeaders(Switch::On));
        }
        params
    }
}

/// Opens both ends so that they fit.
pub fn open(o: &Ends) -> common::Result<(Source, Encoder)> {
    let device = encoder(o)?;
    match &o.camera {
        Some(camera) => with_camera(o, device, camera),
        None => with_pattern(o, device),
    }
}

pub fn encoder(o: &Ends) -> common::Result<Device> {
    Ok(match &o.encoder {
        Some(path) => Device::open(path)?,
        None => Encoder::find(o.codec).map_err(|e| format!("no encoder of {} here: {e}", o.codec))?,
    })
}

fn with_camera(o: &Ends, device: Device, camera: &str) -> common::Result<(Source, Encoder)> {
    let camera = match camera {
        "auto" => Device::find(|d| d.is_capture())?,
        path => Device::open(path)?,
    };
    let params = o.params();
    let agreement = negotiate(&device, &camera, &params, &o.formats)?;
    let mut builder =
        Camera::builder().device(camera).layout(&agreement.source).interval(o.interval()).buffers(o.buffers);
    if agreement.memory == SourceMemory::Allocated {
        builder = builder.allocator(Allocator::for_devices()?);
    }
    let camera = builder.open()?;
    let params = params.resized(agreement.size);
    let encoder = Encoder::builder(params).device(device).open(camera.buffers()?)?;
    Ok((Box::new(camera), encoder))
}

fn with_pattern(o: &Ends, device: Device) -> common::Result<(Source, Encoder)> {
    let layout = encoded_layout(o, &device)?;
    let pattern = TestPattern::builder(o.size).layout(layout).interval(o.interval()).buffers(o.buffers);
    let pattern = pattern.allocator(Allocator::for_devices()?).start()?;
    let encoder = Encoder::builder(o.params()).device(device).open(pattern.buffers()?)?;
    Ok((Box::new(pattern), encoder))
}

/// What the encoder reads of the formats that are acceptable, or that the test pattern has.
pub fn encoded_layout(o: &Ends, device: &Device) -> common::Result<Layout> {
    let params = o.params();
    let offered: Vec<FourCc> = {
        // The coded format decides what else there is.
        let first = o.formats.first().copied().unwrap_or(FourCc::NV12);
        let _ = source_layout(device, &params, first);
        device.formats(Direction::Output)?.iter().map(|offer| offer.fourcc).collect()
    };
    let own = PATTERN_FORMATS.map(FourCc::new);
    let wanted = if o.formats.is_empty() { &own[..] } else { &o.formats };
    let Some(&fourcc) = wanted.iter().find(|f| offered.contains(f)) else {
        let list = |all: &[FourCc]| all.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!("the picture could be {}; the encoder reads {}", list(wanted), list(&offered)).into());
    };
    Ok(source_layout(device, &params, fourcc)?)
}
