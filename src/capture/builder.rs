//! How a camera is chosen and set up.

use std::path::{Path, PathBuf};

use crate::dmabuf::Allocator;
use crate::format::{FourCc, FrameInterval, Layout, Size};
use crate::v4l2::{CacheHint, Device};

/// What a camera does after its device was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reopen {
    /// It waits for [`Camera::reopen`](super::Camera::reopen).
    #[default]
    Never,
    /// It opens the device again as soon as it is back, and goes on.
    Always,
}

/// What to do with a size that the driver does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SizeFit {
    /// Take the driver's choice; [`FrameSource::layout`](super::FrameSource::layout) tells it.
    #[default]
    Nearest,
    /// Refuse another size.
    Exact,
}

/// Chooses a camera and how it captures. Everything has a default: the first camera, in the format and size that it
/// has now, in as many buffers of its driver's as
/// [`BufferBudget`](crate::frame::BufferBudget) has by default.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CameraBuilder {
    pub(super) path: Option<PathBuf>,
    pub(super) device: Option<Device>,
    pub(super) input: Option<u32>,
    pub(crate) formats: Vec<FourCc>,
    pub(crate) size: Option<Size>,
    pub(super) layout: Option<Layout>,
    pub(super) fit: SizeFit,
    pub(crate) interval: Option<FrameInterval>,
    pub(super) buffers: Option<usize>,
    pub(super) cache: CacheHint,
    pub(crate) allocator: Option<Allocator>,
    pub(super) reopen: Reopen,
}

impl CameraBuilder {
    /// The node to open.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// A device that is open already, such as one of [`Device::find`].
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The input to select; see [`Device::inputs`].
    pub fn input(mut self, index: u32) -> Self {
        self.input = Some(index);
        self
    }

    /// The acceptable formats, best first.
    pub fn formats(mut self, formats: impl IntoIterator<Item = FourCc>) -> Self {
        self.formats = formats.into_iter().collect();
        self
    }

    /// The picture's size.
    pub fn size(mut self, size: Size) -> Self {
        self.size = Some(size);
        self
    }

    /// The exact layout of the frames: what a device that imports them needs. Where the driver's own buffers may be
    /// smaller, [`CameraBuilder::allocator`] brings buffers of this layout's size.
    pub fn layout(mut self, layout: &Layout) -> Self {
        (self.formats, self.size) = (vec![layout.fourcc()], Some(layout.size()));
        (self.layout, self.fit) = (Some(*layout), SizeFit::Exact);
        self
    }

    /// What to do if the driver does not have that size.
    pub fn fit(mut self, fit: SizeFit) -> Self {
        self.fit = fit;
        self
    }

    /// The wished frame interval; the driver takes its nearest, or its own if it cannot be set.
    pub fn interval(mut self, interval: FrameInterval) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the number of buffers to ask for: see [`BufferBudget`](crate::frame::BufferBudget) for the arithmetic. Default
    /// its default, 12. The driver may give another number: [`BufferSet::slots`](crate::frame::BufferSet::slots).
    pub fn buffers(mut self, count: usize) -> Self {
        self.buffers = Some(count);
        self
    }

    /// Which memory to ask the driver for; see [`BufferSet::cpu_reads`](crate::frame::BufferSet::cpu_reads) for what it gave.
    pub fn cache(mut self, wish: CacheHint) -> Self {
        self.cache = wish;
        self
    }

    /// What to do after the device was lost: unplugged, or given up by its driver. Default [`Reopen::Never`].
    pub fn reopen(mut self, reopen: Reopen) -> Self {
        self.reopen = reopen;
        self
    }

    /// Has the driver fill buffers of this allocator instead of its own.
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = Some(allocator);
        self
    }
}
