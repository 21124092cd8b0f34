//! Inputs, DV timings and frame intervals.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::device::{Device, Direction};
use super::media;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FrameInterval, Size};
use crate::sys::from_kernel::text;
use crate::sys::v4l2::{self as uapi, DvTimings, Plain, StreamParm, CAP_TIMEPERFRAME};
use crate::sys::v4l2_calls as calls;

/// An input of a capture device, such as an HDMI connector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Input {
    /// The number of the input.
    pub index: u32,
    /// The driver's name for the input, such as `HDMI 0`.
    pub name: String,
    /// `true` if DV timings set the size of the input's picture (HDMI, SDI). See [`Device::detect_timings`].
    pub has_timings: bool,
    /// `false` if the driver reports that power, signal or lock is missing.
    pub has_signal: bool,
}

/// DV timings that a driver detected. Only the picture's size is readable. [`Device::set_timings`] passes everything
/// back to the driver unchanged.
#[derive(Clone, Copy)]
pub struct Timings(DvTimings);

impl Timings {
    /// Returns the size of the active picture.
    pub fn size(&self) -> Size {
        Size::new(self.0.width, self.0.height)
    }
}

impl std::fmt::Debug for Timings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Timings({})", self.size())
    }
}

impl Device {
    /// Returns the inputs of the device. The list is empty if a media graph routes the picture. Ioctl:
    /// `VIDIOC_ENUMINPUT`.
    ///
    /// # Errors
    /// `DeviceLost` after an unplug. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_ENUMINPUT")]
    pub fn inputs(&self) -> Result<Vec<Input>> {
        let mut inputs = Vec::new();
        for index in 0..64 {
            let mut raw = uapi::Input { index, ..uapi::Input::zeroed() };
            match calls::enuminput(self.as_fd(), &mut raw) {
                Ok(()) => inputs.push(Input {
                    index,
                    name: text(&raw.name),
                    has_timings: raw.capabilities & 2 != 0,
                    // V4L2_IN_ST_NO_POWER, NO_SIGNAL, NO_H_LOCK, NO_SYNC
                    has_signal: raw.status & 0x1_0103 == 0,
                }),
                Err(Errno::EINVAL | Errno::ENOTTY) => break,
                Err(e) => return Err(self.failed("VIDIOC_ENUMINPUT", e)),
            }
        }
        Ok(inputs)
    }

    /// Returns the number of the selected input. Ioctl: `VIDIOC_G_INPUT`.
    ///
    /// # Errors
    /// `Unsupported` if a media graph routes the picture.
    #[doc(alias = "VIDIOC_G_INPUT")]
    pub fn input(&self) -> Result<u32> {
        let mut index = 0;
        calls::g_input(self.as_fd(), &mut index).map_err(|e| self.failed("VIDIOC_G_INPUT", e))?;
        Ok(u32::try_from(index).unwrap_or(0))
    }

    /// Selects an input. Format and frame interval may change. Ioctl: `VIDIOC_S_INPUT`.
    ///
    /// # Errors
    /// `InvalidArgument` if the input does not exist (the text lists the inputs). `Busy` while the device streams.
    #[doc(alias = "VIDIOC_S_INPUT")]
    pub fn set_input(&self, index: u32) -> Result<()> {
        let mut arg = i32::try_from(index).unwrap_or(i32::MAX);
        calls::s_input(self.as_fd(), &mut arg).map_err(|e| {
            let inputs = self.inputs().unwrap_or_default();
            let names: Vec<String> = inputs.iter().map(|i| format!("{} ({})", i.index, i.name)).collect();
            let text = format!("{}; asked input {index}; the device has {}", e.desc(), names.join(", "));
            self.failed("VIDIOC_S_INPUT", e).detail(text)
        })
    }

    /// Returns the timings that the present input receives, or `None` without a stable signal. Ioctl:
    /// `VIDIOC_QUERY_DV_TIMINGS`.
    ///
    /// # Errors
    /// `Unsupported` if the input does not have DV timings.
    #[doc(alias = "VIDIOC_QUERY_DV_TIMINGS")]
    pub fn detect_timings(&self) -> Result<Option<Timings>> {
        const OP: &str = "VIDIOC_QUERY_DV_TIMINGS";
        let mut raw = DvTimings::zeroed();
        match calls::query_dv_timings(self.as_fd(), &mut raw) {
            Ok(()) => Ok(Some(Timings(raw))),
            Err(Errno::ENOLINK | Errno::ENOLCK | Errno::ERANGE) => Ok(None),
            Err(Errno::ENODATA) => Err(self.failed(OP, Errno::ENODATA).kind_is(ErrorKind::Unsupported)),
            Err(e) => Err(self.failed(OP, e)),
        }
    }

    /// Sets the timings of the present input to timings that were detected. The format changes with the timings. Ioctl:
    /// `VIDIOC_S_DV_TIMINGS`.
    ///
    /// # Errors
    /// `Busy` while buffers are allocated for another size.
    #[doc(alias = "VIDIOC_S_DV_TIMINGS")]
    pub fn set_timings(&self, timings: &Timings) -> Result<()> {
        let mut raw = timings.0;
        calls::s_dv_timings(self.as_fd(), &mut raw).map_err(|e| self.failed("VIDIOC_S_DV_TIMINGS", e))
    }

    /// Returns the frame interval, or `None` if neither the driver nor the sensor of a media pipeline reports it.
    /// Ioctls: `VIDIOC_G_PARM`, `VIDIOC_SUBDEV_G_FRAME_INTERVAL`.
    ///
    /// # Errors
    /// `Unsupported` if the device does not have the queue. Other errors are those of the driver.
    #[doc(alias = "VIDIOC_G_PARM")]
    pub(crate) fn frame_interval(&self, direction: Direction) -> Result<Option<FrameInterval>> {
        const OP: &str = "VIDIOC_G_PARM";
        let mut raw = StreamParm { kind: self.buf_type(direction, OP)? as u32, ..StreamParm::zeroed() };
        match calls::g_parm(self.as_fd(), &mut raw) {
            Ok(()) => Ok(interval(&raw)),
            Err(Errno::ENOTTY) => Ok(media::interval(self).filter(|_| direction == Direction::Capture)),
            Err(e) => Err(self.failed(OP, e)),
        }
    }

    /// Sets the frame interval and returns the nearest one that the driver supports. For a node that a media graph
    /// feeds, it is the interval of the sensor. Ioctls: `VIDIOC_S_PARM`, `VIDIOC_SUBDEV_S_FRAME_INTERVAL`.
    ///
    /// # Errors
    /// `InvalidArgument` if a part of the interval is 0. `Unsupported` if neither the node nor its sensor has a rate.
    #[doc(alias = "VIDIOC_S_PARM")]
    pub(crate) fn set_frame_interval(&self, direction: Direction, wanted: FrameInterval) -> Result<FrameInterval> {
        const OP: &str = "VIDIOC_S_PARM";
        let kind = self.buf_type(direction, OP)? as u32;
        if wanted.duration().is_none() {
            return Err(Error::new(ErrorKind::InvalidArgument, OP, format!("asked {wanted}")).on(self));
        }
        let FrameInterval { numerator, denominator } = wanted;
        let mut raw = StreamParm { kind, numerator, denominator, ..StreamParm::zeroed() };
        if let Err(e) = calls::s_parm(self.as_fd(), &mut raw) {
            let of_sensor = if e == Errno::ENOTTY { media::set_interval(self, wanted) } else { None };
            return of_sensor.unwrap_or_else(|| Err(self.failed(OP, e)));
        }
        // Without the capability, the answer may be the request. NXP's drivers set the interval and not the capability.
        let given =
            if raw.capability & CAP_TIMEPERFRAME != 0 { interval(&raw) } else { self.frame_interval(direction)? };
        given
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, OP, "the device's frame interval cannot be set").on(self))
    }
}

fn interval(raw: &StreamParm) -> Option<FrameInterval> {
    let interval = FrameInterval { numerator: raw.numerator, denominator: raw.denominator };
    interval.duration().filter(|d| !d.is_zero()).map(|_| interval)
}
