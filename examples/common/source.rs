//! A camera if one is asked for, else the test pattern.

#![allow(dead_code)] // Not every example opens it by a wish.

use std::os::fd::{AsFd, BorrowedFd};

use framelease::capture::{Camera, CameraEvent, FrameSource, SizeFit, TestPattern};
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::{BufferSet, Frame};
use framelease::{Received, Station};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// A path, or `auto` for the first camera. None: the test pattern.
    pub device: Option<String>,
    pub size: Size,
    pub fourcc: FourCc,
    pub fps: u32,
    pub buffers: usize,
}

/// Where frames come from.
pub enum Source {
    Pattern(TestPattern),
    Camera(Box<Camera>),
}

impl Source {
    pub fn open(wish: &Wish) -> super::common::Result<Self> {
        let interval = (wish.fps > 0).then(|| FrameInterval::from_fps(wish.fps));
        let Some(device) = &wish.device else {
            let builder = TestPattern::builder(wish.size).fourcc(wish.fourcc).buffers(wish.buffers);
            let builder = match interval {
                Some(interval) => builder.interval(interval),
                None => builder.unpaced(),
            };
            return Ok(Self::Pattern(builder.start()?));
        };
        let mut builder =
            Camera::builder().formats([wish.fourcc]).size(wish.size).fit(SizeFit::Exact).buffers(wish.buffers);
        if device != "auto" {
            builder = builder.path(device);
        }
        if let Some(interval) = interval {
            builder = builder.interval(interval);
        }
        Ok(Self::Camera(Box::new(builder.open()?)))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pattern(_) => "testpattern",
            Self::Camera(_) => "camera",
        }
    }

    pub fn buffers(&self) -> super::common::Result<&BufferSet> {
        match self {
            Self::Pattern(p) => Ok(p.buffers()),
            Self::Camera(c) => Ok(c.buffers()?),
        }
    }

    /// The next frame, if it is there.
    pub fn try_next(&mut self) -> super::common::Result<Option<Frame>> {
        match self {
            Self::Pattern(p) => Ok(p.try_recv()?),
            Self::Camera(c) => match c.try_recv()? {
                Received::Item(CameraEvent::Frame(frame)) => Ok(Some(frame)),
                Received::Item(CameraEvent::SourceChanged) => match c.follow_source() {
                    // The signal is gone; its return is the next change.
                    Err(e) if e.kind() == framelease::ErrorKind::NotFound => Ok(None),
                    done => done.map(|()| None).map_err(Into::into),
                },
                Received::Item(CameraEvent::Ended) => Err("the camera's stream has ended".into()),
                _ => Ok(None),
            },
        }
    }

    /// A V4L2 descriptor without a queued buffer reports an error condition for ever: do not poll it then.
    pub fn is_pollable(&self) -> bool {
        match self {
            Self::Pattern(_) => true,
            Self::Camera(c) => c.is_pollable(),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pattern(p) => p.as_fd(),
            Self::Camera(c) => c.as_fd(),
        }
    }
}
