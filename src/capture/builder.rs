//! Settings of a camera.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dmabuf::Allocator;
use crate::format::{Colorimetry, FourCc, FrameInterval, Layout, Size};
use crate::v4l2::{CacheHint, Condition, Device, DeviceInfo};

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
    pub(super) condition: Option<Condition>,
    pub(super) input: Option<u32>,
    pub(crate) formats: Vec<FourCc>,
    pub(crate) size: Option<Size>,
    pub(super) layout: Option<Layout>,
    pub(super) fit: Fit,
    pub(crate) interval: Option<FrameInterval>,
    pub(super) interval_fit: Fit,
    pub(super) colorimetry: Option<Colorimetry>,
    pub(super) stride_bytes: Option<u32>,
    pub(super) buffers: Option<usize>,
    pub(super) cache: CacheHint,
    pub(crate) allocator: Option<Allocator>,
    pub(super) reopen: Reopen,
    pub(super) stall_after: Option<Duration>,
    pub(super) packets: bool,
    pub(super) sensor: Option<String>,
    pub(super) keeps_pipeline: bool,
    pub(super) copies: bool,
    pub(super) writable: bool,
}

impl CameraBuilder {
    /// Sets the path of the node to open. After a loss, [`Camera::reopen`](super::Camera::reopen) looks for the same
    /// camera on the same port, whatever the number of its node is. A link that follows the camera to another port,
    /// such as one in `/dev/v4l/by-id`, is followed.
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.path = Some(path.as_ref().to_owned());
        self
    }

    /// Sets a device that is already open, such as one from [`Device::find`].
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets which cameras are acceptable, for a choice by serial number, port, name or driver. Without a path and a
    /// device, [`CameraBuilder::open`] takes the first of them that fits. After a loss,
    /// [`Camera::reopen`](super::Camera::reopen) takes the same camera on its port, else any that is acceptable.
    ///
    /// ```no_run
    /// use framelease::capture::{Camera, Reopen};
    ///
    /// let camera = Camera::builder()
    ///     .select(|d| d.serial.as_deref() == Some("B16D7F20")) // d.bus for a port, d.card for a model.
    ///     .reopen(Reopen::Always)
    ///     .open()?;
    /// # Ok::<(), framelease::Error>(())
    /// ```
    pub fn select(mut self, wanted: impl Fn(&DeviceInfo) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Condition::new(wanted));
        self
    }

    /// Sets the input to select. See [`Device::inputs`].
    pub fn input(mut self, index: u32) -> Self {
        self.input = Some(index);
        self
    }

    /// Sets the sensor, by the name of its entity in the media graph, such as `ov5640 1-003c`. For nodes that several
    /// sensors can reach. The default is the one that is connected, or else the one that needs the fewest changes.
    /// [`MediaGraph`](crate::v4l2::MediaGraph) has the names.
    pub fn sensor(mut self, name: impl Into<String>) -> Self {
        self.sensor = Some(name.into());
        self
    }

    /// Leaves the links, routes and pads of the media pipeline as they are. By default, [`CameraBuilder::open`] changes
    /// them if the pipeline cannot give what is requested. It never changes blocks that give pictures to another node
    /// at that time. The frame interval of the sensor is set in both cases.
    pub fn keep_pipeline(mut self) -> Self {
        self.keeps_pipeline = true;
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

    /// Sets the number of bytes from one row to the next, for a driver that states a wrong one. The strides of other
    /// planes follow from it. The default is the stride that the driver states. The driver is not asked for another
    /// one. [`CameraBuilder::open`] fails with `Mismatch` if the rows do not fit the driver's buffers.
    pub fn stride_bytes(mut self, stride_bytes: u32) -> Self {
        self.stride_bytes = Some(stride_bytes);
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

    /// Treats the device as lost if no frame has come for so long although the driver has buffers: some cameras and
    /// bridges go silent without an error. [`CameraEvent::Lost`](super::CameraEvent::Lost) then has an error of the
    /// kind `Timeout`, and [`CameraBuilder::reopen`] says what happens next. By default, a camera may be silent for
    /// any time, as one is that waits for a trigger.
    pub fn stall_after(mut self, limit: Duration) -> Self {
        self.stall_after = Some(limit);
        self
    }

    /// Makes the driver fill buffers that this allocator provides, instead of the driver's own buffers.
    pub fn allocator(mut self, allocator: Allocator) -> Self {
        self.allocator = Some(allocator);
        self
    }

    /// Exports the driver's buffers for writing too. Default: for reading alone.
    ///
    /// A device imports a dma-buf in either form. Drivers that work on the CPU, such as Mesa's lavapipe, map it for
    /// writing and refuse a read-only one. Buffers of an [allocator](CameraBuilder::allocator) are always writable.
    ///
    /// The risk: each process that gets a frame, such as a subscriber, can map the camera's buffer and write into it,
    /// while others read it and after it has released the frame. Use this if you trust all of them.
    ///
    /// ```no_run
    /// use framelease::capture::Camera;
    ///
    /// let camera = Camera::builder().writable_buffers().open()?;
    /// # Ok::<(), framelease::Error>(())
    /// ```
    pub fn writable_buffers(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Permits a copy of each frame, for a driver that can neither export its buffers nor fill those of an allocator,
    /// such as v4l2loopback. The CPU copies each frame into memory of the [allocator](CameraBuilder::allocator), by
    /// default [`Allocator::for_cpu_source`], and the driver gets its buffer back at once.
    /// [`CameraStats::copied_bytes`](super::CameraStats::copied_bytes) counts the bytes. Other drivers work as before.
    pub fn allow_copy(mut self) -> Self {
        self.copies = true;
        self
    }

    /// Makes the camera give [`CameraEvent::Packet`](super::CameraEvent::Packet)s, for cameras that encode. Recorders,
    /// RTP senders and servers take them as they take the packets of an encoder. Unless
    /// [`CameraBuilder::formats`] names others, the acceptable formats are H.264, H.265 and Motion JPEG.
    ///
    /// A packet is a lease on the driver's buffer, without a copy. Such a camera does not give out its buffers:
    /// [`FrameSource::buffers`](super::FrameSource::buffers) returns an error. In buffers of an
    /// [allocator](CameraBuilder::allocator), which others can write, each packet is a copy.
    ///
    /// To share a bitstream with other processes, take frames instead. [`Packet::new`](crate::frame::Packet::new)
    /// makes a packet of a copy of their bytes.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use framelease::capture::{Camera, CameraEvent};
    /// use framelease::sink::recorder::{Recorder, RecorderOptions};
    /// use framelease::{Received, Station, Submit};
    ///
    /// let mut camera = Camera::builder().packets().open()?;
    /// let mut recorder = Recorder::new("camera.mkv", RecorderOptions::default())?;
    /// while let Received::Item(event) = camera.recv(Duration::from_secs(2))? {
    ///     if let CameraEvent::Packet(packet) = event {
    ///         let _ = recorder.submit(packet, Duration::from_secs(1))?;
    ///     }
    /// }
    /// # Ok::<(), framelease::Error>(())
    /// ```
    pub fn packets(mut self) -> Self {
        self.packets = true;
        self
    }
}
