//! Settings of a camera.

use std::path::{Path, PathBuf};

use crate::dmabuf::Allocator;
use crate::format::{Colorimetry, FourCc, FrameInterval, Layout, Size};
use crate::v4l2::{CacheHint, Device};

/// What a camera does after its device was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reopen {
    /// The camera waits for [`Camera::reopen`](super::Camera::reopen). The default.
    #[default]
    Never,
    /// The camera opens the device again as soon as it is back, and continues.
    Always,
}

/// What to do if the camera does not have the requested size or frame interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// Take the nearest that the driver gives. [`FrameSource::layout`](super::FrameSource::layout) and
    /// [`FrameSource::interval`](super::FrameSource::interval) return it. The default.
    #[default]
    Nearest,
    /// Fail with `Mismatch`. The text lists the nearest that the camera has.
    Exact,
}

/// Chooses a camera and sets how it captures. Without any setting, [`CameraBuilder::open`] opens the first camera with
/// its present format, size and frame interval, and requests 12 buffers.
///
/// Format, size and frame interval are one wish. The camera takes the first acceptable format that has the size and the
/// rate. If none has both, the size is more important than the rate, and the rate is more important than the order of
/// the formats. Many USB cameras have 1080p at 30 frames a second as MJPEG only, and at 5 frames a second as YUYV.
///
/// ```no_run
/// use framelease::capture::{Camera, Fit};
/// use framelease::format::{FourCc, Size};
///
/// let camera = Camera::builder()
///     .path("/dev/video0")
///     .formats([FourCc::NV12, FourCc::YUYV])
///     .size(Size::new(1280, 720))
///     .fit(Fit::Exact)
///     .open()?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CameraBuilder {
    pub(super) path: Option<PathBuf>,
    pub(super) device: Option<Device>,
    pub(super) input: Option<u32>,
    pub(crate) formats: Vec<FourCc>,
    pub(crate) size: Option<Size>,
    pub(super) layout: Option<Layout>,
    pub(super) fit: Fit,
    pub(crate) interval: Option<FrameInterval>,
    pub(super) interval_fit: Fit,
    pub(super) colorimetry: Option<Colorimetry>,
    pub(super) buffers: Option<usize>,
    pub(super) cache: CacheHint,
    pub(crate) allocator: Option<Allocator>,
    pub(super) reopen: Reopen,
}

impl CameraBuilder {
    /// Sets the path of the node to open.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Sets a device that is already open, such as one from [`Device::find`].
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets the input to select. See [`Device::inputs`].
    pub fn input(mut self, index: u32) -> Self {
        self.input = Some(index);
        self
    }

    /// Sets the acceptable formats, best first. By default the camera keeps its present format, also a bitstream, or
    /// takes another pixel format that fits the size and the rate better.
    pub fn formats(mut self, formats: impl IntoIterator<Item = FourCc>) -> Self {
        self.formats = formats.into_iter().collect();
        self
    }

    /// Sets the picture's size. The default is the camera's present size.
    pub fn size(mut self, size: Size) -> Self {
        self.size = Some(size);
        self
    }

    /// Sets the exact layout of the frames, such as the layout that an importing device needs. Also sets
    /// [`Fit::Exact`]. The driver's own buffers may be too small for this layout. [`CameraBuilder::allocator`]
    /// provides buffers that are large enough.
    pub fn layout(mut self, layout: &Layout) -> Self {
        (self.formats, self.size) = (vec![layout.fourcc()], Some(layout.size()));
        (self.layout, self.fit) = (Some(*layout), Fit::Exact);
        self
    }

    /// Sets what to do if the camera does not have the size. The default is [`Fit::Nearest`].
    pub fn fit(mut self, fit: Fit) -> Self {
        self.fit = fit;
        self
    }

    /// Sets the preferred frame interval. The driver chooses the nearest interval that it supports. A driver that does
    /// not support this setting keeps its own interval. The default is the camera's present interval, unless the format
    /// or the size changes.
    pub fn interval(mut self, interval: FrameInterval) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets what to do if the camera does not have the frame interval. The default is [`Fit::Nearest`]. Intervals that
    /// differ by 0.2 % are the same, such as those of 29.97 and 30 frames a second.
    pub fn interval_fit(mut self, fit: Fit) -> Self {
        self.interval_fit = fit;
        self
    }

    /// Sets the colorimetry of the frames, for a driver that states a wrong one. Drivers of NXP's kernels state full
    /// range for every picture. The default is the colorimetry that the driver states. The driver is not asked for
    /// another one.
    pub fn colorimetry(mut self, colorimetry: Colorimetry) -> Self {
        self.colorimetry = Some(colorimetry);
        self
    }

    /// Sets the number of buffers to request. The default is 12, the total of the default
    /// [`BufferBudget`](crate::frame::BufferBudget). The limit is 64. The driver may give another number: see
    /// [`BufferSet::slots`](crate::frame::BufferSet::slots).
    pub fn buffers(mut self, count: usize) -> Self {
        self.buffers = Some(count);
        self
    }

    /// Sets the kind of memory to request from the driver. The default is [`CacheHint::Driver`].
    /// [`BufferSet::cpu_reads`](crate::frame::BufferSet::cpu_reads) returns how fast the CPU reads the memory that the
    /// driver gave.
    pub fn cache(mut self, wish: CacheHint) -> Self {
        self.cache = wish;
        self
    }

    /// Sets what to do after the device was lost (unplugged, or failed by its driver). The default is
    /// [`Reopen::Never`].
    pub fn reopen(mut self, reopen: Reopen) -> Self {
        self.reopen = reopen;
        self
    }

    /// Makes the driver fill buffers that this allocator provides, instead of the driver's own buffers.
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = Some(allocator);
        self
    }
}
