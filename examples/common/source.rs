//! A camera if one is asked for, else the test pattern.

use std::os::fd::{AsFd, BorrowedFd};

use framelease::capture::TestPattern;
use framelease::format::{FourCc, FrameInterval, Size};
use framelease::frame::{BufferSet, Frame};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub device: Option<String>,
    pub size: Size,
    pub fourcc: FourCc,
    pub fps: u32,
    pub buffers: usize,
}

/// Where frames come from.
pub enum Source {
    Pattern(TestPattern),
}

impl Source {
    pub fn open(wish: &Wish) -> super::common::Result<Self> {
        let builder = TestPattern::builder(wish.size).fourcc(wish.fourcc).buffers(wish.buffers);
        let builder =
            if wish.fps == 0 { builder.unpaced() } else { builder.interval(FrameInterval::from_fps(wish.fps)) };
        Ok(Self::Pattern(builder.start()?))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pattern(_) => "testpattern",
        }
    }

    pub fn buffers(&self) -> &BufferSet {
        match self {
            Self::Pattern(p) => p.buffers(),
        }
    }

    /// The next frame, if it is there.
    pub fn try_next(&mut self) -> super::common::Result<Option<Frame>> {
        match self {
            Self::Pattern(p) => Ok(p.try_next()?),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pattern(p) => p.as_fd(),
        }
    }
}
