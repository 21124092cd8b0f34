//! The input, opened after the screen has said which formats it takes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use framelease::capture::{Camera, CameraEvent, Fit, FrameSource, TestPattern};
use framelease::drm::{LayerRequirements, PlaneLayer, Scanout};
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::Frame;
use framelease::share::{Subscriber, SubscriberEvent};
use framelease::v4l2::{Device, Direction};
use framelease::{Received, Station};

use super::common::{self, Result};
use super::options::{Input, Options};

/// What the test pattern draws and displays show, best first.
const DRAWN: [&str; 6] = ["XBGR32", "ABGR32", "NV12", "YUYV", "RGB565", "RGB24"];

pub enum Source {
    Live(Box<dyn FrameSource>),
    Subscriber(Box<Subscriber>),
}

/// An input that has not been asked for a format yet.
pub enum Waiting {
    Camera(Device),
    Pattern,
    Subscriber(Box<Subscriber>),
}

impl Waiting {
    pub fn open(input: &Input) -> Result<Self> {
        Ok(match input {
            Input::Pattern => Self::Pattern,
            Input::Camera(Some(name)) => Self::Camera(common::device(name)?),
            Input::Camera(None) => Self::Camera(Device::find(|d| d.is_capture())?),
            Input::Socket(path) => {
                // One on the screen, one on its way there, one that is staged.
                let mut subscriber = Subscriber::builder(path).hold(3).connect(Duration::from_secs(5))?;
                let deadline = Instant::now() + Duration::from_secs(5);
                while subscriber.buffers().is_none() {
                    if Instant::now() >= deadline {
                        return Err("the publisher names no format".into());
                    }
                    // The newest frame may come with it; the next will do.
                    let _ = subscriber.recv(Duration::from_millis(200))?;
                }
                Self::Subscriber(Box::new(subscriber))
            }
        })
    }

    /// The size that frames have: a publisher's whatever is asked, a camera's own if nothing is.
    pub fn size(&self, asked: Option<Size>) -> Option<Size> {
        match self {
            Self::Subscriber(s) => s.buffers().map(|b| b.layout().size()),
            Self::Camera(device) => asked.or_else(|| device.format(Direction::Capture).ok().map(|l| l.size())),
            Self::Pattern => asked,
        }
    }

    /// The formats to choose from.
    fn formats(&self, wished: &[FourCc]) -> Result<Vec<FourCc>> {
        let offered: Vec<FourCc> = match self {
            Self::Camera(device) => device.formats(Direction::Capture)?.iter().map(|f| f.fourcc).collect(),
            Self::Pattern => DRAWN.iter().map(|f| f.parse()).collect::<std::result::Result<_, _>>()?,
            Self::Subscriber(s) => s.buffers().map(|b| b.layout().fourcc()).into_iter().collect(),
        };
        Ok(match wished {
            [] => {
                // Not in the driver's order, where few bits may come first.
                let mut shown: Vec<_> = offered.into_iter().filter(|f| f.drm().is_some()).collect();
                let known = drawn();
                shown.sort_by_key(|f| known.iter().position(|d| d == f).unwrap_or(known.len()));
                shown
            }
            _ => wished.iter().copied().filter(|f| offered.contains(f)).collect(),
        })
    }

    /// Has the screen choose a plane and a format, and begins with it.
    pub fn begin(self, screen: &mut Scanout, o: &Options) -> Result<(PlaneLayer, Source)> {
        let size = self.size(o.size).unwrap_or(screen.size());
        let mut wish = LayerRequirements::new(self.formats(&o.formats)?, size);
        if let Some(kind) = o.plane {
            wish = wish.plane(kind);
        }
        let layer = screen.add_layer(&wish)?;
        let interval = FrameInterval::from_fps(o.fps.max(1));
        let source = match self {
            Self::Subscriber(s) => Source::Subscriber(s),
            Self::Pattern => pattern(layer, size, o)?,
            Self::Camera(device) => {
                let builder = Camera::builder().device(device).formats([layer.fourcc()]).size(size).fit(Fit::Exact);
                Source::Live(Box::new(builder.buffers(o.buffers).interval(interval).open()?))
            }
        };
        Ok((layer, source))
    }
}

/// The test pattern for a layer.
pub fn pattern(layer: PlaneLayer, size: Size, o: &Options) -> Result<Source> {
    let builder = TestPattern::builder(size).fourcc(layer.fourcc()).buffers(o.buffers);
    Ok(Source::Live(Box::new(builder.interval(FrameInterval::from_fps(o.fps.max(1))).start()?)))
}

/// The formats that the test pattern draws.
pub fn drawn() -> Vec<FourCc> {
    DRAWN.iter().filter_map(|f| f.parse().ok()).collect()
}

/// What a source gives.
pub enum Given {
    Frame(Frame),
    Nothing,
    Ended,
}

impl Source {
    /// The present buffers.
    pub fn try_next(&mut self) -> Result<Given> {
        Ok(match self {
            Self::Live(source) => match source.try_recv()? {
                Received::Item(CameraEvent::Frame(frame)) => Given::Frame(frame),
                Received::Item(CameraEvent::Lost(e)) => return Err(e.into()),
                Received::Item(CameraEvent::Changed(now)) => return Err(format!("the source changed to {now}").into()),
                Received::Ended => Given::Ended,
                Received::Item(_) | Received::Nothing => Given::Nothing,
            },
            Self::Subscriber(subscriber) => match subscriber.try_recv()? {
                Received::Item(SubscriberEvent::Frame(frame)) => Given::Frame(frame),
                Received::Ended => Given::Ended,
                Received::Item(_) | Received::Nothing => Given::Nothing,
            },
        })
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Live(source) => source.as_fd(),
            Self::Subscriber(s) => s.as_fd(),
        }
    }
}
