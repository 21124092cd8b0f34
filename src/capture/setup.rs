//! How a camera is chosen, opened and set up: device, format, frame interval, buffers.

use std::time::{Duration, Instant};

use super::builder::{CameraBuilder, Fit};
use super::camera::{Camera, State};
use super::choice::{choose, Candidate, Choice, Misfit, Wish};
use super::source::{CameraStats, FrameSource};
use super::stall::StallWatch;
use crate::bitstream::{Codec, Stream};
use crate::dmabuf::Allocator;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, FrameInterval, Layout, Size};
use crate::frame::{BufferBudget, BufferSet};
use crate::v4l2::{is_same_rate, nodes, planned, prepare, Overrule, Pipeline, PipelineWish, Prepared};
use crate::v4l2::{Device, DeviceInfo, DeviceReadiness, Direction, EventKind, FormatRequest, Queue};

/// The formats of a camera that gives packets, unless the user names others.
const BITSTREAMS: [FourCc; 4] = [FourCc::H264, FourCc::HEVC, FourCc::MJPEG, FourCc::JPEG];

impl CameraBuilder {
    /// Opens the camera and starts streaming. Without a path and a device, opens the first camera that fits the wish
    /// and can be opened, in the order of the nodes. A camera that is busy is passed over.
    ///
    /// # Errors
    /// `NotFound` if the machine does not have an acceptable camera. The text lists what it has. `Unsupported` if the
    /// device does not capture or does not have the format, or if packets are wanted in a format that is not a
    /// bitstream. `Mismatch` if a size or layout must be exact and the device does not support it. `Busy` while another
    /// program streams. `Pipeline` if the formats along the media graph do not fit each other. `Exhausted` if memory is
    /// not available. The text of the error lists what the device offers. If the call fails, nothing stays allocated.
    pub fn open(self) -> Result<Camera> {
        let mut refused = Vec::new();
        for device in self.devices()? {
            match self.clone().open_device(&device) {
                Ok(camera) => return Ok(camera),
                Err(e) => refused.push(e),
            }
        }
        let others: Vec<String> = refused.iter().skip(1).map(Error::to_string).collect();
        match (refused.into_iter().next(), &others[..]) {
            (Some(first), []) => Err(first),
            (Some(first), _) => {
                let text = format!("{first}; {}", others.join("; "));
                Err(Error::new(first.kind(), "open", text))
            }
            (None, _) => Err(Error::new(ErrorKind::NotFound, "open", "no camera")),
        }
    }

    fn open_device(self, device: &Device) -> Result<Camera> {
        if self.stall_after == Some(Duration::ZERO) {
            let text = "stall_after is 0";
            return Err(Error::new(ErrorKind::InvalidArgument, "open", text).on(device));
        }
        let queue = self.queue(device)?;
        let mut camera = Camera {
            readiness: DeviceReadiness::new()?,
            queue,
            wishes: self,
            interval: None,
            buffers: None,
            stream: None,
            state: State::Stopped,
            next: None,
            stall: None,
            stats: CameraStats::default(),
        };
        camera.set_up()?;
        Ok(camera)
    }

    /// Returns the requested device, else the cameras of the machine. Those that fit the wish better come first, and
    /// otherwise the order is that of the nodes.
    pub(crate) fn devices(&self) -> Result<Vec<Device>> {
        match (&self.device, &self.path) {
            (Some(device), _) => return Ok(vec![device.clone()]),
            (None, Some(path)) => return Ok(vec![Device::open(path)?]),
            (None, None) => {}
        }
        let opened = nodes().into_iter().filter_map(|path| Device::open(path).ok());
        let condition = self.condition.as_ref();
        let is_wanted = |d: &DeviceInfo| d.is_capture() && condition.map_or(true, |c| c.accepts(d));
        let mut cameras: Vec<Device> = opened.filter(|device| is_wanted(device.info())).collect();
        if cameras.is_empty() {
            // Its error names every node.
            cameras.push(Device::find(is_wanted)?);
        }
        if let Some(condition) = condition {
            cameras.iter().for_each(|camera| camera.select(condition));
        }
        if cameras.len() > 1 {
            cameras.sort_by_cached_key(|device| self.misfit(device));
        }
        Ok(cameras)
    }

    /// Returns the first of [`CameraBuilder::devices`].
    pub(crate) fn best_device(&self) -> Result<Device> {
        let first = self.devices()?.into_iter().next();
        first.ok_or_else(|| Error::new(ErrorKind::NotFound, "open", "no camera"))
    }

    /// Returns how far the device is from the wish, by its lists. `None` if it lists nothing acceptable.
    fn misfit(&self, device: &Device) -> (bool, Option<Misfit>) {
        let choice = choose(&self.wish(device), device).unwrap_or_default();
        let best = choice.candidates.first().map(|candidate| candidate.misfit);
        (best.is_none(), best)
    }

    fn acceptable(&self) -> &[FourCc] {
        if self.packets && self.formats.is_empty() {
            &BITSTREAMS
        } else {
            &self.formats
        }
    }

    /// Returns the wish for a device. What the device has now is kept where nothing else is requested.
    fn wish(&self, device: &Device) -> Wish<'_> {
        let present = device.present_format(Direction::Capture).ok();
        Wish {
            formats: self.acceptable(),
            size: self.size.or(present.map(|(_, size)| size)).unwrap_or(Size::new(640, 480)),
            size_fit: self.fit,
            interval: self.interval,
            interval_fit: self.interval_fit,
            present: present.map(|(fourcc, _)| fourcc),
        }
    }

    /// Returns what [`CameraBuilder::open`] would set along the media graph of the first camera, without changing
    /// anything. Subdevices are asked with their TRY states. Ioctls: `MEDIA_IOC_G_TOPOLOGY`, `VIDIOC_SUBDEV_G_FMT`,
    /// `VIDIOC_SUBDEV_S_FMT`, `VIDIOC_SUBDEV_S_SELECTION`, `VIDIOC_SUBDEV_ENUM_MBUS_CODE`,
    /// `VIDIOC_SUBDEV_ENUM_FRAME_SIZE`.
    ///
    /// ```no_run
    /// use framelease::capture::Camera;
    /// use framelease::format::Size;
    ///
    /// let pipeline = Camera::builder().path("/dev/video0").size(Size::new(1280, 720)).pipeline()?;
    /// print!("{pipeline}");
    /// # Ok::<(), framelease::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Pipeline` if the node does not belong to a media graph, or if no format of a sensor goes through the graph.
    /// Also the errors of opening the node.
    #[doc(alias = "media-ctl")]
    pub fn pipeline(&self) -> Result<Pipeline> {
        planned(&self.best_device()?, &self.pipeline_wish())
    }

    fn pipeline_wish(&self) -> PipelineWish<'_> {
        PipelineWish {
            formats: self.acceptable(),
            size: self.size,
            exact_size: self.fit == Fit::Exact,
            interval: self.interval,
            sensor: self.sensor.as_deref(),
        }
    }

    /// Sets the media pipeline up. `None` if no graph feeds the device.
    fn set_pipeline(&self, device: &Device) -> Result<Option<Prepared>> {
        match device.info().is_routed_by_graph() && !self.keeps_pipeline {
            true => prepare(device, &self.pipeline_wish()),
            false => Ok(None),
        }
    }

    /// Makes the device say what the user says of its pictures.
    pub(crate) fn overrule(&self, device: &Device) {
        device.overrule(Overrule { stride_bytes: self.stride_bytes, colorimetry: self.colorimetry });
    }

    /// Selects the input of a device and takes its queue.
    pub(super) fn queue(&self, device: &Device) -> Result<Queue> {
        if !device.info().is_capture() {
            // Mem-to-mem devices have a capture queue as well, but would not give a frame.
            let text = match device.info().is_metadata() {
                true => "not a capture device: the node gives metadata, and another node of the camera gives pictures",
                false => "not a capture device",
            };
            return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_QUERYCAP", text).on(device));
        }
        if let Some(index) = self.input {
            device.set_input(index)?;
        }
        let mut queue = Queue::new(device, Direction::Capture)?;
        queue.export_writable(self.writable);
        // The event belongs to one input. Drivers without inputs use the number 0.
        let input = device.input().unwrap_or(0);
        // A failure is ignored: not every driver has sources that change.
        let _ = device.subscribe(EventKind::SourceChange(input));
        Ok(queue)
    }
}

impl Camera {
    pub(super) fn set_up(&mut self) -> Result<()> {
        let device = self.queue.device().clone();
        self.wishes.overrule(&device);
        let pipeline = self.wishes.set_pipeline(&device)?;
        let done = self.set_up_node(&device, pipeline.as_ref().map(|p| (p.fourcc, p.size)));
        if let (Err(_), Some(pipeline)) = (&done, &pipeline) {
            // It may have been that of another program.
            pipeline.undo(&device);
        }
        done
    }

    /// Sets the format of the node, and starts it with new buffers.
    fn set_up_node(&mut self, device: &Device, pipeline: Option<(FourCc, Size)>) -> Result<()> {
        let exact = self.wishes.layout;
        match &exact {
            Some(layout) => {
                device.set_format_exact(Direction::Capture, layout)?;
                self.interval = self.set_interval(device, None)?;
            }
            None => self.set_format(device, pipeline)?,
        }
        let count = self.wishes.buffers.unwrap_or(BufferBudget::default().total());
        let buffers = self.allocate(count, exact.as_ref().map_or(&[][..], Layout::memory_bytes))?;
        self.buffers = Some(buffers);
        if self.wishes.packets {
            let fourcc = self.layout()?.fourcc();
            let Some(codec) = Codec::of(fourcc) else {
                self.tear_down();
                let text = format!("the camera gives {fourcc}, which is not a bitstream, so it cannot give packets");
                return Err(Error::new(ErrorKind::Unsupported, "VIDIOC_S_FMT", text).on(device));
            };
            self.stream = Some(Stream::new(codec));
        }
        self.queue.signal_by(self.readiness.signal());
        self.state = State::Streaming;
        let started = self.queue.start().and_then(|()| self.arm());
        if started.is_err() {
            self.tear_down();
            return started;
        }
        // Ends the search of a camera that was lost.
        self.readiness.found();
        let queued = self.queue.queued();
        let watch = |limit| StallWatch::new(limit, queued, Instant::now());
        self.stall = self.wishes.stall_after.map(watch);
        self.watch_for_stall();
        Ok(())
    }

    /// Allocates buffers whose memory planes have at least these bytes, if the driver does not allocate them itself.
    fn allocate(&mut self, count: usize, least_bytes: &[u32]) -> Result<BufferSet> {
        let allocator = self.wishes.allocator.clone();
        let shared = match &allocator {
            Some(allocator) => self.queue.allocate_from(allocator, count, least_bytes),
            None => self.queue.allocate(count, self.wishes.cache),
        };
        let error = match shared {
            Err(e) if is_memory_refusal(&e) => e,
            shared => return shared.cloned(),
        };
        if !self.wishes.copies {
            return Err(error.advice("CameraBuilder::allow_copy permits a copy of each frame"));
        }
        let allocator = allocator.unwrap_or_else(Allocator::for_cpu_source);
        self.queue.allocate_copies(&allocator, count, least_bytes).cloned()
    }

    /// Sets the first candidate that the driver gives as it was requested. Of a pipeline that was set up, there is one.
    fn set_format(&mut self, device: &Device, pipeline: Option<(FourCc, Size)>) -> Result<()> {
        let wish = self.wishes.wish(device);
        let choice = match pipeline {
            Some((fourcc, size)) => Choice::of(fourcc, size),
            None => choose(&wish, device)?,
        };
        // Without a wish, the size is that of the pipeline.
        let size = pipeline.filter(|_| self.wishes.size.is_none()).map_or(wish.size, |(_, size)| size);
        let present = device.present_format(Direction::Capture).ok();
        let interval = device.frame_interval(Direction::Capture).unwrap_or(None);
        let mut refused = None;
        for candidate in &choice.candidates {
            let kept = interval.filter(|_| present == Some((candidate.fourcc, candidate.size)));
            match self.try_candidate(device, candidate, size, kept) {
                Ok(interval) => {
                    self.interval = interval;
                    return Ok(());
                }
                Err(e) if is_refusal(&e) => refused = refused.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        Err(refused.unwrap_or_else(|| refusal(device, &wish, &choice)))
    }

    /// Sets a candidate. `kept` is the present frame interval, if the candidate is the present format and size.
    fn try_candidate(
        &self,
        device: &Device,
        candidate: &Candidate,
        size: Size,
        kept: Option<FrameInterval>,
    ) -> Result<Option<FrameInterval>> {
        let given = device.set_format(Direction::Capture, &FormatRequest::new(candidate.fourcc, candidate.size))?;
        if self.wishes.fit == Fit::Exact && given.size() != size {
            let sizes = device.sizes(candidate.fourcc)?;
            let fourcc = candidate.fourcc;
            let text = format!("asked {fourcc} {size}; the device gives {given} and offers {fourcc} {sizes}");
            return Err(Error::new(ErrorKind::Mismatch, "VIDIOC_S_FMT", text).on(device));
        }
        self.set_interval(device, kept)
    }

    /// Sets the frame interval. Returns the present one if it cannot be set: some sensors have it set elsewhere.
    /// Without a wish, sets the one to keep: uvcvideo's S_FMT resets the interval.
    fn set_interval(&self, device: &Device, kept: Option<FrameInterval>) -> Result<Option<FrameInterval>> {
        let present = || device.frame_interval(Direction::Capture).unwrap_or(None);
        let Some(wish) = self.wishes.interval else {
            let now = present();
            let lost = kept.filter(|kept| now.is_some_and(|now| !is_same_rate(now, *kept)));
            let again = lost.and_then(|kept| device.set_frame_interval(Direction::Capture, kept).ok());
            return Ok(again.or(now));
        };
        let given = match device.set_frame_interval(Direction::Capture, wish) {
            Ok(given) => Some(given),
            Err(e) if e.kind() == ErrorKind::DeviceLost || self.wishes.interval_fit == Fit::Exact => return Err(e),
            Err(_) => present(),
        };
        match given {
            Some(given) if self.wishes.interval_fit == Fit::Exact && !is_same_rate(given, wish) => {
                let text = format!("asked {:.3} fps; the device gives {:.3} fps", wish.fps(), given.fps());
                Err(Error::new(ErrorKind::Mismatch, "VIDIOC_S_PARM", text).on(device))
            }
            given => Ok(given),
        }
    }
}

/// Returns `true` if the driver refused a format or a rate, so that another candidate may do.
fn is_refusal(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Mismatch | ErrorKind::Unsupported | ErrorKind::InvalidArgument)
}

/// Returns `true` if the driver does not share memory in the way that was requested.
fn is_memory_refusal(e: &Error) -> bool {
    e.kind() == ErrorKind::Unsupported && matches!(e.op(), "VIDIOC_EXPBUF" | "VIDIOC_REQBUFS")
}

/// Returns the error of a camera that lists nothing acceptable.
fn refusal(device: &Device, wish: &Wish<'_>, choice: &Choice) -> Error {
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let formats = match wish.formats {
        [] => "a format with pixels".into(),
        formats => list(&mut formats.iter().map(FourCc::to_string)),
    };
    let rate = wish.interval.map_or(String::new(), |interval| format!(" at {:.3} fps", interval.fps()));
    let asked = format!("asked {formats} {}{rate}", wish.size);
    if choice.nearest.is_empty() {
        let offered = device.formats(Direction::Capture).unwrap_or_default();
        let offered = list(&mut offered.iter().map(|offer| offer.fourcc.to_string()));
        let text = format!("{asked}; the device offers {offered}");
        return Error::new(ErrorKind::Unsupported, "VIDIOC_ENUM_FMT", text).on(device);
    }
    let nearest = list(&mut choice.nearest.iter().take(4).map(Candidate::to_string));
    Error::new(ErrorKind::Mismatch, "VIDIOC_ENUM_FRAMEINTERVALS", format!("{asked}; nearest: {nearest}")).on(device)
}
