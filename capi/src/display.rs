//! Displays, by DRM. In a library that was built without them, these functions return FL_ERROR_UNSUPPORTED.

use std::ffi::c_char;

use crate::ffi::{sized, Out};
use crate::frame::fl_buffers;
use crate::station::fl_station;
use crate::status::call_on;
use crate::status::fl_status::{self, FL_OK};

/// Where frames are shown. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_display_options {
    /// sizeof(fl_display_options): FL_INIT sets it.
    pub size: usize,
    /// The DRM device, such as "/dev/dri/card0". Default: the first with a connected display.
    pub path: *const c_char,
    /// The connector, such as "HDMI-A-1". Default: the first connected one.
    pub connector: *const c_char,
    /// The size of the mode, in pixels. Default: what the display prefers.
    pub width: u32,
    pub height: u32,
    /// The refresh rate of the mode, in whole hertz.
    pub refresh_hz: u32,
    /// An fl_scaling: how frames fill the screen.
    pub scaling: u32,
}

sized!(fl_display_options);

/// Opens a display for frames in these buffers. A plane of the screen scans the buffers out; if none can, a converter
/// writes to buffers of the display. The screen changes with the first frame, and is as before after
/// fl_station_close(). `options` may be NULL.
///
/// Show a frame with fl_station_submit(). FL_EVENT_SHOWN says when it is on the screen; the frame before is released
/// then.
#[no_mangle]
pub extern "C" fn fl_display_open(
    options: *const fl_display_options,
    buffers: Option<&fl_buffers>,
    station: *mut *mut fl_station,
) -> fl_status {
    crate::station::open("fl_display_open", station, || backend::open(options, buffers))
}

/// Continues with frames in other buffers, after FL_EVENT_FORMAT of their source or after another display was plugged
/// in.
#[no_mangle]
pub extern "C" fn fl_display_reopen(display: Option<&fl_station>, buffers: Option<&fl_buffers>) -> fl_status {
    call_on("fl_display_reopen", display, |station| {
        backend::reopen(station, buffers)?;
        Ok(FL_OK)
    })
}

/// Gives the size of the screen, in pixels.
#[no_mangle]
pub extern "C" fn fl_display_get_size(display: Option<&fl_station>, width: *mut u32, height: *mut u32) -> fl_status {
    call_on("fl_display_get_size", display, |station| {
        let (width, height) = (Out::number(width, "width")?, Out::number(height, "height")?);
        let size = backend::size_of(station)?;
        width.put(size.width);
        height.put(size.height);
        Ok(FL_OK)
    })
}

#[cfg(feature = "display")]
mod backend {
    use std::time::Duration;

    use framelease::drm::{Device, Scanout, ScanoutEvent};
    use framelease::format::Size;
    use framelease::frame::Frame;
    use framelease::negotiate::DisplayChain;
    use framelease::Submit;

    use super::fl_display_options;
    use crate::convert::scaling;
    use crate::ffi;
    use crate::format::size;
    use crate::frame::fl_buffers;
    use crate::station::fl_event_kind::{FL_EVENT_LOST, FL_EVENT_RETURNED, FL_EVENT_SHOWN};
    use crate::station::{fl_stat, fl_station, station, stats, submitted, AnyStation, Event};
    use crate::status::fl_status;
    use crate::status::{invalid, Failure};

    fn event(event: ScanoutEvent) -> Event {
        match event {
            ScanoutEvent::Shown(flipped) => Event { time_ns: flipped.time_ns, ..Event::new(FL_EVENT_SHOWN) },
            ScanoutEvent::Lost(error) => Event::error(FL_EVENT_LOST, error),
            ScanoutEvent::Returned => Event::new(FL_EVENT_RETURNED),
            other => Event::other(other),
        }
    }

    impl AnyStation for DisplayChain {
        station!("a display", event);

        fn submit_frame(&mut self, frame: Frame, timeout: Duration) -> Result<fl_status, Failure> {
            submitted(Submit::submit(self, frame, timeout))
        }

        fn stats(&self) -> Vec<fl_stat> {
            let stats = self.scanout().stats();
            stats!(stats => flips, missed_vblanks, replaced, framebuffers)
        }
    }

    pub fn open(options: *const fl_display_options, buffers: Option<&fl_buffers>) -> Result<impl AnyStation, Failure> {
        let given = ffi::read_or_zero(options, "options")?;
        let buffers = &buffers.ok_or_else(|| invalid("buffers is NULL"))?.buffers;
        let mut builder = Scanout::builder();
        if let Some(path) = ffi::optional_path(given.path) {
            builder = builder.device(&Device::open(path)?);
        }
        if let Some(name) = ffi::optional_text(given.connector, "connector")? {
            builder = builder.connector(name);
        }
        if let Some(size) = size(given.width, given.height, "the size")? {
            builder = builder.size(size);
        }
        if given.refresh_hz > 0 {
            builder = builder.refresh_hz(given.refresh_hz);
        }
        Ok(DisplayChain::open(builder.open()?, buffers, scaling(given.scaling)?)?)
    }

    pub fn reopen(display: &fl_station, buffers: Option<&fl_buffers>) -> Result<(), Failure> {
        let buffers = &buffers.ok_or_else(|| invalid("buffers is NULL"))?.buffers;
        display.with("a display", |display: &mut DisplayChain| Ok(display.reopen(buffers)?))
    }

    pub fn size_of(display: &fl_station) -> Result<Size, Failure> {
        display.with("a display", |display: &mut DisplayChain| Ok(display.scanout().size()))
    }
}

/// A library without displays.
#[cfg(not(feature = "display"))]
mod backend {
    use framelease::format::Size;
    use framelease::v4l2::Hotplug;

    use super::fl_display_options;
    use crate::frame::fl_buffers;
    use crate::station::{fl_station, AnyStation};
    use crate::status::{unsupported, Failure};

    fn missing<T>() -> Result<T, Failure> {
        Err(unsupported("this library was built without the feature display"))
    }

    pub fn open(_: *const fl_display_options, _: Option<&fl_buffers>) -> Result<impl AnyStation, Failure> {
        missing::<Hotplug>()
    }

    pub fn reopen(_: &fl_station, _: Option<&fl_buffers>) -> Result<(), Failure> {
        missing()
    }

    pub fn size_of(_: &fl_station) -> Result<Size, Failure> {
        missing()
    }
}
