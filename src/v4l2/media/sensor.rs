//! The frame interval of a sensor: by its own call, or by the blank lines after each picture.

use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::format::FrameInterval;
use crate::sys::v4l2::{Plain, SubdevFormat, SubdevInterval};
use crate::sys::v4l2_calls as calls;
use crate::v4l2::device::Device;
use crate::v4l2::{ControlId, ControlValue};

/// `V4L2_CID_VBLANK`: the blank lines after a picture.
const BLANK_LINES: ControlId = ControlId::new(0x009e_0901);
/// `V4L2_CID_HBLANK`: the blank pixels after a line.
const BLANK_COLUMNS: ControlId = ControlId::new(0x009e_0902);
/// `V4L2_CID_PIXEL_RATE`: pixels per second.
const PIXEL_RATE: ControlId = ControlId::new(0x009f_0902);
const ACTIVE: u32 = 1;
/// The units of an interval that is calculated, per second.
const UNITS: u32 = 10_000_000;

/// Returns the frame interval. Ioctls: `VIDIOC_SUBDEV_G_FRAME_INTERVAL`, else `VIDIOC_SUBDEV_G_FMT` and
/// `VIDIOC_G_EXT_CTRLS`.
pub(super) fn interval(sensor: &Device, pad: u32) -> Option<FrameInterval> {
    own_interval(sensor, pad).or_else(|| {
        let scan = Scan::of(sensor, pad)?;
        let lines = scan.height.checked_add(number(sensor, BLANK_LINES)?)?;
        scan.interval(lines)
    })
}

/// Returns the frame interval of a sensor that has a call for it.
pub(super) fn own_interval(sensor: &Device, pad: u32) -> Option<FrameInterval> {
    let mut raw = SubdevInterval { pad, which: ACTIVE, ..SubdevInterval::zeroed() };
    calls::subdev_g_interval(sensor.as_fd(), &mut raw).ok()?;
    let SubdevInterval { numerator, denominator, .. } = raw;
    (denominator != 0).then_some(FrameInterval { numerator, denominator })
}

/// Sets the frame interval, and returns the one that the sensor chose. Ioctls: `VIDIOC_SUBDEV_S_FRAME_INTERVAL`, else
/// `VIDIOC_S_EXT_CTRLS`.
pub(super) fn set_interval(sensor: &Device, pad: u32, wanted: FrameInterval) -> Result<FrameInterval> {
    const OP: &str = "VIDIOC_SUBDEV_S_FRAME_INTERVAL";
    let FrameInterval { numerator, denominator } = wanted;
    let mut raw = SubdevInterval { pad, numerator, denominator, which: ACTIVE, ..SubdevInterval::zeroed() };
    match calls::subdev_s_interval(sensor.as_fd(), &mut raw) {
        Ok(()) if raw.denominator != 0 => {
            return Ok(FrameInterval { numerator: raw.numerator, denominator: raw.denominator });
        }
        // The sensor has no such call. Any other error must not be got around.
        Ok(()) | Err(Errno::ENOTTY | Errno::EINVAL) => {}
        Err(e) => return Err(sensor.failed(OP, e)),
    }
    let none = || Error::new(ErrorKind::Unsupported, OP, "the sensor has no rate that can be set").on(sensor);
    let scan = Scan::of(sensor, pad).ok_or_else(none)?;
    let blank = scan.lines(wanted).ok_or_else(none)?.saturating_sub(scan.height);
    let range = sensor.control(BLANK_LINES)?;
    if range.is_read_only {
        return Err(none());
    }
    sensor.set_control(BLANK_LINES, blank.clamp(range.minimum, range.maximum.max(range.minimum)))?;
    interval(sensor, pad).ok_or_else(none)
}

/// How a sensor reads its pixels.
struct Scan {
    /// Pixels of a line, with the blank ones.
    columns: i64,
    height: i64,
    pixels_per_second: i64,
}

impl Scan {
    fn of(sensor: &Device, pad: u32) -> Option<Self> {
        let mut raw = SubdevFormat { which: ACTIVE, pad, ..SubdevFormat::zeroed() };
        calls::subdev_g_fmt(sensor.as_fd(), &mut raw).ok()?;
        let columns = i64::from(raw.width).checked_add(number(sensor, BLANK_COLUMNS)?)?;
        let pixels_per_second = number(sensor, PIXEL_RATE)?;
        (columns > 0 && pixels_per_second > 0).then_some(Self { columns, height: raw.height.into(), pixels_per_second })
    }

    fn interval(&self, lines: i64) -> Option<FrameInterval> {
        let pixels = i128::from(self.columns) * i128::from(lines);
        let numerator = pixels * i128::from(UNITS) / i128::from(self.pixels_per_second);
        let numerator = u32::try_from(numerator).ok().filter(|n| *n > 0)?;
        Some(FrameInterval { numerator, denominator: UNITS })
    }

    /// Returns the lines of a picture, with the blank ones, for an interval.
    fn lines(&self, interval: FrameInterval) -> Option<i64> {
        let FrameInterval { numerator, denominator } = interval;
        let per_line = i128::from(self.columns) * i128::from(denominator);
        let lines = i128::from(self.pixels_per_second) * i128::from(numerator) / Some(per_line).filter(|n| *n > 0)?;
        i64::try_from(lines).ok()
    }
}

fn number(sensor: &Device, id: ControlId) -> Option<i64> {
    match sensor.control_value(id).ok()? {
        ControlValue::Number(n) => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_converts_between_lines_and_intervals() {
        // imx219 at 1920x1080: 3448 pixels a line, 182.4 million a second.
        let scan = Scan { columns: 3448, height: 1080, pixels_per_second: 182_400_000 };
        let lines = scan.lines(FrameInterval::from_fps(30)).unwrap();
        assert_eq!(lines, 1763);
        assert!((scan.interval(lines).unwrap().fps() - 30.0).abs() < 0.02);
        assert_eq!(scan.lines(FrameInterval { numerator: 1, denominator: 0 }), None);
        assert_eq!(scan.interval(0), None);
        let slow = Scan { pixels_per_second: 1, ..scan };
        assert_eq!(slow.interval(i64::MAX), None);
    }
}
