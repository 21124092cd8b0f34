//! A camera if one is asked for, else the test pattern.

#![allow(dead_code)] // Not every example needs all of it.

use framelease::capture::{Camera, CameraEvent, Fit, FrameSource, TestPattern};
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::Frame;
use framelease::Received;

use super::common::{self, Result};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What [`common::camera`] takes. None: the test pattern.
    pub device: Option<String>,
    pub size: Size,
    pub fourcc: FourCc,
    pub fps: u32,
    pub buffers: usize,
}

/// Where frames come from.
pub type Source = Box<dyn FrameSource>;

pub fn open(wish: &Wish) -> Result<Source> {
    let interval = (wish.fps > 0).then(|| FrameInterval::from_fps(wish.fps));
    let Some(device) = &wish.device else {
        let builder = TestPattern::builder(wish.size).fourcc(wish.fourcc).buffers(wish.buffers);
        let builder = match interval {
            Some(interval) => builder.interval(interval),
            None => builder.unpaced(),
        };
        return Ok(Box::new(builder.start()?));
    };
    let builder = Camera::builder().formats([wish.fourcc]).size(wish.size).fit(Fit::Exact).buffers(wish.buffers);
    let mut builder = common::camera(builder, device);
    if let Some(interval) = interval {
        builder = builder.interval(interval);
    }
    Ok(Box::new(builder.open()?))
}

/// `/dev/video0 (vivid)` or `testpattern`.
pub fn described(source: &Source) -> String {
    source.device().map_or_else(|| "testpattern".into(), ToString::to_string)
}

/// The next frame, if it is there. An example ends with its camera; a service would handle the events.
pub fn try_frame(source: &mut Source) -> Result<Option<Frame>> {
    match source.try_recv()? {
        Received::Item(CameraEvent::Frame(frame)) => Ok(Some(frame)),
        Received::Item(CameraEvent::Lost(e)) => Err(e.into()),
        Received::Item(CameraEvent::Changed(layout)) => Err(format!("the source changed to {layout}").into()),
        Received::Ended => Err("the camera's stream has ended".into()),
        Received::Item(_) | Received::Nothing => Ok(None),
    }
}
