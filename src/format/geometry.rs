//! Sizes, rectangles, rotations and frame intervals.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use std::time::Duration;

/// A picture's width and height in pixels. Displays and parses as `1920x1080`.
///
/// ```
/// use framelease::format::Size;
///
/// assert_eq!("1920x1080".parse::<Size>()?, Size::new(1920, 1080));
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    /// The number of pixels in a row.
    pub width: u32,
    /// The number of rows.
    pub height: u32,
}

impl Size {
    /// Creates a size of `width` x `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Parses text such as `1920x1080`.
impl FromStr for Size {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let parse = || {
            let (w, h) = s.split_once(['x', 'X'])?;
            Some(Self::new(w.parse().ok()?, h.parse().ok()?))
        };
        parse().ok_or_else(|| Error::parse(format!("'{s}' is not a size such as 1920x1080")))
    }
}

/// A rectangle in pixels. The origin may be negative, because devices can compose beyond the edge of a picture.
/// Displays as `640x360@100,50`.
///
/// ```
/// use framelease::format::{Rect, Size};
///
/// let left_half = Rect::new(0, 0, Size::new(960, 1080));
/// assert_eq!("960x1080@0,0".parse::<Rect>()?, left_half);
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Distance from the picture's left edge.
    pub left: i32,
    /// Distance from the picture's top edge.
    pub top: i32,
    /// Width and height in pixels.
    pub size: Size,
}

impl Rect {
    /// Creates a rectangle from its upper left corner and its size.
    pub const fn new(left: i32, top: i32, size: Size) -> Self {
        Self { left, top, size }
    }

    /// Returns the first column to its right and the first row below it.
    pub(crate) fn end(&self) -> (i64, i64) {
        (i64::from(self.left) + i64::from(self.size.width), i64::from(self.top) + i64::from(self.size.height))
    }

    /// Returns `true` if `other` lies within this rectangle.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let (right, bottom) = self.end();
        let (other_right, other_bottom) = other.end();
        other.left >= self.left && other.top >= self.top && other_right <= right && other_bottom <= bottom
    }
}

/// Returns the rectangle that covers a whole picture.
impl From<Size> for Rect {
    fn from(size: Size) -> Self {
        Self { left: 0, top: 0, size }
    }
}

impl fmt::Display for Rect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{},{}", self.size, self.left, self.top)
    }
}

impl FromStr for Rect {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let parse = || {
            let (size, corner) = s.split_once(['@', '+'])?;
            let (left, top) = corner.split_once([',', '+'])?;
            Some(Self::new(left.parse().ok()?, top.parse().ok()?, size.parse().ok()?))
        };
        parse().ok_or_else(|| Error::parse(format!("'{s}' is not a rectangle such as 640x360@100,50")))
    }
}

/// A clockwise rotation of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// The picture is not rotated. The default.
    #[default]
    None,
    /// A quarter turn clockwise.
    Clockwise90,
    /// A half turn, which turns the picture upside down.
    Half,
    /// A quarter turn counter-clockwise.
    Clockwise270,
}

impl Rotation {
    /// Returns `true` if the rotation swaps width and height.
    #[doc(hidden)]
    pub const fn is_quarter(self) -> bool {
        matches!(self, Self::Clockwise90 | Self::Clockwise270)
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "0",
            Self::Clockwise90 => "90",
            Self::Half => "180",
            Self::Clockwise270 => "270",
        })
    }
}

impl FromStr for Rotation {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "0" => Ok(Self::None),
            "90" => Ok(Self::Clockwise90),
            "180" => Ok(Self::Half),
            "270" => Ok(Self::Clockwise270),
            _ => Err(Error::parse(format!("'{s}' is not a clockwise rotation: 0, 90, 180 or 270"))),
        }
    }
}

/// A reflection, applied before any rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flip {
    /// The picture is not reflected. The default.
    #[default]
    None,
    /// Swaps left and right.
    Horizontal,
    /// Swaps top and bottom.
    Vertical,
}

impl FromStr for Flip {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "none" => Ok(Self::None),
            "h" | "horizontal" => Ok(Self::Horizontal),
            "v" | "vertical" => Ok(Self::Vertical),
            _ => Err(Error::parse(format!("'{s}' is not a flip: h or v"))),
        }
    }
}

/// The time between two frames, as a fraction of a second. V4L2 calls this time `timeperframe`.
///
/// ```
/// use std::time::Duration;
/// use framelease::format::FrameInterval;
///
/// let interval = FrameInterval::from_fps(50);
/// assert_eq!(interval.duration(), Some(Duration::from_millis(20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameInterval {
    /// The number of seconds.
    pub numerator: u32,
    /// The number of frames in that time.
    pub denominator: u32,
}

impl FrameInterval {
    /// Creates the interval of `fps` frames per second.
    pub const fn from_fps(fps: u32) -> Self {
        Self { numerator: 1, denominator: fps }
    }

    /// Returns the frames per second, or 0 if the interval is unknown.
    pub fn fps(self) -> f64 {
        if self.numerator == 0 {
            return 0.0;
        }
        f64::from(self.denominator) / f64::from(self.numerator)
    }

    /// Returns the interval as a [`Duration`], or `None` if numerator or denominator is 0.
    pub fn duration(self) -> Option<Duration> {
        if self.numerator == 0 || self.denominator == 0 {
            return None;
        }
        Some(Duration::from_nanos(u64::from(self.numerator) * 1_000_000_000 / u64::from(self.denominator)))
    }
}

impl fmt::Display for FrameInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} s", self.numerator, self.denominator)
    }
}
