//! Cameras and the test pattern.
//!
//! Both are stations that give FL_EVENT_FRAME. A camera also gives FL_EVENT_LOST and FL_EVENT_RETURNED when it is
//! unplugged and back, FL_EVENT_FORMAT when its source changes, and with FL_CAMERA_PACKETS FL_EVENT_PACKET.

use std::ffi::c_char;

use framelease::capture::{
    Camera, CameraBuilder, CameraEvent, Fit, FrameSource, Reopen, TestPattern, TestPatternBuilder,
};
use framelease::format::FourCc;
use framelease::frame::BufferSet;
use framelease::v4l2::CacheHint;

use crate::ffi::{self, sized, Fill, Out};
use crate::format::{fl_colorimetry, fl_interval, fl_layout, needed_size, read_layout, size};
use crate::frame::allocator;
use crate::station::fl_event_kind::{FL_EVENT_FORMAT, FL_EVENT_LOST, FL_EVENT_RETURNED};
use crate::station::{fl_stat, fl_station, millis, open, stats, AnyStation, Event};
use crate::status::fl_status::{self, FL_OK};
use crate::status::{call_on, Failure};

/// Use the given `input`.
pub const FL_CAMERA_SET_INPUT: u32 = 1;
/// If the camera is unplugged, open it again by itself when it is back.
pub const FL_CAMERA_REOPEN: u32 = 2;
/// Give the coded frames of a camera that encodes, as packets.
pub const FL_CAMERA_PACKETS: u32 = 4;
/// Copy frames with the CPU if the driver cannot export its buffers. Costs a copy of each frame.
pub const FL_CAMERA_ALLOW_COPY: u32 = 8;
/// Leave the media pipeline as another program has set it up.
pub const FL_CAMERA_KEEP_PIPELINE: u32 = 16;
/// Fail if the camera does not have the requested size. Without this flag it takes the nearest: see
/// fl_source_get_layout().
pub const FL_CAMERA_EXACT_SIZE: u32 = 32;
/// Fail if the camera does not have the requested interval. Without this flag it takes the nearest.
pub const FL_CAMERA_EXACT_INTERVAL: u32 = 64;
/// Ask the driver for buffers that the CPU reads fast.
pub const FL_CAMERA_CACHED: u32 = 128;

/// What a camera shall be. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_camera_options {
    /// sizeof(fl_camera_options): FL_INIT sets it.
    pub size: usize,
    /// The device node. Default: the first camera, or the first that has what the next three say.
    pub path: *const c_char,
    /// The driver of the camera, if `path` is NULL.
    pub driver: *const c_char,
    /// The serial number of the camera, if `path` is NULL: see fl_device_info. FL_CAMERA_REOPEN and fl_station_reopen()
    /// find it again, also on another port.
    pub serial: *const c_char,
    /// Where the camera is connected, if `path` is NULL: see fl_device_info.
    pub bus: *const c_char,
    /// The name of the sensor, if a media pipeline has several.
    pub sensor: *const c_char,
    /// Formats, best first. Default: the camera's present format, or another that fits size and interval better.
    pub fourccs: *const u32,
    /// The number of `fourccs`.
    pub fourcc_count: usize,
    /// The size, in pixels. Default: the device's present size.
    pub width: u32,
    pub height: u32,
    /// The time between frames. Default: the device's.
    pub interval: fl_interval,
    /// FL_CAMERA_... together.
    pub flags: u32,
    /// The number of buffers, 2 to 64. Default: 12.
    pub buffers: u32,
    /// With FL_CAMERA_SET_INPUT: the V4L2 input.
    pub input: u32,
    /// The stride of the first color plane, in bytes. Default: the driver's.
    pub stride_bytes: u32,
    /// Report FL_EVENT_LOST if no frame comes for so long, in milliseconds. Default: a camera may be silent for any
    /// time.
    pub stall_ms: u32,
    /// Default: the driver's.
    pub colorimetry: fl_colorimetry,
    /// Memory of this allocator instead of the driver's: see fl_pool_create().
    pub allocator: *const c_char,
}

sized!(fl_camera_options);

/// What a test pattern shall be. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_pattern_options {
    /// sizeof(fl_pattern_options): FL_INIT sets it.
    pub size: usize,
    /// The size, in pixels. Required.
    pub width: u32,
    pub height: u32,
    /// The format. Default: NV12.
    pub fourcc: u32,
    /// The time between frames. Default: 1/30 s.
    pub interval: fl_interval,
    /// The number of buffers, 1 to 64. Default: 12.
    pub buffers: u32,
    /// The memory: see fl_pool_create().
    pub allocator: *const c_char,
    /// An exact layout instead of `fourcc`, width and height, or NULL.
    pub layout: *const fl_layout,
}

sized!(fl_pattern_options);

/// A camera, a test pattern, or what a negotiation found.
pub enum Source {
    Camera(Box<Camera>),
    Other(Box<dyn FrameSource>),
}

impl Source {
    fn get(&self) -> &dyn FrameSource {
        match self {
            Self::Camera(camera) => camera.as_ref(),
            Self::Other(source) => source.as_ref(),
        }
    }

    fn get_mut(&mut self) -> &mut dyn FrameSource {
        match self {
            Self::Camera(camera) => camera.as_mut(),
            Self::Other(source) => source.as_mut(),
        }
    }
}

fn event(event: CameraEvent) -> Event {
    match event {
        CameraEvent::Frame(frame) => Event::frame(frame),
        CameraEvent::Packet(packet) => Event::packet(packet),
        CameraEvent::Lost(error) => Event::error(FL_EVENT_LOST, error),
        CameraEvent::Returned => Event::new(FL_EVENT_RETURNED),
        CameraEvent::Changed(layout) => Event::text(FL_EVENT_FORMAT, layout.to_string()),
        other => Event::other(other),
    }
}

impl AnyStation for Source {
    fn kind(&self) -> &'static str {
        "a camera or a test pattern"
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.get().as_fd()
    }

    fn dispatch(&mut self) -> framelease::Result<()> {
        self.get_mut().dispatch()
    }

    fn recv(&mut self, timeout: std::time::Duration) -> framelease::Result<framelease::Received<Event>> {
        crate::station::received(self.get_mut().recv(timeout)?, event)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        Ok(self.get_mut().reopen()?)
    }

    fn buffers(&self) -> Result<BufferSet, Failure> {
        Ok(self.get().buffers()?.clone())
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(self.get().stats() => frames, lost, errors, copied_bytes, leased, queued)
    }
}

/// Whether a device has every text that is wanted.
fn has_all<const N: usize>(wanted: &[Option<String>; N], has: [Option<&str>; N]) -> bool {
    wanted.iter().zip(has).all(|(wanted, has)| wanted.is_none() || wanted.as_deref() == has)
}

pub fn camera(options: &fl_camera_options) -> Result<CameraBuilder, Failure> {
    let has = |flag: u32| options.flags & flag != 0;
    let mut builder = Camera::builder();
    if let Some(path) = ffi::optional_path(options.path) {
        builder = builder.path(path);
    }
    let text = |text, what| Ok::<_, Failure>(ffi::optional_text(text, what)?.map(str::to_owned));
    let wanted = [text(options.driver, "driver")?, text(options.serial, "serial")?, text(options.bus, "bus")?];
    if wanted.iter().any(Option::is_some) {
        builder = builder.select(move |info| {
            info.is_capture() && has_all(&wanted, [Some(&info.driver), info.serial.as_deref(), Some(&info.bus)])
        });
    }
    if let Some(sensor) = ffi::optional_text(options.sensor, "sensor")? {
        builder = builder.sensor(sensor);
    }
    let formats = ffi::slice(options.fourccs, options.fourcc_count, "fourccs")?;
    if !formats.is_empty() {
        builder = builder.formats(formats.iter().map(|&code| FourCc::from(code)).collect::<Vec<FourCc>>());
    }
    if let Some(size) = size(options.width, options.height, "the size")? {
        builder = builder.size(size);
    }
    if let Some(interval) = options.interval.get("the interval")? {
        builder = builder.interval(interval);
    }
    if options.buffers > 0 {
        builder = builder.buffers(options.buffers as usize);
    }
    if options.stride_bytes > 0 {
        builder = builder.stride_bytes(options.stride_bytes);
    }
    if let Some(stall) = millis(options.stall_ms) {
        builder = builder.stall_after(stall);
    }
    if let Some(colorimetry) = options.colorimetry.get() {
        builder = builder.colorimetry(colorimetry);
    }
    if let Some(allocator) = allocator(options.allocator)? {
        builder = builder.allocator(allocator);
    }
    if has(FL_CAMERA_SET_INPUT) {
        builder = builder.input(options.input);
    }
    if has(FL_CAMERA_REOPEN) {
        builder = builder.reopen(Reopen::Always);
    }
    if has(FL_CAMERA_PACKETS) {
        builder = builder.packets();
    }
    if has(FL_CAMERA_ALLOW_COPY) {
        builder = builder.allow_copy();
    }
    if has(FL_CAMERA_KEEP_PIPELINE) {
        builder = builder.keep_pipeline();
    }
    if has(FL_CAMERA_CACHED) {
        builder = builder.cache(CacheHint::Cached);
    }
    let fit = |flag: u32| if has(flag) { Fit::Exact } else { Fit::Nearest };
    Ok(builder.fit(fit(FL_CAMERA_EXACT_SIZE)).interval_fit(fit(FL_CAMERA_EXACT_INTERVAL)))
}

pub fn pattern(options: &fl_pattern_options) -> Result<TestPatternBuilder, Failure> {
    let layout = (!options.layout.is_null()).then(|| read_layout(options.layout, "layout")).transpose()?;
    let size = match &layout {
        Some(layout) => layout.size(),
        None => needed_size(options.width, options.height, "the size")?,
    };
    let mut builder = TestPattern::builder(size);
    if options.fourcc != 0 {
        builder = builder.fourcc(FourCc::from(options.fourcc));
    }
    if let Some(layout) = layout {
        builder = builder.layout(layout);
    }
    if let Some(interval) = options.interval.get("the interval")? {
        builder = builder.interval(interval);
    }
    if options.buffers > 0 {
        builder = builder.buffers(options.buffers as usize);
    }
    if let Some(allocator) = allocator(options.allocator)? {
        builder = builder.allocator(allocator);
    }
    Ok(builder)
}

/// Opens a camera and begins to stream. Sets up the media pipeline of a sensor that needs one. `options` may be NULL.
#[no_mangle]
pub extern "C" fn fl_camera_open(options: *const fl_camera_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_camera_open", station, || {
        let options = ffi::read_or_zero(options, "options")?;
        Ok(Source::Camera(Box::new(camera(&options)?.open()?)))
    })
}

/// Opens a source of moving color bars, for tests and for machines without a camera. The CPU draws each frame.
#[no_mangle]
pub extern "C" fn fl_pattern_open(options: *const fl_pattern_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_pattern_open", station, || {
        let options = ffi::read(options, "options")?;
        Ok(Source::Other(Box::new(pattern(&options)?.start()?)))
    })
}

/// Changes format and size of a running camera. Its descriptor and its subscribers stay; the frames are in other
/// buffers from then on.
#[no_mangle]
pub extern "C" fn fl_camera_reconfigure(
    station: Option<&fl_station>,
    fourcc: u32,
    width: u32,
    height: u32,
) -> fl_status {
    call_on("fl_camera_reconfigure", station, |station| {
        let size = needed_size(width, height, "the size")?;
        station.with("a camera that fl_camera_open() opened", |source: &mut Source| match source {
            Source::Camera(camera) => Ok(camera.reconfigure(FourCc::from(fourcc), size)?),
            Source::Other(_) => Err(crate::status::unsupported("this source has one format for its life")),
        })?;
        Ok(FL_OK)
    })
}

/// Fills the layout of the frames.
#[no_mangle]
pub extern "C" fn fl_source_get_layout(station: Option<&fl_station>, layout: *mut fl_layout) -> fl_status {
    call_on("fl_source_get_layout", station, |station| {
        let to = Fill::new(layout, "layout")?;
        station.with_any(|station| {
            to.put(&station.buffers()?.layout().into());
            Ok(FL_OK)
        })
    })
}

/// Gives the time between frames; 0/0 if it is not known.
#[no_mangle]
pub extern "C" fn fl_source_get_interval(station: Option<&fl_station>, interval: *mut fl_interval) -> fl_status {
    call_on("fl_source_get_interval", station, |station| {
        let out = Out::number(interval, "interval")?;
        station.with("a camera or a test pattern", |source: &mut Source| {
            out.put(source.get().interval().into());
            Ok(FL_OK)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::has_all;

    #[test]
    fn camera_options_select_a_camera_that_has_all() {
        let wanted = |texts: [&str; 3]| texts.map(|text| (!text.is_empty()).then(|| text.to_owned()));
        let camera = [Some("uvcvideo"), Some("B16D7F20"), Some("usb-1")];
        assert!(has_all(&wanted(["", "", ""]), camera));
        assert!(has_all(&wanted(["", "B16D7F20", ""]), camera));
        assert!(has_all(&wanted(["uvcvideo", "B16D7F20", "usb-1"]), camera));
        assert!(!has_all(&wanted(["uvcvideo", "B16D7F20", "usb-2"]), camera));
        assert!(!has_all(&wanted(["vivid", "B16D7F20", ""]), camera));
        assert!(!has_all(&wanted(["", "B16D7F20", ""]), [Some("uvcvideo"), None, Some("usb-1")]));
    }
}
