//! A camera or the test pattern, an encoder, and a converter between them if they need one.

use framelease::bitstream::Codec;
use framelease::capture::{Camera, TestPattern};
use framelease::codec::{Params, Setting, Switch};
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::BufferBudget;
use framelease::negotiate::{Negotiated, Negotiation};

use super::common;

/// The options for both.
pub struct Ends {
    /// None: the first that has the codec.
    pub encoder: Option<String>,
    /// What [`common::camera`] takes. None: the test pattern.
    pub camera: Option<String>,
    pub codec: Codec,
    pub size: Size,
    /// The camera's size, if it differs.
    pub camera_size: Option<Size>,
    pub fps: u32,
    /// Requested bits per second, and frames from one key frame to the next.
    pub bitrate: Option<u32>,
    pub gop: Option<u32>,
    /// Acceptable formats, best first; none: what both devices have.
    pub formats: Vec<FourCc>,
    /// Subscribers of raw frames that the source has buffers for. None: as many as the library's default.
    pub subscribers: Option<usize>,
}

impl Ends {
    fn params(&self) -> Params {
        let mut params = Params::new(self.codec, self.size).interval(FrameInterval::from_fps(self.fps));
        if let Some(bps) = self.bitrate {
            params = params.wish(Setting::FrameRateControl(Switch::On)).wish(Setting::BitrateBps(bps));
        }
        if let Some(frames) = self.gop {
            params = params.wish(Setting::Gop(frames));
        }
        if self.codec.has_nal_units() {
            // A client that joins later can decode from the next key frame on.
            params = params.wish(Setting::RepeatHeaders(Switch::On));
        }
        params
    }

    /// Opens both ends so that they fit.
    pub fn open(&self) -> common::Result<Negotiated> {
        let mut budget = BufferBudget::default();
        if let Some(subscribers) = self.subscribers {
            // With default settings, each holds a frame and one waits.
            budget.subscribers = subscribers.saturating_mul(2);
        }
        let mut negotiation = Negotiation::new(self.params()).budget(budget);
        if let Some(name) = &self.encoder {
            negotiation = negotiation.encoder(common::device(name)?);
        }
        let size = self.camera_size.unwrap_or(self.size);
        let negotiation = match &self.camera {
            Some(name) => {
                let camera = Camera::builder().formats(self.formats.clone()).size(size);
                negotiation.camera(common::camera(camera, name))
            }
            None => {
                let pattern = TestPattern::builder(size);
                negotiation.test_pattern(match self.formats.first() {
                    Some(&fourcc) => pattern.fourcc(fourcc),
                    None => pattern,
                })
            }
        };
        Ok(negotiation.open()?)
    }
}
