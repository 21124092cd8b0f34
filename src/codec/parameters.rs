//! The requested parameters of an encoder, and their outcome.

use std::fmt;

use crate::bitstream::Codec;
use crate::error::Error;
use crate::format::{Colorimetry, FrameInterval, Size};

/// How the encoder spends bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RateMode {
    /// A bitrate that varies around [`Setting::BitrateBps`], up to [`Setting::PeakBitrateBps`].
    Variable,
    /// A constant bitrate (`CBR`).
    Constant,
    /// A constant quality. The bitrate varies as needed.
    Quality,
}

/// Where parameter sets go at the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HeaderMode {
    /// The parameter sets go into a separate buffer before the first frame.
    Separate,
    /// The parameter sets go into the buffer of the first frame.
    Joined,
}

/// How the encoder cuts a picture into slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SliceMode {
    /// One slice for the whole picture.
    Single,
    /// Slices of at most this many macroblocks.
    Macroblocks(u32),
    /// Slices of at most this many bytes.
    Bytes(u32),
}

/// A profile, named as in the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// The H.264 Baseline profile.
    Baseline,
    /// The H.264 Constrained Baseline profile.
    ConstrainedBaseline,
    /// The Main profile of H.264 or H.265.
    Main,
    /// The H.265 Main 10 profile.
    Main10,
    /// The H.264 High profile.
    High,
    /// One of VP8's profiles 0 to 3.
    Vp8(u8),
}

/// A level of H.264 or HEVC, such as 4.1. H.264's level 1b is not supported.
///
/// ```
/// use framelease::codec::Level;
///
/// assert_eq!(Level::new(4, 1).to_string(), "4.1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Creates a level, for example level 4.1 with `Level::new(4, 1)`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self(major.saturating_mul(10).saturating_add(minor))
    }

    /// Returns the level as drivers and bitstreams count it: 41 for 4.1.
    pub(crate) const fn times_ten(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// A setting that is off or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// The setting is off.
    Off,
    /// The setting is on.
    On,
}

/// One setting of an encoder. Settings are applied in the order of this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// The profile of the stream.
    Profile(Profile),
    /// The level of the stream.
    Level(Level),
    /// How bits are spent.
    RateMode(RateMode),
    /// Rate control from frame to frame. If it is off, the quantizers are fixed.
    FrameRateControl(Switch),
    /// Rate control within a frame.
    MacroblockRateControl(Switch),
    /// The bitrate in bits per second.
    BitrateBps(u32),
    /// The largest bitrate, in bits per second, under [`RateMode::Variable`].
    PeakBitrateBps(u32),
    /// The quality for [`RateMode::Quality`], from 1 (worst) to 100.
    Quality(u32),
    /// Size of the decoder buffer that rate control assumes, in kilobytes.
    VbvKilobytes(u32),
    /// Frames from one key frame to the next.
    Gop(u32),
    /// The number of B-frames between two other frames. The default is 0 if the driver allows it. With 0, no frame
    /// waits for a later frame.
    BFrames(u32),
    /// The smallest allowed quantizer value.
    MinQp(u32),
    /// The largest allowed quantizer value.
    MaxQp(u32),
    /// The quantizer of intra frames if rate control is off.
    IntraQp(u32),
    /// The quantizer of P-frames if rate control is off.
    InterQp(u32),
    /// Where parameter sets go at the beginning of the stream.
    HeaderMode(HeaderMode),
    /// Whether parameter sets precede every key frame.
    RepeatHeaders(Switch),
    /// Whether an access unit delimiter precedes every frame.
    Delimiters(Switch),
    /// The number of frames over which the encoder refreshes the whole picture, without key frames.
    IntraRefreshFrames(u32),
    /// How a picture is cut into slices.
    Slices(SliceMode),
}

impl Setting {
    /// Returns `true` if `other` is the same setting, perhaps with another value.
    fn is_same(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The outcome of a setting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The driver accepted the value.
    Exact,
    /// The driver chose this value instead, in the unit of the setting.
    Adjusted(i64),
    /// The driver does not have the control.
    Missing,
    /// The driver refused the value. The error says what the driver offers.
    Refused(Error),
}

/// A requested setting and its outcome.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Applied {
    /// The setting that was requested.
    pub setting: Setting,
    /// What the driver did with the setting.
    pub outcome: Outcome,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, outcome } = self;
        match outcome {
            Outcome::Exact => write!(f, "{setting:?}"),
            Outcome::Adjusted(value) => write!(f, "{setting:?}: the device takes {value}"),
            Outcome::Missing => write!(f, "{setting:?}: the device does not have this control"),
            Outcome::Refused(e) => write!(f, "{setting:?}: {e}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) setting: Setting,
    pub(super) is_required: bool,
}

/// The parameters of a stream: codec, visible size, and any number of [`Setting`]s.
///
/// [`Encoder::applied`](super::Encoder::applied) reports settings that the driver lacks, refuses or rounds. If the
/// driver lacks, refuses or rounds a [required](Params::require) setting, opening the encoder fails.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::codec::{Level, Params, Profile, Setting, Switch};
/// use framelease::format::{FrameInterval, Size};
///
/// let params = Params::new(Codec::H264, Size::new(1920, 1080))
///     .interval(FrameInterval::from_fps(30))
///     .wish(Setting::BitrateBps(4_000_000))
///     .wish(Setting::Gop(60))
///     .wish(Setting::RepeatHeaders(Switch::On))
///     .require(Setting::Profile(Profile::High))
///     .require(Setting::Level(Level::new(4, 1)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Params {
    pub(super) codec: Codec,
    pub(super) size: Size,
    pub(crate) interval: Option<FrameInterval>,
    pub(super) colorimetry: Option<Colorimetry>,
    pub(super) packet_bytes: u32,
    pub(super) packet_buffers: usize,
    wishes: Vec<Wish>,
}

impl Params {
    /// Creates the parameters of a stream with this codec and visible size.
    pub fn new(codec: Codec, size: Size) -> Self {
        Self { codec, size, interval: None, colorimetry: None, packet_bytes: 0, packet_buffers: 6, wishes: Vec::new() }
    }

    /// Changes the visible size, for example to the size that [`negotiate`](super::negotiate) found.
    pub fn resized(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Sets the source's frame interval, on which rate control depends. The default is 30 frames a second, because the
    /// driver's default is rarely right.
    pub fn interval(mut self, interval: FrameInterval) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the colorimetry, for a source whose layout does not state one.
    pub fn colorimetry(mut self, colorimetry: Colorimetry) -> Self {
        self.colorimetry = Some(colorimetry);
        self
    }

    /// Sets the largest size of a packet in bytes, instead of the driver's estimate. A coded frame that needs more
    /// bytes is damaged.
    pub fn packet_bytes(mut self, bytes: u32) -> Self {
        self.packet_bytes = bytes;
        self
    }

    /// Sets the number of bitstream buffers to request. The default is 6, the limit is 32. The driver needs two of
    /// them. All sinks together may lease the others.
    pub fn packet_buffers(mut self, count: usize) -> Self {
        self.packet_buffers = count;
        self
    }

    /// Requests a setting. A later request for the same setting replaces the earlier one.
    pub fn wish(self, setting: Setting) -> Self {
        self.with(Wish { setting, is_required: false })
    }

    /// Requires a setting. Opening the encoder fails unless the driver applies the setting exactly.
    pub fn require(self, setting: Setting) -> Self {
        self.with(Wish { setting, is_required: true })
    }

    fn with(mut self, wish: Wish) -> Self {
        self.wishes.retain(|w| !w.setting.is_same(&wish.setting));
        self.wishes.push(wish);
        self.wishes.sort_by_key(|w| w.setting);
        self
    }

    /// Returns the codec of the stream.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the size of the visible picture.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Returns the requested settings, in the order in which they are applied.
    pub(super) fn wishes(&self) -> &[Wish] {
        &self.wishes
    }

    /// Returns `true` if a value of this setting is required.
    pub(super) fn requires(&self, setting: &Setting) -> bool {
        self.wishes.iter().any(|w| w.is_required && w.setting.is_same(setting))
    }

    /// Returns `true` if a value of this setting was requested.
    pub(super) fn names(&self, setting: &Setting) -> bool {
        self.wishes.iter().any(|w| w.setting.is_same(setting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_keep_the_last_value_and_the_drivers_order() {
        let params = Params::new(Codec::H264, Size::new(64, 48))
            .wish(Setting::Gop(30))
            .wish(Setting::BitrateBps(1))
            .require(Setting::Profile(Profile::High))
            .require(Setting::BitrateBps(2))
            .wish(Setting::RateMode(RateMode::Constant));
        let settings: Vec<Setting> = params.wishes().iter().map(|w| w.setting).collect();
        let expected = [
            Setting::Profile(Profile::High),
            Setting::RateMode(RateMode::Constant),
            Setting::BitrateBps(2),
            Setting::Gop(30),
        ];
        assert_eq!(settings, expected);
        assert!(
            params.wishes()[2].is_required && params.names(&Setting::Gop(0)) && !params.names(&Setting::BFrames(0))
        );
        assert_eq!(Level::new(4, 1).to_string(), "4.1");
    }
}
